"""Try every protection of the sandbox on this machine: ``autograder doctor``.

A probe is a cell that does what a hostile submission would do and prints ``held`` when it was
stopped. Bombs need not live to print it: being killed with a reason is the right answer to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.contract import definition
from autograder.sandbox import bubblewrap, fork_server, limits, process
from autograder.sandbox.kernel import Kernel, KernelStopped

DEADLINE_S = 60.0
SECRET = "CODESIGN_DOCTOR_SECRET"
KEY = "codesign-doctor-key"  # that the host keeps in its session's keyring

REFUSED = """
def refused(attempt, *arguments):
    try:
        attempt(*arguments)
    except BaseException as error:
        return True
    print("not refused:", attempt, arguments)
    return False
"""


@dataclass(frozen=True)
class Probe:
    """One protection: what it promises, and a cell that tries to get past it."""

    name: str
    code: str
    kills: bool = False  # the kernel may be killed by it


@dataclass(frozen=True)
class Finding:
    """What came of a probe."""

    name: str
    holds: bool
    said: str


def probes(port: int, host_file: Path) -> list[Probe]:
    """List every protection; the host listens on ``port`` and has ``host_file``."""
    memory, scratch = limits.MEMORY_BYTES, limits.SCRATCH_BYTES
    return [
        Probe(
            "no network: neither the host's loopback nor names",
            "import socket\n"
            f"ok = refused(socket.create_connection, ('127.0.0.1', {port}), 2)\n"
            "ok &= refused(socket.getaddrinfo, 'example.org', 80)",
        ),
        Probe(
            "the system, the environment and the course are read-only",
            "import sys, os, autograder\n"
            "places = ['/etc', '/usr', '/', '/dev', '/proc/sys/kernel/core_pattern',\n"
            "          sys.prefix, os.path.dirname(autograder.__file__)]\n"
            "files = [p if os.path.isfile(p) else p + '/codesign' for p in places]\n"
            "ok = all([refused(open, file, 'w') for file in files])",
        ),
        Probe(
            "the host's files cannot be read",
            f"import os\nok = refused(open, {str(host_file)!r})\n"
            f"ok &= not os.path.exists({str(host_file.parent)!r})",
        ),
        Probe(
            "what the system keeps from its users cannot be read",
            "import os\n"
            "files = [f'{top}/{name}' for top, _, names in os.walk('/etc') for name in names]\n"
            "files = [file for file in files if os.path.exists(file)]  # links may lead nowhere\n"
            "print([file for file in files if not os.stat(file).st_mode & 4])\n"
            "ok = bool(files) and all(os.stat(file).st_mode & 4 for file in files)\n"
            "ok &= refused(open, '/etc/shadow')",
        ),
        Probe(
            "of a lab only its targets can be read: no checks, mutants, valid solutions",
            "from pathlib import Path\n"
            f"labs = [Path(lab) for lab in {list(map(str, definition.folders()))}]\n"
            "files = [file for lab in labs for file in lab.rglob('*')]\n"
            f"hidden = [file for file in files if file.name not in {definition.VISIBLE}]\n"
            "print(hidden)\n"
            "ok = bool(labs) and not hidden\n"
            "ok &= all((lab / 'targets.toml').is_file() for lab in labs)",
        ),
        Probe(
            "the host's environment cannot be read",
            f"import os\nseen = open('/proc/self/environ').read() + repr(dict(os.environ))\n"
            f"ok = {SECRET!r} not in seen",
        ),
        Probe(
            "the host's processes can be neither seen nor signalled",
            f"import os\nok = refused(os.kill, {os.getpid()}, 0) or {os.getpid()} < 100\n"
            "ok &= refused(os.kill, os.getppid() if os.getppid() > 1 else 999_999, 9)",
        ),
        Probe(
            "no capability, no new privilege, no further namespace",
            "import ctypes, os\nstatus = dict(\n"
            "    line.split(':', 1) for line in open('/proc/self/status').read().splitlines())\n"
            "ok = int(status['CapEff'], 16) == int(status['CapPrm'], 16) == 0\n"
            "ok &= status['NoNewPrivs'].strip() == '1' and os.getuid() != 0\n"
            "if os.fork() == 0:  # only a process with one thread could\n"
            "    os._exit(ctypes.CDLL(None).unshare(0x10000000) == 0)\n"
            "ok &= os.wait()[1] == 0",
        ),
        Probe(
            "no keyring of the host's, and none of the system calls that lead out of namespaces",
            "import contextlib, ctypes, os\nfrom autograder.sandbox import fork_server\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "column = fork_server.MACHINES[os.uname().machine][1]\n"
            "for name, numbers in fork_server.DENIED.items():\n"
            "    done = libc.syscall(numbers[column], 0, 0, 0, 0, 0)\n"
            "    print(name, done, ctypes.get_errno())\n"
            "    ok = ctypes.get_errno() == 1 and done == -1 and locals().get('ok', True)\n"
            "keys = ''\n"
            "with contextlib.suppress(OSError): keys = open('/proc/keys').read()\n"
            f"ok &= {KEY!r} not in keys",
        ),
        Probe(
            "few watches of inotify",
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "made = [libc.inotify_init() for _ in range(400)]\nok = -1 in made",
        ),
        Probe(
            f"one process gets at most {2 * memory >> 30} GiB of address space",
            f"import mmap\nok = refused(mmap.mmap, -1, {2 * memory})",
        ),
        Probe(
            f"all processes together get at most {memory >> 30} GiB",
            "import os, time\n"
            "for child in range(8):\n"
            "    if os.fork() == 0:\n"
            f"        block = bytearray({memory // 6})\n"
            "        time.sleep(8)\n"
            "        os._exit(0)\n"
            "states = [os.wait()[1] for child in range(8)]\n"
            "ok = any(states)\n"
            "print(states)",
            kills=True,
        ),
        Probe(
            f"at most {limits.PROCESSES} processes",
            "import os, time\ncount = 0\n"
            "try:\n"
            f"    while count < {4 * limits.PROCESSES}:\n"
            "        if os.fork() == 0:\n"
            "            time.sleep(5)\n"
            "            os._exit(0)\n"
            "        count += 1\n"
            "except BlockingIOError:\n"
            "    pass\n"
            f"ok = count < {limits.PROCESSES}\n"
            "print(count)",
            kills=True,
        ),
        Probe(
            f"at most {scratch >> 20} MiB in each of /tmp, /dev/shm and the working folder",
            f"def fill(folder):\n    for part in range({scratch >> 26} + 2):\n"
            "        with open(f'{folder}/{part}', 'wb') as file:\n"
            "            file.write(bytes(2**26))\n"
            "ok = all([refused(fill, folder) for folder in ('/tmp', '/dev/shm', '.')])",
            kills=True,
        ),
        Probe(
            f"at most {limits.SHARED_BYTES >> 20} MiB where the judge reads",
            "import itertools, time\n"
            "for part in itertools.count():\n"
            f"    with open(f'{bubblewrap.INSIDE}/answers/{{part}}', 'wb') as file:\n"
            "        file.write(bytes(2**26))\n"
            "    time.sleep(0.05)",
            kills=True,
        ),
        Probe(
            "nothing stops the deadline",
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
            kills=True,
        ),
    ]


LEAVE = """
import os, time
open("/tmp/left", "w").write("x"); open("/dev/shm/left", "w").write("x"); open("left", "w")
if os.fork() == 0:
    os.setsid()
    open("/codesign/shared/answers/alive", "w").write("x")
    time.sleep(600)
