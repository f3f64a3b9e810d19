"""Grade every submission of a lab into nbgrader's gradebook: ``autograder grade``.

The same converter and preprocessors as ``nbgrader autograde`` (:mod:`.nbgrader_plugins`), in one
process, over staged copies; so a missing or broken notebook still gets its row and its reason.
One submission's trouble never stops the others.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from autograder.contract.environment import DATASET
from autograder.grading import cluster, crew, database, lost, pool
from autograder.grading.lost import Lost
from autograder.grading.records import Graded, Records, unjudged
from autograder.grading.unit import Unit, judge_unit
from autograder.intake import accept, release
from autograder.intake.course import Course, find_assignment, secret_seed
from autograder.sandbox.isolation import isolation


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
    job: pool.Job = judge_unit,
) -> Iterator[Graded]:
    """Grade the submissions of ``lab`` below ``root``; yields each as it is done.

    Args:
        only: these students; empty: all.
        unisolated: see :func:`autograder.sandbox.isolation.isolation`.
        workers: processes on this machine; None: one for each core; 0: this process alone.
        scheduler: address of a Dask cluster, instead of processes.
        resume: take over what was graded before, where nothing that it depends on has changed.
        job: what a worker does with a unit.

    Raises:
        Stopped: it cannot go on; the next run does, from what this one has done.
        NotReleased: the lab was never released into this gradebook.
        NotIsolated: see :func:`autograder.sandbox.isolation.isolation`.
    """
    isolated = isolation(unisolated)
    course = Course.at(root)
    database.patiently(course.directory.db_url, partial(_is_there, course, lab))
    chosen = [student for student in course.students(lab) if not only or student in only]
    # The largest first, so that no worker is left with a long one while the others are done.
    chosen.sort(key=lambda student: -_bytes(course.folder("submitted", student, lab)))
    if scheduler:
        judged = partial(cluster.on_dask, address=scheduler, isolated=isolated, job=job)
    elif workers == 0:
        judged = partial(pool.here, job=job)
    else:
        judged = partial(pool.local, workers=workers or crew.cores(), job=job)
    with (
        _alone(course.root),
        tqdm(total=len(chosen), desc=f"grading {lab}", unit="sub", disable=not progress) as bar,
    ):
        for graded in _graded(course, lab, chosen, isolated, resume, judged):
            bar.update()
            yield graded


def to_the_end(root: Path, lab: str, **options: Any) -> tuple[list[Graded], str | None]:
    """Grade as :func:`grade` does, as far as it goes: what is done, and what is lost or stopped it.

    Raises:
        Like :func:`grade`, but for ``Stopped`` and what this machine cannot do (no space).
    """
    done: list[Graded] = []
    try:
        for one in grade(root, lab, **options):
            done.append(one)
    except FileNotFoundError:
        raise
    except (lost.Stopped, OSError) as error:
        return done, str(error)
    return done, lost.told([one.lost for one in done if one.lost], len(done))


def _is_there(course: Course, lab: str) -> None:
    with course.gradebook() as gradebook:
        find_assignment(gradebook, lab)


def _bytes(folder: Path, most: int = 1_000) -> int:
    """Sum the sizes of submitted artifacts; none is opened, no depth followed."""
    with suppress(OSError):
        found = itertools.islice(folder.glob("outputs/*/*"), most)
        return sum(path.lstat().st_size for path in found)
    return 0


def _graded(
    course: Course,
    lab: str,
    students: Sequence[str],
    isolated: bool,
    resume: bool,
    judged_of: Callable[[Iterable[bytes]], Iterator[tuple[int, pool.Answer]]],
) -> Iterator[Graded]:
    seed, pinned = secret_seed(course.root), os.environ.get(DATASET)
    records, base = Records(course, lab), release.base(course, lab)
    ready: deque[Graded] = deque()
    taken: dict[int, tuple[str, Unit]] = {}
    count = itertools.count()

    def units() -> Iterator[bytes]:
        """What is left to judge; what was judged before goes to the gradebook on the way."""
        for student in students:
            if not accept.STUDENT_ID.fullmatch(student):
                ready.append(Graded(student, (), ("not graded: this is no student's id",)))
                continue
            submission = accept.submission(base, lab, course.folder("submitted", student, lab))
            unit = Unit(lab, submission, seed, isolated, pinned)
            judged = records.find(student, unit) if resume else None
            if judged is None:
                taken[next(count)] = student, unit
                yield unit.to_bytes()
            else:
                ready.append(records.publish(student, unit, judged))

    first = lost.First()
    for index, answer in judged_of(units()):
        student, unit = taken.pop(index)
        if isinstance(answer, Lost):
            ready.append(unjudged(student, unit, str(answer)))
        else:
            records.keep(student, unit, answer)
            ready.append(records.publish(student, unit, answer))
        reason = ready[-1].lost
        while ready:
            yield ready.popleft()
        first.note(reason)
    yield from ready


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Lock the course: a second grading waits, and then finds its work done."""
    folder = root / ".autograder"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another grading of {root} is running; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
