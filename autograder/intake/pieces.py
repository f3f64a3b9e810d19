"""Cells as handed in, slots as handed out, and the one answer that several cells with one id hold.

Copies, a stub beside the work, pieces of a split cell, an older try: what editors and people leave.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from autograder.contract import definitions

NAMES = re.compile(r"^(?:#\s*)?(?:(?:async\s+def|def|class)\s+(\w+)|(\w+(?:,\s*\w+)*)\s*=(?!=))")
MAX_PARSED = 20_000  # characters; some texts of ten times as many take gigabytes


@dataclass(frozen=True)
class Cell:
    """One cell as handed in: its kind, its text, nbgrader's id and the ids that it may go by."""

    kind: str
    source: str
    name: str | None = None
    ids: tuple[str, ...] = ()

    @cached_property
    def plain(self) -> str:
        """Its text without what editors change."""
        return plain(self.source)

    @cached_property
    def names(self) -> frozenset[str]:
        """What its lines begin to define, without looking into blocks."""
        return frozenset(
            name
            for line in self.source.splitlines()
            if line[:1] != "#" and (match := NAMES.match(line))
            for name in re.split(r",\s*", match[1] or match[2])
        )


@dataclass(frozen=True)
class Slot:
    """A cell that students write into, as it was handed out."""

    name: str
    kind: str
    stub: str

    @cached_property
    def begins(self) -> tuple[str, ...]:
        """What the answer defines, by the stub; of prose, its first line."""
        first = next((line for line in self.stub.splitlines() if line.strip()), "")
        if self.kind != "code":
            return (plain(first),) if first else ()
        found = NAMES.match(first)
        return tuple(re.split(r",\s*", found[1] or found[2])) if found else ()

    @cached_property
    def plain(self) -> str:
        """The stub without what editors change."""
        return plain(self.stub)

    def is_empty(self, text: str) -> bool:
        """Whether nothing was written: no text, or the stub; of prose, a part of the question."""
        written = plain(text)
        if self.kind != "code":
            return self.plain.startswith(written)
        return written in ("", self.plain)

    def begun_by(self, cell: Cell) -> bool:
        """Whether a cell begins what the stub begins, and is not that stub."""
        if not self.begins or self.is_empty(cell.source):
            return False
        if self.kind != "code":
            return cell.plain.startswith(self.begins[0])
        return set(self.begins) <= cell.names


def one_of(texts: Sequence[str], slot: Slot) -> tuple[str, str, bool]:
    """The one answer that several cells with one id hold, what was done, and whether they differ.

    Identical texts are one; an empty one or the stub gives way; pieces of a split cell are joined;
    of several tries the last counts, with what else has its id.
    """
    written = list(dict.fromkeys(text for text in texts if not slot.is_empty(text)))
    if len(texts) == 1 or not written:
        return texts[-1], "", False
    if len(written) == 1:
        return written[0], "", False
    last = f"{len(texts)} cells with one id, the last one counts"
    joined = f"{len(texts)} cells with one id, joined in order"
    if _are_pieces(written, slot):
        return _joined(written), joined, True
    tries = [text for text in written if slot.begun_by(Cell(slot.kind, text))]
    kept = [text for text in written if text not in tries[:-1]]
    if tries and len(kept) > 1 and _are_pieces(kept, slot):
        return _joined(kept), last, True
    return (tries or written)[-1], last, True


def _joined(texts: Sequence[str]) -> str:
    """Pieces in order; what Python wants at the top goes there."""
    lines = [line for text in texts for line in text.split("\n")]
    future = [line for line in lines if line.startswith("from __future__ ")]
    return "\n".join([*future, *(line for line in lines if line not in future)])


def _are_pieces(texts: Sequence[str], slot: Slot) -> bool:
    """Whether the texts are pieces of one cell: none binds, or begins, what another one does."""
    if slot.kind != "code":
        return not any(plain(text).startswith(slot.begins) for text in texts[1:])
    bodies = [parsed(text) for text in texts]
    if not all(bodies):  # cut within a statement: only the whole is Python
        return bool(parsed("\n".join(texts)))
    counted = Counter(name for body in bodies for name in set(bound(body)))
    return max(counted.values(), default=0) <= 1


def bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Functions, classes and variables that statements bind, those in their blocks, too."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from bound([child])
            elif isinstance(child, ast.ExceptHandler):
                yield from bound(child.body)
            else:
                for part in ast.walk(child):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        yield part.id


def parsed(text: str) -> list[ast.stmt]:
    """The statements of a text; of a very long one, or of what is no Python: none."""
    return definitions.parsed(text) if len(text) <= MAX_PARSED else []


def plain(text: str) -> str:
    """A text without differences that editors make: line ends, trailing blanks, doubled spaces."""
    return re.sub(r"\s+", " ", text).strip()
