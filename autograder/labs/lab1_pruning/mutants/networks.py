"""Forged networks: dense ones in disguise, useless small ones, compressed files that lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from autograder.contract import artifacts, held_out
from autograder.proof.mutants import Forge, forged
from codesign import cost, models

Tensors = dict[str, torch.Tensor]


def _model(name: str, alter: Callable[[models.VGG], nn.Module | None]) -> Forge:
    """A forgery of model ``name``: ``alter`` changes it in place or returns another one."""

    def forge(outputs: Path) -> None:
        model = artifacts.fetch(outputs, name)
        with torch.no_grad():
            other = alter(model)
        artifacts.store(outputs, name, model if other is None else other)

    return forge


def _dense(name: str) -> Forge:
    """The dense network that was handed out, stored as ``name``."""
    return lambda outputs: artifacts.store(outputs, name, held_out.dense(outputs.name))


def _nan(name: str) -> Forge:
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


def _resnet(_: nn.Module) -> nn.Module:
    return models.build({"architecture": "resnet8"})


def _shallow(_: nn.Module) -> nn.Module:
    return models.build({"architecture": "vgg", "channels": [8, "M", 8]})


SPARSE_MODEL = forged(
    "sparse_model",
    dense=_dense("sparse_model"),
    claims_its_sparsity=_claimed,
    tiny_instead_of_zero=_model("sparse_model", _tiny),
    all_zeros=_model("sparse_model", _empty),
    wider_network_full_of_zeros=_model("sparse_model", _padded),
    another_architecture=_model("sparse_model", _resnet),
    nan=_nan("sparse_model"),
)

FAST_MODEL = forged(
    "fast_model",
    dense=_dense("fast_model"),
    untrained=_model("fast_model", _halved),
    another_architecture=_model("fast_model", _resnet),
    fewer_layers=_model("fast_model", _shallow),
    nan=_nan("fast_model"),
)


# --- the compressed file -------------------------------------------------------------------------


def _tensors(alter: Callable[[Tensors], None]) -> Forge:
    """A forgery of the compressed file: ``alter`` changes its tensors in place."""

    def forge(outputs: Path) -> None:
        tensors = artifacts.fetch(outputs, "compressed")
        alter(tensors)
        artifacts.store(outputs, "compressed", tensors)

    return forge


def _one_entry_less(tensors: Tensors) -> None:
    tensors["classifier.entries"] -= 1


def _entries_without_end(tensors: Tensors) -> None:
    tensors["classifier.entries"] = torch.tensor([2**31 - 1], dtype=torch.int32)


def _signs_lost(tensors: Tensors) -> None:
    for name in tensors:
        if name.endswith("codebook"):
            tensors[name] = tensors[name].abs()


def _classifier_missing(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("classifier.")]:
        del tensors[name]


def _lengths_as_fp32(tensors: Tensors) -> None:
    for name in tensors:
        if name.endswith("_lengths"):
            tensors[name] = tensors[name].float()


def _impossible_lengths(tensors: Tensors) -> None:
    tensors["classifier.value_lengths"] = torch.ones(31, dtype=torch.uint8)


def _uncompressed(outputs: Path) -> None:
    """Dense fp32 tensors under the compressed name."""
    artifacts.store(outputs, "compressed", dict(held_out.dense(outputs.name).state_dict()))


COMPRESSED = forged(
    "compressed",
    dense=_uncompressed,
    one_entry_less=_tensors(_one_entry_less),
    entries_without_end=_tensors(_entries_without_end),
    signs_lost=_tensors(_signs_lost),
    classifier_missing=_tensors(_classifier_missing),
    lengths_as_fp32=_tensors(_lengths_as_fp32),
    impossible_lengths=_tensors(_impossible_lengths),
)
