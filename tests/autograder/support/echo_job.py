"""A job for workers that answers with its unit, or ends its worker: it imports next to nothing.

A worker imports the module of its job, and PyTorch there would be most of a test's time.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

CRASHES = b"crashes"
HANGS = b"hangs"


def echo(unit: bytes) -> bytes:
    """Answer with the unit; some of them end their worker, once or always."""
    if unit == CRASHES:
        os.kill(os.getpid(), signal.SIGKILL)
    if unit == HANGS:
        time.sleep(600)
    if unit.startswith(b"raises on "):
        Path(unit[10:].decode(), f"tried-{os.getpid()}").touch()
    if unit.startswith(b"raises"):
        raise ValueError("the judge's own fault")
    if unit.startswith(b"once "):
        marker = Path(unit[5:].decode())
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return b"answer to " + unit
