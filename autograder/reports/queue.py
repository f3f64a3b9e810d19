"""Manual-review queue: inconclusive figures, unjudged submissions, reflections to grade.

Verdicts that noise left undecided, submissions that the judge could not judge, and cells that a
person grades. Something leaves the queue when she gives points in nbgrader's formgrader, or when
it is graded again and decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autograder.contract import show
from autograder.reports import roster
from autograder.reports.page import plain
from autograder.reports.roster import Entry

INCONCLUSIVE, REFUSED, BY_HAND = "inconclusive", "not judged", "to grade"
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
    return [*undecided, *refused, *(item for entry in entries for item in _by_hand(entry))]


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
    seen = any(cell.judged and cell.decided for cell in entry.cells)
    if not roster.is_refused(entry) or seen:
        return []
    return [Item(REFUSED, entry.student, why="; ".join(entry.problems))]


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
