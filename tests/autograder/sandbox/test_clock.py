"""What a deadline counts: the student's time, not that of others on the machine nor the judge's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import psutil
import pytest

from autograder.contract.verdict import StudentError
from autograder.sandbox import bubblewrap, clock, process
from autograder.sandbox.clock import Budget, Clock
from autograder.sandbox.student import AGAIN, KernelStudent

needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
BUSY = "while True: pass"
ASLEEP = "import time; time.sleep(600)"
COMPUTES = """import time
end = time.process_time() + {}
while time.process_time() < end: pass"""


class Machine:
    """A machine whose clocks a test moves: by the wall, of the processor, and who waits for it."""

    def __init__(self, patch):
        self.wall_s = self.computed_s = 0.0
        self.wants = False
        patch.setattr(clock.time, "monotonic", lambda: self.wall_s)
        patch.setattr(clock, "usage", lambda pid: (self.computed_s, self.wants))

    def go(self, watch, seconds, *, share, limit_s=1e9):
        """Let seconds pass in steps of half a one; the processes have ``share`` of a processor."""
        for _ in range(int(2 * seconds)):
            self.wall_s += 0.5
            self.computed_s += 0.5 * share
            if watch.is_late(limit_s):
                return True
        return False


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("wants", "share", "charged"),
    [
        (True, 1.0, 40),  # alone on the machine
        (True, 0.25, 10),  # three others compute, too
        (True, 0.0, 0),  # not one turn
        (False, 0.25, 10),  # a thread of it computes, and the first one waits
        (False, 0.0, 40),  # sleeps
        (True, 4.0, 40),  # four threads
    ],
)
def test_waiting_for_a_processor_is_not_charged(machine, wants, share, charged):
    machine.wants, watch = wants, Clock(1)
    machine.go(watch, 40, share=share)
    assert watch.used_s == pytest.approx(charged, abs=3)  # of the first second, by the clock
    assert watch.passed_s == 40


def test_no_deadline_lasts_longer_than_three_times_itself(machine):
    machine.wants, watch = True, Clock(1)
    assert machine.go(watch, 100, share=0.0, limit_s=10)
    assert machine.wall_s == pytest.approx(clock.LOAD * 10, abs=1)
    limit_s = watch.from_now_s(5)
    assert not watch.is_late(limit_s)
    assert machine.go(watch, 100, share=0.0, limit_s=limit_s)


def test_a_sleeper_and_what_has_no_processes_are_cut_at_the_deadline(machine):
    for pid in (1, None):
        start, watch = machine.wall_s, Clock(pid)
        assert machine.go(watch, 100, share=0.0, limit_s=10)
        assert machine.wall_s - start == pytest.approx(10, abs=1)


def test_a_budget_says_what_used_it():
    budget = Budget(100)
    for what, seconds in [("a", 5), ("the cell of 'x = 1'", 60), ("b", 1), ("slow", 30), ("a", 4)]:
        budget.charge(what, seconds)
    assert budget.left_s == 0
    assert str(budget) == (
        "the 100 s of this submission are used up: 60 s in the cell of 'x = 1', 30 s in slow, "
        "9 s in a"
    )


@contextlib.contextmanager
def programs(*sources):
    """Python programs, all on one processor; yields their processes."""
    made = [  # sessions of their own: a system may share out processors among sessions
        subprocess.Popen([sys.executable, "-c", source], start_new_session=True)
        for source in sources
    ]
    try:
        for one in made:
            psutil.Process(one.pid).cpu_affinity([0])
        yield made
    finally:
        for one in made:
            one.kill()
            one.wait()


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize(("source", "least", "most"), [(BUSY, 0.2, 0.7), (ASLEEP, 0.95, 1.0)])
def test_real_processes_on_a_loaded_processor(source, least, most):
    with programs(source, BUSY, BUSY, BUSY) as made:
        watch = Clock(made[0].pid)
        while watch.passed_s < 6:
            watch.is_late(1e9)
            time.sleep(0.1)
        assert least < watch.used_s / watch.passed_s <= most


@pytest.fixture
def place():
    with process.borrowed(isolated=True) as lent:
        yield lent
    process.close_all()


@pytest.fixture
def student(place, tmp_path):
    """A student with eight seconds in all."""
    (tmp_path / "glyphs").mkdir()
    made = KernelStudent(place, tmp_path / "glyphs", "glyphs", budget_s=8)
    yield made
    made.close()


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.serial
def test_a_cell_on_a_loaded_machine_is_not_cut(student, place):
    student.run_cell("def compute():\n    " + COMPUTES.format(3.0).replace("\n", "\n    "), 6)
    with programs(BUSY, BUSY, BUSY):
        for one in psutil.Process(place.pid).children(recursive=True):
            one.cpu_affinity([0])
        start = time.monotonic()
        student.call("compute", deadline_s=5.5)
        assert time.monotonic() - start > 5.5  # by the wall's clock it would have been cut
    assert student.budget.used["compute"] < 5.5


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_the_judges_own_time_is_not_charged(student):
    student.run_cell("def double(x): return 2 * x", 5)
    time.sleep(8.5)
    assert student.call("double", 21) == 42


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_cells_that_run_again_are_charged_and_named(student):
    assert student.run_cell("import time; time.sleep(1.2)", 5) == []
    student.run_cell("# ends it\ndef die(): import os; os._exit(1)\ndef one(): return 1", 5)
    for _ in range(2):
        with pytest.raises(StudentError, match="the kernel died"):
            student.call("die")
        assert student.call("one") == 1
    assert student.budget.used[AGAIN] > 2.4
    outputs = student.run_cell("time.sleep(60)", 60)
    assert "no answer within" in outputs[-1].evalue
    said = r"the 8 s of this submission are used up: \d s in the cell of 'time.sleep\(60\)', \d s"
    with pytest.raises(StudentError, match=said):
        student.call("one")
