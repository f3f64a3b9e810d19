"""The classes that ``make bench`` grades: a five-cell notebook, and a real lab.

Each is a whole nbgrader course with submissions, once as nbgrader comes (every cell runs in the
student's kernel, checks too) and once with the judge wired in. A grader that is timed imports this
module, so what lays courses out is imported where it is used.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autograder.contract import deadlines
from autograder.contract.definition import LabDefinition, register
from autograder.contract.targets import CheckTargets
from autograder.grading import unit
from autograder.sandbox import bubblewrap, process

SMALL = "bench"
CELLS = (
    ("", "import torch", 0),
    ("solution_double", "def double(x):\n    return 2 * x", 0),
    ("", "print(double(torch.ones(3)))", 0),
    ("double", "assert torch.equal(double(torch.ones(3)), 2 * torch.ones(3))", 2),
    ("again", "assert torch.equal(double(torch.zeros(3)), torch.zeros(3))", 1),
)
STOCK = """
c = get_config()
c.CourseDirectory.course_id = "bench"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
"""
WIRED = STOCK + "\nfrom autograder import wire\nwire(c)\n"


POINTS = {name: points for name, _, points in CELLS if points}


def _doubles(student: Any, cases: Any, target: Any) -> list[Any]:
    from autograder.contract.rows import compare

    x = cases.randn(3)
    return [compare("doubles", student.call("double", x), 2 * x, 1)]


DEFINITION = LabDefinition(
    SMALL,
    {name: CheckTargets(float(n), {"glyphs": {}, "cifar10": {}}) for name, n in POINTS.items()},
    load_checks=lambda: dict.fromkeys(POINTS, _doubles),
)


def prepare() -> None:
    """Warm up as the course's own job does: a sandbox first, PyTorch beside it."""
    if bubblewrap.available():
        with process.borrowed(isolated=True):
            pass
    unit.prepare()


def job(content: bytes) -> bytes:
    """Judge one unit of the small notebook, in a worker that knows nothing else of it."""
    register(DEFINITION)
    return unit.judge_unit(content)


def small(folder: Path, config: str, students: int) -> Path:
    """A released course with ``students`` right submissions of the five-cell notebook."""
    import nbformat

    from autograder.intake import release

    source = folder / "solutions" / SMALL
    source.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(config)
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, (name, code, points) in enumerate(CELLS):
        cell = nbformat.v4.new_code_cell(code, id=f"cell{number}")
        if name:
            cell.metadata.nbgrader = {
                "grade": bool(points),
                "grade_id": name,
                "locked": bool(points),
                "schema_version": 3,
                "solution": not points,
                "task": False,
                **({"points": points} if points else {}),
            }
        made.cells.append(cell)
    nbformat.write(made, source / f"{SMALL}.ipynb")
    release.release(folder, SMALL)
    for number in range(students):
        target = folder / "submitted" / f"student{number:04}" / SMALL
        target.mkdir(parents=True)
        nbformat.write(made, target / f"{SMALL}.ipynb")
    return folder


def lab(root: Path, folder: Path, name: str, dataset: str, students: int, *, wired: bool) -> Path:
    """A course with the lab ``name``; half of the class has the reference, half is half right.

    Without ``wired``, nbgrader runs the whole notebook in the student's kernel: the lab's checks
    measure there, on the public cases.
    """
    from autograder.intake import release
    from autograder.intake.course import Course
    from samples import demo

    demo.lay_out(root, folder, name)
    release.release(folder, name)
    demo.submit(Course.at(folder), name, dataset)
    for number in range(students):
        sample = folder / "submitted" / ("reference", "half_right")[number % 2]
        shutil.copytree(sample, folder / "submitted" / f"student{number:04}")
    for sample in map(folder.joinpath, [f"submitted/{student}" for student in demo.STUDENTS]):
        shutil.rmtree(sample)
    if not wired:
        config = (folder / "nbgrader_config.py").read_text().replace("wire(c)", "")
        config += f"c.ExecutePreprocessor.timeout = {deadlines.BUDGET_S:.0f}\n"
        config += 'c.CourseDirectory.ignore.remove("outputs")\n'  # its kernel reads them
        (folder / "nbgrader_config.py").write_text(config)
    return folder
