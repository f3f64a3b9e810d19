"""The command line ``autograder``. ``make help`` lists the commands used every day.

Everything that takes time to import (PyTorch, nbgrader) is imported by the command that needs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from autograder.contract.environment import DATABASE
from autograder.reports import commands
from autograder.reports.commands import HERE, Commands, Lab, Root, known_lab

app = typer.Typer(
    cls=Commands, help="Judge the labs of the course.", add_completion=False, no_args_is_help=True
)

Unisolated = Annotated[bool, typer.Option("--unisolated", help="run submissions unprotected")]


def _use_database(url: str | None) -> None:
    """Name the gradebook for everything that this process starts; nbgrader's own commands too."""
    if url:
        os.environ[DATABASE] = url


Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=DATABASE,
        callback=_use_database,
        help="gradebook, for instance postgresql+psycopg://...; default: the course's gradebook.db",
    ),
]


def _known_datasets(names: list[str] | None) -> list[str] | None:
    """Pass known image sets on.

    Raises:
        BadParameter: another name.
    """
    from autograder.contract.targets import DATASETS

    for name in names or ():
        if name not in DATASETS:
            raise typer.BadParameter(f"got image set {name!r}; allowed: {', '.join(DATASETS)}")
    return names


Images = Annotated[
    list[str] | None,
    typer.Option("--dataset", callback=_known_datasets, help="image sets; default: all here"),
]


def _known_labs(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        known_lab(name)
    return names


@app.command()
def collect(
    lab: Lab,
    source: Annotated[Path, typer.Argument(help="a folder or archive of student_LAB.zip files")],
    root: Root = HERE,
    pattern: Annotated[
        str | None, typer.Option(help="regular expression with a group (?P<student>...)")
    ] = None,
) -> None:
    """Bring what a learning management system exported into submitted/."""
    from autograder.contract import show
    from autograder.intake import collect
    from autograder.intake.course import Course

    try:
        done = collect.collect(Course.at(root), lab, source, pattern)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    rows = [(one.file, one.student, one.status, one.message) for one in done]
    print(show.text_table(("file", "student", "", ""), rows, f"{lab}: {len(rows)} files"))
    wrong = [one for one in done if one.status in ("skipped", "refused")]
    raise typer.Exit(1 if wrong or not done else 0)


@app.command()
def grade(
    lab: Lab,
    root: Root = HERE,
    student: Annotated[list[str] | None, typer.Option(help="only these students")] = None,
    unisolated: Unisolated = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes; default: one a core; 0: none but this")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="a Dask cluster, tcp://host:port")] = None,
    resume: Annotated[bool, typer.Option(help="keep what is graded and unchanged")] = True,
    db: Database = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="afterwards make the artifacts again, and compare")
    ] = False,
    retrain_hours: Annotated[float, typer.Option(min=0.01, help="deadline of one student")] = 2.0,
) -> None:
    """Grade every submission of LAB into nbgrader's gradebook."""
    if retrain and not student:
        raise typer.BadParameter("--retrain takes long; name the students with --student")
    from autograder.grading import crew

    crew.leave_properly()
    if scheduler is None and workers != 0:
        crew.warm_up(workers)  # the first imports PyTorch while this process imports nbgrader
    from autograder.grading import run
    from autograder.intake.course import NotReleased
    from autograder.reports import class_report
    from autograder.sandbox.isolation import NotIsolated

    try:
        done, wrong = run.to_the_end(
            root,
            lab,
            only=student or (),
            unisolated=unisolated or None,
            workers=workers,
            scheduler=scheduler,
            resume=resume,
        )
    except (NotIsolated, NotReleased, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from None
    print(class_report.text(sorted(done, key=lambda one: one.student), lab))
    print(f"\nnext: autograder report {lab}; autograder queue {lab}")
    if wrong:
        print(f"autograder: {wrong}", file=sys.stderr)
        raise typer.Exit(1)
    if retrain:
        _retrain(root, lab, sorted(one.student for one in done), unisolated, retrain_hours)


def _retrain(root: Path, lab: str, students: list[str], unisolated: bool, hours: float) -> None:
    from autograder.intake.course import Course
    from autograder.reports import retrain
    from autograder.sandbox.isolation import isolation

    course = Course.at(root)
    isolated, deadline_s = isolation(unisolated or None), 3_600 * hours
    for student in students:
        again = retrain.retrain(course, lab, student, isolated=isolated, deadline_s=deadline_s)
        print(f"\n{retrain.text(again)}\n{retrain.write(again, lab, course.root)}")


for command in (commands.report, commands.leaderboard, commands.queue):
    app.command()(command)


@app.command()
def prove(
    lab: Annotated[
        list[str] | None, typer.Argument(callback=_known_labs, help="default: every lab")
    ] = None,
    root: Root = HERE,
    dataset: Images = None,
    out: Annotated[Path | None, typer.Option(help="folder for the matrices")] = None,
    spare: Annotated[
        bool, typer.Option("--spare", help="judge of what the ledger knows a random part alone")
    ] = False,
    again: Annotated[float, typer.Option(min=0, max=1, help="size of that part")] = 0.05,
    only: Annotated[str, typer.Option(help="answers with this in their name; records none")] = "",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="labs and image sets at a time; default: every core")
    ] = None,
    at_most: Annotated[int | None, typer.Option(min=0, help="new lines, drawn at random")] = None,
    few: Annotated[bool, typer.Option("--few", help="on three seeds; nothing is recorded")] = False,
    record: Annotated[bool, typer.Option(help="write what was proved into the ledger")] = True,
    unisolated: Unisolated = False,
) -> None:
    """Show that the grader works: reference full, release 0, every mutant caught."""
    from autograder.contract.definition import find
    from autograder.grading.crew import cores
    from autograder.intake.course import Course
    from autograder.proof import lanes, prove
    from autograder.sandbox.isolation import NotIsolated, isolation

    course = Course.at(root)
    try:
        isolated, holes = isolation(unisolated or None), []
    except NotIsolated as error:
        raise typer.BadParameter(str(error)) from None
    sets = dataset or available()
    labs = lab or course.labs()
    wanted = [(name, images) for name in labs for images in sets]
    drawn = {"again": again, "only": only, "few": few, "at_most": at_most}
    try:
        found = lanes.matrices(
            root, wanted, jobs or cores(), spare=spare, isolated=isolated, **drawn
        )
        for name in labs:
            lines = [line for _ in sets for line in next(found)]
            holes += lanes.told(name, lines, out)
            # With few or only some answers the reference was tried on few seeds.
            if record and not (few or only) and find(name).folder:
                prove.record(find(name), lines)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(1 if holes else 0)


