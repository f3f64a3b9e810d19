"""Deadlines and limits of output: of the judge, and of the same checks in the student's kernel.

They count the time that the student's own code uses (:mod:`autograder.sandbox.clock`). A check
that allows a call more than `CALL_DEADLINE_S` says so itself. In the student's own kernel nothing
is interrupted: a call that took too long fails when it is over.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO, cast

CALL_DEADLINE_S = 20.0
CELL_DEADLINE_S = 60.0
OWN_CELLS_S = 120.0  # of all cells that the student added; beyond it they only define
BUDGET_S = 600.0  # of all cells and calls of one submission
MAX_OUTPUT_BYTES = 2 * 2**20  # of one cell or call
BUSY = 0.1  # of a processor: less is sleep, which the clock measures

TOLD = (
    f"The judge waits {CELL_DEADLINE_S:.0f} s for a cell, {CALL_DEADLINE_S:.0f} s for a call of "
    f"your function where a check does not allow more, {BUDGET_S:.0f} s in all; a cell or call "
    f"may print {MAX_OUTPUT_BYTES >> 20} MiB."
)


class Overrun(Exception):
    """A call in the student's own kernel that the judge would have ended."""


class Watch:
    """Hold a call to the judge's limits: ``with Watch(deadline_s): …``.

    What is printed beyond the limit is dropped, so that a notebook stays a file that opens.

    Raises:
        Overrun: at the end of the block, what it took and what is allowed.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.printed = 0

    def __enter__(self) -> Watch:
        self.before: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
        sys.stdout = cast(TextIO, _Counted(sys.stdout, self))
        sys.stderr = cast(TextIO, _Counted(sys.stderr, self))
        self.start = time.monotonic(), _computed_s()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        sys.stdout, sys.stderr = self.before
        used_s = self._used_s()
        if self.printed > MAX_OUTPUT_BYTES:
            raise Overrun(
                f"it printed {self.printed:,} bytes; the judge allows {MAX_OUTPUT_BYTES:,}"
            )
        if kind is None and used_s > self.deadline_s:
            raise Overrun(f"it took {used_s:.0f} s here; the judge waits {self.deadline_s:.0f} s")

    def _used_s(self) -> float:
        """The processor's time where it computed, the clock's where it waited."""
        passed_s = time.monotonic() - self.start[0]
        computed_s = _computed_s() - self.start[1]
        return min(computed_s, passed_s) if computed_s > BUSY * passed_s else passed_s


def _computed_s() -> float:
    """Processor seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


class _Counted:
    """A stream that counts what is written to it; all else is the stream's own."""

    def __init__(self, stream: TextIO, watch: Watch) -> None:
        self._stream, self._watch = stream, watch

    def write(self, text: str) -> int:
        """Write ``text``, unless too much was written before."""
        self._watch.printed += len(text)
        if self._watch.printed <= MAX_OUTPUT_BYTES:
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
