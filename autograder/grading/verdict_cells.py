"""Write and read verdicts as cell outputs: a table for people, a number for nbgrader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from autograder.contract import cells, rows, show
from autograder.contract.definition import find
from autograder.contract.verdict import Verdict

VERDICT_MIME = "application/vnd.codesign.verdict+json"


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


def refuse(notebook: NotebookNode, lab: str, reasons: list[str]) -> None:
    """Fill ``notebook`` in place with verdicts of no points, without running anything."""
    count, told = 0, False
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count, cell.outputs = count, []
        name = cells.grade_id(cell) or ""
        if cells.is_judged(cell) and name in find(lab).targets:
            points = find(lab).targets[name].points
            row = replace(rows.failed(name, points, reasons[-1]), status="refused")
            verdict = Verdict(name, (row,), points, notes=() if told else tuple(reasons))
            told = True
            cell.outputs = outputs_of(verdict, count)
