"""Cache judged notebooks, and bring gradebook and ``autograded/`` in step with them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory

from autograder.grading import database, nbgrader_plugins, verdict_cells
from autograder.grading.unit import Unit
from autograder.intake.course import Course, run_converter

_NAMED = re.compile(r"[\w.]+(Error|Exception|Entry): ")


@dataclass(frozen=True)
class Graded:
    """One graded submission: verdicts and what intake found, as plain data.

    ``lost`` says why there is no verdict where the judge, and not the student, is the reason.
    """

    student: str
    verdicts: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]
    lost: str | None = None

    @property
    def points(self) -> float:
        """Sum over the judged cells; cells for a person are not in it."""
        return round(sum(v["points"] for v in self.verdicts), 2)


class Records:
    """Cache of judged notebooks, so that an interrupted run goes on where it was.

    One file for each student in ``.autograder/verdicts/<lab>``: the key of the unit and the judged
    notebook, replaced as a whole. The gradebook is written from it, by this process alone, and
    written again whenever it does not say the same.
    """

    def __init__(self, course: Course, lab: str) -> None:
        self.course, self.lab = course, lab
        self.folder = course.root / ".autograder" / "verdicts" / lab
        self.folder.mkdir(parents=True, exist_ok=True)

    def find(self, student: str, unit: Unit) -> bytes | None:
        """The judged notebook of exactly this unit, if there is one."""
        try:
            stored = (self.folder / f"{student}.ipynb").read_bytes()
            key, _, judged = stored.partition(b"\n")
        except OSError:
            return None
        return judged if key.decode("ascii", "replace") == unit.key() else None

    def keep(self, student: str, unit: Unit, judged: bytes) -> None:
        """Store a judged notebook."""
        part = self.folder / f"{student}.part"
        try:
            part.write_bytes(unit.key().encode() + b"\n" + judged)
            part.replace(self.folder / f"{student}.ipynb")
        finally:
            part.unlink(missing_ok=True)

    def publish(self, student: str, unit: Unit, judged: bytes) -> Graded:
        """Bring gradebook and ``autograded/`` in step with a judged notebook.

        Raises:
            Stopped: the gradebook's database does not answer, for longer than one waits.
        """
        notebook = nbformat.reads(judged.decode(), as_version=4)
        wanted = graded_of(notebook, student)

        def write() -> None:
            if not self._published(wanted):
                self._write(student, unit, notebook)

        try:
            database.patiently(self.course.directory.db_url, write)
        except (NbGraderException, ValueError) as error:
            return unjudged(student, unit, f"nbgrader could not record it: {_cause(error)}")
        return wanted

    def _published(self, wanted: Graded) -> bool:
        try:
            if read(self.course, self.lab, wanted.student) != wanted:
                return False
        except (OSError, ValueError):
            return False
        with self.course.gradebook() as gradebook:
            try:
                rows = gradebook.find_submission_notebook(self.lab, self.lab, wanted.student).grades
            except MissingEntry:
                return False
            found = {row.name: row for row in rows}
            return all(_recorded(found.get(v["check"]), v) for v in wanted.verdicts)

    def _write(self, student: str, unit: Unit, notebook: NotebookNode) -> None:
        """Let nbgrader record what was judged, with its own converter; nothing runs again."""
        staging = self.course.root / ".autograder" / "staged"
        folder = staging / student / self.lab
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{self.lab}.ipynb")
        if unit.submission.timestamp is not None:
            (folder / "timestamp.txt").write_bytes(unit.submission.timestamp)
        directory = CourseDirectory(config=self.course.config, root=str(self.course.root))
        directory.submitted_directory = str(staging)
        directory.assignment_id, directory.student_id = self.lab, student
        converter = Autograde(coursedir=directory, config=self.course.config)
        converter.exporter_class = NotebookExporter  # intake and judge are done
        converter.autograde_preprocessors = [
            step for step in converter.autograde_preprocessors if step is not nbgrader_plugins.Judge
        ]
        try:
            with _earlier_kept(self.course.folder("autograded", student, self.lab), staging):
                run_converter(converter)
        finally:
            shutil.rmtree(staging / student, ignore_errors=True)


@contextlib.contextmanager
def _earlier_kept(folder: Path, aside: Path) -> Iterator[None]:
    """Put ``folder`` aside and, where what writes it anew fails, back again.

    nbgrader removes what it fails to write, and with it what an earlier run has found.
    """
    earlier = aside / f".{folder.parent.name}.earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    if folder.exists():
        folder.replace(earlier)
    try:
        yield
    except BaseException:
        if earlier.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            earlier.replace(folder)
        raise
    finally:
        shutil.rmtree(earlier, ignore_errors=True)


def _cause(error: Exception) -> str:
    """The last error that nbgrader logged; its own message only says where to look."""
    lines = [line for line in str(error).splitlines() if _NAMED.match(line)]
    return lines[-1] if lines else str(error)


def _recorded(row: Any, verdict: dict[str, Any]) -> bool:
    """Tell whether the gradebook's ``row`` says what the verdict says.

    What a person decided since stays: nbgrader would ask for it again if it were written again.
    """
    if row is None or row.auto_score != verdict["points"]:
        return False
    decided = row.manual_score is not None or row.extra_credit is not None
    return not verdict["inconclusive"] or row.needs_manual_grade or decided


def read(course: Course, lab: str, student: str) -> Graded:
    """Read the verdicts of an autograded submission from its notebook.

    Raises:
        OSError: it was not graded.
        ValueError: what is there is no notebook.
    """
    path = course.folder("autograded", student, lab) / f"{lab}.ipynb"
    return graded_of(nbformat.read(path, as_version=4), student)


def graded_of(notebook: NotebookNode, student: str) -> Graded:
    """Read the verdicts in a judged notebook."""
    verdicts = [found for cell in notebook.cells if (found := verdict_cells.verdict_in(cell))]
    plain = json.loads(json.dumps(verdicts))
    notes = plain[0]["notes"] if plain else []
    return Graded(student, tuple(plain), tuple(notes))


def unjudged(student: str, unit: Unit, reason: str) -> Graded:
    """A submission that was lost: told, and nothing of it recorded."""
    problems = (*unit.submission.problems, f"not judged: {reason}")
    return Graded(student, (), problems, lost=reason)
