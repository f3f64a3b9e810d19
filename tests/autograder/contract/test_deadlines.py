"""The judge's limits hold in the student's own kernel: what it would end fails there, too."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import pytest
from toy_lab import registered

from autograder import lab
from autograder.contract import deadlines
from autograder.contract.checking import LocalStudent
from autograder.contract.verdict import StudentError


def sleep(seconds):
    time.sleep(seconds)


def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def chatter(size):
    for _ in range(size // 1_000):
        print("x" * 999)


def grumble(size):
    sys.stderr.write("y" * size)
    sys.stderr.flush()


def called(function, *args, deadline_s=0.2):
    return LocalStudent({"it": function}, Path("nowhere")).call("it", *args, deadline_s=deadline_s)


@pytest.mark.parametrize("work", [sleep, compute])
def test_a_call_that_takes_too_long_fails(work):
    with pytest.raises(StudentError, match=r"^it: it took 1 s here; the judge waits 0 s$"):
        called(work, 0.6)
    called(work, 0.01, deadline_s=5.0)


def test_an_error_is_told_rather_than_the_time_that_it_took():
    def fails():
        time.sleep(0.4)
        raise KeyError("k")

    with pytest.raises(StudentError, match="KeyError"):
        called(fails)


@pytest.mark.parametrize("work", [chatter, grumble])
def test_a_call_that_prints_too_much_fails_and_does_not_fill_the_notebook(work, capsys):
    with pytest.raises(
        StudentError, match=r"it printed 3,000,000 bytes; the judge allows 2,097,152"
    ):
        called(work, 3_000_000, deadline_s=60)
    said = capsys.readouterr()
    assert len(said.out) + len(said.err) <= deadlines.MAX_OUTPUT_BYTES
    called(work, 1_000_000, deadline_s=60)
    said = capsys.readouterr()
    assert len(said.out) + len(said.err) == 1_000_000


def test_streams_are_the_notebooks_again():
    before = sys.stdout, sys.stderr
    for work in (lambda: None, lambda: 1 / 0):
        with contextlib.suppress(StudentError):
            called(work, deadline_s=5)
        assert (sys.stdout, sys.stderr) == before


def test_the_lab_tells_them(tmp_path, capsys):
    with registered():
        shown = lab.Lab("toy", folder=tmp_path)
    for text in (repr(shown), shown._repr_html_(), capsys.readouterr().out):
        assert "60 s for a cell, 20 s for a call" in text
        assert "600 s in all" in text
        assert "2 MiB" in text
