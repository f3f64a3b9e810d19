"""``make bench``: how long grading takes, beside stock nbgrader on the same submissions.

Every way of grading the same class runs in turn, several rounds, so that what else the machine does
touches all of them alike; the table gives medians. CPU seconds are those of processes that were
waited for: workers and sandboxes of ``autograder grade`` are not, so its CPU column is too low.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat

from autograder import checking, grading, pool, targets, work
from autograder.checking import compare
from autograder.targets import CheckTargets

LAB = "bench"
CELLS = (
    ("", "import torch", 0),
    ("solution_double", "def double(x):\n    return 2 * x", 0),
    ("", "print(double(torch.ones(3)))", 0),
    ("double", "assert torch.equal(double(torch.ones(3)), 2 * torch.ones(3))", 2),
    ("again", "assert torch.equal(double(torch.zeros(3)), torch.zeros(3))", 1),
)
STOCK = """
c = get_config()
c.CourseDirectory.course_id = "bench"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
"""
OURS = STOCK + "\nfrom autograder.executor import wire\nwire(c)\n"
SHARD = """
import sys
from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader
api = NbGraderAPI(config=PyFileConfigLoader("nbgrader_config.py").load_config())
for student in sys.argv[2:]:
    done = api.autograde(sys.argv[1], student, force=True)
    assert done["success"], done
"""


@dataclass(frozen=True)
class Run:
    """Wall and CPU seconds of one grading of the whole class."""

    wall_s: float
    cpu_s: float


def register() -> None:
    """Make the bench lab's checks known in this process."""
    names = {name: points for name, _, points in CELLS if points}
    table = {
        name: CheckTargets(float(points), {"glyphs": {}, "cifar10": {}})
        for name, points in names.items()
    }
    real = targets.read
    if LAB not in real():
        targets.read = lambda path=targets.TARGETS: {**real(path), LAB: table}  # type: ignore
        sys.modules[f"autograder.checks.{LAB}"] = ModuleType("bench checks")

    def check(student: Any, cases: Any, target: Any) -> list[checking.Row]:
        x = cases.randn(3)
        points = names[cases.name]
        return [compare("doubles", student.call("double", x), 2 * x, points)]

    for name in names:
        checking._checks[LAB, name] = check


def job(unit: bytes) -> bytes:
    """What a worker does with a unit of the bench lab."""
    register()
    return work.judge_unit(unit)


def lay_out(folder: Path, config: str, students: int) -> Path:
    """A released course with ``students`` right submissions."""
    source = folder / "solutions" / LAB
    source.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(config)
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, (name, code, points) in enumerate(CELLS):
        cell = nbformat.v4.new_code_cell(code, id=f"cell{number}")
        if name:
            cell.metadata.nbgrader = {
                "grade": bool(points),
                "grade_id": name,
                "locked": bool(points),
                "schema_version": 3,
                "solution": not points,
                "task": False,
                **({"points": points} if points else {}),
            }
        made.cells.append(cell)
    nbformat.write(made, source / f"{LAB}.ipynb")
    grading.release(folder, LAB)
    for number in range(students):
        target = folder / "submitted" / f"student{number:02}" / LAB
        target.mkdir(parents=True)
        nbformat.write(made, target / f"{LAB}.ipynb")
    return folder


def timed(run: Callable[[], object]) -> Run:
    """Wall and CPU time of ``run``, whose work is done by child processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def stock(folder: Path, lab: str) -> None:
    """``nbgrader autograde``, as it comes or with the judge wired in: one after another."""
    _run([sys.executable, "-m", "nbgrader", "autograde", lab, "--force"], folder)


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


def ours(folder: Path, lab: str) -> None:
    """``autograder grade`` on all cores."""
    _run([sys.executable, "-c", "from autograder.bench import main; main()", ".", lab], folder)


def _run(command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{command}: {ran.stderr[-3_000:]}")


def fresh(folder: Path, pristine: Path) -> Path:
    """The course as it was before any grading."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)
    return folder


def small(root: Path, students: int = 20, rounds: int = 3) -> dict[str, list[Run]]:
    """Time the five-cell notebook; ``root`` is an empty folder."""
    plain = lay_out(root / "plain", STOCK, students)
    wired = lay_out(root / "wired", OURS, students)
    cores = pool.default_workers()
    ways: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "nbgrader autograde": (plain, lambda at: stock(at, LAB)),
        f"nbgrader, {cores} shards": (plain, lambda at: sharded(at, LAB, cores)),
        f"nbgrader, {2 * cores} shards": (plain, lambda at: sharded(at, LAB, 2 * cores)),
        "autograder grade": (wired, lambda at: ours(at, LAB)),
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (pristine, way) in ways.items():
            at = fresh(root / "run", pristine)
            runs[name].append(timed(lambda way=way, at=at: way(at)))  # type: ignore[misc]
    return runs


def table(runs: dict[str, list[Run]], students: int) -> str:
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


def main() -> None:
    """One run of our own way, in a process of its own."""
    folder, lab = Path(sys.argv[1]), sys.argv[2]
    os.environ.setdefault("CODESIGN_DATASET", "glyphs")
    if lab == LAB:
        register()
    done = list(
        grading.grade(folder, lab, progress=False, job=job if lab == LAB else work.judge_unit)
    )
    print(json.dumps({one.student: one.points for one in done}))
