"""What a mutant can learn by heart: the public case of a check, which every student can print."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from autograder.contract.checking import Cases
from autograder.contract.verdict import StudentError
from autograder.labs.lab1_pruning.checks import CHECKS


class _Recorder:
    """A student that only notes the first tensor it is given."""

    first: torch.Tensor | None = None

    def call(self, function: str, *args: Any, deadline_s: float = 0.0, **kwargs: Any) -> Any:
        self.first = next(a for a in args if isinstance(a, torch.Tensor))
        raise StudentError("only looking")

    def artifact(self, name: str) -> Any:
        raise StudentError("only looking")

    def artifact_bytes(self, name: str) -> int:
        raise StudentError("only looking")

    def measure(self, function: str, *args: Any, deadline_s: float = 0.0) -> Any:
        raise StudentError("only looking")


def public_sum(check: str) -> float:
    """Sum of the first tensor that ``check`` hands to a student in the public case."""
    recorder = _Recorder()
    with contextlib.suppress(StudentError):
        CHECKS[check](recorder, Cases(check, "glyphs"), {})
    assert recorder.first is not None
    return float(recorder.first.sum())
