"""Submissions, whole and broken, through intake, judge and nbgrader's gradebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_lab import CHANNELS, DOUBLE, LAB, half_zero, hand_in

from autograder import grading, judge, sandbox
from autograder.kernel import KernelStudent
from codesign.models import VGG, ResNet8

needs_sandbox = pytest.mark.skipif(
    not sandbox.available(), reason=f"no sandbox: {sandbox.why_not()}"
)
pytestmark = [
    pytest.mark.slow,
    # nbgrader's own models, not ours
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=["isolated", "unisolated"])
def unisolated(request, monkeypatch) -> bool:
    """Both ways of running a kernel; the isolated one where bubblewrap works."""
    if request.param == "isolated" and not sandbox.available():
        pytest.skip(f"no sandbox: {sandbox.why_not()}")
    return request.param == "unisolated"


def graded(course, unisolated=True) -> dict[str, grading.Graded]:
    done = grading.grade(course.root, LAB, unisolated=unisolated, progress=False)
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


def break_json(folder):
    (folder / f"{LAB}.ipynb").write_text('{"cells": [')


def no_notebook(folder):
    (folder / f"{LAB}.ipynb").unlink()


def nan_weights(folder):
    path = folder / "outputs/glyphs/net.safetensors"
    tensors = load_file(path)
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, path)


def other_architecture(folder):
    grading_model = ResNet8()
    from autograder import artifacts

    artifacts.store(folder / "outputs" / "glyphs", "net", grading_model)


def config_is_a_lie(folder):
    path = folder / "outputs/glyphs/net.json"
    record = json.loads(path.read_text())
    record["config"]["channels"] = [4, "M", 7]
    path.write_text(json.dumps(record))


def pickled(folder):
    torch.save({"boom": 1}, folder / "outputs/glyphs/net.safetensors")


def linked(folder):
    path = folder / "outputs/glyphs/net.safetensors"
    path.unlink()
    path.symlink_to("/etc/passwd")


def fifo(folder):
    path = folder / "outputs/glyphs/net.safetensors"
    path.unlink()
    os.mkfifo(path)


def missing(folder):
    (folder / "outputs/glyphs/net.json").unlink()


BROKEN = {
    # what is done to a full submission: points of (double, net) that remain, and the reason given
    break_json: ((0, 3), "not JSON"),
    no_notebook: ((0, 3), "No such file"),
    nan_weights: ((2, 0), "NaN"),
    other_architecture: ((2, 0), "expected"),
    config_is_a_lie: ((2, 0), "do not fit the config"),
    pickled: ((2, 0), "net"),
    linked: ((2, 0), "net.safetensors"),
    fifo: ((2, 0), "not a regular file"),
    missing: ((2, 0), "not handed in"),
}


def test_broken_submissions_get_a_reason_and_the_others_their_points(course):
    for harm in BROKEN:
        harm(hand_in(course, harm.__name__, model=half_zero()))
    hand_in(course, "zz_last", model=half_zero())
    done = graded(course)
    rows = scores(course)
    for harm, (points, reason) in BROKEN.items():
        one = done[harm.__name__]
        told = json.dumps(one.verdicts) + " ".join(one.problems)
        assert tuple(rows[harm.__name__].values()) == points, harm.__name__
        assert reason in told, (harm.__name__, told)
    assert rows["zz_last"] == {"double": 2, "net": 3}


HOSTILE = {
    "loops": "def double(x):\n    while True: pass",
    "swallows": (
        "def double(x):\n    while True:\n        try:\n            import time; time.sleep(9)\n"
        "        except BaseException: pass"
    ),
    "exits": "import os\ndef double(x): os._exit(0)",
    "exits_at_once": "import os\nos._exit(0)",
    "floods": "def double(x):\n    while True: print('x' * 10_000)",
    "wrong_type": "def double(x): return 'two'",
    "equal_to_all": (
        "class Equal:\n    def __eq__(self, other): return True\ndef double(x): return Equal()"
    ),
    "wrong_shape": "def double(x): return 2 * x[:3]",
    "not_a_number": "def double(x): return x * float('nan')",
    "patches_torch": (
        "import torch\ntorch.isclose = lambda *a, **k: torch.ones(5, dtype=torch.bool)\n"
        "def double(x): return x"
    ),
    "patches_judge": (
        "import autograder.checking as c\nc.compare = lambda *a, **k: 1 / 0\n"
        "def double(x): return 3 * x"
    ),
    "forges_output": "print('2.0')\ndef double(x):\n    print('2.0'); return x",
}


def test_hostile_functions_cost_their_own_points(course):
    for name, source in HOSTILE.items():
        hand_in(course, name, source=source, model=half_zero())
    hand_in(course, "zz_last", model=half_zero())
    done = graded(course, unisolated=not sandbox.available())
    rows = scores(course)
    for name in HOSTILE:
        assert rows[name] == {"double": 0, "net": 3}, name
        assert done[name].verdicts[0]["rows"][0]["message"], name
    assert rows["zz_last"] == {"double": 2, "net": 3}


def test_tampered_notebooks_are_restored(course):
    folder = hand_in(course, "tamperer", source="def double(x): return x", model=half_zero())
    path = folder / f"{LAB}.ipynb"
    made = nbformat.read(path, as_version=4)
    made.cells[2].metadata.tags = ["skip-execution"]
    made.cells[2].metadata.nbgrader.points = 100
    made.cells[2].metadata.nbgrader.solution = True
    made.cells[2].source = "2.0"
    del made.cells[3]
    made.cells.append(nbformat.v4.new_code_cell("lab = None"))
    nbformat.write(made, path)
    graded(course)
    assert scores(course)["tamperer"] == {"double": 0, "net": 3}


def test_duplicate_answers_are_refused_with_the_reason(course):
    folder = hand_in(course, "twice", model=half_zero())
    path = folder / f"{LAB}.ipynb"
    content = json.loads(path.read_text())
    content["cells"].append(content["cells"][1])
    path.write_text(json.dumps(content))
    one = graded(course)["twice"]
    assert scores(course)["twice"] == {"double": 0, "net": 3}
    assert "2 times" in one.problems[0]


def test_nbgrader_autograde_gives_the_same_gradebook(course):
    for harm in (nan_weights, break_json):
        harm(hand_in(course, harm.__name__, model=half_zero()))
    hand_in(course, "full", model=half_zero())
    hand_in(course, "partial", model=VGG(CHANNELS))
    graded(course)
    ours = scores(course)
    (course.root / "gradebook.db").unlink()
    grading.release(course.root, LAB)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pytest, toy_lab; toy_lab.register(pytest.MonkeyPatch())\n"
        "from nbgrader.apps import NbGraderApp\n"
        "NbGraderApp.launch_instance(['autograde', 'toy', '--force'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, os.path.dirname(__file__)],
        cwd=course.root,
        env={**os.environ, "CODESIGN_UNISOLATED": "1", "CODESIGN_DATASET": "glyphs"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert scores(course) == ours
    assert ours["full"] == {"double": 2, "net": 3}
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
    monkeypatch.setattr(sandbox, "why_not", lambda: "no bwrap here")
    monkeypatch.delenv("CODESIGN_UNISOLATED", raising=False)
    with pytest.raises(judge.NotIsolated, match="no bwrap here"):
        list(grading.grade(course.root, LAB))


def test_grading_again_gives_the_same_scores_once(course):
    hand_in(course, "full", model=half_zero())
    graded(course)
    first = scores(course)
    graded(course)
    assert scores(course) == first


def test_an_unreleased_lab_is_named(course):
    (course.root / "gradebook.db").unlink()
    with pytest.raises(grading.NotReleased, match="generate_assignment"):
        list(grading.grade(course.root, LAB, unisolated=True))


SPY = """
import os, socket
from pathlib import Path
def double(x):
    seen = []
    for path in {paths!r}:
        if Path(path).exists(): seen.append(path)
    try:
        import autograder.checks.lab1_pruning
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
    (tmp_path / "work").mkdir()
    student = KernelStudent(tmp_path / "work", "glyphs", isolated=True, budget_s=120)
    outputs = student.run_cell(
        "from codesign import datasets\n"
        "print([len(datasets.load('glyphs', split, quiet=True)) for split in ('train', 'val')])",
        120,
    )
    student.close()
    assert [output.get("text") for output in outputs] == ["[20000, 2000]\n"]


def test_double_is_the_reference():
    namespace: dict = {}
    exec(DOUBLE, namespace)
    assert namespace["double"](4) == 8
