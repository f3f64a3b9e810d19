"""The class report: who got which points for which measured figure, as a table and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from autograder import render
from autograder.checking import Row
from autograder.grading import Graded

HEADINGS = ("student", "check", "figure", "measured", "target", "points", "")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}}
table{{margin:0 0 1.5rem}}h2{{margin-top:2.5rem}}</style></head>
<body><h1>{title}</h1>{summary}{students}</body></html>
"""


def rows(graded: Iterable[Graded]) -> list[tuple[str, ...]]:
    """One line for every measured row of every student."""
    return [
        (graded_one.student, verdict["check"], *_row(row))
        for graded_one in graded
        for verdict in graded_one.verdicts
        for row in verdict["rows"]
    ]


def summary(graded: Iterable[Graded]) -> list[tuple[str, str, str]]:
    """One line for every student: points of the judged cells, and what intake found."""
    return [
        (one.student, f"{one.points:g} / {_maximum(one):g}", "; ".join(one.problems))
        for one in graded
    ]


def text(graded: Sequence[Graded], title: str) -> str:
    """The whole report in plain text."""
    detail = render.text_table(HEADINGS, rows(graded), title)
    total = render.text_table(("student", "judged points", ""), summary(graded), "Totals")
    return f"{detail}\n\n{total}"


def html(graded: Sequence[Graded], title: str) -> str:
    """The whole report as one self-contained page; everything of a student's is escaped."""
    total = render.html_table(("student", "judged points", ""), summary(graded), "Totals")
    parts = []
    for one in graded:
        table = render.html_table(HEADINGS[1:], [row[1:] for row in rows([one])], one.student)
        notes = "".join(f"<p>{escape(problem)}</p>" for problem in one.problems)
        parts.append(f"<h2>{escape(one.student)}: {one.points:g} points</h2>{notes}{table}")
    return PAGE.format(title=escape(title), summary=total, students="".join(parts))


def write(graded: Sequence[Graded], title: str, path: Path) -> Path:
    """Write the HTML report to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(graded, title), encoding="utf-8")
    return path


def _row(row: dict) -> tuple[str, ...]:
    name, measured, target, _, points, message = render.cells(Row(**row))
    return name, measured, target, points, message


def _maximum(one: Graded) -> float:
    return sum(verdict["max_points"] for verdict in one.verdicts)
