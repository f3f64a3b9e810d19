"""The benchmark grades what it times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_lab
from toy_lab import CHANNELS, LAB, half_zero, hand_in, lay_out

from autograder.intake.course import Course
from autograder.sandbox import bubblewrap
from benchmarks import grading, grading_ways
from codesign.models import VGG
from samples import benchmark

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmarks_class_is_graded(tmp_path, monkeypatch):
    if not bubblewrap.available():
        monkeypatch.setenv("CODESIGN_UNISOLATED", "1")
    used = grading.memory(tmp_path, students=3)
    assert len(used) == 3
    assert all(2**20 < uss < 2**32 for uss in used)
    assert "submission 1: " in grading.memory_text(used * 4)


@pytest.mark.slow
def test_a_real_labs_class_is_laid_out(tmp_path):
    course = benchmark.lab(ROOT, tmp_path, "lab1_pruning", "glyphs", 3, wired=False)
    handed_in = sorted(path.name for path in (course / "submitted").iterdir())
    assert handed_in == ["student0000", "student0001", "student0002"]
    for student in handed_in:
        outputs = course / "submitted" / student / "lab1_pruning" / "outputs" / "glyphs"
        assert (outputs / "sparse_model.safetensors").is_file()
    assert "wire(c)" not in (course / "nbgrader_config.py").read_text()


ALONE = f"""
import toy_lab
toy_lab.register(toy_lab.definition())
{grading_ways.CHILD}cells_and_checks('.', {LAB!r})
"""


@pytest.mark.slow
def test_the_work_alone_gives_the_judges_points(tmp_path):
    """Cells, a function and an artifact: of the toy lab, where the judge's points are known."""
    course = Course.at(lay_out(tmp_path / "course"))
    hand_in(course, "full", model=half_zero())
    hand_in(course, "half", model=VGG(CHANNELS))
    hand_in(course, "wrong", "def double(x): return x", model=half_zero())
    path = os.pathsep.join([str(Path(toy_lab.__file__).parent), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=course.root,
        capture_output=True,
        text=True,
        env={**os.environ, "CODESIGN_DATASET": "glyphs", "PYTHONPATH": path},
    )
    assert ran.returncode == 0, ran.stderr
    points = json.loads(ran.stdout.splitlines()[-1])["points"]
    assert points == {"full": 5, "half": 2, "wrong": 3}


@pytest.mark.serial
def test_cpu_of_orphans_is_counted():
    spin = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.5: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {spin!r}])"
    ran = grading.timed(lambda: subprocess.run([sys.executable, "-c", orphan], check=True))
    assert ran.cpu_s > 0.5


def test_the_table_compares_medians():
    runs = {
        "slow": [grading.Run(4, 8), grading.Run(6, 8), grading.Run(90, 8)],
        "fast": [grading.Run(2, 4)],
    }
    lines = grading.table(runs, students=2).splitlines()
    assert lines[1].split()[1:] == ["3.00", "4.00", "1.00x"]
    assert lines[2].split()[1:] == ["1.00", "2.00", "3.00x"]
