"""Judge units on an existing Dask cluster; only workers that are fit for it get one.

A worker that ends, or that fails, costs time alone: its unit goes to another one. So does a
scheduler that ends and comes back. Who is fit, and how that is known: :mod:`.fit_workers`.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from autograder.contract.version import source_version
from autograder.grading import fit_workers, pool
from autograder.grading.crew import ATTEMPTS
from autograder.grading.fit_workers import POLL_S, FitWorkers, Gone, connected
from autograder.grading.lost import Lost, Unfit
from autograder.grading.pool import Answer, Job
from autograder.grading.unit import judge_unit, unfit
from autograder.grading.worker import DONE, FAILED

UNFIT = b"u"
IN_FLIGHT_PER_WORKER = 2


@dataclass
class _Flight:
    index: int
    content: bytes
    reasons: list[str] = field(default_factory=list)  # one for each attempt that failed
    failed_on: set[str] = field(default_factory=set)  # workers
    workers: frozenset[str] = frozenset()  # that may have it now
    since: float = 0.0


def on_dask(
    units: Iterable[bytes], address: str, *, isolated: bool, job: Job = judge_unit
) -> Iterator[tuple[int, Answer]]:
    """Judge ``units`` on the Dask cluster at ``address``; yields (index, answer).

    Args:
        isolated: only workers with a sandbox may judge.

    Raises:
        ModuleNotFoundError: ``distributed`` is not installed.
        Stopped: no scheduler there, one with another version of the course, or nobody fit to judge.
    """
    source = (_Flight(index, unit) for index, unit in enumerate(units))
    workers = FitWorkers(address, isolated)
    flights = _Flights(workers, job)
    try:
        while flights.flying or flights.take(source):
            try:
                if workers.client is None:
                    workers.connect()
                workers.look()
                while flights.room() and flights.take(source):
                    flights.submit()
                flights.land()
                flights.take_back()
            except Gone as gone:
                flights.ground()
                workers.connect(str(gone))
            answers, flights.answers = flights.answers, []
            yield from answers
            if not workers.fit:
                workers.wait_for_workers()
            elif not answers:
                time.sleep(POLL_S)
    finally:
        workers.close()


def attempt(job: Job, content: bytes, version: str, isolated: bool) -> tuple[str, bytes]:
    """Judge a unit on the worker where this runs, if that is fit: its address, and the answer."""
    from distributed import get_worker

    where: str = get_worker().address
    if reason := unfit(version, isolated=isolated):
        return where, UNFIT + reason.encode()
    try:
        return where, DONE + job(content)
    except Unfit as error:
        return where, UNFIT + str(error).encode()
    except Exception as error:
        return where, FAILED + f"{type(error).__name__}: {error}".encode()


class _Flights:
    """What is in flight, and what waits for it, or comes back to be judged by another one."""

    def __init__(self, workers: FitWorkers, job: Job) -> None:
        self.workers, self.job = workers, job
        self.flying: dict[Any, _Flight] = {}  # by future
        self.again: deque[_Flight] = deque()
        self.answers: list[tuple[int, Answer]] = []

    def ground(self) -> None:
        """The scheduler has forgotten all of them: they have to be sent anew."""
        self.again.extend(self.flying.values())
        self.flying = {}

    def room(self) -> bool:
        """Whether another unit may be sent."""
        return len(self.flying) < IN_FLIGHT_PER_WORKER * len(self.workers.fit)

    def take(self, source: Iterator[_Flight]) -> bool:
        """Whether there is a unit to send: one that came back, or else a new one."""
        if not self.again:
            self.again.extend(itertools.islice(source, 1))
        return bool(self.again)

    def submit(self) -> None:
        """Send a unit to those that are fit and have not failed it, if there are such."""
        flight = self.again[0]
        flight.workers = frozenset(self.workers.fit - flight.failed_on or self.workers.fit)
        flight.since = time.monotonic()
        with connected():
            future = self.workers.client.submit(
                attempt,
                self.job,
                flight.content,
                source_version(),
                self.workers.isolated,
                workers=sorted(flight.workers),
                pure=False,
            )
        self.flying[future] = self.again.popleft()

    def land(self) -> None:
        """Take what has been answered, and put back what another one has to judge."""
        for future in [future for future in self.flying if future.done()]:
            with connected():
                error, returned = _read(future)
            where, said = returned or ("", b"")
            flight = self.flying.pop(future)
            kind, content = said[:1], said[1:]
            if kind == DONE:
                self.answers.append((flight.index, content))
            elif kind == UNFIT:
                self.workers.refuse(where, content.decode())
                self.again.append(flight)
            else:
                flight.failed_on.add(where)
                others = self.workers.fit - flight.failed_on and not error
                self._failed(flight, error or content.decode(), ATTEMPTS if others else 1)

    def _failed(self, flight: _Flight, reason: str, tries: int) -> None:
        flight.reasons.append(reason)
        if len(flight.reasons) < tries:
            self.again.append(flight)
        else:
            self.answers.append((flight.index, Lost("; ".join(dict.fromkeys(flight.reasons)))))

    def take_back(self) -> None:
        """Take back what nobody alive may have, and give up what has taken too long."""
        late, living = self.workers.looked, self.workers.living
        late -= IN_FLIGHT_PER_WORKER * pool.DEADLINE_S
        for future, flight in list(self.flying.items()):  # the oldest first
            if future.done() or (flight.since > late and flight.workers & living):
                continue
            busy = self.workers.client.processing() if flight.since <= late else {}
            future.cancel()
            del self.flying[future]
            if flight.since > late:
                self._failed(flight, "its workers ended", ATTEMPTS)
                continue
            where = {one for one, keys in busy.items() if future.key in keys}
            if where & set(self.workers.unfit):  # it waited behind the one that hangs
                self.again.append(flight)
                continue
            for one in where:
                self.workers.refuse(one, "a unit hangs there")
            self._failed(flight, f"it took longer than {pool.DEADLINE_S:.0f} s", 1)


def _read(future: Any) -> tuple[str | None, Any]:
    """What became of a future that is done: its error or None, and what it returned."""
    if future.status in ("cancelled", "lost"):
        raise Gone("the connection is lost")
    if future.status == "error":
        error = future.exception(timeout=fit_workers.ANSWER_S)
        return f"{type(error).__name__}: {error}", None
    return None, future.result(timeout=fit_workers.ANSWER_S)
