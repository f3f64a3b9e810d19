"""What waits for a person, in a real gradebook: flagged, found again, and never undone."""

from __future__ import annotations

import csv
import json

import pytest
from sample_class import absent, cell, entry, verdict
from toy_lab import DOUBLE, LAB, NBGRADERS_WARNINGS, hand_in, judge_by_reading
from typer.testing import CliRunner

from autograder.cli import app
from autograder.grading import records, run
from autograder.reports import queue, roster

real = [
    pytest.mark.slow,
    *NBGRADERS_WARNINGS,
]
pytestmark = real
NOISY = f"{DOUBLE}  # noise"


def grade(course, job=judge_by_reading) -> None:
    options = {"unisolated": True, "workers": 0, "progress": False}
    list(run.grade(course.root, LAB, job=job, **options))


def grade_row(gradebook, student: str, name: str = "net"):
    return gradebook.find_grade(name, LAB, LAB, student)


def state(course, student: str, name: str = "net") -> tuple:
    with course.gradebook() as gradebook:
        row = grade_row(gradebook, student, name)
        return row.auto_score, row.manual_score, row.needs_manual_grade


def decide(course, student: str, **fields) -> None:
    with course.gradebook() as gradebook:
        row = grade_row(gradebook, student)
        for name, value in fields.items():
            setattr(row, name, value)
        gradebook.db.commit()


def waiting(course) -> list[tuple[str, str, str]]:
    items = queue.queue(roster.read(course, LAB))
    return [(item.what, item.student, item.cell) for item in items]


def test_inconclusive_is_flagged_until_a_person_decides(course):
    hand_in(course, "noisy", source=NOISY)
    hand_in(course, "clear")
    grade(course)
    assert state(course, "noisy") == (3, None, True), "full points, and a person looks"
    assert state(course, "noisy", "double") == (2, None, False)
    assert state(course, "clear") == (3, None, False)
    assert waiting(course) == [("inconclusive", "noisy", "net")]
    decide(course, "noisy", needs_manual_grade=False)  # as an older grader left it
    grade(course)
    assert state(course, "noisy") == (3, None, True), "published again"
    decide(course, "noisy", manual_score=1.5, needs_manual_grade=False)
    grade(course)
    assert state(course, "noisy") == (3, 1.5, False), "a person's score stays"
    assert waiting(course) == []


def test_extra_credit_is_a_decision_too(course):
    hand_in(course, "noisy", source=NOISY)
    grade(course)
    decide(course, "noisy", extra_credit=0.5, needs_manual_grade=False)  # as formgrader saves it
    grade(course)
    assert state(course, "noisy") == (3, None, False)
    assert roster.read(course, LAB)[0].changed == 0.5


def test_a_figure_that_is_no_number_is_published_once(course, monkeypatch):
    """NaN differs from itself: each run would write it again, and flag what a person graded."""
    hand_in(course, "odd", source=f"{DOUBLE}  # nan")
    grade(course)
    path = course.folder("autograded", "odd", LAB) / f"{LAB}.ipynb"
    json.loads(path.read_text(), parse_constant=pytest.fail)
    monkeypatch.setattr(records.Records, "_write", lambda *_: pytest.fail("written again"))
    grade(course)


def test_what_could_not_be_judged_waits(course):
    def fail(unit: bytes) -> bytes:
        if b"lost" in unit:
            raise ValueError("the judge's own fault")
        return judge_by_reading(unit)

    hand_in(course, "lost", source="lost = True")
    hand_in(course, "broken")
    (course.folder("submitted", "broken", LAB) / f"{LAB}.ipynb").write_text("{")
    grade(course, job=fail)
    hand_in(course, "new")
    assert waiting(course) == [
        ("not judged", "broken", ""),
        ("not judged", "lost", ""),
        ("not judged", "new", ""),
    ]
    decide(course, "broken", manual_score=2.0)
    assert ("not judged", "broken", "") not in waiting(course)


def test_cells_for_a_person_are_one_line_a_student():
    cells = (cell("why", False, None, waits=True), cell("how", False, None, waits=True))
    again = cell("why", False, None, manual=1.0, waits=True)
    entries = [entry("a", cells=cells), entry("b", cells=(again,)), absent("c")]
    assert [(item.student, item.cell) for item in queue.queue(entries)] == [
        ("a", "why, how"),
        ("b", "why"),
    ]
    assert "graded again since" in queue.text(queue.queue(entries), LAB)
    assert "nothing waits" in queue.text([], LAB)


def test_an_inconclusive_cell_is_listed_once():
    waits = cell(waits=True)
    items = queue.queue([entry("a", verdict(9.9, undecided=True), cells=(waits,))])
    assert [(item.what, item.measured, item.target) for item in items] == [
        ("inconclusive", 9.9, 10.0)
    ]


def test_the_commands(course):
    hand_in(course, "noisy", source=NOISY)
    with course.gradebook() as gradebook:
        gradebook.add_student("absent")
    grade(course)
    (course.root / "leaderboard.toml").write_text('[names]\nnobody = "Ada"\n')

    def run(*words: str):
        return CliRunner().invoke(app, [*words, "--root", str(course.root)])

    assert "inconclusive  noisy" in run("queue", LAB).output
    ran = run("leaderboard", LAB)
    assert ran.exit_code == 0
    assert "'nobody', who is not in the class" in ran.output
    assert run("report", LAB).exit_code == 0
    assert sorted(path.name for path in (course.root / "reports").iterdir()) == [
        "toy.csv",
        "toy.html",
        "toy.json",
        "toy_leaderboard.html",
        "toy_leaderboard.txt",
    ]
    with open(course.root / "reports" / "toy.csv", newline="") as file:
        lines = {line["student"]: line for line in csv.DictReader(file)}
    assert (lines["noisy"]["total"], lines["noisy"]["cells_to_grade"]) == ("5", "1")
    assert lines["absent"]["problems"] == "handed in nothing"
    assert run("report", LAB, "--out", "x.pdf").exit_code == 2
    assert run("report", "lab9_nothing").exit_code == 2
