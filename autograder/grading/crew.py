"""Worker processes: hired, given units, dismissed. Imports little: the first is there early.

A worker imports PyTorch, and its sandbox does the same beside it. That takes longer than everything
that the grading process has to import, so :func:`warm_up` hires the first one before that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from autograder.grading.worker import serve
from autograder.intake import folders
from autograder.sandbox import limits

ATTEMPTS = 3
LEAVE_S = 5.0  # for a worker to leave what it is doing and remove what it made
JUDGE = "autograder.grading.unit:judge_unit"  # the only job that is judged in a sandbox by itself


@dataclass
class Worker:
    """One process, the pipe to it, and the index of the unit that it has."""

    process: BaseProcess
    pipe: Connection
    threads: int
    job: str
    unit: int | None = None
    since: float = 0.0
    done: int = 0
    ready: bool = False


_ahead: list[Worker] = []  # hired before anybody knows what there is to do


def leave_properly() -> None:
    """Leave on SIGTERM and SIGHUP as on Ctrl-C: workers end, and temporary folders go."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(workers: int) -> int:
    """Threads of each of ``workers``: together they fill the cores."""
    return max(1, cores() // workers)


def warm_up(workers: int | None = None, job: str = JUDGE) -> None:
    """Hire the first of ``workers`` (None: one a core) in the background; :func:`hire` finds it."""
    _ahead.append(_start(threads(workers or cores()), job))


def hire(threads: int, job: str) -> Worker:
    """A worker for ``job`` ("module:function"): the one hired ahead, or a new one.

    Raises:
        OSError: no process can be started here.
    """
    for worker in _ahead:
        if (worker.threads, worker.job) == (threads, job):
            _ahead.remove(worker)
            return worker
    return _start(threads, job)


def dismiss(*workers: Worker) -> None:
    """End workers: kindly when idle, else at once; nothing that they made is left behind."""
    for worker in workers:
        worker.pipe.close()
        if worker.unit is not None or not worker.ready:
            worker.process.terminate()  # all at once: each has to leave what it is doing
    for worker in workers:
        worker.process.join(LEAVE_S)  # it closes its sandbox when the pipe ends
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        for left in Path(tempfile.gettempdir()).glob(f"{limits.OURS}{worker.process.pid}-*"):
            folders.remove(left)


def dismiss_ahead() -> None:
    """End what was hired ahead and found nothing to do."""
    dismiss(*_ahead)
    _ahead.clear()


def _start(threads: int, job: str) -> Worker:
    """Start a process. The one that forks them may have been killed; the next try restarts it."""
    context = multiprocessing.get_context("forkserver")
    # It is small: one that is forked with PyTorch would start its sandbox only afterwards.
    context.set_forkserver_preload([serve.__module__])
    for _ in range(ATTEMPTS):
        here, there = context.Pipe()
        process = context.Process(
            target=serve, args=(there, threads, job, job == JUDGE), daemon=True
        )
        try:
            process.start()
            return Worker(process, here, threads, job)
        except (EOFError, OSError) as error:
            here.close()
            failure = error
            time.sleep(0.5)  # until the system has noticed
        finally:
            there.close()
    raise OSError(f"no worker could be started in {ATTEMPTS} attempts: {failure}")
