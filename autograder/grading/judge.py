"""Execute an accepted notebook and judge each of its graded cells.

The student's process never grades itself: other cells run in the student's kernel, a graded cell
does not run at all; its check runs here, calls functions across the kernel boundary and measures
the artifacts again. The verdict becomes the cell's output: a table for people and, last, one plain
number for nbgrader.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_output

from autograder.contract import artifacts, cells, checking
from autograder.contract.definition import find
from autograder.contract.environment import DATASET
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading.unit import BUDGET_S
from autograder.grading.verdict_cells import outputs_of
from autograder.intake import accept, sanitize
from autograder.sandbox import process
from autograder.sandbox.kernel import KernelStudent
from codesign import datasets

CELL_DEADLINE_S = 60.0


def judge(
    notebook: NotebookNode,
    lab: str,
    outputs: Path,
    *,
    seed: int,
    isolated: bool,
    problems: Iterable[str] = (),
    only: set[str] | None = None,
    dataset: str | None = None,
    budget_s: float = BUDGET_S,
) -> list[Verdict]:
    """Execute ``notebook`` in place and return the verdicts of its graded cells.

    Args:
        outputs: the submission's ``outputs`` folder; copied, never executed.
        seed: the judge's secret seed.
        problems: what intake found, shown with the first verdict.
        only: judge these checks alone (for the proof); None: all.
        dataset: the image set; None: what the submission holds.
    """
    pinned = dataset or os.environ.get(DATASET)
    chosen = accept.choose_dataset(outputs, pinned, datasets.choose()[0])
    with (
        tempfile.TemporaryDirectory(prefix="codesign-judge-") as folder,
        process.borrowed(isolated=isolated) as place,
    ):
        measured = Path(folder) / chosen
        found = accept.copy_artifacts(outputs / chosen, measured)
        student = KernelStudent(place, measured, chosen, budget_s=budget_s)
        notes = (*problems, *found, *artifacts.refusals(measured))
        try:
            return _run(notebook, lab, student, seed, notes, only)
        finally:
            student.close()


def _run(
    notebook: NotebookNode,
    lab: str,
    student: KernelStudent,
    seed: int,
    notes: tuple[str, ...],
    only: set[str] | None,
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    wanted = find(lab).targets
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        name = cells.grade_id(cell) or ""
        cell.execution_count, cell.outputs = count, []
        if not cells.is_judged(cell):
            cell.outputs = _execute(student, cell.source)
        elif name in wanted and (only is None or name in only):
            verdict = checking.run(lab, name, student, student.dataset, seed)
            verdict = replace(verdict, notes=() if verdicts else notes)  # told once
            cell.outputs = outputs_of(verdict, count)
            verdicts.append(verdict)
    return verdicts


def _execute(student: KernelStudent, source: str) -> list[NotebookNode]:
    try:
        outputs = student.run_cell(source, CELL_DEADLINE_S)
    except StudentError as error:
        return [new_output("error", ename="CellStopped", evalue=str(error), traceback=[str(error)])]
    for output in outputs:
        if "execution_count" in output:
            output.execution_count = None  # ours, not what the kernel says
    return [sanitize.without_paths(output) for output in outputs]
