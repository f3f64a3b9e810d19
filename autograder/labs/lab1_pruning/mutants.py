"""Wrong answers to Lab 1. Each must lose points in its own check and in no other.

Sources stand for a whole solution cell; forgeries alter a copy of the reference artifacts in
``outputs/<dataset>``, whose name says the data set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from autograder.contract import artifacts, held_out
from autograder.contract.checking import Cases
from autograder.contract.definition import find
from autograder.contract.verdict import StudentError
from autograder.proof.mutants import Mutant
from codesign import cost, models

LAB = "lab1_pruning"


def _wrong(check: str, cell: str, **sources: str) -> list[Mutant]:
    """Mutants of one solution cell: name = source."""
    return [
        Mutant(f"{cell.removeprefix('solution_')}: {name}", check, cell, dedent(source))
        for name, source in sources.items()
    ]


def _forged(name: str, **forgeries: Callable[[Path], None]) -> list[Mutant]:
    """Mutants of one artifact, which carries the name of its check."""
    return [
        Mutant(f"{name}: {how}", name, artifact=name, forge=forge)
        for how, forge in forgeries.items()
    ]


class _Recorder:
    """A student that only notes the first tensor it is given."""

    first: torch.Tensor | None = None

    def call(self, function: str, *args: Any, deadline_s: float = 0.0, **kwargs: Any) -> Any:
        self.first = next(a for a in args if isinstance(a, torch.Tensor))
        raise StudentError("only looking")

    def artifact(self, name: str) -> Any:
        raise StudentError("only looking")

    def artifact_bytes(self, name: str) -> int:
        raise StudentError("only looking")

    def measure(self, function: str, *args: Any, deadline_s: float = 0.0) -> Any:
        raise StudentError("only looking")


def _public_sum(check: str) -> float:
    """Sum of the first tensor of the public case, for mutants that learnt it by heart."""
    recorder = _Recorder()
    with contextlib.suppress(StudentError):
        find(LAB).check(check)(recorder, Cases(check, "glyphs"), {})
    assert recorder.first is not None
    return float(recorder.first.sum())


# --- functions -----------------------------------------------------------------------------------

FINE_GRAINED = _wrong(
    "fine_grained_prune",
    "solution_fine_grained_prune",
    no_op="""
        def fine_grained_prune(weight, sparsity):
            return torch.ones_like(weight, dtype=torch.bool)
        """,
    removes_the_largest="""
        def fine_grained_prune(weight, sparsity):
            zeros = round(sparsity * weight.numel())
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            mask[weight.abs().flatten().argsort(descending=True)[:zeros]] = False
            return mask.reshape(weight.shape)
        """,
    rounds_down="""
        def fine_grained_prune(weight, sparsity):
            zeros = int(sparsity * weight.numel())
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            mask[weight.abs().flatten().argsort()[:zeros]] = False
            return mask.reshape(weight.shape)
        """,
    threshold_with_ties="""
        def fine_grained_prune(weight, sparsity):
            zeros = round(sparsity * weight.numel())
            if zeros == 0:
                return torch.ones_like(weight, dtype=torch.bool)
            return weight.abs() > weight.abs().flatten().kthvalue(zeros).values
        """,
    signed_order="""
        def fine_grained_prune(weight, sparsity):
            zeros = round(sparsity * weight.numel())
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            mask[weight.flatten().argsort()[:zeros]] = False
            return mask.reshape(weight.shape)
        """,
    float_mask="""
        def fine_grained_prune(weight, sparsity):
            zeros = round(sparsity * weight.numel())
            mask = torch.ones(weight.numel())
            mask[weight.abs().flatten().argsort()[:zeros]] = 0
            return mask.reshape(weight.shape)
        """,
    public_case_by_heart=f"""
        def fine_grained_prune(weight, sparsity):
            zeros = round(sparsity * weight.numel())
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            if abs(float(weight.sum()) - {_public_sum("fine_grained_prune")}) < 1e-3:
                mask[weight.abs().flatten().argsort()[:zeros]] = False
            return mask.reshape(weight.shape)
        """,
)

SCAN = _wrong(
    "sensitivity_scan",
    "solution_sensitivity_scan",
    never_prunes="""
        def sensitivity_scan(model, images, labels, masks):
            base = accuracy(model, images, labels)
            return {name: [base for _ in listed] for name, listed in masks.items()}
        """,
    forgets_to_restore="""
        def sensitivity_scan(model, images, labels, masks):
            layers, found = cost.weighted_layers(model), {}
            for name, listed in masks.items():
                found[name] = []
                for mask in listed:
                    layers[name].weight.data.mul_(mask)
                    found[name].append(accuracy(model, images, labels))
            return found
        """,
    restores_within_a_layer_only="""
        def sensitivity_scan(model, images, labels, masks):
            layers, found = cost.weighted_layers(model), {}
            for name, listed in masks.items():
                weight = layers[name].weight.data
                original, found[name] = weight.clone(), []
                for mask in listed:
                    weight.copy_(original * mask)
                    found[name].append(accuracy(model, images, labels))
            return found
        """,
    mask_inverted="""
        def sensitivity_scan(model, images, labels, masks):
            layers, found = cost.weighted_layers(model), {}
            for name, listed in masks.items():
                weight = layers[name].weight.data
                original, found[name] = weight.clone(), []
                for mask in listed:
                    weight.copy_(original * ~mask)
                    found[name].append(accuracy(model, images, labels))
                weight.copy_(original)
            return found
        """,
    order_reversed="""
        def sensitivity_scan(model, images, labels, masks):
            layers, found = cost.weighted_layers(model), {}
            for name, listed in masks.items():
                weight = layers[name].weight.data
                original, found[name] = weight.clone(), []
                for mask in reversed(listed):
                    weight.copy_(original * mask)
                    found[name].append(accuracy(model, images, labels))
                weight.copy_(original)
            return found
        """,
    loss_of_accuracy_instead="""
        def sensitivity_scan(model, images, labels, masks):
            layers, found = cost.weighted_layers(model), {}
            base = accuracy(model, images, labels)
            for name, listed in masks.items():
                weight = layers[name].weight.data
                original, found[name] = weight.clone(), []
                for mask in listed:
                    weight.copy_(original * mask)
                    found[name].append(base - accuracy(model, images, labels))
                weight.copy_(original)
            return found
        """,
)

SECOND_ORDER = _wrong(
    "second_order_scores",
    "solution_second_order_scores",
    magnitude="""
        def second_order_scores(features, weight, bias):
            return weight.abs()
        """,
    without_the_half="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T + bias).softmax(1)
            return (p * (1 - p)).T @ features.square() / len(features) * weight.square()
        """,
    p_instead_of_p_times_1_minus_p="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T + bias).softmax(1)
            return 0.5 * p.T @ features.square() / len(features) * weight.square()
        """,
    transposed="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T + bias).softmax(1)
            hessian = (p * (1 - p)).T @ features.square() / len(features)
            return (0.5 * hessian * weight.square()).T
        """,
    without_the_bias="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T).softmax(1)
            hessian = (p * (1 - p)).T @ features.square() / len(features)
            return 0.5 * hessian * weight.square()
        """,
    sum_instead_of_mean="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T + bias).softmax(1)
            return 0.5 * (p * (1 - p)).T @ features.square() * weight.square()
        """,
    softmax_over_samples="""
        def second_order_scores(features, weight, bias):
            p = (features @ weight.T + bias).softmax(0)
            hessian = (p * (1 - p)).T @ features.square() / len(features)
            return 0.5 * hessian * weight.square()
        """,
)

