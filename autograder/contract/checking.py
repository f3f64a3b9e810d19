"""Graded checks: one function each, which measures a student's work and returns rows of points.

A check knows neither notebook nor kernel. It draws its inputs from ``cases`` and may ask
``student`` for two things: call a function, fetch an artifact. In the student's kernel the cases
are public; in grading the same function runs in the judge's process with a secret seed and the
held-out images.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from autograder.contract import artifacts, exchange, held_out
from autograder.contract.deadlines import CALL_DEADLINE_S, Watch
from autograder.contract.definition import find
from autograder.contract.rows import Row, failed, scaled, told_once
from autograder.contract.said import MAX_MESSAGE
from autograder.contract.targets import Figure
from autograder.contract.verdict import MachineError, StudentError, Verdict
from codesign.datasets import ImageSet
from codesign.models import VGG

NOT_JUDGED = "the judge could not judge this"
NO_MEMORY = "the judge had not the memory to judge this"
MACHINES_FAULT = (MachineError, OSError, MemoryError, ImportError)


class Student(Protocol):
    """The student's side of a check."""

    def call(
        self,
        function: str,
        *args: Any,
        may_change: Collection[str | int] = (),
        deadline_s: float = CALL_DEADLINE_S,
        **kwargs: Any,
    ) -> Any:
        """Call a function of the notebook.

        Args:
            may_change: positions or names of arguments that its text allows it to alter; a position
                holds whatever a student named the parameter.

        Raises:
            StudentError: it failed, overran ``deadline_s`` or altered another argument.
        """

    def artifact(self, name: str) -> Any:
        """Load an artifact."""

    def artifact_bytes(self, name: str) -> int:
        """Stored size of an artifact."""

    def measure(self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """Call ``function`` (``"package.module:name"``) of the course on code handed in as data.

        For artifacts that are source text: whatever compiles or executes one runs neither in the
        judge's process nor in the kernel where the student's notebook could forge what is found.
        """


class Cases:
    """Inputs of a check, drawn from ``seed``: the public one, or the judge's secret."""

    def __init__(self, check: str, dataset: str, seed: int = held_out.PUBLIC_SEED) -> None:
        self.name, self.dataset, self.seed = check, dataset, seed
        self.public = seed == held_out.PUBLIC_SEED
        mixed = sum(ord(c) * 31**i for i, c in enumerate(check)) + seed
        self.generator = torch.Generator().manual_seed(mixed % 2**63)

    def randn(self, *shape: int) -> torch.Tensor:
        """Draw normal numbers, float32."""
        return torch.randn(shape, generator=self.generator)

    def randint(self, low: int, high: int, shape: Sequence[int] = (1,)) -> torch.Tensor:
        """Draw integers from ``low`` to ``high - 1``, int64."""
        return torch.randint(low, high, tuple(shape), generator=self.generator)

    def choice(self, items: Sequence[Any]) -> Any:
        """Draw one of ``items``."""
        return items[int(self.randint(0, len(items)))]

    @property
    def images(self) -> ImageSet:
        """The validation images when public, the judge's when graded."""
        return held_out.images(self.dataset, self.seed)

    @property
    def dense(self) -> VGG:
        """A fresh copy of the shipped dense VGG."""
        return held_out.dense(self.dataset)

    @property
    def dense_accuracy(self) -> float:
        """Accuracy of the dense VGG on :attr:`images`."""
        return held_out.dense_accuracy(self.dataset, self.seed)


Check = Callable[[Student, Cases, Mapping[str, Figure]], list[Row]]


def run(
    lab: str, name: str, student: Student, dataset: str, seed: int = held_out.PUBLIC_SEED
) -> Verdict:
    """Run one check. Whatever the student's side does, the answer is a verdict.

    What this machine could not do (no space, a file that is not there) is no grade: the row's
    status is "refused" and begins with :data:`NOT_JUDGED`, and grading writes no score. Where it
    had not the memory, the row alone is refused and a person is asked.

    Raises:
        ValueError: unknown lab or check, or a check whose rows do not add up to its points.
    """
    definition = find(lab)
    function = definition.check(name)
    if name not in definition.targets:
        raise ValueError(f"targets.toml has no check {name!r} in {lab}")
    max_points = definition.targets[name].points
    figures = definition.targets[name].figures[dataset]
    try:
        with torch.random.fork_rng():  # a check may seed torch; the notebook must not notice
            rows = function(student, Cases(name, dataset, seed), figures)
    except StudentError as error:
        rows = [failed(name, max_points, str(error)[:MAX_MESSAGE])]
    except MACHINES_FAULT as error:
        # What a student returns may ask for more memory than there is, so that is one row's matter.
        begin = NO_MEMORY if isinstance(error, MemoryError) else NOT_JUDGED
        message = f"{begin}: {type(error).__name__}: {error}"[:MAX_MESSAGE]
        rows = [replace(failed(name, max_points, message), status="refused")]
    except Exception as error:  # measuring broke on what the student returned; the judge goes on
        message = f"could not be measured: {type(error).__name__}: {error}"
        rows = [failed(name, max_points, message[:MAX_MESSAGE])]
    told = told_once(scaled(rows, figures, max_points))
    return Verdict(name, told, max_points, dataset)


def faults(judge: Callable[..., str | None], cases: Iterable[Sequence[Any]]) -> list[str | None]:
    """What ``judge(*case)`` finds wrong in each case; a call that fails is a fault of its case."""
    return [fault(judge, *case) for case in cases]


def fault(judge: Callable[..., str | None], *case: Any) -> str | None:
    """The fault that ``judge`` finds; one function that fails leaves the others their points."""
    try:
        return judge(*case)
    except StudentError as error:
        return str(error)
    except MACHINES_FAULT:
        raise
    except Exception as error:
        return f"could not be measured: {type(error).__name__}: {error}"[:MAX_MESSAGE]


# --- the student's own kernel --------------------------------------------------------------------


class LocalStudent:
    """The student's side within the same kernel: same encoding and limits, no isolation.

    A call that takes longer than the judge waits, or prints more, fails when it is over.
    """

    def __init__(self, namespace: dict[str, Any], outputs: Path) -> None:
        self.namespace, self.outputs = namespace, outputs

    def call(
        self,
        function: str,
        *args: Any,
        may_change: Collection[str | int] = (),
        deadline_s: float = CALL_DEADLINE_S,
        **kwargs: Any,
    ) -> Any:
        """See :class:`Student`."""
        request = exchange.request(function, args, kwargs, may_change)
        copied = exchange.unpack(*exchange.pack(request))  # the original cannot be altered
        try:
            with Watch(deadline_s):
                value = exchange.invoke(self.namespace, copied)
            return exchange.unpack(*exchange.pack(value))
        except Exception as error:
            raise StudentError(f"{function}: {exchange.describe(error)}") from error

    def artifact(self, name: str) -> Any:
        """See :class:`Student`."""
        return artifact(self.outputs, name)

    def artifact_bytes(self, name: str) -> int:
        """See :class:`Student`."""
        return artifact_bytes(self.outputs, name)

    def measure(self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """See :class:`Student`."""
        module, name = function.split(":")
        found = {name: getattr(importlib.import_module(module), name)}
        return LocalStudent(found, self.outputs).call(name, *args, deadline_s=deadline_s)


def artifact(outputs: Path, name: str) -> Any:
    """Load an artifact, or raise with the reason.

    Raises:
        StudentError: see :func:`autograder.contract.artifacts.fetch`.
    """
    try:
        return artifacts.fetch(outputs, name)
    except exchange.ExchangeError as error:
        raise StudentError(str(error)) from None


def artifact_bytes(outputs: Path, name: str) -> int:
    """Stored size of an artifact, or StudentError."""
    try:
        return artifacts.size(outputs, name)
    except exchange.ExchangeError as error:
        raise StudentError(str(error)) from None
