"""What comes after ``autograder grade``: the commands that report on a class.

``report LAB``, ``leaderboard LAB`` and ``queue LAB`` read what was graded and change nothing in the
gradebook. ``--out`` takes a file, which says by its suffix what it is to hold, or a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # nbgrader takes seconds to import
    from autograder.grading import Course
    from autograder.roster import Entry

Root = Annotated[Path, typer.Option(help="course folder, with nbgrader_config.py")]
Out = Annotated[
    Path | None, typer.Option(help="a file, or a folder for all of them; default: reports/")
]
HERE = Path(".")


def report(lab: str, root: Root = HERE, out: Out = None) -> None:
    """Write the class report of LAB: a page, a CSV for a gradebook elsewhere, and JSON."""
    from autograder import page
    from autograder import report as reports

    course, entries = _class(root, lab)
    try:
        paths = page.files(out, course.root / "reports", lab, reports.SUFFIXES)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for path in paths:
        print(f"report: {reports.write(entries, lab, path).resolve()}")


def leaderboard(lab: str, root: Root = HERE, out: Out = None) -> None:
    """Rank LAB by each measured figure; names are opt-in, in leaderboard.toml."""
    from autograder import leaderboard as boards
    from autograder import page

    course, entries = _class(root, lab)
    students = [entry.student for entry in entries]
    try:
        names = boards.names(course.root / boards.FILE, students)
        paths = page.files(out, course.root / "reports", f"{lab}_leaderboard", boards.SUFFIXES)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for stranger in sorted(set(names) - set(students)):
        print(f"{boards.FILE} names {stranger!r}, who is not in the class", file=sys.stderr)
    found = boards.boards(entries, names)
    print(boards.text(found, lab))
    for path in paths:
        print(f"leaderboard: {boards.write(found, lab, path).resolve()}")


def queue(lab: str, root: Root = HERE) -> None:
    """List what of LAB waits for a person: the undecided, the unjudged, cells to grade."""
    from autograder import review

    print(review.text(review.queue(_class(root, lab)[1]), lab))


def _class(root: Path, lab: str) -> tuple[Course, list[Entry]]:
    from autograder import grading, roster

    try:
        course = grading.Course.at(root)
        return course, roster.read(course, lab)
    except (grading.NotReleased, FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
