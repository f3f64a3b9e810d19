"""Fork server inside the sandbox: imports everything once, then forks one kernel after another.

Importing PyTorch costs more than most submissions do, so it is done once for each worker of the
judge. What a submission may not leave to the next one is new in each fork: user, mount, process,
IPC and host-name namespaces, /tmp, /dev/shm and the working folder (all in memory, of bounded
size), and the keyring of the session; and the kernel has no capability, no way to a further
namespace, system calls without the rare ones (`DENIED`), and limits of its own. Where
that is not allowed (some systems forbid namespaces in namespaces) every kernel gets a sandbox and a
process of its own: ``--once``.

Requests are lines of JSON on stdin, answered one by one on stdout. Only the judge writes there: a
kernel has neither pipe, and it cannot see, signal or trace this process.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDED = ("autograder.contract.exchange", "ipykernel.kernelapp")  # by every kernel
USEFUL = ("codesign.measure", "codesign.plot")  # to most notebooks
USER = 1_000  # inside: anyone but root
WATCHES = 128  # of inotify, for each user inside
# System calls that no notebook needs, and that reach what is not in a namespace or have let others
# out of one: number on x86-64, on 64-bit ARM.
DENIED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit's number, column above

_libc = ctypes.CDLL(None, use_errno=True)
# User, mount, process, IPC and host-name namespaces.
_NEW_NAMESPACES = 0x10000000 | 0x20000 | 0x20000000 | 0x08000000 | 0x04000000
_SLAVE, _BIND, _NOSUID_NODEV, _NOEXEC = 0x84000, 0x5000, 6, 8  # the first two: recursive
_READ_ONLY_AGAIN = 0x1000 | 0x20 | 0x1  # bind, remount, read-only
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522
_JOIN_SESSION_KEYRING, _SET_SECCOMP, _FILTER = 1, 22, 2
_LOAD, _IS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of a seccomp filter's program
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # refuse: "not permitted"


def main() -> None:
    """Serve requests until stdin ends; with ``--once`` become the first kernel asked for.

    ``--try`` only says, by its exit status, whether new worlds can be made here.
    """
    if "--try" in sys.argv:
        new_world(json.loads(sys.argv[-1]))
        return
    requests = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if sys.flags.verbose else (0, 1, 2):
        os.dup2(nothing, descriptor)
    for module in NEEDED[:1] if "--once" in sys.argv else NEEDED:
        __import__(module)
    for module in () if "--once" in sys.argv else USEFUL:
        if select.select([requests], [], [], 0)[0]:
            break  # somebody waits; the kernel imports it itself if its notebook does
        __import__(module)
    kernel = 0
    for line in requests:
        request = json.loads(line)
        if request["do"] == "start" and "--once" in sys.argv:
            answers.write("0\n")
            requests.close()
            answers.close()
            become_kernel(request)
        elif request["do"] == "start":
            kernel = fork_kernel(request, [requests.fileno(), answers.fileno()])
            answers.write(f"{kernel}\n")
        elif request["do"] == "alive":
            answers.write(f"{int(_running(kernel))}\n")
        elif request["do"] == "stop":
            if _running(kernel):
                os.kill(kernel, signal.SIGKILL)
                os.waitpid(kernel, 0)
            kernel = 0
            answers.write("0\n")


def _running(pid: int) -> bool:
    try:
        return pid > 0 and os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def fork_kernel(request: dict[str, Any], private: list[int]) -> int:
    """Fork a kernel in namespaces of its own; return the process whose death ends all of it."""

    def first() -> None:
        for descriptor in private:
            os.close(descriptor)
        new_world(request)
        init = _fork(lambda: _init(request))
        os.waitpid(init, 0)

    return _fork(first)


def _init(request: dict[str, Any]) -> None:
    """Run as init of the new namespaces: when it ends, the system kills all others in them."""
    _own_proc()
    kernel = _fork(lambda: become_kernel(request))
    while os.wait()[0] != kernel:
        pass


def _fork(body: Callable[[], None]) -> int:
    """Run ``body`` in a child that dies with its parent."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))
        if os.getppid() in (parent, 0):  # 0: the parent is outside this process namespace
            body()
    finally:
        os._exit(0)


