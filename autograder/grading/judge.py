"""The judge: executes an accepted notebook and answers each of its graded cells.

The student's process never grades itself: other cells run in the student's kernel, a graded cell
does not run at all; its check runs here, calls functions across the kernel boundary and measures
the artifacts again. The verdict becomes the cell's output: a table for people and, last, one plain
number for nbgrader.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from autograder.contract import artifacts, cells, checking, held_out, rows, show
from autograder.contract.definition import find
from autograder.contract.verdict import StudentError, Verdict
from autograder.intake import accept, sanitize
from autograder.sandbox import bubblewrap, process
from autograder.sandbox.kernel import KernelStudent
from codesign import datasets

CELL_DEADLINE_S = 60.0
BUDGET_S = 600.0
VERDICT_MIME = "application/vnd.codesign.verdict+json"


class NotIsolated(RuntimeError):
    """Grading was asked for where the sandbox does not work."""


def isolation(unisolated: bool | None = None) -> bool:
    """Whether to isolate; ``unisolated`` (or ``CODESIGN_UNISOLATED=1``) does without.

    Raises:
        NotIsolated: no sandbox here and nobody said in as many words to go on without.
    """
    if unisolated is None:
        unisolated = os.environ.get("CODESIGN_UNISOLATED") == "1"
    if unisolated:
        return False
    reason = bubblewrap.why_not()
    if reason:
        raise NotIsolated(
            f"submissions are untrusted code and cannot be isolated: {reason}. Install bubblewrap "
            "(Debian: apt-get install bubblewrap), or say --unisolated (CODESIGN_UNISOLATED=1)."
        )
    return True


def secret_seed(root: Path) -> int:
    """The judge's seed of this course, drawn once and kept in ``<root>/.judge_seed``.

    The same seed gives the same hidden cases, so that a grade can be reproduced.
    """
    path = root / ".judge_seed"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        if not text.isdecimal() or int(text) == held_out.PUBLIC_SEED:
            raise ValueError(f"{path}: got {text!r}; allowed: a positive integer") from None
        return int(text)
    seed = 1 + secrets.randbelow(2**31 - 1)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{seed}\n")
    return seed


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
    pinned = dataset or os.environ.get("CODESIGN_DATASET")
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


def _execute(student: KernelStudent, source: str) -> list[NotebookNode]:
    try:
        outputs = student.run_cell(source, CELL_DEADLINE_S)
    except StudentError as error:
        return [new_output("error", ename="CellStopped", evalue=str(error), traceback=[str(error)])]
    for output in outputs:
        if "execution_count" in output:
            output.execution_count = None  # ours, not what the kernel says
    return [sanitize.without_paths(output) for output in outputs]


def outputs_of(verdict: Verdict, count: int) -> list[NotebookNode]:
    """The outputs of a graded cell: the table, and one plain number that nbgrader reads."""
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
    """The verdict that the judge wrote into ``cell``, as plain data; None: it wrote none."""
    if not cells.is_judged(cell):
        return None
    shown = (o.data for o in cell.outputs if o.output_type == "display_data")
    return next((data[VERDICT_MIME] for data in shown if VERDICT_MIME in data), None)
