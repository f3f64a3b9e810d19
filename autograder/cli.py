"""``autograder``: the commands of the course. ``make help`` lists the ones used every day."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autograder import cli_class, judge, limits, sandbox
from autograder.cli_class import HERE, Root
from codesign import datasets

app = typer.Typer(help="Judge the labs of the course.", add_completion=False, no_args_is_help=True)
console = Console(soft_wrap=True)

Unisolated = Annotated[bool, typer.Option("--unisolated", help="run submissions unprotected")]


def _use_database(url: str | None) -> None:
    """Name the gradebook for everything that this process starts; nbgrader's own commands too."""
    if url:
        os.environ["CODESIGN_DB"] = url


Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="CODESIGN_DB",
        callback=_use_database,
        help="gradebook, for instance postgresql+psycopg://...; default: the course's gradebook.db",
    ),
]


@app.command()
def collect(
    lab: str,
    source: Annotated[Path, typer.Argument(help="a folder or archive of student_LAB.zip files")],
    root: Root = HERE,
    pattern: Annotated[
        str | None, typer.Option(help="regular expression with a group (?P<student>...)")
    ] = None,
) -> None:
    """Bring what a learning management system exported into submitted/."""
    from autograder import collect as collection
    from autograder import grading, render

    try:
        done = collection.collect(grading.Course.at(root), lab, source, pattern)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    rows = [(one.file, one.student, one.status, one.message) for one in done]
    print(render.text_table(("file", "student", "", ""), rows, f"{lab}: {len(rows)} files"))
    wrong = [one for one in done if one.status in ("skipped", "refused")]
    raise typer.Exit(1 if wrong or not done else 0)


