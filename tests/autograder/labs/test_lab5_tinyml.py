"""Lab 5's own: bounds of its planner's check, what is said of wrong kernels and of firmware.

C is what the reference handed in, compiled and emulated here as in a student's kernel.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import lab_checks
import pytest
from lab_checks import NOWHERE
from solution_cells import definitions

from autograder.contract import held_out
from autograder.contract.checking import Cases, LocalStudent
from autograder.labs.lab5_tinyml.checks import (
    firmware,
    graphs,
    kernel_cases,
    kernels,
    patches,
    planning,
)
from autograder.sandbox import run_firmware

pytestmark = pytest.mark.lab5
LAB = "lab5_tinyml"


@pytest.fixture
def handed_in(tmp_path):
    """The reference's artifacts, to be altered."""
    return Path(shutil.copytree(lab_checks.reference_outputs(LAB), tmp_path / "glyphs"))


def run(check, outputs):
    return lab_checks.run(LAB, check, {}, outputs)


def forge(name, outputs):
    lab_checks.mutant(LAB, name).forge(outputs)


# --- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_largest_first_is_good_enough_and_first_come_is_not(seed):
    """Whichever graphs the judge draws, the two sides of 10 % stay apart."""

    def ratio(order: str) -> float:
        text = lab_checks.mutant(LAB, "plan_memory: as_they_come").source
        namespace = definitions(LAB, text.replace("for one in size:", f"for one in {order}:"))
        student = LocalStudent(namespace, NOWHERE)
        widths = [
            planning.width(graph, planning.planned(student, graph))
            for graph in planning.graphs(Cases("plan_memory", "glyphs", seed))
        ]
        return sum(widths) / len(widths)

    assert ratio("size") > planning.MOST_WIDTH
    assert ratio("sorted(size, key=lambda h: -size[h])") <= planning.MOST_WIDTH - 0.02


def test_alive_tensors_by_hand():
    operators = [
        {"inputs": ["image"], "output": "a"},
        {"inputs": ["a"], "output": "b"},
        {"inputs": ["b", "a"], "output": "c"},
        {"inputs": ["c"], "output": "logits"},
    ]
    sizes = {"a": 1, "b": 2, "c": 4}
    found = graphs.alive(operators, sizes)
    assert found == [{"a"}, {"a", "b"}, {"a", "b", "c"}, {"c"}]


def test_a_schedule_by_hand():
    """Rows 0..8 of the image, a 3x3 layer, then one with stride 2: four output rows, two strips."""
    found = patches.expected_schedule([[3, 1, 1], [3, 2, 1]], 8, 2)
    assert found[0] == [[0, 5, 1, 0], [0, 4, 1, 0]]
    assert found[1] == [[2, 8, 0, 1], [3, 8, 0, 0]]


# --- kernels -------------------------------------------------------------------------------------

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
    forge(name, handed_in)
    rows = run(name.split(":")[0], handed_in).rows
    messages = " ".join(row.message for row in rows)
    assert SAYS[name] in messages or (name.endswith("input") and "outputs differ" in messages)


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_expected_outputs_are_those_of_the_loops(name):
    """Two computations of the same contract: exact tensors here, the handed-out C there."""
    cases = Cases(name, "glyphs", 11)
    for shape in [*kernel_cases.SMALL[name], *kernel_cases.USUAL[name][:1]]:
        for extreme in (0, 1):
            values = kernel_cases.arguments(cases, name, shape, extreme)
            case = {"arguments": kernel_cases.in_memory(name, values), "guarded": True, "seed": 1}
            found = run_firmware.calls(kernels.LOOPS, name, [case])[0]
            assert kernel_cases.output_fault(name, values, found["outputs"]) is None


# --- the program ---------------------------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(firmware, "FIRMWARE_IMAGES", 12)


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
    forge(f"firmware: {name}", handed_in)
    assert run("firmware", handed_in).points == FIRMWARE[name]


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("the_loops", "mcycles"),
        ("wasted_flash", "flash_kib"),
        ("used_memory_painted_over", "sram_kib"),
    ],
)
def test_a_wasteful_firmware_loses_one_figure_alone(name, figure, handed_in, few_images):
    forge(f"firmware: {name}", handed_in)
    rows = {row.name: row for row in run("firmware", handed_in).rows}
    assert [name for name, row in rows.items() if row.points < row.max_points] == [figure]


def test_the_camera_sees_other_pixels_and_the_same_classes():
    cases = Cases("firmware", "glyphs", 5)
    seen = firmware.camera(cases)
    known = {image.numpy().tobytes() for image in held_out.images("glyphs", 5).images}
    assert not any(image.numpy().tobytes() in known for image in seen.images)
    assert len(seen) == firmware.FIRMWARE_IMAGES
    assert firmware.float_accuracy("glyphs", seen) > 0.8
    assert math.isfinite(seen.images.float().mean())
