"""Say where an answer differs from what is expected: in kind, type, shape or value.

Every difference names what was got, what is expected and the place in a nested answer, in few
words. Used by :mod:`autograder.contract.rows`; PyTorch is imported when a tensor is there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from autograder.contract.said import short

if TYPE_CHECKING:  # what only reads verdicts does without PyTorch
    import torch


def kind(value: Any) -> str:
    """What ``value`` is, in a few words: "a list of 3", "a float32 tensor (4, 4)"."""
    import torch

    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        what = f"a NumPy array of {dtype}" if is_array(value) else f"a {dtype} tensor"
        return f"{what} {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"a dict of {len(value)}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float, str)):
        return f"{type(value).__name__} {short(value, 60)}"
    return f"a {type(value).__name__}"


def is_array(value: Any) -> bool:
    """Whether a tensor was a NumPy array where the student returned it."""
    return bool(getattr(value, "was_array", False))


def difference(got: Any, expected: Any, where: str, atol: float, rtol: float) -> str | None:
    """The first difference, or None: ``got`` is as expected.

    Floats and floating tensors may be off by ``atol + rtol * |expected|``; all else is equal.
    """
    import torch

    if isinstance(expected, torch.Tensor):
        return _of_tensors(got, expected, where, atol, rtol)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"{where}: got {_seen(got)}, expected {_seen(expected)}"
        pairs = [
            (g, e, f"{where}[{i}]") for i, (g, e) in enumerate(zip(got, expected, strict=True))
        ]
    elif isinstance(expected, dict):
        if not isinstance(got, dict):
            return f"{where}: got {_seen(got)}, expected a dict with the keys {_keys(expected)}"
        if got.keys() != expected.keys():
            return f"{where}: got the keys {_keys(got)}, expected {_keys(expected)}"
        pairs = [(got[k], expected[k], f"{where}[{k!r}]") for k in expected]
    elif isinstance(expected, float):
        number = got if isinstance(got, (int, float)) and not isinstance(got, bool) else math.nan
        if isinstance(got, torch.Tensor) and got.numel() == 1:
            number = float(got)
        close = math.isclose(number, expected, rel_tol=rtol, abs_tol=atol)
        return None if close else f"{where}: got {_seen(got)}, expected {expected}"
    else:
        same = type(got) is type(expected) and got == expected
        return None if same else f"{where}: got {_seen(got)}, expected {short(expected)}"
    return next((d for g, e, w in pairs if (d := difference(g, e, w, atol, rtol))), None)


def _seen(value: Any) -> str:
    """What ``value`` is, and its entries where they are few."""
    if not isinstance(value, (list, tuple)):
        return kind(value)
    text = short(value)
    return f"{kind(value)}: {text}" if "tensor(" not in text else kind(value)


def _keys(value: dict[str, Any]) -> str:
    return short(sorted(value, key=str))


def _of_tensors(
    got: Any, expected: torch.Tensor, where: str, atol: float, rtol: float
) -> str | None:
    import torch

    if not isinstance(got, torch.Tensor):
        return f"{where}: got {_seen(got)}, expected {kind(expected)}"
    if got.shape != expected.shape:
        return f"{where}: got shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() != expected.is_floating_point() or (
        (got.dtype == torch.bool) != (expected.dtype == torch.bool)
    ):
        return f"{where}: got {kind(got)}, expected {kind(expected)}"
    if expected.is_floating_point():
        close = torch.isclose(got.double(), expected.double(), atol=atol, rtol=rtol)
    else:  # whole numbers are equal or not: beyond 2^53 float64 does not tell them apart
        close = got.to(torch.int64) == expected.to(torch.int64)
    if bool(close.all()):
        return None
    index = tuple(int(i) for i in torch.nonzero(~close)[0]) if close.ndim else ()
    values = f"got {got[index].item()}, expected {expected[index].item()}"
    if close.numel() == 1:
        return f"{where}: {values}"
    wrong = int((~close).sum())
    return f"{where}: {wrong:,} of {close.numel():,} entries differ, first at {index}: {values}"
