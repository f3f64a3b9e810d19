"""``make bench``: how long grading takes, beside stock nbgrader on the same submissions.

Every way of grading the same class runs in turn, several rounds, so that what else the machine does
touches all of them alike; the table gives medians. CPU seconds are those of every process that a
way has started, orphans included: this process adopts them. ``cells and checks alone`` is the work
itself, in one warm process without kernel, sandbox or gradebook: what no grader can do without.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from nbgrader.api import Gradebook

from autograder.contract.definition import find
from autograder.grading import crew
from autograder.reports.commands import HERE, Root, known_lab
from benchmarks.grading_ways import Run, Way, alone, ours, sharded, stock, timed
from codesign import datasets
from samples import benchmark


def small(root: Path, students: int = 20, rounds: int = 3) -> dict[str, list[Run]]:
    """Time the five-cell notebook; ``root`` is an empty folder."""
    lab = benchmark.SMALL
    plain = benchmark.small(root / "plain", benchmark.STOCK, students)
    wired = benchmark.small(root / "wired", benchmark.WIRED, students)
    cores = crew.cores()
    ways: dict[str, tuple[Path, Way]] = {
        "nbgrader autograde": (plain, lambda at: stock(at, lab)),
        f"nbgrader, {cores} shards": (plain, lambda at: sharded(at, lab, cores)),
        f"nbgrader, {2 * cores} shards": (plain, lambda at: sharded(at, lab, 2 * cores)),
        "autograder grade": (wired, lambda at: ours(at, lab, cores)),
    }
    return _interleaved(root, ways, rounds, sum(points for _, _, points in benchmark.CELLS))


def lab(
    source: Path, root: Path, name: str, dataset: str, students: int = 20, rounds: int = 1
) -> dict[str, list[Run]]:
    """Time a real lab of the course in ``source``; ``root`` is an empty folder."""
    plain = benchmark.lab(source, root / "plain", name, dataset, students, wired=False)
    wired = benchmark.lab(source, root / "wired", name, dataset, students, wired=True)
    cores = crew.cores()
    ways: dict[str, tuple[Path, Way]] = {
        "nbgrader autograde": (plain, lambda at: stock(at, name, dataset)),
        "nbgrader, judge wired in": (wired, lambda at: stock(at, name, dataset)),
        "autograder grade, 1 worker": (wired, lambda at: ours(at, name, 1, dataset)),
        "autograder grade": (wired, lambda at: ours(at, name, cores, dataset)),
        "cells and checks alone": (wired, lambda at: alone(at, name, dataset)),
    }
    full = sum(check.points for check in find(name).targets.values())
    return _interleaved(root, ways, rounds, full)


def _interleaved(
    root: Path, ways: Mapping[str, tuple[Path, Way]], rounds: int, full: float
) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, (pristine, way) in ways.items():
            at = root / "run"
            shutil.rmtree(at, ignore_errors=True)
            shutil.copytree(pristine, at)
            run, points = _once(way, at)
            if (best := max(points.values())) < full:  # no right submission found: not the work
                raise RuntimeError(f"{name}: best of the class got {best:g} of {full:g} points")
            runs[name].append(run)
            print(f"round {number + 1}, {name}: {run.wall_s:.0f} s", file=sys.stderr, flush=True)
    return runs


def _once(way: Way, folder: Path) -> tuple[Run, dict[str, float]]:
    printed: list[str | None] = []
    run = timed(lambda: printed.append(way(folder)))
    return run, _points(folder, printed[0])


def _points(folder: Path, printed: str | None) -> dict[str, float]:
    """Points of the class: as printed, or from nbgrader's gradebook."""
    if printed:
        return json.loads(printed.splitlines()[-1])["points"]
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: submission.score
            for assignment in gradebook.assignments
            for submission in assignment.submissions
        }


def table(runs: Mapping[str, list[Run]], students: int) -> str:
    """Medians of every way, per submission and as a ratio to the first."""
    first = statistics.median(run.wall_s for run in next(iter(runs.values())))
    lines = [f"{'':26}  s/submission   CPU s/submission   throughput"]
    for name, measured in runs.items():
        wall = statistics.median(run.wall_s for run in measured)
        cpu = statistics.median(run.cpu_s for run in measured)
        lines.append(
            f"{name:26}  {wall / students:12.2f}   {cpu / students:16.2f}   {first / wall:9.2f}x"
        )
    return "\n".join(lines)


def memory(root: Path, students: int = 1_000) -> list[int]:
    """Bytes of the grading process alone after each submission of the five-cell notebook."""
    name = benchmark.SMALL
    folder = benchmark.small(root / "many", benchmark.WIRED, students)
    told = json.loads(ours(folder, name, crew.cores()).splitlines()[-1])
    wrong = {student: p for student, p in told["points"].items() if p != 3}
    if len(told["points"]) != students or wrong:
        raise RuntimeError(f"{len(told['points'])} of {students} graded; wrong: {wrong}")
    return told["uss"]


def memory_text(uss: list[int]) -> str:
    """The memory of the grader along the way."""
    marks = [int(len(uss) * share) - 1 for share in (0.1, 0.25, 0.5, 0.75, 1.0)]
    told = [f"{mark + 1}: {uss[mark] / 2**20:.0f} MiB" for mark in marks]
    return f"memory of the grader after submission {', '.join(told)}"


PARTS = ("small", "lab", "memory")


def main(
    part: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(PARTS)}; all")] = None,
    root: Root = HERE,
    lab_name: Annotated[str, typer.Option("--lab", callback=known_lab)] = "lab1_pruning",
    students: int = 20,
    rounds: Annotated[int, typer.Option(help="of the small notebook; a lab runs once")] = 3,
    many: Annotated[int, typer.Option(help="submissions for the memory")] = 1_000,
) -> None:
    """Time grading beside stock nbgrader on the same submissions."""
    parts = part or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"got {sorted(unknown)}; allowed: {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="codesign-bench-") as folder:
        if "small" in parts:
            runs = small(Path(folder) / "small", students, rounds)
            print(f"five cells, {students} submissions, medians of {rounds} interleaved rounds")
            print(table(runs, students))
        if "lab" in parts:
            dataset = datasets.choose()[0]
            runs = lab(root.resolve(), Path(folder) / "lab", lab_name, dataset, students)
            print(f"{lab_name} on {dataset}, {students} submissions, one round")
            print(table(runs, students))
        if "memory" in parts:
            print(memory_text(memory(Path(folder), many)))


if __name__ == "__main__":
    typer.run(main)
