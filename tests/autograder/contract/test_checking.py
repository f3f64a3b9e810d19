"""Running a check: rows share the points, what breaks costs one check, cases repeat."""

from __future__ import annotations

import pytest
from toy_lab import registered

from autograder.contract import checking, rows
from autograder.contract.checking import Cases
from autograder.contract.definition import find
from autograder.contract.verdict import StudentError


def test_rows_share_what_the_targets_give():
    """Points stand in the targets alone: a check says shares, in any unit."""

    def two_and_one(*_):
        return [rows.passed("big", True, 2), rows.passed("small", False, 1)]

    with registered(double=two_and_one):
        verdict = checking.run("toy", "double", None, "glyphs")
    assert [row.max_points for row in verdict.rows] == pytest.approx([4 / 3, 2 / 3])
    assert verdict.points == pytest.approx(1.33)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [rows.passed("sparsity", True, 4)],  # a figure's row with more than the check has
        [rows.passed("sparsity", True, 3), rows.passed("more", True, 1)],  # nothing is left for it
    ],
)
def test_rows_that_do_not_add_up_are_refused(found):
    with registered(net=lambda *_: found), pytest.raises(ValueError, match="out of"):
        checking.run("toy", "net", None, "glyphs")


@pytest.mark.parametrize("error", [StudentError("theirs"), RuntimeError("size"), KeyError("k")])
def test_measuring_that_breaks_costs_the_check_alone(error):
    def broken(*_):
        raise error

    with registered(double=broken):
        verdict = checking.run("toy", "double", None, "glyphs")
    assert (verdict.points, verdict.max_points) == (0, 2)
    assert str(error) in verdict.rows[0].message


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="lab1_pruning"):
        find("lab9")
    with pytest.raises(ValueError, match="sparse_model"):
        checking.run("lab1_pruning", "nothing", None, "glyphs")


def test_cases_repeat_with_their_seed_and_differ_without():
    draws = [Cases("c", "glyphs", seed).randn(4).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert Cases("other", "glyphs", 0).randn(4).tolist() != draws[0]
