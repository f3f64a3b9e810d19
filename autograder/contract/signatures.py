"""What a lab promises about a student's functions: types, shapes and ranges, written once.

A lab's ``signatures.py`` holds one :class:`Signature` for each function. The line of the docstring
that tells students, the guard under which given cells and checks call the function, and the corner
cases of its checks come from it. Nothing here is secret.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Bound = float | None


class NotPromised(Exception):
    """A call or an answer that the signature does not allow; says what was got and is allowed."""


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Args:
        shape: names and numbers, ``"c_out c_in 3 3"``; ``"..."`` stands for any dimensions, ``""``
            for none. One name is one size in all arguments of a call and its answer.
        dtypes: allowed ones, without ``torch.``; ``"float"`` is any floating type.
        low, high: ends of the range of values, both included; None: no end.
    """

    shape: str
    dtypes: tuple[str, ...] = ("float32",)
    low: Bound = None
    high: Bound = None

    def __str__(self) -> str:
        shape = ", ".join(self.shape.split())
        return f"{' or '.join(self.dtypes)} [{shape}]{_range(self.low, self.high)}"

    def fault(self, value: Any, sizes: dict[str, Any]) -> str | None:
        """Say what is not as promised; binds names of sizes."""
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        if not hasattr(value, "is_floating_point"):
            return f"got a {type(value).__name__}, allowed: {self}"
        floating = "float" in self.dtypes and value.is_floating_point()
        if dtype not in self.dtypes and not floating:
            return f"got {dtype}, allowed: {self}"
        if not _fits(self.shape.split(), list(value.shape), sizes):
            return f"got shape {list(value.shape)}, allowed: {self} with {sizes}"
        if value.numel() and self.low is not None and float(value.min()) < self.low:
            return f"got {float(value.min())}, allowed: {self}"
        if value.numel() and self.high is not None and float(value.max()) > self.high:
            return f"got {float(value.max())}, allowed: {self}"
        return None


@dataclass(frozen=True)
class Number:
    """An integer (``whole``) or a float in a range, both ends included."""

    whole: bool = True
    low: Bound = None
    high: Bound = None

    def __str__(self) -> str:
        return f"{'int' if self.whole else 'float'}{_range(self.low, self.high)}"

    def fault(self, value: Any, sizes: dict[str, Any]) -> str | None:
        """Say what is not as promised."""
        right = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        if isinstance(value, bool) or not right:
            return f"got {value!r}, allowed: {self}"
        low = self.low if self.low is not None else float("-inf")
        high = self.high if self.high is not None else float("inf")
        return None if low <= value <= high else f"got {value!r}, allowed: {self}"


@dataclass(frozen=True)
class Many:
    """A list (or tuple) of ``low`` to ``high`` values of one kind."""

    of: Kind
    low: int = 0
    high: int | None = None

    def __str__(self) -> str:
        return f"list of {self.of}"

    def fault(self, value: Any, sizes: dict[str, Any]) -> str | None:
        """Say what is not as promised."""
        if not isinstance(value, (list, tuple)):
            return f"got a {type(value).__name__}, allowed: {self}"
        if not self.low <= len(value) <= (self.high if self.high is not None else len(value)):
            return f"got {len(value)} entries, allowed: {self.low} to {self.high}"
        faults = (self.of.fault(one, sizes) for one in value)
        return next((f"[{i}]: {text}" for i, text in enumerate(faults) if text), None)


@dataclass(frozen=True)
class Other:
    """A value of a class, by its name or that of one it inherits from; ``text`` describes it."""

    text: str
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    def fault(self, value: Any, sizes: dict[str, Any]) -> str | None:
        """Say what is not as promised."""
        names = {kind.__name__ for kind in type(value).__mro__}
        return (
            None if names & set(self.classes) else f"got a {type(value).__name__}, allowed: {self}"
        )


@dataclass(frozen=True)
class Either:
    """A value of one of several kinds."""

    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.kinds))

    def fault(self, value: Any, sizes: dict[str, Any]) -> str | None:
        """Say what is not as promised."""
        found = [kind.fault(value, dict(sizes)) for kind in self.kinds]
        return None if None in found else found[0]


Kind = Tensor | Number | Many | Other | Either
NONE = Other("None", ("NoneType",))
FLAG = Other("bool", ("bool",))
MODEL = Other("network", ("Module",))


