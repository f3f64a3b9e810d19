"""The toy lab, registered, and released in a real nbgrader course in a temporary folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import written_lab
from toy_lab import LAB, lay_out, registered

from autograder.grading import run
from autograder.intake.course import Course
from autograder.sandbox import bubblewrap


@pytest.fixture
def toy():
    """The toy lab, registered."""
    with registered():
        yield


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Path:
    """A course folder with the toy lab released, made once; nobody writes there."""
    root = tmp_path_factory.mktemp("released") / "course"
    with registered():
        return lay_out(root)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """The folder of a course with a written answer, its three submissions graded once."""
    root = tmp_path_factory.mktemp("written") / "course"
    with registered():
        course = written_lab.make(root)
        done = run.grade(
            root, LAB, workers=0, unisolated=not bubblewrap.available(), progress=False
        )
        assert {one.student: one.points for one in done} == {"ada": 5, "bob": 0, "eve": 0}
    return course.root


@pytest.fixture
def course(toy, released, tmp_path) -> Course:
    """The released toy lab, in a folder of the test's own."""
    return Course.at(Path(shutil.copytree(released, tmp_path / "course")))
