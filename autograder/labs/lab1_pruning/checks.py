"""Checks of Lab 1, Pruning.

Every expected answer is computed here in another way than a solution would: brute force, autograd,
a masked model, a decoder. Sizes, seeds and models of the hidden cases differ from the public ones.
A figure that is worth nothing without another (accuracy without sparsity, size without accuracy)
is scaled by the other's share, so that a file that was handed out earns nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check, collected
from autograder.contract.rows import (
    Row,
    compare,
    earned,
    inconclusive,
    joint,
    no_fault,
    passed,
    type_fault,
)
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from codesign import cost, huffman, measure
from codesign.datasets import normalize
from codesign.models import VGG
from codesign.training import evaluate

LAB = "lab1_pruning"
Targets = Mapping[str, Figure]


# --- 1: fine_grained_prune -----------------------------------------------------------------------


@check("fine_grained_prune")
def _fine_grained_prune(student: Student, cases: Cases, target: Targets) -> list[Row]:
    weight = _random_weight(cases)
    size = weight.numel()
    counts, smallest = [], []
    for offset in (-0.3, 0.0, 0.3):  # rounds to the same number: neither floor nor ceil does
        zeros = int(cases.randint(size // 5, 4 * size // 5))
        mask = student.call("fine_grained_prune", weight, (zeros + offset) / size)
        counts.append(_mask_fault(mask, weight, zeros))
        smallest.append(counts[-1] or _order_fault(mask, weight))
    edges = []
    tied = torch.where(_random_weight(cases) > 0, 0.5, -0.5)
    for case, zeros in ((weight, 0), (weight, size), (tied, tied.numel() // 3)):
        mask = student.call("fine_grained_prune", case, zeros / case.numel())
        edges.append(_mask_fault(mask, case, zeros))
    return [
        no_fault("exact number of zeros", counts, 3),
        no_fault("the smallest magnitudes go", smallest, 3),
        no_fault("sparsity 0 and 1, equal magnitudes", edges, 2),
    ]


def _random_weight(cases: Cases) -> torch.Tensor:
    rows = int(cases.randint(9, 20))
    shape = cases.choice([(rows, 40), (rows, 6, 3, 3), (rows, 13, 5)])
    return cases.randn(*shape)


def _mask_fault(mask: object, weight: torch.Tensor, zeros: int) -> str | None:
    fault = type_fault(mask, torch.bool, tuple(weight.shape))
    if fault:
        return fault
    got = int((~mask).sum())  # type: ignore[operator]
    return None if got == zeros else f"got {got} zeros of {weight.numel()}, expected {zeros}"


def _order_fault(mask: torch.Tensor, weight: torch.Tensor) -> str | None:
    removed, kept = weight[~mask].abs(), weight[mask].abs()
    if removed.max() <= kept.min():
        return None
    return f"removed a weight of magnitude {removed.max():.4f}, kept one of {kept.min():.4f}"


# --- 2: sensitivity_scan -------------------------------------------------------------------------


@check("sensitivity_scan")
def _sensitivity_scan(student: Student, cases: Cases, target: Targets) -> list[Row]:
    model, images, labels = _labelled_model(cases)
    layers = cost.weighted_layers(model)
    masks = {name: _scan_masks(cases, layer.weight) for name, layer in layers.items()}
    expected = {
        name: [_masked_accuracy(model, layers[name], m, images, labels) for m in listed]
        for name, listed in masks.items()
    }
    got = student.call("sensitivity_scan", model, images, labels, masks)
    keys = compare("one list for each layer", _lengths(got), _lengths(expected), 2, exact=True)
    if not keys.points:
        return [keys, *[passed(n, False, 3, "not measured") for n in SCAN_ROWS]]
    tolerance = 1.01 / len(labels)  # another batch size may flip one image
    first = {name: values[:1] for name, values in expected.items()}
    rows = [
        compare(SCAN_ROWS[0], {n: got[n][:1] for n in got}, first, 3, atol=tolerance, rtol=0.0),
        compare(SCAN_ROWS[1], got, expected, 3, atol=tolerance, rtol=0.0),
    ]
    return [keys, *rows]


SCAN_ROWS = ("accuracy with the first mask of each layer", "every accuracy, weights restored")


def _labelled_model(cases: Cases) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A random VGG, random images, and as labels its own answers: 100 % until it is pruned."""
    widths = [int(w) for w in cases.randint(6, 12, (3,))]
    model = _random_vgg(cases, [widths[0], "M", widths[1], "M", widths[2]])
    # Few coarse pixels each, so that images differ after pooling and answers spread over classes.
    images = cases.randint(0, 256, (200, 3, 2, 2)).to(torch.uint8)
    images = images.repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        logits = model(normalize(images))
        model.classifier.bias.copy_(model.classifier.bias - logits.mean(0))
        labels = model(normalize(images)).argmax(1)
    return model, images, labels


