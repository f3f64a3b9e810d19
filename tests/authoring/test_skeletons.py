"""``course new``: skeletons that pass the house's own tests as they are, in their own checkout.

The lab's part is the acceptance test of the registry: a lab is added by one folder.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_notebooks
from typer.testing import CliRunner

from authoring import notebooks, proof, skeletons
from authoring.cli import app
from authoring.run import read
from autograder import labs
from autograder.contract import checking, definition
from autograder.contract.checking import LocalStudent
from codesign import claims

ROOT = Path(__file__).parents[2]
LAB = "lab9_toy"
STALE = ("outputs are stale", "execution counts none")
PATH = "/usr/bin:/bin"  # the environment's own programs are not on it


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout of the course without any notebook."""
    for name in ("pyproject.toml", "nbgrader_config.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def new(checkout: Path, *words: str) -> str:
    told = CliRunner().invoke(app, ["new", *words, "--root", str(checkout)])
    assert told.exit_code == 0, told.output
    return told.output


def run(*words: str, labs: Path | None = None, cwd: Path | None = None) -> str:
    """Run a command of this environment as an author does; return what it printed."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": PATH, "CODESIGN_DATASET": "glyphs"}
    environment |= {"CODESIGN_LABS": str(labs)} if labs else {}
    done = subprocess.run(
        [programs / words[0], *words[1:]], capture_output=True, text=True, env=environment, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ruff(checkout: Path) -> None:
    """Lint and format check with the settings of the course, whose packages are elsewhere."""
    ours = 'lint.isort.known-first-party=["autograder", "codesign"]'
    run("ruff", "check", "--config", ours, ".", cwd=checkout)
    run("ruff", "format", "--check", ".", cwd=checkout)


def keeps_the_rules(source: Path) -> None:
    """Every test of ``test_notebooks`` that takes one notebook holds for this one, too."""
    ran = 0
    for name, test in inspect.getmembers(test_notebooks, inspect.isfunction):
        if name.startswith("test_") and list(inspect.signature(test).parameters) == ["source"]:
            if "lecture" in name and source.parent.name != "lectures":
                continue
            test(source)
            ran += 1
    assert ran >= 3


def test_a_new_lecture_builds_and_keeps_every_rule(checkout):
    told = new(checkout, "lecture", "09", "Toy: how it waits")
    source = checkout / "lectures" / "09_toy_how_it_waits.py"
    assert "# # Lecture 9: Toy: how it waits\n" in source.read_text()
    assert "blob/v" in told  # the badge for README
    assert any(cell.metadata.get("tags") == ["short"] for cell in read(source, short=True).cells)
    ruff(checkout)
    notebooks.build(source, execute=False)
    problems = notebooks.check(source)
    assert [any(part in problem for part in STALE) for problem in problems] == [True, True]
    notebooks.build(source)
    assert notebooks.check(source) == []
    keeps_the_rules(source)
    matrix = proof.prove(source, jobs=2)
    assert matrix.holes == []
    assert len(matrix.lines) >= 6


def test_a_new_lectures_claim_joins_those_that_are_there(checkout):
    for number in ("08", "09"):
        new(checkout, "lecture", number, "Toy")
    found = claims.published(checkout / "lectures" / "claims.toml")
    assert {lecture: list(rows) for lecture, rows in found.items()} == {
        "08": ["reuse"],
        "09": ["reuse"],
    }


def test_a_new_lecture_has_the_sections_in_their_order(checkout):
    new(checkout, "lecture", "09", "Toy")
    text = (checkout / "lectures" / "09_toy.py").read_text()
    order = ["The question", "Smallest example", "Equation", "def ", "Estimate", "plot.predict("]
    order += ["plot.show(", "hardware do", "Limits", "claims(", "Discussion", "Further reading"]
    places = [text.index(part, text.index("# %%")) for part in order[:1]]
    for part in order[1:]:
        places.append(text.index(part, places[-1]))
    assert places == sorted(places)


@pytest.fixture
def toy(checkout):
    """The folder of a new lab, registered as it lies."""
    new(checkout, "lab", LAB)
    lab = labs.at(checkout / "autograder" / "labs" / LAB)
    definition.register(lab)
    yield lab
    definition.forget(LAB)


def points(source: str, lab: definition.LabDefinition) -> float:
    """What one solution cell earns on the public cases."""
    namespace: dict = {}
    exec(f"import torch\n{source}", namespace)
    student = LocalStudent(namespace, lab.folder)
    return checking.run(lab.name, "ternary", student, "glyphs").points


def test_one_folder_adds_a_lab(toy):
    assert LAB in definition.names()
    source = toy.folder.parents[2] / "solutions" / LAB / f"{LAB}.py"
    cells = {cell.id: cell.source for cell in notebooks.assemble(source).cells}
    worth = toy.targets["ternary"].points
    assert points(cells["solution_ternary"], toy) == worth == 90
    assert 'lab.check("ternary")  # 90 points' in cells["ternary"]
    assert points("def ternary(weight, share):\n    raise NotImplementedError", toy) == 0
    assert len(toy.mutants) >= 3
    for mutant in toy.mutants:
        assert points(mutant.source, toy) < worth, mutant.name
    for valid in toy.valid:
        assert points(valid.source, toy) == worth, valid.name
    assert toy.valid


@pytest.mark.slow
def test_a_new_lab_goes_all_the_way_from_one_folder(checkout):
    """Built, released and proved by an author's commands, in the sandbox where there is one."""
    told = new(checkout, "lab", LAB)
    assert f"wrote solutions/{LAB}/{LAB}.py" in told
    ruff(checkout)
    folder = checkout / "autograder" / "labs" / LAB
    source = checkout / "solutions" / LAB / f"{LAB}.py"
    at = ("--root", str(checkout))
    run("course", "build", str(source), *at, labs=folder)
    keeps_the_rules(source)
    run("course", "release", LAB, *at, labs=folder)
    released = (checkout / "labs" / LAB / f"{LAB}.ipynb").read_text()
    assert "weight.sign()" not in released
    assert "NotImplementedError" in released
    proof = ["autograder", "prove", LAB, "--dataset", "glyphs", "--out", str(checkout / "proof")]
    assert "0 holes" in run(*proof, *at, *_unisolated(), labs=folder)
    lines = json.loads((checkout / "proof" / f"{LAB}.json").read_text())
    earned = {line["name"]: sum(line["points"].values()) for line in lines}
    assert earned.pop("reference") == 90
    assert earned.pop("release") == 0
    mutants = [name for name in earned if "forgotten" in name or "threshold" in name]
    assert len(mutants) >= 3
    assert all(earned[name] < 90 for name in mutants)


def _unisolated() -> list[str]:
    from autograder.sandbox import bubblewrap

    return [] if bubblewrap.available() else ["--unisolated"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lab", "x"], "got lab 'x'; allowed: labN_topic"),
        (["lab", "lab7"], "got lab 'lab7'; allowed: labN_topic"),
        (["lab", "lab7_../x"], "allowed: labN_topic"),
        (["lecture", "3", "Title"], "got lecture '3'; allowed: two digits"),
        (["lecture", "00", "Title"], "got lecture '00'; allowed: two digits"),
        (["lecture", "03", "..."], "got title '...'; allowed: one line with letters"),
    ],
)
def test_a_wrong_name_is_one_line(checkout, words, message):
    told = CliRunner().invoke(app, ["new", *words, "--root", str(checkout)])
    assert told.exit_code == 2
    assert told.output.count("\n") == 1
    assert message in told.output
    assert {path.name for path in checkout.iterdir()} == {"pyproject.toml", "nbgrader_config.py"}


def test_nothing_is_overwritten(checkout):
    new(checkout, "lecture", "09", "Toy")
    with pytest.raises(ValueError, match=r"allowed: a free number, 09_toy\.py is there"):
        skeletons.lecture(checkout, "09", "Another one")
    valid = checkout / "autograder" / "labs" / LAB / "valid.py"
    valid.parent.mkdir(parents=True)
    valid.write_text("mine\n")
    with pytest.raises(ValueError, match="is there already"):
        skeletons.lab(checkout, LAB)
    assert valid.read_text() == "mine\n"
    assert list(valid.parent.iterdir()) == [valid]  # none of the others was written
    assert not (checkout / "solutions").exists()
