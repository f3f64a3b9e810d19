"""Read a Llama's numbers from the metadata of a GGUF file, and write them there.

GGUF has keys for linear RoPE scaling. Of Llama 3's it keeps the result alone, a tensor of divisors;
so files written here carry its four numbers under a key of our own, and files of others are taken
for Llama 3.1 or 3.2 where those explain the tensor. Leaves out Llama's other scalings, experts, and
heads of another width than ``width / heads``. Used by :mod:`codesign.gguf_files`. Lecture 12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from codesign.extras import needed
from codesign.gguf_header import Header
from codesign.models.llama import rope_frequencies

with needed("llm"):
    from gguf import GGUFWriter, RopeScalingType

DIVISORS = "rope_freqs.weight"  # [head_width / 2]: what each frequency is divided by
OWN_SCALING = "codesign.rope_scaling"  # llama3's numbers, as JSON
LLAMA_3: dict[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LLAMA_3_FACTORS = (8.0, 32.0)  # of versions 3.1 and 3.2
OF_HEADS = ("attention.key_length", "attention.value_length", "rope.dimension_count")


def read(header: Header, divisors: torch.Tensor | None) -> dict[str, Any]:
    """Arguments of :class:`codesign.models.llama.Llama`.

    Args:
        divisors: numbers of the tensor ``DIVISORS`` where the file has it.

    Raises:
        ValueError: another architecture, a key that is missing or of another type, heads of another
            width, experts, or a scaling of RoPE that Llama lacks.
    """
    data = header.metadata
    if (found := data.get("general.architecture")) != "llama":
        raise ValueError(f"got architecture {found!r}; allowed: 'llama'")
    embedding = header.tensors.get("token_embd.weight")
    config: dict[str, Any] = {
        "vocabulary": _whole(data, "vocab_size", embedding.shape[0] if embedding else 0),
        "width": _whole(data, "embedding_length"),
        "hidden": _whole(data, "feed_forward_length"),
        "layers": _whole(data, "block_count"),
        "heads": (heads := _whole(data, "attention.head_count")),
        "kv_heads": _whole(data, "attention.head_count_kv", heads),
        "context": _whole(data, "context_length"),
        "rope_base": _real(data, "rope.freq_base", 10_000.0),
        "eps": _real(data, "attention.layer_norm_rms_epsilon"),
        "tied": "output.weight" not in header.tensors,
    }
    width = config["width"] // max(heads, 1)
    named = {key: _whole(data, key, width) for key in OF_HEADS}
    if {*named.values()} != {width} or _whole(data, "expert_count", 0):
        raise ValueError(
            f"got {named}, {_whole(data, 'expert_count', 0)} experts; allowed: heads of {width}, "
            "all of which RoPE turns, no experts"
        )
    return {**config, "rope_scaling": _scaling(data, config["rope_base"], width, divisors)}


def _whole(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    found = data.get(f"llama.{key}", default)
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"got {found!r} for llama.{key}; allowed: one whole number")
    return found


def _real(data: Mapping[str, Any], key: str, default: float | None = None) -> float:
    found = data.get(f"llama.{key}", default)
    if not isinstance(found, float):
        raise ValueError(f"got {found!r} for llama.{key}; allowed: one real number")
    return float(str(np.float32(found)))  # 1e-5, not the double nearest to its float32


def _scaling(
    data: Mapping[str, Any], base: float, width: int, divisors: torch.Tensor | None
) -> dict[str, Any] | None:
    kind = data.get("llama.rope.scaling.type", "linear")
    factor = _real(data, "rope.scaling.factor", 1.0)
    if divisors is None:
        if kind not in ("none", "linear"):
            raise ValueError(f"got RoPE scaling {kind!r}; allowed: 'linear', 'none'")
        return {"rope_type": "linear", "factor": factor} if factor not in (0.0, 1.0) else None
    own = data.get(OWN_SCALING)
    for tried in [_parsed(own)] if own else [{**LLAMA_3, "factor": f} for f in LLAMA_3_FACTORS]:
        expected = _divisors(width, base, tried)
        if divisors.shape == expected.shape and torch.allclose(divisors, expected, rtol=1e-4):
            return tried
    raise ValueError(f"got {DIVISORS} of {divisors.tolist()}; allowed: those of Llama 3.1 or 3.2")


def _parsed(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
        return {key: type(value)(found[key]) for key, value in {**LLAMA_3, "factor": 1.0}.items()}
    except (TypeError, ValueError, KeyError, RecursionError):
        known = [*LLAMA_3, "factor"]
        raise ValueError(f"got {OWN_SCALING} {text!r}; allowed: JSON with {known}") from None


def _divisors(width: int, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    return rope_frequencies(width, base) / rope_frequencies(width, base, scaling)


def write(writer: GGUFWriter, config: Mapping[str, Any]) -> np.ndarray | None:
    """Write a Llama's ``config``; return the numbers of ``DIVISORS`` where the file needs it."""
    width = config["width"] // config["heads"]
    writer.add_vocab_size(config["vocabulary"])
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["width"])
    writer.add_feed_forward_length(config["hidden"])
    writer.add_block_count(config["layers"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["kv_heads"])
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config["rope_base"])
    writer.add_layer_norm_rms_eps(config["eps"])
    scaling = config["rope_scaling"]
    if scaling is None:
        return None
    if scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
        return None
    writer.add_string(OWN_SCALING, json.dumps(scaling))
    return _divisors(width, config["rope_base"], scaling).numpy()
