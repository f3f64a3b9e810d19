"""A real Dask cluster for tests: scheduler and workers are processes, some of them unfit to judge.

Each process sees the course through ``PYTHONPATH``: this one, a copy with another version, or none.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import toy_lab

HERE = Path.cwd()
SUPPORT = Path(toy_lab.__file__).parent
ABSENT = "raise ModuleNotFoundError(\"No module named 'autograder'\", name='autograder')\n"


def another_version(folder: Path) -> Path:
    """A copy of the course in ``folder``, which differs in one comment."""
    for package in ("autograder", "codesign"):
        shutil.copytree(HERE / package, folder / package, ignore=shutil.ignore_patterns("__py*"))
    with open(folder / "autograder" / "grading" / "judge.py", "a") as file:
        file.write("# another version\n")
    return folder


def no_course(folder: Path) -> Path:
    """A place where the course cannot be imported from, as where it is not installed."""
    (folder / "autograder").mkdir(parents=True)
    (folder / "autograder" / "__init__.py").write_text(ABSENT)
    return folder


class DaskCluster:
    """Processes of one cluster, started one by one; ``folder`` is theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.running: list[subprocess.Popen[bytes]] = []

    def scheduler(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start a scheduler, always at the same address."""
        words = ["dask_scheduler", f"--port={self.port}", "--host=127.0.0.1", "--no-dashboard"]
        return self._start(words, **options)

    def worker(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start a worker of one process and one thread."""
        words = ["dask_worker", self.address, "--nworkers=1", "--nthreads=1"]
        return self._start([*words, "--no-dashboard", "--no-nanny"], **options)

    def _start(self, words: list[str], course: Path = HERE, **variables: str) -> Any:
        places = os.pathsep.join(map(str, [course, SUPPORT]))
        environment = {**os.environ, "PYTHONPATH": places, **variables}
        command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command, env=environment, stdout=quiet, stderr=quiet, cwd=self.folder
        )
        self.running.append(process)
        return process

    def wait_for(self, workers: int, timeout_s: float = 60.0) -> None:
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(self.address, timeout=timeout_s, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=timeout_s)

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """Kill these processes, by default all of them."""
        for process in processes or tuple(self.running):
            process.kill()
            process.wait()
            self.running.remove(process)
