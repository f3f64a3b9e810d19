"""Arguments of kernel calls: shapes at every corner of the contracts, with numbers of each kind.

The order of arguments is that of the C functions in ``codesign/kernels/int8_loops.c``. Scratch
memory and output hold secret bytes, as SRAM does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from autograder.contract.checking import Cases
from codesign import native

LOOPS = native.shipped("int8_loops")  # what the lab hands out

# Shapes: (pixels, channels, outputs), (height, width, channels, stride), (height, width, channels,
# outputs). Small ones for borders and for what is left over by tiles of 4, 8, 16 and 32; usual
# ones for cycles.
SMALL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [
        *((1, 4, 2), (5, 12, 6), (2, 8, 10), (3, 20, 2), (1, 28, 4), (4, 60, 2), (7, 4, 14)),
        *((2, 36, 6), (6, 16, 2), (9, 44, 2)),
    ],
    "depthwise": [
        *((1, 1, 1, 1), (1, 1, 2, 2), (3, 2, 5, 1), (5, 7, 3, 2), (6, 4, 2, 2), (4, 5, 2, 1)),
        *((1, 6, 3, 1), (7, 1, 2, 1), (1, 5, 4, 2), (6, 1, 1, 2), (1, 2, 1, 2), (2, 1, 3, 1)),
        *((3, 8, 20, 1), (2, 3, 28, 2), (5, 5, 7, 1), (3, 3, 6, 2), (4, 9, 1, 2)),
    ],
    "conv3x3": [
        *((1, 2, 4, 2), (4, 3, 8, 2), (2, 6, 4, 4), (5, 5, 4, 2), (3, 2, 20, 2), (1, 5, 28, 4)),
        *((2, 7, 4, 6), (7, 3, 12, 2), (1, 3, 4, 10), (6, 4, 16, 2)),
    ],
}
USUAL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [(64, 24, 96), (64, 96, 24), (33, 160, 40)],
    "depthwise": [(16, 16, 16, 1), (16, 16, 16, 2), (8, 8, 40, 1)],
    "conv3x3": [(16, 16, 4, 16), (8, 8, 16, 16), (7, 7, 32, 16)],
}
NUMBERS = ("usual", "extreme", "ties", "every shift")
IN_FLASH = {"conv1x1": (3, 4), "depthwise": (5, 6), "conv3x3": (4, 5)}  # weights and channels
LARGEST_BIAS = 2**30


def names(name: str) -> list[str]:
    """Names of a kernel's arguments, as the loops that the lab hands out have them."""
    given = re.search(rf"void {name}\((.*?)\)", LOOPS, re.DOTALL)
    assert given is not None
    return [text.split()[-1].lstrip("*") for text in given.group(1).split(",")]


def drawn(cases: Cases, name: str) -> list[list[Any]]:
    """Arguments of every call of one check: small shapes with numbers of each kind, then usual."""
    small = [arguments(cases, name, shape, kind) for shape in SMALL[name] for kind in NUMBERS]
    return small + [arguments(cases, name, shape) for shape in USUAL[name]]


def small_calls(name: str) -> int:
    """How many of the calls that :func:`drawn` makes are of small shapes."""
    return len(SMALL[name]) * len(NUMBERS)


