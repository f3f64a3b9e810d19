"""Hold a student's function to its arguments: what it changes there without leave is named.

A record of the arguments is taken before a call and compared after it, bit for bit: tensors by
dtype, shape and values, lists and dicts by their entries, models by weights, buffers, training
mode, ``requires_grad`` and config. An answer may share memory with an argument.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from autograder.contract.said import short

MAX_NAME = 60  # characters
PROMISE = "the text says that arguments stay as they are"


class ArgumentChanged(Exception):
    """A function changed an argument that its text does not allow it to change."""


class Guard:
    """The arguments of one call as they went in.

    Args:
        may_change: arguments that are not compared, by position or by name. One position is the
            same in every submission; where a name is none of the function's parameters, because
            somebody named them differently, nothing is compared.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        may_change: Collection[str | int] = (),
    ) -> None:
        names = _names(function, len(args))
        given: list[tuple[str | int, str, Any]] = [
            *((at, names[at], value) for at, value in enumerate(args)),
            *((name, name, value) for name, value in kwargs.items()),
        ]
        known = {part for at, name, _ in given for part in (at, name)}
        unknown = any(isinstance(name, str) and name not in known for name in may_change)
        self.held = [
            (name, value, record(value))
            for at, name, value in given
            if not unknown and at not in may_change and name not in may_change
        ]

    def check(self) -> None:
        """Compare the arguments with what they were.

        Raises:
            ArgumentChanged: names each that changed, and the first place in it.
        """
        pairs = ((name, difference(before, value)) for name, value, before in self.held)
        changed = [
            f"{name[:MAX_NAME]!r}{where[:MAX_NAME]} ({what})"
            for name, (where, what) in ((n, d) for n, d in pairs if d)
        ]
        if changed:
            kind = "argument" if len(changed) == 1 else "arguments"
            raise ArgumentChanged(f"changed its {kind} {' and '.join(changed)}; {PROMISE}")


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the first ``count`` positional arguments; numbers where they have none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except Exception:  # a student's object may answer in any way
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*named[:count], *(f"number {at + 1}" for at in range(len(named), count))]


def record(value: Any) -> Any:
    """Copy of an argument for :func:`difference`; nothing that happens to it changes the copy."""
    if isinstance(value, torch.nn.Module):
        return _settings(value)
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return type(value)(map(record, value))
    if isinstance(value, dict):
        return {name: record(entry) for name, entry in value.items()}
    return value


def _settings(model: torch.nn.Module) -> dict[str, Any]:
    """What a model is besides its code, under the words that a message has for it."""
    weights = {name: v.detach().clone() for name, v in model.state_dict().items()}
    return {
        "state": dict.fromkeys(weights),
        "layers": {name: _layer(part) for name, part in model.named_modules()},
        "training mode": {name: part.training for name, part in model.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "config": copy.deepcopy(getattr(model, "config", None)),
        "weights": weights,
    }


def _layer(part: torch.nn.Module) -> str:
    return f"{type(part).__name__}({part.extra_repr()})"


def difference(before: Any, after: Any) -> tuple[str, str] | None:
    """First place where ``after`` is not what :func:`record` noted of it, and what is there."""
    if isinstance(after, torch.nn.Module):
        return _in_model(before, after)
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        said = _in_tensor(before, after)
        return ("", said) if said else None
    if type(before) is not type(after):
        return "", f"a {type(before).__name__} became a {type(after).__name__}"
    if isinstance(before, (list, tuple)):
        if len(before) != len(after):
            return "", f"{len(before)} entries became {len(after)}"
        return _first((f"[{at}]", *pair) for at, pair in enumerate(zip(before, after, strict=True)))
    if isinstance(before, dict):
        if before.keys() != after.keys():
            odd = min(before.keys() ^ after.keys(), key=str)
            return "", f"key {str(odd)[:MAX_NAME]!r} {'went' if odd in before else 'is new'}"
        return _first((_place(name), entry, after[name]) for name, entry in before.items())
    if before == after or (before != before and after != after):
        return None
    return "", f"{short(before, MAX_NAME)} became {short(after, MAX_NAME)}"


def _place(name: str) -> str:
    return f"[{name!r}]" if name else ""  # "" is a model itself among its modules


def _first(triples: Any) -> tuple[str, str] | None:
    for place, before, after in triples:
        if found := difference(before, after):
            return f"{place}{found[0]}", found[1]
    return None


def _in_model(before: Any, after: torch.nn.Module) -> tuple[str, str] | None:
    if not isinstance(before, dict) or "training mode" not in before:
        return "", f"a {type(before).__name__} became a model"
    now = _settings(after)
    for part in before:  # modes and names before values: "frozen" says more than an entry
        if found := difference(before[part], now[part]):
            return "", f"its {part}{found[0][:MAX_NAME]}: {found[1]}"
    return None


def _in_tensor(before: torch.Tensor, after: torch.Tensor) -> str | None:
    if before.dtype != after.dtype:
        return f"{before.dtype} became {after.dtype}"
    if before.shape != after.shape:
        return f"shape {tuple(before.shape)} became {tuple(after.shape)}"
    was, now = _bytes(before), _bytes(after)
    if torch.equal(was, now):
        return None
    wrong = int((was != now).any(dim=1).sum())
    return f"{wrong:,} of {before.numel():,} entries"


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of each entry, [entries, bytes], so that NaN equals itself and -0 is not 0."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).reshape(flat.numel(), flat.element_size())
