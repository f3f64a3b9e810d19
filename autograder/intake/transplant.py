"""Transplant a student's answers into the release: the notebook that the judge runs.

Answers go into the released solution cells, the student's own cells between them, and everything
else that may have been changed (tags, points, checks, metadata) does not exist for the judge. What
was repaired or lost is told in the notebook's metadata. Leaves out files and artifacts, which are
:mod:`autograder.intake.accept`'s.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder.contract.cells import INTAKE, NOT_ACCEPTED, OWN, grade_id, is_solution
from autograder.contract.files import ExchangeError, read_file
from autograder.intake import answers, reading, sanitize
from autograder.intake.answers import LOST, REPAIRED, Answers

MAX_CELL_CHARACTERS = 1_000_000
MAX_OWN_CELLS = 1_000
MAX_TOLD = 20  # given cells that were changed
IMAGE = "](attachment:"  # in a written answer; the image itself is in the cell's metadata
PASTED = LOST + "the image that was pasted into {!r}; of an answer only the text is kept"


@dataclass(frozen=True)
class Transplanted:
    """The notebook to run, and what intake has to say.

    Args:
        notes: why it was refused, what was repaired, what is missing (empty: nothing of these).
        refused: it could not be read, and nothing of it runs.
        waiting: cells for a person that she must see although they look untouched.
        written: how many answers hold work.
    """

    notebook: NotebookNode
    notes: tuple[str, ...] = ()
    refused: bool = False
    waiting: tuple[str, ...] = ()
    written: int = 0


def transplant(base: NotebookNode, submitted: Path) -> Transplanted:
    """Put the answers of ``submitted`` into a copy of the released notebook ``base``.

    A submission that cannot be read gives the release as it is, refused, and the reason; it never
    stops the others. What was done is in the notebook's metadata, too, for the judge.
    """
    notebook = copy.deepcopy(base)
    try:
        handed_in = reading.cells(read_file(submitted, reading.MAX_FILE_BYTES))
        found = answers.find(base.cells, handed_in)
        if answers.is_another(base.cells, found):
            raise ExchangeError("none of the functions that the lab asks for is in it")
    except ExchangeError as error:
        by_hand = [n for cell in base.cells if (n := grade_id(cell)) and is_by_hand(cell)]
        reason = f"{NOT_ACCEPTED}: {error}"
        return _told(Transplanted(notebook, (reason,), True, tuple(by_hand)))
    pasted = {name: PASTED.format(name) for name, text in found.sources.items() if IMAGE in text}
    problems = _put(notebook, found) | pasted
    notes = [
        *problems.values(),
        *(f"{REPAIRED}{repair}" for repair in found.repairs),
        *_of_given_cells(base, found),
    ]
    seen = {*problems, *found.versions, *_beside_own_cells(base, found)}
    lost = [
        name
        for cell in notebook.cells
        if (name := grade_id(cell)) and is_by_hand(cell) and name in seen
    ]
    slots = {slot.name: slot for slot in answers.slots(base.cells)}
    written = sum(not slots[name].is_empty(text) for name, text in found.sources.items())
    written += len(found.elsewhere)
    return _told(Transplanted(notebook, tuple(notes), waiting=tuple(lost), written=written))


def is_by_hand(cell: Any) -> bool:
    """Tell whether a person grades this cell."""
    return is_solution(cell) and bool(cell.metadata.nbgrader.get("grade"))


def _told(done: Transplanted) -> Transplanted:
    done.notebook.metadata[INTAKE] = {
        "notes": list(done.notes),
        "refused": done.refused,
        "waiting": list(done.waiting),
    }
    return done


def _beside_own_cells(base: NotebookNode, found: Answers) -> set[str]:
    """Answers in whose place a cell of the student's own stands directly below."""
    places = {place for place, _ in found.own}
    return {grade_id(cell) or "" for at, cell in enumerate(base.cells, 1) if at in places}


def _put(notebook: NotebookNode, found: Answers) -> dict[str, str]:
    """Put answers and own cells into ``notebook``; return what is lost, by cell."""
    problems = {name: f"{LOST}no cell {name!r} is in the notebook" for name in found.missing}
    own: dict[int, list[NotebookNode]] = defaultdict(list)
    for number, (place, source) in enumerate(found.own, 1):
        cell = new_code_cell(source, id=f"own_{number}", metadata={OWN: True})
        if number > MAX_OWN_CELLS or len(source) > MAX_CELL_CHARACTERS:
            problems[cell.id] = (
                f"{LOST}the {number}th cell of your own ({len(source):,} characters); allowed: "
                f"{MAX_OWN_CELLS:,} cells of {MAX_CELL_CHARACTERS:,}"
            )
        else:
            own[place].append(cell)
    made = own[0]
    for number, cell in enumerate(notebook.cells, 1):
        made.append(cell)
        name = grade_id(cell) or ""
        text = found.sources.get(name)
        if text is not None and len(text) > MAX_CELL_CHARACTERS:
            problems[name] = f"{LOST}cell {name!r} has {len(text):,} characters: too many"
        elif name in found.elsewhere:
            cell.source = ""  # its stub would undo what another cell defines
        elif text is not None:
            cell.source = sanitize.markdown(text) if cell.cell_type == "markdown" else text
        if name in found.versions:
            made.append(_versions(name, found.versions[name]))
        made += own[number]
    notebook.cells = made
    return problems


def _versions(name: str, texts: Iterable[str]) -> NotebookNode:
    """A cell for the person who grades: all that had one id, as it was written."""
    most = sanitize.MAX_MARKDOWN
    shown = [text if len(text) <= most else f"{text[:most]}\n[cut here]" for text in texts]
    kept = "\n\n".join(map(sanitize.fenced, shown))
    return new_markdown_cell(f"Every cell that had the id of `{name}`:\n\n{kept}")


def _of_given_cells(base: NotebookNode, found: Answers) -> list[str]:
    if not found.changed:
        return []
    begin = [base.cells[at - 1].source.split("\n", 1)[0][:60] for at in found.changed]
    return [
        "given cells run as released, with the imports that were added; changed here: "
        + "; ".join(repr(line) for line in begin[:MAX_TOLD])
    ]
