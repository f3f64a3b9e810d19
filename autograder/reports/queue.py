"""Manual-review queue: inconclusive figures, unjudged submissions, lost answers, reflections.

Verdicts that noise left undecided, submissions that the judge could not judge, answers that intake
could not find, and cells that a person grades. Something leaves the queue when she gives points in
nbgrader's formgrader, or when it is graded again and decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autograder.contract import show
from autograder.intake import answers
from autograder.reports import roster
from autograder.reports.page import plain
from autograder.reports.roster import Entry

INCONCLUSIVE, REFUSED, LOST, BY_HAND = "inconclusive", "not judged", "not found", "to grade"
HEADINGS = ("what", "student", "cell", "figure", "measured", "target", "why")


@dataclass(frozen=True)
class Item:
    """One thing to look at; ``cell`` names several cells where they are alike."""

    what: str
    student: str
    cell: str = ""
    figure: str = ""
    measured: float | str | None = None
    target: float | str | None = None
    unit: str = ""
    why: str = ""


def queue(entries: Sequence[Entry]) -> list[Item]:
    """Everything that waits, the undecided first."""
    undecided = [item for entry in entries for item in _undecided(entry)]
    refused = [item for entry in entries for item in _refused(entry)]
    lost = [item for entry in entries for item in _lost(entry)]
    by_hand = [item for entry in entries for item in _by_hand(entry)]
    return [*undecided, *refused, *lost, *by_hand]


def text(items: Sequence[Item], lab: str) -> str:
    """The queue in plain text."""
    if not items:
        return f"{lab}: nothing waits for a person"
    rows = [
        (
            item.what,
            plain(item.student, 40),
            item.cell,
            item.figure,
            plain(show.number(item.measured, item.unit), 40) if item.figure else "",
            plain(show.number(item.target, item.unit), 40) if item.figure else "",
            plain(item.why),
        )
        for item in items
    ]
    title = f"{lab}: what waits for a person ({len(items)})"
    return show.text_table(HEADINGS, rows, title)


def _undecided(entry: Entry) -> list[Item]:
    return [
        Item(
            INCONCLUSIVE,
            entry.student,
            verdict["check"],
            row["name"],
            row["measured"],
            row["target"],
            row["unit"],
            row["message"],
        )
        for verdict, row in roster.rows(entry)
        if row["status"] == "inconclusive" and not _decided(entry, verdict["check"])
    ]


def _refused(entry: Entry) -> list[Item]:
    if entry.state == roster.WAITING:
        why = "handed in, and no verdict: run `autograder grade`"
        return [Item(REFUSED, entry.student, why=why)]
    if not roster.is_refused(entry) or _seen(entry):
        return []
    return [Item(REFUSED, entry.student, why="; ".join(entry.problems))]


def _lost(entry: Entry) -> list[Item]:
    """Answers that intake could not find; the judge took them for unwritten."""
    lost = [note for note in entry.problems if note.startswith(answers.LOST)]
    if not lost or roster.is_refused(entry) or _seen(entry):
        return []
    return [
        Item(LOST, entry.student, why="; ".join(note.removeprefix(answers.LOST) for note in lost))
    ]


def _seen(entry: Entry) -> bool:
    """Whether a person has decided about anything that the judge did."""
    return any(cell.judged and cell.decided for cell in entry.cells)


def _by_hand(entry: Entry) -> list[Item]:
    listed = {item.cell for item in _undecided(entry)}
    cells = [cell for cell in entry.cells if cell.waits and cell.name not in listed]
    if not cells:
        return []
    again = any(cell.decided for cell in cells)
    why = "graded again since a person gave points" if again else ""
    return [Item(BY_HAND, entry.student, ", ".join(cell.name for cell in cells), why=why)]


def _decided(entry: Entry, check: str) -> bool:
    cell = entry.cell(check)
    return cell is not None and cell.decided and not cell.waits
