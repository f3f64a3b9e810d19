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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from autograder import artifacts, exchange, held_out, targets
from autograder.targets import Figure
from codesign.datasets import ImageSet
from codesign.models import VGG

CALL_DEADLINE_S = 20.0


class StudentError(Exception):
    """The student's part failed: missing, raised, overran its deadline or returned no data."""


class CheckFailed(AssertionError):
    """Raised in the student's kernel by a check that did not give full points."""


@dataclass(frozen=True)
class Row:
    """One measured figure or tested property and its points."""

    name: str
    measured: float | str | None
    target: float | str | None
    points: float
    max_points: float
    unit: str = ""
    reference: float | None = None
    message: str = ""
    status: str = "ok"  # or "failed", "inconclusive", "refused" (never judged)
    floor: float | None = None  # of a figure: on the worse side of its target

    def __post_init__(self) -> None:
        if not 0 <= self.points <= self.max_points + 1e-9:  # NaN fails this, too
            raise ValueError(f"{self.name}: got {self.points} points of {self.max_points}")


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


# --- rows ----------------------------------------------------------------------------------------


def failed(name: str, max_points: float, message: str) -> Row:
    """A row without points and with the reason."""
    return Row(name, None, None, 0.0, max_points, message=message, status="failed")


def passed(name: str, ok: bool, points: float, message: str = "") -> Row:
    """All or nothing; ``message`` says why not."""
    if bool(ok):
        return Row(name, "yes", "yes", points, points)
    return Row(name, "no", "yes", 0.0, points, message=message, status="failed")


def credit(measured: float, target: float, floor: float, max_points: float) -> float:
    """Full points at ``target`` or better, none at ``floor`` or worse, linear between.

    The direction follows from the two: a floor above the target means that smaller is better.
    NaN gives 0.
    """
    if math.isnan(measured):
        return 0.0
    share = (measured - floor) / (target - floor)
    return max_points * min(max(share, 0.0), 1.0)


def measured(name: str, value: float, figure: Figure, share: float = 1.0, message: str = "") -> Row:
    """The row of one figure; ``share`` in 0..1 scales its points (a precondition partly met)."""
    points = credit(value, figure.target, figure.floor, figure.points) * share
    status = "ok" if points >= figure.points - 1e-9 else "failed"
    return Row(
        name,
        value,
        figure.target,
        points,
        figure.points,
        figure.unit,
        figure.reference,
        message if status == "failed" else "",
        status,
        figure.floor,
    )


def inconclusive(row: Row, message: str) -> Row:
    """The same row with full points, marked for a person."""
    return replace(row, points=row.max_points, message=message, status="inconclusive")


def compare(
    name: str,
    got: Any,
    expected: Any,
    points: float,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    exact: bool = False,
) -> Row:
    """Full points when ``got`` equals ``expected`` in structure, type, shape and value."""
    difference = _difference(got, expected, "value", 0.0 if exact else atol, 0.0 if exact else rtol)
    return passed(name, difference is None, points, difference or "")


def _difference(got: Any, expected: Any, where: str, atol: float, rtol: float) -> str | None:
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected, where, atol, rtol)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"{where}: got {_short(got)}, expected {len(expected)} entries"
        pairs = [
            (g, e, f"{where}[{i}]") for i, (g, e) in enumerate(zip(got, expected, strict=True))
        ]
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"{where}: got {_short(got)}, expected the keys {sorted(expected)}"
        pairs = [(got[k], expected[k], f"{where}[{k!r}]") for k in expected]
    elif isinstance(expected, float):
        number = got if isinstance(got, (int, float)) and not isinstance(got, bool) else math.nan
        if isinstance(got, torch.Tensor) and got.numel() == 1:
            number = float(got)
        close = math.isclose(number, expected, rel_tol=rtol, abs_tol=atol)
        return None if close else f"{where}: got {_short(got)}, expected {expected}"
    else:
        same = type(got) is type(expected) and got == expected
        return None if same else f"{where}: got {_short(got)}, expected {_short(expected)}"
    return next((d for g, e, w in pairs if (d := _difference(g, e, w, atol, rtol))), None)


def _tensor_difference(
    got: Any, expected: torch.Tensor, where: str, atol: float, rtol: float
) -> str | None:
    if not isinstance(got, torch.Tensor):
        return f"{where}: got a {type(got).__name__}, expected a tensor {tuple(expected.shape)}"
    if got.shape != expected.shape:
        return f"{where}: got shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() != expected.is_floating_point() or (
        (got.dtype == torch.bool) != (expected.dtype == torch.bool)
    ):
        return f"{where}: got dtype {got.dtype}, expected {expected.dtype}"
    close = torch.isclose(got.double(), expected.double(), atol=atol, rtol=rtol)
    if bool(close.all()):
        return None
    index = tuple(int(i) for i in torch.nonzero(~close)[0]) if close.ndim else ()
    wrong = int((~close).sum())
    return (
        f"{where}: {wrong} of {close.numel()} entries differ, first at {index}: "
        f"got {got[index].item()}, expected {expected[index].item()}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


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