def _random_vgg(cases: Cases, channels: list[int | str]) -> VGG:
    """A VGG with every tensor drawn at random, batch-norm statistics included."""
    model = VGG(channels)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = cases.randn(*value.shape)
                scale = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.3
                positive = "bn" in name and name.endswith((".weight", "running_var"))
                value.copy_(0.5 + noise.abs() if positive else noise * scale)
    return model.eval()


def _scan_masks(cases: Cases, weight: torch.Tensor) -> list[torch.Tensor]:
    order = cases.randn(*weight.shape)
    return [order > threshold for threshold in (1.0, 0.0, -0.8)]


@torch.no_grad()
def _masked_accuracy(model, layer, mask, images, labels) -> float:
    kept = layer.weight.clone()
    layer.weight.mul_(mask)
    correct = int((model(normalize(images)).argmax(1) == labels).sum())
    layer.weight.copy_(kept)
    return correct / len(labels)


def _lengths(scan: object) -> object:
    if not isinstance(scan, dict):
        return type(scan).__name__
    return {k: len(v) if isinstance(v, (list, tuple)) else str(type(v)) for k, v in scan.items()}


# --- 3: second_order_scores ----------------------------------------------------------------------


@check("second_order_scores")
def _second_order_scores(student: Student, cases: Cases, target: Targets) -> list[Row]:
    samples, inputs, classes = int(cases.randint(30, 50)), int(cases.randint(5, 8)), 4
    features, bias = cases.randn(samples, inputs).double(), cases.randn(classes).double()
    weight = cases.randn(classes, inputs).double()
    exact = 0.5 * _hessian_diagonal(features, weight, bias) * weight.square()
    got = student.call("second_order_scores", features, weight, bias)
    rows = [compare("half the Hessian diagonal times w²", got, exact, 6, atol=1e-9, rtol=1e-6)]
    return [*rows, _rank_row(student, cases)]


