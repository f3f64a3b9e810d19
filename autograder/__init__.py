"""The autograder: one check runs in the student's kernel for feedback and in the judge for points.

A student's notebook needs ``Lab`` alone. Everything else here is the judge: how values cross from
the student's kernel (``exchange``), what a check is (``checking``), how a submission is taken in,
executed and scored (``intake``, ``kernel``, ``executor``), and how it proves itself (``prove``).
"""

import sys
from typing import Any, cast

if "IPython" not in sys.modules:  # the judge's own processes
    # nbformat's jsonschema would build a grammar of internationalized links on import: 1.8 s for a
    # format that no notebook has. That this package is missing is a case it is prepared for.
    cast(dict[str, Any], sys.modules).setdefault("rfc3987_syntax", None)

from autograder.checking import CheckFailed
from autograder.lab import Lab

__all__ = ["CheckFailed", "Lab"]
