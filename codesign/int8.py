"""Int8 networks and their exact reference executor: the answer a microcontroller has to give.

The scheme is that of Lectures 5 and 6: int8 activations with a zero point, int8 weights symmetric
for each output channel, int32 sums, fixed-point requantization. Tensors lie as height, width,
channel. ``post_training.quantize`` makes such a network; ``Network.logits`` computes it with
integers alone. Left out: other bit widths, max pooling. Used by the inference engine
(``hardware.engine``), Lectures 10 and 11, and the judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from codesign.datasets import ImageSet, normalize

Kind = Literal["conv", "depthwise", "add", "mean", "linear"]
BATCH = 25  # images at a time: the int64 values of more are several times as slow, by page faults


@dataclass(frozen=True)
class Tensor:
    """Activations of one image, ``shape`` (height, width, channels); x = scale · (q - zero_point).

    The logits are int32, everything else int8.
    """

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    bytes_each: int = 1

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.bytes_each


@dataclass(frozen=True, eq=False)
class Operator:
    """One step of the network.

    Args:
        inputs, output: names of tensors.
        weight: int8 ``[O, K, K, I]`` (conv), ``[K, K, C]`` (depthwise), ``[O, I]`` (linear), else
            empty.
        bias: int32 ``[O]``, added to the sum of (q - Z) · weight.
        mantissa, shift: int32 and int8 ``[O]``, the output is
            ``clamp(((sum · mantissa + 2^(shift - 1)) >> shift) + Z, -128, 127)``. After a ReLU Z is
            -128, so that the clamp is the ReLU. Of an addition two mantissas, one for each input,
            and one shift; of a mean one of each. Of the last layer none: its sums are the logits.
        stride, padding: of the kernel, padded with the input's zero point.
    """

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    weight: np.ndarray
    bias: np.ndarray
    mantissa: np.ndarray
    shift: np.ndarray
    stride: int = 1
    padding: int = 0

    @property
    def weight_bytes(self) -> int:
        """Constants that have to lie in flash."""
        arrays = (self.weight, self.bias, self.mantissa, self.shift)
        return sum(array.nbytes for array in arrays)


class Network:
    """Operators in the order in which they run; the first tensor is the image."""

    def __init__(self, tensors: Mapping[str, Tensor], operators: Sequence[Operator]) -> None:
        self.tensors, self.operators = dict(tensors), list(operators)

    @property
    def input(self) -> Tensor:
        return self.tensors[self.operators[0].inputs[0]]

    @property
    def output(self) -> Tensor:
        return self.tensors[self.operators[-1].output]

    def macs(self, operator: Operator) -> int:
        """Products of codes that one operator sums; 0 for additions and means."""
        height, width, channels = self.tensors[operator.output].shape
        if operator.kind == "depthwise":
            return height * width * operator.weight.size
        return height * width * channels * operator.weight[0].size if operator.weight.size else 0

    def addition_offset(self, operator: Operator) -> int:
        """Zero points and rounding of an addition in one number.

        Its output is ``(a · mantissa[0] + b · mantissa[1] + offset) >> shift``, clamped.
        """
        shift = int(operator.shift[0])
        offset = (self.tensors[operator.output].zero_point << shift) + (1 << (shift - 1))
        zeros = (self.tensors[name].zero_point for name in operator.inputs)
        return offset - sum(z * m for z, m in zip(zeros, operator.mantissa.tolist(), strict=True))

    def codes(self, images: torch.Tensor) -> np.ndarray:
        """int8 ``[N, H, W, 3]`` of uint8 images ``[N, 3, H, W]``: what the device gets."""
        return self._quantized(images).permute(0, 2, 3, 1).to(torch.int8).contiguous().numpy()

    def _quantized(self, images: torch.Tensor) -> torch.Tensor:
        exact = normalize(images).double() / self.input.scale
        return (exact.round() + self.input.zero_point).clamp(-128, 127)

    @torch.inference_mode()
    def values(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every tensor by name, int64 ``[N, C, H, W]``, of uint8 images ``[N, 3, H, W]``."""
        found = {self.input.name: self._quantized(images).long()}
        for operator in self.operators:
            inputs = [found[name] for name in operator.inputs]
            zeros = [self.tensors[name].zero_point for name in operator.inputs]
            found[operator.output] = execute(
                operator, inputs, zeros, self.tensors[operator.output].zero_point
            )
        return found

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """int32 ``[N, classes]``: the last layer's sums."""
        parts = [self.values(part)[self.output.name] for part in images.split(BATCH)]
        return torch.cat(parts).flatten(1).int()

    def accuracy(self, data: ImageSet) -> float:
        """Top-1 accuracy in 0..1; of equal logits the first counts."""
        return float((self.logits(data.images).argmax(1) == data.labels).double().mean())


def execute(
    operator: Operator, inputs: Sequence[torch.Tensor], zeros: Sequence[int], zero_out: int
) -> torch.Tensor:
    """One operator on integers.

    Args:
        inputs: codes int64 ``[N, C, H, W]``.
        zeros: zero points of the inputs.

    Returns:
        int64 codes, or the sums of the last layer.
    """
    mantissa, shift = (
        torch.from_numpy(array).long().reshape(1, -1, 1, 1)
        for array in (operator.mantissa, operator.shift)
    )
    if operator.kind == "add":
        pairs = zip(inputs, zeros, mantissa.flatten(), strict=True)
        sums = torch.stack([(x - zero) * m for x, zero, m in pairs]).sum(0)
        return _shifted(sums, shift, zero_out)
    sums = _sums(operator, inputs[0], zeros[0])
    if not operator.mantissa.size:
        return sums
    return _shifted(sums * mantissa, shift, zero_out)


def _shifted(sums: torch.Tensor, shift: torch.Tensor, zero: int) -> torch.Tensor:
    half = torch.ones_like(shift) << (shift - 1)
    return (((sums + half) >> shift) + zero).clamp(-128, 127)


def _sums(operator: Operator, x: torch.Tensor, zero: int) -> torch.Tensor:
    """int64 sums of products, in floating point where that is exact: below 2^24, or 2^53.

    NNPACK, which torch takes for batches on machines without oneDNN, transforms (Winograd, FFT) and
    rounds; so it is switched off.
    """
    if operator.kind == "mean":
        return (x - zero).sum((2, 3), keepdim=True)
    axis = (0, 1) if operator.kind == "depthwise" else tuple(range(1, operator.weight.ndim))
    largest = 255 * int(np.abs(operator.weight.astype(np.int64)).sum(axis).max())
    exact = torch.float32 if largest < 2**24 else torch.float64
    shifted = (x - zero).to(exact).contiguous(memory_format=torch.channels_last)
    weight = torch.from_numpy(operator.weight).to(exact)
    if operator.kind == "depthwise":
        weight, groups = weight.permute(2, 0, 1)[:, None], x.shape[1]
    else:
        weight = weight[:, None, None] if operator.kind == "linear" else weight
        weight, groups = weight.permute(0, 3, 1, 2), 1
    with torch.backends.nnpack.flags(enabled=False):
        sums = functional.conv2d(
            shifted, weight, stride=operator.stride, padding=operator.padding, groups=groups
        )
    return sums.long() + torch.from_numpy(operator.bias).long()[:, None, None]
