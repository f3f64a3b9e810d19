"""Check ``quantize_network`` on tiny networks: the integers that stand for weights and biases.

The artifact alone cannot tell a forgotten bias or one scale where each channel has its own. What is
expected comes from Python's floats, or, where the functions that it is made of are wrong already,
from these functions as they are: one mistake costs one check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, no_fault, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab2_quantization.checks.linear import parameters

PARTS = {
    "codes of the image, and no other names": ("input.scale", "input.zero_point"),
    "weights": (".weight",),
    "biases": (".bias",),
    "multipliers and zero points": (".mantissa", ".shift", ".zero_point"),
}
SHARES = (1, 2, 2, 1)
CLOSE = 1e-3  # of a code: what rounding in float32 may move
WIDTHS = ((3,), (3, 3), (3, 3, 3), (3,))  # outputs of the convolutions
SETTINGS = ((8, 0), (8, 0), (4, None), (8, None))  # bits, axis
SIZES = (1.0, 0.05, 1.0, 3e-3)  # of the weights

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Network:
    """The arguments of one call."""

    layers: dict[str, tuple[torch.Tensor, torch.Tensor]]
    image: torch.Tensor
    thresholds: dict[str, float]
    bits: int
    axis: int | None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of the signature."""
        return self.layers, self.image, self.thresholds, self.bits, self.axis

    def axis_of(self, name: str) -> int | None:
        """The axis of one layer's weight scales."""
        return None if name == "classifier" else self.axis


