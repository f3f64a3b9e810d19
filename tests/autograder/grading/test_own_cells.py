"""Cells of a student's own, and cells that stop before their end, cost nothing but time."""

from __future__ import annotations

import shutil

import nbformat
import pytest
from toy_lab import LAB, NBGRADERS_WARNINGS, half_zero, hand_in, registered

from autograder.contract.cells import is_own
from autograder.grading import judge, run
from autograder.grading.verdict_cells import ON_TOP
from autograder.intake.course import Course
from autograder.sandbox import bubblewrap, kernel

pytestmark = [pytest.mark.slow, *NBGRADERS_WARNINGS]

RIGHT = "def double(x): return 2 * x"
BY_BOUND = "def double(x): return bound * x"
BY_HELPER = "def double(x): return helper(x)"
STUBBORN = """bound = 2
while True:
    try:
        while True: pass
    except BaseException: pass"""
FLOOD = "import time\nwhile True: print('x' * 20_000), time.sleep(0.005)"
SLEEPS = "import time; time.sleep(1.6)"
# The cells above the answer, the answer, and a word of what the page says about it.
CASES = {
    "helper": (["def helper(x): return 2 * x"], BY_HELPER, ""),
    "import": (["import math as mathematics"], f"mathematics.pi\n{RIGHT}", ""),
    "raises": (["bound = 2\n1 / 0\nbound = 3"], BY_BOUND, "division by zero"),
    "raises_above": (["1 / 0\nbound = 2"], BY_BOUND, "division by zero"),
    "prints": ([f"bound = 2\n{FLOOD}"], BY_BOUND, "printed more than"),
    "prints_at_once": (["bound = 2\nprint('x' * 10_000_000)"], BY_BOUND, "too large and is lost"),
    "loops": (["bound = 2\nwhile True: bound = 2"], BY_BOUND, "no answer within"),
    "loops_and_swallows": ([STUBBORN], BY_BOUND, "no answer within"),
    "trains": (["lab = __import__('autograder').Lab('toy')\nlab.produce('x', int)"], RIGHT, "x"),
    "too_long_in_all": (
        [SLEEPS] * 3 + ["def helper(x): return 2 * x\nbound = missing()"],
        BY_HELPER,
        "of this one, imports and functions ran",
    ),
    "loops_below": ([], f"{RIGHT}\nwhile True: pass", "no answer within"),
    "prints_below": ([], f"{RIGHT}\n{FLOOD}", "printed more than"),
    "exits_below": ([], f"{RIGHT}\nimport os\nos._exit(1)", "the kernel died"),
    "drive": ([], f"from google.colab import drive\ndrive.mount('/')\n{RIGHT}", "google"),
    "magics": ([], f"%matplotlib inline\n!true\n{RIGHT}", ""),
    "timed": ([], f"%%time\n{RIGHT}", ""),
}


@pytest.fixture(scope="module")
def pages(released, tmp_path_factory):
    """All cases graded as one class: points and the judged notebook, by student."""
    with pytest.MonkeyPatch.context() as patch, registered():
        patch.setattr(judge, "CELL_DEADLINE_S", 2.0)
        patch.setattr(judge, "OWN_CELLS_S", 3.0)
        patch.setattr(kernel, "GRACE_S", 1.0)
        root = tmp_path_factory.mktemp("own") / "course"
        course = Course.at(shutil.copytree(released, root))
        for student, (above, answer, _) in CASES.items():
            path = hand_in(course, student, answer, half_zero()) / f"{LAB}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            notebook.cells[1:1] = map(nbformat.v4.new_code_cell, above)
            nbformat.write(notebook, path)
        isolated = bubblewrap.available()
        done = run.grade(root, LAB, workers=0, unisolated=not isolated, progress=False)
        points = {one.student: one.points for one in done}
    found = {}
    for student in CASES:
        path = course.folder("autograded", student, LAB) / f"{LAB}.ipynb"
        found[student] = points[student], nbformat.read(path, as_version=4)
    return found


@pytest.mark.parametrize("student", CASES)
def test_no_points_are_lost(student, pages):
    points, notebook = pages[student]
    above, _, told = CASES[student]
    assert points == 5
    own = [cell for cell in notebook.cells if is_own(cell)]
    assert [cell.source for cell in own] == above
    shown = [str(c.outputs) for c in notebook.cells if c.cell_type == "code" and "metadata" in c]
    assert told in "".join(shown)
    assert all(cell.id != ON_TOP for cell in notebook.cells)
