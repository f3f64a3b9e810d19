"""How long a lecture takes to read, and what keeps it from being read well.

Minutes = lines of code / 10 + words / 200 + half a minute a figure + one a prediction. Lines are
the non-blank ones of all code cells but the setup cell, comments included, split at 88 columns and
at ``;``, and those that the notebook shows of the library; words are Markdown without code, tables
and addresses. At most ninety. The rules behind the rest stand in docs/STYLE.md.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nbformat import NotebookNode

from authoring.replay import Cell
from codesign.listing import MIME as LISTING
from codesign.predictions import MIME as PREDICTION

MINUTES = 90
RUN = 30  # lines of code without a sentence between them
COLUMNS = 88
PREDICTIONS, CHANGES = 4, 2  # at least
LEFT_OUT = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|<[^>]*>|https?://\S+|^\|.*$", re.S | re.M)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
SECTION = re.compile(r"^## (?:\d+\. )?(.+?)$\n+(.*?)(?=\n\n|\Z)", re.M | re.S)
SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
UNASKED = ("limits", "claims", "discussion", "further reading")  # sections that answer nothing


@dataclass(frozen=True)
class Reading:
    """What a notebook asks of its reader."""

    lines: int
    words: int
    figures: int
    predictions: int

    @property
    def minutes(self) -> float:
        """By the formula above."""
        return self.lines / 10 + self.words / 200 + self.figures / 2 + self.predictions

    def __str__(self) -> str:
        return (
            f"{self.minutes:.0f} minutes: {self.lines} lines, {self.words} words, "
            f"{self.figures} figures, {self.predictions} predictions"
        )


def measure(notebook: NotebookNode) -> Reading:
    """Count an executed notebook."""
    code, outputs = list(_code(notebook)), list(_outputs(notebook))
    listed = sum(data[LISTING]["lines"] for data in outputs if LISTING in data)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return Reading(
        lines=sum(lines(cell.source) for cell in code) + listed,
        words=len(words(text)),
        figures=sum("image/png" in data for data in outputs),
        predictions=sum(cell.source.count("plot.predict(") for cell in code),
    )


def lines(source: str) -> int:
    """Lines of code as they are read."""
    parts = (part for line in source.splitlines() for part in line.split(";") if part.strip())
    return sum(math.ceil(len(part.rstrip()) / COLUMNS) for part in parts)


def words(markdown: str) -> list[str]:
    """Words of prose."""
    text = LINK.sub(r"\1", markdown)
    return [word for word in LEFT_OUT.sub(" ", text).split() if re.search(r"\w", word)]


def problems(notebook: NotebookNode, whole: bool = True) -> list[str]:
    """What an executed lecture lacks; an empty list when it reads well.

    Args:
        whole: False: a further part, which need not ask or let the reader change anything.
    """
    found, cells = [], _cells(notebook)
    reading = measure(notebook)
    if reading.minutes > MINUTES:
        found.append(f"got {reading}; allowed: {MINUTES} minutes")
    found += [f"{count} lines of code before {text!r}" for count, text in _long_runs(notebook)]
    found += [f"{name} is bound in cells {numbers}" for name, numbers in bound_twice(cells)]
    found += [f"cell {number} binds {name}, a module" for name, number in shadowed(cells)]
    for data, metadata in _with_metadata(notebook):
        if "image/png" in data and not metadata.get("image/png", {}).get("alt"):
            found.append("a figure without alternative text (plot.show)")
    if not any("diagram." in cell.source for cell in cells):
        found.append("no diagram (codesign.diagram)")
    if whole and reading.predictions < PREDICTIONS:
        found.append(f"got {reading.predictions} predictions; allowed: {PREDICTIONS} or more")
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    if whole and (changes := text.count("**Change this")) < CHANGES:
        found.append(f"got {changes} 'Change this'; allowed: {CHANGES} or more")
    for title, opening in SECTION.findall(text):
        if not title.lower().startswith(UNASKED) and "?" not in title + opening:
            found.append(f"section {title!r} opens without a question")
    return found


def given_away(notebook: NotebookNode) -> list[str]:
    """Questions above which their answer, as measured, can be read already."""
    answers = {}
    for data in _outputs(notebook):
        if PREDICTION in data:
            said = re.search(r"measured (\S+(?: \S+)?), ", data["text/plain"])
            # A single digit stands everywhere.
            if said and len(re.sub(r"\D", "", said[1])) > 1:
                answers[data[PREDICTION]["question"]] = said[1]
    found, above = [], ""
    for cell in notebook.cells:
        for question, shown in answers.items():
            number = rf"(?<![\d.,]){re.escape(shown)}(?!\d|[.,]\d)"
            if f"Predict: {question}" in _printed(cell) and re.search(number, above):
                found.append(f"{question}: {shown}")
        above += f"{cell.source}\n{_printed(cell)}\n"
    return found


def _printed(cell: NotebookNode) -> str:
    """The text of a cell's outputs."""
    outputs = cell.get("outputs", [])
    texts = (one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)
    return "\n".join(texts)


