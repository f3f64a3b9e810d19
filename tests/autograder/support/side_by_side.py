"""The hostile suite on the judge and on stock nbgrader, side by side, as a table in Markdown.

``python tests/autograder/support/side_by_side.py --fresh --out autograder/COMPARISON.md`` hands in
every case twice: to the judge, and, where it has a counterpart, to stock nbgrader on a throw-away
machine (:mod:`stock_machine`); behind it an honest student of the same class. Every figure of the
table is of these runs. What is done is kept in ``--results``, so that a run that was cut goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aftermath
import psutil
import pytest
import stock_machine
from aftermath import EARLIER
from hostile_cases import ELSEWHERE, SECRET, Case, hand_in_case, keyed
from toy_lab import (
    ASSERTS,
    CALL_DEADLINE_S,
    LAB,
    POINTS,
    STOCK,
    definition,
    half_zero,
    hand_in,
    lay_out,
    register,
)
from tqdm.auto import tqdm

from autograder.grading import judge
from autograder.grading.run import grade
from autograder.intake import folders
from autograder.intake.course import Course
from autograder.sandbox import bubblewrap, limits

HOSTILE, NEXT = "hostile", "next"
# In nbgrader's log: the last line of a traceback; else what it calls an error, but for what it says
# of every one.
RAISED = re.compile(r"^\s*(?:\w+\.)*(\w*(?:Error|Exception|Invalid)\w*: \S.*)$", re.MULTILINE)
CALLED = re.compile(
    r"^\[AutogradeApp \| ERROR\] (?!There was an|Please see|Traceback|Timeout|Interrupting)(.+)$",
    re.MULTILINE,
)
RESULTS = Path("build/side_by_side.json")
PACKAGES = ("nbgrader", "nbclient", "jupyter_client", "ipykernel")
FULL = tuple(float(points) for points in POINTS.values())


# --- the two graders -----------------------------------------------------------------------------


def stock_course(root: Path) -> Path:
    """The toy lab for stock nbgrader, with a student who was graded before."""
    lay_out(root, STOCK + stock_machine.CONFIG, ASSERTS)
    hand_in(Course.at(root), EARLIER, "def double(x): raise NotImplementedError")
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "autograde", LAB],
        cwd=root,
        check=True,
        capture_output=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    return root


def judged_course(root: Path) -> Path:
    """The same class for the judge."""
    lay_out(root)
    hand_in(Course.at(root), EARLIER, "def double(x): raise NotImplementedError")
    list(grade(root, LAB, workers=0, progress=False))
    return root


@contextmanager
def class_of_two(pristine: Path, case: Case | None) -> Iterator[Path]:
    """A copy of the course in which the case is handed in (None: right work), then right work."""
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as folder:
        root = Path(shutil.copytree(pristine, Path(folder) / "course"))
        course = Course.at(root)
        submission = hand_in(course, HOSTILE, model=half_zero())
        if case is not None:
            hand_in_case(submission, case)
        hand_in(course, NEXT, model=half_zero())
        try:
            yield root
        finally:
            folders.remove(root)  # at any depth


def on_stock(pristine: Path, case: Case | None) -> dict[str, Any]:
    """What stock nbgrader makes of it, on a machine of its own."""
    with class_of_two(pristine, case) as root:
        try:
            report = stock_machine.run(root, HOSTILE)
        except stock_machine.Stopped as stopped:
            report = {"stopped": str(stopped)}
        return without_paths(report, root)


def on_judge(pristine: Path, case: Case | None) -> dict[str, Any]:
    """What the judge makes of it."""
    with class_of_two(pristine, case) as root:
        before = aftermath.look(root, HOSTILE, LAB)
        running = len(psutil.Process().children(recursive=True))
        bystander = subprocess.Popen(["sleep", "1000"])
        done = {g.student: g for g in grade(root, LAB, workers=0, progress=False)}
        report = {
            "before": before,
            "after": aftermath.look(root, HOSTILE, LAB),
            "bystander": bystander.poll() is None,
            "full": [disk for disk in ("/tmp", "/dev/shm", str(root)) if aftermath.is_full(disk)],
            "verdicts": done[HOSTILE].verdicts,
            "problems": done[HOSTILE].problems,
        }
        bystander.kill()
        bystander.wait()
        report["left"] = max(0, len(psutil.Process().children(recursive=True)) - running)
        return without_paths(report, root)


def without_paths(report: dict[str, Any], root: Path) -> dict[str, Any]:
    """The same with names relative to the course, whatever folder it lies in here."""
    text = json.dumps(report)
    for path, name in ((f"{root}/", ""), (str(root), "."), (f"{sys.prefix}/", "")):
        text = text.replace(path, name)
    return json.loads(text)


# --- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One submission at one grader: the points of each cell (None: no grade), and what else.

    ``said`` is Markdown, with the words of programs quoted.
    """

    points: tuple[float, ...] | None
    next_points: tuple[float, ...] | None
    harm: tuple[str, ...]
    said: str

    def gave_away(self, case: Case) -> bool:
        """Whether some cell has more points than it is worth."""
        return self.points is not None and any(
            got > worth for got, worth in zip(self.points, case.earned, strict=True)
        )

    def withheld(self, case: Case) -> bool:
        """Whether some cell has fewer points than it is worth, or none at all."""
        return self.points is None or any(
            got < worth for got, worth in zip(self.points, case.earned, strict=True)
        )


