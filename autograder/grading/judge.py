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

from autograder.contract import artifacts, cells, checking
from autograder.contract.deadlines import BUDGET_S, CELL_DEADLINE_S, OWN_CELLS_S
from autograder.contract.definition import find
from autograder.contract.environment import DATASET
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import verdict_cells
from autograder.intake import accept, sanitize
from autograder.sandbox import limits, process
from autograder.sandbox.kernel import stopped
from autograder.sandbox.student import KernelStudent
from codesign import datasets

MAX_OUTPUT_BYTES = 8 * 2**20  # of a whole notebook that are kept for people


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
        budget_s: seconds that the submission's kernel may use; the judge's own are not counted.
    """
    if cells.told(notebook)["refused"]:
        said = list(problems)
        reason = next((note for note in said if note.startswith(cells.NOT_ACCEPTED)), said[-1])
        return verdict_cells.refuse(notebook, lab, said, reason)
    pinned = dataset or os.environ.get(DATASET)
    chosen = accept.choose_dataset(outputs, pinned, datasets.choose()[0])
    with (
        tempfile.TemporaryDirectory(prefix=f"{limits.OURS}{os.getpid()}-judge-") as folder,
        process.borrowed(isolated=isolated) as place,
    ):
        measured = Path(folder) / chosen
        found = accept.copy_artifacts(outputs / chosen, measured)
        student = KernelStudent(place, measured, chosen, budget_s=budget_s)
        notes = (*problems, *found, *artifacts.refusals(measured))
        try:
            verdicts = _run(notebook, lab, student, seed, notes, only)
        finally:
            student.close()
    verdict_cells.put_on_top(notebook, notes)
    return verdicts


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
    own_s, size = 0.0, 0
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        name = cells.grade_id(cell) or ""
        cell.execution_count, cell.outputs = count, []
        if not cells.is_judged(cell):
            before_s = student.budget.used_s
            if cells.is_own(cell) and own_s > OWN_CELLS_S:
                cell.outputs = _defined(student, cell.source)
            else:
                cell.outputs = _executed(student, cell.source)
            own_s += cells.is_own(cell) * (student.budget.used_s - before_s)
            size += len(str(cell.outputs))
            if size > MAX_OUTPUT_BYTES:
                cell.outputs = [stopped("its output is not kept: the notebook printed too much")]
        elif name in wanted and (only is None or name in only):
            verdict = checking.run(lab, name, student, student.dataset, seed)
            verdict = replace(verdict, notes=() if verdicts else notes)  # told once
            cell.outputs = verdict_cells.outputs_of(verdict, count)
            verdicts.append(verdict)
    return verdicts


def _executed(student: KernelStudent, source: str) -> list[NotebookNode]:
    try:
        outputs = student.run_cell(source, CELL_DEADLINE_S)
    except StudentError as error:
        return [stopped(str(error))]
    for output in outputs:
        if "execution_count" in output:
            output.execution_count = None  # ours, not what the kernel says
    return [sanitize.without_paths(output) for output in outputs]


def _defined(student: KernelStudent, source: str) -> list[NotebookNode]:
    """Let an own cell define what it defines; it does nothing else any more."""
    said = f"cells of your own had {OWN_CELLS_S:.0f} s: of this one, imports and functions ran"
    try:
        student.define(source, CELL_DEADLINE_S)
    except StudentError as error:
        said = str(error)
    return [stopped(said)]
