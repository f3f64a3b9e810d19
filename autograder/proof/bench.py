"""Judge one wrong answer after another in a kernel that holds the reference solution.

A cell or an artifact is swapped, the checks that the swap can reach are judged again, and the
reference is put back.
"""

from __future__ import annotations

import ast
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbformat import NotebookNode

from autograder.contract import artifacts, cells, checking
from autograder.contract.definition import find
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import judge
from autograder.proof.mutants import Mutant, Valid
from autograder.sandbox import process
from autograder.sandbox.student import KernelStudent

PROOF_SEED = 20_260_101  # any but the public one: the proof must not depend on a course's secret
BUDGET_S = 3_600.0


class Bench:
    """A kernel with the reference solution loaded, where one cell or one artifact is swapped.

    After a swap only the checks that it can reach run again: after another cell those that call
    what it defines, directly or through other cells; after a forgery those that read it.
    """

    def __init__(self, notebook: NotebookNode, lab: str, reference: Path, student: KernelStudent):
        self.lab, self.reference, self.student = lab, reference, student
        self.sources = {
            name: cell.source for cell in notebook.cells if (name := cells.grade_id(cell))
        }
        self.code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        self.calling: dict[str, set[str]] = {}
        self.reading: dict[str, set[str]] = {}
        for cell in notebook.cells:
            if cell.cell_type == "code" and not cells.is_judged(cell):
                student.run_cell(cell.source, judge.CELL_DEADLINE_S)

    def judge(self, known: dict[str, Verdict]) -> dict[str, Verdict]:
        """Every check's verdict, those in ``known`` as they are."""
        return {name: known.get(name) or self._judge_one(name) for name in find(self.lab).targets}

    def _judge_one(self, name: str) -> Verdict:
        self.student.called, self.student.read = set(), set()
        verdict = checking.run(self.lab, name, self.student, self.student.dataset, PROOF_SEED)
        self.calling.setdefault(name, set()).update(self.student.called)
        self.reading.setdefault(name, set()).update(self.student.read)
        return verdict

    def answered(self, answer: Mutant | Valid, full: dict[str, Verdict]) -> dict[str, Verdict]:
        """The verdicts with ``answer`` in place; afterwards the bench is as before.

        Args:
            full: the verdicts of the reference.
        """
        if isinstance(answer, Valid) or answer.forge is None:
            return self._with_cell(answer.cell or "", answer.source, full)
        answer.forge(self.student.outputs)
        changed = {name for name, read in self.reading.items() if any(map(self._differs, read))}
        verdicts = self.judge({n: v for n, v in full.items() if n not in changed})
        shutil.rmtree(self.student.outputs)
        shutil.copytree(self.reference, self.student.outputs)
        return verdicts

    def _with_cell(self, cell: str, source: str, full: dict[str, Verdict]) -> dict[str, Verdict]:
        if cell not in self.sources:
            raise ValueError(f"got cell {cell!r}; allowed: {sorted(self.sources)}")
        with contextlib.suppress(StudentError):
            self.student.run_cell(source, judge.CELL_DEADLINE_S)
        reached = reach(self.code, self.sources[cell], source)
        untouched = {
            name
            for name, called in self.calling.items()
            if not called or (reached is not None and not called & reached)
        }
        verdicts = self.judge({n: v for n, v in full.items() if n in untouched})
        self.student.run_cell(self.sources[cell], judge.CELL_DEADLINE_S)
        self.student.restarts = 0
        self.student.lost.clear()
        return verdicts

    def _differs(self, name: str) -> bool:
        return artifacts.digest(self.student.outputs, name) != artifacts.digest(
            self.reference, name
        )


def reach(cells: Sequence[str], right: str, wrong: str) -> set[str] | None:
    """Names whose meaning may change when ``wrong`` takes the place of the cell ``right``.

    What the two define, and in all ``cells`` whatever uses such a name, and so on. None: every
    name, because ``wrong`` does more than define, or something here is not plain Python.
    """
    try:
        before, after = ast.parse(right), ast.parse(wrong)
        statements = [node for source in cells for node in ast.parse(source).body]
    except SyntaxError:
        return None
    if not all(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in after.body):
        return None
    grown = {name for node in (*before.body, *after.body) for name in _defined(node)}
    uses = [
        (_defined(node), {part.id for part in ast.walk(node) if isinstance(part, ast.Name)})
        for node in statements
    ]
    while more := {name for names, used in uses if used & grown for name in names} - grown:
        grown |= more
    return grown


def _defined(node: ast.stmt) -> set[str]:
    """Names that a statement of a cell binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    stored = [p for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)]
    return {name.id for name in stored}


@contextlib.contextmanager
def bench(notebook: NotebookNode, lab: str, reference: Path, isolated: bool) -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(prefix="codesign-prove-") as folder,
        process.borrowed(isolated=isolated) as place,
    ):
        outputs = Path(folder) / reference.name
        shutil.copytree(reference, outputs)
        student = KernelStudent(place, outputs, reference.name, budget_s=BUDGET_S)
        try:
            yield Bench(notebook, lab, reference, student)
        finally:
            student.close()