def points_of(report: dict[str, Any], student: str) -> tuple[float, ...] | None:
    """The points of every cell, or None where one of them has none."""
    row = report.get("after", {}).get("scores", {}).get(student, {})
    found = [row.get(name) for name in POINTS]
    return None if None in found else tuple(found)


def harm(report: dict[str, Any]) -> tuple[str, ...]:
    """What changed outside of the submission's own work."""
    if "stopped" in report:
        return (f"the machine went down: {report['stopped']}",)
    said = aftermath.changes(report["before"], report["after"])
    said += [
        f"filled {disk if disk != '.' else 'the disk of the course'}" for disk in report["full"]
    ]
    said += [] if report["bystander"] else ["killed another process of the grader's user"]
    said += [f"left processes running: {report['left']}"] * (report["left"] > 0)
    size = report["after"]["notebook_bytes"]
    said += [f"left a notebook of {size / 1e6:.0f} MB"] * (size > aftermath.NOTEBOOK_BYTES)
    return tuple(said)


def stock_outcome(report: dict[str, Any]) -> Outcome:
    """Read a report of stock nbgrader's machine."""
    points = points_of(report, HOSTILE)
    return Outcome(points, points_of(report, NEXT), harm(report), fate(report, points))


def fate(report: dict[str, Any], points: tuple[float, ...] | None) -> str:
    """What nbgrader, its log and the graded notebook said of the submission."""
    if "stopped" in report:
        return ""
    status, errors = report["status"], report["after"]["errors"]
    said = report["said"].partition(f"submitted/{NEXT}/")[0]
    parts = []
    if status is None:
        parts.append(f"nbgrader hung, killed after {stock_machine.DEADLINE_S:.0f} s")
    elif status < 0:
        parts.append(f"nbgrader was killed (signal {-status})")
    if points is None:
        row = HOSTILE in report["after"]["scores"]
        parts.append("grade row without a score" if row else "no grade row")
        parts += ["nbgrader reported success"] * (status == 0)
        parts += ["the batch stopped"] * (status == 1 and points_of(report, NEXT) is None)
        parts += map(quoted, (RAISED.findall(said) or CALLED.findall(said))[-1:])
    else:
        parts += ["timed out"] * ("Timeout waiting for execute reply" in said)
        parts += [quoted(f"{name}: {errors[name]}") for name in POINTS if name in errors]
    return "; ".join(parts)


def judge_outcome(report: dict[str, Any]) -> Outcome:
    """Read a report of the judge."""
    rows = [row for verdict in report["verdicts"] for row in verdict["rows"]]
    lost = [row for row in rows if row["points"] < row["max_points"]]
    said = [*report["problems"]] * bool(lost)
    said += [
        row["message"] or f"{row['name']}: got {row['measured']:.2g}, target {row['target']}"
        for row in lost
    ]
    reason = quoted(said[0]) if said else ""
    return Outcome(points_of(report, HOSTILE), points_of(report, NEXT), harm(report), reason)


