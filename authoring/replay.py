"""Run a notebook's cells in this process, and changed versions of one cell in forks of it.

At the cell that defines a function the process forks once for every changed version: the fork
executes the changed cell, and of the later ones those that lie between the change and an assert
that it can reach. Which these are is read from names (:mod:`authoring.names`), so rather too many
cells run than too few. Needs ``fork``.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from authoring import names

CAUGHT, CRASHED, SURVIVED, HUNG = "caught", "crashed", "survived", "hung"
CELL = "<cell {}>"  # file name of its code, in tracebacks


@dataclass(frozen=True)
class Outcome:
    """What became of a changed cell: one of the four words above, and where or why."""

    kind: str
    where: str


@dataclass(frozen=True)
class Cell:
    """One code cell and the names that it reads and writes."""

    number: int
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names whose values come from other cells."""
        return names.read(self.tree)

    @cached_property
    def writes(self) -> frozenset[str]:
        """Names that it binds, and whose objects it may change."""
        return names.written(self.tree)

    @cached_property
    def defines(self) -> frozenset[str]:
        """Functions and classes at its top."""
        return frozenset(getattr(node, "name", "") for node in self.tree.body) - {""}

    @cached_property
    def asserts(self) -> bool:
        """Whether it asserts anything."""
        return any(map(names.is_assert, ast.walk(self.tree)))


def between(cells: Sequence[Cell], place: int) -> list[Cell]:
    """Cells after ``place`` that lie on a way from what it defines to an assert, in order."""
    later, tainted, hit = cells[place + 1 :], set(cells[place].defines), []
    fixed = frozenset[str]().union(*(names.imported(cell.tree) for cell in cells))
    for cell in later:
        if cell.reads & tainted:
            tainted |= cell.writes - fixed
            hit.append(cell)
    needed = {cell.number for cell in hit if cell.asserts}
    wanted: set[str] = set()
    for cell in reversed(later):
        if cell.number in needed or cell.writes & wanted:
            needed.add(cell.number)
            wanted |= cell.reads - fixed
    last = max((cell.number for cell in hit if cell.asserts), default=-1)
    return [cell for cell in later if cell.number in needed and cell.number <= last]


def run(cell: Cell, space: dict[str, Any], source: str | None = None) -> None:
    """Execute a cell, or another source in its place, in the notebook's name space."""
    text = cell.source if source is None else source
    exec(compile(text, CELL.format(cell.number), "exec"), space)


def outcomes(
    cell: Cell,
    sources: Sequence[str],
    rest: Sequence[Cell],
    space: dict[str, Any],
    *,
    jobs: int,
    limit_s: float,
) -> Iterator[tuple[int, Outcome]]:
    """Run every source in place of ``cell``, then ``rest``, each in a fork; yields as they end.

    Args:
        jobs: forks at a time.
        limit_s: seconds of one.
    """
    running: dict[int, tuple[int, int, float]] = {}  # pid: number, pipe, start
    waiting = list(enumerate(sources))
    while waiting or running:
        while waiting and len(running) < jobs:
            number, source = waiting.pop(0)
            pid, pipe = _forked(cell, source, rest, space)
            running[pid] = number, pipe, time.monotonic()
        time.sleep(0.005)
        for pid, (number, pipe, start) in list(running.items()):
            late = time.monotonic() - start > limit_s
            if late:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            ended, _ = os.waitpid(pid, 0 if late else os.WNOHANG)
            if ended:
                del running[pid]
                yield number, _told(pipe, late, limit_s)


def _told(pipe: int, late: bool, limit_s: float) -> Outcome:
    with os.fdopen(pipe) as file:
        said = file.read()
    if late:
        return Outcome(HUNG, f"longer than {limit_s:g} s")
    return Outcome(**json.loads(said)) if said else Outcome(CRASHED, "its process died")


def _forked(
    cell: Cell, source: str, rest: Sequence[Cell], space: dict[str, Any]
) -> tuple[int, int]:
    here, there = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(there)
        return pid, here
    os.close(here)
    outcome = Outcome(CRASHED, "it ended itself")
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        outcome = _tried(cell, source, rest, space)
        os.write(there, json.dumps(outcome.__dict__).encode())
    finally:
        os._exit(0)


def _tried(cell: Cell, source: str, rest: Sequence[Cell], space: dict[str, Any]) -> Outcome:
    try:
        run(cell, space, source)
        for later in rest:
            run(later, space)
    except AssertionError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if _is_notebooks(frames):
            return Outcome(
                CAUGHT, next(f for f in reversed(frames) if "<cell" in f.filename).filename
            )
        return Outcome(CRASHED, f"AssertionError of {frames[-1].filename}")
    except BaseException as error:
        return Outcome(CRASHED, f"{type(error).__name__}: {error}"[:200])
    return Outcome(SURVIVED, "no assert reaches it" if not rest else "")


def _is_notebooks(frames: traceback.StackSummary) -> bool:
    """Whether a cell's own assert failed, or a call of a testing library in it."""
    inner = frames[-1].filename
    return inner.startswith("<cell") or "testing" in Path(inner).parts


def start(space: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A fresh name space, with figures that nobody sees and one thread: forks share neither."""
    import matplotlib as mpl
    import torch

    os.environ["CODESIGN_STATIC"] = "1"
    mpl.use("Agg")
    torch.set_num_threads(1)
    return {"__name__": "__main__", **(space or {})}
