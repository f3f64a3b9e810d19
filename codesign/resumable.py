"""Keep the state of unfinished work in files, and take it up again to the same result.

A training's file holds weights, the optimizer's state, the step, the history (a dataclass that JSON
can hold) and the settings of the run, which must agree when it is resumed; the file of work in
rounds, what the last one has found. Neither knows the code that left it there: :func:`fingerprint`
tells two codes apart, and :func:`take_up` drops what another one left. Used by both trainings'
``fit``, ``Lab.produce`` and the labs.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import nn

from codesign import checkpoints, models
from codesign.datasets import ImageSet

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), np.generic)
MADE_BY = "made_by"  # file with the fingerprint of what works in a folder


@dataclass
class History:
    """What a run measured: mean loss of each epoch, and validation accuracy (0..1) if asked for."""

    loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


# --- a training ----------------------------------------------------------------------------------


def state_file(stem: str | Path) -> Path:
    """Where work with this ``resume`` stem keeps its state."""
    stem = Path(stem)
    return stem.with_name(f"{stem.name}.state")  # with_suffix would cut a dotted name


def save_state(
    stem: Path,
    settings: dict[str, Any],
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: Any,
    losses: list[float],
) -> None:
    """Write the whole state after ``step`` steps; ``losses`` are those of the begun epoch."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for i, parameter in enumerate(model.parameters()):
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{name}"] = value.contiguous()
    record = {"settings": settings, "step": step, "history": vars(history), "losses": losses}
    # one file: weights and step stay together
    checkpoints.write_tensors(state_file(stem), tensors, {"run": json.dumps(record)})


def restore_state(
    stem: Path,
    settings: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: Any,
) -> tuple[int, list[float]]:
    """Read stored state into model, optimizer and history; the step, and the begun epoch's losses.

    Raises:
        ValueError: it belongs to a run with other settings or to another network, or is damaged.
    """
    path = state_file(stem)
    if not path.exists():
        return 0, []
    record = json.loads(checkpoints.metadata(path)["run"])
    if record["settings"] != settings:
        raise ValueError(
            f"{path} belongs to a run with {record['settings']}, this one has {settings}; "
            "delete the file to start again"
        )
    tensors = checkpoints.tensors(path)
    weights = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} belongs to another network: {error}") from None
    parameters = list(model.parameters())
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "optimizer":
            number, _, kind = rest.partition(".")
            parameter = parameters[int(number)]
            held = value.clone(memory_format=torch.preserve_format)
            optimizer.state[parameter][kind] = held.to(parameter.device) if held.ndim else held
    vars(history).update(record["history"])
    return int(record["step"]), record.get("losses", [])


def final_model(stem: Path, model: nn.Module) -> nn.Module:
    """A copy of ``model`` with the weights that the run ``stem`` ended with."""
    tensors = checkpoints.tensors(state_file(stem))
    copy = models.build(model.config)  # type: ignore[arg-type]
    copy.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    return copy.eval()


# --- work in rounds ------------------------------------------------------------------------------


def keep(stem: Path | None, found: nn.Module | Mapping[str, torch.Tensor], history: Any) -> None:
    """Write how far work has come that goes on in rounds: nothing where ``stem`` is None.

    Args:
        found: a course model or named tensors.
        history: what JSON can hold.
    """
    if stem is not None:
        config = found.config if isinstance(found, nn.Module) else None
        state = found.state_dict() if isinstance(found, nn.Module) else found
        tensors = {name: value.contiguous() for name, value in state.items()}
        record = json.dumps({"config": config, "history": history})
        checkpoints.write_tensors(state_file(stem), tensors, {"rounds": record})


def kept(stem: Path | None) -> tuple[Any, Any] | None:
    """Read what :func:`keep` wrote last, a model in evaluation mode; None where nothing is.

    Raises:
        ValueError: a damaged file.
    """
    if stem is None or not state_file(stem).exists():
        return None
    record = json.loads(checkpoints.metadata(state_file(stem))["rounds"])
    tensors = checkpoints.tensors(state_file(stem))
    found = checkpoints.rebuild(record["config"], tensors) if record["config"] else tensors
    return found, record["history"]


