"""A place where one kernel at a time runs: under bubblewrap, or, where one says so, unprotected.

Inside there are the system's programs, this Python environment and the course library, all
read-only; no network, no solutions, no checks, no other submission, no gradebook, no variable of
the host's environment. Judge and kernel share one folder: ``requests`` and ``outputs``, which the
kernel reads; ``answers`` and ``sockets``, which it writes. Everything else that it writes lies in
memory of bounded size and goes with it. What holds on this machine, ``autograder doctor`` tries.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autograder import folders, limits
from codesign import datasets

# Of /etc what programs need and everybody may read: run by root, all of it could be read.
ETC = ("alternatives", "fonts", "group", "ld.so.cache", "localtime", "nsswitch.conf", "passwd")
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", *(f"/etc/{name}" for name in ETC))
HIDDEN = ("checks", "mutants")  # the judge's oracles and wrong answers
INSIDE = Path("/codesign/shared")  # the shared folder, as the kernel sees it
WORK = Path("/codesign/work")  # where the kernel runs
READABLE, WRITABLE = ("requests", "outputs"), ("answers", "sockets")
# As a file, so that trying it imports nothing; -P: its folder is no place to import from.
FORK_SERVER = [sys.executable, "-P", str(Path(__file__).with_name("forkserver.py"))]
ANSWER_DEADLINE_S = 120.0
ABANDONED_S = 3_600.0  # before that, a process that is unknown here may be another container's
PORTS = {
    f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)
}


class SandboxError(RuntimeError):
    """The process that starts kernels did not do as it was told; the message says what it said."""


class Sandbox:
    """The shared folder, and the process that starts kernels one after another.

    Args:
        isolated: under bubblewrap; otherwise a plain process, for work that one trusts.
    """

    def __init__(self, *, isolated: bool) -> None:
        self.isolated, self.warm = isolated, isolated and can_fork()
        for left in Path(tempfile.gettempdir()).glob(f"{limits.OURS}*-*"):
            if limits.is_abandoned(left) and time.time() - left.stat().st_mtime > ABANDONED_S:
                folders.remove(left)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{limits.OURS}{os.getpid()}-"))
        for name in (*READABLE, *WRITABLE, "work"):
            (self.folder / name).mkdir()
        self.inside = INSIDE if isolated else self.folder
        self.process: subprocess.Popen[str] | None = None
        self.groups: list[Path] = []
        self.shown: list[Path] = []
        if not isolated:
            (self.folder / "work" / "outputs").symlink_to(self.folder / "outputs")
        if self.warm:
            self._launch()

    @property
    def requests(self) -> Path:
        """Where the judge writes what the kernel reads."""
        return self.folder / "requests"

    @property
    def answers(self) -> Path:
        """Where the kernel writes what the judge reads, trusting nothing."""
        return self.folder / "answers"

    @property
    def outputs(self) -> Path:
        """The artifacts, for the kernel to read."""
        return self.folder / "outputs"

    def start(self, environment: dict[str, str]) -> dict[str, Any]:
        """Start a kernel; returns how to connect to it.

        Raises:
            SandboxError: it did not start.
        """
        for name in WRITABLE:
            folders.empty(self.folder / name)
        connection = {
            **PORTS,
            "transport": "ipc",
            "ip": str(self.folder / "sockets" / "s"),
            "key": secrets.token_hex(16),
            "signature_scheme": "hmac-sha256",
        }
        file = self.folder / "sockets" / "kernel.json"
        inside = {**connection, "ip": str(self.inside / "sockets" / "s")}
        file.write_text(json.dumps(inside))
        if self.process is None or self.process.poll() is not None or self.shown != _course():
            self._launch()
        self._ask(
            "start",
            connection=str(self.inside / "sockets" / "kernel.json"),
            cwd=str(WORK if self.isolated else self.folder / "work"),
            outputs=str(self.inside / "outputs"),
            kept=[str(path) for path in self.shown],
            isolated=self.isolated,
            memory=limits.MEMORY_BYTES,
            scratch=limits.SCRATCH_BYTES,
            file_bytes=limits.FILE_BYTES,
            processes=limits.PROCESSES,
            environment=environment,
        )
        return connection

    def alive(self) -> bool:
        """Whether the kernel runs."""
        if self.process is None or self.process.poll() is not None:
            return False
        try:
            return self._ask("alive") == "1" if self.warm else True
        except SandboxError:
            return False

    def excess(self) -> str | None:
        """What the kernel uses too much of, or None; see :func:`autograder.limits.excess`."""
        if self.process is None or not self.isolated:
            return None
        return limits.excess(self.process.pid, [self.answers, self.folder / "sockets"])

    def stop(self) -> None:
        """Kill the kernel with everything that it started."""
        try:
            if self.warm and self.process is not None:
                self._ask("stop")
                return
        except SandboxError:
            pass
        self.end()

    def clear(self) -> None:
        """Stop the kernel and forget everything of its submission."""
        self.stop()
        for name in (*READABLE, *WRITABLE, *(() if self.isolated else ("work",))):
            folders.empty(self.folder / name, keep="outputs")

    def close(self) -> None:
        """End all processes and remove the folder."""
        self.end()
        folders.remove(self.folder)

    def _launch(self) -> None:
        self.end()
        self.shown = _course()
        argv = [*FORK_SERVER, *([] if self.warm else ["--once"])]
        if self.isolated:
            self.groups = limits.control_groups()
            argv = limits.joined(self.groups, command(argv, self.folder, nested=self.warm))
        environment = {**os.environ, **_unprotected()} if not self.isolated else None
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env=environment,
            start_new_session=True,
        )

    def _ask(self, verb: str, **content: Any) -> str:
        assert self.process is not None
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": verb, **content}) + "\n")
            ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_DEADLINE_S)
            answer = self.process.stdout.readline().strip() if ready else ""
        except OSError as error:
            raise SandboxError(f"the sandbox ended: {error}") from None
        if not answer:
            self.end()
            raise SandboxError("the sandbox ended" if ready else "the sandbox does not answer")
        return answer

    def end(self) -> None:
        """End all processes; the next kernel starts with new ones."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()
            self.process.wait()
            self.process = None
        limits.remove(self.groups, patience_s=1.0)  # what was killed needs a moment to be gone
        self.groups = []


