"""Every check of every lab: the reference earns full points, stubs and wrong answers do not.

Parametrized over the registry, so that a new lab gets all of it for nothing. Functions come out of
the solution notebook; artifacts are those that the reference handed in, on a few images. All
mutants on whole image sets are the proof's matter.
"""

from __future__ import annotations

import ast
import math
import re
import shutil
from collections import defaultdict
from pathlib import Path

import lab_checks
import pytest
import torch
from solution_cells import Same, cells, definitions

from autograder.contract import artifacts, checking, held_out, show
from autograder.contract.definition import find, names
from autograder.contract.signatures import Either, Many, Number, Tensor
from codesign.training import evaluate

pytestmark = pytest.mark.spread
FUNCTIONS = lab_checks.chosen(functions=True)
ARTIFACTS = lab_checks.chosen(functions=False)
UNTIMED = [one for one in ARTIFACTS if not lab_checks.is_timed(*one.values)]
FEW = 64  # images; Lab 5 draws 60 of them
LENIENCE = 0.12  # of an accuracy on so few images: three standard errors


@pytest.mark.parametrize("lab", names())
def test_points_add_up_to_100_with_the_reflections(lab):
    flags = [cell.metadata.get("nbgrader", {}) for cell in cells(lab)]
    reflections = sum(flag.get("points", 0) for flag in flags if flag.get("solution"))
    assert reflections > 0
    assert sum(check.points for check in find(lab).targets.values()) + reflections == 100


@pytest.mark.parametrize("lab", names())
def test_every_check_has_targets_and_every_target_a_check(lab):
    assert find(lab).checks.keys() == find(lab).targets.keys()


# --- signatures ----------------------------------------------------------------------------------


def written(lab: str) -> dict[str, ast.FunctionDef]:
    """The functions that a lab's solution cells define."""
    sources = [
        cell.source
        for cell in cells(lab)
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
    ]
    nodes = [node for source in sources for node in ast.parse(source).body]
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def parts(kind: object) -> list[object]:
    """A kind and those that it is made of."""
    inner = [kind.of] if isinstance(kind, Many) else kind.kinds if isinstance(kind, Either) else ()
    return [kind, *(part for one in inner for part in parts(one))]