def arguments(cases: Cases, name: str, shape: tuple[int, ...], numbers: str = "usual") -> list[Any]:
    """Arguments of one call: tensors and integers, in the order of the C function.

    Args:
        numbers: one of ``NUMBERS``. "extreme": the largest sums; "ties": small ones, many of them
            halfway between two codes; "every shift": 33 to 55, with biases up to 2^30.
    """
    height, width, channels = (1, *shape[:2]) if name == "conv1x1" else shape[:3]
    outputs = channels if name == "depthwise" else shape[-1]
    taps = (channels,) if name == "conv1x1" else (3, 3, channels)
    weight = cases.randint(-127, 128, taps if name == "depthwise" else (outputs, *taps))
    x = cases.randint(-128, 128, (height, width, channels))
    zero_in, zero_out = (int(z) for z in cases.randint(-128, 128, (2,)))
    if numbers == "extreme":  # no 16-bit accumulator holds them
        sign = 2 * int(cases.randint(0, 2)) - 1
        x, zero_in = torch.full_like(x, 127 if sign > 0 else -128), -128 if sign > 0 else 127
        weight = weight.abs().clamp(min=100)
    if numbers == "ties":
        zero_in, zero_out = zero_in // 2, zero_out // 4
        x, weight = zero_in + cases.randint(-3, 4, tuple(x.shape)), weight // 32
        seen = 1 if name == "conv1x1" else 2
        x[:seen, :seen] = zero_in  # the first output of each channel is its bias alone
    channel = _channels(cases, weight.numel() // outputs, outputs, numbers)
    tables = [weight.to(torch.int8), channel, zero_in, zero_out]
    scratch = _secret(cases, (scratch_halfwords(name, height, width, channels),), torch.int16)
    data, out = x.to(torch.int8), _secret(cases, (height, width, outputs), torch.int8)
    if name == "conv1x1":
        return [data[0], width, channels, *tables, out[0], outputs, scratch]
    if name == "depthwise":
        return [data, height, width, channels, shape[3], *tables, scratch]
    return [data, height, width, channels, *tables, out, outputs, scratch]


def _secret(cases: Cases, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """What a memory holds that nobody has written."""
    limits = torch.iinfo(dtype)
    return cases.randint(limits.min, limits.max + 1, shape).to(dtype)


def scratch_halfwords(name: str, height: int, width: int, channels: int) -> int:
    """Scratch memory of one call as the lab's contracts have it; 0: it needs none."""
    needs = {
        "conv1x1": 2 * channels,
        "conv3x3": 3 * (width + 2) * channels,
        "depthwise": (height + 2) * (width + 4),
    }
    return needs.get(name, 0)


def _channels(cases: Cases, taps: int, outputs: int, numbers: str) -> torch.Tensor:
    """bias, mantissa, shift of each output, so that most outputs are inside of int8."""
    mantissa = cases.randint(2**30, 2**31, (outputs,))
    if numbers == "ties":  # (sum * 2^30) >> shift: a sum of 4 modulo 8 lies halfway at shift 33
        bias, shift = cases.randint(-12, 13, (outputs,)), 33 + cases.randint(0, 3, (outputs,))
        mantissa[cases.randint(0, 2, (outputs,)) == 0] = 2**30
        for at, half in ((-1, 4), (0, -4)):  # both kinds of tie whatever is drawn: ±1/2
            bias[at], mantissa[at], shift[at] = half, 2**30, 33
        return torch.stack([bias, mantissa, shift], 1).int()
    if numbers == "every shift":
        return _every_shift(cases, mantissa)
    spread = 20_000 * taps if numbers == "extreme" else 5_500 * math.sqrt(taps)
    bias = cases.randint(-4_000, 4_000, (outputs,))
    middle = round(math.log2(spread * 2**31 * 0.75 / 60))
    shift = middle + cases.randint(-1, 2, (outputs,))
    return torch.stack([bias, mantissa, shift.clamp(33, 55)], 1).int()


def _every_shift(cases: Cases, mantissa: torch.Tensor) -> torch.Tensor:
    """Shifts at both ends and between, and the biases that they are for; the first is the largest.

    A bias of 2^(shift - 25) is a code of 32 to 64.
    """
    outputs = len(mantissa)
    shift = cases.randint(33, 56, (outputs,))
    shift[0], shift[-1] = (33, 55) if cases.randint(0, 2) else (55, 33)
    most = (2.0 ** (shift - 24).double()).clamp(max=LARGEST_BIAS).long()
    bias = (torch.rand(outputs, generator=cases.generator).double() * 2 - 1) * most
    bias[0] = LARGEST_BIAS * (1 if cases.randint(0, 2) else -1)
    mantissa[-1] = 2**31 - 1 if cases.randint(0, 2) else 2**30
    return torch.stack([bias.long(), mantissa, shift], 1).int()


def in_memory(name: str, values: Sequence[Any]) -> list[Any]:
    """The arguments as ``run_firmware.calls`` takes them: constants lie in flash."""
    return [{"flash": a} if i in IN_FLASH[name] else a for i, a in enumerate(values)]


def after(name: str, values: Sequence[Any], earlier: Sequence[Any]) -> dict[str, Any]:
    """A call straight after one with the arguments ``earlier``: in the same scratch memory.

    ``arguments`` and ``before`` of ``run_firmware.calls``; the memory is enough for both calls.
    """
    given, before = in_memory(name, values), in_memory(name, earlier)
    lacking = len(before[-1]) - len(given[-1])
    given[-1] = torch.cat([given[-1], given[-1].new_zeros(max(lacking, 0))])
    before[-1] = {"same": len(given) - 1}
    return {"arguments": given, "before": before}
