"""The proof matrix has no hole, and a grader that was broken on purpose makes one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from lab_checks import is_timed
from toy_lab import LAB, definition, half_zero
from typer.testing import CliRunner

from autograder import cli
from autograder.contract import artifacts, rows
from autograder.contract.definition import find, register
from autograder.proof import prove
from autograder.proof.bench import reach
from autograder.proof.mutants import Mutant
from autograder.sandbox import bubblewrap
from codesign.models import VGG

ROOT = Path(__file__).parents[3]
# A matrix that is looked at costs its notebook and reference first. So one in three is, three times
# as closely: of all lines, a twentieth.
PART, TURNS = 0.05, 3
NEW = 4  # lines of a matrix that the ledger does not know, where `make prove` is still to come
LABS = sorted(path.name for path in (ROOT / "solutions").glob("lab*"))


@pytest.mark.parametrize("lab", LABS)
def test_every_check_has_its_mutants(lab):
    assert prove.missing(lab) == []


def one_by_one(lab: str):
    """A lab's proof runs alone where its checks measure seconds."""
    timed = any(is_timed(lab, check) for check in find(lab).targets)
    return pytest.param(lab, marks=pytest.mark.serial if timed else pytest.mark.spread)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", cli.available())
@pytest.mark.parametrize("lab", [one_by_one(lab) for lab in LABS])
def test_reference_full_release_nothing_mutants_caught(lab, dataset, tmp_path):
    """What the committed ledger knows is spared but for a random part, of what it does not know
    some is tried, on few seeds; `make prove` tries all."""
    words = ["prove", lab, "--dataset", dataset, "--root", str(ROOT), "--out", str(tmp_path)]
    part = 0.0 if random.SystemRandom().randrange(TURNS) else PART * TURNS
    words += ["--spare", "--again", str(part), "--few", "--at-most", str(NEW)]
    words += [] if bubblewrap.available() else ["--unisolated"]
    told = CliRunner().invoke(cli.app, words)
    lines = [prove.Line(**line) for line in json.loads((tmp_path / f"{lab}.json").read_text())]
    reference, release, *answered = lines
    faults = [f"{line.name}: {line.fault}" for line in (release, *answered) if line.fault]
    assert faults == [], told.output[-3_000:]
    assert told.exit_code == bool(reference.fault)
    assert release.spared or sum(release.points.values()) == 0
    # Seconds depend on the kind of processor: there the reference may miss a target by a tenth.
    for name, points in reference.points.items():
        least = 0.9 if is_timed(lab, name) else 1.0
        assert points >= least * find(lab).targets[name].points, reference.fault
    answers = prove.answers_on(find(lab), dataset)
    assert [line.name for line in lines[2:]] == [answer.name for answer in answers]
    matrix = (tmp_path / f"{lab}.md").read_text()
    assert f"{lab}: {len(lines)} lines, " in told.output
    assert matrix.count("\n") == 2 + len(lines)


def test_a_hole_fails_the_command(course, monkeypatch, tmp_path):
    hole = prove.Line("release", "", "glyphs", {"double": 2, "net": 0}, "points for nothing")
    monkeypatch.setattr(prove, "prove", lambda *a, **k: [hole])
    words = ["prove", LAB, "--dataset", "glyphs", "--root", str(course.root), "--unisolated"]
    told = CliRunner().invoke(cli.app, words)
    assert told.exit_code == 1
    assert "hole: glyphs release: points for nothing" in told.output
    assert "hole: double has 0 mutants, at least 3 are needed" in told.output
    assert "1 lines, 1 judged, 3 holes" in told.output


@pytest.mark.slow
def test_a_check_that_gives_points_away_is_a_hole(course, monkeypatch, tmp_path):
    """The toy lab: its artifact check no longer looks, so a forged artifact goes unnoticed."""
    outputs = course.root / "solutions" / LAB / "outputs" / "glyphs"
    artifacts.store(outputs, "net", half_zero())

    def forge(folder):
        artifacts.store(folder, "net", VGG([4, "M", 6]))

    wrong = Mutant(
        "triples", "double", cell="solution_double", source="def double(x): return 3 * x"
    )
    forged = Mutant("dense", "net", artifact="net", forge=forge)
    register(definition(mutants=[wrong, forged]))
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert [line.fault for line in lines] == ["", "", "", ""]

    def blind(student, cases, target):
        student.artifact("net")
        return [rows.passed("sparsity", True, 3)]

    register(definition(mutants=[wrong, forged], net=blind))
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert [bool(line.fault) for line in lines] == [False, False, False, True]


CELLS = [
    "import torch\nLIMIT = 3",
    "def one(x): return x",
    "def two(x): return one(x) + LIMIT",
    "def three(x): return x",
    "class Four:\n    def run(self): return two(1)",
    "five = Four()\nfor six in range(3): seven = five",
]


@pytest.mark.parametrize(
    ("cell", "wrong", "expected"),
    [
        (1, "def one(x): return 0", {"one", "two", "Four", "five", "six", "seven"}),
        (3, "def three(x): return 0", {"three"}),
        (3, "def one(x): return 0", {"three", "one", "two", "Four", "five", "six", "seven"}),
        (4, "class Four: pass", {"Four", "five", "six", "seven"}),
        (3, "def three(x:", None),
        (3, "torch.add = None\ndef three(x): return x", None),
        (3, "LIMIT = 4", None),
    ],
)
def test_how_far_another_cell_reaches(cell, wrong, expected):
    assert reach(CELLS, CELLS[cell], wrong) == expected
