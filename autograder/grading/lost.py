"""Losses: units that nobody could judge. A loss is no grade, and many of one kind end the run.

What a machine cannot do (no sandbox, no space, no such module) is not a student's fault: a loss
writes no score, replaces none, and is judged again by the next run.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterable

TELL_S = 10.0  # between two lines about what is waited for
FIRST = 5  # submissions; lost for one reason before any was judged, they end the run
MAX_REASON = 300  # characters of one reason in a sentence
_VARIES = re.compile(r"\S*[\d/]\S*")  # numbers and paths differ where the reason does not


class Lost(Exception):
    """A unit that no worker answered; the message says what became of it."""


class Unfit(RuntimeError):
    """This process must not judge the unit (another version, no sandbox); another one may."""


class NotJudged(RuntimeError):
    """The judge's machine failed in a check; the message says at what."""


class Stopped(Exception):
    """A run that cannot go on; the message is one sentence that says why."""


class First:
    """Watches the first units of a run: all lost for one reason, they are the machine's fault."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.judged = False

    def note(self, reason: str | None) -> None:
        """Take down what came of the next unit; None: it was judged.

        Raises:
            Stopped: it was the last of :data:`FIRST` that one reason took.
        """
        self.judged |= reason is None
        if self.judged or reason is None:
            return
        self.reasons.append(reason)
        if len(self.reasons) == FIRST and len(set(map(kind, self.reasons))) == 1:
            raise Stopped(
                f"stopped: the first {FIRST} submissions were lost for one reason "
                f"({in_line(reason)}), and no score was written"
            )


class Patience:
    """A bounded wait out of ``what``, which tells how it goes, for the first time after a while."""

    def __init__(self, what: str, wait_s: float, quiet_s: float = 0.0) -> None:
        self.what, self.wait_s, self.quiet_s = what, wait_s, quiet_s
        self.began: float | None = None
        self.told = 0.0

    def wait(self, reason: str, pause_s: float = 1.0) -> None:
        """Wait a little; ``reason`` is why.

        Raises:
            Stopped: the first call since :meth:`over` was too long ago.
        """
        now = time.monotonic()
        if self.began is None:
            self.began, self.told = now, now - TELL_S + self.quiet_s
        left = self.began + self.wait_s - now
        said = f"{self.what} ({in_line(reason)})"
        if left <= 0:
            raise Stopped(f"stopped after {self.wait_s:.0f} s: {said}; the next run goes on here")
        if now >= self.told + TELL_S:
            self.told = now
            print(f"{said}; waiting up to {left:.0f} s", file=sys.stderr, flush=True)
        time.sleep(min(pause_s, left))

    def over(self) -> None:
        """What was waited for is there; the next wait begins anew."""
        self.began = None


def kind(reason: str) -> str:
    """The reason without what differs from one unit to the next."""
    return _VARIES.sub("…", reason)


def in_line(reason: str) -> str:
    """The reason as a part of a sentence: on one line, and cut."""
    line = " ".join(reason.split())
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"


def told(reasons: Iterable[str], of: int) -> str | None:
    """One sentence about the losses of a run over ``of`` submissions; None: there were none."""
    reasons = list(reasons)
    if not reasons:
        return None
    examples = {kind(reason): reason for reason in reversed(reasons)}
    counts = Counter(map(kind, reasons)).most_common(3)
    why = "; ".join(f"{count} times: {in_line(examples[name])}" for name, count in counts)
    return (
        f"{len(reasons)} of {of} submissions could not be judged, no score of theirs was written, "
        f"and the next run judges them again ({why})"
    )
