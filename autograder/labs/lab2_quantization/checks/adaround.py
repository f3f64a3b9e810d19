"""Check AdaRound: codes rounded down or up so that a layer's output stays.

Small cases are held against the best of all roundings, larger ones against rounding to nearest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student, fault, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError

W4_TOP = 7  # the largest code
AIMED = 0.4  # of nearest's error; what ignores its target stays above 0.8
DRAWN = 5  # layers, of which one is rounded

Layer = tuple[torch.Tensor, torch.Tensor, float]  # inputs, weight, scale


@check("adaround")
def _adaround(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    v = torch.cat([torch.linspace(-9, 9, 145), cases.randn(15)]), cases.randn(2, 3, 1, 2) * 3
    soft = faults(_soft_fault, [(student, each) for each in v])
    small = fault(_small_fault, student, cases)
    large = faults(_gain_fault, [(student, cases, convolution) for convolution in (False, True)])
    seen = fault(_seen_fault, student, cases)
    return [
        no_fault("rectified sigmoid", soft, 1),
        no_fault("close to the best of all roundings", [small], 2),
        no_fault("output error below 0.6 of nearest", large, 2),
        no_fault("of inputs that earlier layers altered", [seen], 1),
    ]


def _soft_fault(student: Student, v: torch.Tensor) -> str | None:
    """h(V) by Python's exponential; exactly 0 and 1 beyond its ends."""
    flat = [min(max(1.2 / (1 + math.exp(-one)) - 0.1, 0.0), 1.0) for one in v.flatten().tolist()]
    got = student.call("soft_round", v)
    return compare("", got, torch.tensor(flat).reshape(v.shape), 1, atol=1e-6).message or None


def _small_fault(student: Student, cases: Cases) -> str | None:
    """Rows of 7 weights, each against the best of its 2^7 roundings; summed over all rows."""
    choices = torch.tensor(list(itertools.product((0, 1), repeat=7)))
    got = best = nearest = 0.0
    for _ in range(3):
        x, weight, scale = _typical(_small, cases)
        codes = _rounded(student, x, x @ weight.T, weight, scale, 400)
        if wrong := rounding_fault(codes, weight, scale):
            return wrong
        for row, chosen in zip(weight, codes, strict=True):
            every = ((row / scale).floor() + choices).clamp(-W4_TOP, W4_TOP)
            for_every = ((every * scale - row) @ x.T).double().square().mean(1)
            best += float(for_every.min())
            got += _output_error(chosen, x, x @ row, scale)
            nearest += _output_error(nearest_codes(row, scale), x, x @ row, scale)
    if got <= best + 0.3 * (nearest - best):
        return None
    return f"output error {got:.4g}, best {best:.4g}, nearest {nearest:.4g}"


def _gain_fault(student: Student, cases: Cases, convolution: bool) -> str | None:
    x, weight, scale = _typical(_convolution if convolution else _linear, cases)
    exact = _applied(x, weight)
    codes = _rounded(student, x, exact, weight, scale, 300)
    if wrong := rounding_fault(codes, weight, scale):
        return wrong
    reference = _output_error(nearest_codes(weight, scale), x, exact, scale)
    ratio = _output_error(codes, x, exact, scale) / reference
    return None if ratio <= 0.6 else f"{tuple(weight.shape)}: got {ratio:.2f} of nearest's error"


def _seen_fault(student: Student, cases: Cases) -> str | None:
    """The target belongs to other inputs than the layer sees: it has to be aimed at.

    What is seen is a fifth smaller; codes that keep the output of what is seen are off by as much.
    """
    exact_x, weight, scale = _rounding_case(cases, 8, 40)
    weight = weight.abs()  # so that what is missing adds up
    exact, x = _applied(exact_x, weight), 0.8 * exact_x
    codes = _rounded(student, x, exact, weight, scale, 300)
    if wrong := rounding_fault(codes, weight, scale):
        return wrong
    reference = _output_error(nearest_codes(weight, scale), x, exact, scale)
    ratio = _output_error(codes, x, exact, scale) / reference
    return None if ratio <= AIMED else f"got {ratio:.2f} of nearest's error, expected {AIMED}"


def _typical(draw: Callable[[Cases], Layer], cases: Cases) -> Layer:
    """Of some layers the one that nearest rounding hurts neither most nor least.

    Where it happens to hurt hardly at all, a right answer has little to gain on it.
    """
    layers = [draw(cases) for _ in range(DRAWN)]
    return sorted(layers, key=_nearest_error)[DRAWN // 2]


def _nearest_error(layer: Layer) -> float:
    x, weight, scale = layer
    return _output_error(nearest_codes(weight, scale), x, _applied(x, weight), scale)


def _small(cases: Cases) -> Layer:
    return _rounding_case(cases, 3, 7)


def _linear(cases: Cases) -> Layer:
    return _rounding_case(cases, 12, 48)


def _convolution(cases: Cases) -> Layer:
    """Each position of the image sees other inputs."""
    weight = cases.randn(12, 3, 3, 3)
    x = cases.randn(64, 3, 5, 4) + 3 * cases.randn(64, 1, 1, 1)
    return x, weight, float(weight.abs().max()) / W4_TOP


def _rounding_case(cases: Cases, rows: int, inputs: int) -> Layer:
    """Inputs that go together (a common part), so that errors can cancel."""
    x = cases.randn(256, inputs) + 3 * cases.randn(256, 1)
    weight = cases.randn(rows, inputs)
    return x, weight, float(weight.abs().max()) / W4_TOP


def _applied(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim == 4:
        return functional.conv2d(x, weight, padding=1)
    return x @ (weight.T if weight.ndim == 2 else weight)


def _rounded(
    student: Student,
    x: torch.Tensor,
    exact: torch.Tensor,
    weight: torch.Tensor,
    scale: float,
    steps: int,
) -> torch.Tensor:
    got = student.call("adaround", x, exact, weight, scale, steps, deadline_s=60.0)
    if wrong := type_fault(got, torch.int8, tuple(weight.shape)):
        raise StudentError(wrong)
    return got


def _output_error(codes: torch.Tensor, x: torch.Tensor, exact: torch.Tensor, scale: float) -> float:
    return float((_applied(x, codes.float() * scale) - exact).double().square().mean())


def rounding_fault(codes: torch.Tensor, weight: torch.Tensor, scale: float) -> str | None:
    """The first code that is neither rounded down nor up, or None."""
    exact = (weight / scale).clamp(-W4_TOP, W4_TOP)
    wrong = ((codes.float() - exact).abs() > 1.001) | (codes.abs() > W4_TOP)
    if not wrong.any():
        return None
    place = tuple(wrong.nonzero()[0].tolist())
    return f"W/S of {exact[place]:.3f} became {int(codes[place])}, neither rounded down nor up"


def nearest_codes(weight: torch.Tensor, scale: float) -> torch.Tensor:
    """Every weight rounded to the nearest code: what AdaRound is compared with."""
    return (weight / scale).round().clamp(-W4_TOP, W4_TOP)
