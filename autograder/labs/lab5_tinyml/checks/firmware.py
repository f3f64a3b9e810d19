"""Checks of the generated program: logits of hidden networks, and the whole firmware's figures.

The generator is asked for small random networks, whose exact logits the course's integers give. The
firmware that was handed in has to be the lab's network: its ten logits are compared with those of
the integers, on images as a camera would see them again and on some that are in no data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, failed, joint_use, no_fault, passed, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab5_tinyml.checks.graphs import buffers
from autograder.labs.lab5_tinyml.checks.hidden_images import KINDS, drawn
from autograder.labs.lab5_tinyml.checks.kernel_cases import scratch_halfwords
from autograder.labs.lab5_tinyml.checks.kernels import LOOPS, MAX_SOURCE, c_text
from autograder.sandbox import run_firmware
from codesign import checkpoints, datasets, models
from codesign.hardware.memory_planner import peak, plan
from codesign.hardware.operator_tables import constants, describe
from codesign.int8 import Network
from codesign.post_training import quantize

CALIBRATION_IMAGES = 256  # the first of the training split, as in the lab
COUNTED_IMAGES = 2
EQUAL = 0.8  # of the images of each kind
MOST_OFF = 500  # of a logit, on the others: the logits of an image spread over 100,000 and more
LOGITS = "the ten logits of the lab's network"
STATE = "an image gives other logits when it is the second one after a reset"
STACK_BYTES = 1_024  # room for it where the generator's memory is judged


@check("generate")
def _generate(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    results = [_generated_faults(student, cases, blocks) for blocks in _block_lists(cases)]
    wrong = [logits for logits, _ in results]
    reason = next((one for one in wrong if one), None)
    memory = [f"not measured: {reason}" if reason else sram for _, sram in results]
    return [
        no_fault("logits of hidden networks", wrong, 4),
        no_fault("activations in the arena alone", memory, 2),
    ]


def _block_lists(cases: Cases) -> list[list[list[int]]]:
    width = 4 * int(cases.randint(2, 4))
    return [
        [[1, 8, 1], [2, width, 2], [2, width, 1]],
        [[3, width, 1], [2, width, 1], [1, 12, 2], [2, 12, 1]],
    ]


def _generated_faults(
    student: Student, cases: Cases, blocks: list[list[int]]
) -> tuple[str | None, str | None]:
    """What is wrong with the logits, and with the memory, of a random small network."""
    network, images = _random_network(cases, blocks)
    table = describe(network)
    offsets, arena = _arena(table)
    text = student.call("generate", table["operators"], table["shapes"], table["zeros"], offsets)
    if not isinstance(text, str) or len(text) > MAX_SOURCE:
        return f"got a {type(text).__name__}, expected C text", None
    halfwords = _most_scratch(table)
    given = LOOPS + constants(network) + _memory(arena, halfwords)
    source = f'{given}\n#line 1 "infer.c"\n{text}'
    codes = torch.from_numpy(network.codes(images))
    try:
        found = student.measure(
            "autograder.sandbox.run_firmware:inference", source, codes, 1, cases.seed
        )
    except StudentError as error:
        return str(error), None
    exact = network.logits(images)
    if wrong := _logits_fault(found["logits"], exact):
        return f"blocks {blocks}: {wrong}", None
    if _logits_fault(found["again"], exact[[0, -1]]):
        return f"blocks {blocks}: {STATE}", None
    logits_bytes = 40
    room = arena + 2 * halfwords + codes[0].numel() + logits_bytes + STACK_BYTES
    if int(found["sram_bytes"]) > room:
        return None, f"{found['sram_bytes']:,} bytes of SRAM where {room:,} are enough"
    return None, None


def _random_network(cases: Cases, blocks: list[list[int]]) -> tuple[Network, torch.Tensor]:
    """A small quantized network of random weights, and two images."""
    torch.manual_seed(int(cases.randint(0, 2**31)))
    model = models.build({"architecture": "mobile", "stem": 8, "blocks": blocks, "head": 16})
    images = cases.randint(0, 256, (12, 3, 12, 12)).to(torch.uint8)
    return quantize(model.eval(), images), images[:2]


def _memory(arena: int, halfwords: int) -> str:
    """C text: the arrays that the lab declares around the generated function."""
    return (
        f"static int8_t arena[{arena}] __attribute__((aligned(8)));\n"
        f"static int16_t scratch[{halfwords}] __attribute__((aligned(8)));\n"
    )


def _logits_fault(got: Any, expected: torch.Tensor) -> str | None:
    if wrong := type_fault(got, torch.int32, tuple(expected.shape)):
        return wrong
    if torch.equal(got, expected):
        return None
    return f"logits {got[0].tolist()[:4]}, expected {expected[0].tolist()[:4]}"


def _arena(table: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Offsets of every tensor between image and logits, and the bytes of them all."""
    operators = table["operators"]
    sizes = {row["output"]: math.prod(table["shapes"][row["output"]]) for row in operators[:-1]}
    found, homes = buffers(operators, sizes, table["in_place"])
    offsets = plan(found)
    return {name: offsets[home] for name, home in homes.items()}, peak(found, offsets)


