"""Lab 5's own: bounds of its planner's check, what is said of wrong kernels and of firmware.

C is what the reference handed in, compiled and emulated here as in a student's kernel.
"""

from __future__ import annotations

import lab_checks
import numpy as np
import pytest
import torch
from lab_checks import NOWHERE
from solution_cells import cells, definitions

from autograder.contract import held_out
from autograder.contract.checking import Cases, LocalStudent
from autograder.contract.definition import find
from autograder.labs.lab5_tinyml.checks import (
    firmware,
    fixed_graphs,
    graphs,
    hidden_images,
    kernels,
    patches,
    planning,
)
from autograder.labs.lab5_tinyml.checks.integers import plain

pytestmark = pytest.mark.lab5
LAB = "lab5_tinyml"


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


def test_rows_that_a_stride_skips_are_read_all_the_same():
    """From the first row to the last one, as the text's formula has it."""
    assert patches.expected_schedule([[1, 3, 0]], 10, 2) == [[[0, 4, 0, 0]], [[6, 10, 0, 0]]]


@pytest.mark.parametrize("seed", range(30))
def test_drawn_layers_all_have_rows_and_are_not_always_padded_alike(seed):
    cases = Cases("patch_schedule", "glyphs", seed)
    stages = [patches._stage(cases, depth) for depth in (1, 2, 3, 4, 5)]
    for layers, size, count in stages:
        assert 2 <= count <= patches._sizes(layers, size)[-1]
        assert all(0 <= padding < kernel for kernel, _, padding in layers)
    assert any(2 * padding != kernel - 1 for layers, *_ in stages for kernel, _, padding in layers)


def test_fixed_graphs_keep_what_the_text_promises():
    """Of in-place operators: both tensors have a size, the output is no larger, no other reader."""
    for operators, sizes, in_place in fixed_graphs.ALL:
        assert set(sizes) <= {row["output"] for row in operators}
        for i in in_place:
            source, output = operators[i]["inputs"][0], operators[i]["output"]
            readers = [j for j, row in enumerate(operators) if source in row["inputs"]]
            assert readers == [i]
            assert sizes[output] <= sizes[source]


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, lambda n: list(np.array(n))])
def test_any_kind_of_integers_is_an_answer(kind):
    graph = fixed_graphs.ADDITIONS[1]
    alive = [sum(graph[1][n] for n in names) for names in graphs.alive(*graph[:2])]
    student = LocalStudent({"peak_memory": lambda operators, sizes: kind(alive)}, NOWHERE)
    assert planning._peak_fault(student, graph) is None
    wrong = LocalStudent({"peak_memory": lambda *_: [float(n) for n in alive]}, NOWHERE)
    assert "expected the integer" in planning._peak_fault(wrong, graph)


def test_plain_leaves_floats_and_flags_what_they_are():
    assert plain((torch.tensor(3), {"a": torch.tensor([[1, 2]])})) == [3, {"a": [[1, 2]]}]
    assert isinstance(plain(torch.tensor(1.0)), torch.Tensor)
    assert isinstance(plain(torch.tensor(True)), torch.Tensor)


# --- the program ---------------------------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch):
    """Four of each kind."""
    whole = hidden_images.drawn

    def some(cases):
        images, labels = whole(cases)
        kept = [images[where][:4] for where in hidden_images.KINDS.values()]
        return torch.cat(kept), labels[:4]

    kinds = {kind: slice(4 * i, 4 * i + 4) for i, kind in enumerate(hidden_images.KINDS)}
    monkeypatch.setattr(firmware, "drawn", some)
    monkeypatch.setattr(firmware, "KINDS", kinds)


FIRMWARE = {
    "does_nothing": 0,
    "always_class_0": 0,
    "public_labels": 0,
    "nothing_shares_memory": 0,
    "not_c": 0,
    "operators_skipped": 0,
    "block_means": 0,
    "block_skipped": 0,
    "rounded_down": 0,
    "means_rounded_down": 0,
    "first_image_alone": 0,
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
    images, labels = hidden_images.drawn(Cases("firmware", "glyphs", 5))
    known = {image.numpy().tobytes() for image in held_out.images("glyphs", 5).images}
    assert not any(image.numpy().tobytes() in known for image in images)
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 70
    network = firmware.reference_network("glyphs")
    found = network.logits(images[: len(labels)]).argmax(1)
    assert float((found == labels).double().mean()) > 0.8
    assert [len(range(70)[where]) for where in hidden_images.KINDS.values()] == [40, 10, 10, 10]


def test_logits_may_differ_on_two_of_ten_images_by_little():
    expected = torch.arange(700, dtype=torch.int32).reshape(70, 10) * 1_000
    off = expected.clone()
    off[40:42] += firmware.MOST_OFF
    assert firmware.network_fault(off, off[[0, -1]], expected) is None
    off[42] += 1
    assert "blends of two images" in firmware.network_fault(off, off[[0, -1]], expected)
    off[42] -= 1
    off[41, 3] += 1
    assert "off by up to 501" in firmware.network_fault(off, off[[0, -1]], expected)
    again = expected[[0, -1]] + 1
    assert "second one after a reset" in firmware.network_fault(expected, again, expected)


def test_the_text_names_every_target():
    """Targets and floors of this lab's figures stand in its text, as numbers."""
    written = " ".join(cell.source for cell in cells(LAB) if cell.cell_type == "markdown")
    text = " ".join(written.split())  # a figure and its unit may stand on two lines
    wanted = {
        f"{number:g}"
        for check in find(LAB).targets.values()
        for name, figure in check.figures["glyphs"].items()
        if name != "accuracy_drop"
        for number in (figure.target, figure.floor)
    }
    assert {number for number in wanted if number not in text} == set()
    assert f"{kernels.MOST_MEMORY:,} bytes" in text
    assert f"{firmware.EQUAL:.0%}".replace("%", " %") in text
    assert str(firmware.MOST_OFF) in text
