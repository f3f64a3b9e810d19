"""The benchmark grades what it times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import bubblewrap
from benchmarks import grading
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
def test_the_work_alone_gives_the_judges_points(tmp_path):
    course = benchmark.lab(ROOT, tmp_path, "lab1_pruning", "glyphs", 2, wired=True)
    ran = subprocess.run(
        [sys.executable, "-c", f"{grading.CHILD}cells_and_checks('.', 'lab1_pruning')"],
        cwd=course,
        capture_output=True,
        text=True,
        env={**os.environ, "CODESIGN_DATASET": "glyphs"},
    )
    assert ran.returncode == 0, ran.stderr
    points = json.loads(ran.stdout.splitlines()[-1])["points"]
    assert points == {"student0000": 90.0, "student0001": 55.0}


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
