"""Score the rows of a verdict: one measured figure or tested property each, with its points.

A figure's points stand in ``targets.toml``. A property's row only says its *share*; :func:`scaled`
gives all such rows of a check what its figures leave, in proportion, whatever the unit of shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autograder.contract.targets import Figure

if TYPE_CHECKING:  # what only reads verdicts does without PyTorch
    import torch


@dataclass(frozen=True)
class Row:
    """One measured figure or tested property and its points."""

    name: str
    measured: float | str | None
    target: float | str | None
    points: float
    max_points: float
    unit: str = ""
    reference: float | None = None
    message: str = ""
    status: str = "ok"  # or "failed", "inconclusive", "refused" (never judged)
    floor: float | None = None  # of a figure: on the worse side of its target

    def __post_init__(self) -> None:
        if not 0 <= self.points <= self.max_points + 1e-9:  # NaN fails this, too
            raise ValueError(f"{self.name}: got {self.points} points of {self.max_points}")


def failed(name: str, max_points: float, message: str) -> Row:
    """Make a row of no points with the reason."""
    return Row(name, None, None, 0.0, max_points, message=message, status="failed")


def passed(name: str, ok: bool, share: float, message: str = "") -> Row:
    """Give all points or none; ``message`` says why not."""
    if bool(ok):
        return Row(name, "yes", "yes", share, share)
    return Row(name, "no", "yes", 0.0, share, message=message, status="failed")


def scaled(
    rows: Sequence[Row], figures: Mapping[str, Figure], max_points: float
) -> tuple[Row, ...]:
    """The rows of one check with the points that its targets give them.

    Raises:
        ValueError: figures that are out of more than the check is, or that leave nothing to share.
    """
    fixed = sum(row.max_points for row in rows if row.name in figures)
    shares = sum(row.max_points for row in rows if row.name not in figures)
    left = max_points - fixed
    if left < -1e-6 or (left > 1e-6) != (shares > 0):
        raise ValueError(
            f"rows {[row.name for row in rows]}: figures are out of {fixed:g} of {max_points:g} "
            f"points, and the other rows share {shares:g} parts of the rest"
        )
    factor = left / shares if shares else 1.0
    if factor == 1.0:
        return tuple(rows)
    return tuple(
        row
        if row.name in figures
        else replace(row, points=row.points * factor, max_points=row.max_points * factor)
        for row in rows
    )


def credit(measured: float, target: float, floor: float, max_points: float) -> float:
    """Full points at ``target`` or better, none at ``floor`` or worse, linear between.

    The direction follows from the two: a floor above the target means that smaller is better.
    NaN gives 0.
    """
    if math.isnan(measured):
        return 0.0
    way = (measured - floor) / (target - floor)
    return max_points * min(max(way, 0.0), 1.0)


def measured(
    name: str, value: float, figure: Figure, factor: float = 1.0, message: str = ""
) -> Row:
    """The row of one figure; ``factor`` in 0..1 scales its points (a precondition partly met)."""
    points = credit(value, figure.target, figure.floor, figure.points) * factor
    status = "ok" if points >= figure.points - 1e-9 else "failed"
    return Row(
        name,
        measured=value,
        target=figure.target,
        points=points,
        max_points=figure.points,
        unit=figure.unit,
        reference=figure.reference,
        message=message if status == "failed" else "",
        status=status,
        floor=figure.floor,
    )


def inconclusive(row: Row, message: str) -> Row:
    """Give the row full points and mark it for manual review."""
    return replace(row, points=row.max_points, message=message, status="inconclusive")


def compare(
    name: str,
    got: Any,
    expected: Any,
    share: float,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    exact: bool = False,
) -> Row:
    """Give the whole share when ``got`` equals ``expected`` in structure, type, shape and value."""
    difference = _difference(got, expected, "value", 0.0 if exact else atol, 0.0 if exact else rtol)
    return passed(name, difference is None, share, difference or "")


def _difference(got: Any, expected: Any, where: str, atol: float, rtol: float) -> str | None:
    import torch

    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected, where, atol, rtol)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"{where}: got {_short(got)}, expected {len(expected)} entries"
        pairs = [
            (g, e, f"{where}[{i}]") for i, (g, e) in enumerate(zip(got, expected, strict=True))
        ]
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"{where}: got {_short(got)}, expected the keys {sorted(expected)}"
        pairs = [(got[k], expected[k], f"{where}[{k!r}]") for k in expected]
    elif isinstance(expected, float):
        number = got if isinstance(got, (int, float)) and not isinstance(got, bool) else math.nan
        if isinstance(got, torch.Tensor) and got.numel() == 1:
            number = float(got)
        close = math.isclose(number, expected, rel_tol=rtol, abs_tol=atol)
        return None if close else f"{where}: got {_short(got)}, expected {expected}"
    else:
        same = type(got) is type(expected) and got == expected
        return None if same else f"{where}: got {_short(got)}, expected {_short(expected)}"
    return next((d for g, e, w in pairs if (d := _difference(g, e, w, atol, rtol))), None)


def _tensor_difference(
    got: Any, expected: torch.Tensor, where: str, atol: float, rtol: float
) -> str | None:
    import torch

    if not isinstance(got, torch.Tensor):
        return f"{where}: got a {type(got).__name__}, expected a tensor {tuple(expected.shape)}"
    if got.shape != expected.shape:
        return f"{where}: got shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() != expected.is_floating_point() or (
        (got.dtype == torch.bool) != (expected.dtype == torch.bool)
    ):
        return f"{where}: got dtype {got.dtype}, expected {expected.dtype}"
    close = torch.isclose(got.double(), expected.double(), atol=atol, rtol=rtol)
    if bool(close.all()):
        return None
    index = tuple(int(i) for i in torch.nonzero(~close)[0]) if close.ndim else ()
    wrong = int((~close).sum())
    return (
        f"{where}: {wrong} of {close.numel()} entries differ, first at {index}: "
        f"got {got[index].item()}, expected {expected[index].item()}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def type_fault(value: object, dtype: torch.dtype, shape: tuple[int, ...]) -> str | None:
    """Say what keeps ``value`` from being a tensor of this type and shape, or None."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"got a {type(value).__name__}, expected a {dtype} tensor {shape}"
    if value.dtype != dtype or tuple(value.shape) != shape:
        return f"got {value.dtype} {tuple(value.shape)}, expected {dtype} {shape}"
    return None


