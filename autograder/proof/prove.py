"""Prove the grader: full points for the reference, none for the release, every mutant caught.

A mutant must lose points in exactly one check, its own; a valid solution of another style in none.
All of them go through the judge, with hidden cases; the proof is a matrix of lines and checks. What
the ledger knows is spared, but a random part of it is judged again.
"""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from tqdm.auto import tqdm

from autograder.contract.definition import LabDefinition, find
from autograder.contract.verdict import Verdict
from autograder.grading import judge
from autograder.intake import release
from autograder.intake.course import Course
from autograder.intake.transplant import transplant
from autograder.proof import ledger
from autograder.proof.bench import PROOF_SEED, bench
from autograder.proof.mutants import Mutant, Valid

MUTANTS_NEEDED = 3
FIRST = "glyphs"  # the image set that is there on every machine
AGAIN = 0.05  # of the lines that the ledger knows


@dataclass(frozen=True)
class Line:
    """One line of the matrix: points by check, and what is wrong with it (empty: nothing).

    ``spared``: the ledger knows it, and it was not judged; it has no points then.
    """

    name: str
    of: str
    dataset: str
    points: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    spared: bool = False
    key: str = ""


def prove(
    course: Course,
    lab: str,
    dataset: str,
    *,
    isolated: bool,
    known: ledger.Known | None = None,
    again: float = AGAIN,
    everything: bool = True,
) -> list[Line]:
    """The matrix of ``lab`` on ``dataset``.

    Args:
        known: what the ledger says, to spare; None: judge every line.
        again: the part of the spared lines that is judged all the same, drawn at random.
        everything: on any set; False: beyond glyphs only the answers to checks that measure an
            accuracy, since the others draw no images.

    Raises:
        FileNotFoundError: no reference notebook or no reference artifacts for this set.
    """
    definition = find(lab)
    reference = course.folder("source", ".", lab) / f"{lab}.ipynb"
    outputs = reference.parent / "outputs" / dataset
    if not reference.exists() or not outputs.is_dir():
        raise FileNotFoundError(f"{lab} has no reference notebook or artifacts in {outputs}")
    released = release.base(course, lab)
    taken = transplant(released, reference)
    if taken.notes:
        raise ValueError(f"{reference}: {taken.notes}")
    base = ledger.base(definition, taken.notebook, released, outputs)
    answers = answers_on(definition, dataset, everything=everything)
    empty = [Line("reference", "", dataset), Line("release", "", dataset)]
    lines = [*empty, *(Line(answer.name, answer.check, dataset) for answer in answers)]
    keys = [ledger.key(base, line.name) for line in empty]
    keys += [_key(base, answer, definition) for answer in answers]
    wanted = _wanted([*zip(lines, keys, strict=True)], known, again)
    lines = [_spared(line, key) for line, key in zip(lines, keys, strict=True)]
    if 1 in wanted:
        lines[1] = _untouched(released, lab, dataset, isolated, keys[1])
    if wanted - {1}:
        with bench(taken.notebook, lab, outputs, isolated) as place:
            full = place.judge({})
            lines[0] = _line(lines[0], full, _reference_fault(full))
            todo = sorted(wanted - {0, 1})
            for at in tqdm(todo, desc=f"mutants of {lab} on {dataset}", unit="mutant"):
                verdicts = place.answered(answers[at - 2], full)
                lines[at] = _line(lines[at], verdicts, _fault(answers[at - 2], verdicts, full))
    return lines


def answers_on(
    definition: LabDefinition, dataset: str, *, everything: bool = True
) -> list[Mutant | Valid]:
    """The mutants and valid solutions that are lines of the matrix; see :func:`prove`."""
    answers: list[Mutant | Valid] = [*definition.mutants, *definition.valid]
    if everything or dataset == FIRST:
        return answers
    targets = definition.targets
    return [a for a in answers if "accuracy_drop" in targets[a.check].figures[dataset]]