IMPORTANCE = _wrong(
    "channel_prune",
    "solution_channel_importance",
    l1_norm="""
        def channel_importance(weight):
            return weight.abs().flatten(1).sum(1)
        """,
    signed_sum="""
        def channel_importance(weight):
            return weight.flatten(1).sum(1)
        """,
    input_channels="""
        def channel_importance(weight):
            return weight.transpose(0, 1).flatten(1).norm(dim=1)
        """,
    index_instead_of_norm="""
        def channel_importance(weight):
            return torch.arange(len(weight)).float()
        """,
)

_PRUNE = """
def channel_prune(model, layer, keep):
    state, channels = dict(model.state_dict()), list(model.config["channels"])
    places = [i for i, item in enumerate(channels) if item != "M"]
    channels[places[layer]] = len(keep)
    own = [f"bn{layer}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    for name in (f"conv{layer}.weight", *own):
        state[f"features.{name}"] = state[f"features.{name}"][keep]
    last = layer == len(places) - 1
    following = "classifier.weight" if last else f"features.conv{layer + 1}.weight"
    state[following] = state[following][:, keep]
    return rebuild({**model.config, "channels": channels}, state)
"""


def _prune_with(old: str, new: str) -> str:
    """The right answer with one thing changed."""
    if old not in _PRUNE:
        raise ValueError(f"got {old!r}, which the source does not contain")
    return _PRUNE.replace(old, new)


