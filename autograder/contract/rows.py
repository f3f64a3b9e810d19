"""Score the rows of a verdict: one measured figure or tested property each, with its points.

A figure's points stand in ``targets.toml``. A property's row only says its *share*; :func:`scaled`
gives all such rows of a check what its figures leave, in proportion, whatever the unit of shares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autograder.contract.comparing import difference, kind
from autograder.contract.said import plain
from autograder.contract.targets import Figure

if TYPE_CHECKING:  # what only reads verdicts does without PyTorch
    import torch


COUNT = "{} of {} cases failed, first: "
COUNTED = re.compile(r"\d+ of \d+ cases failed, first: ")
MAX_NAME = 200  # characters


@dataclass(frozen=True)
class Row:
    """One measured figure or tested property and its points; its words are safe to show."""

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
        object.__setattr__(self, "message", plain(self.message))
        for name in ("name", "measured", "target"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, plain(value, MAX_NAME))


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
    found = difference(got, expected, "value", 0.0 if exact else atol, 0.0 if exact else rtol)
    return passed(name, found is None, share, found or "")


def type_fault(value: object, dtype: torch.dtype, shape: tuple[int, ...]) -> str | None:
    """Say what keeps ``value`` from being a tensor of this type and shape, or None."""
    import torch

    if isinstance(value, torch.Tensor) and (value.dtype, tuple(value.shape)) == (dtype, shape):
        return None
    return f"got {kind(value)}, expected a {str(dtype).removeprefix('torch.')} tensor {shape}"


def expect_tuple(value: Any, *names: str) -> tuple[Any, ...]:
    """``value`` as a tuple of as many entries as there are ``names``.

    Raises:
        ValueError: it is none; says what was got and what is expected.
    """
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        raise ValueError(f"got {kind(value)}, expected ({', '.join(names)})")
    return tuple(value)


def no_fault(name: str, faults: Sequence[str | None], share: float) -> Row:
    """The whole share where no case has a fault; otherwise how many have, and the first one."""
    found = [fault for fault in faults if fault]
    if not found:
        return passed(name, True, share)
    count = COUNT.format(len(found), len(faults)) if len(faults) > 1 else ""
    return passed(name, False, share, f"{count}{found[0]}")


def told_once(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, where one cause is said in the first of them and referred to in the others."""
    said: dict[str, str] = {}
    told = []
    for row in rows:
        count = found.group() if (found := COUNTED.match(row.message)) else ""
        cause = row.message[len(count) :]
        if first := said.get(cause):
            told.append(replace(row, message=f"{count}see {first!r} above"))
            continue
        if cause and row.status == "failed":
            said[cause] = row.name
        told.append(row)
    return tuple(told)


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
