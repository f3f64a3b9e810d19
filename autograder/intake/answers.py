"""Find a student's answers in a notebook, whatever an editor has made of it.

An answer is known by nbgrader's grade id, else by its cell id, else by what its stub begins with;
only a unique match counts. Several cells with one id are one answer
(:mod:`autograder.intake.pieces`). Whatever was repaired is told; what could not be is a problem.
Leaves out reading a file, which is :mod:`autograder.intake.reading`'s, and never runs anything.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autograder.contract.cells import grade_id, is_judged, is_solution
from autograder.intake.pieces import Cell, Slot, bound, one_of, parsed, plain

IMPORTS = (ast.Import, ast.ImportFrom)
REPAIRED, LOST = "repaired: ", "not found: "  # what a line for people begins with
MAX_NAMED = 3  # answers that one line of repairs names


@dataclass(frozen=True)
class Answers:
    """What was found of the answers.

    Args:
        sources: text by grade id.
        versions: where several cells had one id and were not one text: all of them, for a person.
        repairs: what was done to find them, for the top of the feedback.
        missing: grade ids without an answer.
        elsewhere: grade ids whose names another cell defines; their stub must not undo it.
        own: code that is nobody's: (number of released cells before it, source).
        changed: given cells whose text is another one now: their number among the released cells.
    """

    sources: Mapping[str, str]
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
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
        if how:
            repairs.append((name, how))
        if differ:
            versions[name] = tuple(texts)
    own, changed = _others(base, handed_in, places)
    elsewhere = _elsewhere(wanted, sources, [source for _, source in own])
    repairs += [(name, "defined in another cell") for name in elsewhere]
    missing = [name for name in wanted if name not in {*sources, *elsewhere}]
    return Answers(
        sources, versions, _said(repairs), tuple(missing), tuple(elsewhere), own, changed
    )


def is_another(base: Sequence[Any], found: Answers) -> bool:
    """Tell whether a notebook is not this lab's: it has none of the code that is asked for.

    Written answers do not tell: the labs share their ids.
    """
    asked = [slot.name for slot in slots(base) if slot.kind == "code"]
    return bool(asked) and not any(name in {*found.sources, *found.elsewhere} for name in asked)


def _said(repairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """One line for each kind of repair, with some of the answers by name."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, how in repairs:
        names[how].append(name)
    return tuple(
        f"{', '.join(found[:MAX_NAMED])}"
        + (f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else "")
        + f": {how}"
        for how, found in names.items()
    )


def _placed(
    wanted: Mapping[str, Slot], base: Sequence[Any], handed_in: Sequence[Cell]
) -> tuple[dict[str, list[int]], list[tuple[str, str]]]:
    """Where the cells of each answer are, and what was done to find those without an id."""
    places: dict[str, list[int]] = defaultdict(list)
    repairs: list[tuple[str, str]] = []
    for place, cell in enumerate(handed_in):
        if cell.name is not None and cell.name in wanted:
            places[cell.name].append(place)
    for name, slot in wanted.items():
        found = [p for p, cell in enumerate(handed_in) if cell.name is None and name in cell.ids]
        if not places[name] and found:
            places[name] = found
            repairs.append((name, "found by its cell id, without nbgrader's metadata"))
        # A copy of another kind beside the answer is one that was switched off.
        alive = [place for place in places[name] if handed_in[place].kind == slot.kind]
        if any(not slot.is_empty(handed_in[place].source) for place in alive):
            places[name] = alive
    free = _free(base, handed_in, {place for found in places.values() for place in found})
    idle = [
        slot
        for name, slot in wanted.items()
        if all(slot.is_empty(handed_in[place].source) for place in places[name])
    ]
    for slot, place in _by_beginning(idle, handed_in, free):
        where = "in a cell of your own, the given one is empty" if places[slot.name] else "no id"
        places[slot.name].append(place)
        repairs.append((slot.name, f"found by what it begins with, {where}"))
    for slot in (slot for slot in wanted.values() if slot.kind != "code" and places[slot.name]):
        if below := _continued(base, handed_in, free, places, slot):
            places[slot.name] += below
            repairs.append((slot.name, "continued in the cell below"))
    return places, repairs


def _free(base: Sequence[Any], handed_in: Sequence[Cell], taken: set[int]) -> list[int]:
    """Places of cells that may hold an answer: nobody's, or given ones with another text."""
    given = {key: cell for cell in base for key in (grade_id(cell), cell.get("id")) if key}
    free = []
    for place, cell in enumerate(handed_in):
        known = next((given[one] for one in (cell.name, *cell.ids) if one in given), None)
        if place not in taken and (known is None or plain(known.source) != cell.plain):
            free.append(place)
    return free


