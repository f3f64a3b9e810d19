"""Run a quantized VGG in integers alone: the judge's executor for the networks of Lab 2.

What was handed in are integers; this module checks that they are, then computes what the lab's text
defines: codes of the image, int32 sums of products, fixed-point requantization (rounding half up),
max pools and the mean on codes, and the classifier's sums as logits. Products are computed by
floating-point convolutions, which are exact here: the largest possible sum is bounded beforehand
(below 2^24 in float32, else 2^53 in float64).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from codesign.datasets import ImageSet, normalize

BATCH = 100
MAX_SUM = 2**31 - 1  # of an int32 accumulator


@dataclass(frozen=True)
class Layer:
    """Integers of one layer; ``mantissa`` and ``shift`` are empty in the classifier."""

    weight: torch.Tensor
    bias: torch.Tensor
    mantissa: torch.Tensor
    shift: torch.Tensor
    zero_point: int


class IntegerVGG:
    """The VGG of ``channels``, from the tensors that were handed in.

    Args:
        tensors: ``input.scale`` float32 and ``input.zero_point`` int32 ``[1]``; of every
            convolution ``weight``, ``bias`` int32 ``[C]``, ``mantissa`` int32 ``[C]`` from 2^30,
            ``shift`` int8 ``[C]`` from 1 to 62, ``zero_point`` int32 ``[1]``; of the classifier
            ``weight`` and ``bias``. Weights are int8 in their shape; at 4 bits they are packed into
            uint8, two codes a byte, the first in the low half.
        channels: as in the config of :class:`codesign.models.VGG`.
        bits: of weights and of activations other than the image, 4 or 8.

    Raises:
        ValueError: a tensor is missing, of another type or shape, or out of range; says which.
    """

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], channels: list[int | str], bits: int = 8
    ) -> None:
        if bits not in (4, 8):
            raise ValueError(f"got {bits} bits; allowed: 4 and 8")
        self.bits, self.low, self.high = bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self._tensors, self._taken = tensors, set[str]()
        self.scale = float(self._take("input.scale", torch.float32, (1,)))
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"input.scale: got {self.scale}, expected a positive finite number")
        self.zero_point = self._zero_point("input", -128, 127)
        self.plan: list[Layer | None] = []  # None: a pool
        width, index, zero, low, high = 3, 0, self.zero_point, -128, 127
        for item in channels:
            if isinstance(item, str):
                self.plan.append(None)
                continue
            layer = self._convolution(f"conv{index}", (item, width, 3, 3))
            _require_no_overflow(f"conv{index}", layer, zero, low, high)
            self.plan.append(layer)
            width, index, zero, low, high = item, index + 1, layer.zero_point, self.low, self.high
        self.classifier = self._affine("classifier", (10, width))
        _require_no_overflow("classifier", self.classifier, zero, low, high)
        if unknown := sorted(tensors.keys() - self._taken):
            raise ValueError(f"got tensors {unknown[:5]} that no layer of the network has")

    def _take(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        if name not in self._tensors:
            raise ValueError(f"{name} is missing; got {sorted(self._tensors)[:50]}")
        tensor = self._tensors[name]
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name}: got {tensor.dtype} {tuple(tensor.shape)}, expected {dtype} {shape}"
            )
        self._taken.add(name)
        return tensor

    def _ranged(
        self, name: str, dtype: torch.dtype, shape: tuple[int, ...], low: int, high: int
    ) -> torch.Tensor:
        tensor = self._take(name, dtype, shape)
        return _require_range(name, tensor.long(), low, high)

    def _zero_point(self, name: str, low: int, high: int) -> int:
        return int(self._ranged(f"{name}.zero_point", torch.int32, (1,), low, high))

    def _weight(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if self.bits == 4:
            count = torch.Size(shape).numel()
            codes = unpacked(self._take(name, torch.uint8, ((count + 1) // 2,)), shape)
        else:
            codes = self._take(name, torch.int8, shape).long()
        return _require_range(name, codes, -self.high, self.high)

    def _affine(self, name: str, shape: tuple[int, ...]) -> Layer:
        bias = self._take(f"{name}.bias", torch.int32, shape[:1]).long()
        none = torch.empty(0, dtype=torch.int64)
        return Layer(self._weight(f"{name}.weight", shape), bias, none, none, 0)

    def _convolution(self, name: str, shape: tuple[int, ...]) -> Layer:
        layer = self._affine(name, shape)
        mantissa = self._ranged(f"{name}.mantissa", torch.int32, shape[:1], 2**30, 2**31 - 1)
        shift = self._ranged(f"{name}.shift", torch.int8, shape[:1], 1, 62)
        zero_point = self._zero_point(name, self.low, self.high)
        return Layer(layer.weight, layer.bias, mantissa, shift, zero_point)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """int64 ``[N, 10]`` of uint8 images ``[N, 3, H, W]``: the classifier's accumulators."""
        codes = (normalize(images).double() / self.scale).round() + self.zero_point
        codes, zero, largest = codes.clamp(-128, 127), self.zero_point, 255
        for layer in self.plan:
            if layer is None:
                codes = functional.max_pool2d(codes, 2)
                continue
            sums = _sums(codes, zero, layer, largest)
            codes = self._requantized(sums, layer)
            zero, largest = layer.zero_point, 2**self.bits - 1
        pixels = codes.shape[2] * codes.shape[3]
        totals = codes.sum((2, 3)).long()
        codes = torch.div(2 * totals + pixels, 2 * pixels, rounding_mode="floor")
        return _sums(codes, zero, self.classifier, largest)

    def _requantized(self, sums: torch.Tensor, layer: Layer) -> torch.Tensor:
        """Codes of the output, ReLU included, as float for the next convolution."""
        shape = (1, -1, 1, 1)
        half = (torch.ones_like(layer.shift) << (layer.shift - 1)).reshape(shape)
        sums.mul_(layer.mantissa.reshape(shape)).add_(half)
        sums.bitwise_right_shift_(layer.shift.reshape(shape)).add_(layer.zero_point)
        return sums.clamp_(layer.zero_point, self.high).float()

    @torch.inference_mode()
    def accuracy(self, data: ImageSet) -> float:
        """Top-1 accuracy on ``data``, in 0..1; of equal logits the first counts."""
        correct = 0
        for start in range(0, len(data), BATCH):
            found = self.logits(data.images[start : start + BATCH]).argmax(1)
            correct += int((found == data.labels[start : start + BATCH]).sum())
        return correct / len(data)