def _most_scratch(table: Mapping[str, Any]) -> int:
    """Halfwords that are enough for every operator."""
    return max(
        scratch_halfwords(row["kind"], *table["shapes"][row["inputs"][0]])
        for row in table["operators"]
    )


@check("firmware")
def _firmware(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    source = c_text(student, "firmware", run_firmware.MOST_TEXT)
    images, labels = drawn(cases)
    network = reference_network(cases.dataset)
    codes = torch.from_numpy(network.codes(images))
    try:
        found = student.measure(
            "autograder.sandbox.run_firmware:inference", source, codes, COUNTED_IMAGES, cases.seed,
            deadline_s=400.0,
        )  # fmt: skip
    except StudentError as error:
        return _no_firmware(str(error), target)
    expected = network.logits(images)
    if wrong := network_fault(found["logits"], found["again"], expected):
        return _no_firmware(wrong, target)
    right = [(one[: len(labels)].argmax(1) == labels) for one in (expected, found["logits"])]
    drop = float(right[0].double().mean() - right[1].double().mean())
    gains = {
        "sram_kib": found["sram_bytes"] / 1024,
        "flash_kib": found["flash_bytes"] / 1024,
        "mcycles": max(found["cycles"]) / 1e6,
    }
    rows = joint_use(("accuracy_drop", drop), gains, target)
    return [passed(LOGITS, True, 1), *rows]


def _no_firmware(why: str, target: Mapping[str, Figure]) -> list[Row]:
    """No figure of another program counts."""
    rows = [
        failed(name, figure.points, "counts only with these logits")
        for name, figure in target.items()
    ]
    return [passed(LOGITS, False, 1, why), *rows]


def network_fault(got: Any, again: Any, expected: torch.Tensor) -> str | None:
    """Say what keeps logits from being those of the lab's network, or None.

    Args:
        got: of the firmware, int32 ``[N, 10]``; by kinds of images, as :func:`drawn` orders them.
        again: of its first and last image, straight after another one.
        expected: of the integers.
    """
    if wrong := type_fault(got, torch.int32, tuple(expected.shape)):
        return wrong
    off = (got.long() - expected.long()).abs().amax(1)
    for kind, where in KINDS.items():
        equal, most = float((off[where] == 0).double().mean()), int(off[where].max())
        if equal < EQUAL or most > MOST_OFF:
            i = range(len(off))[where][int(off[where].argmax())]
            return (
                f"{kind}: all ten logits equal on {equal:.0%} of the images, {EQUAL:.0%} are "
                f"needed; off by up to {most:,}, {MOST_OFF} are allowed; of one image got "
                f"{got[i].tolist()}, expected {expected[i].tolist()}"
            )
    if not torch.equal(again, got[[0, -1]]):
        return STATE
    return None


@lru_cache(maxsize=2)
def reference_network(dataset: str) -> Network:
    """The network of the lab in integers; the judge takes the scale of the image from it."""
    model = checkpoints.load(checkpoints.shipped("mobile", dataset))
    images = datasets.load(dataset, "train", quiet=True).images[:CALIBRATION_IMAGES]
    return quantize(model, images)
