"""Serialize values between judge and student's kernel: JSON and safetensors, never pickle.

Nothing is pickled and nothing is trusted: what comes back is data of bounded size, depth and
dtype, read from regular files only; a model returns as a config and weights that are rebuilt from
the course library. ``serve`` is the kernel's side of a call.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from autograder.contract import tensor_files
from autograder.contract.arguments import ArgumentChanged, Guard
from autograder.contract.deadlines import Overrun
from autograder.contract.files import MAX_BYTES, ExchangeError, read_file
from autograder.contract.said import MAX_MESSAGE, plain, short
from codesign import checkpoints

MAX_TEXT_BYTES = 16 * 2**20  # of the JSON; more than anybody computes, and read in a second
MAX_ENTRIES = 100_000
MAX_DEPTH = 8
MAX_MODELS = 16  # of one answer, each built anew
NO_FUNCTION = "the notebook defines no function"


def pack(value: Any) -> tuple[str, bytes]:
    """Encode ``value`` as (JSON text, safetensors bytes).

    Allowed: None, bool, int, float, str, tensors and arrays, course models, and lists, tuples and
    string-keyed dicts of them.

    Raises:
        ExchangeError: anything else, named with its place.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(value, tensors, "value", 0)
    return json.dumps(tree), save(tensors)


def unpack(tree: str | bytes, tensors: bytes) -> Any:
    """Decode what :func:`pack` made, within the limits of this module.

    Raises:
        ExchangeError: malformed, too deep, too large, or a model that does not fit its config.
    """
    if len(tree) + len(tensors) > MAX_BYTES:
        raise ExchangeError(f"{len(tree) + len(tensors):,} bytes; allowed: {MAX_BYTES:,}")
    raw = tree.encode() if isinstance(tree, str) else tree
    if len(raw) > MAX_TEXT_BYTES:
        raise ExchangeError(f"{len(raw):,} bytes of JSON; allowed: {MAX_TEXT_BYTES:,}")
    if raw.count(b",") > 2 * MAX_ENTRIES:  # before they are built
        raise ExchangeError(f"more than {MAX_ENTRIES:,} entries")
    loaded = tensor_files.tensors(tensors)
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(plain(f"not readable: {error}")) from None
    return _unpack(parsed, loaded, [0, 0], 0)


