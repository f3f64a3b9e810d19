"""The autograder: one check runs in the student's kernel for feedback and in the judge for points.

A student's notebook needs ``Lab`` alone. Everything else here is the judge: how values cross from
the student's kernel (``exchange``), what a check is (``checking``), how a submission is taken in,
executed and scored (``intake``, ``kernel``, ``executor``), and how it proves itself (``prove``).
"""

from autograder.checking import CheckFailed
from autograder.lab import Lab

__all__ = ["CheckFailed", "Lab"]
