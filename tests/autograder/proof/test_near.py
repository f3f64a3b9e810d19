"""Further seeds are tried in this process: what its students define, and that nothing hangs."""

import pytest

from autograder.contract.verdict import StudentError
from autograder.proof.bench import reach
from autograder.proof.near import Near, patience

CELLS = [
    "from autograder import Lab\nLIMIT = 3\nmade = print('a call')",
    "lab = Lab('toy')",
    "def double(x): return 2 * x",
    "def four(x): return double(double(x)) + LIMIT - 3",
    "trained = lab.produce('net', double, 1)\nraise RuntimeError('never run')",
]


@pytest.fixture
def near(toy, tmp_path) -> Near:
    (tmp_path / "glyphs").mkdir()
    return Near(CELLS, "toy", "glyphs", tmp_path / "glyphs")


def test_a_student_defines_what_the_notebook_does(near, capsys):
    student = near.student()
    assert student.call("four", 1) == 4
    assert student.namespace["lab"].dataset == "glyphs"
    assert "made" not in student.namespace
    assert "trained" not in student.namespace
    assert capsys.readouterr().out == ""


def test_an_answer_is_seen_by_what_calls_it_and_by_no_other_student(near):
    assert near.student("def double(x): return 3 * x").call("four", 1) == 9
    assert near.student("def double(x:").call("four", 1) == 4  # no Python: as before
    assert near.student().call("four", 1) == 4


def test_what_never_ends_is_ended(near):
    student = near.student("def double(x):\n    while True: pass")
    with pytest.raises(StudentError, match="no answer within 1 s"), patience(1.0):
        student.call("double", 1)


def test_what_a_function_binds_itself_reaches_nothing():
    cells = [
        "def prune(w): return w",
        "masks = prune(1)",
        "def tune(model, masks):\n    prune = masks\n    return [prune for masks in masks]",
        "def other(): return lambda: masks",
    ]
    wrong = "def prune(w): return 0"
    assert reach(cells, cells[0], wrong) == {"prune", "masks", "other"}
