"""``make bench``: how long grading takes, beside stock nbgrader on the same submissions.

Every way of grading the same class runs in turn, several rounds, so that what else the machine does
touches all of them alike; the table gives medians. CPU seconds are those of every process that a
way has started, orphans included: this process adopts them. ``cells and checks alone`` is the work
itself, in one warm process without kernel, sandbox or gradebook: what no grader can do without.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from nbgrader.api import Gradebook

from autograder.contract import cells, checking
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find, register
from autograder.contract.environment import GRADING
from autograder.grading import judge, pool, run
from autograder.grading.unit import judge_unit
from autograder.intake import accept
from autograder.intake.course import Course
from autograder.reports.commands import HERE, Root, known_lab
from codesign import datasets
from samples import benchmark

ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
SHARD = """
import sys
from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader
api = NbGraderAPI(config=PyFileConfigLoader("nbgrader_config.py").load_config())
for student in sys.argv[2:]:
    done = api.autograde(sys.argv[1], student, force=True)
    assert done["success"], done
"""
CHILD = "from benchmarks import grading; grading."  # of a child process

Way = Callable[[Path], str | None]  # grades the class in a folder; may return printed points


@dataclass(frozen=True)
class Run:
    """Wall and CPU seconds of one grading of the whole class."""

    wall_s: float
    cpu_s: float


def timed(run: Callable[[], object]) -> Run:
    """Wall and CPU time of ``run``, whose work is done by child processes."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere orphans are missed
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1)
    others = {process.pid for process in psutil.Process().children()}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    wall = time.perf_counter() - start
    while orphans := {process.pid for process in psutil.Process().children()} - others:
        for pid in orphans:
            os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


# --- ways of grading a class ---------------------------------------------------------------------


def stock(folder: Path, lab: str, dataset: str = "glyphs") -> None:
    """``nbgrader autograde``: one after another."""
    _run([sys.executable, "-m", "nbgrader", "autograde", lab, "--force"], folder, dataset)


def sharded(folder: Path, lab: str, shards: int) -> None:
    """nbgrader's API in ``shards`` processes, each with its part of the class."""
    students = sorted(path.name for path in (folder / "submitted").iterdir())
    parts = [students[number::shards] for number in range(shards)]
    with ThreadPoolExecutor(shards) as threads:
        for done in [
            threads.submit(_run, [sys.executable, "-c", SHARD, lab, *part], folder)
            for part in parts
        ]:
            done.result()


def ours(folder: Path, lab: str, workers: int, dataset: str = "glyphs") -> str:
    """``autograder grade``; returns what :func:`grade` prints."""
    return _run([sys.executable, "-c", f"{CHILD}grade('.', {lab!r}, {workers})"], folder, dataset)


def alone(folder: Path, lab: str, dataset: str) -> str:
    """The cells and the checks, and nothing else; returns what :func:`cells_and_checks` prints."""
    return _run([sys.executable, "-c", f"{CHILD}cells_and_checks('.', {lab!r})"], folder, dataset)


def _run(command: list[str], folder: Path, dataset: str = "glyphs") -> str:
    # Nobody trains: stock nbgrader would make anew what was not handed in.
    environment = {**os.environ, GRADING: "1", "CODESIGN_DATASET": dataset}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise RuntimeError(f"{command}: {ran.stderr[-3_000:]}")
    return ran.stdout


def grade(folder: str, lab: str, workers: int | None = None) -> None:
    """One run of our own way, in a process of its own; prints points, and its memory as it goes."""
    job = judge_unit
    if lab == benchmark.SMALL:
        register(benchmark.DEFINITION)
        job = benchmark.job
    points, memory = {}, []
    for one in run.grade(Path(folder), lab, progress=False, workers=workers, job=job):
        points[one.student] = one.points
        memory.append(psutil.Process().memory_full_info().uss)
    print(json.dumps({"points": points, "uss": memory}))


def cells_and_checks(folder: str, lab: str) -> None:
    """Run every submission's cells and checks in this process; the same points come out."""
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        """One that draws figures like a notebook's."""

        def enable_gui(self, gui: object = None) -> None:
            """No window."""

    os.environ[GRADING] = "1"
    course, points = Course.at(Path(folder)), {}
    seed = judge.secret_seed(course.root)
    for student in course.students(lab):
        submission = accept.submission(
            course.released(lab), course.folder("submitted", student, lab)
        )
        with _laid_out(submission) as (place, dataset):
            shell = Shell()
            shell.run_line_magic("matplotlib", "inline")
            for cell in submission.notebook.cells:
                if cell.cell_type == "code" and not cells.is_judged(cell):
                    with contextlib.redirect_stdout(io.StringIO()):
                        shell.run_cell(cell.source)
            made = LocalStudent(shell.user_ns, place / "outputs" / dataset)
            found = [checking.run(lab, name, made, dataset, seed) for name in find(lab).targets]
            points[student] = round(sum(verdict.points for verdict in found), 2)
    print(json.dumps({"points": points}))


@contextlib.contextmanager
def _laid_out(submission: accept.Submission) -> Iterator[tuple[Path, str]]:
    """The artifacts in a folder that is the working folder meanwhile, and their image set."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in submission.artifacts.items():
            path = Path(folder) / "outputs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.chdir(folder)
        try:
            yield Path(folder), os.environ["CODESIGN_DATASET"]
        finally:
            os.chdir(before)


# --- comparisons ---------------------------------------------------------------------------------


def small(root: Path, students: int = 20, rounds: int = 3) -> dict[str, list[Run]]:
    """Time the five-cell notebook; ``root`` is an empty folder."""
    lab = benchmark.SMALL
    plain = benchmark.small(root / "plain", benchmark.STOCK, students)
    wired = benchmark.small(root / "wired", benchmark.WIRED, students)
    cores = pool.default_workers()
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
    cores = pool.default_workers()
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
    told = json.loads(ours(folder, name, pool.default_workers()).splitlines()[-1])
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
