"""Build bubblewrap's command line: what a student's process may see, write and use.

Inside there are the system's programs, this Python environment and the course library, all
read-only; no network, no solutions, no checks, no other submission, no gradebook, no variable of
the host's environment. Judge and kernel share one folder: ``requests`` and ``outputs``, which the
kernel reads; ``answers`` and ``sockets``, which it writes. Everything else that it writes lies in
memory of bounded size and goes with it. What holds on this machine, ``autograder doctor`` tries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from autograder.contract import definition
from autograder.contract.environment import LABS
from autograder.sandbox import limits
from codesign import places

# Of /etc what programs need and everybody may read: run by root, all of it could be read.
ETC = ("alternatives", "fonts", "group", "ld.so.cache", "localtime", "nsswitch.conf", "passwd")
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", *(f"/etc/{name}" for name in ETC))
INSIDE = Path("/codesign/shared")  # the shared folder, as the kernel sees it
WORK = Path("/codesign/work")  # where the kernel runs
READABLE, WRITABLE = ("requests", "outputs"), ("answers", "sockets")
# As a file, so that trying it imports nothing; -P: its folder is no place to import from.
FORK_SERVER = [sys.executable, "-P", str(Path(__file__).with_name("fork_server.py"))]
ANSWER_DEADLINE_S = 120.0
ABANDONED_S = 3_600.0  # before that, a process that is unknown here may be another container's
PORTS = {
    f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)
}


def available() -> bool:
    """Tell whether a program really runs inside the sandbox on this machine (tried once)."""
    return why_not() is None


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Return why the sandbox does not work here; None: it works."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    see = "import importlib.util as u; assert all(map(u.find_spec, ['torch', 'codesign']))"
    done = _tried([sys.executable, "-c", see], nested=False)
    return None if done is None else f"bubblewrap does not work here: {done}"


@lru_cache(maxsize=1)
def can_fork() -> bool:
    """Tell whether a process inside can make namespaces for each kernel (tried once)."""
    request = {"cwd": str(WORK), "outputs": str(INSIDE / "outputs"), "kept": [], "scratch": 2**20}
    return _tried([*FORK_SERVER, "--try", json.dumps(request)], nested=True) is None


def _tried(probe: list[str], *, nested: bool) -> str | None:
    """Run a command in a sandbox; return what went wrong, or None."""
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
    """Prefix ``argv`` so that it runs in the sandbox.

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
    for path in shown():
        bwrap += ["--ro-bind", str(path), str(path)]
    # Of the labs only what a notebook needs: checks, mutants and right answers are not there.
    for lab in definition.folders():
        bwrap += ["--tmpfs", str(lab)]
        for file in (lab / name for name in definition.VISIBLE):
            bwrap += ["--ro-bind", str(file), str(file)] if file.is_file() else []
        bwrap += ["--remount-ro", str(lab)]
    bwrap += ["--ro-bind", str(shared), str(INSIDE)]
    for name in WRITABLE:
        bwrap += ["--bind", str(shared / name), str(INSIDE / name)]
    bwrap += ["--ro-bind", str(shared / "outputs"), str(WORK / "outputs")]
    # Run by root, a kernel would own /proc/sys and could write what the whole machine obeys. The
    # fork server needs /proc to make new worlds; its kernels lose it in `fork_server.new_world`.
    # The names of keys belong to no namespace; a /proc that hides them cannot be mounted again.
    keys = [] if nested else [p for p in ("/proc/keys", "/proc/key-users") if Path(p).exists()]
    bwrap += [word for path in keys for word in ("--ro-bind", "/dev/null", path)]
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


def shown() -> list[Path]:
    """This Python, the course's packages, checkpoints, and the splits that students may see."""
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(sys.prefix)}
    packages = [_package("codesign"), _package("autograder")]
    checkpoints = packages[0].parent / "data" / "checkpoints"
    files = [
        places.cache_file(name, split) for name in places.DATASETS for split in ("train", "val")
    ]
    paths = [*sorted(prefixes), *packages, checkpoints, *files]
    return [p for p in paths if p.exists() and not any(p.is_relative_to(s) for s in SYSTEM)]


def _environment() -> dict[str, str]:
    """The few variables a notebook needs; everything else of the host stays outside."""
    kept = ("OMP_NUM_THREADS", "LANG")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/tmp/home",
        "PYTHONPATH": str(_package("codesign").parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # a process with threads cannot fork into a new world
        "CODESIGN_CACHE": str(places.cache_dir()),
        "MPLCONFIGDIR": "/tmp/home",
        LABS: _further_labs(),
        **{name: os.environ[name] for name in kept if name in os.environ},
    }


def unprotected() -> dict[str, str]:
    """What an unprotected kernel sees besides the host's environment."""
    course = {"PYTHONPATH": str(_package("codesign").parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**course, LABS: _further_labs()}


def _further_labs() -> str:
    """The folders of labs that lie elsewhere, as absolute paths: a kernel runs in another one."""
    ours = _package("autograder")
    return os.pathsep.join(str(f) for f in definition.folders() if not f.is_relative_to(ours))