@dataclass(frozen=True)
class Signature:
    """What calls of one function hold.

    Args:
        arguments: kind of each, in the order of the function's parameters.
        returns: kind of the answer.
        sizes: lowest size of a name where it is not 1, and what it is a multiple of:
            ``{"k": (8, 8)}``.
        changes: arguments that the function may alter; all others come back as they went in.
    """

    arguments: Mapping[str, Kind]
    returns: Kind
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The lines that a docstring has about the arguments and the answer."""
        given = [f"{name}: {kind}" for name, kind in self.arguments.items()]
        sizes = [
            f"{name} ≥ {low}" + (f", a multiple of {step}" if step > 1 else "")
            for name, (low, step) in self.sizes.items()
        ]
        return [*given, *sizes, f"{self.returns}"]

    def bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Arguments of a call by name.

        Raises:
            NotPromised: more of them, or others, than the function has.
        """
        names = list(self.arguments)
        if len(args) > len(names) or set(kwargs) - set(names[len(args) :]):
            raise NotPromised(f"got {len(args)} arguments and {sorted(kwargs)}; allowed: {names}")
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def check_call(self, function: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the sizes that a call binds.

        Raises:
            NotPromised: an argument is not as promised.
        """
        sizes: dict[str, Any] = {}
        for name, value in self.bind(*args, **kwargs).items():
            if text := self.arguments[name].fault(value, sizes):
                raise NotPromised(f"{function}({name}): {text}")
        for name, (low, step) in self.sizes.items():
            if name in sizes and (sizes[name] < low or sizes[name] % step):
                raise NotPromised(f"{function}: {name} is {sizes[name]}, allowed: {self.lines()}")
        return sizes

    def check_answer(self, function: str, answer: Any, sizes: Mapping[str, Any]) -> None:
        """Hold an answer against the promise, after the call that bound ``sizes``.

        Raises:
            NotPromised: the answer is of another kind.
        """
        if text := self.returns.fault(answer, dict(sizes)):
            raise NotPromised(f"{function} returns: {text}")

    def corners(self, most: int = 3) -> Iterator[dict[str, int]]:
        """Sizes at the ends of what is promised: each name at its lowest and a little above.

        For ``most`` names all combinations, else one name at its lowest at a time.
        """
        names = sorted(
            {part for kind in self.arguments.values() for part in _names(kind)} | set(self.sizes)
        )
        ends = {n: self.sizes.get(n, (1, 1)) for n in names}
        pairs = {n: (low, low + (2 if step == 1 else step)) for n, (low, step) in ends.items()}
        if len(names) <= most:
            for chosen in itertools.product(*(pairs[n] for n in names)):
                yield dict(zip(names, chosen, strict=True))
            return
        for small in (None, *names):
            yield {n: pairs[n][n != small] for n in names}


def guarded(name: str, function: Any, signature: Signature) -> Any:
    """``function``, but :class:`NotPromised` when a call or its answer breaks the promise."""
    if hasattr(function, "__wrapped__"):
        return function

    @functools.wraps(function)
    def held(*args: Any, **kwargs: Any) -> Any:
        sizes = signature.check_call(name, *args, **kwargs)
        answer = function(*args, **kwargs)
        signature.check_answer(name, answer, sizes)
        return answer

    return held


def _range(low: Bound, high: Bound) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" ≥ {low:g}"
    return f" ≤ {high:g}" if low is None else f" in {low:g}..{high:g}"


def _fits(wanted: list[str], got: list[int], sizes: dict[str, Any]) -> bool:
    """Whether a shape is as wanted; binds the names in it, and ``...`` to what it stands for."""
    if "..." in wanted:
        place = wanted.index("...")
        after = len(wanted) - place - 1
        if len(got) < len(wanted) - 1:
            return False
        middle = got[place : len(got) - after]
        if sizes.setdefault("...", middle) != middle:
            return False
        wanted = wanted[:place] + wanted[place + 1 :]
        got = got[:place] + got[len(got) - after :]
    if len(wanted) != len(got):
        return False
    return all(
        size == (int(name) if name.isdigit() else sizes.setdefault(name, size))
        for name, size in zip(wanted, got, strict=True)
    )


def _names(kind: Kind) -> set[str]:
    """Names of sizes in the shapes of ``kind``."""
    if isinstance(kind, Many):
        return _names(kind.of)
    if isinstance(kind, Either):
        return set().union(*map(_names, kind.kinds))
    if not isinstance(kind, Tensor):
        return set()
    return {part for part in kind.shape.split() if part != "..." and not part.isdigit()}
