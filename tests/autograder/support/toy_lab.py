"""A toy lab of one function and one artifact: its cells, its artifact and how to hand it in."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autograder.contract import artifacts, cells, rows
from autograder.contract.definition import LabDefinition, find, forget, register
from autograder.contract.rows import compare, inconclusive, measured
from autograder.contract.targets import CheckTargets, Figure
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading.unit import judge_unit
from autograder.grading.verdict_cells import outputs_of
from autograder.intake import release
from autograder.intake.course import Course
from codesign import cost
from codesign.models import VGG

# Of nbgrader's own models, connections and kernels, not ours.
NBGRADERS_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore::{warning}")
    for warning in (
        "sqlalchemy.exc.SAWarning",
        "DeprecationWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]
LAB = "toy"
CALL_DEADLINE_S = 5.0
DOUBLE = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
CHANNELS = [4, "M", 6]
STOCK = """
c = get_config()
c.CourseDirectory.course_id = "toy"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
"""
CONFIG = (
    STOCK
    + """
from autograder import wire

c.CourseDirectory.ignore = ["outputs", "*.py"]
wire(c)
"""
)
POINTS = {"double": 2, "net": 3}
CHECKS = {name: f"lab.check({name!r})" for name in POINTS}
# The same checks as a teacher writes them for stock nbgrader, which runs them in the student's
# kernel: type, shape and values of unknown numbers; exact zeros in the reference architecture.
ASSERTS = {
    "double": """\
import torch
assert torch.equal(double(torch.ones(2)), torch.full((2,), 2.0))
### BEGIN HIDDEN TESTS
x = torch.randn(5)
y = double(x.clone())
assert type(y) is torch.Tensor and y.shape == x.shape and y.dtype == x.dtype
assert torch.allclose(y, 2 * x)
### END HIDDEN TESTS""",
    "net": """\
import json
from safetensors.torch import load_file
from codesign import checkpoints
from codesign import cost

with open("outputs/glyphs/net.json") as file:
    config = json.load(file)["config"]
model = checkpoints.rebuild(config, load_file("outputs/glyphs/net.safetensors"))
### BEGIN HIDDEN TESTS
assert model.config["channels"] == [4, "M", 6]
assert cost.sparsity(model) >= 0.5
### END HIDDEN TESTS""",
}


def _double(student, cases, target):
    x = cases.randn(5)
    return [compare("doubles", student.call("double", x, deadline_s=CALL_DEADLINE_S), 2 * x, 1)]


def _net(student, cases, target):
    model = student.artifact("net")
    if model.config.get("channels") != CHANNELS:
        raise StudentError(f"got {model.config}, expected channels {CHANNELS}")
    row = measured("sparsity", cost.sparsity(model), target["sparsity"])
    noisy = abs(cost.sparsity(model) - target["sparsity"].target) < 0.01
    return [inconclusive(row, "within noise of the target") if noisy else row]


SPARSITY = {"sparsity": Figure(target=0.5, floor=0.1, points=3.0)}
TARGETS = {
    "double": CheckTargets(2.0, {"glyphs": {}, "cifar10": {}}),
    "net": CheckTargets(3.0, {"glyphs": SPARSITY, "cifar10": SPARSITY}),
}


def definition(mutants=(), valid=(), **checks) -> LabDefinition:
    """The toy lab, with these answers, and with ``checks`` in place of its own."""
    functions = {"double": _double, "net": _net, **checks}
    return LabDefinition(LAB, TARGETS, lambda: functions, lambda: mutants, lambda: valid)