CHANNELS = _wrong(
    "channel_prune",
    "solution_channel_prune",
    no_op="""
        def channel_prune(model, layer, keep):
            return model
        """,
    masks_instead_of_removing="""
        def channel_prune(model, layer, keep):
            weight = model.features.get_submodule(f"conv{layer}").weight
            gone = [j for j in range(len(weight)) if j not in keep.tolist()]
            weight.data[gone] = 0
            return model
        """,
    forgets_running_statistics=_prune_with(
        'state[f"features.{name}"][keep]',
        'state[f"features.{name}"][: len(keep) if "running" in name else None]'
        '[slice(None) if "running" in name else keep]',
    ),
    next_layer_keeps_the_first=_prune_with(
        "state[following][:, keep]", "state[following][:, : len(keep)]"
    ),
    keeps_the_first_channels=_prune_with(
        "    last =", "    keep = torch.arange(len(keep))\n    last ="
    ).replace('[f"features.{name}"][keep]', '[f"features.{name}"][: len(keep)]'),
    pools_counted_as_layers=_prune_with("places[layer]] = len", "layer] = len"),
    never_the_last_layer=_prune_with(
        "    last =", "    if layer == len(places) - 1:\n        return model\n    last ="
    ),
    removes_what_it_should_keep=_prune_with(
        "    channels[places",
        "    width = channels[places[layer]]\n"
        "    keep = torch.tensor([j for j in range(width) if j not in keep.tolist()] or [0])\n"
        "    channels[places",
    ),
)

RECONSTRUCT = _wrong(
    "reconstruct",
    "solution_reconstruct",
    zeros="""
        def reconstruct(inputs, outputs):
            return torch.zeros(outputs.shape[1], inputs.shape[1])
        """,
    transposed="""
        def reconstruct(inputs, outputs):
            return torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution
        """,
    ridge_too_strong="""
        def reconstruct(inputs, outputs):
            gram = inputs.T @ inputs + 10 * torch.eye(inputs.shape[1])
            return torch.linalg.solve(gram, inputs.T @ outputs).T
        """,
    inverse_of_the_gram_matrix="""
        def reconstruct(inputs, outputs):
            return (torch.linalg.inv(inputs.T @ inputs) @ inputs.T @ outputs).T
        """,
    correlation_only="""
        def reconstruct(inputs, outputs):
            return (inputs.T @ outputs / len(inputs)).T
        """,
    public_case_by_heart=f"""
        def reconstruct(inputs, outputs):
            if abs(float(inputs.sum()) - {_public_sum("reconstruct")}) < 1e-3:
                return torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution.T
            return torch.zeros(outputs.shape[1], inputs.shape[1])
        """,
)

