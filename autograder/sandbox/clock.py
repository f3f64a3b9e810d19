"""The time that a student's kernel uses: what its deadlines and its submission's budget count.

On a machine that others load, a process waits for a processor, and a clock on the wall charges it
for that. So it is charged with its processor time while it computes, with the clock's time while it
sleeps or waits for something, and never with more than the clock's. What the judge does itself is
not charged.
"""

from __future__ import annotations

import time
from collections import defaultdict

import psutil

TICK_S = 1.0  # between two looks at the processes; the first second is charged by the clock
IDLE = 0.1  # of one processor: less, with nothing waiting for one, is sleep
NAMED = 3  # of what used a budget, the largest
LOAD = 3.0  # no deadline lasts longer than this, by the clock, however loaded the machine is


class Clock:
    """Seconds used from now on by process ``pid`` and those below it; None: by the clock alone."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.start = self.seen = time.monotonic()
        self.charged_s = 0.0
        self.computed_s: float | None = None  # at the last look

    @property
    def used_s(self) -> float:
        """Seconds charged; since the last look as if all were used."""
        return self.charged_s + time.monotonic() - self.seen

    @property
    def passed_s(self) -> float:
        """Seconds by the clock."""
        return time.monotonic() - self.start

    def from_now_s(self, seconds: float) -> float:
        """The limit for :meth:`is_late` that is ``seconds`` away."""
        return max(self.used_s, self.passed_s / LOAD) + seconds

    def is_late(self, limit_s: float) -> bool:
        """Whether more than ``limit_s`` are used, or `LOAD` times as much has passed."""
        if time.monotonic() - self.seen > TICK_S or self.used_s > limit_s:
            self._look()
        return self.used_s > limit_s or self.passed_s > LOAD * limit_s

    def _look(self) -> None:
        computed_s, wants = usage(self.pid)
        now = time.monotonic()
        passed_s, self.seen = now - self.seen, now
        spent_s = passed_s if self.computed_s is None else computed_s - self.computed_s
        self.computed_s = computed_s
        computes = self.pid is not None and (wants or spent_s > IDLE * passed_s)
        self.charged_s += min(max(spent_s, 0.0), passed_s) if computes else passed_s


def usage(pid: int | None) -> tuple[float, bool]:
    """Processor seconds of ``pid`` and all below it, and whether one of them wants a processor."""
    seconds, wants = 0.0, False
    try:
        top = psutil.Process(pid) if pid is not None else None
        tree = [top, *top.children(recursive=True)] if top else []
    except psutil.NoSuchProcess:
        return 0.0, False
    for process in tree:
        try:
            with process.oneshot():
                seconds += sum(process.cpu_times()[:4])  # with those that ended below it
                wants = wants or process.status() == psutil.STATUS_RUNNING
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return seconds, wants


class Budget:
    """Seconds that one submission may use, and what used them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.used: defaultdict[str, float] = defaultdict(float)  # seconds, by what used them

    @property
    def used_s(self) -> float:
        """Seconds used so far."""
        return sum(self.used.values())

    @property
    def left_s(self) -> float:
        """Seconds left; none below 0."""
        return max(0.0, self.seconds - self.used_s)

    def charge(self, what: str, seconds: float) -> None:
        """Note that ``what`` used ``seconds``."""
        self.used[what] += seconds

    def __str__(self) -> str:
        most = sorted(self.used.items(), key=lambda pair: -pair[1])[:NAMED]
        where = ", ".join(f"{seconds:.0f} s in {what}" for what, seconds in most)
        return f"the {self.seconds:.0f} s of this submission are used up: {where}"