# --- whose work it is ----------------------------------------------------------------------------


def take_up(folder: Path, made_by: str, *, fresh: bool = False) -> str:
    """Make ``folder`` ready for work; what other code left there is removed, with ``fresh`` all.

    Args:
        made_by: the :func:`fingerprint` of the work.

    Returns:
        What becomes of the states that were there, to be told; empty: there were none.
    """
    mark = folder / MADE_BY
    mine = mark.exists() and mark.read_text(encoding="utf-8") == made_by
    found = any(folder.glob("*.state"))
    if fresh or not mine:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(made_by, encoding="utf-8")
    if fresh or not found:
        return ""
    return (
        "goes on where it was interrupted" if mine else "code or inputs changed, so it starts anew"
    )


def clear(folder: Path) -> None:
    """Remove the states of finished work, and the folder around them if nothing else is there."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def fingerprint(function: Callable[..., Any], *given: Any) -> str:
    """Hash a function's code and what it works on: two runs that agree compute the same.

    Followed, however deep, is what it names in its own notebook: functions, classes, numbers,
    texts, tensors, models, objects. Comments and line numbers do not count. Of image sets only name
    and length are seen, of the library's functions the name, of its other objects the type.
    """
    home = getattr(_plain(function), "__globals__", {})
    digest = hashlib.sha256()
    seen: dict[int, Any] = {}
    for part in _parts([function, *given], home, seen):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any, home: dict[str, Any], seen: dict[int, Any]) -> Iterator[bytes]:
    """What counts of a value; ``home``: the notebook's names, ``seen``: what was followed."""
    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, PLAIN):
        yield repr(value).encode()
    elif isinstance(value, torch.Tensor | np.ndarray):
        yield from _numbers(torch.as_tensor(value))
    elif isinstance(value, ImageSet):
        yield f"{value.card.name} {value.card.split} {len(value)}".encode()
    elif isinstance(value, set | frozenset):
        yield from sorted(b"\0".join(_parts(item, home, dict(seen))) for item in value)
    elif id(value) in seen and not isinstance(value, tuple):  # Python shares equal tuples
        yield str(list(seen).index(id(value))).encode()
    else:
        seen[id(value)] = value  # kept alive: an id is of a living object
        for item in _inside(value, home):
            yield from _parts(item, home, seen)


def _inside(value: Any, home: dict[str, Any]) -> Iterator[Any]:
    """The values that a container, a model, a function, a class or its code is made of."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, nn.Module):
        yield from (type(value), dict(value.state_dict()))
    elif isinstance(value, CodeType):
        yield from (value.co_code, value.co_names, value.co_varnames, value.co_consts)
        loads = (i for i in dis.get_instructions(value) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
        yield from (home[name] for name in sorted({i.argval for i in loads} & home.keys()))
    elif isinstance(value, type):
        yield value.__qualname__
        if value.__module__ == home.get("__name__"):
            yield value.__bases__
            yield from ((k, v) for k, v in vars(value).items() if k[:2] != "__" or callable(v))
    elif isinstance(value, property):
        yield from (value.fget, value.fset)
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif type(value).__module__ == home.get("__name__"):
        yield from (type(value), getattr(value, "__dict__", {}))
    elif callable(value):
        yield from _function(value, home)


def _plain(function: Any) -> Any:
    """The Python function inside of decorators, methods, callable objects and partial calls."""
    if isinstance(function, partial):
        return _plain(function.func)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def _function(value: Any, home: dict[str, Any]) -> Iterator[Any]:
    """A function's code, defaults and closure if it is at home in the notebook; else its name."""
    function = _plain(value)
    yield getattr(value, "__self__", None)
    if getattr(function, "__globals__", None) is not home:
        yield f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
        return
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # empty: its function is still being defined
            yield cell.cell_contents


def _numbers(tensor: torch.Tensor) -> Iterator[bytes]:
    yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    with suppress(RuntimeError):  # a sparse or quantized one
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
