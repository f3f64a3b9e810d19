"""Lab 5's checks: the reference earns full points, wrong answers lose theirs, releases nothing.

The functions come out of the solution notebook; C is what the reference handed in, compiled and
emulated here as in a student's kernel.
"""

from __future__ import annotations

import ast
import itertools
import math
import shutil
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
from solution_cells import SOLUTIONS, Same, definitions

from autograder.contract import artifacts, checking, held_out
from autograder.contract.checking import Cases, LocalStudent
from autograder.contract.definition import find
from autograder.labs.lab5_tinyml import checks
from autograder.labs.lab5_tinyml.mutants import MUTANTS
from autograder.proof import prove

LAB = "lab5_tinyml"
FOLDER = SOLUTIONS / LAB
FUNCTIONS = ["peak_memory", "plan_memory", "patch_schedule", "generate"]
KERNELS = list(checks.KERNELS)


def calls() -> dict[str, str]:
    """The table of calls that the notebook gives."""
    cells = jupytext.read(FOLDER / f"{LAB}.py").cells
    text = next(cell.source for cell in cells if cell.source.startswith("CALLS = "))
    return ast.literal_eval(text.removeprefix("CALLS = "))


def notebook_functions(source: str = "") -> dict:
    return definitions(LAB, source, np=np, itertools=itertools, CALLS=calls())


@pytest.fixture(scope="module")
def solution():
    return notebook_functions()


@pytest.fixture
def handed_in(tmp_path):
    return Path(shutil.copytree(FOLDER / "outputs" / "glyphs", tmp_path / "glyphs"))


def run(check, namespace, outputs=Path("nowhere"), seed=prove.PROOF_SEED):
    return checking.run(LAB, check, LocalStudent(namespace, outputs), "glyphs", seed)


def forged(name, handed_in):
    next(m for m in MUTANTS if m.name == name).forge(handed_in)


def test_every_check_has_targets_and_points_add_up_with_the_reflections():
    wanted = find(LAB).targets
    assert sorted(wanted) == sorted([*FUNCTIONS, *KERNELS, "firmware"])
    assert sum(check.points for check in wanted.values()) == 90


# --- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [held_out.PUBLIC_SEED, 1, 2, 3, 4])
@pytest.mark.parametrize("check", FUNCTIONS)
def test_the_reference_earns_full_points(check, seed, solution):
    verdict = run(check, solution, seed=seed)
    assert verdict.points == verdict.max_points, verdict.rows


@pytest.mark.parametrize("check", FUNCTIONS)
def test_a_stub_earns_nothing(check, solution):
    def stub(*args, **kwargs):
        raise NotImplementedError

    assert run(check, {name: stub for name in solution}).points == 0


@pytest.mark.parametrize("check", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    [None, 0, float("nan"), "text", [], {}, [[]], [[[0]]], {"t0": 0}, torch.zeros(()), [1e9], ""],
)
def test_answers_of_another_kind_earn_nothing_and_break_nothing(check, value):
    assert checking.run(LAB, check, Same(value), "glyphs", 3).points == 0


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.cell], ids=lambda m: m.name)
def test_a_mutant_loses_points(mutant):
    verdict = run(mutant.check, notebook_functions(mutant.source))
    assert verdict.points < verdict.max_points


@pytest.mark.parametrize("seed", range(5))
def test_largest_first_is_good_enough_and_first_come_is_not(seed):
    """Whichever graphs the judge draws, the two sides of 10 % stay apart."""

    def ratio(order: str) -> float:
        text = next(m for m in MUTANTS if m.name == "plan_memory: as_they_come").source
        namespace = notebook_functions(text.replace("for one in size:", f"for one in {order}:"))
        student = LocalStudent(namespace, Path("nowhere"))
        graphs = checks._graphs(Cases("plan_memory", "glyphs", seed))
        widths = [checks._width(graph, checks._planned(student, graph)) for graph in graphs]
        return sum(widths) / len(widths)

    assert ratio("size") > checks.MOST_WIDTH
    assert ratio("sorted(size, key=lambda h: -size[h])") <= checks.MOST_WIDTH - 0.02


def test_alive_tensors_by_hand():
    operators = [
        {"inputs": ["image"], "output": "a"},
        {"inputs": ["a"], "output": "b"},
        {"inputs": ["b", "a"], "output": "c"},
        {"inputs": ["c"], "output": "logits"},
    ]
    sizes = {"a": 1, "b": 2, "c": 4}
    found = checks._alive(operators, sizes)
    assert found == [{"a"}, {"a", "b"}, {"a", "b", "c"}, {"c"}]


