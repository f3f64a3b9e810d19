"""A grader that is interrupted at work leaves nothing: no process, no temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import grader
import psutil
import pytest
from toy_lab import LAB, NBGRADERS_WARNINGS, hand_in

from autograder.sandbox import bubblewrap

pytestmark = [pytest.mark.slow, *NBGRADERS_WARNINGS]
SLEEPS = "import time\ntime.sleep(50)\ndef double(x): return 2 * x"
AT_WORK_S, LEAVES_S = 2.0, 15.0


@pytest.fixture
def place():
    """A short folder for everything temporary: sockets lie in there."""
    folder = tempfile.mkdtemp(prefix="cut-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder)


def ours(place: Path) -> list[psutil.Process]:
    """Every process that was started with this folder for what is temporary."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(place):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def left(place: Path, *, killed: bool) -> list[str]:
    """What lies there; of a process that was killed, Python's own socket stays."""
    return [path.name for path in place.iterdir() if not (killed and path.name[:5] == "pymp-")]


def until(condition, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


CASES = [
    (signal.SIGINT, 2, True),  # Ctrl-C
    (signal.SIGTERM, 2, True),
    (signal.SIGKILL, 2, True),
    (signal.SIGTERM, 2, False),
    (signal.SIGTERM, 0, True),
    (signal.SIGINT, 0, False),
]


@pytest.mark.parametrize(("number", "workers", "isolated"), CASES)
def test_nothing_is_left(course, place, number, workers, isolated):
    if isolated and not bubblewrap.available():
        pytest.skip(f"no sandbox: {bubblewrap.why_not()}")
    for student in range(3):
        hand_in(course, f"student{student}", SLEEPS)
    words = ["grade", LAB, "--workers", str(workers), *([] if isolated else ["--unisolated"])]
    command, environment = grader.command("judge_toy", *words, TMPDIR=str(place))
    with open(course.root / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=course.root, env=environment, stderr=log, start_new_session=True
        )
    try:
        assert until(lambda: any(place.glob("*-unit-*")), 60), (course.root / "log").read_text()
        time.sleep(AT_WORK_S)
        assert process.poll() is None
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        process.wait(LEAVES_S)
        assert process.returncode != 0
        assert until(lambda: not ours(place), LEAVES_S), ours(place)
    finally:
        for one in ours(place):
            one.kill()
        process.wait()
    assert left(place, killed=number == signal.SIGKILL) == []
    assert not list((course.root / ".autograder").glob("staged/*"))
