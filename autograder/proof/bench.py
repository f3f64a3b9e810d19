"""Judge one wrong answer after another in a kernel that holds the reference solution.

A cell or an artifact is swapped, the checks that the swap can reach are judged again, and the
reference is put back.
"""

from __future__ import annotations

import ast
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.contract import artifacts, cells, checking
from autograder.contract.definition import find
from autograder.contract.signatures import NotPromised, Signature
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import judge
from autograder.proof.mutants import Answer
from autograder.sandbox import process
from autograder.sandbox.student import KernelStudent

PROOF_SEED = 20_260_101  # any but the public one: the proof must not depend on a course's secret
BUDGET_S = 6 * 3_600.0  # of a whole proof


class Held:
    """A student, asked for no more than a lab's signatures promise: see ``broken`` otherwise."""

    def __init__(
        self, student: KernelStudent, promised: Mapping[str, Signature], broken: list[str]
    ) -> None:
        self.student, self.promised, self.broken = student, promised, broken

    def call(self, function: str, *args: Any, **options: Any) -> Any:
        """See :class:`autograder.contract.checking.Student`."""
        if function in self.promised:
            given = {k: v for k, v in options.items() if k not in ("deadline_s", "may_change")}
            try:
                self.promised[function].check_call(function, *args, **given)
            except NotPromised as error:
                self.broken.append(f"a check asks for more than is promised: {error}")
        return self.student.call(function, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.student, name)


class Bench:
    """A kernel with the reference solution loaded, where one cell or one artifact is swapped.

    After a swap only the checks that it can reach run again: after another cell those that call
    what it defines, directly or through other cells; after a forgery those that read it.
    """

    def __init__(self, notebook: NotebookNode, lab: str, reference: Path, student: KernelStudent):
        self.lab, self.reference, self.student = lab, reference, student
        self.broken: list[str] = []  # promises, by the checks themselves
        self.sources = {
            name: cell.source for cell in notebook.cells if (name := cells.grade_id(cell))
        }
        self.code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        self.calling: dict[str, set[str]] = {}
        self.reading: dict[str, set[str]] = {}
        self.seconds: dict[str, float] = {}  # of each check, the first time
        for cell in notebook.cells:
            if cell.cell_type == "code" and not cells.is_judged(cell):
                student.run_cell(cell.source, judge.CELL_DEADLINE_S)

    def judge(self, known: dict[str, Verdict]) -> dict[str, Verdict]:
        """Every check's verdict, those in ``known`` as they are."""
        return {name: known.get(name) or self.judge_one(name) for name in find(self.lab).targets}

    def judge_one(self, name: str, seed: int = PROOF_SEED) -> Verdict:
        """One check's verdict on what is in place now."""
        self.student.called, self.student.read = set(), set()
        start = time.monotonic()
        held = Held(self.student, find(self.lab).signatures, self.broken)
        verdict = checking.run(self.lab, name, held, self.student.dataset, seed)
        self.seconds.setdefault(name, time.monotonic() - start)
        self.calling.setdefault(name, set()).update(self.student.called)
        self.reading.setdefault(name, set()).update(self.student.read)
        return verdict

    @contextlib.contextmanager
    def answered(self, answer: Answer) -> Iterator[set[str]]:
        """Put ``answer`` in place, yield the checks that it reaches, and bring back the reference.

        Every check has to have been judged before.
        """
        if answer.forge is None:
            with self._with_cell(answer.cell or "", answer.source) as reached:
                yield reached
            return
        answer.forge(self.student.outputs)
        yield {name for name, read in self.reading.items() if any(map(self._differs, read))}
        shutil.rmtree(self.student.outputs)
        shutil.copytree(self.reference, self.student.outputs)

    @contextlib.contextmanager
    def _with_cell(self, cell: str, source: str) -> Iterator[set[str]]:
        if cell not in self.sources:
            raise ValueError(f"got cell {cell!r}; allowed: {sorted(self.sources)}")
        with contextlib.suppress(StudentError):
            self.student.run_cell(source, judge.CELL_DEADLINE_S)
        names = reach(self.code, self.sources[cell], source)
        yield {
            name
            for name, called in self.calling.items()
            if called and (names is None or called & names)
        }
        self.student.run_cell(self.sources[cell], judge.CELL_DEADLINE_S)
        self.student.restarts = 0
        self.student.lost.clear()

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
