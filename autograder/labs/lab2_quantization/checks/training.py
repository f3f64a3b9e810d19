"""Check fake quantization: the rounded value and its straight-through gradient.

Fixed cases stand beside drawn ones: exactly at both ends of the range, a tenth of a step on either
side of them, and halves, which go to the even neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError

RANGES = ((-7, 7, (6, 12)), (0, 15, (2, 3, 4, 5)), (-127, 127, (30,)), (-8, 7, (5, 1, 9, 1)))
EXACT_SCALES = (1.0, 0.25, 2.0**-12, 4.0)  # powers of two: ends and halves are met exactly


@check("fake_quantize")
def _fake_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    found = []
    for (low, high, shape), exact in zip(RANGES, EXACT_SCALES, strict=True):
        drawn = float(torch.rand(1, generator=cases.generator)) * 0.2 + 0.05
        steps = _steps(cases, low, high, shape)
        found.append(_faults(student, cases, steps, drawn, low, high))
        found.append(_faults(student, cases, _ends(low, high), exact, low, high))
    values, gradients = zip(*found, strict=True)
    return [
        no_fault("value", values, 1),
        no_fault("straight-through gradient, 0 where clipped", gradients, 3),
    ]


def _steps(cases: Cases, low: int, high: int, shape: Sequence[int]) -> torch.Tensor:
    """x / S clearly inside the range, a tenth to a fifth of a step beyond it, and far away."""
    levels = [low - 3.3, low - 0.15, low + 0.1, low + 1.3, high - 0.3, high - 0.1, high + 0.1]
    levels += [high + 9.2, high + 0.4, low - 0.4, (low + high) // 2 + 0.2, high + 1.2]
    count = torch.Size(shape).numel()
    noise = 0.05 * torch.rand(count, generator=cases.generator)
    return (torch.tensor(levels).repeat(-(-count // len(levels)))[:count] + noise).reshape(shape)


def _ends(low: int, high: int) -> torch.Tensor:
    """x / S ``[3, 5]``: both ends and just beside them, halves, zero."""
    beside = 2.0**-6
    return torch.tensor(
        [
            [low, low - beside, low + beside, low - 0.5, low + 0.5],
            [high, high + beside, high - beside, high + 0.5, high - 0.5],
            [0.0, 0.5, 1.5, 2.5, 3.5],
        ]
    )


def _faults(
    student: Student, cases: Cases, steps: torch.Tensor, scale: float, low: int, high: int
) -> tuple[str, str]:
    """What is wrong with the value and with the gradient; both empty where nothing is."""
    x = steps * torch.tensor(scale)
    upstream = cases.randn(*steps.shape)
    try:
        got = student.call("fake_quantize_gradient", x, torch.tensor(scale), low, high, upstream)
        value, gradient = expect_tuple(got, "value", "gradient")
    except (StudentError, ValueError) as error:
        return str(error), str(error)
    inside = (steps >= low) & (steps <= high)
    expected = steps.double().round().clamp(low, high)
    in_steps = value.double() / torch.tensor(scale).double() if _is_tensor(value) else value
    found = (
        compare("", in_steps, expected, 1, atol=1e-3, rtol=0).message,
        compare("", gradient, upstream * inside, 1).message,
    )
    where = f"{tuple(x.shape)}, codes from {low} to {high}"
    of_value, of_gradient = (f"{where}: {said}" if said else "" for said in found)
    return of_value, of_gradient


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
