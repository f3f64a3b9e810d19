"""A kernel under bubblewrap: no network, a read-only system, its own /tmp, nothing of the host.

A kernel provisioner for jupyter_client (entry point ``codesign-sandbox``). The kernel sees the
system's programs, this Python environment, the course library and two folders of its own; it sees
no solutions, no checks, no other submissions and no gradebook. Sockets are Unix sockets in a
private folder, since there is no network to listen on. What it does not do yet: cgroups for memory
and processes; rlimits hold each process alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

from codesign import datasets

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc")
HIDDEN = ("checks", "mutants")  # the judge's oracles and wrong answers
MAX_ADDRESS_SPACE = 12 * 2**30
MAX_FILE = 512 * 2**20


class SandboxProvisioner(LocalProvisioner):
    """Start the kernel inside bubblewrap.

    ``CODESIGN_WORK`` in the kernel's environment names the folder with ``kernel/`` and
    ``answers/``, which it may write, and ``requests/``, which it may read.
    """

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Move the connection to Unix sockets in a private folder and prefix the command."""
        self.sockets = tempfile.mkdtemp(prefix="codesign-kernel-")
        manager: Any = self.parent
        manager.transport = "ipc"
        manager.ip = str(Path(self.sockets) / "socket")
        manager.connection_file = str(Path(self.sockets) / "kernel.json")
        kwargs = await super().pre_launch(**kwargs)
        work = Path(kwargs["env"]["CODESIGN_WORK"])
        writable = [work / "kernel", work / "answers", Path(self.sockets)]
        kwargs["cmd"] = command(
            kwargs["cmd"], work / "kernel", writable, [work / "requests"], kwargs["env"]
        )
        kwargs["cwd"] = "/"
        return kwargs

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the private folder."""
        await super().cleanup(restart)
        shutil.rmtree(getattr(self, "sockets", ""), ignore_errors=True)


def available() -> bool:
    """Whether a program really runs inside the sandbox on this machine (tried once)."""
    return why_not() is None


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """None when the sandbox works, else the reason."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    with tempfile.TemporaryDirectory() as folder:
        probe = [sys.executable, "-c", "import codesign, autograder"]
        try:
            done = subprocess.run(
                command(probe, Path(folder), [Path(folder)], [], dict(os.environ)),
                capture_output=True,
                text=True,
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap does not start: {error}"
    return None if done.returncode == 0 else f"bubblewrap does not work here: {done.stderr[-400:]}"


def command(
    argv: list[str],
    cwd: Path,
    writable: list[Path],
    readable: list[Path],
    environment: dict[str, str],
) -> list[str]:
    """``argv`` prefixed so that it runs in the sandbox and writes in ``writable`` folders alone."""
    bwrap = ["bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    bwrap += ["--unshare-user", "--disable-userns"]
    bwrap += [f"--unshare-{space}" for space in ("net", "pid", "ipc", "uts")]
    bwrap += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/tmp/home"]
    for system in SYSTEM:
        if Path(system).is_symlink():
            bwrap += ["--symlink", os.readlink(system), system]
        elif Path(system).exists():
            bwrap += ["--ro-bind", system, system]
    for path in [*_course(), *readable]:
        bwrap += ["--ro-bind", str(path), str(path)]
    for hidden in _hidden():
        bwrap += ["--tmpfs", str(hidden)]
    for folder in writable:
        bwrap += ["--bind", str(folder), str(folder)]
    # Run by root, the kernel would own /proc/sys and could write what the whole machine obeys.
    bwrap += ["--remount-ro", "/proc", "--clearenv"]
    for name, value in _environment(environment).items():
        bwrap += ["--setenv", name, value]
    limits = ["prlimit", f"--as={MAX_ADDRESS_SPACE}", f"--fsize={MAX_FILE}", "--core=0"]
    return [*bwrap, "--chdir", str(cwd), "--", *limits, *argv]


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


def _environment(environment: dict[str, str]) -> dict[str, str]:
    """The few variables a notebook needs; everything else of the host stays outside."""
    kept = ("CODESIGN_GRADING", "CODESIGN_DATASET", "OMP_NUM_THREADS", "LANG")
    chosen = {name: environment[name] for name in kept if name in environment}
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/tmp/home",
        "PYTHONPATH": str(_package("codesign").parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CODESIGN_CACHE": str(datasets.cache_dir()),
        "MPLCONFIGDIR": "/tmp/home",
        **chosen,
    }
