"""Worker process: judge one unit after another, each in a sandbox that stays warm.

Imports little, so that the sandbox starts at once and imports PyTorch beside the worker.
"""

from __future__ import annotations

import importlib
import os
import signal
from multiprocessing.connection import Connection

from autograder.sandbox import bubblewrap, process

DONE, FAILED, READY = b"+", b"-", b"r"  # what an answer begins with


def serve(pipe: Connection, threads: int, job: str, warm: bool) -> None:
    """Judge what comes through ``pipe`` with ``job`` ("module:function"), until the pipe ends.

    The module's ``prepare``, where it has one, runs before the first unit. ``warm``: the job needs
    a sandbox.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before PyTorch is imported, which reads it
    try:
        if warm and bubblewrap.available():
            with process.borrowed(isolated=True):
                pass  # it gets warm in the background, while this process imports the same
        module, name = job.split(":")
        found = importlib.import_module(module)
        judge = getattr(found, name)
        if prepare := getattr(found, "prepare", None):
            prepare()
        pipe.send_bytes(READY)
        while True:
            unit = pipe.recv_bytes()
            try:
                answer = DONE + judge(unit)
            except Exception as error:  # the judge's own fault: told, never fatal for the others
                answer = FAILED + f"{type(error).__name__}: {error}".encode()
            pipe.send_bytes(answer)
    except (EOFError, OSError):
        process.close_all()
