"""Refuse to run untrusted code where the sandbox does not work, unless told so expressly."""

from __future__ import annotations

import os

from autograder.contract.environment import UNISOLATED
from autograder.sandbox import bubblewrap


class NotIsolated(RuntimeError):
    """Grading was asked for where the sandbox does not work."""


def isolation(unisolated: bool | None = None) -> bool:
    """Decide whether to isolate; ``unisolated`` (or ``CODESIGN_UNISOLATED=1``) does without.

    Raises:
        NotIsolated: no sandbox here and nobody said in as many words to go on without.
    """
    if unisolated is None:
        unisolated = os.environ.get(UNISOLATED) == "1"
    if unisolated:
        return False
    reason = bubblewrap.why_not()
    if reason:
        raise NotIsolated(
            f"submissions are untrusted code and cannot be isolated: {reason}. Install bubblewrap "
            "(Debian: apt-get install bubblewrap), or say --unisolated (CODESIGN_UNISOLATED=1)."
        )
    return True
