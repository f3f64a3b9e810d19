"""Entries of a class, made by hand: one check with two figures, and whatever a test wants."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from autograder.contract.rows import Row, inconclusive, measured
from autograder.contract.targets import Figure
from autograder.contract.verdict import Verdict
from autograder.grading.records import Graded
from autograder.reports import roster
from autograder.reports.roster import Cell, Entry

SIZE = Figure(target=10.0, floor=4.0, points=2.0, reference=12.0, unit="×")
DROP = Figure(target=0.02, floor=0.06, points=2.0)
HOSTILE = (
    '</td><script>alert(1)</script><img src="http://evil.example/x" onerror=alert(1)>'
    "\x1b[31m\u202e $\\frac{1}{0}$ " + "A" * 5_000
)


def verdict(
    size: Any = 12.0, drop: Any = 0.01, *, undecided: bool = False, dataset: str = "glyphs", **notes
) -> dict:
    """The verdict of check ``small``; a figure that is no number comes as it is."""
    rows = [_row("size", size, SIZE), _row("drop", drop, DROP)]
    if undecided:
        rows[0] = inconclusive(rows[0], "within noise")
    found = Verdict("small", tuple(rows), 4.0, dataset, **notes)
    return json.loads(json.dumps(found.to_json()))


def _row(name: str, value: Any, figure: Figure) -> Row:
    if isinstance(value, float | int):
        return measured(name, value, figure)
    return Row(name, value, figure.target, 0.0, figure.points, status="failed")


def entry(student: str = "ada", *verdicts: dict, cells: tuple[Cell, ...] = (), **fields) -> Entry:
    """A graded student of a lab of 4 judged points and 3 of a person's."""
    found = verdicts or (verdict(),)
    graded = Graded(student, found, tuple(found[0]["notes"]))
    points = {"max_judged": 4.0, "max_by_person": 3.0, "problems": graded.problems, **fields}
    return Entry(student, roster.GRADED, graded, cells, **points)


def absent(student: str, state: str = roster.ABSENT) -> Entry:
    """A student without a verdict."""
    return Entry(student, state, Graded(student, (), ()), (), 0.0, 4.0, 3.0, (state,))


def cell(name: str = "small", judged: bool = True, automatic: float | None = 4.0, **fields) -> Cell:
    """A cell of the gradebook."""
    given = {"manual": None, "extra": None, "waits": False, "max_points": 4.0, **fields}
    return Cell(name, judged, automatic, **given)


SHAPE = {"html", "head", "meta", "title", "style", "body", "div", "section", "img"}
ALLOWED = SHAPE | {"h1", "h2", "p", "table", "tr", "th", "td", "details", "summary"}


class Tags(HTMLParser):
    """Collects a page's tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        """Note them."""
        self.tags.add(tag)
        self.attributes += attrs


def require_harmless(html: str) -> None:
    """Assert that a page is inert: known tags, no handlers, no links, no scripts."""
    found = Tags(html)
    assert found.tags <= ALLOWED
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("href", "id")}
    assert all(
        v.startswith("data:image/svg+xml;base64,") for k, v in found.attributes if k == "src"
    )
    assert "default-src 'none'" in html
