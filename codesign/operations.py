"""Count what a model executes, operation by operation, where torch dispatches each of them.

Module hooks see layers alone; at the dispatcher an attention, an einsum or a head written as
``x @ W.T`` is seen, too, whoever calls it. A MAC belongs to a sum of products: convolutions, matrix
products, attention. Everything else is known to have none (elementwise arithmetic, norms, moves) or
is *unknown*, and then :func:`codesign.cost.macs` refuses a total. Products with zeros count, unless
a sparse tensor leaves them out; a causal mask's half counts in full. Leaves out what never reaches
torch (numpy, C called by ctypes). Taught in Lecture 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Moves, norms, pools and tables: they read and write, and sum no products of two inputs.
_NAMES = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _embedding_bag _fused_rms_norm _local_scalar_dense
_log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training _safe_softmax
_softmax _to_copy _to_dense _to_sparse _to_sparse_csr _unsafe_view adaptive_max_pool2d arange
argsort avg_pool1d avg_pool2d avg_pool3d batch_norm_elemt bernoulli bernoulli_ bincount cat
clone col2im constant_pad_nd copy copy_ cumprod cumsum detach dropout embedding empty empty_like
empty_permuted empty_strided eye fill fill_ flip full full_like gather im2col index index_add
index_add_ index_copy index_put index_put_ index_select lift_fresh linspace masked_scatter
masked_select max_pool1d max_pool2d_with_indices max_pool3d_with_indices multinomial
native_batch_norm native_dropout native_group_norm native_layer_norm new_empty new_empty_strided
new_full new_ones new_zeros nonzero normal_ one_hot ones ones_like pixel_shuffle pixel_unshuffle
rand randint randn randperm reflection_pad1d reflection_pad2d repeat repeat_interleave
replication_pad2d roll rot90 scalar_tensor scatter scatter_ scatter_add scatter_add_
searchsorted select_scatter slice_scatter sort stack topk tril tril_indices triu triu_indices
uniform_ unique_consecutive unsafe_chunk unsafe_split unsafe_split_with_sizes
upsample_bilinear2d upsample_nearest1d upsample_nearest2d where zero_ zeros zeros_like
"""
WITHOUT_MACS = frozenset(_NAMES.split())
WITHOUT_TAGS = {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.inplace_view}


@dataclass(frozen=True)
class Operation:
    """One executed operation, or the sum of several of one name.

    Args:
        name: torch's, for instance ``"convolution"`` or ``"_scaled_dot_product_…"``.
        macs: None: unknown.
        elements: of all tensors that it reads and writes; 0 for a view.
    """

    name: str
    macs: int | None
    elements: int
    calls: int = 1


def executed(model: nn.Module, *inputs: torch.Tensor) -> list[Operation]:
    """Every operation of ``model(*inputs)`` in evaluation mode, in order.

    Layers of transformers run through their plain products, not through the kernel that fuses them.
    """
    recorder = _Recorder()
    was_training = model.training
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorder:
            model.eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        model.train(was_training)
    return recorder.operations


def by_name(operations: Iterable[Operation]) -> dict[str, Operation]:
    """Calls, MACs and elements summed by name, most MACs first, then most elements."""
    summed: dict[str, Operation] = {}
    for one in operations:
        if (so_far := summed.get(one.name)) is None:
            summed[one.name] = one
            continue
        macs = None if None in (so_far.macs, one.macs) else (so_far.macs or 0) + (one.macs or 0)
        elements = so_far.elements + one.elements
        calls = so_far.calls + one.calls
        summed[one.name] = replace(one, macs=macs, elements=elements, calls=calls)
    rows = sorted(summed.values(), key=lambda row: (row.macs or 0, row.elements), reverse=True)
    return {row.name: row for row in rows}


def unknown_share(operations: Iterable[Operation]) -> float:
    """Share of all elements read and written that unknown operations read and write: 0 to 1."""
    operations = list(operations)
    total = sum(one.elements for one in operations)
    return sum(one.elements for one in operations if one.macs is None) / max(total, 1)


# --- one operation -------------------------------------------------------------------------------


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if name not in PRODUCTS:
            with self:  # composed of others? then those are counted
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if not func.is_view:
            elements = sum(map(_stored, tree_leaves((args, kwargs, out))))
            self.operations.append(Operation(name, _macs(func, name, args, out), elements))
        return out


def _macs(func: torch._ops.OpOverload, name: str, args: tuple[Any, ...], out: Any) -> int | None:
    if name in PRODUCTS:
        return PRODUCTS[name](args, out)
    return 0 if WITHOUT_TAGS & set(func.tags) or name in WITHOUT_MACS else None


def _stored(value: object) -> int:
    """Elements that a tensor stores (of a sparse one, its nonzeros); 0 for anything else."""
    if not isinstance(value, torch.Tensor):
        return 0
    return value.numel() if value.layout == torch.strided else value._nnz()


def _product(a: torch.Tensor, b: torch.Tensor) -> int:
    """``[…, n, m] @ […, m, p]``: every stored element of one meets a row of the other."""
    if b.layout != torch.strided:
        return b._nnz() * a.shape[-2]
    return _stored(a) * (b.shape[-1] if b.ndim > 1 else 1)


def _convolution(args: tuple[Any, ...], out: torch.Tensor) -> int:
    """Each output sums a kernel of C_in / groups; transposed, each input spreads one."""
    x, weight, transposed = args[0], args[1], args[6]
    return (x if transposed else out).numel() * weight[0].numel()


def _attention(args: tuple[Any, ...], out: object) -> int:
    """``Q Kᵀ`` and its product with ``V``: ``[B, H, L, E]``, ``[…, S, E]``, ``[…, S, E_v]``."""
    query, key, value = args[:3]
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _recurrent(args: tuple[Any, ...], out: object) -> int:
    """One layer: each step multiplies both weights, ``[gates, C_in]`` and ``[gates, C_out]``."""
    return args[0].shape[:-1].numel() * (args[1].numel() + args[2].numel())


def _first_two(args: tuple[Any, ...], out: object) -> int:
    return _product(args[0], args[1])


def _after_bias(args: tuple[Any, ...], out: object) -> int:
    return _product(args[1], args[2])


PRODUCTS: Mapping[str, Callable[[tuple[Any, ...], Any], int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "_int_mm"), _first_two),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _after_bias),
    **dict.fromkeys(("addmm_", "baddbmm_", "addbmm_", "addmv_"), _after_bias),
    "convolution": _convolution,
    "mkldnn_rnn_layer": _recurrent,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
}
