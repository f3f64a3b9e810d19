"""Which numbers make a Llama-architecture decoder: configs come from files that others wrote.

Checked before any memory is taken. Leaves out whether the decoder is a good one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_WIDTH, MAX_LAYERS, MAX_VOCABULARY, MAX_CONTEXT = 16_384, 256, 1_000_000, 1_048_576
SCALING_KEYS = {
    "linear": {"rope_type", "factor"},
    "llama3": {
        "rope_type", "factor", "low_freq_factor", "high_freq_factor",
        "original_max_position_embeddings",
    },
}  # fmt: skip


def check(config: Mapping[str, Any]) -> None:
    """Refuse what makes no decoder, or one too large to be meant.

    Raises:
        ValueError: says what was got and what is allowed.
    """
    most = {
        "vocabulary": MAX_VOCABULARY, "width": MAX_WIDTH, "hidden": 4 * MAX_WIDTH,
        "layers": MAX_LAYERS, "heads": MAX_WIDTH, "kv_heads": MAX_WIDTH, "context": MAX_CONTEXT,
    }  # fmt: skip
    for name, limit in most.items():
        got = config[name]
        if type(got) is not int or not 1 <= got <= limit:
            raise ValueError(f"got {name}={got!r}; allowed: integers from 1 to {limit}")
    width, heads, kv_heads = (config[name] for name in ("width", "heads", "kv_heads"))
    if width % (2 * heads) or heads % kv_heads:
        raise ValueError(
            f"got width={width}, heads={heads}, kv_heads={kv_heads}; "
            "allowed: a width that 2 · heads divides, and heads that kv_heads divides"
        )
    if not (_is_number(config["rope_base"]) and config["rope_base"] > 1):
        raise ValueError(f"got rope_base={config['rope_base']!r}; allowed: numbers above 1")
    if not (_is_number(config["eps"]) and 0 < config["eps"] < 1):
        raise ValueError(f"got eps={config['eps']!r}; allowed: numbers between 0 and 1")
    if type(config["tied"]) is not bool:
        raise ValueError(f"got tied={config['tied']!r}; allowed: True or False")
    if config["rope_scaling"] is not None:
        _check_scaling(config["rope_scaling"])


def _check_scaling(scaling: Mapping[str, Any]) -> None:
    kind = scaling.get("rope_type")
    if not isinstance(kind, str) or scaling.keys() != SCALING_KEYS.get(kind):
        allowed = {kind: sorted(keys) for kind, keys in SCALING_KEYS.items()}
        raise ValueError(f"got rope_scaling={dict(scaling)}; allowed keys: {allowed}")
    numbers = [value for key, value in scaling.items() if key != "rope_type"]
    if not all(_is_number(number) and number > 0 for number in numbers):
        raise ValueError(f"got rope_scaling={dict(scaling)}; allowed: numbers above 0")
    if kind == "llama3" and scaling["low_freq_factor"] >= scaling["high_freq_factor"]:
        raise ValueError(
            f"got rope_scaling={dict(scaling)}; allowed: low_freq_factor below high_freq_factor"
        )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
