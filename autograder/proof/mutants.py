"""Vocabulary for a lab's mutants (wrong solutions) and valid solutions in another style.

A mutant is a named wrong answer that must lose points of its own check alone; a forgery is a mutant
of an artifact. A valid solution is a right answer in another style, which must keep full points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from autograder.contract import artifacts

Forge = Callable[[Path], None]  # alters a copy of the reference artifacts of one dataset


@dataclass(frozen=True)
class Answer:
    """One answer to ``check``.

    Either ``cell`` (a solution cell's id) and its ``source``, or ``artifact`` and ``forge``, which
    alters a copy of the reference artifacts in the given folder.
    """

    name: str
    check: str
    cell: str | None = None
    source: str = ""
    artifact: str | None = None
    forge: Forge | None = None

    def __post_init__(self) -> None:
        if (self.cell is None) == (self.forge is None):
            raise ValueError(f"answer {self.name!r}: give either a cell or a forged artifact")

    @property
    def place(self) -> str:
        """The cell or the artifact that it stands in for."""
        return self.cell or self.artifact or self.check


class Mutant(Answer):
    """One wrong solution."""


class Valid(Answer):
    """One valid solution in another style."""


def wrong(check: str, cell: str | None = None, /, **sources: str) -> list[Mutant]:
    """Make mutants of one solution cell, ``solution_<check>`` unless named: name = source."""
    cell = cell or f"solution_{check}"
    what = cell.removeprefix("solution_")
    return [Mutant(f"{what}: {how}", check, cell, dedent(text)) for how, text in sources.items()]


def changed(
    check: str, right: str, cell: str | None = None, /, **changes: tuple[str, str]
) -> list[Mutant]:
    """Mutants of one solution cell: name = (part of the right answer, what is there instead).

    Raises:
        ValueError: a part that does not occur exactly once.
    """
    sources = {}
    for how, (part, instead) in changes.items():
        if right.count(part) != 1:
            raise ValueError(f"{check}: {part!r} occurs {right.count(part)} times, once is needed")
        sources[how] = right.replace(part, instead)
    return wrong(check, cell, **sources)


def forged(name: str, /, **forgeries: Forge) -> list[Mutant]:
    """Make mutants of one artifact, which carries the name of its check."""
    return [
        Mutant(f"{name}: {how}", name, artifact=name, forge=forge)
        for how, forge in forgeries.items()
    ]


def stored(name: str, text: str) -> Forge:
    """Store ``text`` as the artifact ``name``, a source."""
    return lambda folder: artifacts.store(folder, name, text)


def edited(name: str, *parts: tuple[str, str]) -> Forge:
    """Replace parts of the reference's source ``name``, each of which must occur."""

    def forge(folder: Path) -> None:
        text = artifacts.fetch(folder, name)
        for old, new in parts:
            if old not in text:
                raise ValueError(f"{name}: {old!r} is not in the reference's source")
            text = text.replace(old, new)
        artifacts.store(folder, name, text)

    return forge


def accepted(name: str, /, **made: Forge) -> list[Valid]:
    """Make valid solutions that are artifacts (C, for instance), with ``stored`` or ``edited``."""
    return [
        Valid(f"{name}: {how}", name, artifact=name, forge=forge) for how, forge in made.items()
    ]


def valid(check: str, cell: str | None = None, /, **sources: str) -> list[Valid]:
    """Make valid solutions of one cell, in another style than the reference: name = source."""
    cell = cell or f"solution_{check}"
    what = cell.removeprefix("solution_")
    return [Valid(f"{what}: {how}", check, cell, dedent(text)) for how, text in sources.items()]
