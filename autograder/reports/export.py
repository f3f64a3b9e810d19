"""Export the class report: CSV with a line for each student, JSON with everything.

The CSV is made for a learning management system and for spreadsheets: a text that a spreadsheet
would take for a formula gets an apostrophe in front, a student's id included. The JSON is strict
(no NaN) and its keys stay; ``format`` counts up when they do not.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from autograder.reports import distribution, queue, roster
from autograder.reports.page import plain
from autograder.reports.roster import Entry

FORMAT = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
HEADINGS = (
    "student",
    "judged_points",
    "judged_max",
    "person_points",
    "person_max",
    "changed_by_person",
    "late_penalty",
    "total",
    "max",
    "cells_to_grade",
    "problems",
)


def to_csv(entries: Sequence[Entry]) -> str:
    """One line for each student; a field is empty where there are no points yet."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(HEADINGS)
    for one in entries:
        points = (one.judged, one.max_judged, one.by_person, one.max_by_person, one.changed)
        end = (one.penalty, one.total, one.max_points, len(one.to_grade))
        numbers = ["" if value is None else f"{value:g}" for value in (*points, *end)]
        lines.writerow([_cell(one.student), *numbers, _cell("; ".join(one.problems))])
    return text.getvalue()


def _cell(text: str) -> str:
    quoted = text.startswith(FORMULA) or plain(text).startswith(FORMULA)
    return f"'{plain(text, 500)}" if quoted else plain(text, 500)


def to_json(lab: str, entries: Sequence[Entry]) -> str:
    """The whole report, strict JSON."""
    content = {
        "format": FORMAT,
        "lab": lab,
        "counts": counts(entries),
        "datasets": distribution.datasets(entries),
        "figures": [_figure(one) for one in distribution.figures(entries)],
        "students": [_student(one) for one in entries],
        "queue": [asdict(item) for item in queue.queue(entries)],
    }
    return json.dumps(_strict(content), indent=1, allow_nan=False) + "\n"


def counts(entries: Sequence[Entry]) -> dict[str, int]:
    """The class in numbers."""
    states = [one.state for one in entries]
    return {
        "students": len(entries),
        "handed_in": len(entries) - states.count(roster.ABSENT),
        "graded": states.count(roster.GRADED),
        "rows": sum(len(roster.rows(one)) for one in entries),
        "inconclusive_rows": roster.inconclusive(entries),
        "cells_to_grade": sum(len(one.to_grade) for one in entries),
    }


def _figure(one: distribution.Distribution) -> dict[str, Any]:
    derived = {"median": one.median, "less_is_better": one.less_is_better}
    return {**asdict(one), **derived, "at_target": one.at_target}


def _student(one: Entry) -> dict[str, Any]:
    return {
        "student": one.student,
        "state": one.state,
        "judged_points": one.judged,
        "judged_max": one.max_judged,
        "person_points": one.by_person,
        "person_max": one.max_by_person,
        "changed_by_person": one.changed,
        "late_penalty": one.penalty,
        "total": one.total,
        "max": one.max_points,
        "cells_to_grade": one.to_grade,
        "problems": one.problems,
        "cells": [asdict(cell) for cell in one.cells],
        "verdicts": one.graded.verdicts,
    }


def _strict(value: Any) -> Any:
    """The same data with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return distribution.number(value) if isinstance(value, float) else value
