"""A throw-away machine on which stock nbgrader grades a hostile submission.

Stock nbgrader runs a submission with all that its own user may do, so it gets a machine of its own
to be harmed: a bubblewrap sandbox with its own processes and no network, a read-only system (what
an ordinary user finds), and the course, /tmp and /dev/shm in memory of bounded size. A control
group bounds memory and processes (without one, a watch over the process tree does), and the whole
of it is killed at a deadline. :mod:`aftermath` is its first process and tells what happened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aftermath
from hostile_cases import SECRET
from toy_lab import LAB

from autograder.sandbox import bubblewrap, limits

CELL_DEADLINE_S = 10
DEADLINE_S = 120.0  # for a class of two; an honest one takes a tenth of it
REPORT_DEADLINE_S = 60.0
SIZES = {"/tmp": 2**28, "/dev/shm": 2**28, "/log": 2**26}
COURSE_BYTES = 2**30
PRISTINE = "/pristine"
CONFIG = f"c.ExecutePreprocessor.timeout = {CELL_DEADLINE_S}\n"


class Stopped(RuntimeError):
    """The machine did not live to tell; the message says why."""


def run(root: Path, student: str) -> dict[str, Any]:
    """Grade the class at ``root`` on a machine of its own and report; ``root`` stays as it is.

    Raises:
        Stopped: its first process ended without a report.
    """
    groups = limits.control_groups()
    task = {
        "root": str(root),
        "pristine": PRISTINE,
        "lab": LAB,
        "student": student,
        "deadline_s": DEADLINE_S,
        "disks": ["/tmp", "/dev/shm", str(root)],
    }
    machine = subprocess.Popen(
        limits.joined(groups, command(root, task)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return json.loads(_report(machine, watched=not groups))
    finally:
        machine.kill()
        machine.communicate()
        _remove(groups)


def _report(machine: subprocess.Popen[str], *, watched: bool) -> str:
    end = time.monotonic() + DEADLINE_S + REPORT_DEADLINE_S
    while time.monotonic() < end:
        try:
            said, complaint = machine.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            if watched and (reason := limits.excess(machine.pid, [])):
                raise Stopped(reason) from None
            continue
        if machine.returncode:
            raise Stopped(complaint.strip()[-400:] or f"exit {machine.returncode}")
        return said
    raise Stopped(f"no report within {DEADLINE_S + REPORT_DEADLINE_S:.0f} s")


def _remove(groups: list[Path]) -> None:
    """Remove control groups once the last killed process has left them."""
    for _ in range(50):
        limits.remove(groups)
        if not any(group.exists() for group in groups):
            return
        time.sleep(0.1)


def command(root: Path, task: dict[str, Any]) -> list[str]:
    """The sandbox around :func:`aftermath.main`."""
    bwrap = ["bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--as-pid-1"]
    bwrap += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    bwrap += [f"--unshare-{space}" for space in ("net", "pid", "ipc", "uts")]
    bwrap += ["--hostname", "stock", "--proc", "/proc", "--dev", "/dev"]
    for folder, size in SIZES.items():
        bwrap += ["--size", str(size), "--tmpfs", folder]
    bwrap += ["--dir", "/tmp/home"]
    for system in bubblewrap.SYSTEM:
        if Path(system).is_symlink():
            bwrap += ["--symlink", os.readlink(system), system]
        elif Path(system).exists():
            bwrap += ["--ro-bind", system, system]
    driver = Path(aftermath.__file__)
    for path in (*bubblewrap.shown(), driver):
        bwrap += ["--ro-bind", str(path), str(path)]
    bwrap += ["--ro-bind", str(root), PRISTINE, "--size", str(COURSE_BYTES), "--tmpfs", str(root)]
    bwrap += ["--remount-ro", "/proc", "--remount-ro", "/", "--clearenv"]
    for name, value in {**bubblewrap._environment(), SECRET: "a secret of the host"}.items():
        bwrap += ["--setenv", name, value]
    program = [sys.executable, "-P", str(driver), json.dumps(task)]
    return [*bwrap, "--chdir", str(root), "--", *program]
