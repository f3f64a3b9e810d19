"""Roster of the class: each student's verdicts beside the rows of the gradebook.

The class is everybody whom nbgrader knows and everybody who handed in. Points of the judge come
from the verdicts, points of a person from the gradebook. Leaves out nbgrader's own names and
e-mail addresses: a report needs the id alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbgrader.api import BaseCell, Grade, SubmittedAssignment, SubmittedNotebook

from autograder.contract.cells import NOT_ACCEPTED
from autograder.contract.definition import find
from autograder.grading import records
from autograder.grading.records import Graded
from autograder.intake.course import Course, find_assignment

GRADED, WAITING, ABSENT = "graded", "not graded yet", "handed in nothing"


@dataclass(frozen=True)
class Cell:
    """One graded cell of one student in the gradebook; ``waits`` for a person to give points."""

    name: str
    judged: bool
    automatic: float | None
    manual: float | None
    extra: float | None
    waits: bool
    max_points: float

    @property
    def decided(self) -> bool:
        """Whether a person gave points."""
        return self.manual is not None or self.extra is not None

    @property
    def points(self) -> float:
        """As nbgrader counts: a person's points before automatic ones, and extra ones on top."""
        given = self.automatic if self.manual is None else self.manual
        return (given or 0.0) + (self.extra or 0.0)


@dataclass(frozen=True)
class Entry:
    """One student's line of the report.

    ``total`` is ``judged`` + ``by_person`` + ``changed`` - ``penalty``, and at least 0.
    """

    student: str
    state: str
    graded: Graded
    cells: tuple[Cell, ...] = ()
    penalty: float = 0.0
    max_judged: float = 0.0
    max_by_person: float = 0.0
    problems: tuple[str, ...] = field(default=())

    @property
    def judged(self) -> float | None:
        """The judge's points; None: it gave none yet."""
        return self.graded.points if self.state == GRADED else None

    @property
    def by_person(self) -> float | None:
        """Points of the cells that a person grades; None while she has not begun."""
        scored = [c for c in self.cells if not c.judged and (c.decided or c.automatic is not None)]
        return round(sum(cell.points for cell in scored), 2) if scored else None

    @property
    def changed(self) -> float:
        """What a person added to the judge's points, or took away."""
        changed = (c.points - (c.automatic or 0.0) for c in self.cells if c.judged and c.decided)
        return round(sum(changed), 2)

    @property
    def total(self) -> float | None:
        """Points so far; None: not graded yet."""
        if self.state == WAITING:
            return None
        points = (self.judged or 0.0) + (self.by_person or 0.0) + self.changed - self.penalty
        return round(max(points, 0.0), 2)

    @property
    def max_points(self) -> float:
        """Points of the whole lab."""
        return self.max_judged + self.max_by_person

    @property
    def to_grade(self) -> tuple[str, ...]:
        """Cells that wait for a person."""
        return tuple(cell.name for cell in self.cells if cell.waits)

    def cell(self, name: str) -> Cell | None:
        """The gradebook's cell of this name."""
        return next((cell for cell in self.cells if cell.name == name), None)


def read(course: Course, lab: str) -> list[Entry]:
    """The class, ordered by id.

    Raises:
        NotReleased: the lab is not in the gradebook.
        ValueError: ``targets.toml`` does not know the lab.
    """
    checks = find(lab).targets
    with course.gradebook() as gradebook:
        everything = float(find_assignment(gradebook, lab).max_score)
        known = {student.id for student in gradebook.students}
        cells = _cells(gradebook, lab, set(checks))
        late = {
            one.student.id: float(one.late_submission_penalty or 0.0)
            for one in gradebook.assignment_submissions(lab)
        }
    handed_in = set(course.students(lab))
    max_judged = sum(check.points for check in checks.values())
    entries = []
    for student in sorted(known | handed_in):
        state, graded = _graded(course, lab, student, student in handed_in)
        entries.append(
            Entry(
                student,
                state,
                graded,
                tuple(cells.get(student, ())) if state == GRADED else (),
                late.get(student, 0.0) if state == GRADED else 0.0,
                max_judged,
                max(everything - max_judged, 0.0),
                graded.problems if state == GRADED else (state,),
            )
        )
    return entries


def _graded(course: Course, lab: str, student: str, handed_in: bool) -> tuple[str, Graded]:
    try:
        return GRADED, records.read(course, lab, student)
    except (OSError, ValueError):
        return WAITING if handed_in else ABSENT, Graded(student, (), ())


def _cells(gradebook: Any, lab: str, judged: set[str]) -> dict[str, list[Cell]]:
    """All cells of the class in one query: a class of hundreds must not cost thousands."""
    columns = (
        SubmittedAssignment.student_id,
        BaseCell.name,
        Grade.auto_score,
        Grade.manual_score,
        Grade.extra_credit,
        Grade.needs_manual_grade,
        Grade.max_score,
    )
    query = (
        gradebook.db.query(*columns)
        .select_from(Grade)
        .join(BaseCell, Grade.cell_id == BaseCell.id)
        .join(SubmittedNotebook, Grade.notebook_id == SubmittedNotebook.id)
        .join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .filter(SubmittedAssignment.assignment_id == find_assignment(gradebook, lab).id)
    )
    found: dict[str, list[Cell]] = {}
    for student, name, automatic, manual, extra, waits, maximum in query:
        cell = Cell(name, name in judged, automatic, manual, extra, bool(waits), float(maximum))
        found.setdefault(student, []).append(cell)
    return found


def inconclusive(entries: Sequence[Entry]) -> int:
    """How many rows of the class noise left undecided."""
    return sum(row["status"] == "inconclusive" for e in entries for _, row in rows(e))


def rows(entry: Entry) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every verdict of a student with each of its rows."""
    return [(verdict, row) for verdict in entry.graded.verdicts for row in verdict["rows"]]


def is_refused(entry: Entry) -> bool:
    """Whether the judge could not judge: it lost the submission, or the notebook is none."""
    lost = any(row["status"] == "refused" for _, row in rows(entry))
    return lost or any(p.startswith(NOT_ACCEPTED) for p in entry.problems)
