"""The proof of the grader: full points for the reference, none for the release, mutants caught.

A mutant is a named wrong answer, kept in ``autograder/mutants/<lab>.py``: another source for one
solution cell, or a forged artifact. It must lose points in exactly one check. All of them go
through the judge, with hidden cases; the proof is a matrix of mutants and checks.
"""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm.auto import tqdm

from autograder.contract import artifacts, cells, checking
from autograder.contract.definition import find
from autograder.contract.verdict import StudentError, Verdict
from autograder.grading import judge
from autograder.intake import accept
from autograder.intake.course import Course
from autograder.proof.mutants import Mutant
from autograder.sandbox import process
from autograder.sandbox.kernel import KernelStudent

PROOF_SEED = 20_260_101  # any but the public one: the proof must not depend on a course's secret
MUTANTS_NEEDED = 3
BUDGET_S = 3_600.0


@dataclass(frozen=True)
class Line:
    """One line of the matrix: points by check, and what is wrong with it (empty: nothing)."""

    name: str
    of: str
    dataset: str
    points: dict[str, float]
    fault: str = ""


def prove(course: Course, lab: str, dataset: str, *, isolated: bool) -> list[Line]:
    """The matrix of ``lab`` on ``dataset``.

    Raises:
        FileNotFoundError: no reference notebook or no reference artifacts for this set.
    """
    reference = course.folder("source", ".", lab) / f"{lab}.ipynb"
    outputs = reference.parent / "outputs" / dataset
    if not reference.exists() or not outputs.is_dir():
        raise FileNotFoundError(f"{lab} has no reference notebook or artifacts in {outputs}")
    notebook = accept.transplant(course.released(lab), reference)
    if notebook.problems:
        raise ValueError(f"{reference}: {notebook.problems}")
    lines = [_untouched(course, lab, dataset, isolated)]
    with _bench(notebook.notebook, lab, outputs, isolated) as bench:
        full = bench.judge({})
        lines.insert(0, _line("reference", "", dataset, full, _reference_fault(full)))
        todo = tqdm(find(lab).mutants, desc=f"mutants of {lab} on {dataset}", unit="mutant")
        for mutant in todo:
            verdicts = bench.mutated(mutant, full)
            lines.append(
                _line(mutant.name, mutant.check, dataset, verdicts, _fault(mutant, verdicts, full))
            )
    return lines


def missing(lab: str) -> list[str]:
    """Checks of ``lab`` with fewer than three mutants: holes in the proof."""
    counted = Counter(mutant.check for mutant in find(lab).mutants)
    return [
        f"{name} has {counted[name]} mutants, at least {MUTANTS_NEEDED} are needed"
        for name in find(lab).targets
        if counted[name] < MUTANTS_NEEDED
    ]


def markdown(lines: list[Line], lab: str) -> str:
    """The matrix as a Markdown table: the points each line keeps in each check."""
    checks = list(find(lab).targets)
    head = "| data set | line | of | " + " | ".join(checks) + " | verdict |"
    rule = "|---" * (len(checks) + 4) + "|"
    body = [
        f"| {line.dataset} | {line.name} | {line.of} | "
        + " | ".join(f"{line.points[name]:g}" for name in checks)
        + f" | {line.fault or 'ok'} |"
        for line in lines
    ]
    return "\n".join([head, rule, *body]) + "\n"


def to_json(lines: list[Line]) -> str:
    """The matrix as JSON."""
    return json.dumps([vars(line) for line in lines], indent=1) + "\n"


# --- one bench for all mutants -------------------------------------------------------------------


class _Bench:
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

    def mutated(self, mutant: Mutant, full: dict[str, Verdict]) -> dict[str, Verdict]:
        """The verdicts with ``mutant`` in place; afterwards the bench is as before."""
        if mutant.forge is None:
            assert mutant.cell is not None
            return self._with_cell(mutant.cell, mutant.source, full)
        mutant.forge(self.student.outputs)
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
def _bench(notebook: NotebookNode, lab: str, reference: Path, isolated: bool) -> Iterator[_Bench]:
    with (
        tempfile.TemporaryDirectory(prefix="codesign-prove-") as folder,
        process.borrowed(isolated=isolated) as place,
    ):
        outputs = Path(folder) / reference.name
        shutil.copytree(reference, outputs)
        student = KernelStudent(place, outputs, reference.name, budget_s=BUDGET_S)
        try:
            yield _Bench(notebook, lab, reference, student)
        finally:
            student.close()


def _untouched(course: Course, lab: str, dataset: str, isolated: bool) -> Line:
    """The release as handed out, without any artifact, all the way through the judge."""
    notebook = nbformat.read(course.released(lab), as_version=4)
    with tempfile.TemporaryDirectory() as empty:
        found = judge.judge(
            notebook, lab, Path(empty), seed=PROOF_SEED, isolated=isolated, dataset=dataset
        )
    verdicts = {verdict.check: verdict for verdict in found}
    gained = [name for name, verdict in verdicts.items() if verdict.points > 0]
    lost = sorted(find(lab).targets.keys() - verdicts.keys())
    fault = f"points for nothing in {gained}" if gained else ""
    return _line("release", "", dataset, verdicts, fault or (f"no verdict in {lost}" * bool(lost)))


def _line(name: str, of: str, dataset: str, verdicts: dict[str, Verdict], fault: str) -> Line:
    return Line(name, of, dataset, {k: v.points for k, v in verdicts.items()}, fault)


def _reference_fault(verdicts: dict[str, Verdict]) -> str:
    short = [
        f"{name} {v.points:g}/{v.max_points:g} "
        + "; ".join(
            f"{row.name} {row.measured} {row.message}"
            for row in v.rows
            if row.points < row.max_points
        )
        for name, v in verdicts.items()
        if v.points < v.max_points
    ]
    return f"reference falls short: {short}" if short else ""


def _fault(mutant: Mutant, verdicts: dict[str, Verdict], full: dict[str, Verdict]) -> str:
    lost = {name for name, v in verdicts.items() if v.points < full[name].points}
    if lost == {mutant.check}:
        return ""
    return f"lost points in {sorted(lost) or 'nothing'}, expected {mutant.check}"
