"""The gradebook on a real PostgreSQL server, started here: the same rows as in nbgrader's file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from toy_lab import DOUBLE, LAB, NBGRADERS_WARNINGS, POINTS, hand_in, judge_by_reading

from autograder.grading import database, run
from autograder.grading.lost import Stopped
from autograder.intake import release
from autograder.intake.course import Course, own_programs

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server (Debian: postgresql)"),
    *NBGRADERS_WARNINGS,
]


class Server:
    """A PostgreSQL server with one socket, in ``folder``, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        as_root = os.geteuid() == 0  # which PostgreSQL refuses to be
        if as_root:
            shutil.chown(folder, "postgres")
        who = {"user": "postgres", "group": "postgres", "extra_groups": []} if as_root else {}
        self.how = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "cwd": folder,
            **who,
        }
        self.run("initdb", "-D", folder / "data", "-U", "grader", "-A", "trust")

    def run(self, program: str, *words) -> bool:
        """Whether a program of PostgreSQL succeeds."""
        return not subprocess.run([PROGRAMS[-1].parent / program, *words], **self.how).returncode

    def start(self) -> None:
        options = ["-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="]
        self.process = subprocess.Popen([PROGRAMS[-1], *options], **self.how)
        end = time.monotonic() + 60
        while not self.run("pg_isready", "-h", self.folder):
            assert time.monotonic() < end, "the server does not answer"
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # without waiting for its clients
        self.process.wait(30)

    def send(self, number: int) -> None:
        """Send a signal to each of its processes."""
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(number)

    def database(self, name: str) -> str:
        """A new and empty database; returns its URL."""
        assert self.run("createdb", "-h", self.folder, "-U", "grader", name)
        return f"postgresql+psycopg:///{name}?host={self.folder}&user=grader"


@pytest.fixture(scope="module")
def server():
    """A running server, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="codesign-db-"))
    made = Server(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def there(course, server, monkeypatch, request):
    """A course of six students, not yet graded, whose gradebook is on the server."""
    name = "".join(c for c in request.node.name if c.isalpha())
    monkeypatch.setenv("CODESIGN_DB", server.database(name))
    for number in range(6):
        hand_in(course, f"student{number}")
    release.release(course.root, LAB)
    assert server.process.poll() is None
    return Course.at(course.root)


def rows(course) -> list[tuple]:
    """Every automatic score in the gradebook."""
    with course.gradebook() as gradebook:
        return sorted(
            (submission.student.id, grade.cell.name, grade.auto_score)
            for submission in gradebook.assignment_submissions(LAB)
            for notebook in submission.notebooks
            for grade in notebook.grades
        )


COMPLETE = [(f"student{n}", name, points) for n in range(6) for name, points in POINTS.items()]


def patience(monkeypatch, answer_s: float, wait_s: float) -> None:
    monkeypatch.setattr(database, "ANSWER_S", answer_s)
    monkeypatch.setattr(database, "PROBE_S", 1.0)
    monkeypatch.setattr(database, "WAIT_S", wait_s)


def cut(course, disturb) -> tuple[list[str], str | None]:
    """Grade, and ``disturb()`` after two students; who was done, and what stopped it."""
    done: list[str] = []
    options = {"unisolated": True, "workers": 0, "progress": False}
    try:
        for one in run.grade(course.root, LAB, job=judge_by_reading, **options):
            done.append(one.student)
            if len(done) == 2:
                disturb()
    except Stopped as stopped:
        return done, str(stopped)
    return done, None


def left(course) -> list[str]:
    """What is in the folder where submissions are staged, and half written verdicts."""
    folder = course.root / ".autograder"
    return [path.name for path in (*(folder / "staged").glob("*"), *folder.rglob("*.part"))]


def test_a_server_that_restarts_costs_time_alone(there, server, capsys):
    def restart() -> None:
        server.stop()
        threading.Timer(3.0, server.start).start()

    done, stopped = cut(there, restart)
    assert (len(done), stopped) == (6, None)
    assert rows(there) == COMPLETE
    assert "waiting up to 120 s" in capsys.readouterr().err
    assert left(there) == []


def test_a_server_that_stays_away_ends_it_and_the_next_run_is_complete(there, server, monkeypatch):
    patience(monkeypatch, answer_s=30, wait_s=2)
    done, stopped = cut(there, server.stop)
    server.start()
    assert len(done) == 2
    assert stopped.startswith("stopped after 2 s: the gradebook's database postgresql+psycopg://")
    assert "\n" not in stopped
    assert left(there) == []
    assert rows(there) == COMPLETE[:4]
    assert set(graded(there, workers=0).values()) == {5}
    assert rows(there) == COMPLETE


def test_a_server_that_answers_nothing_ends_it_in_bounded_time(there, server, monkeypatch):
    patience(monkeypatch, answer_s=2, wait_s=2)
    began = time.monotonic()
    done, stopped = cut(there, lambda: server.send(signal.SIGSTOP))
    took = time.monotonic() - began
    server.send(signal.SIGCONT)
    assert len(done) == 2
    assert "no answer within 2 s" in stopped
    assert took < 20
    assert left(there) == []
    assert set(graded(there, workers=0).values()) == {5}
    assert rows(there) == COMPLETE


def test_a_server_that_answers_half_ends_it_and_what_was_graded_stays(there, server, monkeypatch):
    """The small question, and not what is recorded: another one has locked the table."""
    assert set(graded(there, workers=0).values()) == {5}
    patience(monkeypatch, answer_s=2, wait_s=1)
    url = os.environ["CODESIGN_DB"].replace("postgresql+psycopg:", "postgresql:")
    for number in range(6):
        notebook = there.folder("submitted", f"student{number}", LAB) / f"{LAB}.ipynb"
        notebook.write_text(notebook.read_text().replace("2 * x", "3 * x"))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE grade")
        done, stopped = cut(there, pytest.fail)
    assert done == []
    assert "no answer within 2 s" in stopped
    assert rows(there) == COMPLETE
    kept = [there.folder("autograded", f"student{n}", LAB) / f"{LAB}.ipynb" for n in range(6)]
    assert all("2 * x" in path.read_text() for path in kept)
    assert set(graded(there, workers=0).values()) == {0}


def graded(course, **options) -> dict[str, float]:
    options = {"unisolated": True, "workers": 2, "progress": False, **options}
    done = run.grade(course.root, LAB, job=judge_by_reading, **options)
    return {one.student: one.points for one in done}


def nbgrader(course, *words: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *words]
    with own_programs():
        ran = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_the_same_rows_as_in_a_file(course, server, monkeypatch):
    for number in range(5):
        hand_in(course, f"student{number}", DOUBLE if number % 2 else "def double(x): return x")
    points = graded(course)
    expected = rows(course)
    assert len(expected) == 10
    (course.root / "gradebook.db").unlink()
    shutil.rmtree(course.root / "autograded")

    monkeypatch.setenv("CODESIGN_DB", server.database("gradebook"))
    nbgrader(course, "generate_assignment", LAB, "--force")  # the schema is nbgrader's own
    course = Course.at(course.root)
    assert rows(course) == []
    assert graded(course) == points
    assert rows(course) == expected
    assert graded(course, resume=False) == points
    assert rows(course) == expected
    nbgrader(course, "generate_feedback", LAB)
    nbgrader(course, "export", "--to", "grades.csv")
    exported = (course.root / "grades.csv").read_text().splitlines()
    assert len(exported) == 6
    assert not (course.root / "gradebook.db").exists()