def _key(base: str, answer: Mutant | Valid, definition: LabDefinition) -> str:
    """The key of a line: a forgery's is that of all files in which the lab may forge it."""
    what = type(answer).__name__, answer.name, answer.check
    if isinstance(answer, Valid) or answer.forge is None:
        return ledger.key(base, *what, answer.cell or "", answer.source)
    folder = definition.folder
    files = {*folder.glob("mutants*.py"), *folder.rglob("mutants/*.py")} if folder else set()
    return ledger.key(base, *what, answer.artifact or "", files=files)


def _wanted(
    lines: Sequence[tuple[Line, str]], known: ledger.Known | None, again: float
) -> set[int]:
    """The lines to judge: what the ledger does not know as it is now, and a random part of it."""
    if known is None:
        return set(range(len(lines)))
    draw = random.SystemRandom()
    return {
        number
        for number, (line, key) in enumerate(lines)
        if known.get(ledger.name_of(line.dataset, line.name)) != key or draw.random() < again
    }


def _spared(line: Line, key: str) -> Line:
    return Line(line.name, line.of, line.dataset, spared=True, key=key)


def proved(lines: Sequence[Line]) -> ledger.Known:
    """What the ledger may remember: every line without a fault."""
    return {ledger.name_of(line.dataset, line.name): line.key for line in lines if not line.fault}


def record(definition: LabDefinition, lines: Sequence[Line]) -> None:
    """Bring the ledger in step with ``lines``; what it knows of other lines that exist stays."""
    judged = {ledger.name_of(line.dataset, line.name) for line in lines}
    answers = [answer.name for answer in (*definition.mutants, *definition.valid)]
    names = {"reference", "release", *answers}
    kept = {
        name: key
        for name, key in ledger.read(definition).items()
        if name not in judged and name.partition(": ")[2] in names
    }
    ledger.write(definition, {**kept, **proved(lines)})


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
    head = "| dataset | line | of | " + " | ".join(checks) + " | verdict |"
    rule = "|---" * (len(checks) + 4) + "|"
    body = [
        f"| {line.dataset} | {line.name} | {line.of} | "
        + " | ".join(f"{line.points[name]:g}" if line.points else "–" for name in checks)
        + f" | {line.fault or ('known' if line.spared else 'ok')} |"
        for line in lines
    ]
    return "\n".join([head, rule, *body]) + "\n"


def to_json(lines: list[Line]) -> str:
    """The matrix as JSON."""
    return json.dumps([vars(line) for line in lines], indent=1) + "\n"


def _untouched(released: NotebookNode, lab: str, dataset: str, isolated: bool, key: str) -> Line:
    """The release as handed out, without any artifact, all the way through the judge."""
    notebook = copy.deepcopy(released)
    with tempfile.TemporaryDirectory() as empty:
        found = judge.judge(
            notebook, lab, Path(empty), seed=PROOF_SEED, isolated=isolated, dataset=dataset
        )
    verdicts = {verdict.check: verdict for verdict in found}
    gained = [name for name, verdict in verdicts.items() if verdict.points > 0]
    lost = sorted(find(lab).targets.keys() - verdicts.keys())
    fault = f"points for nothing in {gained}" if gained else ""
    line = Line("release", "", dataset, key=key)
    return _line(line, verdicts, fault or (f"no verdict in {lost}" * bool(lost)))


def _line(line: Line, verdicts: dict[str, Verdict], fault: str) -> Line:
    points = {name: verdict.points for name, verdict in verdicts.items()}
    return Line(line.name, line.of, line.dataset, points, fault, key=line.key)


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


def _fault(answer: Mutant | Valid, verdicts: dict[str, Verdict], full: dict[str, Verdict]) -> str:
    lost = {name for name, v in verdicts.items() if v.points < full[name].points}
    expected = {answer.check} if isinstance(answer, Mutant) else set()
    if lost == expected:
        return ""
    return f"lost points in {sorted(lost) or 'nothing'}, expected {sorted(expected) or 'nothing'}"
