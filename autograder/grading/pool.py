"""Grade in parallel: worker processes of this machine, or an existing Dask cluster.

Either way a worker that dies takes nothing with it but time: its unit goes to another one, and a
unit that ends its worker again and again is answered with the reason instead of a verdict.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from autograder.contract.version import source_version
from autograder.grading import crew
from autograder.grading.crew import ATTEMPTS, Worker
from autograder.grading.unit import BUDGET_S, judge_unit
from autograder.grading.worker import DONE, READY

DEADLINE_S = 2 * BUDGET_S  # of one unit, by the clock outside of its worker
IN_FLIGHT_PER_WORKER = 4
UNITS_PER_WORKER = 500  # then a fresh process takes over


class Lost(Exception):
    """A unit that no worker answered; the message says what became of them."""


Answer = bytes | Lost
Job = Callable[[bytes], bytes]


@dataclass
class _Waiting:
    content: bytes
    attempts: int = 0
    reasons: list[str] = field(default_factory=list)


def here(units: Iterable[bytes], job: Job = judge_unit) -> Iterator[tuple[int, Answer]]:
    """Judge ``units`` one after another in this process."""
    for index, unit in enumerate(units):
        try:
            answer: Answer = job(unit)
        except Exception as error:
            answer = Lost(f"{type(error).__name__}: {error}")
        yield index, answer


def local(
    units: Iterable[bytes], workers: int, job: Job = judge_unit
) -> Iterator[tuple[int, Answer]]:
    """Judge ``units`` on ``workers`` processes; yields (index, answer) as they are done.

    Units are taken from the iterable when a worker is free, never more than one ahead.
    """
    named, threads = f"{job.__module__}:{job.__qualname__}", crew.threads(workers)
    source = enumerate(units)
    jobs: dict[int, _Waiting] = {}
    again: deque[int] = deque()
    hired: list[Worker] = []
    try:
        exhausted = False
        while True:
            while not exhausted and len(jobs) < workers + 1:
                try:
                    index, content = next(source)
                except StopIteration:
                    exhausted = True
                    break
                jobs[index] = _Waiting(content)
                again.append(index)
            if not jobs:
                return
            # One after another: two that import at once on two cores are both late.
            while len(hired) < min(workers, len(jobs)) and all(worker.ready for worker in hired):
                hired.append(crew.hire(threads, named))
            for worker in hired:
                if worker.unit is None and again:
                    _hand_over(worker, again.popleft(), jobs)
            for index, answer in _gather(hired, jobs, again):
                del jobs[index]
                yield index, answer
    finally:
        crew.dismiss_ahead()
        for worker in hired:
            crew.dismiss(worker)


def _hand_over(worker: Worker, index: int, jobs: dict[int, _Waiting]) -> None:
    jobs[index].attempts += 1
    worker.unit, worker.since = index, time.monotonic()
    with contextlib.suppress(OSError):  # if it died, `_gather` finds out
        worker.pipe.send_bytes(jobs[index].content)


def _gather(
    hired: list[Worker], jobs: dict[int, _Waiting], again: deque[int]
) -> Iterator[tuple[int, Answer]]:
    """Wait for something to happen; yields what was answered, replaces whom it has to."""
    wait([worker.pipe for worker in hired], timeout=1.0)
    for worker in list(hired):
        reason = None
        try:
            if worker.pipe.poll():
                answer = worker.pipe.recv_bytes()
                if answer == READY:
                    worker.ready = True
                    continue
                index, worker.unit = worker.unit, None
                worker.done += 1
                assert index is not None
                yield index, answer[1:] if answer[:1] == DONE else Lost(answer[1:].decode())
                if worker.done >= UNITS_PER_WORKER:
                    reason = "retired"
            elif worker.unit is not None and time.monotonic() - worker.since > DEADLINE_S:
                reason = f"it took longer than {DEADLINE_S:.0f} s"
        except (EOFError, OSError):
            worker.process.join(5)
            reason = f"its process ended with {worker.process.exitcode}"
        if reason is None:
            continue
        hired.remove(worker)
        crew.dismiss(worker)
        if worker.unit is None:
            continue
        job = jobs[worker.unit]
        job.reasons.append(reason)
        if job.attempts < ATTEMPTS:
            again.append(worker.unit)
        else:
            said = "; ".join(job.reasons)
            yield worker.unit, Lost(f"judging was tried {job.attempts} times: {said}")


def _version() -> str:
    """Return the version of the course where this runs."""
    return source_version()


def on_dask(
    units: Iterable[bytes], address: str, job: Job = judge_unit
) -> Iterator[tuple[int, Answer]]:
    """Judge ``units`` on the Dask cluster at ``address``; yields (index, answer).

    Raises:
        ModuleNotFoundError: ``distributed`` is not installed.
        OSError: no scheduler there.
        ValueError: no worker, or one with another version of the course.
    """
    from distributed import Client, as_completed

    with Client(address, set_as_default=False) as client:
        mine, versions = source_version(), client.run(_version)
        others = sorted(worker for worker, v in versions.items() if v != mine)
        if not versions or others:
            raise ValueError(
                f"{address}: workers with another version of the course: {others}"
                if others
                else f"{address} has no workers"
            )
        source = enumerate(units)
        index_of: dict[Any, int] = {}
        running = as_completed(loop=client.loop)

        def submit() -> None:
            for index, unit in itertools.islice(source, 1):
                future = client.submit(job, unit, pure=False, retries=ATTEMPTS - 1)
                index_of[future] = index
                running.add(future)

        for _ in range(IN_FLIGHT_PER_WORKER * len(versions)):
            submit()
        for future in running:
            error = future.exception()
            answer: Answer = Lost(f"{type(error).__name__}: {error}") if error else future.result()
            yield index_of.pop(future), answer
            submit()
