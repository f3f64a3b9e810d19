"""Grade in parallel, on worker processes of this machine.

A worker that dies takes nothing with it but time: its unit goes to another one, and a
unit that ends its worker again and again is answered with the reason instead of a verdict.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from autograder.contract.deadlines import BUDGET_S
from autograder.grading import crew
from autograder.grading.crew import ATTEMPTS, Worker
from autograder.grading.lost import Lost, Stopped
from autograder.grading.unit import judge_unit
from autograder.grading.worker import BROKEN, DONE, READY

DEADLINE_S = 4 * BUDGET_S  # of one unit, by the clock: on a loaded machine 3 for its own time
UNITS_PER_WORKER = 500  # then a fresh process takes over


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

    Raises:
        Stopped: a worker cannot even start; the message says why.
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
        crew.dismiss(*hired)


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
        reason, tries = None, ATTEMPTS
        try:
            if worker.pipe.poll():
                answer = worker.pipe.recv_bytes()
                if answer == READY:
                    worker.ready = True
                    continue
                if answer[:1] == BROKEN:
                    raise Stopped(f"stopped: no worker can start here ({answer[1:].decode()})")
                index, worker.unit = worker.unit, None
                worker.done += 1
                assert index is not None
                yield index, answer[1:] if answer[:1] == DONE else Lost(answer[1:].decode())
                if worker.done >= UNITS_PER_WORKER:
                    reason = "retired"
            elif worker.unit is not None and time.monotonic() - worker.since > DEADLINE_S:
                reason, tries = f"it took longer than {DEADLINE_S:.0f} s", 1
        except (EOFError, OSError):
            worker.process.join(5)
            reason = f"its process ended with {worker.process.exitcode}"
        if reason is not None:
            hired.remove(worker)
            crew.dismiss(worker)
            yield from _given_up(worker.unit, reason, tries, jobs, again)


def _given_up(
    unit: int | None, reason: str, tries: int, jobs: dict[int, _Waiting], again: deque[int]
) -> Iterator[tuple[int, Answer]]:
    """Put the unit of a worker that is gone back, or answer it after ``tries`` of them."""
    if unit is None:
        return
    job = jobs[unit]
    job.reasons.append(reason)
    if job.attempts < tries:
        again.append(unit)
    else:
        times = "once" if job.attempts == 1 else f"{job.attempts} times"
        yield unit, Lost(f"judging was tried {times}: {'; '.join(job.reasons)}")
