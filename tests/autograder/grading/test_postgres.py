"""The gradebook on a real PostgreSQL server, started here: the same rows as in nbgrader's file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from toy_lab import DOUBLE, LAB, NBGRADERS_WARNINGS, hand_in, judge_by_reading

from autograder.grading import run
from autograder.intake.course import Course, own_programs

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server (Debian: postgresql)"),
    *NBGRADERS_WARNINGS,
]


@pytest.fixture(scope="module")
def server():
    """A server with one socket in a folder of its own; returns the URL of a gradebook there."""
    folder = Path(tempfile.mkdtemp(prefix="codesign-db-"))
    as_root = os.geteuid() == 0  # which PostgreSQL refuses to be
    if as_root:
        shutil.chown(folder, "postgres")
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if as_root else {}
    programs, quiet = PROGRAMS[-1].parent, subprocess.DEVNULL
    initdb = [programs / "initdb", "-D", folder / "data", "-U", "grader", "-A", "trust"]
    subprocess.run(initdb, check=True, stdout=quiet, cwd=folder, **who)
    process = subprocess.Popen(
        [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="],
        stdout=quiet,
        stderr=quiet,
        cwd=folder,
        **who,
    )
    try:
        create = [programs / "createdb", "-h", folder, "-U", "grader", "gradebook"]
        end = time.monotonic() + 60
        while subprocess.run(create, stderr=quiet, cwd=folder, **who).returncode:
            assert time.monotonic() < end, "the server does not answer"
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
        yield f"postgresql+psycopg:///gradebook?host={folder}&user=grader"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def rows(course) -> list[tuple]:
    """Every automatic score in the gradebook."""
    with course.gradebook() as gradebook:
        return sorted(
            (submission.student.id, grade.cell.name, grade.auto_score)
            for submission in gradebook.assignment_submissions(LAB)
            for notebook in submission.notebooks
            for grade in notebook.grades
        )


def graded(course, **options) -> dict[str, float]:
    done = run.grade(
        course.root,
        LAB,
        unisolated=True,
        workers=2,
        progress=False,
        job=judge_by_reading,
        **options,
    )
    return {one.student: one.points for one in done}


def nbgrader(course, *words: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *words]
    with own_programs():
        ran = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_the_same_rows_as_in_a_file(course, server, monkeypatch):
    for number in range(5):
        hand_in(course, f"student{number}", DOUBLE if number % 2 else "def double(x): return x")
    points = graded(course)
    expected = rows(course)
    assert len(expected) == 10
    (course.root / "gradebook.db").unlink()
    shutil.rmtree(course.root / "autograded")

    monkeypatch.setenv("CODESIGN_DB", server)
    nbgrader(course, "generate_assignment", LAB, "--force")  # the schema is nbgrader's own
    course = Course.at(course.root)
    assert rows(course) == []
    assert graded(course) == points
    assert rows(course) == expected
    assert graded(course, resume=False) == points
    assert rows(course) == expected
    nbgrader(course, "generate_feedback", LAB)
    nbgrader(course, "export", "--to", "grades.csv")
    exported = (course.root / "grades.csv").read_text().splitlines()
    assert len(exported) == 6
    assert not (course.root / "gradebook.db").exists()
