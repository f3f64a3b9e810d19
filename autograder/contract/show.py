"""Render verdicts and tables of targets: HTML for notebooks and feedback, plain text for shells.

Whatever comes from a student (messages, values) is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from autograder.contract.rows import Row
from autograder.contract.said import one_line, visible
from autograder.contract.verdict import Verdict

HEADINGS = ("", "measured", "target", "reference", "points", "")
STYLE = "border-collapse:collapse;font-size:0.9em"
CELL = "padding:2px 10px;text-align:left;border-bottom:1px solid #ddd;vertical-align:top"
NO_BREAK = "white-space:nowrap"  # in figures; the last column is a message


def number(value: float | str | None, unit: str = "") -> str:
    """Format a figure with at most four significant digits and its unit."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    text = f"{value:,.0f}" if 10_000 <= abs(value) < 1e12 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def cells(row: Row) -> tuple[str, ...]:
    """Format a row as the texts under ``HEADINGS``."""
    return (
        row.name,
        number(row.measured, row.unit),
        number(row.target, row.unit),
        number(row.reference, row.unit),
        f"{row.points:.2f} / {row.max_points:g}",
        row.message if row.status != "inconclusive" else f"inconclusive: {row.message}",
    )


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Render a small HTML table, escaped."""
    head = "".join(f'<th style="{CELL}">{escape(h)}</th>' for h in headings)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{CELL};{NO_BREAK}">{escape(visible(c))}</td>' for c in row[:-1])
        + "".join(f'<td style="{CELL}">{escape(visible(c))}</td>' for c in row[-1:])
        + "</tr>"
        for row in rows
    )
    title = f'<caption style="text-align:left;font-weight:bold">{escape(caption)}</caption>'
    # MathJax reads the page: a $ in a message is no formula
    return f'<table class="tex2jax_ignore" style="{STYLE}">{title}<tr>{head}</tr>{body}</table>'


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Render the same table in aligned plain text, each row on one line."""
    table = [tuple(headings), *[tuple(one_line(visible(cell)) for cell in row) for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(headings))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
    return "\n".join([caption, *[line.rstrip() for line in lines]])


def caption(verdict: Verdict) -> str:
    """Say name, points and dataset of a verdict."""
    where = f" on {verdict.dataset}" if verdict.dataset else ""
    return f"{verdict.check}: {verdict.points:g} of {verdict.max_points:g} points{where}"


def html(verdict: Verdict) -> str:
    """Render a verdict as HTML."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in verdict.notes)
    return html_table(HEADINGS, [cells(row) for row in verdict.rows], caption(verdict)) + notes


def score(verdict: Verdict) -> str:
    """Render the points alone, in words; the number itself is for nbgrader."""
    return f"<span>{verdict.points:g} points of {verdict.max_points:g}</span>"


def text(verdict: Verdict) -> str:
    """Render a verdict as plain text."""
    table = text_table(HEADINGS, [cells(row) for row in verdict.rows], caption(verdict))
    return "\n".join([table, *verdict.notes])
