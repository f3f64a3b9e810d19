"""Generate what students get: nbgrader's ``generate_assignment``, with or without a gradebook."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from nbgrader.converters import GenerateAssignment

from autograder.intake import keep
from autograder.intake.course import Course, own_programs, run_converter


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
    return folder / lab
