"""Imports run one way, files stay small: the house as the README draws it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"codesign", "autograder", "lectures", "solutions", "tests", "benchmarks"}
EXTRAS = ["nbgrader", "nbclient", "nbformat", "jupytext", "jupyterlab", "hypothesis", "pytest"]
NO_MODULES = {"utils.py", "common.py", "helpers.py", "misc.py"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in the file: ``a.b`` for ``from a import b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; allowed: absolute ones"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} & OURS


def shown(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_the_rooms_are_there():
    for room in ("codesign", "autograder", "lectures", "solutions", "benchmarks"):
        assert modules(room), room


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("codesign", {"codesign"}),
        ("autograder", {"autograder", "codesign"}),
        ("lectures", {"codesign"}),
        ("benchmarks", {"codesign"}),
        ("solutions", {"autograder", "codesign"}),
    ],
)
def test_imports_run_one_way(room, allowed):
    wrong = {str(path): ours(path) - allowed for path in modules(room) if ours(path) - allowed}
    assert wrong == {}


def test_notebooks_take_only_lab_from_the_judge():
    taken = set()
    for path in modules("solutions"):
        taken |= {name for name in imports(path) if name.split(".")[0] == "autograder"}
    assert taken <= {"autograder.Lab"}


def test_a_students_notebook_needs_no_grading_package():
    """Colab installs the course without extras: `Lab` and its checks work without them."""
    checks = [f"autograder.checks.{path.stem}" for path in modules("autograder/checks")]
    program = f"""
import importlib, sys
for name in {EXTRAS}:
    sys.modules[name] = None  # importing it raises ImportError
from autograder import Lab

for name in {[name for name in checks if not name.endswith("__init__")]}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("room", "longest"), [("codesign", 350), ("autograder", 400)])
def test_files_are_short_and_named_after_something(room, longest):
    long = [p for p in modules(room) if len(p.read_text().splitlines()) > longest]
    # Checks and mutants are lists: they grow with their lab.
    long = [p for p in long if p.parent.name not in {"checks", "mutants"}]
    assert shown(long) == []
    assert shown([p for p in modules(room) if p.name in NO_MODULES]) == []


def test_modules_say_what_they_are():
    silent = [
        path
        for path in modules("codesign") + modules("autograder")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert shown(silent) == []


def test_pickle_is_neither_read_nor_written():
    """Artifacts and checkpoints come from strangers; loading a pickle runs their code."""
    for path in modules("codesign") + modules("autograder"):
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & imports(path), path
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "allow_pickle=True" not in text, path