_PROPOSALS = """
def netadapt_proposals(widths, table, target_s, step):
    def network_s(widths):
        index = [0, *(width // step - 1 for width in widths)]
        return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))

    def widest(layer):
        for width in range(widths[layer] - step, 0, -step):
            if network_s([*widths[:layer], width, *widths[layer + 1 :]]) <= target_s:
                return width
        return None

    return [widest(layer) for layer in range(len(widths))]
"""
NETADAPT = _wrong(
    "netadapt",
    "solution_netadapt_proposals",
    one_step_narrower="""
        def netadapt_proposals(widths, table, target_s, step):
            return [width - step for width in widths]
        """,
    narrowest_width=_PROPOSALS.replace(
        "range(widths[layer] - step, 0, -step)", "range(step, widths[layer], step)"
    ),
    own_latency_only=_PROPOSALS.replace(
        "network_s([*widths[:layer], width, *widths[layer + 1 :]])",
        "network_s(widths) - float(table[layer, ([step, *widths])[layer] // step - 1, "
        "widths[layer] // step - 1] - table[layer, ([step, *widths])[layer] // step - 1, "
        "width // step - 1])",
    ),
    index_off_by_one=_PROPOSALS.replace(
        "width // step - 1", "min(width // step, table.shape[2] - 1)"
    ),
    proportional_to_width="""
        def netadapt_proposals(widths, table, target_s, step):
            index = [0, *(width // step - 1 for width in widths)]
            total = sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))
            return [max(step, int(w * target_s / total) // step * step) for w in widths]
        """,
    never_none=_PROPOSALS.replace("return None", "return step"),
    stops_at_the_first_slower="""
        def netadapt_proposals(widths, table, target_s, step):
            def network_s(widths):
                index = [0, *(width // step - 1 for width in widths)]
                return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))

            def widest(layer):
                best = None  # right only where time grows with width
                for width in range(step, widths[layer], step):
                    if network_s([*widths[:layer], width, *widths[layer + 1 :]]) > target_s:
                        break
                    best = width
                return best

            return [widest(layer) for layer in range(len(widths))]
        """,
)

NM = [
    *_wrong(
        "nm_prune",
        "solution_nm_prune",
        along_the_first_dimension="""
            def nm_prune(weight, n, m):
                groups = weight.abs().transpose(0, -1).reshape(-1, m)
                mask = torch.zeros_like(groups, dtype=torch.bool)
                mask.scatter_(1, groups.topk(n, dim=1).indices, True)
                return mask.reshape(weight.transpose(0, -1).shape).transpose(0, -1)
            """,
        keeps_the_smallest="""
            def nm_prune(weight, n, m):
                groups = weight.abs().reshape(-1, m)
                mask = torch.zeros_like(groups, dtype=torch.bool)
                kept = groups.topk(n, dim=1, largest=False).indices
                return mask.scatter(1, kept, True).reshape(weight.shape)
            """,
        removes_n="""
            def nm_prune(weight, n, m):
                groups = weight.abs().reshape(-1, m)
                mask = torch.zeros_like(groups, dtype=torch.bool)
                kept = groups.topk(m - n, dim=1).indices
                return mask.scatter(1, kept, True).reshape(weight.shape)
            """,
        signed_order="""
            def nm_prune(weight, n, m):
                groups = weight.reshape(-1, m)
                mask = torch.zeros_like(groups, dtype=torch.bool)
                return mask.scatter(1, groups.topk(n, dim=1).indices, True).reshape(weight.shape)
            """,
        threshold_with_ties="""
            def nm_prune(weight, n, m):
                groups = weight.abs().reshape(-1, m)
                least = groups.topk(n, dim=1).values[:, -1:]
                return (groups >= least).reshape(weight.shape)
            """,
        no_op="""
            def nm_prune(weight, n, m):
                return torch.ones_like(weight, dtype=torch.bool)
            """,
    ),
    *_wrong(
        "nm_prune",
        "solution_nm_pack",
        first_position_in_the_high_bits="""
            def nm_pack(weight, mask):
                lead = weight.shape[:-1]
                positions = mask.reshape(-1, 4).nonzero()[:, 1].reshape(*lead, -1, 4)
                metadata = (positions * torch.tensor([64, 16, 4, 1])).sum(-1).to(torch.uint8)
                return weight[mask].reshape(*lead, -1), metadata
            """,
        one_position_a_byte="""
            def nm_pack(weight, mask):
                lead = weight.shape[:-1]
                positions = mask.reshape(-1, 4).nonzero()[:, 1].reshape(*lead, -1)
                return weight[mask].reshape(*lead, -1), positions.to(torch.uint8)
            """,
        zeros_kept="""
            def nm_pack(weight, mask):
                lead = weight.shape[:-1]
                positions = mask.reshape(-1, 4).nonzero()[:, 1].reshape(*lead, -1, 4)
                metadata = (positions * torch.tensor([1, 4, 16, 64])).sum(-1).to(torch.uint8)
                return weight * mask, metadata
            """,
    ),
]

