"""Points, rows, comparisons, targets and artifacts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_lab import registered

from autograder.contract import artifacts, checking, held_out, rows, show, targets
from autograder.contract.checking import Cases
from autograder.contract.definition import find
from autograder.contract.exchange import ExchangeError
from autograder.contract.rows import Row, compare, credit, joint_use
from autograder.contract.verdict import StudentError, Verdict
from codesign.datasets import DatasetCard, ImageSet
from codesign.models import VGG

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
    row = Row("<script>", 1.0, 2.0, 1.0, 3.0, message="<img onerror=x>", status="failed")
    verdict = Verdict("c", (row, row), 6.0)
    assert verdict.points == 2
    assert "<script>" not in show.html(verdict)
    assert "<img" not in show.html(verdict)
    assert "2 of 6" in show.text(verdict)


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


def test_the_judges_glyphs_are_new_images():
    public = Cases("c", "glyphs", 0).images
    hidden = held_out.images("glyphs", 7)
    seen = {image.numpy().tobytes() for image in public.images}
    assert not any(image.numpy().tobytes() in seen for image in hidden.images[:500])


def test_every_lab_adds_up_to_its_points_without_reflections():
    for lab, checks in targets.read().items():
        assert sum(check.points for check in checks.values()) == 90, lab


def test_targets_name_a_figure_that_is_not_one(tmp_path):
    path = tmp_path / "targets.toml"
    path.write_text("[x.checks.c]\npoints = 2\n[x.checks.c.figures.f]\ntarget = 1.0\n")
    with pytest.raises(ValueError, match=r"x\.c\.f"):
        targets.read(path)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (VGG([4]), "model"),
        ({"a": torch.ones(2)}, "tensors"),
        ({"a": [1, 2.5]}, "table"),
        (0.5, "table"),
        ("int main(void) {}", "source"),
    ],
)
def test_artifacts_come_back_and_their_size_is_that_of_the_files(tmp_path, value, kind):
    artifacts.store(tmp_path, "a", value)
    back = artifacts.fetch(tmp_path, "a")
    assert artifacts.kind_of(back) == kind
    assert artifacts.size(tmp_path, "a") == sum(p.stat().st_size for p in tmp_path.iterdir())
    if kind in ("table", "source"):
        assert back == value


def test_a_bad_artifact_leaves_the_stored_one_alone(tmp_path):
    artifacts.store(tmp_path, "a", {"x": torch.ones(2)})
    before = artifacts.digest(tmp_path, "a")
    for bad in ({"x": torch.tensor([math.nan])}, {"x": math.inf}, {"x": object()}, None):
        with pytest.raises((ValueError, TypeError)):
            artifacts.store(tmp_path, "a", bad)
    assert artifacts.digest(tmp_path, "a") == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "pickle"}', '{"kind": "model"}', "\xff"]
)
def test_malformed_records_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ExchangeError):
        artifacts.fetch(tmp_path, "a")


def test_the_dense_accuracy_is_measured_once_and_again_when_anything_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    card = DatasetCard("glyphs", "val", tuple("abcdefghij"), "made here", "a test")
    held = ImageSet(images, torch.arange(3), card)
    monkeypatch.setattr(held_out, "images", lambda dataset, seed: held)
    answers = iter([0.25, 0.5, 0.75, 1.0])
    monkeypatch.setattr(held_out.training, "evaluate", lambda model, data: next(answers))

    def asked() -> float:
        held_out.dense_accuracy.cache_clear()  # another process
        return held_out.dense_accuracy("glyphs", 1)

    assert [asked(), asked()] == [0.25, 0.25]
    images[0] = 1
    assert [asked(), asked()] == [0.5, 0.5]
    monkeypatch.setattr(held_out, "source_version", lambda: "another judge")
    assert asked() == 0.75
    for kept in tmp_path.iterdir():
        kept.write_text("nan")
    assert asked() == 1.0
    held_out.dense_accuracy.cache_clear()


def test_gains_count_while_the_loss_is_within_its_floor():
    figures = {"drop": targets.Figure(0.04, 0.15, 6.0), "size": targets.Figure(10.0, 20.0, 4.0)}

    def earned(drop: float, size: float) -> list[float]:
        return [row.points for row in joint_use(("drop", drop), {"size": size}, figures)]

    assert earned(0.0, 10.0) == [6.0, 4.0]
    assert earned(0.0, 15.0) == [6.0, 2.0]
    assert earned(0.15, 1.0) == [0.0, 0.0]
    assert earned(0.095, 20.0) == [pytest.approx(3.0), 0.0]