def expect_tuple(value: Any, *names: str) -> tuple[Any, ...]:
    """``value`` as a tuple of as many entries as there are ``names``.

    Raises:
        ValueError: it is none; says what was got and what is expected.
    """
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        size = f" of {len(value)}" if isinstance(value, (list, tuple)) else ""
        raise ValueError(f"got a {type(value).__name__}{size}, expected ({', '.join(names)})")
    return tuple(value)


def no_fault(name: str, faults: Sequence[str | None], share: float) -> Row:
    """The whole share where no case has a fault; otherwise the first one is the message."""
    first = next((fault for fault in faults if fault), None)
    return passed(name, first is None, share, first or "")


def joint(
    gain: tuple[str, float], loss: tuple[str, float], target: Mapping[str, Figure]
) -> list[Row]:
    """Score two figures that only count together.

    The loss earns its points in proportion to the gain: a model that was never compressed has no
    loss to be proud of. The gain counts while the loss is within its floor: an empty model is
    small, too.
    """
    gained = earned(gain[1], target[gain[0]])
    usable = float(earned(loss[1], target[loss[0]]) > 0)
    return [
        measured(*gain, target[gain[0]], usable, _why(gain, loss[0], usable)),
        measured(*loss, target[loss[0]], gained, _why(loss, gain[0], gained)),
    ]


def joint_use(
    loss: tuple[str, float], gains: Mapping[str, float], target: Mapping[str, Figure]
) -> list[Row]:
    """A loss that counts by itself, and gains that only count while it is within its floor."""
    usable = float(earned(loss[1], target[loss[0]]) > 0)
    rows = [measured(*loss, target[loss[0]], message=_why(loss, "", 1.0))]
    return rows + [
        measured(name, value, target[name], usable, _why((name, value), loss[0], usable))
        for name, value in gains.items()
    ]


def earned(value: float, figure: Figure) -> float:
    """Compute the share of a figure's points that ``value`` earns, 0..1."""
    return credit(value, figure.target, figure.floor, 1.0)


def _why(figure: tuple[str, float], other: str, factor: float) -> str:
    name, value = figure
    if factor < 1:
        return f"{name} {value:.4g} counts {factor:.0%} because of {other}"
    return f"{name} {value:.4g} misses its target"
