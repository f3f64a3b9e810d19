"""On how many seeds an answer is tried, and how far from its bound a measured figure stays.

A right answer must keep its points on a hundred secret seeds and a wrong one lose some on twenty:
caught by luck is not caught. What the judge measures on images or with a clock is tried on three,
and there the distance to the bound counts, in standard deviations of what the seeds draw; where
that is close, on ten.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from autograder.contract.definition import LabDefinition
from autograder.contract.rows import Row
from autograder.contract.verdict import Verdict

PROOF_SEED = 20_260_101  # any but the public one: the proof must not depend on a course's secret
VALID_SEEDS, MUTANT_SEEDS = 100, 20
DEAR_S, DEAR_VALID, DEAR_MUTANT = 1.0, 30, 10  # of a check that takes longer a seed
MEASURED_SEEDS, CLOSE_SEEDS = 3, 10  # the spread of three draws is itself known to a half
AGAIN_SEEDS = 3  # of a line that the ledger knows
SEEDS = [PROOF_SEED, *random.Random(PROOF_SEED).sample(range(2**31), VALID_SEEDS - 1)]
CLEAR = 3.0  # standard deviations
CLOSE = 2 * CLEAR  # nearer than this on few seeds, it is tried on more
MEASURED = ("accuracy", "latency", "speedup")  # in names of figures: by images or a clock


def measures(lab: LabDefinition, check: str) -> bool:
    """Whether a check measures on images or with a clock; else it tests functions or counts."""
    figures = {name for found in lab.targets[check].figures.values() for name in found}
    return any(word in name for name in figures for word in MEASURED)


def seeds(lab: LabDefinition, check: str, *, right: bool, seconds: float, again: bool) -> list[int]:
    """The seeds on which an answer to ``check`` is tried.

    Args:
        right: a reference or a valid solution; else a mutant.
        seconds: that the check takes on one seed.
        again: the ledger knows the line; it is tried on a few seeds, drawn at random, and on one
            where it is measured.
    """
    if measures(lab, check):
        return SEEDS[: 1 if again else MEASURED_SEEDS]
    dear = seconds > DEAR_S
    valid, mutant = (DEAR_VALID, DEAR_MUTANT) if dear else (VALID_SEEDS, MUTANT_SEEDS)
    chosen = SEEDS[: valid if right else mutant]
    if again:
        return [PROOF_SEED, *random.SystemRandom().sample(chosen[1:], AGAIN_SEEDS - 1)]
    return chosen


@dataclass(frozen=True)
class Trial:
    """The verdicts of one check on one answer, one a seed, beside the reference's points."""

    verdicts: Sequence[Verdict]
    full: float

    @property
    def is_close(self) -> bool:
        """Whether so few seeds leave open on which side of what is clear a figure lies."""
        return len(self.verdicts) == MEASURED_SEEDS and any(
            abs(distance) < CLOSE for distance in self.distances()
        )

    @property
    def lost(self) -> list[int]:
        """Which of the seeds cost points."""
        return [i for i, v in enumerate(self.verdicts) if v.points < self.full - 1e-9]

    def mutant_fault(self) -> str:
        """Say why a wrong answer is not caught clearly; empty: it is."""
        if len(self.lost) < len(self.verdicts):
            return f"caught on {len(self.lost)} of {len(self.verdicts)} seeds"
        by_rows = all(any(_is_property(r) and _short(r) for r in v.rows) for v in self.verdicts)
        worst = min(self.distances(), default=-math.inf)
        if by_rows or worst <= -CLEAR:
            return ""
        return f"only {-worst:.1f} standard deviations on the wrong side of its bound"

    def right_fault(self) -> str:
        """Say why a right answer is not accepted clearly; empty: it is."""
        if self.lost:
            first = self.verdicts[self.lost[0]]
            said = "; ".join(f"{row.name}: {row.message}" for row in first.rows if _short(row))
            return f"lost points on {len(self.lost)} of {len(self.verdicts)} seeds, first: {said}"
        worst = min(self.distances(), default=math.inf)
        return "" if worst >= CLEAR else f"only {worst:.1f} standard deviations from its bound"

    def distances(self) -> list[float]:
        """Of each figure: from its target, better is positive, in standard deviations of a seed.

        Infinite where it is the same on every seed; one seed has none.
        """
        if len(self.verdicts) < 2:
            return []
        found = []
        for rows in zip(*(v.rows for v in self.verdicts), strict=False):
            if any(_is_property(row) or math.isnan(_number(row)) for row in rows):
                continue
            better = 1.0 if _number(rows[0], "target") > (rows[0].floor or 0.0) else -1.0
            gaps = [better * (_number(row) - _number(row, "target")) for row in rows]
            mean, spread = statistics.mean(gaps), statistics.stdev(gaps)
            found.append(mean / spread if spread else math.copysign(math.inf, mean))
        return found


def _is_property(row: Row) -> bool:
    """Whether a row is no figure with a bound."""
    return row.floor is None


def _short(row: Row) -> bool:
    return row.points < row.max_points - 1e-9


def _number(row: Row, what: str = "measured") -> float:
    value = getattr(row, what)
    return float(value) if isinstance(value, int | float) else math.nan
