"""``course``: the commands of whoever writes lectures and labs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.reports.commands import HERE, Lab, Root

app = typer.Typer(help="Make the course's notebooks.", add_completion=False, no_args_is_help=True)


@app.command()
def build(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="percent sources; default: all")
    ] = None,
    root: Root = HERE,
    execute: bool = True,
    check: Annotated[bool, typer.Option("--check", help="only say what is out of date")] = False,
) -> None:
    """Build notebooks from their percent sources: in step, executed, stamped."""
    from authoring import notebooks

    known = notebooks.sources(root.resolve())
    if unknown := [path for path in paths or () if path.resolve() not in known]:
        shown = ", ".join(path.relative_to(root.resolve()).as_posix() for path in known)
        raise typer.BadParameter(f"got {unknown[0]}; allowed: {shown}")
    problems = []
    for path in paths or known:
        if check:
            problems += notebooks.check(path)
        else:
            print(f"built {notebooks.build(path, execute=execute)}")
    for problem in problems:
        print(problem)
    raise typer.Exit(1 if problems else 0)


@app.command()
def release(lab: Lab, root: Root = HERE) -> None:
    """Generate labs/LAB from solutions/LAB with nbgrader."""
    from autograder.intake.release import generate

    print(generate(root.resolve(), lab))


@app.command()
def stamp(
    repo: Annotated[str, typer.Argument(help="owner/name")],
    root: Root = HERE,
) -> None:
    """Write the repository's address (owner/name) into badges and setup cells."""
    from authoring import notebooks

    for path in notebooks.stamp(root.resolve(), repo):
        print(f"stamped {path}")


if __name__ == "__main__":
    app()