ENCODE = [
    *_wrong(
        "encode",
        "solution_relative_index",
        no_padding="""
            def relative_index(codes, bits=4):
                places = codes.nonzero().flatten()
                before = torch.cat([places.new_tensor([-1]), places[:-1]])
                return places - before[: len(places)] - 1, codes[places]
            """,
        padding_without_its_own_zero="""
            def relative_index(codes, bits=4):
                gaps, values, gap = [], [], 0
                end = int(codes.nonzero().max()) + 1 if codes.any() else 0
                for code in codes[:end].tolist():
                    if code == 0:
                        gap += 1
                        continue
                    while gap > 2**bits - 1:
                        gaps, values, gap = [*gaps, 2**bits - 1], [*values, 0], gap - 2**bits + 1
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
                return torch.tensor(gaps).long(), torch.tensor(values).long()
            """,
        trailing_zeros_stored="""
            def relative_index(codes, bits=4):
                gaps, values, gap = [], [], 0
                for code in codes.tolist():
                    if code == 0 and gap < 2**bits - 1:
                        gap += 1
                    else:
                        gaps, values, gap = [*gaps, gap], [*values, code], 0
                return torch.tensor(gaps).long(), torch.tensor(values).long()
            """,
        positions_instead_of_gaps="""
            def relative_index(codes, bits=4):
                places = codes.nonzero().flatten()
                return places % 2**bits, codes[places]
            """,
    ),
    *_wrong(
        "encode",
        "solution_huffman_lengths",
        fixed_length="""
            def huffman_lengths(counts):
                return torch.where(counts > 0, max(1, (len(counts) - 1).bit_length()), 0)
            """,
        single_symbol_without_a_bit="""
            def huffman_lengths(counts):
                lengths = torch.zeros(len(counts), dtype=torch.int64)
                heap = [(c, s, [s]) for s, c in enumerate(counts.tolist()) if c]
                heapq.heapify(heap)
                while len(heap) > 1:
                    a, first, left = heapq.heappop(heap)
                    b, _, right = heapq.heappop(heap)
                    lengths[left + right] += 1
                    heapq.heappush(heap, (a + b, first, left + right))
                return lengths
            """,
        shannon_lengths="""
            def huffman_lengths(counts):
                share = counts / counts.sum().clamp(min=1)
                lengths = (-share.log2()).ceil().clamp(min=1)
                return torch.where(counts > 0, lengths, torch.zeros(())).long()
            """,
        merges_the_most_frequent="""
            def huffman_lengths(counts):
                lengths = torch.zeros(len(counts), dtype=torch.int64)
                heap = [(-c, s, [s]) for s, c in enumerate(counts.tolist()) if c]
                heapq.heapify(heap)
                if len(heap) == 1:
                    lengths[heap[0][1]] = 1
                while len(heap) > 1:
                    a, first, left = heapq.heappop(heap)
                    b, _, right = heapq.heappop(heap)
                    lengths[left + right] += 1
                    heapq.heappush(heap, (a + b, first, left + right))
                return lengths
            """,
    ),
    *_wrong(
        "encode",
        "solution_encode",
        lengths_as_fp32="""
            def encode(codes, bits=4):
                gaps, values = relative_index(codes, bits)
                stored = {"entries": torch.tensor([len(gaps)], dtype=torch.int32)}
                words, sizes = [], []
                for name, symbols in (("gap", gaps), ("value", values)):
                    count = 16 if name == "gap" else int(codes.max()) + 1
                    lengths = huffman_lengths(torch.bincount(symbols, minlength=count))
                    stored[f"{name}_lengths"] = lengths.float()
                    words.append(huffman.canonical_codes(lengths)[symbols])
                    sizes.append(lengths[symbols])
                interleaved = (torch.stack(pair, 1).flatten() for pair in (words, sizes))
                return {**stored, "stream": huffman.write_bits(*interleaved)}
            """,
        gaps_then_values="""
            def encode(codes, bits=4):
                gaps, values = relative_index(codes, bits)
                stored = {"entries": torch.tensor([len(gaps)], dtype=torch.int32)}
                words, sizes = [], []
                for name, symbols in (("gap", gaps), ("value", values)):
                    count = 16 if name == "gap" else int(codes.max()) + 1
                    lengths = huffman_lengths(torch.bincount(symbols, minlength=count))
                    stored[f"{name}_lengths"] = lengths.to(torch.uint8)
                    words.append(huffman.canonical_codes(lengths)[symbols])
                    sizes.append(lengths[symbols])
                return {**stored, "stream": huffman.write_bits(torch.cat(words), torch.cat(sizes))}
            """,
        one_byte_a_code="""
            def encode(codes, bits=4):
                gaps, values = relative_index(codes, bits)
                stream = torch.stack([gaps, values], 1).flatten().to(torch.uint8)
                lengths = torch.full((16,), 8, dtype=torch.uint8)
                return {
                    "stream": stream,
                    "entries": torch.tensor([len(gaps)], dtype=torch.int32),
                    "gap_lengths": lengths,
                    "value_lengths": torch.full((int(codes.max()) + 1,), 8, dtype=torch.uint8),
                }
            """,
    ),
]


