"""Rerun a student's training and compare with the submission: ``autograder grade --retrain``.

Grading never trains, so that it is quick; whether an artifact comes from the code beside it stays
open. Here the student's notebook runs with nothing stored, in the same sandbox under a longer
deadline, and what it makes is measured by the same checks. No grade changes: chance moves every
training, so the comparison is for a person, and only what was handed in better than what comes out
by more than chance explains is marked.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autograder.contract import cells, checking, show, targets
from autograder.contract.deadlines import BUDGET_S
from autograder.contract.definition import find
from autograder.contract.environment import GRADING, OUTPUTS
from autograder.contract.rows import Row
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import records
from autograder.intake import accept, release
from autograder.intake.course import Course, secret_seed
from autograder.reports import page
from autograder.sandbox import process
from autograder.sandbox.clock import Budget
from autograder.sandbox.student import KernelStudent

DEADLINE_S = 2 * 3_600.0
HEADINGS = ("check", "figure", "handed in", "made again", "target", "")


@dataclass(frozen=True)
class Comparison:
    """One figure of an artifact: as submitted, and as it comes out again."""

    check: str
    figure: str
    handed_in: float | str | None
    again: float | str | None
    target: float | str | None
    agrees: bool
    message: str = ""


@dataclass(frozen=True)
class Retrained:
    """What came of one student's notebook."""

    student: str
    dataset: str
    seconds: float
    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Tell whether nothing submitted is better than what comes out."""
        return all(one.agrees for one in self.comparisons)


def retrain(
    course: Course,
    name: str,
    student: str,
    *,
    isolated: bool,
    deadline_s: float = DEADLINE_S,
) -> Retrained:
    """Run the notebook of ``student``'s lab ``name`` with nothing stored; measure what it makes.

    Args:
        deadline_s: of the whole notebook, in seconds.

    Raises:
        OSError: the submission was not graded yet.
    """
    before = {v["check"]: v for v in records.read(course, name, student).verdicts}
    dataset = next(iter(before.values()))["dataset"]
    base = release.base(course, name)
    submission = accept.submission(base, name, course.folder("submitted", student, name))
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="codesign-retrain-") as folder,
        process.borrowed(isolated=isolated) as place,
    ):
        made = Path(folder) / dataset
        made.mkdir()
        written = {GRADING: "", OUTPUTS: str(place.inside / "answers" / "outputs")}
        runner = KernelStudent(place, made, dataset, budget_s=deadline_s, environment=written)
        try:
            problems = _run(runner, submission.notebook.cells, deadline_s)
            problems += accept.copy_artifacts(place.answers / "outputs" / dataset, made)
            again = _measure(runner, name, secret_seed(course.root))
        finally:
            runner.close()
    found = [line for verdict in again for line in compare(name, before[verdict.check], verdict)]
    return Retrained(student, dataset, time.monotonic() - start, tuple(found), tuple(problems[:20]))


def _run(runner: KernelStudent, notebook: Iterable[Any], deadline_s: float) -> list[str]:
    """Run every cell that is not a check; returns what went wrong."""
    problems = []
    for cell in notebook:
        if cell.cell_type != "code" or cells.is_judged(cell):
            continue
        try:
            outputs = runner.run_cell(cell.source, deadline_s)
        except StudentError as error:
            problems.append(f"{cells.grade_id(cell) or 'a cell'}: {error}")
            continue
        for output in outputs:
            if output.output_type == "error":
                said = f"{output.ename}: {output.evalue}"[:500]
                problems.append(f"{cells.grade_id(cell) or 'a cell'}: {said}")
    return problems


def _measure(runner: KernelStudent, name: str, seed: int) -> list[Verdict]:
    """The verdicts of those checks that measure an artifact."""
    verdicts = []
    runner.budget = Budget(BUDGET_S)
    for check in find(name).targets:
        runner.read = set()
        verdict = checking.run(name, check, runner, runner.dataset, seed)
        if runner.read:
            verdicts.append(verdict)
    return verdicts


def compare(name: str, before: dict[str, Any], again: Verdict) -> list[Comparison]:
    """Compare the figures of one check, submitted and made again."""
    figures = find(name).targets[again.check].figures[again.dataset]
    found = {row.name: row for row in again.rows}
    reason = "; ".join(row.message for row in again.rows if row.message)
    lines = []
    for row in before["rows"]:
        other = found.get(row["name"])
        lines.append(
            Comparison(
                again.check,
                row["name"],
                _finite(row["measured"]),
                _finite(other.measured) if other else None,
                row["target"],
                _agrees(row, other, figures.get(row["name"])),
                (other.message if other else reason)[:500],
            )
        )
    return lines


def _finite(value: float | str | None) -> float | str | None:
    """The value; None instead of what JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _agrees(row: dict[str, Any], other: Row | None, figure: targets.Figure | None) -> bool:
    """Tell whether a submitted figure is no better than it comes out, up to chance.

    Chance: three standard deviations of the reference over seeds, or a quarter of the way from the
    target to the floor, whichever is more.
    """
    if row["points"] == 0:
        return True  # nothing was gained by it
    if other is None:
        return False
    if figure is None or not isinstance(row["measured"], float) or other.measured is None:
        return other.points >= row["points"]
    with contextlib.suppress(ValueError, TypeError):
        sign = math.copysign(1.0, figure.target - figure.floor)
        chance = max(3 * (figure.spread or 0.0), abs(figure.target - figure.floor) / 4)
        return sign * (row["measured"] - float(other.measured)) <= chance
    return False


def text(done: Retrained) -> str:
    """The comparison in plain text."""
    rows = [
        (
            one.check,
            one.figure,
            show.number(one.handed_in),
            show.number(one.again),
            show.number(one.target),
            "" if one.agrees else f"handed in better than it comes out. {one.message}".strip(),
        )
        for one in done.comparisons
    ]
    title = f"{done.student} on {done.dataset}, made again in {done.seconds:.0f} s"
    return "\n".join([show.text_table(HEADINGS, rows, title), *done.problems])


def write(done: Retrained, lab_name: str, root: Path) -> Path:
    """Store the comparison as ``reports/LAB-retrained-STUDENT.json`` below ``root``."""
    path = root / "reports" / f"{lab_name}-retrained-{done.student}.json"
    return page.write(path, json.dumps({**asdict(done), "agrees": done.agrees}, indent=1) + "\n")
