"""Load what a lab's solution notebook defines without running its trainings, and stand-in students.

A lab needs nothing here: imports, definitions and constants are found in its percent source.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import jupytext

from codesign.datasets import DatasetCard

SOLUTIONS = Path(__file__).parents[3] / "solutions"
DEFINES = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def cells(lab: str) -> list[Any]:
    """The cells of a lab's source."""
    return jupytext.read(SOLUTIONS / lab / f"{lab}.py").cells


def definitions(lab: str, source: str = "") -> dict[str, Any]:
    """What the notebook imports, defines and sets without a call, then ``source``.

    Every call gives a fresh namespace, so that a wrong ``source`` reaches what calls it.
    """
    card = DatasetCard("glyphs", "val", (), "", "")
    namespace: dict[str, Any] = {"lab": SimpleNamespace(seed=0, val=SimpleNamespace(card=card))}
    for statement in _statements(lab):
        with contextlib.suppress(NameError, AttributeError):  # made of what a training gives
            exec(statement, namespace)
    exec(source, namespace)
    return namespace


@lru_cache
def _statements(lab: str) -> list[CodeType]:
    text = "\n".join(cell.source for cell in cells(lab) if cell.cell_type == "code")
    return [
        compile(ast.Module([node], []), lab, "exec")
        for node in ast.parse(text).body
        if isinstance(node, DEFINES) and not (_calls(node) or _is_lab(node))
    ]


def _calls(node: ast.stmt) -> bool:
    """Whether a statement does more than define: a training, a measurement."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return False
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _is_lab(node: ast.stmt) -> bool:
    """Whether a statement imports what only runs in a notebook."""
    return isinstance(node, ast.ImportFrom) and node.module == "autograder"


def stubs(namespace: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every name of a namespace, as the release has its functions: not written yet."""

    def stub(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    return ((name, stub) for name in namespace)


class Same:
    """A student whose every function returns the same."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def call(self, function: str, *args: Any, deadline_s: float = 0.0, **kwargs: Any) -> Any:
        """Answer whatever is asked."""
        return self.value
