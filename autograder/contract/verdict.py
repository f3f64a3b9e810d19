"""The verdict on one graded cell, and the errors of the student's side."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from autograder.contract.rows import Row
from autograder.contract.said import plain


class StudentError(Exception):
    """The student's part failed: missing, raised, overran its deadline or returned no data."""


class MachineError(RuntimeError):
    """This machine did not do its part, whatever the student handed in: never a grade."""


class CheckFailed(AssertionError):
    """Raised in the student's kernel by a check that did not give full points."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one graded cell: its rows, points and what it is out of."""

    check: str
    rows: tuple[Row, ...]
    max_points: float
    dataset: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(plain, self.notes)))

    @property
    def points(self) -> float:
        """Sum of the rows, rounded to two decimals, within 0 and ``max_points``."""
        total = sum(row.points for row in self.rows)
        return min(max(round(total, 2), 0.0), self.max_points)

    @property
    def inconclusive(self) -> bool:
        """Whether noise left a figure undecided, so that a person should look."""
        return any(row.status == "inconclusive" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports, in strict JSON: a number that is not finite becomes its text."""
        rows = tuple({k: _strict(v) for k, v in asdict(row).items()} for row in self.rows)
        plain = {**asdict(self), "rows": rows}
        return {**plain, "points": self.points, "inconclusive": self.inconclusive}


def _strict(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