@app.command()
def grade(
    lab: str,
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
    from autograder import grading
    from autograder import report as reports

    if retrain and not student:
        raise typer.BadParameter("--retrain takes long; name the students with --student")

    try:
        done = list(
            grading.grade(
                root,
                lab,
                only=student or (),
                unisolated=unisolated or None,
                workers=workers,
                scheduler=scheduler,
                resume=resume,
            )
        )
    except (judge.NotIsolated, grading.NotReleased, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from None
    print(reports.text(sorted(done, key=lambda one: one.student), lab))
    print(f"\nnext: autograder report {lab}; autograder queue {lab}")
    if retrain:
        _retrain(root, lab, sorted(one.student for one in done), unisolated, retrain_hours)


def _retrain(root: Path, lab: str, students: list[str], unisolated: bool, hours: float) -> None:
    from autograder import grading, retrain

    course = grading.Course.at(root)
    isolated, deadline_s = judge.isolation(unisolated or None), 3_600 * hours
    for student in students:
        again = retrain.retrain(course, lab, student, isolated=isolated, deadline_s=deadline_s)
        print(f"\n{retrain.text(again)}\n{retrain.write(again, lab, course.root)}")


for command in (cli_class.report, cli_class.leaderboard, cli_class.queue):
    app.command()(command)


@app.command()
def prove(
    lab: Annotated[list[str] | None, typer.Argument(help="default: every lab")] = None,
    root: Root = HERE,
    dataset: Annotated[list[str] | None, typer.Option(help="image sets; default: all here")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the matrices")] = None,
    unisolated: Unisolated = False,
) -> None:
    """Show that the grader works: reference full, release 0, every mutant caught."""
    from autograder import grading
    from autograder import prove as proof

    course = grading.Course.at(root)
    isolated, holes = judge.isolation(unisolated or None), []
    for name in lab or course.labs():
        lines = []
        for images in dataset or available():
            lines += proof.prove(course, name, images, isolated=isolated)
        found = [f"{line.dataset} {line.name}: {line.fault}" for line in lines if line.fault]
        found += proof.missing(name)
        print(proof.markdown(lines, name))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.md").write_text(proof.markdown(lines, name), encoding="utf-8")
            (out / f"{name}.json").write_text(proof.to_json(lines), encoding="utf-8")
        for hole in found:
            print(f"hole: {hole}")
        print(f"{name}: {len(lines)} lines, {len(found)} holes")
        holes += found
    raise typer.Exit(1 if holes else 0)


@app.command()
def calibrate(
    lab: str,
    root: Root = HERE,
    dataset: Annotated[list[str] | None, typer.Option(help="image sets; default: all here")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds, from 0 on")] = 3,
) -> None:
    """Run LAB's reference over seeds and write references and spreads into targets.toml."""
    from autograder import calibrate as calibration
    from autograder import grading

    course = grading.Course.at(root)
    for name in dataset or available():
        measured = calibration.calibrate(course, lab, name, range(seeds))
        calibration.write(lab, name, measured)
        for check, figures in measured.items():
            for figure, values in figures.items():
                print(f"{name} {check} {figure}: {', '.join(f'{v:.4g}' for v in values)}")


@app.command()
def doctor() -> None:
    """Try what grading needs on this machine, protection by protection; say what is missing."""
    from autograder import doctor as protections

    def say(ok: bool, name: str, detail: str) -> bool:
        console.print(f"{'ok     ' if ok else 'missing'} {name}: {detail}", highlight=False)
        return ok

    for name in datasets.DATASETS:
        say(*_data(name)[:1], f"data: {name}", _data(name)[1])
    fine = say(find_spec("nbgrader") is not None, "nbgrader", "the extra `grading`")
    reason = sandbox.why_not()
    fine &= say(reason is None, "isolation (bubblewrap)", reason or "a program ran inside it")
    if reason is None:
        say(sandbox.can_fork(), "warm workers", "a fork instead of a start for each submission")
        groups = limits.control_groups()
        limits.remove(groups)
        say(bool(groups), "control groups", "without them a watch, twice a second, bounds memory")
        for found in protections.findings():
            fine &= say(found.holds, found.name, found.said[-100:])
    raise typer.Exit(0 if fine else 1)


def _data(name: str) -> tuple[bool, str]:
    if datasets.cache_file(name, "test").exists():
        return True, "decoded"
    if name == "glyphs":
        return True, "is generated on first use"
    return datasets.find_cifar10() is not None, str(datasets.find_cifar10() or "no source found")


def available() -> list[str]:
    """The image sets that can be judged on here: glyphs, and CIFAR-10 where its files are."""
    return [name for name in datasets.DATASETS if _data(name)[0]]


@app.command()
def bench(
    part: Annotated[
        list[str] | None, typer.Argument(help="small, lab or memory; default: all")
    ] = None,
    root: Root = HERE,
    lab: str = "lab1_pruning",
    students: int = 20,
    rounds: Annotated[int, typer.Option(help="of the small notebook; a lab runs once")] = 3,
    many: Annotated[int, typer.Option(help="submissions for the memory")] = 1_000,
) -> None:
    """Time grading beside stock nbgrader on the same submissions."""
    import tempfile

    from autograder import bench as benchmark

    parts = part or ["small", "lab", "memory"]
    if unknown := set(parts) - {"small", "lab", "memory"}:
        raise typer.BadParameter(f"got {sorted(unknown)}; allowed: small, lab, memory")
    with tempfile.TemporaryDirectory(prefix="codesign-bench-") as folder:
        if "small" in parts:
            runs = benchmark.small(Path(folder) / "small", students, rounds)
            print(f"five cells, {students} submissions, medians of {rounds} interleaved rounds")
            print(benchmark.table(runs, students))
        if "lab" in parts:
            dataset = datasets.choose()[0]
            place = Path(folder) / "lab"
            runs = benchmark.lab(root.resolve(), place, lab, dataset, students)
            print(f"{lab} on {dataset}, {students} submissions, one round")
            print(benchmark.table(runs, students))
        if "memory" in parts:
            print(benchmark.memory_text(benchmark.memory(Path(folder), many)))


@app.command()
def demo(folder: Path = Path("demo"), lab: str = "lab1_pruning", root: Root = HERE) -> None:
    """Grade the course's own sample submissions of LAB and write a report."""
    from autograder import demo as samples

    samples.run(root, folder, lab)


@app.command()
def release(lab: str, root: Root = HERE) -> None:
    """Generate labs/LAB from solutions/LAB with nbgrader."""
    from autograder import notebooks

    print(notebooks.release(root.resolve(), lab))


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
    from autograder import notebooks

    problems = []
    for path in paths or notebooks.sources(root.resolve()):
        if check:
            problems += notebooks.check(path)
        else:
            print(f"built {notebooks.build(path, execute=execute)}")
    for problem in problems:
        print(problem)
    raise typer.Exit(1 if problems else 0)


@app.command()
def stamp(repo: str, root: Root = HERE) -> None:
    """Write the repository's address (owner/name) into badges and setup cells."""
    from autograder import notebooks

    for path in notebooks.stamp(root.resolve(), repo):
        print(f"stamped {path}")


if __name__ == "__main__":
    app()