def _hessian_diagonal(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    labels = torch.zeros(len(features), dtype=torch.int64)  # the Hessian does not depend on them

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(features @ flat.view_as(weight).T + bias, labels)

    hessian = torch.autograd.functional.hessian(loss, weight.flatten())
    return hessian.diagonal().view_as(weight)


def _rank_row(student: Student, cases: Cases) -> Row:
    """Rank correlation of the scores with the true loss increase, at a minimum of the loss."""
    name = "rank correlation with the true loss increase"
    features, labels, weight, bias = _trained_regression(cases)
    increase = _loss_increase(features, labels, weight, bias)
    magnitude = _rank_correlation(weight.abs(), increase)
    bar = max(0.9, magnitude + 0.03)
    got = student.call("second_order_scores", features, weight, bias)
    fault = type_fault(got, torch.float64, tuple(weight.shape))
    if fault:
        return passed(name, False, 4, fault)
    found = _rank_correlation(got, increase)
    message = f"got {found:.3f}, expected at least {bar:.3f} (magnitude: {magnitude:.3f})"
    points, status = (4.0, "ok") if found >= bar else (0.0, "failed")
    return Row(name, found, bar, points, 4, message=message if not points else "", status=status)


def _trained_regression(cases: Cases) -> tuple[torch.Tensor, ...]:
    """Softmax regression at its minimum, on features of very different scales."""
    count, inputs, classes = 400, 16, 4
    scales = torch.logspace(-0.7, 0.7, inputs, dtype=torch.float64)
    features = cases.randn(count, inputs).double() * scales
    truth = cases.randn(classes, inputs).double() / scales * cases.randn(classes, inputs).exp()
    gumbel = -torch.log(-torch.log(torch.rand(count, classes, generator=cases.generator)))
    labels = (0.3 * features @ truth.T + gumbel).argmax(1)
    weight = torch.zeros(classes, inputs, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        # A little decay makes the minimum unique; it is part of neither loss nor scores below.
        loss = functional.cross_entropy(features @ weight.T + bias, labels)
        (loss + 1e-6 * weight.square().sum()).backward()
        return loss

    optimizer.step(closure)
    return features, labels, weight.detach(), bias.detach()


def _loss_increase(features, labels, weight, bias) -> torch.Tensor:
    def loss(w: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(features @ w.T + bias, labels)

    increase = torch.zeros_like(weight)
    for index in torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist():
        pruned = weight.clone()
        pruned[tuple(index)] = 0
        increase[tuple(index)] = loss(pruned) - loss(weight)
    return increase


def _rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's rho (no ties expected)."""
    ranks = torch.stack([x.flatten().argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


# --- 4: the artifact sparse_model ----------------------------------------------------------------


@check("sparse_model")
def _sparse_model(student: Student, cases: Cases, target: Targets) -> list[Row]:
    model, dense = student.artifact("sparse_model"), cases.dense
    _require_config(model, dense.config)
    sparsity = cost.sparsity(model)
    drop = cases.dense_accuracy - evaluate(model, cases.images)
    return joint(("sparsity", sparsity), ("accuracy_drop", drop), target)


def _require_config(model: object, config: object) -> None:
    got = getattr(model, "config", type(model).__name__)
    if got != config:
        raise StudentError(f"got a model {got}, expected the reference architecture {config}")


# --- 5: channel_prune ----------------------------------------------------------------------------


@check("channel_prune")
def _channel_prune(student: Student, cases: Cases, target: Targets) -> list[Row]:
    return [*_importance_rows(student, cases), *_removal_rows(student, cases)]


def _importance_rows(student: Student, cases: Cases) -> list[Row]:
    names = "importance: known answers", "importance: other scales and shapes"
    known = torch.zeros(4, 2, 3, 3)
    known[0, 0, 0, :2] = torch.tensor([3.0, -4.0])  # 5; the signed sum is -1, L1 is 7
    known[1, :, 1, 1] = torch.tensor([-6.0, -8.0])  # 10, all negative
    known[2] = 1.0  # √18 < 5, yet L1 is 18
    scale = 10 ** cases.randn(11)
    weight = cases.randn(11, int(cases.randint(2, 7)), 3, 3) * scale[:, None, None, None]
    norms = torch.stack([torch.dot(w, w).sqrt() for w in weight.flatten(1)])
    answers = torch.tensor([5.0, 10.0, 18**0.5, 0.0]), norms
    rows = []
    for name, case, answer, points in zip(names, (known, weight), answers, (2, 1), strict=True):
        try:
            got = student.call("channel_importance", case)
        except StudentError as error:  # the other function can still be judged
            rows.append(passed(name, False, points, str(error)))
            continue
        rows.append(compare(name, got, answer, points))
    return rows


def _removal_rows(student: Student, cases: Cases) -> list[Row]:
    a, b, c = (int(w) for w in cases.randint(5, 9, (3,)))
    model = _random_vgg(cases, [a, "M", b, c, "M", 7])
    x = cases.randn(3, 3, 16, 16)
    middle, first, last = _keep(cases, b, 3), _keep(cases, a, 2), _keep(cases, 7, 4)
    plans = [
        ("an inner convolution", [(1, middle)], 3),
        ("the last convolution, before the classifier", [(3, last)], 2),
        ("nothing removed, then the first two", [(2, torch.arange(c)), (0, first), (1, middle)], 2),
    ]
    return [_removal_row(student, model, x, *plan) for plan in plans]


def _keep(cases: Cases, width: int, count: int) -> torch.Tensor:
    return torch.randperm(width, generator=cases.generator)[:count].sort().values


def _removal_row(
    student: Student,
    model: VGG,
    x: torch.Tensor,
    name: str,
    plan: list[tuple[int, torch.Tensor]],
    points: float,
) -> Row:
    channels, pruned = list(model.config["channels"]), model
    places = [i for i, item in enumerate(channels) if item != "M"]
    try:
        for layer, keep in plan:
            channels[places[layer]] = len(keep)
            pruned = student.call("channel_prune", pruned, layer, keep)
    except StudentError as error:
        return passed(name, False, points, str(error))
    got = getattr(pruned, "config", {}).get("channels")
    if got != channels:
        return passed(name, False, points, f"got channels {got}, expected {channels}")
    with torch.inference_mode():
        expected, answer = _masked_output(model, plan, x), pruned.eval()(x)
    return compare(name, answer, expected, points, atol=1e-4)


def _masked_output(model: VGG, plan, x: torch.Tensor) -> torch.Tensor:
    """What the model computes when the removed channels are zeroed after their ReLU."""
    handles = []
    for layer, keep in plan:
        relu = model.features.get_submodule(f"relu{layer}")
        handles.append(
            relu.register_forward_hook(
                lambda _, __, y, keep=keep: torch.zeros_like(y).index_copy(1, keep, y[:, keep])
            )
        )
    output = model(x)
    for handle in handles:
        handle.remove()
    return output


# --- 6: reconstruct ------------------------------------------------------------------------------


@check("reconstruct")
def _reconstruct(student: Student, cases: Cases, target: Targets) -> list[Row]:
    samples, inputs, outputs = int(cases.randint(60, 90)), int(cases.randint(6, 12)), 5
    x, weight = cases.randn(samples, inputs), cases.randn(outputs, inputs)
    noisy = x @ weight.T + 0.5 * cases.randn(samples, outputs)
    got = student.call("reconstruct", x, x @ weight.T)
    rows = [compare("recovers an exact linear map", got, weight, 3, atol=1e-3, rtol=1e-3)]
    rows.append(_residual_row("noisy outputs: smallest residual", student, x, noisy, 3))
    twice = torch.cat([x, 2 * x[:, :2], torch.zeros(samples, 1)], 1)
    return [*rows, _residual_row("linearly dependent inputs", student, twice, noisy, 2)]


def _residual_row(
    name: str, student: Student, inputs: torch.Tensor, outputs: torch.Tensor, points: float
) -> Row:
    x, y = inputs.double(), outputs.double()
    best = torch.linalg.lstsq(x, y, driver="gelsd").solution
    smallest = float((x @ best - y).square().mean())
    try:
        got = student.call("reconstruct", inputs, outputs)
    except StudentError as error:
        return passed(name, False, points, str(error))
    fault = type_fault(got, torch.float32, (outputs.shape[1], inputs.shape[1]))
    if fault:
        return passed(name, False, points, fault)
    found = float((x @ got.double().T - y).square().mean())
    ok = found <= 1.0001 * smallest  # NaN fails
    return passed(name, ok, points, f"got a mean squared error of {found:.6g}, best {smallest:.6g}")


# --- 7: netadapt and the artifact fast_model -----------------------------------------------------


@check("netadapt")
def _netadapt(student: Student, cases: Cases, target: Targets) -> list[Row]:
    return [
        _proposal_row("latency grows with width", student, cases, 0.0, 0.8),
        _proposal_row("a measured table: not monotone", student, cases, 0.6, 0.8),
        _proposal_row("layers that cannot save enough: None", student, cases, 0.0, 0.55),
    ]


def _proposal_row(
    name: str, student: Student, cases: Cases, noise: float, budget: float, points: float = 2
) -> Row:
    step = int(cases.choice([4, 8, 16]))
    for _ in range(1_000):  # draw until the case is decisive
        widths, table = _latency_table(cases, step, noise)
        target_s = budget * _network_s(widths, table, step)
        options = _single_changes(widths, table, step)
        fitting = [[w for w, s in option.items() if s <= target_s] for option in options]
        expected = [max(found, default=None) for found in fitting]
        gaps = [
            len(found) * step != best for found, best in zip(fitting, expected, strict=True) if best
        ]
        close = min(abs(s / target_s - 1) for option in options for s in option.values()) < 1e-4
        wanted = (None in expected) == (budget < 0.6) and any(gaps) == (noise > 0)
        if wanted and gaps and not close:
            break
    got = student.call("netadapt_proposals", widths, table, target_s, step)
    message = f"widths {widths}, step {step}: got {got}, expected {expected}"
    same = isinstance(got, (list, tuple)) and len(got) == len(expected)
    same = same and all(type(g) is type(e) and g == e for g, e in zip(got, expected, strict=True))
    return passed(name, same, points, message)


def _latency_table(cases: Cases, step: int, noise: float) -> tuple[list[int], torch.Tensor]:
    """Widths of a network, and seconds ``[layer, c_in index, c_out index]`` like a CPU's."""
    layers, grid = int(cases.randint(3, 6)), 8
    widths = [step * int(i) for i in cases.randint(3, grid + 1, (layers,))]
    out = torch.arange(1, grid + 1, dtype=torch.float64)
    inner = out[:, None] * out[None, :]
    table = inner * torch.rand(layers, 1, 1, generator=cases.generator).double()
    table = 20e-6 * (table + 0.5 * out[None, None, :])
    table[0, 1:] = 1.0  # the image has one width: these entries must not be read
    table[0, 0] = 40e-6 * out
    return widths, table * (noise * cases.randn(*table.shape).double()).exp()


def _network_s(widths: list[int], table: torch.Tensor, step: int) -> float:
    index = [0, *[w // step - 1 for w in widths]]
    return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))


def _single_changes(widths: list[int], table: torch.Tensor, step: int) -> list[dict[int, float]]:
    """For each layer: network seconds at each narrower width of that layer alone."""
    return [
        {
            w: _network_s([*widths[:i], w, *widths[i + 1 :]], table, step)
            for w in range(step, width, step)
        }
        for i, width in enumerate(widths)
    ]


@check("fast_model")
def _fast_model(student: Student, cases: Cases, target: Targets) -> list[Row]:
    model, dense = student.artifact("fast_model"), cases.dense
    _require_narrower(model, dense)
    ratio = _latency_ratio(model, dense, target["latency_ratio"].target)
    drop = cases.dense_accuracy - evaluate(model, cases.images)
    gain = ("latency_ratio", ratio.median)
    rows = joint(gain, ("accuracy_drop", drop), target)
    if _decided(ratio, target["latency_ratio"].target):
        return rows
    note = f"{ratio} is within noise of the target after three measurements"
    usable = earned(drop, target["accuracy_drop"]) > 0
    return [inconclusive(rows[0], note) if usable else rows[0], rows[1]]


def _require_narrower(model: object, dense: VGG) -> None:
    config, reference = getattr(model, "config", {}), dense.config
    got, limit = config.get("channels", []), reference["channels"]
    same = {**config, "channels": limit} == reference and len(got) == len(limit)
    if not same or any(g != r if "M" in (g, r) else g > r for g, r in zip(got, limit, strict=True)):
        raise StudentError(
            f"got a model {config}, expected the reference architecture with channels {limit} or "
            "fewer in each layer"
        )


def _latency_ratio(model: nn.Module, dense: VGG, limit: float) -> measure.Measurement:
    """Paired, interleaved latency at batch 1; a miss, or an undecided figure, is measured again.

    What else runs on the machine costs the faster of the two relatively more and stays for a whole
    measurement, so that its own spread does not show it: the best of three counts.
    """
    candidates = {"dense": measure.inference(dense), "fast": measure.inference(model)}
    tried: list[measure.Measurement] = []
    for rounds in (60, 200, 200):
        found = measure.latency(candidates, rounds=rounds, sample_s=0.008)
        tried.append(found.ratio("fast", "dense"))
        if _decided(tried[-1], limit) and tried[-1].median <= limit:
            break
    return min(tried, key=lambda ratio: ratio.median)


def _decided(ratio: measure.Measurement, limit: float) -> bool:
    return abs(ratio.median - limit) > 2 * ratio.standard_error


# --- 8: nm_prune ---------------------------------------------------------------------------------


@check("nm_prune")
def _nm_prune(student: Student, cases: Cases, target: Targets) -> list[Row]:
    rows = int(cases.randint(3, 9))
    plain = cases.randn(rows, 8 * int(cases.randint(2, 6)))
    deep = cases.randn(rows, 3, 2, 24)
    tied = torch.where(cases.randn(rows, 16) > 0, 1.0, -1.0)
    two_four = [_nm_fault(student, plain, 2, 4), _nm_fault(student, tied, 2, 4)]
    other = [_nm_fault(student, deep, n, m) for n, m in ((1, 4), (4, 8), (2, 6))]
    return [
        no_fault("2:4, of a matrix", two_four, 2),
        no_fault("1:4, 4:8 and 2:6, of more dimensions", other, 2),
        *_pack_rows(student, cases, plain),
    ]


def _nm_fault(student: Student, weight: torch.Tensor, n: int, m: int) -> str | None:
    mask = student.call("nm_prune", weight, n, m)
    fault = type_fault(mask, torch.bool, tuple(weight.shape))
    if fault:
        return f"{n}:{m}: {fault}"
    for kept, group in zip(mask.reshape(-1, m), weight.abs().reshape(-1, m), strict=True):
        if int(kept.sum()) != n or group[kept].min() < group[~kept].max():
            return f"{n}:{m}: of magnitudes {group.tolist()} kept {kept.tolist()}"
    return None


def _pack_rows(student: Student, cases: Cases, weight: torch.Tensor) -> list[Row]:
    names = "packed values", "packed metadata"
    pairs = torch.combinations(torch.arange(4), 2)
    chosen = pairs[cases.randint(0, len(pairs), (weight.numel() // 4,))]  # any pattern, ascending
    mask = torch.zeros(weight.numel() // 4, 4, dtype=torch.bool).scatter_(1, chosen, True)
    mask = mask.view_as(weight)
    try:
        got = student.call("nm_pack", weight, mask)
    except StudentError as error:
        return [passed(name, False, 2, str(error)) for name in names]
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        message = f"got a {type(got).__name__}, expected (values, metadata)"
        return [passed(name, False, 2, message) for name in names]
    shape = (*weight.shape[:-1], weight.shape[-1] // 2)
    expected = torch.stack(
        [w for w, kept in zip(weight.flatten(), mask.flatten(), strict=True) if kept]
    )
    fault = _metadata_fault(got[1], chosen, (*weight.shape[:-1], weight.shape[-1] // 8))
    return [
        compare(names[0], got[0], expected.reshape(shape), 2, exact=True),
        passed(names[1], fault is None, 2, fault or ""),
    ]


def _metadata_fault(metadata: object, chosen: torch.Tensor, shape: tuple[int, ...]) -> str | None:
    fault = type_fault(metadata, torch.uint8, shape)
    if fault:
        return fault
    assert isinstance(metadata, torch.Tensor)
    positions = [
        byte >> shift & 3 for byte in metadata.flatten().tolist() for shift in (0, 2, 4, 6)
    ]
    for i, (got, expected) in enumerate(zip(positions, chosen.flatten().tolist(), strict=True)):
        if got != expected:
            return f"value {i}: got position {got} in its four, expected {expected}"
    return None


# --- 9: encode and the artifact compressed -------------------------------------------------------


@check("encode")
def _encode(student: Student, cases: Cases, target: Targets) -> list[Row]:
    hidden = _code_cases(cases)
    names = "relative_index", "huffman_lengths", "encode: lossless", "encode: size"
    rows = []
    for name, judge in ((names[0], _index_fault), (names[1], _lengths_fault)):
        rows.append(no_fault(name, [_caught(judge, student, c) for c in hidden.values()], 1))
    faults, excess = [], 0.0
    for case, codes in hidden.items():
        fault, ratio = _stream_fault(student, codes)
        faults.append(fault and f"{case}: {fault}")
        excess = max(excess, ratio)
    rows.append(no_fault(names[2], faults, 1))
    small = not any(faults) and excess <= 1.02
    message = f"got {excess:.3f} times the bits of a Huffman code, expected at most 1.02"
    return [*rows, passed(names[3], small, 1, message)]


def _code_cases(cases: Cases) -> dict[str, torch.Tensor]:
    """Codes ``[n]`` by the trouble that they make."""
    size, symbols = int(cases.randint(600, 900)), int(cases.randint(9, 32))
    values = (cases.randn(size).abs() * symbols / 3).long().clamp(max=symbols - 1) + 1
    kept = torch.rand(size, generator=cases.generator)
    zeros = torch.zeros(size, dtype=torch.int64)
    single, runs = zeros.clone(), zeros.clone()
    single[int(cases.randint(100, 200))] = 3
    gaps = [0, 14, 15, 16, 31, 32, 33, int(cases.randint(48, 90))]
    runs[torch.tensor(gaps).add(1).cumsum(0) - 1] = torch.arange(1, 9)
    return {
        "85 % zeros": values * (kept < 0.15),
        "no zeros": values,
        "runs of 15, 16, 31, 32, 33 zeros": runs,
        "one value": single,
        "one symbol": torch.ones(40, dtype=torch.int64),
        "all zeros": zeros,
    }


def _caught(judge, student: Student, codes: torch.Tensor) -> str | None:
    try:
        return judge(student, codes)
    except (StudentError, ValueError) as error:
        return str(error)


def _index_fault(student: Student, codes: torch.Tensor) -> str | None:
    got = student.call("relative_index", codes, 4)
    expected = _relative_index(codes.tolist(), 15)
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        return f"got a {type(got).__name__}, expected (gaps, values)"
    for name, found, listed in zip(("gaps", "values"), got, expected, strict=True):
        row = compare(name, found, torch.tensor(listed, dtype=torch.int64), 1, exact=True)
        if not row.points:
            return f"{name} of {len(codes)} codes: {row.message}"
    return None


def _relative_index(codes: list[int], reach: int) -> tuple[list[int], list[int]]:
    gaps, values, gap = [], [], 0
    last = max((i for i, code in enumerate(codes) if code), default=-1)
    for code in codes[: last + 1]:
        if code or gap == reach:
            gaps.append(gap)
            values.append(code)
            gap = 0
        else:
            gap += 1
    return gaps, values


def _lengths_fault(student: Student, codes: torch.Tensor) -> str | None:
    counts = torch.bincount(codes, minlength=4)
    got = student.call("huffman_lengths", counts)
    if not isinstance(got, torch.Tensor) or got.is_floating_point() or got.shape != counts.shape:
        return f"got {got!r}, expected integers {tuple(counts.shape)}"
    lengths = got.long().tolist()
    for symbol, (count, length) in enumerate(zip(counts.tolist(), lengths, strict=True)):
        if (count > 0) != (length > 0):
            return f"symbol {symbol}, seen {count} times, has length {length}"
    huffman.canonical_codes(got)  # ValueError where no prefix code has these lengths
    bits = sum(c * n for c, n in zip(counts.tolist(), lengths, strict=True))
    best = _huffman_bits(counts.tolist())
    return None if bits == best else f"counts {counts.tolist()}: {bits} bits, expected {best}"


def _huffman_bits(counts: list[int]) -> int:
    """Bits of an optimal prefix code: each merge of two subtrees costs one bit an occurrence."""
    weights = sorted(c for c in counts if c)
    if len(weights) == 1:
        return weights[0]
    bits = 0
    while len(weights) > 1:
        merged = weights.pop(0) + weights.pop(0)
        bits += merged
        weights = sorted([*weights, merged])
    return bits


def _stream_fault(student: Student, codes: torch.Tensor) -> tuple[str | None, float]:
    """Why the stream of ``codes`` does not decode to them (or None), and its size ratio."""
    try:
        stored = student.call("encode", codes)
        decoded = _decode(stored, len(codes))
    except (StudentError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error) or type(error).__name__, float("inf")
    if not torch.equal(decoded, codes):
        first = int((decoded != codes).nonzero()[0])
        return f"code {first}: decoded {int(decoded[first])}, expected {int(codes[first])}", 1.0
    gaps, values = _relative_index(codes.tolist(), 15)
    best = _huffman_bits(torch.bincount(torch.tensor(gaps, dtype=torch.int64)).tolist())
    best += _huffman_bits(torch.bincount(torch.tensor(values, dtype=torch.int64)).tolist())
    return None, len(stored["stream"]) / max(1, (best + 7) // 8)


STREAM = ("stream", "entries", "gap_lengths", "value_lengths")


def _decode(stored: Mapping[str, torch.Tensor], size: int) -> torch.Tensor:
    """Codes ``[size]`` from what a student stored, trusting none of it.

    Raises:
        ValueError: missing or other tensors, dtypes or shapes, or a stream that does not decode.
    """
    if not isinstance(stored, dict) or set(stored) != set(STREAM):
        names = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
        raise ValueError(f"got {names}, expected a dict of tensors {sorted(STREAM)}")
    for name in STREAM:
        got, dtype = stored[name], torch.int32 if name == "entries" else torch.uint8
        if not isinstance(got, torch.Tensor) or got.dtype != dtype or got.ndim != 1:
            raise ValueError(
                f"{name}: got {getattr(got, 'dtype', type(got))}, expected a {dtype} vector"
            )
    entries = stored["entries"].tolist()
    if len(entries) != 1 or not 0 <= entries[0] <= size:
        raise ValueError(f"entries: got {entries[:3]}, expected one number from 0 to {size}")
    if len(stored["gap_lengths"]) != 16:
        raise ValueError(f"gap_lengths: got {len(stored['gap_lengths'])} of them, expected 16")
    lengths = stored["gap_lengths"], stored["value_lengths"]
    return huffman.place(*huffman.read_entries(stored["stream"], entries[0], *lengths), size)


@check("compressed")
def _compressed(student: Student, cases: Cases, target: Targets) -> list[Row]:
    dense = cases.dense
    try:
        model = _decompress(student.artifact("compressed"), dense)
    except ValueError as error:
        raise StudentError(f"compressed: {error}") from None
    ratio = cost.model_bytes(dense) / student.artifact_bytes("compressed")
    drop = cases.dense_accuracy - evaluate(model, cases.images)
    return joint(("compression", ratio), ("accuracy_drop", drop), target)


def _decompress(stored: object, model: nn.Module) -> nn.Module:
    """``model`` with the weights of a compressed artifact; see Lab 1, part 9, for the format.

    Raises:
        ValueError: not exactly the tensors of the format, or values that do not decode.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"got a {type(stored).__name__}, expected tensors")
    state = model.state_dict()
    coded = {f"{name}.weight": name for name in cost.weighted_layers(model)}
    expected = {f"{layer}.{part}" for layer in coded.values() for part in (*STREAM, "codebook")}
    plain = {k for k, v in state.items() if v.is_floating_point() and k not in coded}
    if set(stored) != expected | plain:
        wrong = sorted(set(stored) ^ (expected | plain))
        raise ValueError(f"{len(wrong)} tensors are missing or foreign, first {wrong[0]!r}")
    for name in plain:
        _copy_checked(name, state[name], stored[name])
    for name, layer in coded.items():
        codes = _decode({p: stored[f"{layer}.{p}"] for p in STREAM}, state[name].numel())
        book = stored[f"{layer}.codebook"]
        if book.ndim != 1 or not book.is_floating_point() or not 0 < len(book) <= 256 or book[0]:
            raise ValueError(f"{layer}.codebook: expected 1 to 256 floats, the first one 0")
        if codes.max() >= len(book):
            raise ValueError(f"{layer}: code {int(codes.max())} has no entry in the codebook")
        state[name].copy_(book.float()[codes].view_as(state[name]))
    return model.eval()


def _copy_checked(name: str, own: torch.Tensor, value: torch.Tensor) -> None:
    if value.shape != own.shape or value.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"{name}: got {value.dtype} {tuple(value.shape)}, expected {own.shape}")
    own.copy_(value)


CHECKS = collected(sys.modules[__name__])
