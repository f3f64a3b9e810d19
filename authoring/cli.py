"""``course``: the commands of whoever writes lectures and labs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autograder.reports.commands import HERE, Commands, Lab, Root, known_course

app = typer.Typer(
    cls=Commands, help="Make the course's notebooks.", add_completion=False, no_args_is_help=True
)
new = typer.Typer(help="Write the skeleton of a lecture or a lab.", no_args_is_help=True)
app.add_typer(new, name="new")


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
            problems += [f"{path.name}: {problem}" for problem in notebooks.check(path)]
            continue
        try:
            print(f"built {notebooks.build(path, execute=execute)}")
        except ValueError as error:  # a cell raised: its traceback is in the message, ours is not
            problems.append(str(error))
    for problem in problems:
        print(problem)
    raise typer.Exit(1 if problems else 0)


@app.command()
def run(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="percent sources or notebooks; default: all")
    ] = None,
    root: Annotated[Path, typer.Option(help="course folder, where no notebook is named")] = HERE,
    short: Annotated[bool, typer.Option("--short", help="less work, the same asserts")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="notebooks at a time; default: number of cores")
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(min=1, help="seconds a notebook; default: 180 a lecture, 600 a lab"),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(dir_okay=False, help="write the times to this Markdown file")
    ] = None,
) -> None:
    """Execute notebooks against the installed library, in temporary copies of their folders."""
    from authoring import run as runner

    if not paths:
        from authoring import notebooks

        paths = notebooks.sources(known_course(root).resolve())
    results = []
    try:
        for ran in runner.run(paths, short=short, jobs=jobs, limit_s=limit):
            print(ran, flush=True)
            results.append(ran)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(runner.table(results), encoding="utf-8")
    raise typer.Exit(1 if any(ran.failure for ran in results) else 0)


@app.command()
def prove(
    lecture: Annotated[Path, typer.Argument(help="lectures/NN_title.py")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="mutants at a time; default: number of cores")
    ] = None,
) -> None:
    """Show that a lecture's asserts catch wrong versions of what it builds."""
    from authoring import proof

    try:
        matrix = proof.prove(lecture.resolve(), jobs=jobs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    print(matrix)
    if not matrix.holes:
        print(f"kept in {proof.store(matrix, lecture.resolve())}")
    raise typer.Exit(1 if matrix.holes else 0)


@app.command("read")
def read_(
    paths: Annotated[list[Path], typer.Argument(help="built lectures, .ipynb")],
) -> None:
    """Say how long a lecture takes to read, and what keeps it from being read well."""
    import nbformat

    from authoring import reading

    found = []
    for path in paths:
        if path.suffix != ".ipynb" or not path.is_file():
            raise typer.BadParameter(f"got {path}; allowed: a built notebook (.ipynb)")
        notebook = nbformat.read(path, as_version=4)
        print(f"{path.stem}: {reading.measure(notebook)}")
        found += reading.problems(notebook)
    for problem in found:
        print(problem)
    raise typer.Exit(1 if found else 0)


@app.command()
def claims(root: Root = HERE) -> None:
    """Print every claim of the lectures, as published and as measured, as a Markdown page."""
    from authoring import claims_page

    print(claims_page.text(known_course(root).resolve()))


@app.command()
def release(lab: Lab, root: Root = HERE) -> None:
    """Generate labs/LAB from solutions/LAB with nbgrader."""
    from autograder.intake.release import generate

    try:
        print(generate(root.resolve(), lab))
    except (ValueError, RuntimeError) as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def work(lab: Lab, root: Root = HERE) -> None:
    """Copy labs/LAB to work/LAB, to write answers in; nothing ever changes what is there."""
    from autograder.intake import keep

    try:
        print(f"write your answers in {keep.work(root.resolve(), lab)}")
    except FileExistsError as error:
        print(error)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@new.command()
def lecture(
    number: Annotated[str, typer.Argument(help="two digits, 02 for Lecture 2")],
    title: Annotated[str, typer.Argument(help="its title, in quotes")],
    root: Root = HERE,
) -> None:
    """Write lectures/NUMBER_TITLE.py with every section that a lecture has."""
    from authoring import skeletons

    try:
        made = skeletons.lecture(root.resolve(), number, title)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    print(skeletons.told(root.resolve(), made))


@new.command("lab")
def new_lab(
    name: Annotated[str, typer.Argument(help="labN_topic, as lab7_kernels")], root: Root = HERE
) -> None:
    """Write the source of lab NAME, and its folder with targets, checks, mutants, valid answers."""
    from authoring import skeletons

    try:
        made = skeletons.lab(root.resolve(), name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    print(skeletons.told(root.resolve(), made))


@app.command()
def stamp(
    repo: Annotated[str, typer.Argument(help="owner/name")],
    root: Root = HERE,
) -> None:
    """Write the repository's address (owner/name) into badges and setup cells."""
    from authoring import notebooks

    try:
        for path in notebooks.stamp(root.resolve(), repo):
            print(f"stamped {path}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


if __name__ == "__main__":
    app()
