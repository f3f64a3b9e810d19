"""Check fake quantization: the rounded value and its straight-through gradient."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault
from autograder.contract.targets import Figure

RANGES = ((-7, 7, False), (0, 15, False), (-127, 127, True))  # low, high, a scale for each row


@check("fake_quantize")
def _fake_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    found = [_range_faults(student, cases, *each) for each in RANGES]
    values, gradients = zip(*found, strict=True)
    return [
        no_fault("value", values, 1),
        no_fault("straight-through gradient, 0 where clipped", gradients, 3),
    ]


def _range_faults(
    student: Student, cases: Cases, low: int, high: int, per_row: bool
) -> tuple[str, str]:
    """What is wrong with the value and with the gradient; both empty where nothing is."""
    rows = int(cases.randint(4, 7))
    scale = torch.rand(rows, 1, generator=cases.generator) * 0.2 + 0.05
    scale = scale if per_row else scale[0, 0]
    # Two values clearly inside each range, at its borders, beyond them, and next to halves.
    levels = [low - 3.3, low - 0.4, low + 0.6, 1.4, high - 0.3, high + 0.3, high + 9.2]
    noise = 0.05 * torch.rand(rows, 7, generator=cases.generator)
    x, upstream = (torch.tensor(levels) + noise) * scale, cases.randn(rows, 7)
    got = student.call("fake_quantize_gradient", x, scale, low, high, upstream)
    value, gradient = expect_tuple(got, "value", "gradient")
    steps = x.double() / scale.double()
    expected = steps.round().clamp(low, high).float() * scale
    inside = (steps >= low) & (steps <= high)
    return (
        compare("", value, expected, 1).message,
        compare("", gradient, upstream * inside, 1).message,
    )
