"""Resource limits of one submission: control groups, rlimits, and a watch for what they miss.

A control group bounds memory and processes where one can be made; resource limits (set by
:mod:`.fork_server`) bound each process anywhere; and a watch over the process tree, which needs no
privilege at all, ends what gets past both.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from autograder.intake import folders

MEMORY_BYTES = 4 * 2**30
PROCESSES = 256  # threads count
SCRATCH_BYTES = 512 * 2**20  # of /tmp, /dev/shm and the working folder, each
FILE_BYTES = 256 * 2**20
SHARED_BYTES = 512 * 2**20  # what a kernel may write where the judge reads
SHARED_FILES = 1_000
SHARED_DEPTH = 20  # folders within folders

OURS = "codesign-judge-"  # what is ours, followed by the process that made it
_numbers = itertools.count(1)


def control_groups() -> list[Path]:
    """Make control groups that bound memory and processes; none where it is not possible."""
    made: list[Path] = []
    name = f"{OURS}{os.getpid()}-{next(_numbers)}"
    try:
        for parent, files in _hierarchies():
            remove([group for group in parent.glob(f"{OURS}*-*") if is_abandoned(group)])
            group = parent / name
            group.mkdir()
            made.append(group)
            for file, value in files:
                if (group / file).exists():
                    (group / file).write_text(str(value))
                elif "memsw" not in file and "swap" not in file:
                    raise FileNotFoundError(group / file)
    except OSError:
        remove(made)
        return []
    return made


def _hierarchies() -> Iterator[tuple[Path, list[tuple[str, int]]]]:
    """Find where this process may make groups, and what to write there: version 1, else 2."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    root = Path("/sys/fs/cgroup")
    if "memory" in own and "pids" in own:
        memory = [
            ("memory.limit_in_bytes", MEMORY_BYTES),
            ("memory.memsw.limit_in_bytes", MEMORY_BYTES),
        ]
        yield root / "memory" / own["memory"], memory
        yield root / "pids" / own["pids"], [("pids.max", PROCESSES)]
    elif "" in own:
        limits = [
            ("memory.max", MEMORY_BYTES),
            ("memory.swap.max", 0),
            ("pids.max", PROCESSES),
        ]
        yield root / own[""], limits


def is_abandoned(path: Path) -> bool:
    """Tell whether the process that made ``path`` (``codesign-judge-<process>-…``) was killed."""
    number = path.name.removeprefix(OURS).split("-")[0]
    return number.isdecimal() and not psutil.pid_exists(int(number))


def joined(groups: list[Path], command: list[str]) -> list[str]:
    """Prefix ``command`` so that it is in ``groups`` before its first instruction."""
    if not groups:
        return command
    join = 'for group in "$@"; do [ "$group" = -- ] && break; echo $$ > "$group/cgroup.procs"'
    script = f'{join} || exit 1; shift; done; shift; exec "$@"'
    return ["sh", "-c", script, "sh", *map(str, groups), "--", *command]


def remove(groups: list[Path], patience_s: float = 0.0) -> None:
    """Remove groups whose processes have ended; one that is in use for longer stays."""
    end = time.monotonic() + patience_s
    for group in groups:
        while group.exists():
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > end:
                    break
                time.sleep(0.02)


def excess(pid: int, shared: list[Path]) -> str | None:
    """Say what the processes below ``pid`` use too much of, or None."""
    try:
        tree = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    if len(tree) > PROCESSES:
        return f"it ran more than {PROCESSES} processes"
    memory = 0
    for process in tree:
        try:
            memory += process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    if memory > MEMORY_BYTES:
        return f"it used more than {MEMORY_BYTES / 2**30:.0f} GiB of memory"
    return next(filter(None, map(_overfull, shared)), None)


def _overfull(folder: Path) -> str | None:
    """Say what ``folder``, which a kernel can write to, holds too much of, or None."""
    size = count = 0
    try:
        for depth, entry in folders.walk(folder):
            count += 1
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
            if size > SHARED_BYTES or count > SHARED_FILES:
                return f"it wrote more than {SHARED_BYTES >> 20} MiB or {SHARED_FILES} files"
            if depth > SHARED_DEPTH:
                return f"it nested folders more than {SHARED_DEPTH} deep"
    except OSError as error:
        return f"it wrote a folder that cannot be read: {error.strerror}"
    return None