def _by_beginning(
    idle: Sequence[Slot], handed_in: Sequence[Cell], free: Sequence[int]
) -> list[tuple[Slot, int]]:
    """Slots without work, each with the only free cell that begins like its stub.

    Of cells of another kind than the slot's only where none of its own begins so.
    """
    pairs = [(slot, place) for slot in idle for place in free if slot.begun_by(handed_in[place])]
    own = {slot.name for slot, place in pairs if handed_in[place].kind == slot.kind}
    pairs = [(s, p) for s, p in pairs if handed_in[p].kind == s.kind or s.name not in own]
    of_slot = Counter(slot.name for slot, _ in pairs)
    of_cell = Counter(place for _, place in pairs)
    return [(s, p) for s, p in pairs if of_slot[s.name] == 1 and of_cell[p] == 1]


def _continued(
    base: Sequence[Any],
    handed_in: Sequence[Cell],
    free: Sequence[int],
    places: Mapping[str, list[int]],
    slot: Slot,
) -> list[int]:
    """Cells of text that are nobody's, directly below a written answer."""
    given = {key for cell in base for key in (grade_id(cell), cell.get("id"))}
    texts = {plain(cell.source) for cell in base}
    loose = {
        place
        for place in set(free).difference(*places.values())
        if handed_in[place].kind == slot.kind
        and not given & {handed_in[place].name, *handed_in[place].ids} - {None}
        and handed_in[place].plain not in texts
    }
    below, place = [], places[slot.name][-1] + 1
    while place in loose:
        below.append(place)
        place += 1
    return below


def _elsewhere(
    wanted: Mapping[str, Slot], sources: Mapping[str, str], own: Sequence[str]
) -> list[str]:
    """Slots without work whose names another answer or an own cell binds."""
    idle = [
        slot
        for name, slot in wanted.items()
        if slot.kind == "code" and slot.begins and slot.is_empty(sources.get(name, ""))
    ]
    if not idle:
        return []
    texts = {**sources, **{f"own {number}": text for number, text in enumerate(own)}}
    names = {key: set(bound(parsed(text))) for key, text in texts.items()}
    return [
        slot.name
        for slot in idle
        if any(set(slot.begins) <= found for key, found in names.items() if key != slot.name)
    ]


def _others(
    base: Sequence[Any], handed_in: Sequence[Cell], places: Mapping[str, list[int]]
) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    """Code that is no answer, at its place: own cells, imports added to given ones; which changed.

    A place is the number of released cells before it, in the student's order; a cell that was moved
    does not count.
    """
    answers = {place: name for name, found in places.items() for place in found}
    number = {grade_id(cell) or cell.get("id"): at for at, cell in enumerate(base, 1)}
    texts = {plain(cell.source): at for at, cell in enumerate(base, 1)}
    ats = []
    for place, cell in enumerate(handed_in):
        known = answers.get(place) or next(
            (one for one in (cell.name, *cell.ids) if one in number), None
        )
        ats.append(number.get(known) or texts.get(cell.plain) or 0)
    unmoved = _increasing(ats)
    own, changed, after = [], [], 0
    for place, (cell, at) in enumerate(zip(handed_in, ats, strict=True)):
        if not at:
            if cell.kind == "code" and cell.source.strip():
                own.append((after, cell.source))
            continue
        given = base[at - 1]
        if place not in answers and given.cell_type == "code" and not is_solution(given):
            if added := _added_imports(cell.source, given.source):
                own.append((min(after, at - 1), added))
            if _is_changed(cell, given):
                changed.append(at)
        if place in unmoved:
            after = at
    return tuple(own), tuple(changed)


def _increasing(ats: Sequence[int]) -> set[int]:
    """Places of a longest increasing subsequence of what is not 0: cells that were not moved."""
    tails: list[int] = []  # the smallest end of a subsequence of each length, and its place
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for place, at in enumerate(ats):
        if at:
            length = bisect_left(tails, at)
            tails[length : length + 1] = [at]
            ends[length : length + 1] = [place]
            before[place] = ends[length - 1] if length else None
    found, place_or_none = set(), ends[-1] if ends else None
    while place_or_none is not None:
        found.add(place_or_none)
        place_or_none = before[place_or_none]
    return found


def _is_changed(cell: Cell, given: Any) -> bool:
    """Whether a given cell says something else; of a check only what it binds would be missed."""
    if is_judged(given):
        rest = [node for node in parsed(cell.source) if not isinstance(node, IMPORTS)]
        return any(bound(rest))
    return cell.plain.lstrip("# ") != plain(given.source).lstrip("# ")


def _added_imports(source: str, given: str) -> str:
    """Imports at the top of a cell that are not in its released text."""
    known = {ast.unparse(node) for node in parsed(given) if isinstance(node, IMPORTS)}
    found = [ast.unparse(node) for node in parsed(source) if isinstance(node, IMPORTS)]
    return "\n".join(line for line in found if line not in known)
