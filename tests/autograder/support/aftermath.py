"""What grading left behind: scores, files, processes, disks.

The same look at a course after either grader. As a program it is the first process of the
throw-away machine (:mod:`stock_machine`): it copies the course into memory of bounded size, runs
nbgrader there, and reports as JSON. A first process cannot be killed from inside, and this one
imports nothing but the standard library, so that whatever nbgrader suffers, somebody tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OWN = {"autograded", "gradebook.db", "gradebook.db-journal", ".autograder"}  # what grading writes
SAID_BYTES = 50_000
NOTEBOOK_BYTES = 20 * 2**20  # a larger one is reported, not read
EARLIER = "earlier"  # a student who was graded before
SCORES = """
SELECT student_id, base_cell.name, coalesce(manual_score, auto_score), manual_score IS NOT NULL
FROM grade
JOIN base_cell ON base_cell.id = grade.cell_id
JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
"""


def entries(root: Path) -> list[Path]:
    """All that is no folder below ``root``, at any depth, following no link."""
    found, waiting = [], [str(root)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                found.append(Path(entry.path))
    return sorted(found)


def files(root: Path) -> dict[str, str]:
    """Every file of the course that grading has no business with, and what is in it."""
    found = {}
    for path in entries(root):
        if path.relative_to(root).parts[0] not in OWN:
            regular = path.is_file() and not path.is_symlink()
            content = path.read_bytes() if regular else str(os.lstat(path).st_mode).encode()
            found[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


def scores(root: Path) -> dict[str, dict[str, float | None]]:
    """Of every student in the gradebook, the points of each cell; None where it has none.

    A score that a person would have entered has ``(by hand)`` in its cell's name.
    """
    found: dict[str, dict[str, float | None]] = {}
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{root}/gradebook.db?mode=ro", uri=True)
        ) as db:
            for student, cell, score, by_hand in db.execute(SCORES):
                entry = found.setdefault(student, {})
                entry[cell] = score
                if by_hand:
                    entry[f"{cell} (by hand)"] = score
    except sqlite3.Error:
        return {}
    return found


def followed(root: Path, student: str, lab: str) -> list[str]:
    """Links out of a submission that grading replaced by a copy of what they point at."""
    submitted, graded = (root / step / student / lab for step in ("submitted", "autograded"))
    found = []
    for path in entries(submitted):
        copy = graded / path.relative_to(submitted)
        if path.is_symlink() and not path.resolve().is_relative_to(submitted):
            found += [str(path.relative_to(submitted))] * (copy.is_file() and not copy.is_symlink())
    return found


def errors(notebook: Path) -> dict[str, str]:
    """The first error of every graded cell, as the notebook shows it."""
    found: dict[str, str] = {}
    try:
        if notebook.stat().st_size > NOTEBOOK_BYTES:
            return {}
        cells = json.loads(notebook.read_text())["cells"]
    except (OSError, ValueError, KeyError):
        return {}
    for cell in cells:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                found.setdefault(name, f"{output['ename']}: {output['evalue']}".strip(": "))
    return found


def look(root: Path, student: str, lab: str) -> dict[str, Any]:
    """Everything that can be seen in the course's folder after grading."""
    notebook = root / "autograded" / student / lab / f"{lab}.ipynb"
    return {
        "files": files(root),
        "scores": scores(root),
        "followed": followed(root, student, lab),
        "errors": errors(notebook),
        "notebook_bytes": notebook.stat().st_size if notebook.is_file() else 0,
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What the submission did outside of its own work, in words, from two looks."""
    then, now = before["files"], after["files"]
    said = [f"read a file of the machine through the link {name}" for name in after["followed"]]
    for verb, names in (
        ("removed", then.keys() - now.keys()),
        ("wrote", now.keys() - then.keys()),
        ("changed", {name for name in then.keys() & now.keys() if then[name] != now[name]}),
    ):
        if names:
            said.append(f"{verb} {len(names)} of the course's files")
    if after["scores"].get(EARLIER) != before["scores"].get(EARLIER):
        gone = EARLIER not in after["scores"]
        said.append(f"{'removed' if gone else 'rewrote'} another student's grades")
    return said


# --- the first process of the throw-away machine -------------------------------------------------


def main() -> None:
    """Copy the course, run nbgrader on it until the deadline, and print what was seen."""
    task = json.loads(sys.argv[1])
    root, lab, student = Path(task["root"]), task["lab"], task["student"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    subprocess.run(["cp", "-a", f"{task['pristine']}/.", str(root)], check=True)
    before = look(root, student, lab)
    with open("/log/nbgrader", "w+b") as log:
        bystander = subprocess.Popen(["sleep", "1000"])
        ended = autograde(root, lab, task["deadline_s"], log)
        report = {**ended, "said": tail(log)}
        report["bystander"] = bystander.poll() is None
        report["left"] = len(others()) - report["bystander"]
        report["full"] = [disk for disk in task["disks"] if is_full(disk)]
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all but this process: nobody writes while this looks
    after = look(root, student, lab)
    print(json.dumps({"before": before, "after": after, **report}), flush=True)


def autograde(root: Path, lab: str, deadline_s: float, log: Any) -> dict[str, Any]:
    """``nbgrader autograde`` over the whole class; its exit status, None when it never ended."""
    start = time.monotonic()
    command = [sys.executable, "-m", "nbgrader", "autograde", lab]
    process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        status: int | None = process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        status = None
    left = time.monotonic() - start
    time.sleep(0.5)  # what nbgrader has told to end, ends
    reap()
    return {"status": status, "seconds": left}


def reap() -> None:
    """Take note of dead orphans, as a first process has to."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.waitpid(-1, os.WNOHANG)


def others() -> list[int]:
    """Living processes other than this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and is_alive(int(name))]


def is_alive(pid: int) -> bool:
    """Whether it is another process than this, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return pid != os.getpid() and state not in "ZX"


def is_full(disk: str) -> bool:
    """Whether a megabyte no longer fits there."""
    try:
        return shutil.disk_usage(disk).free < 2**20
    except OSError:
        return False


def tail(log: Any) -> str:
    """The end of what nbgrader said."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - SAID_BYTES))
    return log.read().decode(errors="replace")


if __name__ == "__main__":
    main()
