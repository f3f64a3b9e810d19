"""Prove the grader: full points for the reference, none for the release, every mutant caught.

A mutant must lose points in exactly one check, its own, on every seed on which it is tried; a valid
solution of another style in none. All of them go through the judge, with hidden cases; the proof is
a matrix of lines and checks. What the ledger knows is spared, but a random part of it is judged
again, on a few seeds.
"""

from __future__ import annotations

import copy
import json
import math
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbformat import NotebookNode
from tqdm.auto import tqdm

from autograder.contract.definition import LabDefinition, find
from autograder.contract.verdict import Verdict
from autograder.grading import judge
from autograder.intake import release
from autograder.intake.course import Course
from autograder.intake.transplant import transplant
from autograder.proof import ledger, trials
from autograder.proof.bench import Bench, bench
from autograder.proof.mutants import Answer, Mutant, Valid
from autograder.proof.trials import PROOF_SEED

MUTANTS_NEEDED = VALID_NEEDED = 3
FIRST = "glyphs"  # the image set that is there on every machine
AGAIN = 0.05  # of the lines that the ledger knows


@dataclass(frozen=True)
class Line:
    """One line of the matrix: points by check, and what is wrong with it (empty: nothing).

    ``spared``: the ledger knows it, and it was not judged; it has no points then. ``seeds``: on how
    many it was tried in its own check. ``distance``: of the figure of that check that is nearest to
    its bound (of a mutant's: farthest on the wrong side), in standard deviations of a seed.
    """

    name: str
    of: str
    dataset: str
    points: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    spared: bool = False
    key: str = ""
    seeds: int = 0
    distance: float | None = None


def prove(
    course: Course,
    lab: str,
    dataset: str,
    *,
    isolated: bool,
    known: ledger.Known | None = None,
    again: float = AGAIN,
    only: str = "",
    few: bool = False,
    at_most: int | None = None,
) -> list[Line]:
    """The matrix of ``lab`` on ``dataset``.

    Beyond glyphs only answers to checks that measure on images or with a clock are lines: the
    others draw no images.

    Args:
        known: what the ledger says, to spare; None: judge every line.
        again: the part of the spared lines that is judged all the same, drawn at random.
        only: reference, release, and answers with this in their name; empty: all.
        few: every line on a few seeds, drawn at random; that is no proof to remember.
        at_most: so many of the lines that the ledger does not know, drawn at random.

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
    answers = [one for one in answers_on(definition, dataset) if only in one.name]
    empty = [Line("reference", "", dataset), Line("release", "", dataset)]
    lines = [*empty, *(Line(answer.name, answer.check, dataset) for answer in answers)]
    keys = [ledger.key(base, line.name) for line in empty]
    keys += [_key(base, answer, definition) for answer in answers]
    wanted = _wanted([*zip(lines, keys, strict=True)], known, again, at_most)
    lines = [_spared(line, key) for line, key in zip(lines, keys, strict=True)]
    if 1 in wanted:
        lines[1] = _untouched(released, lab, dataset, isolated, keys[1])
    if wanted.keys() - {1}:
        with bench(taken.notebook, lab, outputs, isolated) as place:
            full = place.judge({})
            place.look_nearby(full)
            on_few = few or bool(only) or wanted.get(0, True)
            lines[0] = _reference(lines[0], place, full, few=on_few)
            todo = sorted(wanted.keys() - {0, 1})
            for at in tqdm(todo, desc=f"mutants of {lab} on {dataset}", unit="mutant"):
                one = answers[at - 2]
                lines[at] = _answered(lines[at], place, one, full, again=few or wanted[at])
    return lines


def answers_on(definition: LabDefinition, dataset: str) -> list[Answer]:
    """The mutants and valid solutions that are lines of the matrix; see :func:`prove`."""
    answers: list[Answer] = [*definition.mutants, *definition.valid]
    if dataset == FIRST:
        return answers
    return [answer for answer in answers if trials.measures(definition, answer.check)]


def _reference(line: Line, place: Bench, full: dict[str, Verdict], *, few: bool) -> Line:
    """The reference's line: on as many seeds as a valid solution, in every check.

    Args:
        few: only a few of these seeds, at random.
    """
    lab = find(place.lab)
    short = [name for name, verdict in full.items() if verdict.points < verdict.max_points]
    found: list[str] = []
    tried: dict[str, trials.Trial] = {}
    for name, verdict in full.items():
        seeds = trials.seeds(lab, name, right=True, seconds=place.seconds[name], again=few)
        tried[name] = place.tried(name, verdict, verdict.max_points, seeds)
        if fault := tried[name].right_fault():
            found.append(f"{name}: {fault}")
    found += dict.fromkeys(place.broken)
    distances = [d for one in tried.values() for d in one.distances()]
    fault = f"reference falls short in {short}: {found}" if found else ""
    most = max(len(one.verdicts) for one in tried.values())
    return replace(_line(line, full, fault), seeds=most, distance=min(distances, default=None))


def _answered(
    line: Line, place: Bench, answer: Answer, full: dict[str, Verdict], *, again: bool
) -> Line:
    """The line of one answer: once in every check that it reaches, on all its seeds in its own."""
    own, right = answer.check, isinstance(answer, Valid)
    seconds = place.seconds[own]
    seeds = trials.seeds(find(place.lab), own, right=right, seconds=seconds, again=again)
    with place.answered(answer) as reached:
        verdicts = place.judge({n: v for n, v in full.items() if n not in reached})
        fault = _fault(answer, verdicts, full)
        seeds = seeds[:1] if fault else seeds
        tried = place.tried(own, verdicts[own], full[own].points, seeds, answer.source)
    said = fault or (tried.right_fault() if right else tried.mutant_fault())
    distance = min(tried.distances(), default=None)
    return replace(_line(line, verdicts, said), seeds=len(tried.verdicts), distance=distance)


def _key(base: str, answer: Answer, definition: LabDefinition) -> str:
    """The key of a line: a forgery's is that of all files in which the lab may forge it."""
    what = type(answer).__name__, answer.name, answer.check
    if answer.forge is None:
        return ledger.key(base, *what, answer.cell or "", answer.source)
    return ledger.key(base, *what, answer.artifact or "", files=_forgers(definition.folder))