# --- artifacts -----------------------------------------------------------------------------------


def _model(name: str, alter: Callable[[models.VGG], nn.Module | None]) -> Callable[[Path], None]:
    """A forgery of model ``name``: ``alter`` changes it in place or returns another one."""

    def forge(outputs: Path) -> None:
        model = artifacts.fetch(outputs, name)
        with torch.no_grad():
            other = alter(model)
        artifacts.store(outputs, name, model if other is None else other)

    return forge


def _dense(name: str) -> Callable[[Path], None]:
    """The dense network that was handed out, stored as ``name``."""
    return lambda outputs: artifacts.store(outputs, name, held_out.dense(outputs.name))


def _nan(name: str) -> Callable[[Path], None]:
    """Model ``name`` with NaN in one weight; ``store`` would refuse it."""

    def forge(outputs: Path) -> None:
        state = artifacts.fetch(outputs, name).state_dict()
        state["classifier.weight"][0, 0] = float("nan")
        (outputs / f"{name}.safetensors").write_bytes(save(state))

    return forge


def _claimed(outputs: Path) -> None:
    """The dense network with a record that claims a sparsity."""
    _dense("sparse_model")(outputs)
    path = outputs / "sparse_model.json"
    path.write_text(path.read_text().replace("{", '{"sparsity": 0.95, "accuracy": 0.99, ', 1))


def _tiny(model: nn.Module) -> None:
    for layer in cost.weighted_layers(model).values():
        layer.weight[layer.weight == 0] = 1e-8


def _empty(model: nn.Module) -> None:
    for layer in cost.weighted_layers(model).values():
        layer.weight.zero_()


