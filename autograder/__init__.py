"""The autograder: one check runs in the student's kernel for feedback and in the judge for points.

A student's notebook needs ``Lab`` alone. Everything else is the judge, one room a duty; imports run
down this list only: ``lab``, ``cli``, ``labs``, ``proof``, ``reports``, ``grading``, ``sandbox``,
``intake``, ``contract``.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, cast

if "IPython" not in sys.modules:  # the judge's own processes
    # nbformat's jsonschema would build a grammar of internationalized links on import: 1.8 s for a
    # format that no notebook has. That this package is missing is a case it is prepared for.
    cast(dict[str, Any], sys.modules).setdefault("rfc3987_syntax", None)

from autograder import labs as labs  # registers them

if TYPE_CHECKING:
    from autograder.contract.verdict import CheckFailed
    from autograder.grading.nbgrader_plugins import wire
    from autograder.lab import Lab

__all__ = ["CheckFailed", "Lab", "wire"]

# Imported when first used: PyTorch takes seconds, and `autograder --help` needs none of it.
_WHERE = {
    "CheckFailed": "autograder.contract.verdict",
    "Lab": "autograder.lab",
    "wire": "autograder.grading.nbgrader_plugins",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
