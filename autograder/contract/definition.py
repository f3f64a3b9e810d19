"""Lab definitions and their registry: targets, checks, mutants and valid solutions of one lab.

Labs register themselves here, so that no room below ``labs`` imports one by name. What a student's
notebook needs (name and targets) is read at once; checks, mutants and valid solutions are loaded
when somebody asks, because a sandbox hides them and a wheel for students leaves mutants out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autograder.contract.signatures import Signature, guarded
from autograder.contract.targets import CheckTargets

if TYPE_CHECKING:  # it imports torch, and a list of labs must not
    from autograder.contract.checking import Check

VISIBLE = ("__init__.py", "targets.toml")  # of a lab's folder, to a notebook in the sandbox

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class LabDefinition:
    """One lab.

    Args:
        name: also of its folder, its notebook and its gradebook entry.
        targets: points and figures of every check, in the order of the notebook.
        load_checks: imports its checks; ``{name: function}``.
        load_mutants: imports its wrong answers, of :class:`autograder.proof.mutants.Mutant`.
        load_valid: imports its right answers of other styles, likewise.
        load_signatures: imports what it promises about each of a student's functions.
        folder: where its ``targets.toml`` is; None: it was not read from a file.
    """

    name: str
    targets: Mapping[str, CheckTargets]
    load_checks: Callable[[], Mapping[str, Check]]
    load_mutants: Callable[[], Sequence[Any]] = tuple
    load_valid: Callable[[], Sequence[Any]] = tuple
    load_signatures: Callable[[], Mapping[str, Signature]] = dict
    folder: Path | None = None

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        """Every check's function."""
        return self.load_checks()

    @cached_property
    def mutants(self) -> Sequence[Any]:
        """Every mutant."""
        return self.load_mutants()

    @cached_property
    def valid(self) -> Sequence[Any]:
        """Every valid solution."""
        return self.load_valid()

    @cached_property
    def signatures(self) -> Mapping[str, Signature]:
        """The signature of every function that students write."""
        return self.load_signatures()

    def guard(self, namespace: dict[str, Any]) -> None:
        """Put a guard on each function in ``namespace`` that has a signature and no guard yet."""
        for name in self.signatures.keys() & namespace.keys():
            namespace[name] = guarded(name, namespace[name], self.signatures[name])

    def check(self, name: str) -> Check:
        """One check's function.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.checks:
            raise ValueError(f"got check {name!r}; allowed in {self.name}: {sorted(self.checks)}")
        return self.checks[name]


_labs: dict[str, LabDefinition] = {}


def register(lab: LabDefinition) -> LabDefinition:
    """Make a lab known in this process; one of the same name is replaced."""
    _labs[lab.name] = lab
    return lab


def forget(name: str) -> None:
    """Remove a lab from the registry."""
    _labs.pop(name, None)


def folders() -> list[Path]:
    """The folders of all labs that have one."""
    return sorted(lab.folder for lab in _labs.values() if lab.folder is not None)


def names() -> list[str]:
    """Every lab that is known here."""
    return sorted(_labs)


def find(name: str) -> LabDefinition:
    """The lab of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _labs:
        raise ValueError(f"got lab {name!r}; allowed: {names()}")
    return _labs[name]


def check(name: str) -> Callable[[Function], Function]:
    """Mark a function as the check ``name`` of the lab that lists its module."""

    def mark(function: Function) -> Function:
        function.check_name = name  # type: ignore[attr-defined]
        return function

    return mark


def collected(*modules: Any) -> dict[str, Check]:
    """The marked functions of ``modules``, by name.

    Raises:
        ValueError: two of them have one name.
    """
    found: dict[str, Check] = {}
    for module in modules:
        for function in vars(module).values():
            name = getattr(function, "check_name", None)
            if not isinstance(name, str) or function.__module__ != module.__name__:
                continue
            if name in found:
                raise ValueError(f"got check {name!r} twice; allowed: once")
            found[name] = function
    return found
