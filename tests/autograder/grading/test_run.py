"""Submissions, whole and broken, through intake, judge and nbgrader's gradebook."""

from __future__ import annotations

import os
import subprocess
import sys

import nbformat
import pytest
import toy_lab
from hostile_cases import CASES, hand_in_case, nested
from toy_lab import (
    CHANNELS,
    DOUBLE,
    LAB,
    NBGRADERS_WARNINGS,
    half_zero,
    hand_in,
    judge_by_reading,
    just_half,
)

from autograder.grading import records, run
from autograder.intake import folders, release
from autograder.intake.course import NotReleased
from autograder.sandbox import bubblewrap, process
from autograder.sandbox.isolation import NotIsolated
from autograder.sandbox.kernel import Kernel, KernelStopped
from autograder.sandbox.student import KernelStudent
from codesign.models import VGG

needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
pytestmark = [
    pytest.mark.slow,
    *NBGRADERS_WARNINGS,
]


@pytest.fixture(params=["isolated", "unisolated"])
def unisolated(request, monkeypatch) -> bool:
    """Both ways of running a kernel; the isolated one where bubblewrap works."""
    if request.param == "isolated" and not bubblewrap.available():
        pytest.skip(f"no sandbox: {bubblewrap.why_not()}")
    return request.param == "unisolated"


def graded(course, unisolated: bool | None = None) -> dict[str, records.Graded]:
    unisolated = not bubblewrap.available() if unisolated is None else unisolated
    done = run.grade(course.root, LAB, unisolated=unisolated, workers=0, progress=False)
    return {one.student: one for one in done}


