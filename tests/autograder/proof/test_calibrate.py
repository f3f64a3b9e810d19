"""References come from running the solution over seeds; targets stay a person's."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import nbformat
import pytest
from toy_lab import LAB, code, definition, notebook

from autograder.contract.definition import register
from autograder.proof import calibrate

SOURCE = """
import os
from pathlib import Path

from autograder.contract import artifacts
from codesign import cost
from codesign.models import VGG

model = VGG([4, "M", 6])
rows = 1 + int(os.environ["CODESIGN_SEED"])
for layer in cost.weighted_layers(model).values():
    layer.weight.data.fill_(1.0)[:rows] = 0
if rows < 4:
    artifacts.store(Path("outputs") / os.environ["CODESIGN_DATASET"], "net", model)
raise SystemError("a check that misses its target must not end the run")
"""
TOML = """# what a person wrote

[net]
points = 3

[net.figures.sparsity]  # decided by a person
points = 3
target = 0.5
floor = 0.1
[net.figures.sparsity.glyphs]
target = 0.4
reference = 0.9
"""


def sparsity(rows: int) -> float:
    """Share of zeros when ``rows`` rows of weights ``[4, 3, 3, 3]``, ``[6, 4, 3, 3]``, ``[10, 6]``
    are zero."""
    return rows * (27 + 36 + 6) / (4 * 27 + 6 * 36 + 10 * 6)


@pytest.mark.slow
def test_seeds_are_run_once_and_measured(course, monkeypatch):
    source = course.folder("source", ".", LAB) / f"{LAB}.ipynb"
    nbformat.write(notebook(code(SOURCE)), source)
    expected = {"net": {"sparsity": pytest.approx([sparsity(1), sparsity(2)])}}
    assert calibrate.calibrate(course, LAB, "glyphs", [0, 1]) == expected

    def again(*_, **__):
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(calibrate.subprocess, "run", again)
    assert calibrate.calibrate(course, LAB, "glyphs", [0, 1]) == expected


@pytest.mark.slow
def test_a_seed_without_its_artifact_is_an_error_not_a_smaller_mean(course):
    source = course.folder("source", ".", LAB) / f"{LAB}.ipynb"
    nbformat.write(notebook(code(SOURCE)), source)
    with pytest.raises(RuntimeError, match=r"net has no \['sparsity'\]: .*not handed in"):
        calibrate.calibrate(course, LAB, "glyphs", [3])


def test_a_notebook_that_cannot_run_is_named(course):
    source = course.folder("source", ".", LAB) / f"{LAB}.ipynb"
    source.write_text("no notebook")
    with pytest.raises(RuntimeError, match="toy with seed 3 on glyphs"):
        calibrate.run_reference(course, LAB, "glyphs", 3)


def test_writing_keeps_what_a_person_wrote(toy, tmp_path):
    (tmp_path / "targets.toml").write_text(TOML)
    register(replace(definition(), folder=tmp_path))
    calibrate.write(LAB, "glyphs", {"net": {"sparsity": [0.5, 0.7]}})
    calibrate.write(LAB, "cifar10", {"net": {"sparsity": [0.25]}})
    text = (tmp_path / "targets.toml").read_text()
    figure = tomllib.loads(text)["net"]["figures"]["sparsity"]
    assert figure == {
        "points": 3,
        "target": 0.5,
        "floor": 0.1,
        "glyphs": {"target": 0.4, "reference": 0.6, "spread": 0.14},
        "cifar10": {"reference": 0.25, "spread": 0.0},
    }
    assert "# what a person wrote" in text
    assert "# decided by a person" in text
    assert text.count("\n\n[") == text.count("\n[")
