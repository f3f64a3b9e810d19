"""An environment's failure is never a grade: no score, none replaced, and the run says why."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from functools import partial

import grader
import pytest
from nbgrader.converters.base import NbGraderException
from toy_lab import LAB, NBGRADERS_WARNINGS, half_zero, hand_in, judge_by_reading, registered
from typer.testing import CliRunner

from autograder.cli import app
from autograder.grading import database, lost, pool, records, run, unit
from autograder.grading.lost import First, Stopped
from autograder.sandbox import bubblewrap

pytestmark = [pytest.mark.slow, *NBGRADERS_WARNINGS]
OPTIONS = {"unisolated": True, "workers": 0, "progress": False}
SPACE = "OSError: [Errno 28] No space left on device: '/tmp/{}'"


def no_space(content: bytes) -> bytes:
    """A judge on a full disk; the file differs each time."""
    raise OSError(28, "No space left on device", f"/tmp/{hash(content)}")


def rows(course) -> list[tuple[str, str, float | None]]:
    """Every automatic score in the gradebook."""
    with course.gradebook() as gradebook:
        return sorted(
            (submission.student.id, grade.cell.name, grade.auto_score)
            for submission in gradebook.assignment_submissions(LAB)
            for notebook in submission.notebooks
            for grade in notebook.grades
        )


@pytest.fixture
def eight(course):
    """A course with eight right submissions, nothing graded."""
    for number in range(8):
        hand_in(course, f"student{number}")
    return course


# --- the first ones, and one sentence ------------------------------------------------------------


def test_the_first_lost_for_one_reason_stop_a_run():
    first = First()
    for number in range(lost.FIRST - 1):
        first.note(SPACE.format(number))
    with pytest.raises(Stopped, match=rf"the first {lost.FIRST} submissions .*No space left"):
        first.note(SPACE.format("x"))


@pytest.mark.parametrize(
    "reasons",
    [
        [None, *[SPACE] * 9],  # the first one was judged
        [SPACE, SPACE, None, *[SPACE] * 9],
        [SPACE, "ValueError: of one submission alone", *[SPACE] * 9],
        [SPACE] * (lost.FIRST - 1),
    ],
)
def test_otherwise_it_goes_on(reasons):
    first = First()
    for reason in reasons:
        first.note(reason)


def test_losses_are_told_in_one_sentence():
    assert lost.told([], 3) is None
    said = lost.told([SPACE.format(1), SPACE.format(2), "a\nb"], 9)
    assert said.startswith("3 of 9 submissions could not be judged")
    assert said.endswith(f"(2 times: {SPACE.format(1)}; 1 times: a b)")


def test_a_run_whose_first_units_are_lost_stops_and_writes_no_score(eight):
    done, said = run.to_the_end(eight.root, LAB, job=no_space, **OPTIONS)
    assert "No space left on device" in said
    assert [(one.points, one.verdicts) for one in done] == [(0, ())] * lost.FIRST
    assert all("not judged: OSError" in one.problems[0] for one in done)
    assert rows(eight) == []
    again = run.grade(eight.root, LAB, job=judge_by_reading, **OPTIONS)
    assert {one.points for one in again} == {5}


def test_a_loss_leaves_what_was_graded_before(eight):
    before = list(run.grade(eight.root, LAB, job=judge_by_reading, **OPTIONS))
    scores = rows(eight)
    for number in range(3):  # handed in again
        shutil.rmtree(eight.folder("submitted", f"student{number}", LAB))
        hand_in(eight, f"student{number}", "def double(x): return 3 * x")
    after = list(run.grade(eight.root, LAB, job=no_space, **OPTIONS))
    assert [one.student for one in after if one.lost] == ["student0", "student1", "student2"]
    assert rows(eight) == scores
    assert [records.read(eight, LAB, one.student) for one in before] == before


@pytest.mark.parametrize(
    ("students", "said"), [(8, "autograder: stopped: the first 5"), (2, "2 of 2")]
)
def test_the_command_fails_and_says_it_in_one_sentence(course, monkeypatch, students, said):
    for number in range(students):
        hand_in(course, f"student{number}")
    monkeypatch.setattr(run, "grade", partial(run.grade, job=no_space))
    words = ["grade", LAB, "--root", str(course.root), "--workers", "0", "--unisolated"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert said in last
    assert "No space left on device" in last


# --- what it is that fails -----------------------------------------------------------------------


def test_a_check_in_which_the_machine_fails_is_a_loss(course):
    def full(student, cases, target):
        raise OSError(28, "No space left on device")

    hand_in(course, "alice", model=half_zero())
    with registered(double=full):
        [alice] = run.grade(course.root, LAB, **OPTIONS)
    assert alice.lost == "NotJudged: OSError: [Errno 28] No space left on device"
    assert rows(course) == []


def test_a_home_that_cannot_be_created_is_no_grade(eight, tmp_path):
    """With the real judge, in a process of its own: what is decoded lies in the home."""
    words = ["grade", LAB, "--workers", "0", "--unisolated"]
    command, environment = grader.command("judge_toy", *words, HOME="/proc/nobody")
    for name in ("CODESIGN_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    ran = subprocess.run(command, cwd=eight.root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "autograder: stopped: the first 5 submissions were lost for one reason" in ran.stderr
    assert "/proc/nobody" in ran.stderr.splitlines()[-1]
    assert rows(eight) == []


def test_a_module_that_is_missing_stops_it_before_the_first_unit():
    def job(content: bytes) -> bytes:
        raise AssertionError

    job.__module__, job.__qualname__ = "no_such_module", "job"
    with pytest.raises(Stopped, match=r"no worker can start here .*No module named 'no_such"):
        list(pool.local(iter([b"1", b"2"]), 2, job))


@pytest.mark.parametrize(
    ("module", "name", "found", "said"),
    [
        (unit, "source_version", "another", "version another of the course here"),
        (bubblewrap, "why_not", "none", "no sandbox here: none"),
    ],
)
def test_a_unit_is_refused_where_it_cannot_be_judged(
    course, monkeypatch, module, name, found, said
):
    """By whoever is not fit: the version and the isolation asked for are in the unit."""
    sent = []
    monkeypatch.setattr(bubblewrap, "why_not", lambda: None)
    hand_in(course, "alice")
    list(
        run.grade(
            course.root, LAB, workers=0, progress=False, job=lambda u: sent.append(u) or 1 / 0
        )
    )
    monkeypatch.setattr(module, name, lambda: found)
    with pytest.raises(lost.Unfit, match=said):
        unit.judge_unit(sent[0])


def test_nbgrader_that_fails_is_no_grade_either(eight, monkeypatch):
    list(run.grade(eight.root, LAB, job=judge_by_reading, **OPTIONS))
    scores = rows(eight)
    notebook = eight.folder("submitted", "student1", LAB) / f"{LAB}.ipynb"
    notebook.write_text(notebook.read_text().replace("2 * x", "x"))

    def fail(converter):
        shutil.rmtree(eight.folder("autograded", "student1", LAB), ignore_errors=True)
        raise NbGraderException("look above\nTraceback:\nOSError: no space\nfailed")

    with monkeypatch.context() as patch:
        patch.setattr(records, "run_converter", fail)
        options = {**OPTIONS, "only": ["student1"]}
        [one] = run.grade(eight.root, LAB, job=judge_by_reading, **options)
    assert one.lost == "nbgrader could not record it: OSError: no space"
    assert rows(eight) == scores
    assert records.read(eight, LAB, "student1").points == 5
    assert [r.points for r in run.grade(eight.root, LAB, job=judge_by_reading, **options)] == [0]


def test_a_gradebook_that_is_locked_is_waited_for_and_ends_it(eight, monkeypatch, capsys):
    monkeypatch.setattr(database, "WAIT_S", 1.0)
    monkeypatch.setattr(database, "ANSWER_S", 2.0)
    monkeypatch.setattr(database, "PROBE_S", 1.0)
    other = sqlite3.connect(eight.root / "gradebook.db")

    def lock(content: bytes) -> bytes:
        other.execute("BEGIN EXCLUSIVE")
        return judge_by_reading(content)

    done, said = run.to_the_end(eight.root, LAB, job=lock, **OPTIONS)
    assert done == []
    assert said.startswith("stopped after 1 s: the gradebook's database sqlite:")
    other.close()
    assert "waiting up to 1 s" in capsys.readouterr().err
    again = list(run.grade(eight.root, LAB, job=judge_by_reading, **OPTIONS))
    assert {one.points for one in again} == {5}
    assert len(rows(eight)) == 16