@pytest.mark.parametrize("lab", names())
def test_every_function_that_students_write_has_its_signature(lab):
    functions = {
        name: [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
        for name, node in written(lab).items()
    }
    signatures = {name: list(one.arguments) for name, one in find(lab).signatures.items()}
    assert functions == signatures


@pytest.mark.parametrize("lab", names())
def test_a_docstring_says_what_the_signature_promises(lab):
    """Types and names of sizes, and the ends of the ranges of numbers."""
    silent = []
    for name, signature in find(lab).signatures.items():
        text = (ast.get_docstring(written(lab)[name]) or "").lower()
        for argument, kind in signature.arguments.items():
            for part in parts(kind):
                silent += [(name, argument, word) for word in words(part) if word not in text]
    assert silent == []


def words(kind: object) -> list[str]:
    """What of a kind a docstring must mention."""
    if isinstance(kind, Tensor):
        sizes = [size.lower() for size in kind.shape.split() if size != "..."]
        return [*sizes, *(() if "float" in kind.dtypes else kind.dtypes)]
    if isinstance(kind, Number):
        return [f"{end:g}" for end in (kind.low, kind.high) if end not in (None, 0, 1)]
    return []


@pytest.mark.parametrize("lab", names())
def test_the_text_says_every_target_and_floor(lab):
    text = " ".join("\n".join(c.source for c in cells(lab) if c.cell_type == "markdown").split())
    silent = []
    for check, wanted in find(lab).targets.items():
        for dataset, figures in wanted.figures.items():
            for name, figure in figures.items():
                for end in (figure.target, figure.floor):
                    said = (f"{100 * end:g} %", f"{end:g}", f"{end:.2f}")
                    if not any(
                        re.search(rf"(?<![\d.]){re.escape(one)}(?![\d])", text) for one in said
                    ):
                        silent.append((check, name, dataset, end))
    assert silent == []


# --- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [held_out.PUBLIC_SEED, 1, 2])
@pytest.mark.parametrize(("lab", "check"), FUNCTIONS)
def test_the_reference_earns_full_points(lab, check, seed):
    verdict = lab_checks.verdict(lab, check, "reference", seed)
    assert verdict.points == verdict.max_points, show.text(verdict)


@pytest.mark.parametrize(("lab", "check"), FUNCTIONS)
def test_a_stub_earns_nothing(lab, check):
    verdict = lab_checks.verdict(lab, check, "stub")
    assert verdict.points == 0, show.text(verdict)
    assert verdict.max_points == find(lab).targets[check].points


@pytest.mark.parametrize(
    "value",
    [
        *(None, 0, math.nan, 1e9, "", "text", [], [[]], [[[0]]], (None, None), {}, {"t0": 0}),
        *(torch.zeros(()), torch.tensor([[1.0]])),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("lab", "check"), FUNCTIONS)
def test_answers_of_another_kind_earn_nothing_and_break_nothing(lab, check, value):
    verdict = checking.run(lab, check, Same(value), "glyphs", 3)
    assert verdict.points == 0, show.text(verdict)


@pytest.mark.parametrize(("lab", "check"), FUNCTIONS)
def test_a_mutant_loses_points(lab, check):
    verdict = lab_checks.verdict(lab, check, "mutant")
    assert verdict.points < verdict.max_points, show.text(verdict)


@pytest.mark.parametrize(("lab", "check"), FUNCTIONS)
def test_a_row_is_out_of_the_same_whatever_was_handed_in(lab, check):
    """Shares are of the row, not of the answer: a verdict can be compared line by line."""
    worth = defaultdict(set)
    for who in ("reference", "mutant", "stub"):
        for row in lab_checks.verdict(lab, check, who).rows:
            worth[row.name].add(round(row.max_points, 9))
    assert {name: found for name, found in worth.items() if len(found) > 1} == {}


# --- artifacts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_images():
    """Some held-out images instead of all, and a dense accuracy that so few cannot miss."""
    with pytest.MonkeyPatch.context() as patch:
        images = held_out.images("glyphs", lab_checks.PROOF_SEED).head(FEW)
        accuracy = evaluate(held_out.dense("glyphs"), images) - LENIENCE
        patch.setattr(held_out, "images", lambda dataset, seed, count=None: images)
        patch.setattr(held_out, "dense_accuracy", lambda dataset, seed, count=None: accuracy)
        yield


@pytest.fixture
def handed_in(lab, tmp_path, few_images) -> Path:
    """The reference's artifacts, to be altered."""
    return Path(shutil.copytree(lab_checks.reference_outputs(lab), tmp_path / "glyphs"))


@pytest.mark.slow
@pytest.mark.parametrize(("lab", "check"), ARTIFACTS)
def test_the_references_artifact_earns_full_points(lab, check, handed_in):
    """Or almost, where seconds are measured on whatever else this machine does meanwhile."""
    verdict = lab_checks.run(lab, check, definitions(lab), handed_in)
    enough = 0.8 if lab_checks.is_timed(lab, check) else 1.0
    assert verdict.points >= enough * verdict.max_points, show.text(verdict)


@pytest.mark.slow
@pytest.mark.parametrize(("lab", "check"), UNTIMED)
def test_a_forged_artifact_loses_points(lab, check, handed_in):
    """The first forgery that so few images can tell; a slow kernel is timed by the proof alone."""
    full = find(lab).targets[check].points
    reference = lab_checks.reference_outputs(lab)
    for mutant in filter(lambda one: one.forge, lab_checks.mutants(lab, check)):
        shutil.copytree(reference, handed_in, dirs_exist_ok=True)
        mutant.forge(handed_in)
        verdict = lab_checks.run(lab, check, {}, handed_in)
        if verdict.points < full:
            return
    pytest.fail(f"no forgery of {check} lost points")


@pytest.mark.parametrize(("lab", "check"), ARTIFACTS)
def test_nothing_handed_in(lab, check, tmp_path):
    verdict = lab_checks.run(lab, check, {}, tmp_path)
    assert verdict.points == 0
    assert "was not handed in" in verdict.rows[0].message


@pytest.mark.parametrize(("lab", "check"), ARTIFACTS)
def test_artifacts_of_another_kind_earn_nothing_and_break_nothing(lab, check, handed_in):
    own = artifacts.kind_of(artifacts.fetch(handed_in, check))
    others = {"tensors": {"a": torch.zeros(1)}, "table": {"a": 1}, "source": "int main;"}
    others["model"] = held_out.dense("glyphs")
    for kind in others.keys() - {own}:
        artifacts.store(handed_in, check, others[kind])
        verdict = lab_checks.run(lab, check, {}, handed_in)
        assert verdict.points == 0, show.text(verdict)