# --- the table -----------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    """The whole page: what was run, the totals and the table."""
    lines = [(case.number, row(case, results[key])) for key, case in keyed()]
    lines += [
        (number, f"| {number} | – | | | not measured here: {reason} | | | |")
        for number, reason in ELSEWHERE.items()
    ]
    lines.sort(key=lambda line: line[0])
    return "\n".join([HEAD.format(**facts(results)), *(text for _, text in lines), ""])


ROW = re.compile(r"\| (\d+) \| ")  # of the table: a case's number

HEAD = """\
# The hostile suite, beside stock nbgrader

Every case of `tests/autograder/support/hostile_cases.py`, handed in to stock nbgrader and to the
judge with {made}.
Regenerate with
`python tests/autograder/support/side_by_side.py --fresh --out autograder/COMPARISON.md`.

Stock nbgrader runs `nbgrader autograde` over a class of two, the case and then an honest student,
on a throw-away machine with a read-only system, {memory} GiB of memory and {processes} processes. A
cell has {cell_s} s, the class {class_s} s. Its test cells assert what the judge's checks test,
hidden tests included. With the judge a cell has {cell_s} s and a call {call_s} s.

Points: {points}. *Worth* is what the submitted work earns by itself, whatever comes with it; bold
is more than that. A case without a counterpart counts for the judge alone.

{totals}

{columns}"""
COLUMNS = (
    "#",
    "case",
    "worth",
    "stock: points",
    "stock: what happened",
    "stock: next student",
    "judge: points",
    "judge: reason",
)


COUNTED: dict[str, Callable[[Case, Outcome], object]] = {
    "more points than the work is worth": lambda c, o: o.gave_away(c),
    "fewer points than the work is worth": lambda c, o: o.points and o.withheld(c),
    "no grade": lambda c, o: o.points is None,
    "no grade for the next student": lambda c, o: o.next_points is None,
    "a wrong grade for the next student": lambda c, o: o.next_points not in (None, FULL),
    "something changed outside of the submission's own work": lambda c, o: o.harm,
}


def facts(results: dict[str, Any]) -> dict[str, Any]:
    """What the head of the page says."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "made": f"{packages}, Python {platform.python_version()}",
        "memory": limits.MEMORY_BYTES >> 30,
        "processes": limits.PROCESSES,
        "cell_s": stock_machine.CELL_DEADLINE_S,
        "class_s": f"{stock_machine.DEADLINE_S:.0f}",
        "call_s": f"{CALL_DEADLINE_S:.0f}",
        "points": " + ".join(f"{points} (`{name}`)" for name, points in POINTS.items()),
        "totals": totals(results),
        "columns": f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}",
    }


def totals(results: dict[str, Any]) -> str:
    """How often each grader did what it must not."""
    judged = [(case, judge_outcome(results[key]["judge"])) for key, case in keyed()]
    tried = [
        (case, stock_outcome(results[key]["stock"]))
        for key, case in keyed()
        if "stock" in results[key]
    ]
    lines = ["| cases with | stock nbgrader | judge |", "| --- | --- | --- |"]
    for name, holds in COUNTED.items():
        theirs, ours = (sum(bool(holds(c, o)) for c, o in side) for side in (tried, judged))
        lines.append(f"| {name} | {theirs} of {len(tried)} | {ours} of {len(judged)} |")
    withheld = dict.fromkeys(case.name for case, outcome in judged if outcome.withheld(case))
    lines += ["", f"Less than its worth at the judge (reasons below): {', '.join(withheld)}."]
    return "\n".join(lines)


def row(case: Case, result: dict[str, Any]) -> str:
    """One line of the table."""
    ours = judge_outcome(result["judge"])
    cells = [str(case.number), case.name, shown(case.earned)]
    if "stock" in result:
        theirs = stock_outcome(result["stock"])
        happened = "; ".join(filter(None, [theirs.said, *theirs.harm]))
        cells += [marked(theirs, case), happened, shown(theirs.next_points)]
    else:
        cells += ["–", f"no counterpart: {case.no_counterpart}", "–"]
    reason = "; ".join(filter(None, [ours.said, *ours.harm]))
    return f"| {' | '.join([*cells, marked(ours, case), reason])} |"


def shown(points: tuple[float, ...] | None) -> str:
    """The sum, or that there is none."""
    return "no grade" if points is None else f"{sum(points):g}"


def marked(outcome: Outcome, case: Case) -> str:
    """The sum, bold where it is more than the work is worth."""
    return f"**{shown(outcome.points)}**" if outcome.gave_away(case) else shown(outcome.points)


def quoted(text: str, most: int = 110) -> str:
    """Words of a submission or a program, so that Markdown takes them for nothing else."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    if len(text) > most:
        text = f"{text[:most].rstrip(chr(92))}…"
    return f"`{text}`" if text else ""


