"""Artifacts made again: the notebook's own agree, others are marked, and no grade changes."""

from __future__ import annotations

import json

import pytest
from toy_lab import CHANNELS, DOUBLE, LAB, NBGRADERS_WARNINGS, half_zero, hand_in

from autograder.contract import rows
from autograder.contract.checking import Row
from autograder.contract.targets import Figure
from autograder.grading import judge, records, run
from autograder.reports import retrain
from autograder.sandbox import bubblewrap, process

pytestmark = [
    *NBGRADERS_WARNINGS,
]
MAKES = f"""{DOUBLE}
import os
from pathlib import Path

from autograder.contract import artifacts
from codesign import cost
from codesign.models import VGG
model = VGG({CHANNELS})
if os.environ.get("CODESIGN_OUTPUTS"):
    assert not os.environ["CODESIGN_GRADING"]
    folder = Path(os.environ["CODESIGN_OUTPUTS"]) / os.environ["CODESIGN_DATASET"]
"""
PRUNES = """
    for layer in cost.weighted_layers(model).values():
        layer.weight.data[:, ::2] = 0
        layer.weight.data[: len(layer.weight) // 2] = 0
"""
STORES = "    artifacts.store(folder, 'net', model)\n"
LINKS = "    folder.parent.symlink_to('/codesign/work/outputs')\n"


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.skipif(not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}")
@pytest.mark.parametrize(
    ("source", "agrees", "message"),
    [
        (MAKES + PRUNES + STORES, True, ""),
        (MAKES + STORES, False, "handed in better than it comes out"),
        (MAKES, False, "artifact 'net' was not handed in"),
        (MAKES + LINKS, False, "artifact 'net' was not handed in"),
        ("while True: pass", False, "no answer within 1"),
        ("raise ValueError('x' * 10_000)", False, "solution_double: ValueError: xxx"),
    ],
)
def test_what_the_notebook_makes_is_held_against_what_was_handed_in(
    course, monkeypatch, source, agrees, message
):
    monkeypatch.setattr(judge, "CELL_DEADLINE_S", 3.0)
    hand_in(course, "alice", source, half_zero())
    [before] = run.grade(course.root, LAB, workers=0, progress=False)
    done = retrain.retrain(course, LAB, "alice", isolated=True, deadline_s=15)
    assert [one.figure for one in done.comparisons] == ["sparsity"]
    assert done.agrees is agrees
    assert message in retrain.text(done)
    assert records.read(course, LAB, "alice") == before
    stored = json.loads(retrain.write(done, LAB, course.root).read_text())
    assert stored["agrees"] is agrees
    process.close_all()


@pytest.mark.parametrize(
    ("handed_in", "again", "agrees"),
    [
        (0.50, 0.50, True),
        (0.50, 0.41, True),  # a quarter of the way to the floor is chance
        (0.50, 0.39, False),
        (0.41, 0.90, True),  # better than it was handed in
        (0.05, None, True),  # earned nothing
        (0.50, float("nan"), False),
        (0.50, None, False),
    ],
)
def test_chance_explains_a_quarter_of_the_way_to_the_floor(handed_in, again, agrees):
    figure = Figure(target=0.5, floor=0.1, points=3.0)
    before = vars(rows.measured("sparsity", handed_in, figure))
    other = None if again is None else Row("sparsity", again, 0.5, 0, 3)
    assert retrain._agrees(before, other, figure) is agrees


def test_a_smaller_figure_is_better_where_the_floor_is_above():
    figure = Figure(target=0.1, floor=0.5, points=3.0, spread=0.05)
    before = vars(rows.measured("drop", 0.1, figure))
    assert retrain._agrees(before, Row("drop", 0.24, 0.1, 0, 3), figure)  # three spreads
    assert not retrain._agrees(before, Row("drop", 0.26, 0.1, 0, 3), figure)
