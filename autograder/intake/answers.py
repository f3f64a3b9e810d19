"""Find a student's answers in a notebook, whatever an editor has made of it.

An answer is known by nbgrader's grade id, else by its cell id, else by what its stub begins with;
only a unique match counts. Several cells with one id are one answer: a copy, a stub beside the
work, or pieces of a split cell. Whatever was repaired is told; what could not be is a problem.
Leaves out reading a file, which is :mod:`autograder.intake.reading`'s, and never runs anything.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autograder.contract.cells import grade_id, is_judged, is_solution
from autograder.contract.definitions import parsed

NAMES = re.compile(r"^(?:#\s*)?(?:(?:async\s+def|def|class)\s+(\w+)|(\w+(?:,\s*\w+)*)\s*=(?!=))")
IMPORTS = (ast.Import, ast.ImportFrom)
REPAIRED, LOST = "repaired: ", "not found: "  # what a line for people begins with
MAX_PARSED = 20_000  # characters; some texts of ten times as many take gigabytes


@dataclass(frozen=True)
class Cell:
    """One cell as handed in: its kind, its text, nbgrader's id and the ids that it may go by."""

    kind: str
    source: str
    name: str | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A cell that students write into, as it was handed out."""

    name: str
    kind: str
    stub: str

    @property
    def begins(self) -> tuple[str, ...]:
        """What the answer defines, by the stub; of prose, its first line."""
        first = next((line for line in self.stub.splitlines() if line.strip()), "")
        if self.kind != "code":
            return (plain(first),) if first else ()
        found = NAMES.match(first)
        return tuple(re.split(r",\s*", found[1] or found[2])) if found else ()

    def is_empty(self, text: str) -> bool:
        """Whether nothing was written: no text, or the stub."""
        return plain(text) in ("", plain(self.stub))


@dataclass(frozen=True)
class Answers:
    """What was found of the answers.

    Args:
        sources: text by grade id.
        versions: where several cells had one id and were not one text: all of them, for a person.
        repairs: what was done to find them, for the top of the feedback.
        missing: grade ids without an answer.
        own: code that is nobody's: (number of released cells before it, source).
        changed: given cells whose text is another one now: their number among the released cells.
    """

    sources: Mapping[str, str]
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    own: tuple[tuple[int, str], ...] = ()
    changed: tuple[int, ...] = ()


def slots(base: Iterable[Any]) -> list[Slot]:
    """The cells of a released notebook that students write into."""
    return [
        Slot(name, cell.cell_type, cell.source)
        for cell in base
        if (name := grade_id(cell)) is not None and is_solution(cell)
    ]


def find(base: Sequence[Any], handed_in: Sequence[Cell]) -> Answers:
    """The answers among ``handed_in`` to the slots of the released cells ``base``."""
    wanted = {slot.name: slot for slot in slots(base)}
    places, repairs = _placed(wanted, base, handed_in)
    sources: dict[str, str] = {}
    versions: dict[str, tuple[str, ...]] = {}
    for name, slot in wanted.items():
        texts = [handed_in[place].source for place in places[name]]
        if not texts:
            continue
        sources[name], how, differ = one_of(texts, slot)
        repairs += [f"{name}: {how}"] * bool(how)
        if differ:
            versions[name] = tuple(texts)
    missing = tuple(name for name in wanted if name not in sources)
    own, changed = _others(base, handed_in, places)
    return Answers(sources, versions, tuple(repairs), missing, own, changed)


def is_another(base: Sequence[Any], found: Answers) -> bool:
    """Tell whether a notebook is not this lab's: it has none of the code that is asked for.

    Written answers do not tell: the labs share their ids.
    """
    asked = [slot.name for slot in slots(base) if slot.kind == "code"]
    return bool(asked) and not any(name in found.sources for name in asked)


def _placed(
    wanted: Mapping[str, Slot], base: Sequence[Any], handed_in: Sequence[Cell]
) -> tuple[dict[str, list[int]], list[str]]:
    """Where the cells of each answer are, and what was done to find those without an id."""
    places: dict[str, list[int]] = defaultdict(list)
    repairs: list[str] = []
    for place, cell in enumerate(handed_in):
        if cell.name is not None and cell.name in wanted:
            places[cell.name].append(place)
    for name in wanted:
        found = [p for p, cell in enumerate(handed_in) if cell.name is None and name in cell.ids]
        if not places[name] and found:
            places[name] = found
            repairs.append(f"{name}: found by its cell id, without nbgrader's metadata")
    given = {grade_id(cell) or cell.get("id") for cell in base}
    taken = {place for found in places.values() for place in found}
    free = [
        place
        for place, cell in enumerate(handed_in)
        if place not in taken and not given & {cell.name, *cell.ids}
    ]
    idle = [
        slot
        for name, slot in wanted.items()
        if all(slot.is_empty(handed_in[place].source) for place in places[name])
    ]
    for slot, place in _by_beginning(idle, handed_in, free):
        how = "in a cell of your own, where the given one is empty" if places[slot.name] else ""
        places[slot.name].append(place)
        how = how or "without an id"
        repairs.append(f"{slot.name}: found by what it begins with, {how}")
    return places, repairs


def one_of(texts: Sequence[str], slot: Slot) -> tuple[str, str, bool]:
    """The one answer that several cells with one id hold, what was done, and whether they differ.

    Identical texts are one; an empty one or the stub gives way; pieces of a split cell are joined;
    else the last counts.
    """
    written = list(dict.fromkeys(text for text in texts if not slot.is_empty(text)))
    if len(texts) == 1 or not written:
        return texts[-1], "", False
    if len(written) == 1:
        return written[0], "", False
    if _are_pieces(written, slot):
        return "\n".join(written), f"{len(written)} cells with one id: joined in order", True
    return written[-1], f"{len(written)} cells with one id: the last one counts", True


def _are_pieces(texts: Sequence[str], slot: Slot) -> bool:
    """Whether the texts are pieces of one cell: none binds, or begins, what another one does."""
    if slot.kind != "code":
        return not any(plain(text).startswith(slot.begins) for text in texts[1:])
    bodies = [_parsed(text) for text in texts]
    if not all(bodies):  # cut within a statement: only the whole is Python
        return bool(_parsed("\n".join(texts)))
    counted = Counter(name for body in bodies for name in set(_bound(body)))
    return max(counted.values(), default=0) <= 1


def _bound(body: Iterable[ast.stmt]) -> Iterable[str]:
    """Functions, classes and variables that statements bind."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id