def new_world(request: dict[str, Any]) -> None:
    """Enter new namespaces with empty private folders and no way to make further ones.

    Raises:
        OSError: the system does not allow it.
    """
    _call(_libc.unshare, _NEW_NAMESPACES)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{USER} {USER} 1")
    Path("/proc/self/gid_map").write_text(f"{USER} {USER} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    for name in ("max_inotify_instances", "max_inotify_watches"):
        if (limit := Path("/proc/sys/user") / name).exists():
            limit.write_text(str(WATCHES))
    _mount(b"none", b"/", b"", _SLAVE, b"")
    private = ("/tmp", "/dev/shm", request["cwd"])
    kept = {path: os.open(path, os.O_PATH) for path in request["kept"] if _is_below(path, private)}
    outputs = os.open(request["outputs"], os.O_PATH)
    for folder in private:
        size = f"size={request['scratch']},nr_inodes=100k,mode=0700".encode()
        _mount(b"tmpfs", folder.encode(), b"tmpfs", _NOSUID_NODEV, size)
    os.mkdir("/tmp/home")
    for path, descriptor in [*kept.items(), (f"{request['cwd']}/outputs", outputs)]:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "x").close()
        _mount(f"/proc/self/fd/{descriptor}".encode(), path.encode(), b"", _BIND, b"")
        os.close(descriptor)


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _own_proc() -> None:
    """Mount a read-only /proc of the own processes; where that is refused, of the outer ones.

    Read-only, because what root runs owns /proc/sys, which the whole machine obeys; and without the
    names of keys, which belong to no namespace.
    """
    _libc.mount(b"proc", b"/proc", b"proc", _NOSUID_NODEV | _NOEXEC, None)
    for name in (b"/proc/keys", b"/proc/key-users"):
        if os.path.exists(name):
            _mount(b"/dev/null", name, b"", _BIND, b"")
    _mount(b"none", b"/proc", b"", _READ_ONLY_AGAIN | _NOSUID_NODEV | _NOEXEC, b"")


def become_kernel(request: dict[str, Any]) -> None:
    """Turn this process into an IPython kernel; returns when it ends."""
    os.chdir(request["cwd"])
    for kind, most in (
        (resource.RLIMIT_AS, 2 * request["memory"]),
        (resource.RLIMIT_FSIZE, request["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
        *(
            [(resource.RLIMIT_NPROC, request["processes"])]
            if request["isolated"] and _counts_own()
            else []
        ),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    if request["isolated"]:
        drop_privileges()
    os.environ.update(request["environment"])
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize(["-f", request["connection"], "--HistoryManager.enabled=False"])
    app.start()


def _counts_own() -> bool:
    """Tell whether the limit of processes counts this user namespace alone (Linux 5.14)."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (5, 14)


def drop_privileges() -> None:
    """Give up every capability, the session's keyring and some system calls, for good.

    Raises:
        OSError: it did not work.
    """
    _call(_libc.prctl, _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call(_libc.capset, header, (ctypes.c_uint32 * 6)())
    machine, column = MACHINES.get(os.uname().machine, (0, 0))
    if not machine:
        return  # a machine whose numbers nobody has looked up; `autograder doctor` says so
    keyctl = DENIED["keyctl"][column]
    if (
        _libc.syscall(keyctl, _JOIN_SESSION_KEYRING, None) < 0
        and ctypes.get_errno() != errno.ENOSYS
    ):
        raise OSError(ctypes.get_errno(), "no session keyring of its own")
    _deny(machine, [numbers[column] for numbers in DENIED.values()])


def _deny(machine: int, numbers: list[int]) -> None:
    """Refuse these system calls from here on, and kill whoever makes calls of another machine."""
    program = [
        (_LOAD, 0, 0, 4),
        (_IS, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        *((_IS, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_AT_LEAST, 0, 1, 0x40000000),  # x86-64's calls with short pointers have these numbers
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    packed = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _call(_libc.prctl, _SET_SECCOMP, _FILTER, ctypes.c_char_p(header), 0, 0)


def _mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> None:
    _call(_libc.mount, source, target, kind, flags, data)


def _call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
