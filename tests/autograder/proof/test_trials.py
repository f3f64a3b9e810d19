"""Luck on one seed proves nothing, and a figure near its bound is a hole."""

import math
from dataclasses import replace

import pytest
from toy_lab import LAB, definition, half_zero

from autograder.contract import artifacts, rows
from autograder.contract.definition import find, register
from autograder.contract.rows import Row
from autograder.contract.signatures import Signature, Tensor
from autograder.contract.verdict import Verdict
from autograder.proof import bench, prove, trials
from autograder.proof.mutants import valid, wrong
from autograder.proof.trials import Trial
from autograder.sandbox import bubblewrap


def measured(value, target=0.02, floor=0.05, points=2.0):
    return Row("accuracy_drop", value, target, points, 2.0, floor=floor)


def drops(*values, points=2.0):
    return [Verdict("net", (measured(value, points=points),), 2.0) for value in values]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.010, 0.011, 0.012), ""),
        ((0.018, 0.019, 0.020), "only 1.0 standard deviations from its bound"),
        ((0.011, 0.011, 0.011), ""),
    ],
)
def test_a_right_answer_keeps_clear_of_its_bound(values, said):
    assert Trial(drops(*values), 2.0).right_fault() == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.030, 0.031, 0.032), ""),
        ((0.0205, 0.0215, 0.0225), "only 1.5 standard deviations on the wrong side of its bound"),
    ],
)
def test_a_wrong_answer_is_clear_of_it_on_the_other_side(values, said):
    assert Trial(drops(*values, points=1.0), 2.0).mutant_fault() == said


@pytest.mark.parametrize(
    ("values", "seeds"), [((0.010, 0.011, 0.012), 3), ((0.015, 0.016, 0.017), trials.CLOSE_SEEDS)]
)
def test_where_three_seeds_are_close_ten_decide(values, seeds, monkeypatch):
    """Three draws of 0.015, 0.016 and 0.017 are 4 of their own deviations off, ten are 2."""

    class Drawn:
        lab = LAB

        def more(self, name, seeds, source):
            first = len(seeds) == len(values) - 1
            return drops(*(values[1:] if first else [0.014, 0.018] * 5)[: len(seeds)])

    monkeypatch.setattr(bench, "measures", lambda lab, name: True)
    monkeypatch.setattr(bench, "find", lambda lab: None)
    tried = bench.Bench.tried(Drawn(), "net", drops(values[0])[0], 2.0, trials.SEEDS[:3])
    assert len(tried.verdicts) == seeds
    assert bool(tried.right_fault()) == (seeds > 3)


def test_a_property_that_fails_each_time_needs_no_distance():
    no = Verdict("net", (measured(0.0195), rows.passed("finite", False, 1.0, "it is not")), 3.0)
    tried = Trial([no, no], 3.0)
    assert tried.mutant_fault() == ""
    assert tried.right_fault() == "lost points on 2 of 2 seeds, first: finite: it is not"


def test_more_is_better_where_the_floor_is_below_the_target():
    speed = [Verdict("k", (measured(v, target=2.0, floor=1.0),), 2.0) for v in (3.0, 3.1, 3.2)]
    assert Trial(speed, 2.0).distances() == [pytest.approx(11.0)]
    same = [Verdict("k", (measured(3.0, target=2.0, floor=1.0),), 2.0)] * 3
    assert Trial(same, 2.0).distances() == [math.inf]


def test_how_many_seeds():
    lab = find("lab2_quantization")
    many = trials.seeds(lab, "requantize", right=True, seconds=0.1, again=False)
    assert len(set(many)) == len(many) == 100
    count = {
        (right, seconds): len(
            trials.seeds(lab, "requantize", right=right, seconds=seconds, again=False)
        )
        for right in (True, False)
        for seconds in (0.1, 2.0)
    }
    assert count == {(True, 0.1): 100, (False, 0.1): 20, (True, 2.0): 30, (False, 2.0): 10}
    assert len(trials.seeds(lab, "int8_model", right=True, seconds=0.1, again=False)) == 3
    assert len(trials.seeds(lab, "int8_model", right=True, seconds=0.1, again=True)) == 1
    few = trials.seeds(lab, "requantize", right=False, seconds=0.1, again=True)
    assert len(few) == 3
    assert few[0] == many[0]
    assert set(few) <= set(many[:20])


LUCKY = "def double(x): return {} * x if float(x.sum()) % 1 < 0.5 else {} * x"  # by its argument


@pytest.mark.slow
def test_by_luck_is_a_hole_and_so_is_a_call_that_is_not_promised(course):
    """The toy check doubles a random vector, of which a wrong answer triples about half."""
    outputs = course.root / "solutions" / LAB / "outputs" / "glyphs"
    artifacts.store(outputs, "net", half_zero())

    def check(student, cases, target):
        x = cases.randn(3)
        return [rows.compare("doubles", student.call("double", x), 2 * x, 2)]

    lab = definition(
        mutants=wrong("double", lucky=LUCKY.format(3, 2), triples="def double(x): return 3 * x"),
        valid=valid("double", sum="def double(x): return x + x", lucky=LUCKY.format(2, 3)),
        double=check,
    )
    register(lab)
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert [line.seeds for line in lines] == [100, 1, 20, 20, 100, 100]
    assert [lines[at].fault for at in (0, 1, 3, 4)] == [""] * 4
    assert "of 20 seeds" in lines[2].fault
    assert "of 100 seeds" in lines[5].fault
    register(replace(definition(double=check), load_signatures=lambda: {"double": PROMISED}))
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert "a check asks for more than is promised: double(x): got shape [3]" in lines[0].fault


PROMISED = Signature({"x": Tensor("4")}, returns=Tensor("4"))