@check("quantize_network")
def _quantize_network(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    found = [_faults(student, _network(cases, index)) for index in range(len(SETTINGS))]
    return [
        no_fault(name, [each[name] for each in found], share)
        for name, share in zip(PARTS, SHARES, strict=True)
    ]


def _network(cases: Cases, index: int) -> Network:
    """A chain of convolutions and a classifier whose channels differ in size."""
    layers, thresholds, inputs = {}, {}, 3
    for number, width in enumerate(WIDTHS[index]):
        weight = cases.randn(width, inputs, 3, 3) * SIZES[index]
        weight = weight * torch.tensor([1.0, 0.02, 0.3])[:, None, None, None]
        layers[f"conv{number}"] = weight, cases.randn(width) * 3
        thresholds[f"conv{number}"] = (0.03, 2.5, 40.0)[(number + index) % 3]
        inputs = width
    layers["classifier"] = cases.randn(10, inputs) * SIZES[index], cases.randn(10)
    image = cases.randn(2, 3, 4, 5) * (0.01, 1.0, 2.0, 1.0)[index] + (0.0, 0.3, -9.0, 5.0)[index]
    return Network(layers, image, thresholds, *SETTINGS[index])


def _faults(student: Student, network: Network) -> dict[str, str | None]:
    """What is wrong with each part of what one call returns."""
    where = f"{len(network.layers) - 1} convolutions, {network.bits} bits, axis={network.axis}"
    try:
        got = student.call("quantize_network", *network.arguments)
    except StudentError as error:
        return dict.fromkeys(PARTS, str(error))
    if not isinstance(got, dict):
        return dict.fromkeys(PARTS, f"got a {type(got).__name__}, expected named tensors")
    plain = _expected(network)
    faults = _differences(got, plain, network)
    if any(faults.values()):
        own = _own(student, network)
        again = _differences(got, own, network) if own else faults
        faults = {part: faults[part] and again[part] for part in PARTS}
    return {part: f"{where}: {said}" if said else None for part, said in faults.items()}


def _expected(network: Network) -> Tensors:
    """The file by Python's floats; biases and multipliers not yet rounded, in float64."""
    scale, zeros = parameters(network.image, 8, False, None)
    stored = {"input.scale": scale.reshape(1)}
    stored["input.zero_point"] = torch.tensor(zeros[0][:1]).int()
    for name, (weight, bias) in network.layers.items():
        axis = network.axis_of(name)
        own = parameters(weight, network.bits, True, axis)[0].double()
        codes = weight.double() / (own if axis is None else own.reshape(-1, 1, 1, 1))
        sums_scale = scale.double() * own
        stored |= {f"{name}.weight": codes, f"{name}.bias": bias.double() / sums_scale}
        if name != "classifier":
            scale = torch.tensor(network.thresholds[name] / (2**network.bits - 1))
            stored[f"{name}.multiplier"] = (sums_scale / scale.double()).expand(len(bias))
            stored[f"{name}.zero_point"] = torch.tensor([-(2 ** (network.bits - 1))]).int()
    return stored


def _own(student: Student, network: Network) -> Tensors | None:
    """The same by the student's other functions; None where one of them fails."""
    try:
        scale, zero = student.call("quantization_parameters", network.image, 8, False, None)
        stored = {"input.scale": scale.reshape(1), "input.zero_point": zero.reshape(1)}
        for name, (weight, bias) in network.layers.items():
            axis = network.axis_of(name)
            own, zeros = student.call("quantization_parameters", weight, network.bits, True, axis)
            codes = student.call("linear_quantize", weight, own, zeros, network.bits, axis)
            sums_scale = scale.double() * own.double().expand(len(bias))
            stored |= {f"{name}.weight": codes, f"{name}.bias": bias.double() / sums_scale}
            if name != "classifier":
                scale = torch.tensor(network.thresholds[name] / (2**network.bits - 1))
                real = sums_scale / scale.double()
                stored[f"{name}.mantissa"], shift = student.call("fixed_point", real)
                stored[f"{name}.shift"] = shift.to(torch.int8)
                stored[f"{name}.zero_point"] = torch.tensor([-(2 ** (network.bits - 1))]).int()
    except (StudentError, ValueError, TypeError, AttributeError, RuntimeError):
        return None
    return stored


def _differences(got: Tensors, expected: Tensors, network: Network) -> dict[str, str | None]:
    """The first fault of each part; names that nobody asked for are one of the first part."""
    names = ["input.scale", "input.zero_point"]
    for name in network.layers:
        parts = ("weight", "bias", "mantissa", "shift", "zero_point")
        names += [f"{name}.{part}" for part in parts[: 2 if name == "classifier" else 5]]
    found: dict[str, str | None] = dict.fromkeys(PARTS)
    if odd := sorted(got.keys() - set(names)):
        found[next(iter(PARTS))] = f"got tensors {odd[:5]} that no layer has"
    for name in names:
        part = next(p for p, ends in PARTS.items() if name.endswith(ends))
        found[part] = found[part] or _tensor_fault(name, got, expected)
    return found


def _tensor_fault(name: str, got: Tensors, expected: Tensors) -> str | None:
    """What is wrong with one tensor: its name, its type, or its values."""
    layer, part = name.rsplit(".", 1)
    if name not in got:
        return f"{name} is missing"
    right = expected.get(name)
    like = expected[f"{layer}.multiplier"] if right is None else right
    real = part not in ("scale", "zero_point") and like.dtype == torch.float64
    dtype = {"weight": torch.int8, "shift": torch.int8}.get(part, torch.int32)
    dtype = dtype if real else like.dtype
    if wrong := type_fault(got[name], dtype, tuple(like.shape)):
        return f"{name}: {wrong}"
    value = got[name].double()
    if right is None:  # mantissa and shift together are a multiplier
        return _multiplier_fault(layer, got, like)
    if part == "scale":
        close = torch.isclose(value, right.double(), rtol=1e-5, atol=0, equal_nan=True)
    else:
        slack = 0.5 + CLOSE + 1e-6 * right.double().abs() if real else CLOSE
        close = (value - right.double()).abs() <= slack
    if bool(close.all()):
        return None
    place = tuple((~close).nonzero()[0].tolist())
    return f"{name}{list(place)}: got {value[place]:g}, expected {right[place].double():.8g}"


def _multiplier_fault(layer: str, got: Tensors, real: torch.Tensor) -> str | None:
    """Mantissa · 2^-shift against the real multiplier of each channel."""
    mantissa, shift = (got.get(f"{layer}.{part}") for part in ("mantissa", "shift"))
    if mantissa is None or shift is None or mantissa.shape != shift.shape:
        return f"{layer}: mantissa and shift of each channel are needed"
    if int(mantissa.min()) < 2**30 or not 1 <= int(shift.min()) <= int(shift.max()) <= 62:
        return f"{layer}: got mantissas {mantissa.tolist()} and shifts {shift.tolist()}"
    found = mantissa.double() * 2.0 ** -shift.double()
    if torch.allclose(found, real, rtol=1e-5, atol=0):
        return None
    return f"{layer}: got multipliers {found.tolist()[:4]}, expected {real.tolist()[:4]}"
