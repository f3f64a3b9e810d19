"""Translate a Llama's arguments from and to Hugging Face's ``config.json``.

Read are the layouts of transformers 4 (``rope_theta``, ``rope_scaling``) and 5
(``rope_parameters``), of model types llama and, without a sliding window, mistral: the same
network. What our network cannot do (biases, heads of another width, other activations and scalings)
is refused, never left out silently. Used by :mod:`codesign.llama_files`. Lecture 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("llama", "mistral")
NAMES = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "context": "max_position_embeddings",
    "eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
# What a file that leaves them out means: transformers' defaults.
DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
# What must be so if a file says anything of it.
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": KINDS,
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "sliding_window": (None,),
    "quantization_config": (None,),
}
SCALINGS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor"),
        "original_max_position_embeddings",
    ),
}


def read(found: Any) -> dict[str, Any]:
    """Arguments of :class:`codesign.models.llama.Llama`.

    Raises:
        ValueError: another architecture, or one of its variants that ours is not; says which.
    """
    if not isinstance(found, Mapping) or "model_type" not in found:
        raise ValueError(
            f"got a config {type(found).__name__} without model_type; allowed: {KINDS}"
        )
    for key, fixed in FIXED.items():
        if key in found and found[key] not in fixed:
            raise ValueError(f"got {key} {found[key]!r}; allowed: {fixed}")
    defaults = {**DEFAULTS, "num_key_value_heads": found.get("num_attention_heads")}
    given = {key: value for key, value in found.items() if value is not None}
    config: dict[str, Any] = {
        ours: given.get(theirs, defaults.get(theirs)) for ours, theirs in NAMES.items()
    }
    for ours, value in config.items():
        allowed = {"eps": (float, int), "tied": (bool,)}.get(ours, (int,))
        if type(value) not in allowed:
            kinds = [kind.__name__ for kind in allowed]
            raise ValueError(f"got {NAMES[ours]} {value!r}; allowed: {' or '.join(kinds)}")
    width = config["width"] // max(config["heads"], 1)
    if given.get("head_dim", width) != width:
        raise ValueError(f"got head_dim {given['head_dim']}; allowed: {width}, width / heads")
    return {**config, **_rope(given)}


def _rope(given: Mapping[str, Any]) -> dict[str, Any]:
    """``rope_base`` and ``rope_scaling`` of either layout."""
    named = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if not isinstance(named, Mapping):
        raise ValueError(f"got RoPE parameters {named!r}; allowed: a JSON object")
    base = named.get("rope_theta", given.get("rope_theta", 10_000.0))
    kind = named.get("rope_type", named.get("type", "default"))
    turned = named.get("partial_rotary_factor", given.get("partial_rotary_factor", 1))
    if kind not in ("default", *SCALINGS) or turned != 1:
        allowed = ["default", *SCALINGS]
        raise ValueError(
            f"got RoPE {kind!r} over {turned} of a head; allowed: {allowed}, all of it"
        )
    keys = SCALINGS.get(kind, ())
    numbers = {"rope_theta": base, **{key: named.get(key) for key in keys}}
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers.values()):
        raise ValueError(f"got RoPE {numbers}; allowed: a number for each")
    scaling = {"rope_type": kind, **{key: named[key] for key in keys}}
    return {"rope_base": float(base), "rope_scaling": scaling if keys else None}


def write(config: Mapping[str, Any], ends: list[int], start: int | None) -> dict[str, Any]:
    """A ``config.json`` that transformers 4 and 5, and what else reads their files, understand.

    Args:
        config: of the model.
        ends, start: numbers of the tokens that end and begin a text.
    """
    scaling = config["rope_scaling"]
    kind = scaling or {"rope_type": "default"}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: config[ours] for ours, theirs in NAMES.items()},
        "head_dim": config["width"] // config["heads"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_theta": config["rope_base"],
        "rope_scaling": scaling,
        "rope_parameters": {**kind, "rope_theta": config["rope_base"]},
        "bos_token_id": start,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "torch_dtype": "float32",
    }