def _by_beginning(
    idle: Sequence[Slot], handed_in: Sequence[Cell], free: Sequence[int]
) -> list[tuple[Slot, int]]:
    """Slots without work, each with the only free cell that begins like its stub."""
    pairs = [(slot, place) for slot in idle for place in free if begins(handed_in[place], slot)]
    of_slot = Counter(slot.name for slot, _ in pairs)
    of_cell = Counter(place for _, place in pairs)
    return [(s, p) for s, p in pairs if of_slot[s.name] == 1 and of_cell[p] == 1]


def begins(cell: Cell, slot: Slot) -> bool:
    """Tell whether a cell begins what the stub of a slot begins, and is not that stub."""
    if not slot.begins or slot.is_empty(cell.source):
        return False
    if slot.kind != "code":
        return plain(cell.source).startswith(slot.begins[0])
    found = {
        name
        for line in cell.source.splitlines()
        if line[:1] != "#" and (match := NAMES.match(line))
        for name in re.split(r",\s*", match[1] or match[2])
    }
    return set(slot.begins) <= found


def _others(
    base: Sequence[Any], handed_in: Sequence[Cell], places: Mapping[str, list[int]]
) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    """Code that is no answer, at its place: own cells, imports added to given ones; which changed.

    A place is the number of released cells before it, in the student's order.
    """
    answers = {place: name for name, found in places.items() for place in found}
    number = {grade_id(cell) or cell.get("id"): at for at, cell in enumerate(base, 1)}
    texts = {plain(cell.source): at for at, cell in enumerate(base, 1)}
    own, changed, after = [], [], 0
    for place, cell in enumerate(handed_in):
        known = answers.get(place) or next(
            (one for one in (cell.name, *cell.ids) if one in number), None
        )
        at = number.get(known) or texts.get(plain(cell.source))
        if at:
            given = base[at - 1]
            if place not in answers and given.cell_type == "code":
                if added := _added_imports(cell.source, given.source):
                    own.append((min(after, at - 1), added))
                if not is_judged(given) and plain(cell.source) != plain(given.source):
                    changed.append(at)
            after = max(after, at)
        elif cell.kind == "code" and cell.source.strip():
            own.append((after, cell.source))
    return tuple(own), tuple(changed)


def _added_imports(source: str, given: str) -> str:
    """Imports at the top of a cell that are not in its released text."""
    known = {ast.unparse(node) for node in _parsed(given) if isinstance(node, IMPORTS)}
    found = [ast.unparse(node) for node in _parsed(source) if isinstance(node, IMPORTS)]
    return "\n".join(line for line in found if line not in known)


def _parsed(text: str) -> list[ast.stmt]:
    """The statements of a text; of a very long one, or of what is no Python: none."""
    return parsed(text) if len(text) <= MAX_PARSED else []


def plain(text: str) -> str:
    """A text without differences that editors make: line ends, trailing blanks, doubled spaces."""
    return re.sub(r"\s+", " ", text).strip()
