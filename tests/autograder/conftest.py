"""The toy lab, registered, and released in a real nbgrader course in a temporary folder."""

from __future__ import annotations

import nbformat
import pytest
from toy_lab import CONFIG, DOUBLE, LAB, code, notebook, register

from autograder import grading


@pytest.fixture
def toy(monkeypatch):
    """The toy lab, registered."""
    register(monkeypatch)


@pytest.fixture
def course(toy, tmp_path) -> grading.Course:
    """The released toy lab."""
    root = tmp_path / "course"
    source = root / "solutions" / LAB
    source.mkdir(parents=True)
    (root / "nbgrader_config.py").write_text(CONFIG)
    made = notebook(
        code("ready = True"),
        code(DOUBLE, "solution_double", solution=True),
        code("lab.check('double')", "double", points=2),
        code("lab.check('net')", "net", points=3),
    )
    nbformat.write(made, source / f"{LAB}.ipynb")
    grading.release(root, LAB)
    return grading.Course.at(root)
