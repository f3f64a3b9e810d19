"""Judge one wrong answer after another in a kernel that holds the reference solution.

A cell or an artifact is swapped, the checks that the swap can reach are judged again, and the
reference is put back.
"""

from __future__ import annotations

import ast
import contextlib
import shutil
import symtable
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.contract import artifacts, cells, checking
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find
from autograder.contract.signatures import NotPromised, Signature
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import judge
from autograder.proof.mutants import Answer
from autograder.proof.near import Near, patience
from autograder.proof.trials import CLOSE_SEEDS, PROOF_SEED, SEEDS, Trial, measures
from autograder.sandbox import process
from autograder.sandbox.student import KernelStudent

BUDGET_S = 6 * 3_600.0  # of a whole proof


class Held:
    """A student, asked for no more than a lab's signatures promise: see ``broken`` otherwise."""

    def __init__(
        self,
        student: KernelStudent | LocalStudent,
        promised: Mapping[str, Signature],
        broken: list[str],
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
        self.near = Near(self.code, lab, student.dataset, student.outputs)
        self.nearby: set[str] = set()  # checks that this process may go on with
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
        verdict = self._verdict(name, self.student, seed)
        self.seconds.setdefault(name, time.monotonic() - start)
        self.calling.setdefault(name, set()).update(self.student.called)
        self.reading.setdefault(name, set()).update(self.student.read)
        return verdict

    def more(self, name: str, seeds: Sequence[int], source: str = "") -> list[Verdict]:
        """One check's verdicts on further seeds, on what is in place now.

        Args:
            source: of the cell that is in place; none: the reference's, or an artifact.
        """
        if name not in self.nearby or self.student.lost:
            return [self.judge_one(name, seed) for seed in seeds]
        student = self.near.student(source)
        return [self._verdict(name, student, seed) for seed in seeds]

    def tried(
        self, name: str, first: Verdict, full: float, seeds: Sequence[int], source: str = ""
    ) -> Trial:
        """One check on all ``seeds``, and on more where what it measures is close to its bound.

        Args:
            first: the verdict on the first of the seeds.
            full: the reference's points.
            source: see :meth:`more`.
        """
        trial = Trial([first, *self.more(name, seeds[1:], source)], full)
        if trial.is_close and measures(find(self.lab), name):
            further = self.more(name, SEEDS[len(seeds) : CLOSE_SEEDS], source)
            trial = Trial([*trial.verdicts, *further], full)
        return trial

    def look_nearby(self, full: Mapping[str, Verdict]) -> None:
        """Find the checks of functions where the reference earns the same in this process."""
        lab, student = find(self.lab), self.near.student()
        tested = [name for name in full if not measures(lab, name)]
        start = time.monotonic()
        for name in tested:
            if self._verdict(name, student, PROOF_SEED).points == full[name].points:
                self.nearby.add(name)
                self.seconds[name] = time.monotonic() - start
            start = time.monotonic()

    def _verdict(self, name: str, student: KernelStudent | LocalStudent, seed: int) -> Verdict:
        held = Held(student, find(self.lab).signatures, self.broken)
        with patience() if student is not self.student else contextlib.nullcontext():
            return checking.run(self.lab, name, held, self.student.dataset, seed)

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
    uses = [(_defined(node), _used(node)) for node in statements]
    while more := {name for names, used in uses if used & grown for name in names} - grown:
        grown |= more
    return grown


def _used(node: ast.stmt) -> set[str]:
    """Names of the notebook that a statement reads; what a function binds is its own."""
    top = symtable.symtable(ast.unparse(node), "cell", "exec")
    tables = [top]
    for table in tables:
        tables += table.get_children()
    return {
        symbol.get_name()
        for table in tables
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table is top or symbol.is_global())
    }


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
