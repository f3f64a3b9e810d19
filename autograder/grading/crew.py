"""Worker processes: hired, given units, dismissed. Imports little: the first is there early.

A worker imports PyTorch, and its sandbox does the same beside it. That takes longer than everything
that the grading process has to import, so :func:`warm_up` hires the first one before that.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from autograder.grading.worker import serve

ATTEMPTS = 3
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


def dismiss(worker: Worker) -> None:
    """End a worker: kindly when it is idle, at once when it is not."""
    worker.pipe.close()
    if worker.unit is None and worker.ready and worker.process.is_alive():
        worker.process.join(2)  # it closes its sandbox when the pipe ends
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()


def dismiss_ahead() -> None:
    """End what was hired ahead and found nothing to do."""
    while _ahead:
        dismiss(_ahead.pop())


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
