"""The house as DESIGN draws it: imports run one way, files are short and say what they are.

Every rule is tried twice: it holds here, and it is broken by a small tree made to break it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import architecture
import pytest
from architecture import ALLOWED, ROOMS, files

ROOT = Path(__file__).parents[1]
# What `pip install .[grading]` adds: a student's notebook runs without.
EXTRAS = ["nbgrader", "nbclient", "nbformat", "jupytext", "jupyterlab", "hypothesis", "pytest"]
RULES = [
    architecture.one_way,
    architecture.only_lab,
    architecture.rooms_down,
    architecture.light,
    architecture.no_cycle,
    architecture.short,
    architecture.named,
    architecture.described,
    architecture.no_pickle,
]


def test_the_folders_are_there():
    for folder in ALLOWED:
        assert files(ROOT, folder), folder


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_it_holds(rule):
    assert sorted(rule(ROOT)) == [], rule.__doc__


# --- each rule can fail --------------------------------------------------------------------------

SOUND = {
    "codesign/__init__.py": '"""The library."""\n',
    "codesign/cost.py": '"""Costs (:mod:`samples.demo`)."""\nHELP = "try samples.demo"\n',
    "autograder/__init__.py": '"""The judge."""\nfrom autograder import labs\n',
    **{f"autograder/{room}/__init__.py": '"""A room."""\n' for room in ROOMS},
    "autograder/lab.py": '"""The lab."""\nfrom autograder.contract import rows\n',
    "autograder/contract/rows.py": '"""Rows."""\nfrom codesign import cost\n',
    "autograder/labs/lab1/__init__.py": '"""Lab 1."""\n',
    "autograder/labs/lab1/checks.py": '"""Checks."""\nRUN = "autograder.sandbox.run:it"\n',
    "autograder/sandbox/run.py": '"""Run."""\n',
    "authoring/build.py": '"""Build."""\nfrom autograder.intake import release\n',
    "autograder/intake/release.py": '"""Releases."""\n',
    "tools/codesign_tools/cli.py": '"""The command."""\nfrom codesign import cost\n',
    "benchmarks/grading.py": '"""Timed."""\nfrom samples import demo\n',
    "samples/demo.py": '"""A course."""\nfrom autograder.lab import Lab\n',
    "lectures/one.py": "from codesign import cost\n",
    "solutions/lab1/lab1.py": "from autograder import Lab\n",
    "tests/support.py": '"""Helpers."""\n',
}
BROKEN = [
    ("one_way", "codesign/cost.py", "from autograder.contract import rows"),
    ("one_way", "codesign/cost.py", "def f():\n    import samples.demo"),
    ("one_way", "codesign/cost.py", 'CALL = "autograder.sandbox.run:it"'),
    ("one_way", "autograder/contract/rows.py", "import authoring.build"),
    ("one_way", "autograder/contract/rows.py", 'P = "import sys; from authoring.build import x"'),
    ("one_way", "samples/demo.py", "from benchmarks import grading"),
    ("one_way", "benchmarks/grading.py", "from codesign_tools import cli"),
    ("one_way", "benchmarks/grading.py", "import support"),
    ("one_way", "lectures/one.py", "from autograder import lab"),
    ("only_lab", "solutions/lab1/lab1.py", "from autograder.contract import rows"),
    ("rooms_down", "autograder/contract/rows.py", "from autograder.intake import release"),
    ("rooms_down", "autograder/contract/rows.py", "from autograder import lab"),
    ("rooms_down", "autograder/intake/release.py", 'PRELOAD = ["autograder.sandbox.run"]'),
    ("rooms_down", "autograder/sandbox/run.py", "x = __import__('autograder.labs.lab1.checks')"),
    ("rooms_down", "autograder/contract/rows.py", 'NAME = f"autograder.labs.{x}"'),
    ("rooms_down", "autograder/sandbox/run.py", "if TYPE_CHECKING:\n    import autograder.lab"),
    ("rooms_down", "autograder/attic/__init__.py", '"""Not on the list."""'),
    ("light", "autograder/labs/lab1/__init__.py", "from autograder.sandbox import run"),
    ("light", "autograder/__init__.py", "from codesign import cost"),
    ("no_cycle", "codesign/cost.py", "from codesign import a"),
    ("short", "codesign/cost.py", "\n" * 300),
    ("named", "autograder/sandbox/sandbox.py", '"""Stutters."""'),
    ("named", "codesign/utils.py", '"""Says nothing."""'),
    ("described", "samples/silent.py", "x = 1"),
    ("described", "autograder/cli.py", "x = 1"),
    ("no_pickle", "codesign/cost.py", "import pickle"),
    ("no_pickle", "codesign/cost.py", "torch.load(path)"),
]


def built(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_breaks_nothing(rule, tmp_path):
    assert list(rule(built(tmp_path, SOUND))) == []


@pytest.mark.parametrize(("rule", "name", "line"), BROKEN)
def test_a_broken_tree_breaks_its_rule(rule, name, line, tmp_path):
    more = {"codesign/a.py": '"""A."""\nfrom codesign import b\n'} if rule == "no_cycle" else {}
    more |= {"codesign/b.py": '"""B."""\nfrom codesign import cost\n'} if more else {}
    built(tmp_path, {**SOUND, **more, name: SOUND.get(name, "") + line + "\n"})
    found = list(getattr(architecture, rule)(tmp_path))
    assert len(found) == 1, found


def test_a_rooms_docstring_is_short(tmp_path):
    room = {"autograder/intake/__init__.py": '"""One. Two (a.b). Three. Four."""\n'}
    (found,) = architecture.described(built(tmp_path, SOUND | room))
    assert found == "autograder/intake/__init__.py: got 4 sentences; allowed: 3"


def test_relative_and_star_imports_are_refused(tmp_path):
    for line in ("from . import cost", "from codesign.cost import *"):
        path = tmp_path / f"{len(line)}.py"
        path.write_text(line)
        with pytest.raises(ValueError, match="relative or star"):
            architecture.names(path)


# --- what only running shows ---------------------------------------------------------------------


def test_a_students_notebook_needs_no_grading_package():
    """Colab installs the course without extras: `Lab` and its checks work without them."""
    program = f"""
import sys
for name in {EXTRAS}:
    sys.modules[name] = None  # importing it raises ImportError
from autograder import Lab
from autograder.contract import definition

for name in definition.names():
    assert definition.find(name).checks
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
