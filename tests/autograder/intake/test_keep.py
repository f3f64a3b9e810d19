"""What somebody wrote into a released lab outlives every way of generating it anew."""

from __future__ import annotations

import sys

import nbformat
import pytest
from toy_lab import LAB, NBGRADERS_WARNINGS

from autograder.contract.cells import is_solution
from autograder.intake import keep, release
from autograder.intake.course import Course

pytestmark = NBGRADERS_WARNINGS


def notebook_of(course):
    return course.root / "labs" / LAB / f"{LAB}.ipynb"


def answer(course, text="def double(x): return x + x"):
    path = notebook_of(course)
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if is_solution(cell)).source = text
    nbformat.write(notebook, path)
    return path.read_bytes()


def backups(course):
    return sorted((course.root / "backups").glob(f"{LAB}-*/{LAB}.ipynb"))


def run_a_cell(course):
    notebook = nbformat.read(notebook_of(course), as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.execution_count = 1
    nbformat.write(notebook, notebook_of(course))


WORK = {
    "an answer": answer,
    "a cell that was run": run_a_cell,
    "a further file": lambda course: (notebook_of(course).parent / "notes.txt").write_text("mine"),
    "artifacts": lambda course: (notebook_of(course).parent / "outputs" / "glyphs").mkdir(
        parents=True
    ),
    "a broken notebook": lambda course: notebook_of(course).write_text('{"cells": ['),
}


@pytest.fixture(autouse=True)
def a_lab_by_name(monkeypatch):
    """The toy's name does not begin as a lab's does."""
    monkeypatch.setattr(Course, "labs", lambda _: [LAB])


def test_what_was_handed_out_is_not_touched(course):
    assert not keep.is_touched(notebook_of(course).parent)
    release.generate(course.root, LAB)
    release.release(course.root, LAB)
    (notebook_of(course).parent / ".ipynb_checkpoints").mkdir()
    assert not keep.is_touched(notebook_of(course).parent)
    assert not (course.root / "backups").exists()


@pytest.mark.parametrize("kind", WORK)
def test_any_trace_of_work_counts(course, kind):
    WORK[kind](course)
    assert keep.is_touched(notebook_of(course).parent)


@pytest.mark.parametrize("again", [release.generate, release.release])
def test_generating_anew_keeps_the_work_and_says_where(course, capsys, again):
    written = answer(course)
    again(course.root, LAB)
    [kept] = backups(course)
    assert kept.read_bytes() == written
    assert str(kept.parent) in capsys.readouterr().err
    assert not keep.is_touched(notebook_of(course).parent)


def test_twice_in_a_second_are_two_backups(course):
    folder = notebook_of(course).parent
    answer(course)
    assert keep.keep(course.root, folder) != keep.keep(course.root, folder)
    assert len(backups(course)) == 2


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["generate_assignment", LAB, "--force"], 1),
        (["generate_assignment", "--assignment=toy", "--force"], 1),
        (["generate_assignment", LAB, "--CourseDirectory.release_directory=/elsewhere"], 0),
        (["autograde", LAB], 0),
    ],
)
def test_nbgraders_own_command_keeps_it_too(course, monkeypatch, words, kept):
    answer(course)
    monkeypatch.setattr(sys, "argv", ["nbgrader", *words])
    for _ in range(3):  # as often as nbgrader reads the configuration
        keep.before_nbgrader(course.root)
    assert len(backups(course)) == kept


def test_a_copy_to_work_in_is_never_overwritten(course):
    folder = keep.work(course.root, LAB)
    assert (folder / f"{LAB}.ipynb").read_bytes() == notebook_of(course).read_bytes()
    (folder / f"{LAB}.ipynb").write_text("mine")
    with pytest.raises(FileExistsError, match="nothing in it was changed"):
        keep.work(course.root, LAB)
    assert (folder / f"{LAB}.ipynb").read_text() == "mine"
    with pytest.raises(ValueError, match=f"got lab 'lab9'; allowed: \\['{LAB}'\\]"):
        keep.work(course.root, "lab9")
