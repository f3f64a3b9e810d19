"""Worker process: judge one unit after another, each in a sandbox that stays warm.

Imports little, so that the sandbox starts at once and imports PyTorch beside the worker.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from autograder.sandbox import bubblewrap, process

DONE, FAILED, READY, BROKEN = b"+", b"-", b"r", b"!"  # what an answer begins with


def serve(pipe: Connection, threads: int, job: str, warm: bool) -> None:
    """Judge what comes through ``pipe`` with ``job`` ("module:function"), until the pipe ends.

    The module's ``prepare``, where it has one, runs before the first unit. ``warm``: the job needs
    a sandbox. A SIGTERM, or the end of whoever holds the other end of the pipe, ends it at any
    moment: what it made (a sandbox, temporary folders) goes with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _leave)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before PyTorch is imported, which reads it
    judging = threading.Event()
    threading.Thread(target=_watch, args=(pipe.fileno(), judging), daemon=True).start()
    try:
        judge = _prepared(pipe, job, warm)
        while judge is not None:
            unit = pipe.recv_bytes()
            judging.set()
            try:
                answer = DONE + judge(unit)
            except Exception as error:  # the judge's own fault: told, never fatal for the others
                answer = FAILED + f"{type(error).__name__}: {error}".encode()
            judging.clear()
            pipe.send_bytes(answer)
    except (EOFError, OSError):
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        process.close_all()


def _prepared(pipe: Connection, job: str, warm: bool) -> Callable[[bytes], bytes] | None:
    """Make ready and say so; None: it cannot be, which is said, too."""
    try:
        if warm and bubblewrap.available():
            with process.borrowed(isolated=True):
                pass  # it gets warm in the background, while this process imports the same
        module, name = job.split(":")
        found = importlib.import_module(module)
        judge: Callable[[bytes], bytes] = getattr(found, name)
        if prepare := getattr(found, "prepare", None):
            prepare()
    except Exception as error:
        pipe.send_bytes(BROKEN + f"{type(error).__name__}: {error}".encode())
        return None
    pipe.send_bytes(READY)
    return judge


def _leave(number: int, frame: object) -> None:
    """End by an exception, so that every ``with`` and ``finally`` on the way is left properly."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _watch(pipe: int, judging: threading.Event) -> None:
    """End this process once the other end of the pipe is gone: nobody waits for the answer."""
    watched = select.poll()
    watched.register(pipe, 0)  # the hang-up alone
    watched.poll()
    if judging.is_set():  # otherwise it finds out itself
        os.kill(os.getpid(), signal.SIGTERM)
