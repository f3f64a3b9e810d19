"""A mistake at the command line is answered in one line: got X; allowed: Y."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from authoring import cli as course
from autograder import cli as autograder

ROOT = Path(__file__).parents[2]
LAB = "lab1_pruning"


def refused(app, *words: str) -> str:
    """What the command says, in one line and with the exit status of a wrong argument."""
    told = CliRunner().invoke(app, list(words))
    assert told.exit_code == 2, told.output
    assert isinstance(told.exception, SystemExit)
    assert told.output.endswith("\n")
    assert told.output.count("\n") == 1, told.output
    return told.output


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A course that has none of our labs."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "lectures/99.py"], "course build: got lectures/99.py; allowed: lectures/01_"),
        (["release", "nolab"], f"course release: got lab 'nolab'; allowed: {LAB}, "),
        (["release"], "course release: Missing argument"),
        (["new", "lab", "x"], "course new lab: got lab 'x'; allowed: labN_topic, as in "),
        (["new", "lecture", "x", "y"], "course new lecture: got lecture 'x'; allowed: two digits"),
        (["stamp", "nobody"], "course stamp: got 'nobody'; allowed: owner/name"),
    ],
)
def test_course(words, message):
    told = refused(course.app, *words, "--root", str(ROOT))
    assert told.replace("root ", "course ", 1).startswith(message)


@pytest.mark.parametrize("command", ["grade", "prove", "calibrate", "report", "queue"])
def test_autograder_with_a_wrong_lab(command):
    told = refused(autograder.app, command, "nolab", "--root", str(ROOT))
    assert f"{command}: got lab 'nolab'; allowed: {LAB}, " in told


@pytest.mark.parametrize("command", ["grade", "prove", "calibrate", "leaderboard"])
def test_autograder_with_a_wrong_folder(command, tmp_path):
    told = refused(autograder.app, command, LAB, "--root", str(tmp_path))
    assert f"got {tmp_path}; allowed: a course's folder, with its nbgrader_config.py" in told


def test_a_wrong_image_set():
    told = refused(autograder.app, "prove", LAB, "--dataset", "mnist", "--root", str(ROOT))
    assert "got image set 'mnist'; allowed: cifar10, glyphs" in told


def test_a_lab_that_this_course_has_not(elsewhere):
    at = ("--root", str(elsewhere))
    told = refused(autograder.app, "prove", LAB, "--unisolated", "--dataset", "glyphs", *at)
    assert f"{LAB} has no reference notebook" in told
    told = refused(autograder.app, "calibrate", LAB, "--dataset", "glyphs", *at)
    assert "No such file" in told
    assert f"{LAB}.ipynb" in told
    told = refused(course.app, "release", LAB, *at)
    assert f"got lab '{LAB}'; allowed: []" in told


def test_a_cell_that_raises_is_told_without_our_own_traceback(elsewhere):
    told = CliRunner().invoke(course.app, ["new", "lecture", "09", "Toy", "--root", str(elsewhere)])
    assert told.exit_code == 0
    source = elsewhere / "lectures" / "09_toy.py"
    source.write_text(source.read_text().replace("import matplotlib", "1 / 0\nimport matplotlib"))
    told = CliRunner().invoke(course.app, ["build", str(source), "--root", str(elsewhere)])
    assert told.exit_code == 1
    assert "ZeroDivisionError" in told.output
    assert "notebooks.py" not in told.output
    assert not source.with_suffix(".ipynb").exists()


@pytest.mark.parametrize("program", ["autograder", "course"])
def test_a_command_without_its_programs_on_the_path(elsewhere, program):
    """nbgrader calls ``alembic`` by name for a new gradebook, and ``grade`` makes one here."""
    words = {
        "autograder": ["autograder.cli", "grade", LAB, "--unisolated"],
        "course": ["authoring.cli", "release", LAB],
    }[program]
    if program == "course":
        _lay_out(elsewhere)
    done = subprocess.run(
        [sys.executable, "-m", *words, "--root", str(elsewhere)],
        env={**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert "alembic" not in done.stderr
    if program == "course":
        assert done.returncode == 0, done.stderr
        assert (elsewhere / "labs" / LAB / f"{LAB}.ipynb").exists()
    else:
        assert (elsewhere / "gradebook.db").exists()
        assert done.stderr.count("\n") == 1
        assert f"{LAB} is not in the gradebook; run `nbgrader generate_assignment" in done.stderr


def _lay_out(folder: Path) -> None:
    """The source notebook of Lab 1, for nbgrader to release."""
    source = folder / "solutions" / LAB
    source.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / LAB / f"{LAB}.ipynb", source)


def test_a_named_folder_that_is_no_lab_is_left_out(tmp_path):
    command = [sys.executable, "-m", "autograder.cli", "grade", "nolab", "--root", str(ROOT)]
    environment = {**os.environ, "CODESIGN_LABS": str(tmp_path / "missing")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "a lab was left out" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"got lab 'nolab'; allowed: {LAB}" in done.stderr
