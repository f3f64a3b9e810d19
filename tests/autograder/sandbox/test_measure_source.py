"""Source texts that students hand in are measured in a sandbox of their own."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from toy_lab import registered

from autograder.contract import checking, rows
from autograder.contract.checking import LocalStudent
from autograder.contract.verdict import StudentError
from autograder.sandbox import bubblewrap, process
from autograder.sandbox.student import KernelStudent

needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
# A function that runs what it is given, like a compiler and an emulator do, or less carefully.
RUN = "subprocess:getoutput"
SQUARES = """cat > /tmp/a.c <<END
#include <stdio.h>
int main(void) { for (int i = 0; i < 4; i++) printf("%d ", i * i); }
END
cc -O2 -o /tmp/a /tmp/a.c && /tmp/a"""


@pytest.fixture
def student(tmp_path):
    outputs = tmp_path / "glyphs"
    outputs.mkdir()
    with process.borrowed(isolated=True) as place:
        student = KernelStudent(place, outputs, "glyphs", budget_s=300)
        yield student
        student.close()
    process.close_all()


def test_in_the_students_own_kernel_it_is_a_plain_call(tmp_path):
    assert LocalStudent({}, tmp_path).measure(RUN, "echo $((6 * 7))") == "42"


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_the_notebook_cannot_forge_what_is_measured(student):
    student.run_cell(
        "import subprocess, autograder.contract.exchange as exchange\n"
        "subprocess.getoutput = lambda source: 'forged'\n"
        "exchange.serve = lambda *where: None",
        30,
    )
    assert student.measure(RUN, "echo 42") == "42"
    if shutil.which("cc"):
        assert student.measure(RUN, SQUARES).strip() == "0 1 4 9"


def test_a_sandbox_that_does_not_start_is_no_grade(monkeypatch, tmp_path):
    """It was a row of no points: the student's source, for what this machine could not do."""

    def measured(student, cases, target):
        return [rows.passed("measured", student.measure(RUN, "echo 42") == "42", 1)]

    def no_sandbox(*_, **__):
        raise process.SandboxError("no kernel today")

    (tmp_path / "glyphs").mkdir()
    with process.borrowed(isolated=False) as place:
        student = KernelStudent(place, tmp_path / "glyphs", "glyphs", budget_s=300)
        monkeypatch.setattr("autograder.sandbox.student.borrowed", no_sandbox)
        with registered(double=measured):
            verdict = checking.run("toy", "double", student, "glyphs")
    process.close_all()
    assert [row.status for row in verdict.rows] == ["refused"]
    assert "could not judge this: SandboxError: no kernel today" in verdict.rows[0].message


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_hostile_code_changes_nothing_and_leaves_nothing(student, tmp_path):
    secret = tmp_path / "gradebook.db"
    secret.write_text("the host's")
    attack = (
        f"cat {secret}; echo x > {tmp_path}/written; echo x > /usr/written; id -u; "
        "echo left > /tmp/left; ls /codesign/work/outputs; (sleep 600 &) ; kill -9 -1"
    )
    told = []
    for source in (attack, "ls /tmp"):
        try:
            told.append(student.measure(RUN, source))
        except StudentError as error:
            told.append(str(error))
    assert "the host's" not in told[0]
    assert "left" not in told[1]
    assert not Path("/usr/written").exists()
    assert sorted(os.listdir(tmp_path)) == ["glyphs", "gradebook.db"]


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_a_runaway_ends_at_its_deadline_and_costs_the_student_nothing_else(student):
    start = time.monotonic()
    with pytest.raises(StudentError, match="no answer within 3 s"):
        student.measure(RUN, "while true; do :; done", deadline_s=3)
    assert time.monotonic() - start < 60
    assert 3 <= student.budget.used_s < 30  # its runaway, not the sandbox that was made for it
    student.run_cell("def double(x): return 2 * x", 30)
    assert student.call("double", 21) == 42


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_a_changed_argument_is_named_across_the_boundary(student):
    student.run_cell("def clear(weight, mask):\n    weight.mul_(mask)\n    return weight", 30)
    given = torch.ones(4), torch.zeros(4)
    said = "^clear: changed its argument 'weight' .4 of 4 entries.; the text says"
    with pytest.raises(StudentError, match=said):
        student.call("clear", *given)
    for named in (0, "weight"):
        assert student.call("clear", *given, may_change=(named,)).sum() == 0