def _forgers(folder: Path | None) -> set[Path]:
    """The files of a lab that make artifacts."""
    if folder is None:
        return set()
    files = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return {folder / path for path in files if path.parts[0].startswith(("mutants", "valid"))}


def _wanted(
    lines: Sequence[tuple[Line, str]],
    known: ledger.Known | None,
    again: float,
    at_most: int | None,
) -> dict[int, bool]:
    """The lines to judge: what the ledger does not know as it is now, and a random part of it.

    Returns:
        for each of them whether the ledger knows it.
    """
    if known is None:
        return dict.fromkeys(range(len(lines)), False)
    draw = random.SystemRandom()
    right = [known.get(ledger.name_of(line.dataset, line.name)) == key for line, key in lines]
    new = [at for at, knows in enumerate(right) if not knows]
    if at_most is not None and at_most < len(new):
        new = draw.sample(new, at_most)
    old = [at for at, knows in enumerate(right) if knows and draw.random() < again]
    return {**dict.fromkeys(new, False), **dict.fromkeys(old, True)}


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
    """Checks of ``lab`` with fewer than three mutants, answers without valid ones: holes."""
    definition = find(lab)
    wrong = Counter(mutant.check for mutant in definition.mutants)
    right = Counter(answer.place for answer in definition.valid)
    functions = {m.place for m in definition.mutants if not trials.measures(definition, m.check)}
    return [
        f"{name} has {wrong[name]} mutants, at least {MUTANTS_NEEDED} are needed"
        for name in definition.targets
        if wrong[name] < MUTANTS_NEEDED
    ] + [
        f"{place} has {right[place]} valid solutions, at least {VALID_NEEDED} are needed"
        for place in sorted(functions)
        if right[place] < VALID_NEEDED
    ]


def markdown(lines: Sequence[Line], lab: str) -> str:
    """The matrix as a Markdown table: the points each line keeps in each check."""
    checks = list(find(lab).targets)
    head = "| dataset | line | of | " + " | ".join(checks) + " | seeds | distance | verdict |"
    rule = "|---" * (len(checks) + 6) + "|"
    body = [
        f"| {line.dataset} | {line.name} | {line.of} | "
        + " | ".join(f"{line.points[name]:g}" if line.points else "–" for name in checks)
        + f" | {line.seeds or '–'} | {_shown(line.distance)}"
        + f" | {line.fault or ('known' if line.spared else 'ok')} |"
        for line in lines
    ]
    return "\n".join([head, rule, *body]) + "\n"


def to_json(lines: Sequence[Line]) -> str:
    """The matrix as JSON."""
    return json.dumps([_strict(line) for line in lines], indent=1) + "\n"


def _strict(line: Line) -> dict[str, object]:
    """A line for JSON, which has no infinity: a distance that is infinite is left out."""
    finite = line.distance is not None and math.isfinite(line.distance)
    return {**vars(line), "distance": line.distance if finite else None}


def _shown(distance: float | None) -> str:
    return "–" if distance is None else "∞" if math.isinf(distance) else f"{distance:.1f}"


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
    line = Line("release", "", dataset, key=key, seeds=1)
    return _line(line, verdicts, fault or (f"no verdict in {lost}" * bool(lost)))


def _line(line: Line, verdicts: dict[str, Verdict], fault: str) -> Line:
    points = {name: verdict.points for name, verdict in verdicts.items()}
    return replace(line, points=points, fault=fault, spared=False)


def _fault(answer: Answer, verdicts: dict[str, Verdict], full: dict[str, Verdict]) -> str:
    lost = {name for name, v in verdicts.items() if v.points < full[name].points}
    expected = {answer.check} if isinstance(answer, Mutant) else set()
    if lost == expected:
        return ""
    return f"lost points in {sorted(lost) or 'nothing'}, expected {sorted(expected) or 'nothing'}"