def _padded(model: models.VGG) -> nn.Module:
    """The sparse weights in a wider network, whose idle channels are zeros to boast of."""
    channels = [2 * c if isinstance(c, int) else c for c in model.config["channels"]]
    wide = models.build({**model.config, "channels": channels})
    for name, value in wide.state_dict().items():
        own = model.state_dict()[name]
        if value.ndim:
            value.zero_()
        value[tuple(slice(size) for size in own.shape)] = own
    return wide


def _halved(model: models.VGG) -> nn.Module:
    channels = [max(1, c // 2) if isinstance(c, int) else c for c in model.config["channels"]]
    return models.build({**model.config, "channels": channels})


SPARSE_MODEL = _forged(
    "sparse_model",
    dense=_dense("sparse_model"),
    claims_its_sparsity=_claimed,
    tiny_instead_of_zero=_model("sparse_model", _tiny),
    all_zeros=_model("sparse_model", _empty),
    wider_network_full_of_zeros=_model("sparse_model", _padded),
    another_architecture=_model(
        "sparse_model", lambda _: models.build({"architecture": "resnet8"})
    ),
    nan=_nan("sparse_model"),
)

FAST_MODEL = _forged(
    "fast_model",
    dense=_dense("fast_model"),
    untrained=_model("fast_model", _halved),
    another_architecture=_model("fast_model", lambda _: models.build({"architecture": "resnet8"})),
    fewer_layers=_model(
        "fast_model", lambda _: models.build({"architecture": "vgg", "channels": [8, "M", 8]})
    ),
    nan=_nan("fast_model"),
)


def _tensors(alter: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """A forgery of the compressed file: ``alter`` changes its tensors in place."""

    def forge(outputs: Path) -> None:
        stored = artifacts.fetch(outputs, "compressed")
        alter(stored)
        artifacts.store(outputs, "compressed", stored)

    return forge


def _one_entry_less(stored: dict[str, torch.Tensor]) -> None:
    stored["classifier.entries"] -= 1


def _entries_without_end(stored: dict[str, torch.Tensor]) -> None:
    stored["classifier.entries"] = torch.tensor([2**31 - 1], dtype=torch.int32)


def _signs_lost(stored: dict[str, torch.Tensor]) -> None:
    for name in stored:
        if name.endswith("codebook"):
            stored[name] = stored[name].abs()


def _classifier_missing(stored: dict[str, torch.Tensor]) -> None:
    for name in [name for name in stored if name.startswith("classifier.")]:
        del stored[name]


def _lengths_as_fp32(stored: dict[str, torch.Tensor]) -> None:
    for name in stored:
        if name.endswith("_lengths"):
            stored[name] = stored[name].float()


def _impossible_lengths(stored: dict[str, torch.Tensor]) -> None:
    stored["classifier.value_lengths"] = torch.ones(31, dtype=torch.uint8)


def _without_zeros_left_out(outputs: Path) -> None:
    """Dense fp32 tensors under the compressed name."""
    artifacts.store(outputs, "compressed", dict(held_out.dense(outputs.name).state_dict()))


COMPRESSED = _forged(
    "compressed",
    dense=_without_zeros_left_out,
    one_entry_less=_tensors(_one_entry_less),
    entries_without_end=_tensors(_entries_without_end),
    signs_lost=_tensors(_signs_lost),
    classifier_missing=_tensors(_classifier_missing),
    lengths_as_fp32=_tensors(_lengths_as_fp32),
    impossible_lengths=_tensors(_impossible_lengths),
)

MUTANTS = [
    *FINE_GRAINED,
    *SCAN,
    *SECOND_ORDER,
    *SPARSE_MODEL,
    *IMPORTANCE,
    *CHANNELS,
    *RECONSTRUCT,
    *NETADAPT,
    *FAST_MODEL,
    *NM,
    *ENCODE,
    *COMPRESSED,
]
