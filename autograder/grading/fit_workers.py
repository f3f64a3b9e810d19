"""The connection to a Dask scheduler, and its workers that are fit to judge, who all were asked.

Fit is a worker with the sender's version of the course and, where one is asked for, a sandbox that
works. Those that join later are asked, too; the scheduler is asked for its version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

from autograder.contract.version import source_version
from autograder.grading.lost import TELL_S, Patience, Stopped, in_line
from autograder.grading.unit import unfit

ANSWER_S = 10.0  # for a scheduler to answer
IMPORT_S = 60.0  # for it to import what it is asked
RETURN_S = 120.0  # for it to come back
LOOK_S, POLL_S = 1.0, 0.01
FIT_S = 180.0  # for a worker that is fit: trying a sandbox takes a while where disks are slow
NAMED = 3  # workers that one sentence names
BROKEN = (OSError, TimeoutError, CancelledError, RuntimeError)  # what a lost connection raises


class Gone(Exception):
    """The scheduler does not answer; the message says how."""


async def fitness(version: str, isolated: bool) -> str | None:
    """Say on a worker why it is not fit, beside what it does for its scheduler."""
    return await asyncio.to_thread(unfit, version, isolated=isolated)


def _ask(client: Any, one: str, isolated: bool, answer: list[Any]) -> None:
    """Append what a worker says, or the error, to ``answer``; to be called in a thread.

    Outside of tasks: a worker without the course ends on a task that it cannot unpickle.
    """
    try:
        asked = fitness, source_version(), isolated
        said = client.run(*asked, workers=[one], on_error="return", callback_timeout=FIT_S)[one]
    except Exception as error:
        said = error
    answer.append(said)


class FitWorkers:
    """A scheduler and whom it has: ``fit`` are the addresses of those that may judge."""

    def __init__(self, address: str, isolated: bool) -> None:
        self.address, self.isolated = address, isolated
        self.client: Any = None
        self.scheduler = Patience(f"the scheduler at {address} does not answer", RETURN_S)
        self.workers = Patience(f"nobody at {address} can judge", FIT_S, TELL_S)
        self.had_fit = False
        self._forget()

    def _forget(self) -> None:
        self.looked = 0.0
        self.questions: dict[str, list[Any]] = {}  # worker: what it has answered
        self.living: set[str] = set()
        self.fit: set[str] = set()
        self.unfit: dict[str, str] = {}  # worker: reason

    def close(self) -> None:
        """Leave the scheduler, which then forgets what is in flight."""
        client, self.client = self.client, None
        self._forget()
        if client is not None:
            with contextlib.suppress(*BROKEN):
                client.close(timeout=2)

    def connect(self, reason: str = "") -> None:
        """Connect, or connect anew, within bounded time.

        Raises:
            Stopped: there is no scheduler, or one with another version of the course.
        """
        self.close()
        while True:
            if reason:
                self.scheduler.wait(reason)
            try:
                version = self._opened()
            except BROKEN as error:
                self.close()
                reason = str(error) or type(error).__name__
            else:
                break
        mine = source_version()
        if version != mine:
            raise Stopped(
                f"stopped: the scheduler at {self.address} has version {version} of the course, "
                f"and here is {mine}; install the same course on both"
            )
        self.scheduler.over()

    def _opened(self) -> str:
        """Connect; returns the scheduler's version of the course."""
        from distributed import Client

        for name in [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # one sentence, and that is ours
        self.client = Client(self.address, timeout=ANSWER_S, set_as_default=False)
        try:
            version: str = self.client.run_on_scheduler(source_version, callback_timeout=IMPORT_S)
        except (ImportError, AttributeError) as error:
            raise Stopped(
                f"stopped: the scheduler at {self.address} lacks the course ({error})"
            ) from None
        return version

    def look(self) -> None:
        """See now and then who is there, ask whom nobody has asked, and hear the answers.

        Raises:
            Gone: the scheduler does not answer.
        """
        if self.client.status != "running":
            raise Gone("the connection is lost")
        now = time.monotonic()
        if now > self.looked + LOOK_S:
            self.looked = now
            with connected():
                ask = self.client.scheduler.identity
                self.living = set(self.client.sync(ask, callback_timeout=ANSWER_S)["workers"])
                self._welcome(self.living)
        for one in [one for one, answer in self.questions.items() if answer]:
            self._hear(one, self.questions.pop(one)[0])

    def _welcome(self, living: set[str]) -> None:
        self.fit &= living
        self.unfit = {one: why for one, why in self.unfit.items() if one in living}
        self.questions = {one: asked for one, asked in self.questions.items() if one in living}
        for one in living - self.fit - set(self.unfit) - set(self.questions):
            answer: list[Any] = []
            self.questions[one] = answer
            ask = threading.Thread(target=_ask, args=(self.client, one, self.isolated, answer))
            ask.daemon = True  # one that never answers keeps nobody waiting
            ask.start()

    def _hear(self, one: str, said: Any) -> None:
        if isinstance(said, OSError):
            return  # it ended, or is asked again
        if said is None:
            self.fit.add(one)
            self.had_fit = True
            self.workers.over()
        else:
            self.refuse(one, str(said))

    def refuse(self, one: str, reason: str) -> None:
        """Send ``one`` nothing more, and say why."""
        self.fit.discard(one)
        if one not in self.unfit:
            print(f"{one} judges nothing: {in_line(reason)}", file=sys.stderr, flush=True)
        self.unfit[one] = reason

    def wait_for_workers(self) -> None:
        """Wait a little for somebody who is fit, unless all have said from the start: not I.

        Raises:
            Stopped: nobody can judge.
        """
        said = [f"{one}: {why}" for one, why in self.unfit.items()]
        reason = "; ".join(said[:NAMED]) or "there are no workers"
        if said and not self.questions and not self.had_fit:
            raise Stopped(f"stopped: nobody at {self.address} can judge ({in_line(reason)})")
        self.workers.wait("they are asked" if self.questions else reason, POLL_S)


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Turn what a lost connection raises into :class:`Gone`."""
    try:
        yield
    except BROKEN as error:
        raise Gone(str(error) or type(error).__name__) from None
