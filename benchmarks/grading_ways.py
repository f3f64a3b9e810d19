"""Ways of grading the same class, each as child processes whose wall and CPU time is taken.

``alone`` is the work itself, in one warm process without kernel, sandbox or gradebook: what no
grader can do without.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from autograder.contract.definition import find, register
from autograder.contract.environment import DATASET, GRADING
from autograder.grading import crew

if TYPE_CHECKING:
    from autograder.intake.accept import Submission

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
SMALL, SMALL_JOB = "bench", "samples.benchmark:job"  # not imported here: a child of it is timed
CHILD = "from benchmarks import grading_ways; grading_ways."  # of a child process

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
    environment = {**os.environ, GRADING: "1", DATASET: dataset}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise RuntimeError(f"{command}: {ran.stderr[-3_000:]}")
    return ran.stdout


def grade(folder: str, lab: str, workers: int | None = None) -> None:
    """One run of our own way, in a process of its own; prints points, and its memory as it goes.

    As the command does, it hires the first worker before it imports anything that takes long, and
    imports neither PyTorch nor a check.
    """
    crew.warm_up(workers, SMALL_JOB if lab == SMALL else crew.JUDGE)
    from autograder.grading import run
    from autograder.grading.unit import judge_unit
    from samples import benchmark

    if lab == SMALL:
        register(benchmark.DEFINITION)
    job = benchmark.job if lab == SMALL else judge_unit
    points, memory = {}, []
    for one in run.grade(Path(folder), lab, progress=False, workers=workers, job=job):
        points[one.student] = one.points
        memory.append(psutil.Process().memory_full_info().uss)
    print(json.dumps({"points": points, "uss": memory}))


def cells_and_checks(folder: str, lab: str) -> None:
    """Run every submission's cells and checks in this process; the same points come out."""
    from IPython.core.interactiveshell import InteractiveShell

    from autograder.contract import cells, checking
    from autograder.contract.checking import LocalStudent
    from autograder.intake import accept, release
    from autograder.intake.course import Course, secret_seed

    class Shell(InteractiveShell):
        """One that draws figures like a notebook's."""

        def enable_gui(self, gui: object = None) -> None:
            """No window."""

    os.environ[GRADING] = "1"
    course, points = Course.at(Path(folder)), {}
    seed = secret_seed(course.root)
    for student in course.students(lab):
        handed_in = course.folder("submitted", student, lab)
        submission = accept.submission(release.base(course, lab), lab, handed_in)
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
def _laid_out(submission: Submission) -> Iterator[tuple[Path, str]]:
    """The artifacts in a folder that is the working folder meanwhile, and their image set."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in submission.artifacts.items():
            path = Path(folder) / "outputs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.chdir(folder)
        try:
            yield Path(folder), os.environ[DATASET]
        finally:
            os.chdir(before)
