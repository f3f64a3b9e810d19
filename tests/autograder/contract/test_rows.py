"""Rows of a verdict: credit between floor and target, comparisons, shares, joint figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder.contract import exchange, rows, show, targets
from autograder.contract.rows import Row, compare, credit, joint_use
from autograder.contract.verdict import Verdict

finite = st.floats(-1e6, 1e6)


@given(finite, finite, finite)
def test_credit_is_full_at_the_target_and_none_at_the_floor(target, floor, value):
    if abs(target - floor) < 1e-3:
        return
    assert credit(target, target, floor, 7) == pytest.approx(7)
    assert credit(floor, target, floor, 7) == pytest.approx(0)
    assert 0 <= credit(value, target, floor, 7) <= 7


def test_credit_is_linear_in_both_directions_and_nan_is_nothing():
    assert credit(0.65, 0.8, 0.5, 10) == pytest.approx(5)
    assert credit(0.035, 0.01, 0.06, 10) == pytest.approx(5)
    assert credit(0.9, 0.8, 0.5, 10) == 10
    assert credit(math.nan, 0.8, 0.5, 10) == 0


@pytest.mark.parametrize("points", [-1, 3.1, math.nan, math.inf])
def test_rows_refuse_impossible_points(points):
    with pytest.raises(ValueError, match="points"):
        Row("x", 1.0, 1.0, points, 3.0)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (torch.ones(2), torch.ones(2)),
        ([1, 2.0, "a"], [1, 2.0, "a"]),
        ((1,), [1]),
        ({"a": torch.zeros(1)}, {"a": torch.zeros(1)}),
        (0.5000001, 0.5),
        (torch.tensor(0.5), 0.5),
    ],
)
def test_equal_values_compare_equal(got, expected):
    assert compare("x", got, expected, 2).points == 2


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2), torch.tensor([1.0, 2.0])),
        (torch.ones(2, dtype=torch.int64), torch.ones(2)),
        (torch.ones(2), torch.ones(2, dtype=torch.bool)),
        (torch.full((2,), math.nan), torch.ones(2)),
        ([1.0], torch.ones(1)),
        (None, 0.5),
        (True, 1.0),
        (True, 1),
        (math.nan, 0.5),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        ("1", 1),
    ],
)
def test_unequal_values_say_what_was_expected(got, expected):
    row = compare("x", got, expected, 2)
    assert row.points == 0
    assert "expected" in row.message


def test_verdicts_add_up_and_escape_what_students_say():
    one = Row("<script>", 1.0, 2.0, 1.0, 3.0, message="<img onerror=x>", status="failed")
    verdict = Verdict("c", (one, one), 6.0)
    assert verdict.points == 2
    assert "<script>" not in show.html(verdict)
    assert "<img" not in show.html(verdict)
    assert "2 of 6" in show.text(verdict)


def test_gains_count_while_the_loss_is_within_its_floor():
    figures = {"drop": targets.Figure(0.04, 0.15, 6.0), "size": targets.Figure(10.0, 20.0, 4.0)}

    def earned(drop: float, size: float) -> list[float]:
        return [row.points for row in joint_use(("drop", drop), {"size": size}, figures)]

    assert earned(0.0, 10.0) == [6.0, 4.0]
    assert earned(0.0, 15.0) == [6.0, 2.0]
    assert earned(0.15, 1.0) == [0.0, 0.0]
    assert earned(0.095, 20.0) == [pytest.approx(3.0), 0.0]


X = torch.arange(6.0).reshape(2, 3)
SAID = [
    ([1, 2], [1, 2, 3], "value: got a list of 2: [1, 2], expected a list of 3: [1, 2, 3]"),
    (3, [1, 2, 3], "value: got int 3, expected a list of 3: [1, 2, 3]"),
    (None, X, "value: got None, expected a float32 tensor (2, 3)"),
    ([0.5], X, "value: got a list of 1: [0.5], expected a float32 tensor (2, 3)"),
    (X.T, X, "value: got shape (3, 2), expected (2, 3)"),
    (X.int(), X, "value: got a int32 tensor (2, 3), expected a float32 tensor (2, 3)"),
    (X[0, 1], X[0, 2], "value: got 1.0, expected 2.0"),
    (X, X + 1, "value: 6 of 6 entries differ, first at (0, 0): got 0.0, expected 1.0"),
    ({"a": 1}, {"b": 1}, "value: got the keys ['a'], expected ['b']"),
    (
        [{"scale": 1.0}, {"scale": 2.0}],
        [{"scale": 1.0}, {"scale": 3.0}],
        "value[1]['scale']: got float 2.0, expected 3.0",
    ),
    ("4", 4, "value: got str '4', expected 4"),
    (True, 1, "value: got True, expected 1"),
]


@pytest.mark.parametrize(("got", "expected", "words"), SAID)
def test_a_difference_says_what_where_and_what_is_expected(got, expected, words):
    assert compare("x", got, expected, 1).message == words


def test_an_array_is_called_an_array():
    returned = exchange.unpack(*exchange.pack([np.ones(3)]))
    (array,) = returned
    words = "got a NumPy array of float64 (3,), expected a float32 tensor (3,)"
    assert rows.type_fault(array, torch.float32, (3,)) == words
    with pytest.raises(ValueError, match="got a NumPy array of float64"):
        rows.expect_tuple(array, "scale", "zero")


def test_whole_numbers_are_equal_or_not():
    """Tolerance let one in ten thousand pass, and float64 all beyond 2^53."""
    for low in (10_000, 2**60):
        expected = torch.tensor([low])
        assert compare("x", expected + 1, expected, 1).points == 0
        assert compare("x", expected.clone(), expected, 1).points == 1


def test_how_many_cases_failed_is_said():
    row = rows.no_fault("codes", [None, "wrong at 3", "wrong at 5", ""], 2)
    assert row.message == "2 of 4 cases failed, first: wrong at 3"
    assert rows.no_fault("codes", ["wrong at 3"], 2).message == "wrong at 3"
    assert rows.no_fault("codes", [None, None], 2).points == 2
    assert rows.no_fault("codes", [], 2).points == 2


def test_one_cause_is_told_once():
    cause = "f: NotImplementedError: "
    told = rows.told_once(
        [
            rows.no_fault("codes", [cause, cause], 1),
            rows.no_fault("scales", [None, cause, cause], 1),
            rows.failed("sizes", 1, cause),
            rows.failed("other", 1, "g: wrong"),
            rows.passed("right", True, 1),
            rows.passed("right, too", True, 1),
        ]
    )
    assert [row.message for row in told] == [
        f"2 of 2 cases failed, first: {cause}",
        "2 of 3 cases failed, first: see 'codes' above",
        "see 'codes' above",
        "g: wrong",
        "",
        "",
    ]
