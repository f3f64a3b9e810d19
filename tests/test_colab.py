"""A notebook alone, in an empty folder and a fresh environment, installs the course and runs.

As in Colab: the environment has torch and the other libraries but not the course, and the setup
cell installs it from a git address, here a local one. The package index is switched off, so a
requirement that would replace an installed library, torch above all, fails the test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from authoring import address
from codesign import datasets

ROOT = Path(__file__).parents[1]
LAB = ROOT / "labs" / "lab1_pruning" / "lab1_pruning.ipynb"
LECTURE = ROOT / "lectures" / "03_pruning_and_sparsity_1.ipynb"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is missing"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout"),
]


def git(*words: str, cwd: Path) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=no"]
    done = subprocess.run(["git", *who, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The working tree as a git repository of one commit, tagged as the notebooks expect it."""
    folder = tmp_path_factory.mktemp("repository")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "-q", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "-q", "-m", "the working tree", cwd=folder)
    git("tag", address.read(ROOT).tag, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def away(tmp_path_factory, repository):
    """An empty folder beside a fresh environment; returns the folder and its kernel's settings."""
    base = tmp_path_factory.mktemp("fresh")
    venv = base / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # Libraries come from here. A path in a .pth file adds no further .pth files, so the course,
    # which is installed here in editable form, stays invisible.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    spec = base / "jupyter" / "kernels" / "fresh"
    spec.mkdir(parents=True)
    command = [f"{venv}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "fresh", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    settings = {
        "CODESIGN_REPO": f"git+file://{repository}@{address.read(ROOT).tag}",
        "CODESIGN_DATASET": "glyphs",
        "CODESIGN_CACHE": str(datasets.cache_dir()),
        "CODESIGN_STATIC": "1",
        "OMP_NUM_THREADS": "1",  # beside other tests on few cores, more threads wait for each other
        "JUPYTER_PATH": str(base / "jupyter"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this switch the other way round: no isolation
    }
    (base / "empty").mkdir()
    return base / "empty", kept | settings


def run(notebook: nbformat.NotebookNode, away, monkeypatch, **options) -> nbformat.NotebookNode:
    folder, env = away
    monkeypatch.setenv("JUPYTER_PATH", env["JUPYTER_PATH"])
    client = NotebookClient(
        notebook,
        kernel_name="fresh",
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
        **options,
    )
    return client.execute(env=env)


def probe(source: str) -> nbformat.NotebookNode:
    """A cell that prints; put at the end of a notebook."""
    return nbformat.v4.new_code_cell(source)


def shrunk(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A tenth of the budget that the parameters cell sets."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            tenth = lambda m: f"= {max(2, int(m[1]) // 10)}"  # noqa: E731
            cell.source = re.sub(r"= ([\d_]+)(?=\s)", tenth, cell.source)
    return notebook


def test_the_lecture_runs(away, monkeypatch):
    notebook = shrunk(nbformat.read(LECTURE, as_version=4))
    notebook.cells.append(probe("import codesign, torch; print(codesign.__file__, torch.__file__)"))
    done = run(notebook, away, monkeypatch)
    files = done.cells[-1].outputs[0].text.split()
    fresh = str(away[0].parent / "venv")
    assert [path.startswith(fresh) for path in files] == [True, False]
    assert list(away[0].iterdir()) == []


def test_the_release_runs_up_to_what_students_write(away, monkeypatch):
    notebook = nbformat.read(LAB, as_version=4)
    done = run(notebook, away, monkeypatch, allow_errors=True)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    errors = {
        cell.id: output.ename
        for cell in code
        for output in cell.outputs
        if output.output_type == "error"
    }
    assert not {cell.id for cell in code[:3]} & errors.keys()  # setup, imports, Lab(...)
    assert set(errors.values()) <= {"NotImplementedError", "NameError", "CheckFailed"}
    checks = {
        cell.id
        for cell in code
        if cell.metadata.get("nbgrader", {}).get("grade") and "lab.check" in cell.source
    }
    assert checks
    assert {errors.get(name) for name in checks} == {"CheckFailed"}
