"""What intake did is said at the top of a submission's page, and to the person who grades."""

from __future__ import annotations

import copy
import subprocess
import sys

import bs4
import nbformat
import pytest
import written_lab
from toy_lab import LAB, NBGRADERS_WARNINGS, registered

from autograder.contract import cells
from autograder.grading import run
from autograder.intake.course import Course
from autograder.reports import queue, roster
from autograder.sandbox import bubblewrap

pytestmark = [pytest.mark.slow, *NBGRADERS_WARNINGS]


def handed_in(course, student):
    path = course.folder("submitted", student, LAB) / f"{LAB}.ipynb"
    return path, nbformat.read(path, as_version=4)


def answer(notebook, name):
    return next(cell for cell in notebook.cells if cells.grade_id(cell) == name)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    """Ada's work without metadata, bob's answer doubled, eve's file empty; dan's answer deleted."""
    with registered():
        course = written_lab.make(tmp_path_factory.mktemp("repaired") / "course")
        good = handed_in(course, "ada")[1]
        path, notebook = handed_in(course, "ada")
        for cell in notebook.cells:
            cell.metadata = {}
        nbformat.write(notebook, path)
        path, notebook = handed_in(course, "bob")
        notebook = copy.deepcopy(good)
        other = copy.deepcopy(answer(notebook, "why"))
        other.id, other.source = "other", "A second, <b>better</b> answer."
        notebook.cells.append(other)
        nbformat.write(notebook, path)
        handed_in(course, "eve")[0].write_bytes(b"")
        dan = copy.deepcopy(good)
        dan.cells.remove(answer(dan, "why"))
        path = course.folder("submitted", "dan", LAB) / f"{LAB}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(dan, path)
        unisolated = not bubblewrap.available()
        done = run.grade(course.root, LAB, workers=0, unisolated=unisolated, progress=False)
        points = {one.student: one.points for one in done}
    assert points == {"ada": 5, "bob": 2, "eve": 0, "dan": 2}
    return course


@pytest.fixture(scope="module")
def pages(course):
    """The feedback of each student, as HTML."""
    command = [sys.executable, "-m", "nbgrader", "generate_feedback", LAB, "--force"]
    ran = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    folders = {who: course.folder("feedback", who, LAB) for who in ("ada", "bob", "dan", "eve")}
    texts = {who: (folder / f"{LAB}.html").read_text() for who, folder in folders.items()}
    return {who: bs4.BeautifulSoup(text, "html.parser") for who, text in texts.items()}


TOLD = {
    "ada": "repaired: solution_double, why: found by its cell id, without nbgrader's metadata",
    "bob": "repaired: why: 2 cells with one id, joined in order",
    "dan": "not found: no cell 'why' is in the notebook",
    "eve": "the notebook was not accepted: an empty file",
}


@pytest.mark.parametrize("who", TOLD)
def test_it_is_said_above_everything_else(pages, who):
    first = pages[who].find(class_="jp-Cell") or pages[who].find(class_="cell")
    assert "What was done with this submission" in first.text
    assert TOLD[who] in first.text
    assert "Shown as" not in first.text


def test_both_versions_are_on_the_page(pages):
    assert "Because $a<b$" in pages["bob"].text
    assert "A second, <b>better</b> answer." in pages["bob"].text


def test_no_written_answer_is_zero_before_somebody_has_seen_it(course):
    with course.gradebook() as gradebook:
        waits = {
            who: gradebook.find_grade("why", LAB, LAB, who).needs_manual_grade
            for who in ("ada", "bob", "dan", "eve")
        }
    assert waits == dict.fromkeys(waits, True)


def test_the_queue_says_what_could_not_be_repaired(course):
    with registered():
        items = queue.queue(roster.read(course, LAB))
    kinds = {(item.what, item.student) for item in items}
    assert kinds >= {(queue.REFUSED, "eve"), (queue.LOST, "dan")}
    assert not kinds & {(queue.LOST, who) for who in ("ada", "bob", "eve")}
    assert {item.student for item in items if item.what == queue.BY_HAND} == set(TOLD)