def test_a_schedule_by_hand():
    """Rows 0..8 of the image, a 3x3 layer, then one with stride 2: four output rows, two strips."""
    found = checks._expected_schedule([[3, 1, 1], [3, 2, 1]], 8, 2)
    assert found[0] == [[0, 5, 1, 0], [0, 4, 1, 0]]
    assert found[1] == [[2, 8, 0, 1], [3, 8, 0, 0]]


# --- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [held_out.PUBLIC_SEED, 1, 2])
@pytest.mark.parametrize("check", KERNELS)
def test_the_reference_kernels_earn_full_points(check, seed, handed_in):
    verdict = run(check, {}, handed_in, seed)
    assert verdict.points == verdict.max_points, verdict.rows


@pytest.mark.parametrize("check", [*KERNELS, "firmware"])
def test_nothing_handed_in(check, tmp_path):
    verdict = run(check, {}, tmp_path)
    assert verdict.points == 0
    assert "was not handed in" in verdict.rows[0].message


@pytest.mark.parametrize("check", [*KERNELS, "firmware"])
def test_what_is_no_text_is_refused(check, handed_in):
    for value in (held_out.dense("glyphs"), {"a": 1}, {"a": torch.zeros(1)}):
        artifacts.store(handed_in, check, value)
        assert run(check, {}, handed_in).points == 0


SAYS = {
    "conv1x1: not_c": "kernel.c:",
    "conv1x1: needs_a_library": "undefined symbol: puts",
    "conv1x1: another_name": "got function 'conv1x1'",
    "conv1x1: too_much_memory": "overflowed by",
    "conv1x1: never_ends": "more than 5,000,000 instructions",
    "conv1x1: reads_past_the_input": "it read 4 bytes past the array of argument 0",
    "conv1x1: writes_past_the_output": "it wrote 1 bytes past the array of argument 7",
    "conv1x1: overwrites_the_input": "it changed its input",
    "depthwise: scratch_too_large": "past the array of argument 9",
    "conv3x3: the_loops_themselves": "the loops that were handed out are exact, too",
}


@pytest.mark.parametrize("name", SAYS)
def test_a_wrong_kernel_says_why(name, handed_in):
    forged(name, handed_in)
    rows = run(name.split(":")[0], {}, handed_in).rows
    messages = " ".join(row.message for row in rows)
    assert SAYS[name] in messages or (name.endswith("input") and "outputs differ" in messages)


@pytest.mark.parametrize("name", KERNELS)
def test_expected_outputs_are_those_of_the_loops(name):
    """Two computations of the same contract: exact tensors here, the handed-out C there."""
    cases = Cases(name, "glyphs", 11)
    for shape in [*checks.SMALL[name], *checks.USUAL[name][:1]]:
        for extreme in (0, 1):
            arguments = checks._arguments(cases, name, shape, extreme)
            case = {"arguments": checks._in_memory(name, arguments), "guarded": True, "seed": 1}
            found = checks.emulated.calls(checks.GIVEN, name, [case])[0]
            assert checks._kernel_fault(name, arguments, found["outputs"]) is None


# --- the program ---------------------------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(checks, "FIRMWARE_IMAGES", 12)


def test_the_reference_firmware_earns_full_points(handed_in, few_images):
    verdict = run("firmware", {}, handed_in)
    assert verdict.points == verdict.max_points, verdict.rows


FIRMWARE = {
    "does_nothing": 0,
    "always_class_0": 0,
    "public_labels": 0,
    "nothing_shares_memory": 0,
    "not_c": 0,
    "operators_skipped": 0,
}


@pytest.mark.parametrize("name", FIRMWARE)
def test_a_useless_firmware_earns_nothing(name, handed_in, few_images):
    forged(f"firmware: {name}", handed_in)
    assert run("firmware", {}, handed_in).points == FIRMWARE[name]


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("the_loops", "mcycles"),
        ("wasted_flash", "flash_kib"),
        ("used_memory_painted_over", "sram_kib"),
    ],
)
def test_a_wasteful_firmware_loses_one_figure_alone(name, figure, handed_in, few_images):
    forged(f"firmware: {name}", handed_in)
    rows = {row.name: row for row in run("firmware", {}, handed_in).rows}
    assert [name for name, row in rows.items() if row.points < row.max_points] == [figure]


def test_the_camera_sees_other_pixels_and_the_same_classes():
    cases = Cases("firmware", "glyphs", 5)
    seen = checks.camera(cases)
    known = {image.numpy().tobytes() for image in held_out.images("glyphs", 5).images}
    assert not any(image.numpy().tobytes() in known for image in seen.images)
    assert len(seen) == checks.FIRMWARE_IMAGES
    assert checks._float_accuracy("glyphs", seen) > 0.8
    assert math.isfinite(seen.images.float().mean())
