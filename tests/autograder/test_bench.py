"""The benchmark grades what it times."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from autograder import bench, sandbox


@pytest.mark.slow
def test_the_benchmarks_class_is_graded(tmp_path, monkeypatch):
    if not sandbox.available():
        monkeypatch.setenv("CODESIGN_UNISOLATED", "1")
    course = bench.lay_out(tmp_path / "course", bench.OURS, students=2)
    ran = subprocess.run(
        [sys.executable, "-c", "from autograder.bench import main; main()", ".", bench.LAB],
        cwd=course,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"student00": 3.0, "student01": 3.0}


def test_the_table_compares_medians():
    runs = {"slow": [bench.Run(4, 8), bench.Run(6, 8), bench.Run(90, 8)], "fast": [bench.Run(2, 4)]}
    lines = bench.table(runs, students=2).splitlines()
    assert lines[1].split()[1:] == ["3.00", "4.00", "1.00x"]
    assert lines[2].split()[1:] == ["1.00", "2.00", "3.00x"]