# --- running it ----------------------------------------------------------------------------------


def prepare() -> None:
    """Deadlines and environment that both graders share."""
    patch = pytest.MonkeyPatch()
    register(definition())
    patch.setenv("CODESIGN_DATASET", "glyphs")
    patch.setattr(judge, "CELL_DEADLINE_S", float(stock_machine.CELL_DEADLINE_S))
    patch.setenv(SECRET, "a secret of the host")


def missing(page: str) -> list[tuple[str, Case]]:
    """The cases that have no row on ``page``."""
    rows = Counter(line.split(" | ")[1] for line in page.splitlines() if ROW.match(line))
    seen: Counter[str] = Counter()
    left = []
    for key, case in keyed():
        seen[case.name] += 1
        if seen[case.name] > rows[case.name]:
            left.append((key, case))
    return left


def extended(page: str, results: dict[str, Any]) -> str:
    """Add the rows that ``page`` lacks and count them into its totals; others stay as they are."""
    lines, judged, tried = page.splitlines(), [], []
    for key, case in missing(page):
        found = [(i, int(m[1])) for i, text in enumerate(lines) if (m := ROW.match(text))]
        before = [i for i, number in found if number <= case.number]
        lines.insert(before[-1] + 1, row(case, results[key]))
        judged.append((case, judge_outcome(results[key]["judge"])))
        if "stock" in results[key]:
            tried.append((case, stock_outcome(results[key]["stock"])))
    for name, holds in COUNTED.items():
        at = next(i for i, text in enumerate(lines) if text.startswith(f"| {name} |"))
        a, n, b, m = map(int, re.findall(r"\d+", lines[at].removeprefix(f"| {name} ")))
        theirs, ours = (sum(bool(holds(c, o)) for c, o in side) for side in (tried, judged))
        lines[at] = (
            f"| {name} | {a + theirs} of {n + len(tried)} | {b + ours} of {m + len(judged)} |"
        )
    withheld = [case.name for case, outcome in judged if outcome.withheld(case)]
    at = next(i for i, text in enumerate(lines) if text.startswith("Less than its worth"))
    lines[at] = ", ".join([lines[at].removesuffix("."), *dict.fromkeys(withheld)]) + "."
    return "\n".join([*lines, ""])


def run(
    results: dict[str, Any], save: Path, cases: Sequence[tuple[str, Case]] = ()
) -> dict[str, Any]:
    """Hand in what is not in ``results`` yet, one after another; all ``cases``, or these."""
    prepare()
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as folder:
        theirs = stock_course(Path(folder) / "stock")
        ours = judged_course(Path(folder) / "judged")
        for key, case in tqdm(cases or keyed(), unit="case"):
            if key in results:
                continue
            result = {"judge": on_judge(ours, case)}
            if not case.no_counterpart:
                result["stock"] = on_stock(theirs, case)
            results[key] = result
            part = save.with_suffix(".part")
            part.write_text(json.dumps(results))
            part.replace(save)
    return results


def main() -> None:
    """Run what is left to run; print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the page here instead of printing it")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what is done is kept here")
    parser.add_argument("--fresh", action="store_true", help="forget what was kept")
    parser.add_argument("--extend", type=Path, help="add the rows that this page lacks")
    chosen = parser.parse_args()
    if reason := bubblewrap.why_not():
        sys.exit(f"these submissions are only tried in a sandbox: {reason}")
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    kept = chosen.results.exists() and not chosen.fresh
    known = json.loads(chosen.results.read_text()) if kept else {}
    if chosen.extend:
        old = chosen.extend.read_text()
        left = missing(old)
        page = extended(old, run(known, chosen.results, left)) if left else old
    else:
        page = markdown(run(known, chosen.results))
    if chosen.out:
        chosen.out.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
