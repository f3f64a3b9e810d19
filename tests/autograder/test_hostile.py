"""The hostile suite: every case gets its points and a reason, the next student is graded, and
nothing on the host has changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nbformat
import pytest
from hostile_cases import CASES, SECRET, hand_in_case
from toy_lab import LAB, NBGRADERS_WARNINGS, half_zero, hand_in

from autograder.contract import cells
from autograder.grading import judge, run
from autograder.intake import folders
from autograder.sandbox import bubblewrap, doctor, limits, process

needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
pytestmark = [
    pytest.mark.attack,
    pytest.mark.slow,
    *NBGRADERS_WARNINGS,
]
OWN = {"autograded", "gradebook.db", ".autograder"}  # what grading writes


@pytest.fixture(autouse=True)
def own_sandboxes():
    """Sandboxes with the limits of the test, none left over for the next one."""
    process.close_all()
    yield
    process.close_all()


@pytest.fixture
def course(course):
    """Removed afterwards: pytest cannot remove folders as deep as some cases hand in."""
    yield course
    folders.remove(course.root)


def shrink(monkeypatch) -> None:
    """Smaller limits, which bombs reach sooner."""
    monkeypatch.setattr(limits, "MEMORY_BYTES", 2**30)
    monkeypatch.setattr(limits, "SCRATCH_BYTES", 2**27)
    monkeypatch.setattr(limits, "SHARED_BYTES", 2**27)


def snapshot(root: Path) -> dict[str, str]:
    """Every file of the course that grading has no business with, and what is in it."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folders.files(root)
        if path.is_file() and path.relative_to(root).parts[0] not in OWN
    }


def live(course, student: str) -> list[str]:
    """Outputs that a browser would run, in the judged notebook of ``student``."""
    path = course.folder("autograded", student, LAB) / f"{LAB}.ipynb"
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                ours = cells.is_judged(cell) and kind in ("text/html", judge.VERDICT_MIME)
                if not ours and kind not in ("text/plain", "image/png", "image/jpeg"):
                    found.append(kind)
                if (
                    kind != "text/plain"
                    and "<script" in str(content)
                    and kind != judge.VERDICT_MIME
                ):
                    found.append(f"script in {kind}")
    return found


def test_every_case(course, monkeypatch):
    """One batch: each case, and after each one with code a student whose work is right.

    Without a sandbox only those that bring no code.
    """
    unisolated = not bubblewrap.available()
    cases = [case for case in CASES if case.source is None or not unisolated]
    monkeypatch.setattr(judge, "CELL_DEADLINE_S", 5.0)
    monkeypatch.setenv(SECRET, "a secret of the host")
    shrink(monkeypatch)
    names = [f"{i:02}_{case.number}" for i, case in enumerate(cases)]
    for name, case in zip(names, cases, strict=True):
        hand_in_case(hand_in(course, name, model=half_zero()), case)
        if case.source is not None:
            hand_in(course, f"{name}_next", model=half_zero())
    judge.secret_seed(course.root)
    before = snapshot(course.root)
    wrong = []
    done = {
        one.student: one
        for one in run.grade(course.root, LAB, workers=0, unisolated=unisolated, progress=False)
    }
    for name, case in zip(names, cases, strict=True):
        told = json.dumps([done[name].verdicts, done[name].problems])
        points = tuple(v["points"] for v in done[name].verdicts)
        if points != case.points:
            wrong.append(f"{case.name}: got {points}, expected {case.points}: {told}")
        elif case.reason not in told:
            wrong.append(f"{case.name}: {case.reason!r} is not in {told}")
        elif points != (2, 3) and not any(
            row["message"] or row["target"]
            for v in done[name].verdicts
            for row in v["rows"]
            if not row["points"]
        ):
            wrong.append(f"{case.name}: no reason given")
        wrong += [f"{case.name}: {found} in the judged notebook" for found in live(course, name)]
        if case.source is not None and done[f"{name}_next"].points != 5:
            wrong.append(f"after {case.name}: {done[f'{name}_next']}")
    assert not wrong, "\n".join(wrong)
    assert snapshot(course.root) == before
    assert not Path("/usr/written").exists()


@needs_sandbox
def test_every_protection_holds(monkeypatch):
    shrink(monkeypatch)
    missing = [f"{found.name}: {found.said}" for found in doctor.findings() if not found.holds]
    assert missing == []


@needs_sandbox
def test_one_sandbox_for_each_kernel_protects_as_well(monkeypatch):
    """Where namespaces in namespaces are forbidden. Bombs meet the same limits either way."""
    shrink(monkeypatch)
    monkeypatch.setattr(bubblewrap, "can_fork", lambda: False)
    missing = [
        f"{found.name}: {found.said}" for found in doctor.findings(bombs=False) if not found.holds
    ]
    assert missing == []
