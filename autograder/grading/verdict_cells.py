"""Write and read verdicts as cell outputs: a table for people, a number for nbgrader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from autograder.contract import cells, rows, show
from autograder.contract.definition import find
from autograder.contract.said import plain
from autograder.contract.verdict import Verdict
from autograder.intake.sanitize import fenced

VERDICT_MIME = "application/vnd.codesign.verdict+json"
ON_TOP = "intake_notes"  # id of the cell that tells what was repaired


def outputs_of(verdict: Verdict, count: int) -> list[NotebookNode]:
    """Make the outputs of a graded cell: the table, and one plain number that nbgrader reads."""
    table = {
        "text/html": show.html(verdict),
        "text/plain": show.text(verdict),
        VERDICT_MIME: verdict.to_json(),
    }
    points = {"text/html": show.score(verdict), "text/plain": f"{verdict.points:g}"}
    return [
        new_output("display_data", data=table),
        new_output("execute_result", execution_count=count, data=points),
    ]


def verdict_in(cell: NotebookNode) -> dict[str, Any] | None:
    """Read the verdict that the judge wrote into ``cell``, as plain data; None: it wrote none."""
    if not cells.is_judged(cell):
        return None
    shown = (o.data for o in cell.outputs if o.output_type == "display_data")
    return next((data[VERDICT_MIME] for data in shown if VERDICT_MIME in data), None)


def refuse(notebook: NotebookNode, lab: str, notes: Sequence[str], reason: str) -> list[Verdict]:
    """Fill ``notebook`` in place with verdicts of no points, without running anything.

    Args:
        notes: all that is to be told.
        reason: the one among them for which nothing was judged.
    """
    verdicts: list[Verdict] = []
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count, cell.outputs = count, []
        name = cells.grade_id(cell) or ""
        if cells.is_judged(cell) and name in find(lab).targets:
            points = find(lab).targets[name].points
            row = replace(rows.failed(name, points, reason), status="refused")
            verdict = Verdict(name, (row,), points, notes=() if verdicts else tuple(notes))
            verdicts.append(verdict)
            cell.outputs = outputs_of(verdict, count)
    put_on_top(notebook, notes)
    return verdicts


def put_on_top(notebook: NotebookNode, notes: Sequence[str]) -> None:
    """Begin ``notebook`` with what intake has to say, where it has something to say."""
    if notes:
        listed = "\n".join(f"- {plain(note)}" for note in notes)
        text = f"**What was done with this submission before it was graded:**\n\n{fenced(listed)}"
        notebook.cells.insert(0, new_markdown_cell(text, id=ON_TOP))
