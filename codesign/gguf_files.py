"""Load and save a Llama as GGUF, the one file that llama.cpp runs: weights, config and tokenizer.

In come F32, F16, Q8_0, Q4_0 and Q4_1, dequantized to float32 by the `gguf` library; out go F32,
F16, Q8_0 and Q4_0 (matrices alone: norms stay F32, and of a Q4_0 file embedding and head are Q8_0).
GGUF's RoPE turns neighbours, ours turns halves: rows of q and k stand in another order there.
Leaves out other architectures, k-quants and chat templates. Lecture 12.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from codesign import gguf_config, gguf_header, gguf_tokenizer, llama_weights
from codesign.extras import needed
from codesign.gguf_config import DIVISORS
from codesign.gguf_header import Tensor
from codesign.models.llama import Llama
from codesign.tokenizer import Tokenizer

with needed("llm"):
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType, quants
    from gguf.constants import GGML_QUANT_VERSION

FORMATS = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0"}
TOPS = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}


def load(path: str | Path) -> tuple[Llama, Tokenizer | None]:
    """The model and the tokenizer of a GGUF file, as float32 in evaluation mode.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a damaged file, another architecture or tokenizer, another weight format, or
            tensors that do not fit the metadata. Nothing large was allocated then.
    """
    header = gguf_header.read(path)
    data = np.memmap(path, np.uint8, mode="r")
    listed = dict(header.tensors)
    divisors = _numbers(data, listed.pop(DIVISORS)) if DIVISORS in listed else None
    config = gguf_config.read(header, divisors)
    tensors = {_ours(name): tensor for name, tensor in listed.items()}
    skeleton = llama_weights.outline(config)
    tokenizer = gguf_tokenizer.from_metadata(header.metadata, config["vocabulary"])
    heads = _turned(config)

    def read(name: str) -> torch.Tensor:
        weight = _numbers(data, tensors[name])
        part = name.split(".")[-2]
        return halves(weight, heads[part]) if part in heads else weight

    stored = {name: tensor.shape for name, tensor in tensors.items()}
    return llama_weights.fill(skeleton, stored, read), tokenizer


def save(
    path: str | Path, model: Llama, tokenizer: Tokenizer | None = None, kind: str = "F16"
) -> Path:
    """Write a GGUF file, whole or not at all.

    Args:
        kind: of the matrices, one of ``FORMATS``.

    Raises:
        ValueError: another kind, rows that its blocks do not divide, a weight that is not finite,
            or a tokenizer that GGUF cannot carry. Nothing is written then.
    """
    if kind not in FORMATS:
        raise ValueError(f"got kind {kind!r}; allowed: {[*FORMATS]}")
    path = Path(path)
    weights = model.state_dict()
    kinds = {name: _kind(name, weight, kind) for name, weight in weights.items()}
    part = path.with_name(f"{path.name}.part-{uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(part, model, tokenizer, kinds, LlamaFileType[FORMATS[kind]])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Order rows so that RoPE turns halves of a head (Hugging Face), from neighbours (GGUF)."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def neighbours(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo :func:`halves`: the order that GGUF's RoPE, which turns neighbours, needs."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def _turned(config: dict[str, int]) -> dict[str, int]:
    """The matrices whose outputs RoPE turns, with their heads."""
    return {"q_proj": config["heads"], "k_proj": config["kv_heads"]}


def _numbers(data: np.ndarray, tensor: Tensor) -> torch.Tensor:
    raw = np.array(data[tensor.start : tensor.start + tensor.size_bytes])
    rows = raw.reshape(int(np.prod(tensor.shape[:-1])), -1)
    numbers = quants.dequantize(rows, GGMLQuantizationType[tensor.kind])
    return torch.from_numpy(numbers.reshape(tensor.shape))


def _kind(name: str, weight: torch.Tensor, kind: str) -> GGMLQuantizationType:
    """The type in which one tensor is written."""
    if weight.ndim == 1:
        return GGMLQuantizationType.F32
    outer = name.startswith(("embed_tokens", "lm_head"))
    found = GGMLQuantizationType["Q8_0" if kind == "Q4_0" and outer else kind]
    block, _ = GGML_QUANT_SIZES[found]
    if weight.shape[-1] % block:
        raise ValueError(
            f"got rows of {weight.shape[-1]} in {name!r}; allowed: multiples of {block}"
        )
    return found


def _ours(name: str) -> str:
    """Our name of a tensor; of one that no Llama has a name that none has."""
    stem = name.removesuffix(".weight")
    layer, _, part = stem.removeprefix("blk.").partition(".")
    if stem == name or not (stem in TOPS or part in PARTS):
        return f"({name})"
    return f"{TOPS[stem] if stem in TOPS else f'layers.{layer}.{PARTS[part]}'}.weight"


def _theirs(name: str) -> str:
    """GGUF's name of a tensor."""
    tops, parts = ({ours: theirs for theirs, ours in table.items()} for table in (TOPS, PARTS))
    stem = name.removesuffix(".weight")
    if stem in tops:
        return f"{tops[stem]}.weight"
    layer, _, part = stem.removeprefix("layers.").partition(".")
    return f"blk.{layer}.{parts[part]}.weight"


def _write(
    path: Path,
    model: Llama,
    tokenizer: Tokenizer | None,
    kinds: dict[str, GGMLQuantizationType],
    file_type: LlamaFileType,
) -> None:
    """Header first, then one tensor after the other: the file never lies in memory whole."""
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    divisors = gguf_config.write(writer, model.config)
    if tokenizer is not None:
        gguf_tokenizer.to_metadata(writer, tokenizer, model.config["vocabulary"])
    weights = model.state_dict()
    if divisors is not None:
        writer.add_tensor_info(DIVISORS, divisors.shape, divisors.dtype, divisors.nbytes)
    for name, kind in kinds.items():
        block, block_bytes = GGML_QUANT_SIZES[kind]
        size_bytes = weights[name].numel() // block * block_bytes
        shape = weights[name].shape
        writer.add_tensor_info(_theirs(name), shape, np.dtype(np.float32), size_bytes, kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if divisors is not None:
            writer.write_tensor_data(divisors)
        heads = _turned(model.config)
        for name, kind in kinds.items():
            weight, part = weights[name].detach().float(), name.split(".")[-2]
            most = torch.finfo(torch.float32 if kind.name == "F32" else torch.float16).max
            if not weight.abs().max() <= most:  # nor a scale of a block, which is F16
                raise ValueError(f"got {weight.abs().max()} in {name!r}; allowed: up to {most}")
            weight = neighbours(weight, heads[part]) if part in heads else weight
            writer.write_tensor_data(quants.quantize(weight.numpy(), kind))
    finally:
        writer.close()