_idle: list[Sandbox] = []


@contextlib.contextmanager
def borrowed(*, isolated: bool) -> Iterator[Sandbox]:
    """A clean sandbox, kept warm for the next one who asks."""
    for index, idle in enumerate(_idle):
        if idle.isolated == isolated:
            sandbox = _idle.pop(index)
            break
    else:
        sandbox = Sandbox(isolated=isolated)
    try:
        yield sandbox
    finally:
        sandbox.clear()
        _idle.append(sandbox)


@atexit.register
def close_all() -> None:
    """Close the sandboxes that are kept warm."""
    while _idle:
        _idle.pop().close()


def available() -> bool:
    """Whether a program really runs inside the sandbox on this machine (tried once)."""
    return why_not() is None


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """None when the sandbox works, else the reason."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    see = "import importlib.util as u; assert all(map(u.find_spec, ['torch', 'codesign']))"
    done = _tried([sys.executable, "-c", see], nested=False)
    return None if done is None else f"bubblewrap does not work here: {done}"


@lru_cache(maxsize=1)
def can_fork() -> bool:
    """Whether a process inside can make a new world for each kernel (tried once)."""
    request = {"cwd": str(WORK), "outputs": str(INSIDE / "outputs"), "kept": [], "scratch": 2**20}
    return _tried([*FORK_SERVER, "--try", json.dumps(request)], nested=True) is None


def _tried(probe: list[str], *, nested: bool) -> str | None:
    """Run a command in a sandbox; what went wrong, or None."""
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        for name in (*READABLE, *WRITABLE):
            (Path(folder) / name).mkdir()
        argv = command(probe, Path(folder), nested=nested)
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None if done.returncode == 0 else done.stderr[-400:] or f"exit {done.returncode}"


def command(argv: list[str], shared: Path, *, nested: bool) -> list[str]:
    """``argv`` prefixed so that it runs in the sandbox.

    Args:
        shared: the host's side of the shared folder.
        nested: it may make namespaces of its own (the fork server needs that; its kernels do not).
    """
    bwrap = ["bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    bwrap += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    bwrap += [] if nested else ["--disable-userns"]
    bwrap += [f"--unshare-{space}" for space in ("net", "pid", "ipc", "uts")]
    bwrap += ["--hostname", "judge", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", str(WORK)):
        bwrap += ["--size", str(limits.SCRATCH_BYTES), "--tmpfs", folder]
    bwrap += ["--remount-ro", "/dev", "--dir", "/tmp/home"]
    for system in SYSTEM:
        if Path(system).is_symlink():
            bwrap += ["--symlink", os.readlink(system), system]
        elif Path(system).exists():
            bwrap += ["--ro-bind", system, system]
    for path in _course():
        bwrap += ["--ro-bind", str(path), str(path)]
    for hidden in _hidden():
        bwrap += ["--tmpfs", str(hidden), "--remount-ro", str(hidden)]
    bwrap += ["--ro-bind", str(shared), str(INSIDE)]
    for name in WRITABLE:
        bwrap += ["--bind", str(shared / name), str(INSIDE / name)]
    bwrap += ["--ro-bind", str(shared / "outputs"), str(WORK / "outputs")]
    # Run by root, a kernel would own /proc/sys and could write what the whole machine obeys. The
    # fork server needs /proc to make new worlds; its kernels lose it in `forkserver.new_world`.
    bwrap += [] if nested else ["--remount-ro", "/proc"]
    bwrap += ["--remount-ro", "/", "--clearenv"]
    for name, value in _environment().items():
        bwrap += ["--setenv", name, value]
    return [*bwrap, "--chdir", str(WORK), "--", *argv]


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {name!r} is not importable")
    return Path(spec.origin).resolve().parent


def _course() -> list[Path]:
    """This Python, the course's packages, checkpoints, and the splits that students may see."""
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(sys.prefix)}
    packages = [_package("codesign"), _package("autograder")]
    checkpoints = packages[0].parent / "data" / "checkpoints"
    files = [
        datasets.cache_file(name, split) for name in datasets.DATASETS for split in ("train", "val")
    ]
    paths = [*sorted(prefixes), *packages, checkpoints, *files]
    return [p for p in paths if p.exists() and not any(p.is_relative_to(s) for s in SYSTEM)]


def _hidden() -> list[Path]:
    return [path for name in HIDDEN if (path := _package("autograder") / name).is_dir()]


def _environment() -> dict[str, str]:
    """The few variables a notebook needs; everything else of the host stays outside."""
    kept = ("OMP_NUM_THREADS", "LANG")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/tmp/home",
        "PYTHONPATH": str(_package("codesign").parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # a process with threads cannot fork into a new world
        "CODESIGN_CACHE": str(datasets.cache_dir()),
        "MPLCONFIGDIR": "/tmp/home",
        **{name: os.environ[name] for name in kept if name in os.environ},
    }


def _unprotected() -> dict[str, str]:
    """What an unprotected kernel sees besides the host's environment."""
    return {"PYTHONPATH": str(_package("codesign").parent), "PYTHONDONTWRITEBYTECODE": "1"}
