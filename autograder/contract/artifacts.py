"""Store and load artifacts: course models, named tensors, JSON tables, source texts.

``<name>.json`` says the kind; a ``model`` adds ``<name>.safetensors`` and carries its config in
the JSON, ``tensors`` adds ``<name>.safetensors``, a ``source`` adds ``<name>.c``, and a ``table``
is in the JSON itself. The size of an artifact is the size of these files, headers included.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from autograder.contract.exchange import is_finite
from autograder.contract.files import MAX_ARTIFACT_BYTES, ExchangeError, read_file
from autograder.contract.said import plain
from autograder.contract.tensor_files import tensors
from codesign import checkpoints

KINDS = ("model", "tensors", "table", "source")
PAYLOAD = {"model": ".safetensors", "tensors": ".safetensors", "source": ".c"}
MAX_RECORD_BYTES = 2 * 2**20


def kind_of(value: Any) -> str:
    """Return the kind of artifact that fits ``value``, by its type.

    Raises:
        ValueError: nothing that can be stored.
    """
    if isinstance(value, torch.nn.Module):
        return "model"
    are = isinstance(value, dict) and [isinstance(v, torch.Tensor) for v in value.values()]
    if are and all(are):
        return "tensors"
    if isinstance(value, str):
        return "source"
    if isinstance(value, (dict, list, int, float)):
        return "table"
    raise ValueError(f"got a {type(value).__name__}; allowed: a model, tensors, a table, a source")


def store(folder: Path, name: str, value: Any) -> None:
    """Write ``value`` as artifact ``name``; what is there is replaced only by a whole new one.

    Raises:
        ValueError: a kind that cannot be stored, NaN or infinite numbers, or too many bytes.
    """
    kind = kind_of(value)
    record: dict[str, Any] = {"kind": kind}
    if not is_finite(value):
        raise ValueError(f"artifact {name!r} has NaN or infinite numbers; nothing was stored")
    payload = b""
    if kind == "model":
        record["config"] = value.config
        payload = save({k: v.detach().cpu().contiguous() for k, v in value.state_dict().items()})
    elif kind == "tensors":
        payload = save({k: v.detach().cpu().clone().contiguous() for k, v in value.items()})
    elif kind == "source":
        payload = value.encode()
    else:
        record["value"] = value
    text = json.dumps(record)
    if len(payload) > MAX_ARTIFACT_BYTES or len(text) > MAX_RECORD_BYTES:
        raise ValueError(f"artifact {name!r} has {len(payload) + len(text):,} bytes: too many")
    folder.mkdir(parents=True, exist_ok=True)
    if kind in PAYLOAD:
        _replace(folder / f"{name}{PAYLOAD[kind]}", payload)
    _replace(folder / f"{name}.json", text.encode())


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def exists(folder: Path, name: str) -> bool:
    """Tell whether artifact ``name`` is stored in ``folder``."""
    return (folder / f"{name}.json").exists()


def fetch(folder: Path, name: str) -> Any:
    """Load artifact ``name``, trusting nothing.

    Raises:
        ExchangeError: missing, malformed, too large, not finite, or not a course model.
    """
    record, payload = _files(folder, name)
    kind = record["kind"]
    try:
        if kind == "model":
            value: Any = checkpoints.rebuild(record.get("config", {}), tensors(payload))
        elif kind == "tensors":
            value = tensors(payload)
        elif kind == "source":
            value = payload.decode()
        else:
            value = record.get("value")
        finite = is_finite(value)
    except Exception as error:  # torch and safetensors name no end of them
        raise ExchangeError(plain(f"artifact {name!r}: {error}")) from None
    if not finite:
        raise ExchangeError(f"artifact {name!r} has NaN or infinite numbers")
    return value


def size(folder: Path, name: str) -> int:
    """Count the bytes of artifact ``name``: its files as they are stored, headers included."""
    payload = _files(folder, name)[1]
    return len(payload) + len(read_file(folder / f"{name}.json", MAX_RECORD_BYTES))


def refusals(folder: Path) -> list[str]:
    """Load each artifact in ``folder`` once, trusting nothing, and list what is wrong with it."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            fetch(folder, path.stem)
        except ExchangeError as error:
            found.append(str(error))
    return found


def digest(folder: Path, name: str) -> str:
    """Hash the files of artifact ``name`` (sha256); "missing" without any."""
    try:
        record, payload = _files(folder, name)
    except ExchangeError as error:
        return f"unreadable: {error}"
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode() + payload).hexdigest()


def _files(folder: Path, name: str) -> tuple[dict[str, Any], bytes]:
    if not exists(folder, name) and not (folder / f"{name}.json").is_symlink():
        raise ExchangeError(f"artifact {name!r} was not handed in")
    try:
        record = json.loads(read_file(folder / f"{name}.json", MAX_RECORD_BYTES))
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"artifact {name!r}: {error}") from None
    kind = record.get("kind") if isinstance(record, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ExchangeError(f"artifact {name!r} has no kind; allowed: {KINDS}")
    suffix = PAYLOAD.get(kind)
    payload = read_file(folder / f"{name}{suffix}", MAX_ARTIFACT_BYTES) if suffix else b""
    return record, payload