def _pack(value: Any, tensors: dict[str, torch.Tensor], where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ExchangeError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.nn.Module):
        return _pack_model(value, tensors, where)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise ExchangeError(f"{where} is an array of {value.dtype}; allowed: numbers")
        tensor = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        return {"tensor": _add_tensor(tensor, tensors, where), "array": True}
    if isinstance(value, torch.Tensor):
        return {"tensor": _add_tensor(value, tensors, where)}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_pack(v, tensors, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ExchangeError(f"{where} is a dict with keys that are not strings")
        return {
            "dict": {k: _pack(v, tensors, f"{where}[{k!r}]", depth + 1) for k, v in value.items()}
        }
    raise ExchangeError(
        f"{where} is a {type(value).__name__}; allowed: numbers, strings, tensors, course models, "
        "lists, tuples and dicts of them"
    )


def _add_tensor(value: torch.Tensor, tensors: dict[str, torch.Tensor], where: str) -> str:
    if value.layout != torch.strided:
        raise ExchangeError(f"{where} is a {value.dtype} {value.layout} tensor; allowed: dense")
    if value.dtype not in tensor_files.DTYPES.values():
        raise ExchangeError(f"{where} is a {value.dtype} tensor; allowed: {tensor_files.ALLOWED}")
    name = f"t{len(tensors)}"
    tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    return name


def _pack_model(model: torch.nn.Module, tensors: dict[str, torch.Tensor], where: str) -> Any:
    config = getattr(model, "config", None)
    if not isinstance(config, dict):
        raise ExchangeError(f"{where} is a {type(model).__name__}; allowed: course models")
    weights = {k: _add_tensor(v, tensors, where) for k, v in model.state_dict().items()}
    return {"model": config, "weights": weights}


def _unpack(tree: Any, tensors: dict[str, torch.Tensor], seen: list[int], depth: int) -> Any:
    seen[0] += 1
    if seen[0] > MAX_ENTRIES or depth > 2 * MAX_DEPTH:
        raise ExchangeError(f"more than {MAX_ENTRIES:,} entries or {MAX_DEPTH} levels")
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if not isinstance(tree, dict) or not tree:
        raise ExchangeError("malformed value")
    kind, content = next(iter(tree.items()))
    if kind == "tensor" and isinstance(content, str) and content in tensors:
        tensor = tensors.pop(content)  # once: a megabyte must not become a thousand models
        if tree.get("array") is True:
            tensor.was_array = True  # type: ignore[attr-defined]  # for messages alone
        return tensor
    if kind in ("list", "tuple") and isinstance(content, list):
        items = [_unpack(item, tensors, seen, depth + 1) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict" and isinstance(content, dict):
        return {k: _unpack(v, tensors, seen, depth + 1) for k, v in content.items()}
    if kind == "model" and isinstance(content, dict) and isinstance(tree.get("weights"), dict):
        seen[1] += 1
        if seen[1] > MAX_MODELS:
            raise ExchangeError(f"more than {MAX_MODELS} models")
        try:
            return checkpoints.rebuild(
                content, {k: tensors.pop(name) for k, name in tree["weights"].items()}
            )
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ExchangeError(f"not a course model: {error}"[:MAX_MESSAGE]) from None
    raise ExchangeError(f"malformed value of kind {short(kind)}")


def write(stem: Path, value: Any) -> None:
    """Store ``value`` as ``stem.json`` and ``stem.safetensors``."""
    tree, tensors = pack(value)
    stem.with_suffix(".safetensors").write_bytes(tensors)
    stem.with_suffix(".json").write_text(tree, encoding="utf-8")


def read(stem: Path) -> Any:
    """Load what :func:`write` stored, trusting nothing.

    Raises:
        ExchangeError: see :func:`read_file` and :func:`unpack`.
    """
    tensors = read_file(stem.with_suffix(".safetensors"))
    return unpack(read_file(stem.with_suffix(".json")), tensors)


def request(
    function: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    may_change: Collection[str | int] = (),
) -> dict[str, Any]:
    """What :func:`invoke` is asked for: a call, and the arguments that it may alter."""
    call = {"function": function, "args": list(args), "kwargs": dict(kwargs)}
    return {**call, "may_change": list(may_change)}


def serve(requests: str, answers: str, call: str) -> None:
    """Answer one call of the judge from within the student's kernel."""
    asked = read(Path(requests) / call)
    try:
        answer = {"value": invoke(vars(sys.modules["__main__"]), asked)}
        pack(answer)
    except Exception as error:
        answer = {"error": describe(error)}
    write(Path(answers) / call, answer)


def invoke(namespace: dict[str, Any], asked: dict[str, Any]) -> Any:
    """Call the named function of ``namespace`` with the arguments of a :func:`request`.

    Raises:
        NameError: there is no such function.
        ArgumentChanged: it altered an argument that ``may_change`` does not name.
    """
    function = namespace.get(asked["function"])
    if not callable(function):
        raise NameError(f"{NO_FUNCTION} {asked['function']!r}")
    args, kwargs = asked["args"], asked["kwargs"]
    guard = Guard(function, args, kwargs, asked["may_change"])
    value = function(*args, **kwargs)
    guard.check()
    return value


def describe(error: BaseException) -> str:
    """Type, message and the student's own line of an exception, in one short text."""
    if isinstance(error, (ArgumentChanged, Overrun)):
        return plain(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "ipython-input" in f.filename or "/ipykernel_" in f.filename]
    place = f" (line {own[-1].lineno} of its cell: {own[-1].line})" if own else ""
    try:
        said = str(error)
    except Exception:  # a student's exception may not even have that
        said = "(it cannot be shown)"
    return plain(f"{type(error).__name__}: {said[:MAX_MESSAGE]}{place}")


def is_finite(value: Any) -> bool:
    """Whether every number in a value of this module is finite."""
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, torch.nn.Module):
        return all(is_finite(v) for v in value.state_dict().values())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(is_finite, value))
