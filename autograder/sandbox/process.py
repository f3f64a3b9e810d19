"""Sandbox processes: a shared folder each, and the fork server that starts kernels there.

Judge and kernel share one folder: ``requests`` and ``outputs``, which the kernel reads; ``answers``
and ``sockets``, which it writes. Sandboxes are lent and kept warm for the next submission.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autograder.contract.verdict import MachineError
from autograder.intake import folders
from autograder.sandbox import bubblewrap, limits
from autograder.sandbox.bubblewrap import FORK_SERVER, INSIDE, READABLE, WORK, WRITABLE

ANSWER_DEADLINE_S = 120.0
ABANDONED_S = 3_600.0  # before that, a process that is unknown here may be another container's
PORTS = {
    f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)
}


class SandboxError(MachineError):
    """The process that starts kernels did not do as it was told; the message says what it said."""


class Sandbox:
    """The shared folder, and the process that starts kernels one after another.

    Args:
        isolated: under bubblewrap; otherwise a plain process, for work that one trusts.
    """

    def __init__(self, *, isolated: bool) -> None:
        self.isolated, self.warm = isolated, isolated and bubblewrap.can_fork()
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
        if (
            self.process is None
            or self.process.poll() is not None
            or self.shown != bubblewrap.shown()
        ):
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

    @property
    def pid(self) -> int | None:
        """The process above the kernel and all that it starts; None: none runs."""
        return self.process.pid if self.process is not None else None

    def alive(self) -> bool:
        """Whether the kernel runs."""
        if self.process is None or self.process.poll() is not None:
            return False
        try:
            return self._ask("alive") == "1" if self.warm else True
        except SandboxError:
            return False

    def excess(self) -> str | None:
        """What the kernel uses too much of, or None; see :func:`.limits.excess`."""
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
        self.shown = bubblewrap.shown()
        argv = [*FORK_SERVER, *([] if self.warm else ["--once"])]
        if self.isolated:
            self.groups = limits.control_groups()
            argv = limits.joined(
                self.groups, bubblewrap.command(argv, self.folder, nested=self.warm)
            )
        environment = {**os.environ, **bubblewrap.unprotected()} if not self.isolated else None
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
    """Lend a clean sandbox, kept warm for the next caller."""
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
