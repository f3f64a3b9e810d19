"""``autograder grade``: every submission of a lab through intake, judge and nbgrader's gradebook.

The same converter and preprocessors as ``nbgrader autograde`` (:mod:`autograder.executor`), in one
process, over staged copies; so a missing or broken notebook still gets its row and its reason.
One submission's trouble never stops the others.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from tqdm.auto import tqdm
from traitlets.config import Config, PyFileConfigLoader

from autograder import executor, intake, judge


class NotReleased(LookupError):
    """The lab is not in the gradebook."""


@dataclass(frozen=True)
class Course:
    """An nbgrader course: its folder and what ``nbgrader_config.py`` says."""

    root: Path
    config: Config
    directory: CourseDirectory

    @classmethod
    def at(cls, root: Path) -> Course:
        """The course whose ``nbgrader_config.py`` lies in ``root``.

        Raises:
            FileNotFoundError: there is none.
        """
        root = root.resolve()
        if not (root / "nbgrader_config.py").exists():
            raise FileNotFoundError(f"{root} has no nbgrader_config.py: not a course")
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
        return cls(root, config, CourseDirectory(config=config, root=str(root)))

    def folder(self, step: str, student: str, lab: str) -> Path:
        """Where ``step`` (``"submitted"``, ``"autograded"``, …) keeps ``student``'s ``lab``."""
        name = getattr(self.directory, f"{step}_directory")
        return Path(self.directory.format_path(name, student, lab))

    def released(self, lab: str) -> Path:
        """The notebook that students were given."""
        return self.folder("release", ".", lab) / f"{lab}.ipynb"

    def students(self, lab: str) -> list[str]:
        """Who handed in ``lab``, sorted."""
        pattern = self.folder("submitted", "*", lab)
        return sorted(path.parent.name for path in Path("/").glob(str(pattern)[1:]))

    def gradebook(self) -> Gradebook:
        """An open gradebook; close it, or use it as a context manager."""
        return Gradebook(self.directory.db_url, self.directory.course_id)


@dataclass(frozen=True)
class Graded:
    """One graded submission: verdicts and what intake found, as plain data."""

    student: str
    verdicts: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @property
    def points(self) -> float:
        """Sum over the judged cells; cells for a person are not in it."""
        return round(sum(v["points"] for v in self.verdicts), 2)


def grade(
    root: Path,
    lab: str,
    *,
    only: Sequence[str] = (),
    unisolated: bool | None = None,
    progress: bool = True,
) -> Iterator[Graded]:
    """Grade the submissions of ``lab`` below ``root``; yields each as it is done.

    Raises:
        NotReleased: the lab was never released into this gradebook.
        NotIsolated: see :func:`autograder.judge.isolation`.
    """
    isolated = judge.isolation(unisolated)
    course = Course.at(root)
    with course.gradebook() as gradebook:
        try:
            gradebook.find_assignment(lab)
        except MissingEntry:
            raise NotReleased(
                f"{lab} is not in the gradebook; run `nbgrader generate_assignment {lab}` first"
            ) from None
    chosen = [student for student in course.students(lab) if not only or student in only]
    with _said_unisolated(not isolated):
        for student in tqdm(chosen, desc=f"grading {lab}", unit="sub", disable=not progress):
            yield grade_one(course, lab, student)


@contextmanager
def _said_unisolated(yes: bool) -> Iterator[None]:
    """Tell the executor, which nbgrader calls and which takes no arguments of ours."""
    before = os.environ.get("CODESIGN_UNISOLATED")
    if yes:
        os.environ["CODESIGN_UNISOLATED"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CODESIGN_UNISOLATED", None)
        else:
            os.environ["CODESIGN_UNISOLATED"] = before


def grade_one(course: Course, lab: str, student: str) -> Graded:
    """Stage and grade one submission; whatever happens, there is a row with a reason."""
    staging = course.root / ".autograder" / "staged"
    submission = course.folder("submitted", student, lab)
    problems = intake.stage(course.released(lab), submission, staging / student / lab)
    directory = CourseDirectory(config=course.config, root=str(course.root))
    directory.submitted_directory = str(staging)
    directory.assignment_id, directory.student_id = lab, student
    try:
        converter = Autograde(coursedir=directory, config=course.config)
        converter.exporter_class = NotebookExporter  # what is staged has been taken in already
        run_converter(converter)
        graded = read(course, lab, student)
    except (NbGraderException, OSError, ValueError) as error:
        reason = f"nbgrader could not grade this submission: {error}"
        _zero(course, lab, student)
        graded = Graded(student, (), (*problems, reason))
    finally:
        shutil.rmtree(staging / student, ignore_errors=True)
    return graded


def run_converter(converter: Any) -> None:
    """Run one nbgrader converter over what is there already, quietly.

    Raises:
        NbGraderException: it failed; carries what it logged.
    """
    said = io.StringIO()
    converter.force = True
    converter.log = logging.Logger("autograder.nbgrader", logging.WARNING)
    converter.log.addHandler(logging.StreamHandler(said))
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"  # it calls `alembic`
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own models, not ours
            converter.start()
    except (NbGraderException, SystemExit) as error:
        raise NbGraderException(f"{error}\n{said.getvalue()[-4_000:]}") from None
    finally:
        os.environ["PATH"] = path


def release(root: Path, lab: str) -> None:
    """Run nbgrader's ``generate_assignment`` for ``lab`` in the course at ``root``."""
    course = Course.at(root)
    course.directory.assignment_id = lab
    run_converter(GenerateAssignment(coursedir=course.directory, config=course.config))


def read(course: Course, lab: str, student: str) -> Graded:
    """The verdicts of an autograded submission, from its notebook.

    Raises:
        OSError: it was not graded.
    """
    path = course.folder("autograded", student, lab) / f"{lab}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    verdicts = [
        output.data[judge.VERDICT_MIME]
        for cell in notebook.cells
        if intake.is_judged(cell)
        for output in cell.outputs
        if output.output_type == "display_data" and judge.VERDICT_MIME in output.data
    ]
    plain = json.loads(json.dumps(verdicts))
    notes = plain[0]["notes"] if plain else []
    return Graded(student, tuple(plain), tuple(notes))


def _zero(course: Course, lab: str, student: str) -> None:
    """Give 0 for every judged cell, so that a submission without a verdict still has a row."""
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        gradebook.update_or_create_submission(lab, student)
        submission = gradebook.find_submission_notebook(lab, lab, student)
        for entry in submission.grades:
            entry.auto_score, entry.needs_manual_grade = 0, False
        gradebook.db.commit()


def is_wired(course: Course) -> bool:
    """Whether plain ``nbgrader autograde`` in this course uses the judge."""
    return executor.Judge in course.config.Autograde.get("autograde_preprocessors", [])
