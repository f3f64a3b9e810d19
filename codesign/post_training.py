"""Post-training quantization: make an int8 network of a trained float one, without training.

The graph is traced, batch norm is folded, a ReLU becomes the clamp of an integer, and the values
of some images set the range of every activation (Lectures 5 and 6). Left out: max pooling, other
bit widths, and what Lab 2 asks for beyond it. Used in Lectures 10 and 11 and by the judge.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from codesign.datasets import normalize
from codesign.int8 import Kind, Network, Operator, Tensor

LEAST_SHIFT, MOST_SHIFT = 33, 62  # of a requantization: the high word of a product is enough
MOST_MULTIPLIER = 0.249  # so that the shift is at least 33
LEAST_MULTIPLIER = 2.0**-20  # of a channel; one whose weights are smaller is its bias alone
MOST_BIAS = 2**30  # saturates even the least multiplier, and leaves room for the products
COVERED = 0.9999  # of the values of an activation
ADD_SHIFT = 22  # at most, so that also zero points fit
ADD_RATIO = 2**10  # at most, of the scales of an input and the sum: so the shift stays above 0
ADD_BITS = 21  # of the two multipliers of an addition: 255 of them fit into an int32


def quantize(model: nn.Module, images: torch.Tensor) -> Network:
    """Post-training quantization of a ResNet-8 or MobileNet.

    Args:
        images: uint8 ``[N, 3, H, W]``; they set the range of every activation, which covers
            99.99 % of its values.

    Raises:
        ValueError: the network has a layer that integers are not taught for here.
    """
    return _Lowering(model.eval(), images).network()


class _Lowering:
    """Walks the traced network; a convolution takes its batch norm and ReLU with it."""

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        self.graph = fx.symbolic_trace(model)
        self.values = _recorded(self.graph, normalize(images))
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.named: dict[fx.Node, str] = {}  # the tensor in which a node's value lies

    def network(self) -> Network:
        for node in self.graph.graph.nodes:
            if node.op == "output" or node in self.named:
                continue
            if node.op == "placeholder":
                self._tensor(node, node, "image")
            elif _is_call(node, "add"):
                self._add(node)
            elif _is_call(node, "mean"):
                self._mean(node)
            else:
                self._module(node)
        return Network(self.tensors, self.operators)

    def _module(self, node: fx.Node) -> None:
        module = self.graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Identity):
            self.named[node] = self.named[node.all_input_nodes[0]]
        elif isinstance(module, nn.Conv2d):
            self._convolution(node, module)
        elif isinstance(module, nn.Linear):
            self._linear(node, module)
        else:
            raise ValueError(
                f"got {node.target} ({type(module).__name__}); allowed: Conv2d with BatchNorm2d "
                "and ReLU, additions, the mean of all positions, Linear"
            )

    def _convolution(self, node: fx.Node, layer: nn.Conv2d) -> None:
        weight, bias = layer.weight.detach(), _bias(layer)
        last = node
        norm = self._follower(node)
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            last = next(iter(node.users))
            gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
            weight = weight * gain[:, None, None, None]
            bias = (norm.bias + (bias - norm.running_mean) * gain).detach()
        _require_plain(str(node.target), layer)
        depthwise = layer.groups > 1
        last = self._after_relu(last)
        codes = weight[:, 0].permute(1, 2, 0) if depthwise else weight.permute(0, 2, 3, 1)
        self._weighted(
            "depthwise" if depthwise else "conv", node, last, codes, bias,
            channel=2 if depthwise else 0, stride=layer.stride[0], padding=int(layer.padding[0]),
        )  # fmt: skip

    def _weighted(
        self, kind: Kind, node: fx.Node, last: fx.Node, weight: torch.Tensor, bias: torch.Tensor,
        channel: int, stride: int, padding: int,
    ) -> None:  # fmt: skip
        source = self.tensors[self.named[node.all_input_nodes[0]]]
        others = [axis for axis in range(weight.ndim) if axis != channel]
        scale = (weight.abs().amax(others) / 127).double()
        least = source.scale * float(scale.max()) / MOST_MULTIPLIER
        output = self._tensor(last, node, str(node.target), least)
        scale = scale.clamp(min=LEAST_MULTIPLIER * output.scale / source.scale)
        shape = [-1 if axis == channel else 1 for axis in range(weight.ndim)]
        codes = (weight / scale.reshape(shape)).round().to(torch.int8)
        mantissa, shift = fixed_point((source.scale * scale).numpy() / output.scale)
        self.operators.append(
            Operator(
                kind=kind,
                inputs=(source.name,),
                output=output.name,
                weight=codes.contiguous().numpy(),
                bias=_int32(bias.double() / (source.scale * scale)),
                mantissa=mantissa,
                shift=shift,
                stride=stride,
                padding=padding,
            )
        )

    def _linear(self, node: fx.Node, layer: nn.Linear) -> None:
        """The last layer: one scale for all classes, its sums are the logits."""
        source = self.tensors[self.named[node.all_input_nodes[0]]]
        if any(user.op != "output" for user in node.users):
            raise ValueError(
                f"got {node.target} (Linear) inside of the network; allowed: at its end"
            )
        scale = max(float(layer.weight.detach().abs().max()) / 127, 1e-9)
        codes = (layer.weight.detach() / scale).round().to(torch.int8).numpy()
        name, classes = str(node.target), layer.out_features
        self.tensors[name] = Tensor(name, (1, 1, classes), source.scale * scale, 0, 4)
        self.named[node] = name
        none = np.empty(0, np.int32)
        bias = _int32(_bias(layer).double() / (source.scale * scale))
        self.operators.append(
            Operator(
                kind="linear",
                inputs=(source.name,),
                output=name,
                weight=codes,
                bias=bias,
                mantissa=none,
                shift=none.astype(np.int8),
            )
        )

    def _add(self, node: fx.Node) -> None:
        sources = [self.tensors[self.named[x]] for x in node.all_input_nodes]
        if len(sources) != 2 or sources[0].shape != sources[1].shape:
            shapes = [source.shape for source in sources]
            raise ValueError(f"got an addition of {shapes}; allowed: of two tensors of one shape")
        least = max(source.scale for source in sources) / ADD_RATIO
        output = self._tensor(self._after_relu(node), node, node.name, least)
        ratios = np.array([source.scale / output.scale for source in sources])
        shift = min(ADD_BITS - math.frexp(ratios.max())[1], ADD_SHIFT)
        mantissa = np.round(ratios * 2.0**shift).astype(np.int32)
        names = tuple(source.name for source in sources)
        none = np.empty(0, np.int8)
        shifts = np.array([shift], np.int8)
        self.operators.append(
            Operator(
                kind="add",
                inputs=names,
                output=output.name,
                weight=none,
                bias=none.astype(np.int32),
                mantissa=mantissa,
                shift=shifts,
            )
        )

    def _mean(self, node: fx.Node) -> None:
        source = self.tensors[self.named[node.all_input_nodes[0]]]
        if self.values[node][2] != source.shape[2:]:
            raise ValueError(
                f"got {node.name} of {node.args[1:]}; allowed: the mean of dimensions 2, 3"
            )
        pixels = source.shape[0] * source.shape[1]
        least = source.scale / pixels / MOST_MULTIPLIER
        output = self._tensor(node, node, node.name, least)
        mantissa, shift = fixed_point(np.array([source.scale / pixels / output.scale]))
        none = np.empty(0, np.int8)
        self.operators.append(
            Operator(
                kind="mean",
                inputs=(source.name,),
                output=output.name,
                weight=none,
                bias=none.astype(np.int32),
                mantissa=mantissa,
                shift=shift,
            )
        )

    def _follower(self, node: fx.Node) -> nn.Module | None:
        """The module that alone reads this node."""
        users = list(node.users)
        if len(users) != 1 or users[0].op != "call_module":
            return None
        return self.graph.get_submodule(str(users[0].target))

    def _after_relu(self, node: fx.Node) -> fx.Node:
        """The ReLU that alone reads this node, or the node."""
        users = list(node.users)
        is_relu = len(users) == 1 and (
            isinstance(self._follower(node), nn.ReLU) or _is_call(users[0], "relu")
        )
        return users[0] if is_relu else node

    def _tensor(self, node: fx.Node, first: fx.Node, name: str, least: float = 0.0) -> Tensor:
        """The tensor of ``node``, its scale from the recorded values; ``first`` to it lie there."""
        value = self.values[node]
        low, high = (min(0.0, value[0]), max(0.0, value[1]))
        scale = max((high - low) / 255, least, 1e-9)
        zero = round(max(-128.0, min(127.0, -128 - low / scale)))
        channels, *size = value[2]
        height, width = size or (1, 1)
        tensor = Tensor(name, (height, width, channels), scale, zero)
        self.tensors[name] = tensor
        step: fx.Node = node
        while True:  # batch norm and ReLU write no tensors of their own
            self.named[step] = name
            if step is first:
                return tensor
            step = step.all_input_nodes[0]


def _recorded(graph: fx.GraphModule, x: torch.Tensor) -> dict[fx.Node, Any]:
    """(low, high, shape without batch) of every node's value."""
    found: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                rest = int(value.numel() * (1 - COVERED) / 2)
                ends = np.partition(value.numpy().ravel(), [rest, -1 - rest])[[rest, -1 - rest]]
                found[n] = (float(ends[0]), float(ends[1]), tuple(value.shape[1:]))
            return value

    with torch.inference_mode():
        Recorder(graph).run(x)
    return found


