"""Read untrusted files: regular ones of bounded size, no symlinks followed, no pipes waited for."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

MAX_BYTES = 64 * 2**20
ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.(json|safetensors|c)")
MAX_ARTIFACT_BYTES = 32 * 2**20


class ExchangeError(ValueError):
    """A value that cannot be serialized, or bytes that do not decode."""


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read a regular file, never following a link and never blocking on a pipe.

    Raises:
        ExchangeError: missing, not a regular file with one name, or larger than ``limit`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ExchangeError(f"{path.name}: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise ExchangeError(f"{path.name} is not a regular file with one name")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit:
            raise ExchangeError(f"{path.name} has {status.st_size:,} bytes; allowed: {limit:,}")
        data = file.read(limit + 1)  # it may have grown since
    if len(data) > limit:
        raise ExchangeError(f"{path.name} has more than {limit:,} bytes")
    return data
