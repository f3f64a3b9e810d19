"""The hostile suite: every case gets its points and a reason, the next student is graded, and
nothing on the host has changed. Graded once, as one class; one test a case."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from hostile_cases import SECRET, hand_in_case, keyed
from toy_lab import LAB, NBGRADERS_WARNINGS, half_zero, hand_in, registered

from autograder.contract import cells
from autograder.grading import judge, run
from autograder.grading.records import Graded
from autograder.grading.verdict_cells import VERDICT_MIME
from autograder.intake import folders
from autograder.intake.course import Course, secret_seed
from autograder.sandbox import bubblewrap, doctor, limits, process

needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
pytestmark = [
    pytest.mark.attack,
    pytest.mark.slow,
    pytest.mark.xdist_group("hostile"),
    *NBGRADERS_WARNINGS,
]
CASES = {f"{i:02}_{case.number}": case for i, (_, case) in enumerate(keyed())}  # by student
KEYS = dict(zip(CASES, (key for key, _ in keyed()), strict=True))
OWN = {"autograded", "gradebook.db", ".autograder"}  # what grading writes


@pytest.fixture(autouse=True)
def own_sandboxes():
    """Sandboxes of the test's own, none left over for the next one."""
    process.close_all()
    yield
    process.close_all()


@pytest.fixture(scope="module", autouse=True)
def small_limits():
    """Smaller limits, which bombs reach sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MEMORY_BYTES", 2**30)
        patch.setattr(limits, "SCRATCH_BYTES", 2**27)
        patch.setattr(limits, "SHARED_BYTES", 2**27)
        yield patch


def snapshot(root: Path) -> dict[str, str]:
    """Every file of the course that grading has no business with, and what is in it."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folders.files(root)
        if path.is_file() and path.relative_to(root).parts[0] not in OWN
    }


def live(course: Course, student: str) -> list[str]:
    """Outputs that a browser would run, in the judged notebook of ``student``."""
    path = course.folder("autograded", student, LAB) / f"{LAB}.ipynb"
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                ours = cells.is_judged(cell) and kind in ("text/html", VERDICT_MIME)
                if not ours and kind not in ("text/plain", "image/png", "image/jpeg"):
                    found.append(kind)
                if kind != "text/plain" and "<script" in str(content) and kind != VERDICT_MIME:
                    found.append(f"script in {kind}")
    return found


@dataclass(frozen=True)
class Batch:
    """A graded class: each case, and after each one with code a student whose work is right."""

    course: Course
    graded: dict[str, Graded]
    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def batch(released, tmp_path_factory, small_limits) -> Iterator[Batch]:
    """All cases graded in one run, as one class. Without a sandbox only those without code."""
    small_limits.setattr(judge, "CELL_DEADLINE_S", 5.0)
    small_limits.setenv(SECRET, "a secret of the host")
    unisolated = not bubblewrap.available()
    root = tmp_path_factory.mktemp("hostile") / "course"
    course = Course.at(shutil.copytree(released, root))
    for student, case in CASES.items():
        if unisolated and case.source is not None:
            continue
        hand_in_case(hand_in(course, student, model=half_zero()), case)
        if case.source is not None:
            hand_in(course, f"{student}_next", model=half_zero())
    secret_seed(course.root)
    before = snapshot(root)
    with registered():
        done = run.grade(root, LAB, workers=0, unisolated=unisolated, progress=False)
        graded = {one.student: one for one in done}
    yield Batch(course, graded, before, snapshot(root))
    folders.remove(root)  # pytest cannot remove folders as deep as some cases hand in


@pytest.mark.parametrize("student", CASES, ids=KEYS.get)
def test_it_gets_its_points_and_a_reason_and_the_next_student_is_graded(student, batch):
    if student not in batch.graded:
        pytest.skip(f"no sandbox: {bubblewrap.why_not()}")
    case, done = CASES[student], batch.graded[student]
    told = json.dumps([done.verdicts, done.problems])
    points = tuple(verdict["points"] for verdict in done.verdicts)
    assert points == case.points, told
    assert case.reason in told
    if points != (2, 3):
        rows = [row for verdict in done.verdicts for row in verdict["rows"] if not row["points"]]
        assert any(row["message"] or row["target"] for row in rows), "no reason given"
    assert live(batch.course, student) == [], "in the judged notebook"
    if case.source is not None:
        assert batch.graded[f"{student}_next"].points == 5


def test_nothing_on_the_host_has_changed(batch):
    assert batch.after == batch.before
    assert not Path("/usr/written").exists()


@needs_sandbox
def test_every_protection_holds():
    missing = [f"{found.name}: {found.said}" for found in doctor.findings() if not found.holds]
    assert missing == []


@needs_sandbox
def test_one_sandbox_for_each_kernel_protects_as_well(monkeypatch):
    """Where namespaces in namespaces are forbidden. Bombs meet the same limits either way."""
    monkeypatch.setattr(bubblewrap, "can_fork", lambda: False)
    missing = [
        f"{found.name}: {found.said}" for found in doctor.findings(bombs=False) if not found.holds
    ]
    assert missing == []
