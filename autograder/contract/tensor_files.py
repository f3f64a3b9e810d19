"""Read untrusted safetensors: the header is checked before the library builds anything from it.

The library takes a minute for a million empty tensors, hours for one of a million dimensions, the
last of two tensors of one name, and knows types that most operations of PyTorch do not.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load

from autograder.contract.files import ExchangeError
from autograder.contract.said import short

MAX_HEADER_BYTES = 4 * 2**20
MAX_TENSORS = 10_000  # of one file
MAX_DIMENSIONS = 16
MAX_NAME = 200  # characters
METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
ALLOWED = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES.values())


def tensors(payload: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        ExchangeError: malformed, or beyond what this module allows.
    """
    for name, entry in _header(payload).items():
        if name != METADATA:
            _check(name, entry)
    try:
        loaded = load(payload)
    except Exception as error:  # the library and PyTorch name no end of them
        raise ExchangeError(f"not readable: {short(error)}") from None
    return {name: _whole(tensor) for name, tensor in loaded.items()}


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """The same, but a bool of any other byte than 0 is 1: as 127 it would count as much."""
    return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor


def _header(payload: bytes) -> dict[str, Any]:
    size = int.from_bytes(payload[:8], "little")
    if len(payload) < 8 or size > len(payload) - 8:
        raise ExchangeError(f"not readable: {len(payload):,} bytes are no safetensors file")
    if size > MAX_HEADER_BYTES:
        raise ExchangeError(f"a header of {size:,} bytes; allowed: {MAX_HEADER_BYTES:,}")
    text = payload[8 : 8 + size]
    if (most := text.count(b"[") // 2) > MAX_TENSORS:  # before they are built
        raise ExchangeError(f"{most:,} tensors; allowed: {MAX_TENSORS:,}")
    try:
        header = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"not readable: {short(error)}") from None
    if not isinstance(header, dict):
        raise ExchangeError("not readable: the header is no JSON object")
    return header


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made


def _check(name: str, entry: Any) -> None:
    if len(name) > MAX_NAME:
        raise ExchangeError(f"a name of {len(name):,} characters; allowed: {MAX_NAME}")
    dtype, shape = (
        (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ExchangeError(f"{short(name)} is of type {short(dtype)}; allowed: {ALLOWED}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        count = f"{len(shape):,}" if isinstance(shape, list) else "no"
        raise ExchangeError(
            f"{short(name)} has {count} dimensions; allowed: up to {MAX_DIMENSIONS}"
        )
