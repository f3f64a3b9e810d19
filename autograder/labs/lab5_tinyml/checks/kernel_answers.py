"""What a kernel call must give, from exact integers, and what is wrong with what one gave.

Expected outputs come from int64 tensors, one tap of the kernel at a time; the requantization is the
formula of the lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from autograder.contract.rows import type_fault
from autograder.labs.lab5_tinyml.checks.kernel_cases import IN_FLASH

OUTPUT = {"conv1x1": 1, "depthwise": 0, "conv3x3": 1}  # among the arrays in SRAM
SHAPE = {
    "conv1x1": ("pixels", "channels"),
    "depthwise": ("height", "width", "channels", "stride"),
    "conv3x3": ("height", "width", "channels"),
}


def output_fault(name: str, values: Sequence[Any], outputs: Sequence[Any]) -> str | None:
    """What is wrong with the arrays that a call with these arguments left in SRAM, or None."""
    arrays = [a for i, a in enumerate(values) if torch.is_tensor(a) and i not in IN_FLASH[name]]
    want = expected(name, values)
    got = outputs[OUTPUT[name]]
    if wrong := type_fault(got, torch.int8, tuple(arrays[OUTPUT[name]].shape)):
        return wrong
    got = got.flatten()[: want.numel()].reshape(want.shape)  # in place: it may be shorter
    if not torch.equal(got, want):
        place = tuple((got != want).nonzero()[0].tolist())
        return (
            f"{described(name, values)}: {int((got != want).sum())} of {want.numel()} outputs "
            f"differ, first at {place}: got {int(got[place])}, expected {int(want[place])}"
        )
    if name != "depthwise" and not torch.equal(outputs[0], arrays[0]):
        return f"{described(name, values)}: it changed its input, which others may still read"
    return None


def described(name: str, values: Sequence[Any]) -> str:
    """A call for people: the kernel's name and its shape."""
    sizes = [a for a in values[1:5] if isinstance(a, int)]
    text = [f"{what} {size}" for what, size in zip(SHAPE[name], sizes, strict=False)]
    outputs = [] if name == "depthwise" else [f"outputs {values[-2]}"]
    return f"{name}, {', '.join([*text, *outputs])}"


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
