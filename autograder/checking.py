"""What a check is: one function that measures a student's work and returns rows of points.

A check knows neither notebook nor kernel. It draws its inputs from ``cases`` and may ask
``student`` for two things: call a function, fetch an artifact. In the student's kernel the cases
are public; in grading the same function runs in the judge's process with a secret seed and the
held-out images.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from autograder import artifacts, exchange, held_out, targets
from autograder.rows import Row, failed
from autograder.targets import Figure
from codesign.datasets import ImageSet
from codesign.models import VGG

CALL_DEADLINE_S = 20.0


class StudentError(Exception):
    """The student's part failed: missing, raised, overran its deadline or returned no data."""


class CheckFailed(AssertionError):
    """Raised in the student's kernel by a check that did not give full points."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one graded cell: its rows, points and what it is out of."""

    check: str
    rows: tuple[Row, ...]
    max_points: float
    dataset: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def points(self) -> float:
        """Sum of the rows, rounded to two decimals, within 0 and ``max_points``."""
        total = sum(row.points for row in self.rows)
        return min(max(round(total, 2), 0.0), self.max_points)

    @property
    def inconclusive(self) -> bool:
        """Whether noise left a figure undecided, so that a person should look."""
        return any(row.status == "inconclusive" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports, in strict JSON: a number that is not finite becomes its text."""
        rows = tuple({k: _strict(v) for k, v in asdict(row).items()} for row in self.rows)
        plain = {**asdict(self), "rows": rows}
        return {**plain, "points": self.points, "inconclusive": self.inconclusive}


def _strict(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Student(Protocol):
    """The student's side of a check."""

    def call(
        self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S, **kwargs: Any
    ) -> Any:
        """Call a function of the notebook."""

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
        """Normal numbers, float32."""
        return torch.randn(shape, generator=self.generator)

    def randint(self, low: int, high: int, shape: Sequence[int] = (1,)) -> torch.Tensor:
        """Integers from ``low`` to ``high - 1``, int64."""
        return torch.randint(low, high, tuple(shape), generator=self.generator)

    def choice(self, items: Sequence[Any]) -> Any:
        """One of ``items``."""
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


# --- the register --------------------------------------------------------------------------------

Check = Callable[[Student, Cases, Mapping[str, Figure]], list[Row]]
_checks: dict[tuple[str, str], Check] = {}


def check(lab: str, name: str) -> Callable[[Check], Check]:
    """Register the decorated function as check ``name`` of ``lab``."""

    def register(function: Check) -> Check:
        _checks[lab, name] = function
        return function

    return register


def find(lab: str, name: str) -> Check:
    """The check's function.

    Raises:
        ValueError: there is none of this name.
    """
    importlib.import_module(f"autograder.checks.{lab}")
    if (lab, name) not in _checks:
        known = sorted(check for known_lab, check in _checks if known_lab == lab)
        raise ValueError(f"got check {name!r}; allowed in {lab}: {known}")
    return _checks[lab, name]


def run(
    lab: str, name: str, student: Student, dataset: str, seed: int = held_out.PUBLIC_SEED
) -> Verdict:
    """Run one check. Whatever the student's side does, the answer is a verdict.

    Raises:
        ValueError: unknown lab or check, or a check whose rows do not add up to its points.
    """
    wanted = targets.lab(lab)
    function = find(lab, name)
    if name not in wanted:
        raise ValueError(f"targets.toml has no check {name!r} in {lab}")
    max_points = wanted[name].points
    figures = wanted[name].figures[dataset]
    try:
        with torch.random.fork_rng():  # a check may seed torch; the notebook must not notice
            rows = function(student, Cases(name, dataset, seed), figures)
    except StudentError as error:
        rows = [failed(name, max_points, str(error))]
    except (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError) as error:
        # Measuring broke on what the student returned: no points, and the judge goes on.
        message = f"could not be measured: {type(error).__name__}: {error}"
        rows = [failed(name, max_points, message[:2_000])]
    total = sum(row.max_points for row in rows)
    if not math.isclose(total, max_points, abs_tol=1e-6):
        raise ValueError(f"{lab}.{name}: rows are out of {total}, targets.toml says {max_points}")
    return Verdict(name, tuple(rows), max_points, dataset)


# --- the student's own kernel --------------------------------------------------------------------


class LocalStudent:
    """A student inside the own kernel: same encoding, no deadline, no isolation."""

    def __init__(self, namespace: dict[str, Any], outputs: Path) -> None:
        self.namespace, self.outputs = namespace, outputs

    def call(
        self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S, **kwargs: Any
    ) -> Any:
        """See :class:`Student`."""
        request = {"function": function, "args": list(args), "kwargs": kwargs}
        copied = exchange.unpack(*exchange.pack(request))  # the original cannot be altered
        try:
            return exchange.unpack(*exchange.pack(exchange.invoke(self.namespace, copied)))
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
        return LocalStudent(found, self.outputs).call(name, *args)


def artifact(outputs: Path, name: str) -> Any:
    """Load an artifact, or say why not.

    Raises:
        StudentError: see :func:`autograder.artifacts.fetch`.
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
