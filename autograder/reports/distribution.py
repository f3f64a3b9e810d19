"""Distributions over the class: each measured figure, and the points of each check.

A figure is a verdict's row whose target is a number; which ones there are is read from the
verdicts, so a new lab needs no line here. Figures of two data sets are never mixed: neither their
values nor their targets are comparable. Leaves out drawing (:mod:`autograder.reports.plots`).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autograder.reports import roster
from autograder.reports.roster import Entry


@dataclass(frozen=True)
class Distribution:
    """One figure over the class: decided values, those within noise, how many have none."""

    check: str
    name: str
    dataset: str
    unit: str
    target: float
    reference: float | None
    floor: float | None
    values: tuple[float, ...]
    inconclusive: tuple[float, ...]
    unmeasured: int

    @property
    def all(self) -> tuple[float, ...]:
        """Every measured value."""
        return (*self.values, *self.inconclusive)

    @property
    def median(self) -> float | None:
        """Of all measured values; None without any."""
        return statistics.median(self.all) if self.all else None

    @property
    def less_is_better(self) -> bool | None:
        """The direction; None where only the check knows it."""
        return None if self.floor is None else self.floor > self.target

    @property
    def at_target(self) -> int | None:
        """How many decided values are at the target or better."""
        if self.floor is None:
            return None
        sign = -1 if self.less_is_better else 1
        return sum(sign * value >= sign * self.target for value in self.values)


@dataclass(frozen=True)
class Points:
    """The judge's points of one check over the class."""

    check: str
    max_points: float
    values: tuple[float, ...]


def number(value: Any) -> float | None:
    """A finite number, or None: for text, booleans, NaN and nothing at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def figures(entries: Sequence[Entry]) -> list[Distribution]:
    """Every figure of the class, in the order of the lab, datasets side by side.

    A student whose check broke before it measured counts as unmeasured, on the data set on which
    the check was judged.
    """
    found: dict[tuple[str, str, str], list[dict]] = {}
    judged: Counter[tuple[str, str]] = Counter()
    order: dict[str, int] = {}
    for entry in entries:
        for verdict in entry.graded.verdicts:
            order.setdefault(verdict["check"], len(order))
            judged[verdict["check"], verdict["dataset"]] += 1
            for row in verdict["rows"]:
                if number(row["target"]) is not None:
                    key = verdict["check"], row["name"], verdict["dataset"]
                    found.setdefault(key, []).append(row)
    names = {key[:2]: index for index, key in reversed(list(enumerate(found)))}
    keys = sorted(found, key=lambda key: (order[key[0]], names[key[:2]], key[2]))
    return [_distribution(key, found[key], judged[key[0], key[2]]) for key in keys]


def _distribution(key: tuple[str, str, str], rows: list[dict], judged: int) -> Distribution:
    check, name, dataset = key
    measured = [(row["status"], number(row["measured"])) for row in rows]
    decided = [v for status, v in measured if status != "inconclusive" and v is not None]
    open_ones = [v for status, v in measured if status == "inconclusive" and v is not None]
    target = _usual(rows, "target")
    return Distribution(
        check,
        name,
        dataset,
        rows[0]["unit"],
        0.0 if target is None else target,
        _usual(rows, "reference"),
        _usual(rows, "floor"),
        tuple(decided),
        tuple(open_ones),
        judged - len(decided) - len(open_ones),
    )


def _usual(rows: list[dict], field: str) -> float | None:
    """The most frequent value of a field: a target may have changed between two gradings."""
    values = Counter(v for row in rows if (v := number(row.get(field))) is not None)
    return values.most_common(1)[0][0] if values else None


def points(entries: Sequence[Entry]) -> list[Points]:
    """The points of every check, in the order of the lab."""
    found: dict[str, list[float]] = {}
    maxima: dict[str, float] = {}
    for entry in entries:
        for verdict in entry.graded.verdicts:
            found.setdefault(verdict["check"], []).append(verdict["points"])
            maxima[verdict["check"]] = verdict["max_points"]
    return [Points(check, maxima[check], tuple(values)) for check, values in found.items()]


def datasets(entries: Sequence[Entry]) -> dict[str, int]:
    """Count the submissions judged on each dataset; "" for those never judged."""
    counts: Counter[str] = Counter()
    for entry in entries:
        if entry.state == roster.GRADED:
            counts[next((v["dataset"] for v in entry.graded.verdicts if v["dataset"]), "")] += 1
    return dict(sorted(counts.items()))
