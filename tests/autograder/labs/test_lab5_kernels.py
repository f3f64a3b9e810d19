"""Kernels of Lab 5: what is said of wrong ones, cases at all ends of the contracts, other styles.

C is what the reference handed in, altered, compiled and emulated here as in a student's kernel.
"""

from __future__ import annotations

import re

import lab_checks
import pytest
import torch

from autograder.contract.checking import Cases
from autograder.labs.lab5_tinyml import trial
from autograder.labs.lab5_tinyml.checks import kernel_answers, kernel_cases, kernels
from autograder.labs.lab5_tinyml.valid.kernels import KERNELS as STYLES
from autograder.sandbox import run_firmware

pytestmark = pytest.mark.lab5
LAB = "lab5_tinyml"


def run(check, outputs):
    return lab_checks.run(LAB, check, {}, outputs)


def forge(name, outputs):
    lab_checks.mutant(LAB, name).forge(outputs)


SAYS = {
    "conv1x1: not_c": "conv1x1.c:1:",
    "conv1x1: needs_a_library": "undefined symbol: puts",
    "conv1x1: another_name": "got function 'conv1x1'",
    "conv1x1: too_much_memory": "overflowed by",
    "conv1x1: never_ends": "more than 5,000,000 instructions",
    "conv1x1: reads_past_the_input": "it read 4 bytes past the array of in",
    "conv1x1: writes_past_the_output": "it wrote 1 bytes past the array of out",
    "conv1x1: overwrites_the_input": "it changed its input",
    "depthwise: scratch_too_large": "past the array of scratch",
    "depthwise: first_call_alone": "in the second call without a reset in between",
    "depthwise: padding_never_cleared": "outputs differ",
    "conv1x1: rows_in_static_memory": "2,000 of variables; allowed: 1,024",
    "conv3x3: rows_on_the_stack": "bytes of stack and 0 of variables; allowed: 1,024",
    "depthwise: ties_to_even": "differ, first at",
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
    values = kernel_cases.drawn(cases, name)
    calls = [
        {"arguments": kernel_cases.in_memory(name, one), "guarded": True, "seed": 1}
        for one in values
    ]
    for one, found in zip(values, run_firmware.calls(kernels.LOOPS, name, calls), strict=True):
        assert kernel_answers.output_fault(name, one, found["outputs"]) is None


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_cases_reach_the_ends_of_the_contract(name):
    """Both ends of shifts, biases and mantissas; no memory is handed over cleared."""
    values = kernel_cases.drawn(Cases(name, "glyphs", 4), name)
    channels = torch.cat([one[kernel_cases.IN_FLASH[name][1]] for one in values])
    assert {33, 55} <= set(channels[:, 2].tolist()) <= set(range(33, 56))
    assert set(channels[:, 0].abs().tolist()) >= {kernel_cases.LARGEST_BIAS}
    assert {2**30, 2**31 - 1} <= set(channels[:, 1].tolist())
    sizes = {n for shape in kernel_cases.SMALL[name] for n in shape}
    assert {1, 20, 28} <= sizes
    for one in values:
        scratch, free = one[-1], one[0] if name == "depthwise" else one[-3]
        assert len(scratch) < 8 or scratch.bool().sum() > len(scratch) // 2
        assert free.numel() < 8 or len(free.unique()) > 1 or name == "depthwise"


@pytest.mark.parametrize(
    ("name", "style"), [(name, style) for name, styles in STYLES.items() for style in styles]
)
def test_a_kernel_in_another_style_earns_everything(name, style, handed_in):
    STYLES[name][style](handed_in)
    verdict = run(name, handed_in)
    assert verdict.points == verdict.max_points, [row.message for row in verdict.rows]


def test_a_kernel_is_tried_on_one_case():
    source = (lab_checks.reference_outputs(LAB) / "depthwise.c").read_text()
    report = trial.tried("depthwise", source, (1, 5, 3, 2), assembly=True)
    assert "every output exact" in report
    assert "smlad" in report
    down = trial.tried("depthwise", source.replace("+ 1) >> 1", ") >> 1"), (5, 5, 3, 1), "ties")
    assert "differ, first at" in down


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "conv5x5"}, "got kernel 'conv5x5'; allowed"),
        ({"shape": (4, 4, 6, 2)}, "got shape"),
        ({"shape": (4, 4)}, "got shape"),
        ({"numbers": "none"}, "got numbers 'none'; allowed"),
        ({"source": "int x\n= ;"}, "conv3x3.c:2:"),
    ],
)
def test_what_cannot_be_tried_says_so(options, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        trial.tried(**{"name": "conv3x3", "source": "", **options})
