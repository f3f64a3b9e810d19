"""Check of the repair by least squares, judged by its residual and not by its weights.

Where columns depend on each other, every solver that reveals the rank must keep its points, also
PyTorch's default driver, which takes a random part of the columns for independent from the first
(its pivots start from whatever is in memory). So a dependent column is the sum of all others: any
smaller set is independent. A column of zeros only asks for finite weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, type_fault
from autograder.contract.targets import Figure

Bound = Callable[[torch.Tensor, torch.Tensor], float]  # of the mean squared error, float64
ROOM = 1.0001  # of a mean squared error, relative to the smallest
DEPENDENT = 6  # cases: by chance a solver for independent columns survives one


@check("reconstruct")
def _reconstruct(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    samples, inputs = int(cases.randint(60, 90)), int(cases.randint(6, 12))
    x, weight = cases.randn(samples, inputs), cases.randn(5, inputs)
    y = x @ weight.T + 0.5 * cases.randn(samples, 5)
    square = torch.eye(4).roll(1, 0) * torch.tensor([3.0, -2.0, 0.5, 1.0])
    maps = [(x, weight), (square, cases.randn(3, 4)), (torch.ones(1, 1), torch.tensor([[2.0]]))]
    # As after a ReLU, with outputs that a bias would fit better; small inputs; one column.
    noisy = [(x, y), (x.abs(), y + 2), (0.01 * x, y), (x[:, :1], y[:, :1])]
    dependent = [(*_dependent(cases), _smallest) for _ in range(DEPENDENT)]
    idle = torch.cat([x, torch.zeros(samples, 1)], 1), y, _of_zeros
    return [
        no_fault("recovers an exact linear map", faults(_map_fault, _each(student, maps)), 3),
        no_fault(
            "noisy outputs: smallest residual",
            faults(_residual_fault, [(student, *pair, _smallest) for pair in noisy]),
            3,
        ),
        no_fault(
            "linearly dependent inputs",
            faults(_residual_fault, _each(student, [*dependent, idle])),
            2,
        ),
    ]


def _each(student: Student, cases: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return [(student, *case) for case in cases]


def _dependent(cases: Cases) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs whose last column is the exact sum of the others, and noisy outputs."""
    samples, inputs = int(cases.randint(20, 60)), int(cases.randint(3, 9))
    x = cases.randint(-8, 9, (samples, inputs)).float()
    y = x @ cases.randn(inputs, 3) + cases.randn(samples, 3)
    return torch.cat([x, x.sum(1, keepdim=True)], 1), y


def _map_fault(student: Student, x: torch.Tensor, weight: torch.Tensor) -> str | None:
    got = student.call("reconstruct", x, x @ weight.T)
    return compare("", got, weight, 1, atol=1e-4, rtol=1e-4).message or None


def _residual_fault(
    student: Student, inputs: torch.Tensor, outputs: torch.Tensor, bound: Bound
) -> str | None:
    x, y = inputs.double(), outputs.double()
    got = student.call("reconstruct", inputs, outputs)
    wrong = type_fault(got, torch.float32, (outputs.shape[1], inputs.shape[1]))
    if wrong:
        return wrong
    found, most = float((x @ got.double().T - y).square().mean()), bound(x, y)
    if found <= ROOM * most:  # NaN is not
        return None
    return f"got a mean squared error of {found:.6g}, expected at most {most:.6g}"


def _smallest(x: torch.Tensor, y: torch.Tensor) -> float:
    """The smallest mean squared error that any weights have."""
    best = torch.linalg.lstsq(x, y, driver="gelsd").solution
    return float((x @ best - y).square().mean())


def _of_zeros(x: torch.Tensor, y: torch.Tensor) -> float:
    """The mean squared error of weights that are all zero."""
    return float(y.square().mean())
