"""``make demo``: a whole nbgrader course in a folder, with three sample submissions graded.

The samples are the course's own (the reference, a half-right one made of mutants, the untouched
release), so they may run without isolation where bubblewrap is missing; it says so.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import nbformat
import typer

from autograder.contract import cells
from autograder.contract.definition import find
from autograder.grading.run import grade
from autograder.intake import release
from autograder.intake.course import Course
from autograder.proof.mutants import Mutant
from autograder.reports import class_report, roster
from autograder.reports.commands import HERE, Root, known_lab
from autograder.sandbox import bubblewrap
from codesign import datasets

STUDENTS = ("reference", "half_right", "untouched")


def run(root: Path, folder: Path, lab: str) -> Path:
    """Lay out the course in ``folder``, release, grade and report; return the report's path.

    Raises:
        FileExistsError: ``folder`` holds something that is no earlier demo.
    """
    start = time.monotonic()
    course = lay_out(root.resolve(), folder, lab)
    dataset, why = datasets.choose()
    print(f"image set: {dataset} ({why})")
    for split in datasets.SPLITS:
        datasets.load(dataset, split, quiet=True)
    release.release(course.root, lab)
    submit(course, lab, dataset)
    reason = bubblewrap.why_not()
    unisolated = reason is not None
    if unisolated:
        print(
            f"No isolation here ({reason}). These three samples are the course's own, "
            "so they are graded without it; grading others' work would be refused."
        )
    graded = list(grade(course.root, lab, unisolated=unisolated or None))
    graded.sort(key=lambda one: STUDENTS.index(one.student))
    print(class_report.text(graded, f"{lab} on {dataset}"))
    entries = sorted(roster.read(course, lab), key=lambda one: STUDENTS.index(one.student))
    path = class_report.write(entries, f"{lab} on {dataset}", course.root / "report.html")
    print(f"\ngraded in {time.monotonic() - start:.0f} s; report: {path}")
    return path


def lay_out(root: Path, folder: Path, lab: str) -> Course:
    """A fresh course in ``folder``: configuration, source notebook, released lab."""
    marker = folder / ".codesign-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise FileExistsError(f"{folder} is not an earlier demo; nothing was touched")
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "solutions" / lab
    source.mkdir(parents=True)
    marker.touch()
    shutil.copy(root / "nbgrader_config.py", folder)
    shutil.copy(root / "solutions" / lab / f"{lab}.ipynb", source)
    shutil.copytree(root / "solutions" / lab / "outputs", source / "outputs")
    return Course.at(folder)


def submit(course: Course, lab: str, dataset: str) -> None:
    """Put the three sample submissions into ``submitted/``."""
    source = course.root / "solutions" / lab
    for student in STUDENTS:
        target = course.folder("submitted", student, lab)
        target.mkdir(parents=True)
        if student == "untouched":
            shutil.copy(course.released(lab), target)
            continue
        notebook = nbformat.read(source / f"{lab}.ipynb", as_version=4)
        shutil.copytree(source / "outputs" / dataset, target / "outputs" / dataset)
        if student == "half_right":
            spoil(notebook, target / "outputs" / dataset, lab)
        nbformat.write(notebook, target / f"{lab}.ipynb")


def spoil(notebook: nbformat.NotebookNode, outputs: Path, lab: str) -> None:
    """Turn a reference submission into a half-right one: every second check gets its mutant."""
    first: dict[str, Mutant] = {}
    for mutant in find(lab).mutants:
        first.setdefault(mutant.check, mutant)
    for mutant in list(first.values())[::2]:
        if mutant.forge is not None:
            mutant.forge(outputs)
            continue
        cell = next(c for c in notebook.cells if cells.grade_id(c) == mutant.cell)
        cell.source = mutant.source


def main(
    folder: Path = Path("demo"),
    lab: Annotated[str, typer.Option(callback=known_lab)] = "lab1_pruning",
    root: Root = HERE,
) -> None:
    """Grade the course's own sample submissions of LAB in FOLDER and write a report."""
    run(root, folder, lab)


if __name__ == "__main__":
    typer.run(main)