def bound_twice(cells: Sequence[Cell]) -> list[tuple[str, list[int]]]:
    """Names that one cell reads of another, bound by several; what stays in its cell is free."""
    binds = {cell.number: _bound(cell.tree) for cell in cells}
    found = []
    for name in sorted(set().union(*binds.values())):
        numbers = [number for number, names in binds.items() if name in names]
        read = any(name in _open(cell) for cell in cells)
        if len(numbers) > 1 and read:
            found.append((name, numbers))
    return found


def shadowed(cells: Sequence[Cell]) -> list[tuple[str, int]]:
    """Imported names that a later cell binds."""
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for cell in cells
        for node in ast.walk(cell.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return [
        (name, cell.number)
        for cell in cells
        for name in sorted(imported & (_bound(cell.tree, imports=False) - {"_"}))
    ]


def _bound(tree: ast.AST, imports: bool = True) -> set[str]:
    """Names that the statements of a cell bind, outside of functions and comprehensions."""
    found: set[str] = set()
    for node in _outside(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif imports and isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return found


def _open(cell: Cell) -> set[str]:
    """Names that a cell reads before it binds them, or in a function that it defines."""
    found: set[str] = set()
    bound: set[str] = set()
    for statement in cell.tree.body:
        inside = isinstance(statement, ast.FunctionDef | ast.ClassDef)
        own = _local(statement) if inside else _inner(statement)
        stores = _bound(ast.Module([statement], []))
        loads = {
            node.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        early = _early(statement)
        found |= (loads | early) - bound - own - (set() if inside else stores - early)
        bound |= stores
    return found


def _early(statement: ast.stmt) -> set[str]:
    """Names that a plain assignment reads on its right, before it binds them."""
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        inner = {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name)}
        return inner - _comprehended(statement.value)
    return {statement.target.id} if _augments(statement) else set()  # type: ignore[attr-defined]


def _augments(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name)


def _comprehended(node: ast.AST) -> set[str]:
    return {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _local(definition: ast.AST) -> set[str]:
    names = {n.arg for n in ast.walk(definition) if isinstance(n, ast.arg)}
    return names | _comprehended(definition)


def _inner(statement: ast.stmt) -> set[str]:
    """Names of comprehensions and lambdas, which end with them."""
    scopes = (n for n in ast.walk(statement) if isinstance(n, SCOPES))
    return set().union(*(_local(scope) for scope in scopes))


def _outside(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that are not inside of a function, a class, a lambda or a comprehension."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, *SCOPES)):
            yield from _outside(node)


def _long_runs(notebook: NotebookNode) -> Iterator[tuple[int, str]]:
    """Runs of code cells longer than RUN lines with no prose between them."""
    count = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            count = 0
        elif "setup" not in cell.metadata.get("tags", []):
            own = lines(cell.source)
            if count <= RUN < count + own:
                yield count + own, cell.source.strip().splitlines()[0]
            count += own


def _cells(notebook: NotebookNode) -> list[Cell]:
    return [Cell(number, cell.source) for number, cell in enumerate(_code(notebook), 1)]


def _code(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", []):
            yield cell


def _with_metadata(notebook: NotebookNode) -> Iterator[tuple[dict, dict]]:
    for cell in _code(notebook):
        for output in cell.get("outputs", []):
            yield output.get("data", {}), output.get("metadata", {})


def _outputs(notebook: NotebookNode) -> Iterator[dict]:
    return (data for data, _ in _with_metadata(notebook))