def scores(course) -> dict[str, dict[str, float]]:
    """What the gradebook holds: automatic score by student and cell."""
    with course.gradebook() as gradebook:
        return {
            submission.student.id: {
                grade.cell.name: grade.auto_score
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in gradebook.assignment_submissions(LAB)
        }


def flagged(course) -> set[tuple[str, str]]:
    """What the gradebook says needs a person: student and cell."""
    with course.gradebook() as gradebook:
        return {
            (submission.student.id, grade.cell.name)
            for submission in gradebook.assignment_submissions(LAB)
            for notebook in submission.notebooks
            for grade in notebook.grades
            if grade.needs_manual_grade
        }


def test_a_full_and_an_empty_submission(course, unisolated):
    hand_in(course, "full", model=half_zero())
    released = nbformat.read(course.released(LAB), as_version=4).cells[1].source
    hand_in(course, "empty", source=released)
    done = graded(course, unisolated)
    assert (done["full"].points, done["empty"].points) == (5, 0)
    assert scores(course) == {
        "full": {"double": 2, "net": 3},
        "empty": {"double": 0, "net": 0},
    }


def test_nbgrader_autograde_gives_the_same_gradebook(course):
    for case in CASES:
        if case.name in ("NaN weights", "bad JSON", "changed points and flags", "tags"):
            hand_in_case(hand_in(course, case.name.replace(" ", "_"), model=half_zero()), case)
    handed_in = hand_in(course, "full", model=half_zero())
    (handed_in / "page.html").write_text("<script>alert(1)</script>")
    hand_in(course, "partial", model=VGG(CHANNELS))
    hand_in(course, "noisy", model=just_half())
    graded(course)
    ours = scores(course)
    assert flagged(course) == {("noisy", "net")}
    (course.root / "gradebook.db").unlink()
    release.release(course.root, LAB)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import toy_lab; toy_lab.register(toy_lab.definition())\n"
        "from nbgrader.apps import NbGraderApp\n"
        "NbGraderApp.launch_instance(['autograde', 'toy', '--force'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, os.path.dirname(toy_lab.__file__)],
        cwd=course.root,
        env={
            **os.environ,
            "CODESIGN_UNISOLATED": "01"[not bubblewrap.available()],
            "CODESIGN_DATASET": "glyphs",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert scores(course) == ours
    assert flagged(course) == {("noisy", "net")}, "as autograder grade does"
    assert ours["noisy"] == {"double": 2, "net": 3}, "within noise is never silently failed"
    assert ours["full"] == {"double": 2, "net": 3}
    kept = course.folder("autograded", "full", LAB).rglob("*")
    assert [path.name for path in kept if path.is_file()] == [f"{LAB}.ipynb"]
    for words in (["generate_feedback", LAB], ["export"]):
        ran = subprocess.run(
            [sys.executable, "-m", "nbgrader", *words],
            cwd=course.root,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
    feedback = (course.folder("feedback", "partial", LAB) / f"{LAB}.html").read_text()
    assert "net: 0 of 3 points" in feedback
    assert str(course.root) not in feedback
    exported = (course.root / "grades.csv").read_text().splitlines()
    assert [line for line in exported if ",full," in line and ",5.0," in line]


def test_grading_refuses_without_isolation(course, monkeypatch):
    monkeypatch.setattr(bubblewrap, "why_not", lambda: "no bwrap here")
    monkeypatch.delenv("CODESIGN_UNISOLATED", raising=False)
    with pytest.raises(NotIsolated, match="no bwrap here"):
        list(run.grade(course.root, LAB))


def test_an_unreleased_lab_is_named(course):
    (course.root / "gradebook.db").unlink()
    with pytest.raises(NotReleased, match="generate_assignment"):
        list(run.grade(course.root, LAB, unisolated=True, workers=0))


def test_a_kernel_that_does_not_start_is_not_the_students_fault(course, monkeypatch):
    """Once: another one is started. Always: the judge says so, and the earlier grade stays."""
    hand_in(course, "alice", model=half_zero())
    failures = [1]
    start = Kernel.__init__

    def stumbling(self, *arguments):
        if failures and failures[0]:
            failures[0] -= 1
            raise KernelStopped("no kernel today")
        start(self, *arguments)

    monkeypatch.setattr(Kernel, "__init__", stumbling)
    assert graded(course, unisolated=True)["alice"].points == 5
    assert failures == [0]
    failures[0] = 1_000
    (course.root / ".autograder" / "verdicts" / LAB / "alice.ipynb").unlink()
    before = scores(course)
    [alice] = graded(course, unisolated=True).values()
    assert (alice.points, alice.verdicts) == (0, ())
    assert alice.problems == ("not judged: SandboxError: no kernel today",)
    assert scores(course) == before == {"alice": {"double": 2, "net": 3}}
    failures[0] = 0
    assert graded(course, unisolated=True)["alice"].points == 5


def test_a_folder_whose_name_is_no_students_id_is_told_and_not_graded(course):
    hand_in(course, "alice", model=half_zero())
    for name in ("<script>alert(1)<", "a..b", "-x"):
        hand_in(course, name, model=half_zero())
    options = {"unisolated": True, "workers": 0, "progress": False, "job": judge_by_reading}
    done = {one.student: one for one in run.grade(course.root, LAB, **options)}
    assert done.pop("alice").points == 5
    assert [one.problems for one in done.values()] == [("not graded: this is no student's id",)] * 3
    assert list(scores(course)) == ["alice"]


SPY = """
import os, socket
from pathlib import Path
def double(x):
    seen = []
    for path in {paths!r}:
        if Path(path).exists(): seen.append(path)
    try:
        import autograder.labs.lab1_pruning.checks
        seen.append("checks")
    except ImportError: pass
    try:
        socket.create_connection(("127.0.0.1", {port}), timeout=1)
        seen.append("network")
    except OSError: pass
    if "SECRET_TOKEN" in os.environ: seen.append("environment")
    for path in ("/usr/written", "/proc/sys/kernel/core_pattern"):
        try:
            open(path, "w").close(); seen.append("write " + path)
        except OSError: pass
    raise RuntimeError("saw: " + ",".join(seen))
"""


@needs_sandbox
def test_the_sandbox_hides_the_host(course, monkeypatch):
    import socket

    monkeypatch.setenv("SECRET_TOKEN", "x")
    server = socket.create_server(("127.0.0.1", 0))
    paths = [str(course.root), str(course.root / "gradebook.db"), str(course.root / ".judge_seed")]
    hand_in(course, "other", model=half_zero())
    spy = SPY.format(paths=paths, port=server.getsockname()[1])
    hand_in(course, "spy", source=spy, model=half_zero())
    done = graded(course, unisolated=False)
    server.close()
    assert "saw:  (line" in done["spy"].verdicts[0]["rows"][0]["message"]
    assert done["other"].points == 5


@needs_sandbox
def test_a_kernel_finds_its_images_on_a_fresh_machine(monkeypatch, tmp_path):
    """Nothing decoded yet: the sandbox is read-only, so the judge has to see to it."""
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "glyphs").mkdir()
    with process.borrowed(isolated=True) as place:
        student = KernelStudent(place, tmp_path / "glyphs", "glyphs", budget_s=120)
        outputs = student.run_cell(
            "from codesign import datasets\n"
            "print([len(datasets.load('glyphs', s, quiet=True)) for s in ('train', 'val')])",
            120,
        )
        student.close()
    assert [output.get("text") for output in outputs] == ["[20000, 2000]\n"]


def test_double_is_the_reference():
    namespace: dict = {}
    exec(DOUBLE, namespace)
    assert namespace["double"](4) == 8


def test_the_size_of_a_submission_is_asked_without_following_its_depth(tmp_path):
    place = tmp_path / "outputs" / "glyphs"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"1234")
    flat = run._bytes(tmp_path)
    try:
        nested(tmp_path)
        assert flat == 4
        assert run._bytes(tmp_path) >= flat
    finally:
        folders.empty(place)  # pytest cannot
    assert run._bytes(tmp_path) == 0


def test_folders_are_walked_and_removed_at_any_depth(tmp_path):
    place = tmp_path / "outputs" / "glyphs"
    place.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text("stays")
    (place / "link").symlink_to(outside)
    (place / "kept").symlink_to(outside)
    (place / "locked").mkdir()
    (place / "locked" / "file").write_text("")
    try:
        nested(tmp_path)
        assert max(depth for depth, _ in folders.walk(place)) == 1_500
        assert place / "link" in folders.files(place)
        (place / "locked").chmod(0)
    finally:
        folders.empty(place, keep="kept")
    assert [path.name for path in place.iterdir()] == ["kept"]
    folders.remove(tmp_path / "outputs")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    folders.remove(tmp_path / "outputs")  # already gone
