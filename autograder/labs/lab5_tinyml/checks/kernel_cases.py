"""Arguments of kernel calls, drawn at random, and what each call must give, from exact integers.

The order of arguments is that of the C functions in ``codesign/kernels/int8_loops.c``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from autograder.contract.checking import Cases
from autograder.contract.rows import type_fault

# Shapes: (pixels, channels, outputs), (height, width, channels, stride), (height, width, channels,
# outputs). Small ones for borders, usual ones for cycles.
SMALL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [(1, 4, 2), (5, 12, 6), (2, 8, 10)],
    "depthwise": [(1, 1, 1, 1), (3, 2, 5, 1), (5, 7, 3, 2), (6, 4, 2, 2), (4, 5, 2, 1)],
    "conv3x3": [(1, 2, 4, 2), (4, 3, 8, 2), (2, 6, 4, 4), (5, 5, 4, 2)],
}
USUAL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [(64, 24, 96), (64, 96, 24), (33, 160, 40)],
    "depthwise": [(16, 16, 16, 1), (16, 16, 16, 2), (8, 8, 40, 1)],
    "conv3x3": [(16, 16, 4, 16), (8, 8, 16, 16), (7, 7, 32, 16)],
}
IN_FLASH = {"conv1x1": (3, 4), "depthwise": (5, 6), "conv3x3": (4, 5)}  # weights and channels
OUTPUT = {"conv1x1": 1, "depthwise": 0, "conv3x3": 1}  # among the arrays in SRAM


def drawn(cases: Cases, name: str) -> list[list[Any]]:
    """Arguments of every call of one check: small shapes with and without extremes, then usual."""
    small = [arguments(cases, name, shape, extreme) for shape in SMALL[name] for extreme in (0, 1)]
    return small + [arguments(cases, name, shape) for shape in USUAL[name]]


def arguments(cases: Cases, name: str, shape: tuple[int, ...], extreme: int = 0) -> list[Any]:
    """Arguments of one call: tensors and integers, in the order of the C function."""
    height, width, channels = (1, *shape[:2]) if name == "conv1x1" else shape[:3]
    outputs = channels if name == "depthwise" else shape[-1]
    taps = (channels,) if name == "conv1x1" else (3, 3, channels)
    weight = cases.randint(-127, 128, taps if name == "depthwise" else (outputs, *taps))
    x = cases.randint(-128, 128, (height, width, channels))
    zero_in, zero_out = (int(z) for z in cases.randint(-128, 128, (2,)))
    if extreme:  # the largest sums, and products that no 16-bit accumulator holds
        sign = 2 * int(cases.randint(0, 2)) - 1
        x, zero_in = torch.full_like(x, 127 if sign > 0 else -128), -128 if sign > 0 else 127
        weight = weight.abs().clamp(min=100)
    channel = _channels(cases, weight.numel() // outputs, outputs, zero_in)
    tables = [weight.to(torch.int8), channel, zero_in, zero_out]
    scratch = torch.zeros(scratch_halfwords(name, height, width, channels), dtype=torch.int16)
    data, out = x.to(torch.int8), torch.zeros(height, width, outputs, dtype=torch.int8)
    if name == "conv1x1":
        return [data[0], width, channels, *tables, out[0], outputs, scratch]
    if name == "depthwise":
        return [data, height, width, channels, shape[3], *tables, scratch]
    return [data, height, width, channels, *tables, out, outputs, scratch]


def scratch_halfwords(name: str, height: int, width: int, channels: int) -> int:
    """Scratch memory of one call as the lab's contracts have it; 0: it needs none."""
    needs = {
        "conv1x1": 2 * channels,
        "conv3x3": 3 * (width + 2) * channels,
        "depthwise": (height + 2) * (width + 4),
    }
    return needs.get(name, 0)


def _channels(cases: Cases, taps: int, outputs: int, zero: int) -> torch.Tensor:
    """bias, mantissa, shift of each output, so that most outputs are inside of int8."""
    spread = 5_500 * math.sqrt(taps) if zero not in (-128, 127) else 20_000 * taps
    bias = cases.randint(-4_000, 4_000, (outputs,))
    mantissa = cases.randint(2**30, 2**31 - 1, (outputs,))
    middle = round(math.log2(spread * 2**31 * 0.75 / 60))
    shift = middle + cases.randint(-1, 2, (outputs,))
    return torch.stack([bias, mantissa, shift.clamp(33, 55)], 1).int()


def in_memory(name: str, values: Sequence[Any]) -> list[Any]:
    """The arguments as ``run_firmware.calls`` takes them: constants lie in flash."""
    return [{"flash": a} if i in IN_FLASH[name] else a for i, a in enumerate(values)]


def output_fault(name: str, values: Sequence[Any], outputs: Sequence[Any]) -> str | None:
    """What is wrong with the arrays that a call with these arguments left in SRAM, or None."""
    arrays = [a for i, a in enumerate(values) if torch.is_tensor(a) and i not in IN_FLASH[name]]
    want = expected(name, values)
    got = outputs[OUTPUT[name]]
    if wrong := type_fault(got, torch.int8, tuple(arrays[OUTPUT[name]].shape)):
        return wrong
    got = got.flatten()[: want.numel()].reshape(want.shape)  # in place: it may be shorter
    shapes = tuple(a for a in values[1:5] if isinstance(a, int))
    if not torch.equal(got, want):
        place = tuple((got != want).nonzero()[0].tolist())
        return (
            f"{name}{shapes}: {int((got != want).sum())} of {want.numel()} outputs differ, "
            f"first at {place}: got {int(got[place])}, expected {int(want[place])}"
        )
    if name != "depthwise" and not torch.equal(outputs[0], arrays[0]):
        return f"{name}{shapes}: it changed its input, which others may still read"
    return None


def expected(name: str, values: Sequence[Any]) -> torch.Tensor:
    """Exact integers, as loops over the taps of the kernel."""
    x, weight, channel = [a.long() for a in values if torch.is_tensor(a)][:3]
    first = IN_FLASH[name][1] + 1
    zero_in, zero_out = values[first], values[first + 1]
    bias, mantissa, shift = channel.unbind(1)
    if name == "conv1x1":
        sums = (x - zero_in) @ weight.T
    else:
        stride = values[4] if name == "depthwise" else 1
        padded = functional.pad((x - zero_in).permute(2, 0, 1), (1, 1, 1, 1)).permute(1, 2, 0)
        height, width = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
        sums = torch.zeros(height, width, len(bias), dtype=torch.int64)
        for k in range(3):
            for m in range(3):
                seen = padded[k : k + stride * height : stride, m : m + stride * width : stride]
                seen = seen[:height, :width]
                sums += seen * weight[k, m] if name == "depthwise" else seen @ weight[:, k, m].T
    codes = ((sums + bias) * mantissa + (1 << (shift - 1))) >> shift
    return (codes + zero_out).clamp(-128, 127).to(torch.int8)
