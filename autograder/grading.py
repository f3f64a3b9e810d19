"""``autograder grade``: every submission of a lab through intake, judge and nbgrader's gradebook.

The same converter and preprocessors as ``nbgrader autograde`` (:mod:`autograder.executor`), in one
process, over staged copies; so a missing or broken notebook still gets its row and its reason.
One submission's trouble never stops the others.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import logging
import os
import shutil
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from tqdm.auto import tqdm
from traitlets.config import Config, PyFileConfigLoader

from autograder import executor, intake, judge, pool, work
from autograder.work import Unit


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

    def labs(self) -> list[str]:
        """Every lab that has a source."""
        folder = self.folder("source", ".", "lab").parent
        return sorted(path.name for path in folder.glob("lab*") if path.is_dir())

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
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = True,
    progress: bool = True,
    job: pool.Job = work.judge_unit,
) -> Iterator[Graded]:
    """Grade the submissions of ``lab`` below ``root``; yields each as it is done.

    Args:
        only: these students; empty: all.
        unisolated: see :func:`autograder.judge.isolation`.
        workers: processes on this machine; None: one for each core; 0: this process alone.
        scheduler: address of a Dask cluster, instead of processes.
        resume: take over what was graded before, where nothing that it depends on has changed.
        job: what a worker does with a unit.

    Raises:
        NotReleased: the lab was never released into this gradebook.
        NotIsolated: see :func:`autograder.judge.isolation`.
    """
    isolated = judge.isolation(unisolated)
    course = Course.at(root)
    with course.gradebook() as gradebook:
        find_assignment(gradebook, lab)
    chosen = [student for student in course.students(lab) if not only or student in only]
    # The largest first, so that no worker is left with a long one while the others are done.
    chosen.sort(key=lambda student: -_bytes(course.folder("submitted", student, lab)))
    if scheduler:
        judged = partial(pool.on_dask, address=scheduler, job=job)
    elif workers == 0:
        judged = partial(pool.here, job=job)
    else:
        judged = partial(pool.local, workers=workers or pool.default_workers(), job=job)
    with (
        _alone(course.root),
        tqdm(total=len(chosen), desc=f"grading {lab}", unit="sub", disable=not progress) as bar,
    ):
        for graded in _graded(course, lab, chosen, isolated, resume, judged):
            bar.update()
            yield graded


def _bytes(folder: Path, most: int = 1_000) -> int:
    """Size of the artifacts handed in; none is opened, no depth followed, no flood counted out."""
    with suppress(OSError):
        found = itertools.islice(folder.glob("outputs/*/*"), most)
        return sum(path.lstat().st_size for path in found)
    return 0


def find_assignment(gradebook: Gradebook, lab: str) -> Any:
    """nbgrader's record of ``lab``.

    Raises:
        NotReleased: there is none.
    """
    try:
        return gradebook.find_assignment(lab)
    except MissingEntry:
        raise NotReleased(
            f"{lab} is not in the gradebook; run `nbgrader generate_assignment {lab}` first"
        ) from None


def _graded(
    course: Course,
    lab: str,
    students: Sequence[str],
    isolated: bool,
    resume: bool,
    judged_of: Callable[[Iterable[bytes]], Iterator[tuple[int, pool.Answer]]],
) -> Iterator[Graded]:
    seed, pinned = judge.secret_seed(course.root), os.environ.get("CODESIGN_DATASET")
    records = Records(course, lab)
    ready: deque[Graded] = deque()
    taken: dict[int, tuple[str, Unit]] = {}
    count = itertools.count()

    def units() -> Iterator[bytes]:
        """What is left to judge; what was judged before goes to the gradebook on the way."""
        for student in students:
            if not intake.STUDENT_ID.fullmatch(student):
                ready.append(Graded(student, (), ("not graded: this is no student's id",)))
                continue
            submission = intake.accept(
                course.released(lab), course.folder("submitted", student, lab)
            )
            unit = Unit(lab, submission, seed, isolated, pinned)
            judged = records.find(student, unit) if resume else None
            if judged is None:
                taken[next(count)] = student, unit
                yield unit.to_bytes()
            else:
                ready.append(records.publish(student, unit, judged))

    for index, answer in judged_of(units()):
        student, unit = taken.pop(index)
        if isinstance(answer, pool.Lost):
            judged = work.refused(unit, f"the judge could not judge this: {answer}")
        else:
            judged = answer
            records.keep(student, unit, judged)
        ready.append(records.publish(student, unit, judged))
        while ready:
            yield ready.popleft()
    yield from ready


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One grading of a course at a time: another one waits, and then finds its work done."""
    folder = root / ".autograder"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another grading of {root} is running; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Records:
    """What was judged, kept so that a run that was cut goes on where it was.

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
        part.write_bytes(unit.key().encode() + b"\n" + judged)
        part.replace(self.folder / f"{student}.ipynb")

    def publish(self, student: str, unit: Unit, judged: bytes) -> Graded:
        """Bring gradebook and ``autograded/`` in step with a judged notebook."""
        notebook = nbformat.reads(judged.decode(), as_version=4)
        wanted = graded_of(notebook, student)
        try:
            if not self._published(wanted):
                self._write(student, unit, notebook)
        except (NbGraderException, OSError, ValueError) as error:
            reason = f"nbgrader could not grade this submission: {error}"
            _zero(self.course, self.lab, student)
            return Graded(student, (), (*unit.submission.problems, reason))
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
            step for step in converter.autograde_preprocessors if step is not executor.Judge
        ]
        try:
            run_converter(converter)
        finally:
            shutil.rmtree(staging / student, ignore_errors=True)


def _recorded(row: Any, verdict: dict[str, Any]) -> bool:
    """Whether the gradebook's ``row`` says what the verdict says.

    What a person decided since stays: nbgrader would ask for it again if it were written again.
    """
    if row is None or row.auto_score != verdict["points"]:
        return False
    decided = row.manual_score is not None or row.extra_credit is not None
    return not verdict["inconclusive"] or row.needs_manual_grade or decided


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
        ValueError: what is there is no notebook.
    """
    path = course.folder("autograded", student, lab) / f"{lab}.ipynb"
    return graded_of(nbformat.read(path, as_version=4), student)


def graded_of(notebook: NotebookNode, student: str) -> Graded:
    """The verdicts in a judged notebook."""
    verdicts = [found for cell in notebook.cells if (found := judge.verdict_in(cell))]
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
