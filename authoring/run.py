"""Execute published notebooks against the library as it is: `course run`.

Each notebook runs in a temporary copy of its folder, so that nothing in the repository changes,
and counts as failed when a cell raises or when it takes longer than its limit. ``short`` runs
assign the values that stand beside the parameters cell, ``# %% tags=["parameters"] short={...}``,
after that cell: less work, the same asserts; in labs, guards watch what given cells ask of a
student's functions. Times are those of a warm cache: the first run on a machine also generates or
decodes the images (about 20 s) and compiles the C kernels. Leaves out outputs, which are thrown
away; :mod:`authoring.notebooks` publishes them.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from autograder.contract.definition import names
from autograder.grading.crew import cores

LECTURE_LIMIT_S, LAB_LIMIT_S = 180.0, 600.0
LECTURES = ("lectures", "further")  # folders
QUIET = ["--IPKernelApp.log_level=ERROR"]  # not the note that its port is on this machine
GUARD = "from autograder.contract import definition\ndefinition.find({name!r}).guard(globals())"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
FAILING_LINE = re.compile(r"^-+> \d+ (.*)$", re.M)  # as IPython marks it


@dataclass(frozen=True)
class Ran:
    """How one notebook ran: wall and CPU seconds, and what failed (None: nothing)."""

    name: str
    wall_s: float
    cpu_s: float  # of the kernel and the processes it waited for, up to its last complete cell
    failure: str | None

    def __str__(self) -> str:
        state = "ok" if self.failure is None else f"FAILED: {self.failure}"
        return f"{self.name}  {self.wall_s:.1f} s (CPU {self.cpu_s:.1f} s)  {state}"


def default_limit_s(path: Path) -> float:
    """Seconds that a notebook may take: three minutes for a lecture, ten for a lab."""
    return LECTURE_LIMIT_S if Path(path).resolve().parent.name in LECTURES else LAB_LIMIT_S


def run(
    paths: Sequence[Path],
    *,
    short: bool = False,
    jobs: int | None = None,
    limit_s: float | None = None,
) -> Iterator[Ran]:
    """Execute notebooks, ``jobs`` at a time, and yield each result as soon as it is there.

    Args:
        paths: percent sources or notebooks.
        short: use the short values of the parameters.
        jobs: notebooks at a time, default: one per core; torch's threads share the cores.
        limit_s: seconds per notebook, default :func:`default_limit_s`.

    Raises:
        ValueError: something that is no notebook, or a short value of an unknown parameter;
            nothing was executed.
    """
    jobs = min(jobs or cores(), len(paths)) or 1
    threads = max(1, cores() // jobs)
    runs = [_Run(path, read(path, short=short), limit_s or default_limit_s(path)) for path in paths]
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(one.execute, threads) for one in runs]):
                yield future.result()
        except BaseException:  # Ctrl-C among them: kernels are in sessions of their own
            pool.shutdown(wait=False, cancel_futures=True)
            for one in runs:
                one.kill()
            raise


def read(path: Path, *, short: bool = False) -> NotebookNode:
    """Read a percent source or notebook; with ``short``, short values and guards are in place.

    Raises:
        ValueError: a file that is no notebook, or a short value of a name that the parameters cell
            does not assign.
    """
    path = Path(path)
    if path.suffix not in (".py", ".ipynb") or not path.is_file():
        raise ValueError(f"got {path}; allowed: a percent source (.py) or a notebook (.ipynb)")
    if path.suffix == ".py":
        from authoring import notebooks  # takes seconds, which built notebooks do not need

        notebook = notebooks.assemble(path)
    else:
        notebook = nbformat.read(path, as_version=4)
    if not short:
        return notebook
    return guarded(shortened(notebook, path.stem), path.stem)


def shortened(notebook: NotebookNode, name: str) -> NotebookNode:
    """Insert an assignment of the short values after the cell that carries them, if one does.

    Raises:
        ValueError: the cell assigns no such name, or is not the parameters cell.
    """
    for place, cell in enumerate(notebook.cells):
        if (values := cell.metadata.get("short")) is None:
            continue
        known = _assigned(cell.source) if "parameters" in cell.metadata.get("tags", []) else set()
        if unknown := sorted(values.keys() - known):
            allowed = ", ".join(sorted(known)) or "nothing outside the parameters cell"
            raise ValueError(f"{name}: got short value of {unknown[0]}; allowed: {allowed}")
        lines = [f"{key} = {_literal(value)!r}" for key, value in values.items()]
        added = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["short"]})
        notebook.cells.insert(place + 1, added)
        break
    return notebook


def guarded(notebook: NotebookNode, name: str) -> NotebookNode:
    """Put guards on a lab's functions below each cell that students write.

    What is given then fails where it asks more of a function than its signature promises.
    """
    if name not in names():
        return notebook
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution"):
            source = GUARD.format(name=name)
            cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": ["short"]}))
    notebook.cells = cells
    return notebook


def table(results: Sequence[Ran]) -> str:
    """Markdown table of times, slowest first."""
    rows = [
        f"| {ran.name} | {ran.wall_s:.0f} | {ran.cpu_s:.0f} | {ran.failure or 'ok'} |"
        for ran in sorted(results, key=lambda ran: -ran.wall_s)
    ]
    head = ["| notebook | wall time (s) | CPU time (s) | result |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*head, *rows]) + "\n"


@dataclass
class _Run:
    """One notebook on its way: its kernel, its current cell, its CPU time so far."""

    path: Path
    notebook: NotebookNode
    limit_s: float
    client: NotebookClient | None = None
    number: int = 0  # of the current code cell, counted as the published notebook counts
    source: str = ""  # of that cell
    cpu_s: float = 0.0
    started_s: float = 0.0

    def execute(self, threads: int) -> Ran:
        """Run every cell in a copy of the notebook's folder."""
        self.started_s = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / self.path.resolve().parent.name
            ignore = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
            shutil.copytree(self.path.resolve().parent, place, symlinks=True, ignore=ignore)
            failure = self._execute_in(place, threads)
        return Ran(self.path.stem, time.monotonic() - self.started_s, self.cpu_s, failure)

    def kill(self) -> None:
        """End the kernel at once, if there is one."""
        if (pid := self._pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _execute_in(self, place: Path, threads: int) -> str | None:
        self.client = NotebookClient(
            self.notebook,
            timeout_func=lambda cell: max(0.1, self.started_s + self.limit_s - time.monotonic()),
            kernel_name="python3",
            resources={"metadata": {"path": str(place)}},
            record_timing=False,
            shutdown_kernel="immediate",
            extra_arguments=QUIET,
            on_cell_start=self._enter,
            on_cell_executed=self._leave,
        )
        env = {**os.environ, "CODESIGN_STATIC": "1", "OMP_NUM_THREADS": str(threads)}
        env.pop("CODESIGN_OUTPUTS", None)  # a lab's artifacts are those of the copy
        try:
            asyncio.run(self.client.async_execute(env=env))
        except CellExecutionError as error:
            return f"{self._where(error.traceback)}: {_last_line(error)}"
        except CellTimeoutError:
            return f"{self._where('')}: still running after {self.limit_s:g} s, the limit"
        except DeadKernelError:
            return f"{self._where('')}: the kernel died"
        return None

    def _enter(self, cell: NotebookNode, cell_index: int) -> None:
        counted = cell.cell_type == "code" and cell.source.strip()
        if counted and "short" not in cell.metadata.get("tags", []):
            self.number += 1
            self.source = cell.source

    def _leave(self, **_: object) -> None:
        if (pid := self._pid()) is not None:
            with suppress(psutil.Error):
                self.cpu_s = sum(psutil.Process(pid).cpu_times()[:4])

    def _pid(self) -> int | None:
        provisioner = getattr(self.client and self.client.km, "provisioner", None)
        return getattr(provisioner, "pid", None)

    def _where(self, traceback: str) -> str:
        """The current cell and the line of it that raised, else its first line."""
        found = FAILING_LINE.search(ANSI.sub("", traceback))
        line = found[1] if found else self.source.strip().splitlines()[0]
        return f"cell [{self.number}], `{line.strip()}`"


def _last_line(error: CellExecutionError) -> str:
    value = ANSI.sub("", error.evalue).strip()
    return f"{error.ename}: {value.splitlines()[-1]}" if value else error.ename


def _assigned(source: str) -> set[str]:
    """Names that the statements of a parameters cell assign."""
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _literal(value: object) -> object:
    """A JSON value as Python's: a list stands for a tuple, which is what notebooks write."""
    return tuple(_literal(part) for part in value) if isinstance(value, list) else value
