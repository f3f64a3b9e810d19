"""Grade honest work in every form in which it comes back, in the sandbox; write a table of points.

    python -m benchmarks.hand_ins lab1_pruning
    python -m benchmarks.hand_ins lab1_pruning --beside PATH    # and by another checkout's judge

Every case of ``samples/hand_ins.py`` is handed in without artifacts, so that a class takes minutes:
what is compared is whether the answers arrive. The first line says what they are worth.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import nbformat
import typer

from autograder.intake import release
from autograder.intake.course import Course
from autograder.reports.commands import HERE, Root, known_lab
from samples import demo, hand_ins

TESTS = "tests/autograder/intake/test_hand_ins.py"
HOST = "an empty file, where the host did the lab in labs/"


def main(
    lab: Annotated[str, typer.Argument(callback=known_lab)],
    beside: Annotated[Path | None, typer.Option(help="another checkout of the course")] = None,
    only: Annotated[str, typer.Option(help="cases with this in their name")] = "",
    root: Root = HERE,
) -> None:
    """Grade each case of LAB and print a table."""
    judges = {"points": root.resolve()} | ({"before": beside.resolve()} if beside else {})
    cases = [case for case in hand_ins.CASES if only in case.name]
    found = {name: points(where, root.resolve(), lab, cases) for name, where in judges.items()}
    heads = ("handed in", *reversed(judges), f"test in `{TESTS}`")
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * len(judges)}---|")
    for case in [*(case.name for case in cases), HOST]:
        shown = [f"{found[name][case]:g}" for name in reversed(judges)]
        test = "test_what_lies_in_labs_is_no_base" if case == HOST else "test_the_answers_arrive"
        print(f"| {case} | {' | '.join(shown)} | `{test}` |", flush=True)


def points(judge: Path, root: Path, lab: str, cases: Sequence[hand_ins.HandIn]) -> dict[str, float]:
    """The points of every case, by the judge in the checkout ``judge``."""
    students = {f"s{n:02}": case for n, case in enumerate(cases)}
    with tempfile.TemporaryDirectory(prefix="hand-ins-") as folder:
        course = demo.lay_out(root, Path(folder) / "course", lab)
        release.release(course.root, lab)
        notebook = hand_ins.solved(course, lab)
        for student, case in students.items():
            case.write(notebook, course.folder("submitted", student, lab) / f"{lab}.ipynb")
        found = graded(judge, course, lab)
        hosted = demo.lay_out(root, Path(folder) / "hosted", lab)
        release.release(hosted.root, lab)
        nbformat.write(notebook, hosted.released(lab))
        empty = hosted.folder("submitted", "s", lab) / f"{lab}.ipynb"
        empty.parent.mkdir(parents=True)
        empty.write_bytes(b"")
        host = graded(judge, hosted, lab)["s"]
    return {case.name: found[student] for student, case in students.items()} | {HOST: host}


def graded(judge: Path, course: Course, lab: str) -> dict[str, float]:
    """Grade as an instructor does; points of the judged cells, by student."""
    command = [sys.executable, "-m", "autograder.cli", "grade", lab, "--root", str(course.root)]
    environment = {**os.environ, "PYTHONPATH": str(judge)}
    subprocess.run(command, check=True, cwd=judge, env=environment, stdout=subprocess.DEVNULL)
    with course.gradebook() as gradebook:
        return {
            one.student.id: round(
                sum(g.auto_score or 0 for n in one.notebooks for g in n.grades), 2
            )
            for one in gradebook.assignment_submissions(lab)
        }


if __name__ == "__main__":
    typer.run(main)