@contextlib.contextmanager
def registered(**changes) -> Iterator[None]:
    """The toy lab, known to the judge of this process on glyphs, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODESIGN_DATASET", "glyphs")
        register(definition(**changes))
        try:
            yield
        finally:
            forget(LAB)


def code(source: str, grade_id: str = "", *, points: float = 0, solution: bool = False):
    """A code cell; with an id also nbgrader's metadata."""
    cell = nbformat.v4.new_code_cell(source, id=grade_id or f"c{abs(hash(source)) % 10**8}")
    if grade_id:
        cell.metadata.nbgrader = {
            "grade": bool(points),
            "grade_id": grade_id,
            "locked": not solution,
            "schema_version": 3,
            "solution": solution,
            "task": False,
            **({"points": points} if points else {}),
        }
    return cell


def notebook(*cells):
    """A notebook of ``cells`` with a Python kernel."""
    made = nbformat.v4.new_notebook(cells=list(cells))
    made.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return made


def lay_out(root: Path, config: str = CONFIG, tests: dict[str, str] = CHECKS) -> Path:
    """A course folder with the toy lab released; ``tests`` are the sources of its graded cells."""
    source = root / "solutions" / LAB
    source.mkdir(parents=True)
    (root / "nbgrader_config.py").write_text(config)
    graded = [code(tests[name], name, points=points) for name, points in POINTS.items()]
    solution = code(DOUBLE, "solution_double", solution=True)
    nbformat.write(notebook(code("ready = True"), solution, *graded), source / f"{LAB}.ipynb")
    release.release(root, LAB)
    return root


def half_zero() -> VGG:
    """A small VGG with more than half of its weights zero."""
    model = VGG(CHANNELS)
    for layer in cost.weighted_layers(model).values():
        layer.weight.data[:, ::2] = 0
        layer.weight.data[: len(layer.weight) // 2] = 0
    return model


def just_half() -> VGG:
    """The same VGG with every second weight zero: at its target, and so within noise of it."""
    model = VGG(CHANNELS)
    for layer in cost.weighted_layers(model).values():
        layer.weight.data.view(-1)[::2] = 0
    return model


def hand_in(course: Course, student: str, source: str | None = DOUBLE, model=None) -> Path:
    """A submission: the release with ``source`` in its solution cell, and an artifact if given."""
    folder = course.folder("submitted", student, LAB)
    folder.mkdir(parents=True)
    if source is not None:
        made = nbformat.read(course.released(LAB), as_version=4)
        made.cells[1].source = source
        nbformat.write(made, folder / f"{LAB}.ipynb")
    if model is not None:
        artifacts.store(folder / "outputs" / "glyphs", "net", model)
    return folder


def judge_by_reading(unit: bytes) -> bytes:
    """In place of the judge, for tests of everything else: full points for the right source.

    A source with the word "noise" makes it inconclusive, one with "nan" measures no number.
    """
    register(definition())
    with zipfile.ZipFile(io.BytesIO(unit)) as archive:
        made = nbformat.reads(archive.read("notebook.ipynb").decode(), as_version=4)
        problems = tuple(json.loads(archive.read("unit.json"))["problems"])
    source = "\n".join(cell.source for cell in made.cells)
    figure = find(LAB).targets["net"].figures["glyphs"]["sparsity"]
    for count, cell in enumerate(made.cells, start=1):
        name = cells.grade_id(cell)
        if cells.is_judged(cell):
            points = find(LAB).targets[name].points
            row = rows.passed(name, "2 * x" in source, points, "not 2 * x")
            if name == "net" and "nan" in source:
                row = measured("sparsity", math.nan, figure)
            elif name == "net" and "noise" in source:
                row = inconclusive(row, "within noise of the target")
            cell.outputs = outputs_of(Verdict(name, (row,), points, notes=problems), count)
    return nbformat.writes(made).encode()


def judge_slowly(unit: bytes) -> bytes:
    """The same, taking its time, so that its process can be killed in between."""
    time.sleep(1.5)
    return judge_by_reading(unit)


def judge_toy(unit: bytes) -> bytes:
    """What a worker process does with a unit of the toy lab, of which it knows nothing else."""
    os.environ["CODESIGN_DATASET"] = "glyphs"
    register(definition())
    return judge_unit(unit)
