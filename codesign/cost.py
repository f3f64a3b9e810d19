"""Counted cost: parameters, nonzeros, MACs, peak activation memory, serialized bytes.

Nothing here is timed (:mod:`codesign.measure` does that) and nothing is estimated: every figure is
a count that can be repeated by hand. A MAC is one multiply and one add; zeros are counted as work,
because dense kernels do them. Bytes include what a format needs to be decoded: indices, codebooks,
metadata. Leaves out cache effects and code size. Taught in Lecture 3.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

INPUT_SHAPE = (1, 3, 32, 32)
WEIGHTED = (nn.Conv2d, nn.Linear)
IN_PLACE_MODULES = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Identity, nn.Dropout)
IN_PLACE_FUNCTIONS = (torch.relu, nn.functional.relu, operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer at batch 1."""

    name: str
    params: int
    nonzeros: int
    macs: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def sparsity(self) -> float:
        """Zeros / size of the layer's parameters."""
        return 1 - self.nonzeros / self.params


def weighted_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Every convolution and linear layer by its dotted name, in definition order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, WEIGHTED)}


def parameters(model: nn.Module) -> int:
    """Number of parameters, biases and batch-norm scales included."""
    return sum(p.numel() for p in model.parameters())


def nonzeros(tensor: torch.Tensor | nn.Module) -> int:
    """Number of entries that are not exactly 0 (in all parameters, for a model)."""
    if isinstance(tensor, nn.Module):
        return sum(nonzeros(p) for p in tensor.parameters())
    return int(torch.count_nonzero(tensor))


def sparsity(tensor: torch.Tensor | nn.Module) -> float:
    """Zeros / size; of a model: over the weights of its convolutions and linear layers.

    A tiny weight is no zero: only exact zeros can be left out of a file or a product.
    """
    if isinstance(tensor, nn.Module):
        weights = [layer.weight for layer in weighted_layers(tensor).values()]
        return 1 - sum(map(nonzeros, weights)) / sum(w.numel() for w in weights)
    return 1 - nonzeros(tensor) / tensor.numel()


def layers(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> list[LayerCost]:
    """The cost of every convolution and linear layer, found by running one zero input."""
    found: list[LayerCost] = []

    def record(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            own = list(layer.parameters(recurse=False))
            params, kept = sum(p.numel() for p in own), sum(map(nonzeros, own))
            shapes = tuple(inputs[0].shape), tuple(output.shape)
            found.append(LayerCost(name, params, kept, layer_macs(layer, output), *shapes))

        return hook

    handles = [m.register_forward_hook(record(n)) for n, m in weighted_layers(model).items()]
    try:
        _run(model, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return found


def layer_macs(layer: nn.Module, output: torch.Tensor) -> int:
    """MACs of one layer: each output element sums (C_in / groups)·k_h·k_w, or C_in, products."""
    if isinstance(layer, nn.Conv2d):
        per_output = layer.weight[0].numel()
    elif isinstance(layer, nn.Linear):
        per_output = layer.in_features
    else:
        raise ValueError(f"got {type(layer).__name__}; allowed: Conv2d, Linear")
    return output.numel() * per_output


def macs(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> int:
    """MACs of convolutions and linear layers for one input of ``input_shape``."""
    return sum(layer.macs for layer in layers(model, input_shape))


def activation_peak(
    model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE, bits: int = 32
) -> int:
    """Peak bytes of activations alive at once, running operators in the model's own order.

    A tensor lives from the operator that writes it to the last one that reads it. Batch norm,
    ReLU and additions overwrite an input that nobody reads later, as every inference engine does.
    """
    graph = fx.symbolic_trace(model.eval())
    with torch.inference_mode():
        ShapeProp(graph).propagate(torch.zeros(input_shape))
    nodes = [n for n in graph.graph.nodes if n.op != "output" and "tensor_meta" in n.meta]
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    last = {n: max((order[user] for user in n.users), default=order[n]) for n in nodes}
    live: dict[fx.Node, int] = {}
    peak = 0
    for node in nodes:
        now = order[node]
        dying = [n for n in live if last[n] == now]
        if _in_place(graph, node) and any(n in dying for n in node.all_input_nodes):
            live.pop(next(n for n in node.all_input_nodes if n in dying))
        live[node] = node.meta["tensor_meta"].shape.numel() * bits // 8
        peak = max(peak, sum(live.values()))
        live = {n: size for n, size in live.items() if last[n] > now}
    return peak


def _in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), IN_PLACE_MODULES)
    return node.op == "call_function" and node.target in IN_PLACE_FUNCTIONS


def _run(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    was_training = model.training
    with torch.inference_mode():
        model.eval()(torch.zeros(input_shape))
    model.train(was_training)


# --- serialized bytes ----------------------------------------------------------------------------


def model_bytes(model: nn.Module, bits: int = 32) -> int:
    """Bytes of every parameter and floating buffer at ``bits`` each: what inference has to load."""
    state = (v for v in model.state_dict().values() if v.is_floating_point())
    return (sum(v.numel() for v in state) * bits + 7) // 8


def csr_bytes(weight: torch.Tensor, value_bits: int = 32, index_bits: int = 32) -> int:
    """Bytes of compressed sparse rows: values, column indices, row pointers.

    Args:
        weight: ``[rows, …]``; trailing dimensions are flattened into columns.
    """
    rows, kept = weight.shape[0], nonzeros(weight)
    return (kept * (value_bits + index_bits) + (rows + 1) * index_bits + 7) // 8


def relative_index_bytes(weight: torch.Tensor, value_bits: int = 32, index_bits: int = 4) -> int:
    """Bytes of Deep Compression's relative index (Han et al. 2016, section 2).

    Each nonzero stores the zeros since the last entry in ``index_bits``; a longer run needs an
    explicit zero after every ``2**index_bits - 1`` zeros, which is stored like a value.
    """
    reach = 2**index_bits
    positions = torch.nonzero(weight.flatten()).flatten()
    before = torch.cat([positions.new_tensor([-1]), positions[:-1]])
    padding = (positions - before - 1).div(reach, rounding_mode="floor").sum()
    return (int(len(positions) + padding) * (value_bits + index_bits) + 7) // 8


def nm_bytes(weight: torch.Tensor, n: int = 2, m: int = 4, value_bits: int = 32) -> int:
    """Bytes of N:M sparsity: n values of every m, and ``ceil(log2 m)`` bits of metadata each."""
    groups = weight.numel() / m
    if groups != int(groups):
        raise ValueError(f"got {weight.numel()} weights; allowed: a multiple of m={m}")
    return (int(groups) * n * (value_bits + (m - 1).bit_length()) + 7) // 8
