"""Generate what students get: nbgrader's ``generate_assignment``, with or without a gradebook.

In memory, too: every judgement starts from the release as it is generated from the lab's source,
and never from the file in ``labs/``, which somebody may have done the lab in.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import CheckCellMetadata, SaveCells
from nbgrader.utils import compute_checksum

from autograder.contract import definition
from autograder.contract.cells import grade_id
from autograder.intake import keep, packing
from autograder.intake.course import Course, NotReleased, own_programs, run_converter


def release(root: Path, lab: str) -> None:
    """Run nbgrader's ``generate_assignment`` for ``lab`` in the course at ``root``.

    What somebody wrote into the lab that is there is kept first (:mod:`autograder.intake.keep`).
    """
    course = Course.at(root)
    keep.keep(course.root, course.released(lab).parent)
    course.directory.assignment_id = lab
    run_converter(GenerateAssignment(coursedir=course.directory, config=course.config))


def generate(root: Path, lab: str, into: Path | None = None) -> Path:
    """Generate one lab with nbgrader, into ``root/labs`` or below ``into``; return its folder.

    The gradebook of the course is left alone: the database that nbgrader needs is temporary. What
    somebody wrote into the lab that is there is kept first.

    Raises:
        ValueError: there is no such lab.
        RuntimeError: nbgrader failed; holds what it said.
    """
    if lab not in (known := Course.at(root).labs()):
        raise ValueError(f"got lab {lab!r}; allowed: {known}")
    folder = (into or root / "labs").resolve()
    keep.keep(root, folder / lab)
    with tempfile.TemporaryDirectory() as scratch, own_programs():
        done = subprocess.run(
            [
                *(sys.executable, "-m", "nbgrader", "generate_assignment", lab, "--force"),
                f"--CourseDirectory.release_directory={folder}",
                f"--CourseDirectory.db_url=sqlite:///{scratch}/gradebook.db",
            ],
            cwd=root,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"nbgrader generate_assignment {lab} failed:\n{done.stderr[-4000:]}")
    if folder == (root / "labs").resolve() and lab in definition.names():
        _for_package(root, lab, folder / lab / f"{lab}.ipynb")
    return folder / lab


def _for_package(root: Path, lab: str, path: Path) -> None:
    """Keep the released cells for ``lab.package``, where the lab's folder is in this course."""
    home = definition.find(lab).folder
    if home is not None and home.is_relative_to(root.resolve()):
        packing.write(lab, nbformat.read(path, as_version=4).cells)


def base(course: Course, lab: str) -> NotebookNode:
    """The release of ``lab``, generated in memory from its source by nbgrader's own steps.

    Where a course holds no source, the released notebook, if by nbgrader's checksums nobody has
    written into it.

    Raises:
        NotReleased: there is neither.
    """
    source = course.folder("source", ".", lab) / f"{lab}.ipynb"
    if source.is_file():
        return _cleared(course, nbformat.read(source, as_version=4))
    if not course.released(lab).is_file():
        raise NotReleased(f"{lab} has neither {source} nor {course.released(lab)}")
    found = nbformat.read(course.released(lab), as_version=4)
    for cell in found.cells:
        if grade_id(cell) and cell.metadata.nbgrader.get("checksum") != compute_checksum(cell):
            raise NotReleased(
                f"{course.released(lab)} was written into (cell {grade_id(cell)}), and there is no "
                f"{source} to start from"
            )
    return found


def _cleared(course: Course, notebook: NotebookNode) -> NotebookNode:
    converter = GenerateAssignment(coursedir=course.directory, config=course.config)
    outside = (SaveCells, CheckCellMetadata)  # they need a database and a file's name
    for step in converter.preprocessors:
        if step not in outside:
            notebook, _ = step(config=course.config).preprocess(notebook, {})
    return notebook
