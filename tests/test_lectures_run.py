"""Every published notebook executed in short mode against the library as it is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from authoring import run

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted([*ROOT.glob("lectures/**/*.ipynb"), *ROOT.glob("solutions/*/*.ipynb")])
LECTURES = [path for path in NOTEBOOKS if "lectures" in path.parts]
# About 35 where nothing else runs; wall time says little where something does. Processors with AVX2
# alone take two to four times as long as those with AVX-512.
CPU_LIMIT_S = 240


def course_run(*words, **env) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "authoring.cli", "run", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=1500
    )


@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_every_lecture_has_short_values(path):
    added = [
        cell for cell in run.read(path, short=True).cells if cell.metadata.get("tags") == ["short"]
    ]
    assert len(added) == 1


@pytest.mark.slow
@pytest.mark.lectures
@pytest.mark.serial
def test_every_notebook_runs_short():
    done = course_run(*NOTEBOOKS, "--short", "--jobs", 2, "--limit", 400)
    print(done.stdout)  # the table of times, for whoever asks with -s
    assert done.returncode == 0, done.stdout + done.stderr
    cpu_s = dict(re.findall(r"^(\S+) .*\(CPU ([\d.]+) s\)  ok$", done.stdout, re.M))
    assert cpu_s.keys() == {path.stem for path in NOTEBOOKS}
    lectures = {path.stem: float(cpu_s[path.stem]) for path in LECTURES}
    assert {name: s for name, s in lectures.items() if s > CPU_LIMIT_S} == {}


@pytest.mark.slow
@pytest.mark.lectures
@pytest.mark.serial
def test_a_broken_library_function_fails_the_lecture_that_uses_it(tmp_path):
    shutil.copytree(ROOT / "codesign", tmp_path / "codesign")
    (tmp_path / "data").symlink_to(ROOT / "data")
    path = tmp_path / "codesign" / "hardware" / "eie.py"
    before = path.read_text()
    signature = "fifo_depth: int = 8) -> Product:\n"
    assert before.count(signature) == 1
    path.write_text(before.replace(signature, f"{signature}    raise RuntimeError('broken')\n"))
    lecture = ROOT / "lectures" / "01_introduction.ipynb"
    done = course_run(lecture, "--short", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "`found = eie.multiply(matrix, x)`: RuntimeError: broken" in done.stdout
