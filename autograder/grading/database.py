"""Wait, for a while and with progress, for a gradebook whose database is gone, locked or silent.

A grading takes hours and its verdicts are kept in files, so a server that restarts meanwhile costs
time alone. One that stays away ends the run in one sentence, and the next run records what is left.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from nbgrader.converters.base import NbGraderException
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from autograder.grading.lost import Patience, in_line

ANSWER_S = 60.0  # for what is recorded of one submission, which takes a second
PROBE_S = 10.0  # for the smallest question
WAIT_S = 120.0  # in all, from the first failure on
Done = TypeVar("Done")


class _Silent(BaseException):
    """The alarm. Not an ``Exception``: nbgrader would log it and take the submission for broken."""


def patiently(url: str, work: Callable[[], Done]) -> Done:
    """Do ``work``, which uses the database at ``url``; where that is at fault, wait and do it anew.

    Raises:
        Stopped: the database was at fault for longer than one waits.
        NbGraderException: ``work`` fails, and the database answers.
    """
    patience = Patience(f"the gradebook's database {shown(url)} is not usable", WAIT_S)
    failed = False
    while True:
        try:
            with _alarm(ANSWER_S):
                return work()
        except _Silent:
            reason = f"no answer within {ANSWER_S:.0f} s"
        except (NbGraderException, SQLAlchemyError) as error:
            found = trouble(url)
            if found is None and failed and isinstance(error, NbGraderException):
                raise
            failed = found is None  # it may have come back just now
            reason = found or str(error)
        patience.wait(reason)


def trouble(url: str) -> str | None:
    """Say why the database at ``url`` cannot be written to, or None."""
    engine = create_engine(url)
    asked = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "SELECT 1"
    try:
        with _alarm(PROBE_S), engine.connect() as connection:
            connection.exec_driver_sql(asked)
    except _Silent:
        return f"no answer within {PROBE_S:.0f} s"
    except DBAPIError as error:
        return in_line(str(error.orig))
    finally:
        engine.dispose()
    return None


def shown(url: str) -> str:
    """The address without its password."""
    return make_url(url).render_as_string(hide_password=True)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer. Only the main thread can be; another one waits on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise _Silent

    handler = signal.signal(signal.SIGALRM, ring)
    # Again and again: giving a connection back to a silent server waits for it, too.
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
