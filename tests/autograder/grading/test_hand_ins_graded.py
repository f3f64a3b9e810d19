"""Notebooks from Colab and VS Code, graded end to end in the sandbox, earn what they are worth."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_lab import NBGRADERS_WARNINGS

from autograder.sandbox import bubblewrap
from benchmarks import hand_ins as graded
from samples import hand_ins

ROOT = Path(__file__).parents[3]
NAMES = ("as it is", "Colab", "VS Code")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"),
    *NBGRADERS_WARNINGS,
]


@pytest.mark.parametrize(("lab", "worth"), [("lab1_pruning", 64), ("lab5_tinyml", 38)])
def test_they_earn_what_they_are_worth(lab, worth, monkeypatch):
    monkeypatch.setenv("CODESIGN_DATASET", "glyphs")
    cases = [case for case in hand_ins.CASES if case.name in NAMES]
    points = graded.points(ROOT, ROOT, lab, cases)
    assert points == {**dict.fromkeys(NAMES, worth), graded.HOST: 0}
