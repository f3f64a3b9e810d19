"""Count a model's costs: parameters, nonzeros, MACs, peak activation memory, serialized bytes.

Nothing here is timed (:mod:`codesign.measure` does that) and nothing is estimated: every figure is
a count that can be repeated by hand. A MAC is one multiply and one add; zeros are counted as work,
because dense kernels do them; :mod:`codesign.operations` sees every product where torch dispatches
it. Bytes include what a format needs to be decoded: indices, codebooks, metadata. Leaves out cache
effects and code size. Taught in Lecture 3.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from codesign import operations

INPUT_SHAPE = (1, 3, 32, 32)
WEIGHTED = (nn.Conv2d, nn.Linear)
ELEMENTWISE_MODULES = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Dropout)
VIEW_MODULES = (nn.Identity, nn.Flatten)
ELEMENTWISE_FUNCTIONS = (torch.relu, nn.functional.relu, operator.add, operator.iadd, torch.add)
VIEW_FUNCTIONS = (torch.flatten, "flatten", "view", "reshape")  # a name: a tensor's method


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

    Raises:
        ValueError: no weights at all.
    """
    weights: list[torch.Tensor] = (
        [layer.weight for layer in weighted_layers(tensor).values()]
        if isinstance(tensor, nn.Module)
        else [tensor]
    )
    size = sum(w.numel() for w in weights)
    if size == 0:
        raise ValueError("got no weights; allowed: a tensor or layers with at least one")
    return 1 - sum(map(nonzeros, weights)) / size


def layers(model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE) -> list[LayerCost]:
    """The cost of every convolution and linear layer, in the order in which one zero input runs.

    Args:
        input_shape: ``(1, C, H, W)`` for the cost of one image. A layer that runs twice is listed
            twice, one that does not run is left out.
    """
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
    """MACs of one layer: each output element sums (C_in / groups)·k_h·k_w, or C_in, products.

    Raises:
        ValueError: another kind of layer.
    """
    if isinstance(layer, nn.Conv2d):
        per_output = layer.weight[0].numel()
    elif isinstance(layer, nn.Linear):
        per_output = layer.in_features
    else:
        raise ValueError(f"got {type(layer).__name__}; allowed: Conv2d, Linear")
    return output.numel() * per_output


def macs(
    model: nn.Module,
    inputs: tuple[int, ...] | torch.Tensor = INPUT_SHAPE,
    *,
    unknown: float = 0.01,
) -> int:
    """MACs of every product that one forward pass executes, in a layer or not.

    Args:
        inputs: what the model reads (tokens, for instance), or the shape of an input of zeros.
        unknown: the share of the elements read and written that operations may have whose MACs
            nobody knows; 1: any, and the count is a lower bound.

    Raises:
        ValueError: unknown operations have a larger share; they are named.
    """
    x = inputs if isinstance(inputs, torch.Tensor) else torch.zeros(inputs)
    ran = operations.executed(model, x)
    if (share := operations.unknown_share(ran)) > unknown:
        rows = operations.by_name(ran).values()
        named = ", ".join(f"{row.name} ({row.calls}×)" for row in rows if row.macs is None)
        raise ValueError(
            f"got {share:.1%} of the work in operations of unknown cost: {named}; "
            f"allowed: at most {unknown:.0%} (unknown=1: count the others)"
        )
    return sum(one.macs or 0 for one in ran)


def activation_peak(
    model: nn.Module, input_shape: tuple[int, ...] = INPUT_SHAPE, bits: int = 32
) -> int:
    """Peak bytes of activations alive at once, running operators in the model's own order.

    A tensor, the input included, lives from the operator that writes it to the last one that reads
    it. Batch norm, ReLU and additions overwrite an input of the same size that nobody reads later,
    as every inference engine does; a view is no tensor of its own. A convolution reads its input
    while it writes its output; its scratch memory is left out.

    Args:
        bits: of one activation.
    """
    graph = _traced(model, input_shape)
    nodes = [n for n in graph.graph.nodes if n.op != "output" and "tensor_meta" in n.meta]
    sizes = {n: (n.meta["tensor_meta"].shape.numel() * bits + 7) // 8 for n in nodes}
    storage = _storage(graph, [n for n in nodes if n.op != "get_attr"], sizes)  # no parameters
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    spans: dict[fx.Node, list[int]] = {}
    for node, first in storage.items():
        reads = [order[user] for user in node.users]
        spans.setdefault(first, []).extend([order[node], *reads])
    return max(
        sum(sizes[n] for n, span in spans.items() if min(span) <= now <= max(span))
        for now in range(len(order))
    )


def _storage(
    graph: fx.GraphModule, nodes: list[fx.Node], sizes: dict[fx.Node, int]
) -> dict[fx.Node, fx.Node]:
    """For every tensor the one whose memory it lies in: itself, or the input it overwrites."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    storage: dict[fx.Node, fx.Node] = {}

    def is_read_later(first: fx.Node, now: int) -> bool:
        sharing = [n for n, other in storage.items() if other is first]
        return any(order[user] > now for n in sharing for user in n.users)

    for node in nodes:
        storage[node] = node
        inputs = [storage[n] for n in node.all_input_nodes if n in storage]
        fitting = [n for n in inputs if sizes[n] == sizes[node]]
        if _is(graph, node, VIEW_MODULES, VIEW_FUNCTIONS):
            storage[node] = inputs[0]
        elif _is(graph, node, ELEMENTWISE_MODULES, ELEMENTWISE_FUNCTIONS):
            dying = [n for n in fitting if not is_read_later(n, order[node])]
            storage[node] = dying[0] if dying else node
    return storage


def _is(graph: fx.GraphModule, node: fx.Node, modules: tuple, functions: tuple) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), modules)
    return node.op in ("call_function", "call_method") and node.target in functions


def _traced(model: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    was_training = model.training
    try:
        graph = fx.symbolic_trace(model.eval())
        with torch.inference_mode():
            ShapeProp(graph).propagate(torch.zeros(input_shape))
    finally:
        model.train(was_training)
    return graph


def _run(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(input_shape))
    finally:
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
        value_bits: of one stored nonzero.
        index_bits: of one column index and of one row pointer.
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
    """Bytes of N:M sparsity: n values of every m, and ``ceil(log2 m)`` bits of metadata each.

    With 2:4 this is the format of NVIDIA's sparse tensor cores (Mishra et al. 2021, section 3.1).

    Raises:
        ValueError: n outside 1..m, a size that m does not divide, or more nonzeros than the format
            holds. Which weights form a group depends on the layer, so groups are not checked.
    """
    if not 1 <= n <= m or weight.numel() % m:
        raise ValueError(
            f"got {n}:{m} for {weight.numel()} weights; allowed: 1 <= n <= m, a multiple of m"
        )
    stored = weight.numel() // m * n
    if nonzeros(weight) > stored:
        raise ValueError(f"got {nonzeros(weight)} nonzeros; {n}:{m} holds at most {stored}")
    return (stored * (value_bits + (m - 1).bit_length()) + 7) // 8