"""
LOOK = """
import os
folders = ["/tmp", "/dev/shm", ".", "/codesign/shared/answers"]
ok = not any("left" in os.listdir(f) or "alive" in os.listdir(f) for f in folders)
"""


def findings(*, bombs: bool = True) -> Iterator[Finding]:
    """Try every protection, or all but those against bombs, in a sandbox that works.

    See :func:`autograder.sandbox.bubblewrap.why_not`.
    """
    os.environ[SECRET] = "a secret of the host"
    with (
        _host_key(),
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.TemporaryDirectory(prefix="codesign-host-") as folder,
        process.borrowed(isolated=True) as place,
    ):
        file = Path(folder) / "gradebook.db"
        file.write_text("the host's")
        for probe in probes(server.getsockname()[1], file):
            if bombs or not probe.kills:
                yield _try(place, probe)
        kernel = Kernel(place, "glyphs")
        kernel.execute(LEAVE, DEADLINE_S)
        kernel.stop()
        place.clear()
        yield _try(place, Probe("the next submission finds nothing of the last one", LOOK))
    del os.environ[SECRET]


@contextlib.contextmanager
def _host_key() -> Iterator[None]:
    """A key in the host's session keyring, where this machine has keyrings."""
    system_call = ctypes.CDLL(None).syscall
    column = fork_server.MACHINES.get(os.uname().machine, (0, 0))[1]
    add, change = fork_server.DENIED["add_key"][column], fork_server.DENIED["keyctl"][column]
    session, unlink = -3, 9
    key = system_call(add, b"user", KEY.encode(), b"secret", 6, session)
    try:
        yield
    finally:
        if key > 0:
            system_call(change, unlink, key, session)


def _try(place: process.Sandbox, probe: Probe) -> Finding:
    deadline = DEADLINE_S if "deadline" not in probe.name else 3.0
    try:
        kernel = Kernel(place, "glyphs")
    except KernelStopped as stopped:
        return Finding(probe.name, False, str(stopped))
    try:
        kernel.execute(REFUSED, DEADLINE_S)
        code = f"{probe.code}\nprint('held' if ok else 'not held')"
        outputs = kernel.execute(code, deadline)
        said = " ".join(str(o.get("text") or o.get("evalue") or "") for o in outputs).strip()
        kernel.stop()
        return Finding(probe.name, said.endswith("held") and "not held" not in said, said)
    except KernelStopped as stopped:
        return Finding(probe.name, probe.kills, str(stopped))
