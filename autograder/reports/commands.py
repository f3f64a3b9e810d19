"""Commands that report, and the argument types and error messages that all commands share.

``report LAB``, ``leaderboard LAB`` and ``queue LAB`` read what was graded and change nothing in the
gradebook. ``--out`` takes a file, which says by its suffix what it is to hold, or a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:  # nbgrader takes seconds to import
    from autograder.intake.course import Course
    from autograder.reports.roster import Entry


class Commands(TyperGroup):
    """Commands whose complaint about an argument is one line, neither a box nor a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named; a wrong argument ends with exit status 2."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            where = error.ctx.command_path if error.ctx else ctx.command_path
            typer.echo(f"{where}: {error.message or error.format_message()}", err=True)
            raise typer.Exit(2) from None


def known_lab(name: str) -> str:
    """Pass the name of a lab on.

    Raises:
        BadParameter: there is none of this name.
    """
    from autograder.contract import definition

    if name not in definition.names():
        raise typer.BadParameter(f"got lab {name!r}; allowed: {', '.join(definition.names())}")
    return name


def known_course(root: Path) -> Path:
    """Pass the folder of a course on.

    Raises:
        BadParameter: it is none.
    """
    if not (root / "nbgrader_config.py").is_file():
        raise typer.BadParameter(
            f"got {root.resolve()}; allowed: a course's folder, with its nbgrader_config.py"
        )
    return root


Lab = Annotated[str, typer.Argument(callback=known_lab)]
Root = Annotated[
    Path, typer.Option(callback=known_course, help="course folder, with nbgrader_config.py")
]
Out = Annotated[
    Path | None, typer.Option(help="a file, or a folder for all of them; default: reports/")
]
HERE = Path(".")


def report(lab: Lab, root: Root = HERE, out: Out = None) -> None:
    """Write the class report of LAB: a page, a CSV for a gradebook elsewhere, and JSON."""
    from autograder.reports import class_report, page

    course, entries = _class(root, lab)
    try:
        paths = page.files(out, course.root / "reports", lab, class_report.SUFFIXES)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for path in paths:
        print(f"report: {class_report.write(entries, lab, path).resolve()}")


def leaderboard(lab: Lab, root: Root = HERE, out: Out = None) -> None:
    """Rank LAB by each measured figure; names are opt-in, in leaderboard.toml."""
    from autograder.reports import leaderboard, page

    course, entries = _class(root, lab)
    students = [entry.student for entry in entries]
    try:
        names = leaderboard.names(course.root / leaderboard.FILE, students)
        paths = page.files(out, course.root / "reports", f"{lab}_leaderboard", leaderboard.SUFFIXES)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for stranger in sorted(set(names) - set(students)):
        print(f"{leaderboard.FILE} names {stranger!r}, who is not in the class", file=sys.stderr)
    found = leaderboard.boards(entries, names)
    print(leaderboard.text(found, lab))
    for path in paths:
        print(f"leaderboard: {leaderboard.write(found, lab, path).resolve()}")


def queue(lab: Lab, root: Root = HERE) -> None:
    """List what of LAB waits for a person: the undecided, the unjudged, cells to grade."""
    from autograder.reports import queue

    print(queue.text(queue.queue(_class(root, lab)[1]), lab))


def _class(root: Path, lab: str) -> tuple[Course, list[Entry]]:
    from autograder.intake.course import Course, NotReleased
    from autograder.reports import roster

    try:
        course = Course.at(root)
        return course, roster.read(course, lab)
    except (NotReleased, FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