@app.command()
def calibrate(
    lab: Lab,
    root: Root = HERE,
    dataset: Images = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds, from 0 on")] = 3,
) -> None:
    """Run LAB's reference over seeds and write references and spreads into its targets.toml."""
    from autograder.intake.course import Course
    from autograder.proof import calibrate

    course = Course.at(root)
    for name in dataset or available():
        try:
            measured = calibrate.calibrate(course, lab, name, range(seeds))
        except FileNotFoundError as error:
            raise typer.BadParameter(str(error)) from None
        calibrate.write(lab, name, measured)
        for check, figures in measured.items():
            for figure, values in figures.items():
                print(f"{name} {check} {figure}: {', '.join(f'{v:.4g}' for v in values)}")


@app.command()
def doctor() -> None:
    """Try what grading needs on this machine, protection by protection; say what is missing."""
    from autograder.sandbox import bubblewrap, doctor, limits
    from codesign import datasets

    def say(ok: bool, name: str, detail: str) -> bool:
        print(f"{'ok     ' if ok else 'missing'} {name}: {detail}", flush=True)
        return ok

    for name in datasets.DATASETS:
        say(*_data(name)[:1], f"data: {name}", _data(name)[1])
    fine = say(find_spec("nbgrader") is not None, "nbgrader", "the extra `grading`")
    reason = bubblewrap.why_not()
    fine &= say(reason is None, "isolation (bubblewrap)", reason or "a program ran inside it")
    if reason is None:
        say(bubblewrap.can_fork(), "warm workers", "a fork instead of a start for each submission")
        groups = limits.control_groups()
        limits.remove(groups)
        say(bool(groups), "control groups", "without them a watch, twice a second, bounds memory")
        for found in doctor.findings():
            fine &= say(found.holds, found.name, found.said[-100:])
    raise typer.Exit(0 if fine else 1)


def _data(name: str) -> tuple[bool, str]:
    from codesign import datasets

    if datasets.cache_file(name, "test").exists():
        return True, "decoded"
    if name == "glyphs":
        return True, "is generated on first use"
    return datasets.find_cifar10() is not None, str(datasets.find_cifar10() or "no source found")


def available() -> list[str]:
    """Return the image sets that can be judged on here: glyphs, and CIFAR-10 where it lies."""
    from autograder.contract.targets import DATASETS

    return [name for name in DATASETS if _data(name)[0]]


def _moved(name: str) -> None:
    """Keep ``autograder build|release|stamp``, which make notebooks, under their old name."""

    @app.command(
        name,
        help=f"The same as `course {name}`.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def alias(context: typer.Context) -> None:
        course = Path(sys.executable).with_name("course")
        if not course.exists():
            raise typer.BadParameter(f"{course} is not installed; it makes notebooks")
        raise typer.Exit(subprocess.run([course, name, *context.args]).returncode)


for moved in ("build", "release", "stamp"):
    _moved(moved)


if __name__ == "__main__":
    app()
