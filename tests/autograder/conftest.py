"""The toy lab, registered, and released in a real nbgrader course in a temporary folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import written_lab
from toy_lab import LAB, lay_out, register

from autograder import grading, sandbox


@pytest.fixture
def toy(monkeypatch):
    """The toy lab, registered."""
    register(monkeypatch)


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Path:
    """A course folder with the toy lab released, made once; nobody writes there."""
    root = tmp_path_factory.mktemp("released") / "course"
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        return lay_out(root)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """The folder of a course with a written answer, its three submissions graded once."""
    root = tmp_path_factory.mktemp("written") / "course"
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        course = written_lab.make(root)
        done = grading.grade(
            root, LAB, workers=0, unisolated=not sandbox.available(), progress=False
        )
        assert {one.student: one.points for one in done} == {"ada": 5, "bob": 0, "eve": 0}
    return course.root


@pytest.fixture
def course(toy, released, tmp_path) -> grading.Course:
    """The released toy lab, in a folder of the test's own."""
    return grading.Course.at(Path(shutil.copytree(released, tmp_path / "course")))
