"""A grading that is killed at any moment goes on where it was: the gradebook ends up the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import time

import psutil
import pytest
from toy_lab import (
    LAB,
    NBGRADERS_WARNINGS,
    definition,
    half_zero,
    hand_in,
    judge_by_reading,
    judge_slowly,
    register,
)

from autograder.grading import run, unit
from autograder.intake import release

ROUNDS = 50
STUDENTS = 8
pytestmark = [
    pytest.mark.attack,
    pytest.mark.slow,
    *NBGRADERS_WARNINGS,
]


def grade_toy(root, workers: int) -> None:
    """A whole grading, in a process that may be killed."""
    register(definition())
    os.environ["CODESIGN_UNISOLATED"] = "1"
    list(
        run.grade(
            root,
            LAB,
            workers=workers,
            progress=False,
            job=judge_slowly if workers else judge_by_reading,
        )
    )


def start(root, workers: int = 0) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["autograder.grading.run", "toy_lab"])
    process = context.Process(target=grade_toy, args=(root, workers))
    process.start()
    return process


def rows(root) -> list[tuple]:
    """Everything of the gradebook that grading wrote, but for its random ids."""
    query = """
        select submitted_assignment.student_id, base_cell.name, grade.auto_score,
               grade.manual_score, grade.needs_manual_grade
        from grade
        join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        join base_cell on grade.cell_id = base_cell.id
        order by 1, 2
    """
    with sqlite3.connect(root / "gradebook.db") as database:
        found = database.execute(query).fetchall()
    database.close()
    return found


@pytest.fixture
def class_of_eight(course):
    for number in range(STUDENTS):
        source = "def double(x): return 3 * x" if number % 3 == 0 else None
        model = half_zero() if number % 2 else None
        hand_in(course, f"student{number}", **({"source": source} if source else {}), model=model)
    return course


@pytest.fixture
def undisturbed(class_of_eight):
    """The gradebook of a run that nobody disturbed, which is then forgotten."""
    root = class_of_eight.root
    pristine = (root / "gradebook.db").read_bytes()
    process = start(root)
    process.join(300)
    assert process.exitcode == 0
    found = rows(root)
    assert len(found) == 2 * STUDENTS
    forget(root, pristine)
    return found, pristine


def forget(root, pristine: bytes) -> None:
    """The course as it was before anybody graded."""
    import shutil

    (root / "gradebook.db").write_bytes(pristine)
    for left in ("gradebook.db-journal", "autograded", ".autograder"):
        path = root / left
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_killed_at_random_moments(class_of_eight, undisturbed):
    """Fifty kills of the grader; whenever a run came through, the gradebook is the same."""
    root, (expected, pristine) = class_of_eight.root, undisturbed
    dice = random.Random(5)
    finished = killed = 0
    while killed < ROUNDS:
        process = start(root)
        # Every tenth run is left alone, however slow the machine is.
        process.join(dice.uniform(0.05, 1.5) if (killed + finished) % 10 else 300)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            killed += 1
            continue
        assert process.exitcode == 0
        assert rows(root) == expected
        finished += 1
        forget(root, pristine)
    process = start(root)
    process.join(300)
    assert process.exitcode == 0
    assert rows(root) == expected
    assert finished >= 1


def test_workers_killed_at_random_moments(class_of_eight, undisturbed):
    root, (expected, _) = class_of_eight.root, undisturbed
    dice = random.Random(6)
    process = start(root, workers=2)
    victims = 0
    while process.exitcode is None:
        process.join(dice.uniform(0.5, 2.0))
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            if victims < 4 and len(children) >= 3:
                dice.choice(children).kill()  # a worker, or the process that forks them
                victims += 1
    assert process.exitcode == 0
    assert victims
    assert rows(root) == expected


def test_what_is_graded_and_unchanged_is_not_judged_again(class_of_eight, monkeypatch):
    monkeypatch.setenv("CODESIGN_UNISOLATED", "1")
    judged = []

    def count(unit: bytes) -> bytes:
        judged.append(unit)
        return judge_by_reading(unit)

    def judged_now() -> int:
        judged.clear()
        list(run.grade(class_of_eight.root, LAB, workers=0, progress=False, job=count))
        return len(judged)

    assert judged_now() == STUDENTS
    before = rows(class_of_eight.root)
    start_s = time.monotonic()
    assert judged_now() == 0
    assert time.monotonic() - start_s < 10
    hand_in(class_of_eight, "late", model=half_zero())
    assert judged_now() == 1
    (class_of_eight.root / "gradebook.db").unlink()
    release.release(class_of_eight.root, LAB)
    assert judged_now() == 0, "a lost gradebook is written again from the records"
    assert [row for row in rows(class_of_eight.root) if row[0] != "late"] == before
    source = class_of_eight.folder("submitted", "student1", LAB) / f"{LAB}.ipynb"
    source.write_text(source.read_text().replace("2 * x", "x + x"))
    assert judged_now() == 1, "what was handed in again is judged again"
    monkeypatch.setattr(unit, "source_version", lambda: "another judge")
    assert judged_now() == STUDENTS + 1, "another judge judges again"
