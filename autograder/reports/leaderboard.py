"""Leaderboard by each measured figure, names opt-in: ``autograder leaderboard``.

A submission is ranked on a figure when its check gave full points, so a tiny model that forgot
everything wins nothing. Names are opt-in: ``leaderboard.toml`` in the course folder, written by
the group's organiser, says under which name a student wants to appear::

    [names]
    "student-id" = "shown name"

Everybody else is "anonymous 1", "anonymous 2", … down each board anew, so that neither a number
nor the order of equals tells who it is or links two boards. Where all but one have a name, that
one is known all the same; and a value may be known to whoever was told it.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.contract import show
from autograder.reports import distribution, page
from autograder.reports.distribution import Distribution
from autograder.reports.roster import Entry

FILE = "leaderboard.toml"
SUFFIXES = (".html", ".txt")
MOST_CHARACTERS = 40
HEADINGS = ("rank", "name", "measured")
RULES = (
    "Ranked are the submissions whose check gave full points; what is within noise of its target "
    "waits for a person first. Names are shown for those who chose to."
)


@dataclass(frozen=True)
class Board:
    """One figure's ranking: ``(rank, name, measured)`` from the best on, and how many are left out.

    Equal figures, as printed, share a rank.
    """

    figure: Distribution
    places: tuple[tuple[int, str, str], ...]
    unranked: int

    @property
    def title(self) -> str:
        """Check, figure and dataset."""
        return f"{self.figure.check}: {self.figure.name} on {self.figure.dataset}"

    @property
    def note(self) -> str:
        """Direction, target and reference of the figure, and who is not in it."""
        one = self.figure
        reference = f", reference {show.number(one.reference, one.unit)}"
        return (
            f"{'lower' if one.less_is_better else 'higher'} is better, "
            f"target {show.number(one.target, one.unit)}"
            f"{reference if one.reference is not None else ''}; {self.unranked} not ranked"
        )


def names(path: Path, students: Collection[str] = ()) -> dict[str, str]:
    """Shown names by student id; empty without a file.

    Raises:
        ValueError: the file is no TOML, or a name is empty, too long, used twice, holds control
            characters, pretends to be anonymous, or is the id of another of ``students``.
    """
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no TOML: {error}") from None
    chosen = content.get("names", {})
    if set(content) - {"names"} or not isinstance(chosen, dict):
        raise ValueError(f"{path.name}: got {sorted(content)}; allowed: one table, [names]")
    taken: dict[str, str] = {_folded(student): student for student in students}
    for student, name in chosen.items():
        _require_name(path.name, student, name)
        if taken.setdefault(_folded(name), student) != student:
            raise ValueError(f"{path.name}, {student!r}: got {name!r}, which is somebody else's")
    return chosen


def _require_name(where: str, student: str, name: object) -> None:
    fine = (
        isinstance(name, str)
        and 0 < len(name) <= MOST_CHARACTERS
        and name == name.strip()
        and not any(unicodedata.category(c)[0] == "C" for c in name)
        and not _folded(name).startswith("anonymous")
    )
    if not fine:
        raise ValueError(
            f"{where}, {student!r}: got {name!r}; allowed: 1 to {MOST_CHARACTERS} characters, no "
            "control characters, not beginning with 'anonymous'"
        )


def _folded(name: str) -> str:
    """What two names that look the same have in common."""
    return unicodedata.normalize("NFKC", name).casefold()


def boards(entries: Sequence[Entry], shown: Mapping[str, str]) -> list[Board]:
    """The ranking by every figure that has a better side."""
    figures = distribution.figures(entries)
    return [_board(one, entries, shown) for one in figures if one.less_is_better is not None]


def _board(figure: Distribution, entries: Sequence[Entry], shown: Mapping[str, str]) -> Board:
    best = -1 if figure.less_is_better else 1
    ranked = [(v, shown.get(e.student)) for e in entries if (v := _value(e, figure)) is not None]
    # Equals: those with a name by their names; the anonymous ones cannot be told apart.
    ranked.sort(key=lambda one: (-best * one[0], one[1] is None, (one[1] or "").casefold()))
    places: list[tuple[int, str, str]] = []
    anonymous = 0
    for count, (value, name) in enumerate(ranked, start=1):
        anonymous += name is None
        tied = bool(places) and ranked[count - 2][0] == value
        rank = places[-1][0] if tied else count
        measured = show.number(value, figure.unit)
        places.append((rank, name or f"anonymous {anonymous}", measured))
    return Board(figure, tuple(places), len(figure.all) + figure.unmeasured - len(places))


def _value(entry: Entry, figure: Distribution) -> float | None:
    """The entry's figure, rounded as it is printed, if its check gave full points."""
    for verdict in entry.graded.verdicts:
        if (verdict["check"], verdict["dataset"]) != (figure.check, figure.dataset):
            continue
        if not _met(entry, verdict):
            return None
        values = (
            distribution.number(r["measured"]) for r in verdict["rows"] if r["name"] == figure.name
        )
        value = next(values, None)
        return None if value is None else float(f"{value:.4g}")
    return None


def _met(entry: Entry, verdict: dict) -> bool:
    """Whether every row has full points; where noise leaves it open, a person's points decide."""
    cell = entry.cell(verdict["check"])
    decided = cell is not None and cell.decided and not cell.waits
    if decided and cell is not None and cell.points < verdict["max_points"]:
        return False
    fine = {"ok", "inconclusive"} if decided else {"ok"}
    return all(row["status"] in fine for row in verdict["rows"])


def text(found: Sequence[Board], lab: str) -> str:
    """The boards in plain text."""
    parts = [f"{lab}: leaderboard", RULES]
    for board in found:
        rows = [(str(rank), name, value) for rank, name, value in board.places]
        caption = f"{board.title} ({board.note})"
        nobody = f"{caption}\nNobody met the requirements yet."
        parts.append(show.text_table(HEADINGS, rows, caption) if rows else nobody)
    return "\n\n".join(parts if found else [*parts, "No figure was measured yet."])


def html(found: Sequence[Board], lab: str) -> str:
    """The boards as a self-contained page."""
    nothing = "" if found else page.paragraph("No figure was measured yet.")
    boards = page.columns([_section(board) for board in found])
    return page.page(f"{lab}: leaderboard", page.paragraph(RULES), nothing, boards)


def _section(board: Board) -> str:
    rows = [(str(rank), name, value) for rank, name, value in board.places]
    empty = page.paragraph("Nobody met the requirements yet.")
    table = page.table(HEADINGS, rows, "n n") if rows else empty
    return page.heading(board.title) + page.paragraph(board.note) + table


def write(found: Sequence[Board], lab: str, path: Path) -> Path:
    """Write the boards to ``path``: plain text where its suffix is ``.txt``, else a page."""
    if path.suffix == ".txt":
        return page.write(path, text(found, lab) + "\n")
    return page.write(path, html(found, lab))