def fixed_point(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mantissa int32 from 2^30 and shift int8 with multiplier = mantissa · 2^-shift.

    Raises:
        ValueError: a multiplier that needs a shift outside of 33 to 62.
    """
    fraction, exponent = np.frexp(np.asarray(multiplier, np.float64))
    mantissa = np.round(fraction * 2.0**31).astype(np.int64)
    full = mantissa == 2**31
    mantissa, exponent = np.where(full, 2**30, mantissa), exponent + full
    shift = 31 - exponent
    if multiplier.size and not LEAST_SHIFT <= shift.min() <= shift.max() <= MOST_SHIFT:
        raise ValueError(
            f"got multipliers from {multiplier.min():g} to {multiplier.max():g}; allowed: "
            f"2^-{MOST_SHIFT - 30} to below 1/4"
        )
    return mantissa.astype(np.int32), shift.astype(np.int8)


def _require_plain(name: str, layer: nn.Conv2d) -> None:
    """Refuse a convolution that :class:`codesign.int8.Operator` does not describe."""
    groups = layer.groups in (1, layer.in_channels)
    if not groups or (layer.groups > 1 and layer.out_channels != layer.in_channels):
        raise ValueError(f"{name}: got {layer.groups} groups of {layer.in_channels} channels into "
                         f"{layer.out_channels}; allowed: 1, or one for each channel")  # fmt: skip
    (size, other), pads = layer.kernel_size, layer.padding
    square = size == other and layer.stride[0] == layer.stride[1] and layer.dilation == (1, 1)
    if (
        not square
        or layer.padding_mode != "zeros"
        or pads not in [(n, n) for n in range(size // 2 + 1)]
    ):
        raise ValueError(f"{name}: got {layer}; allowed: square kernels and strides, no dilation, "
                         "zeros around it, up to half of the kernel")  # fmt: skip


def _bias(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    size = layer.weight.shape[0]
    return torch.zeros(size) if layer.bias is None else layer.bias.detach()


def _int32(values: torch.Tensor) -> np.ndarray:
    return values.round().clamp(-MOST_BIAS, MOST_BIAS).to(torch.int32).numpy()


def _is_call(node: fx.Node, name: str) -> bool:
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and target == name