def unpacked(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Codes int64 from -8 to 7 of ``packed`` uint8: two a byte, the first in the low half."""
    halves = packed.long()
    codes = torch.stack([halves & 15, halves >> 4], 1).flatten()[: torch.Size(shape).numel()]
    return torch.where(codes > 7, codes - 16, codes).reshape(shape)


def _sums(codes: torch.Tensor, zero: int, layer: Layer, largest: int) -> torch.Tensor:
    """Accumulators int64 of a convolution (padding 1, with the zero point) or a linear layer."""
    exact = torch.float32 if _largest_sum(layer, largest) < 2**24 else torch.float64
    shifted, weight = (codes - zero).to(exact), layer.weight.to(exact)
    if layer.weight.ndim == 2:
        return (shifted @ weight.T).long() + layer.bias
    shifted = shifted.contiguous(memory_format=torch.channels_last)
    with torch.backends.nnpack.flags(enabled=False):  # it transforms, and so rounds
        sums = functional.conv2d(shifted, weight, padding=1)
    return sums.long() + layer.bias[:, None, None]


def _largest_sum(layer: Layer, largest: int) -> int:
    return int(layer.weight.abs().flatten(1).sum(1).max()) * largest


def _require_no_overflow(name: str, layer: Layer, zero: int, low: int, high: int) -> None:
    """Refuse what an int32 accumulator might not hold, whatever the image."""
    reach = max(zero - low, high - zero)
    most = int((layer.weight.abs().flatten(1).sum(1) * reach + layer.bias.abs()).max())
    if most > MAX_SUM:
        raise ValueError(f"{name}: sums may reach {most:,}, more than an int32 holds")


def _require_range(name: str, values: torch.Tensor, low: int, high: int) -> torch.Tensor:
    if values.numel() and (int(values.min()) < low or int(values.max()) > high):
        raise ValueError(
            f"{name}: got values from {int(values.min())} to {int(values.max())}, "
            f"expected {low} to {high}"
        )
    return values
