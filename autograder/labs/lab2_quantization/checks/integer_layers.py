"""Check what an integer network is made of: folded batch norm, requantization, sums of products.

Expected sums and codes are exact: Python's integers and fractions, or int64.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from autograder.contract.checking import Cases, Student, fault, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

INT32 = -(2**31) + 1, 2**31 - 1  # a clamp that hides nothing

# --- batch norm ----------------------------------------------------------------------------------


@check("fold_batchnorm")
def _fold_batchnorm(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    conv, bn = _convolution_and_norm(cases)
    x = cases.randn(2, conv.in_channels, 6, 6)
    parts = (bn.weight.detach(), bn.bias.detach(), bn.running_mean, bn.running_var)
    got = student.call("fold_batchnorm", conv.weight.detach(), *parts, bn.eps)
    if wrong := fault(_folded_type_fault, got, tuple(conv.weight.shape)):
        return [no_fault("weight and bias", [wrong], 6)]
    rows = []
    for name, image, share in (
        ("equals convolution and batch norm", x, 4),
        ("of an image of zeros", torch.zeros_like(x), 2),
    ):
        found = functional.conv2d(image, got[0], got[1], padding=1)
        expected = bn(conv(image)).detach()
        rows.append(compare(name, found, expected, share, atol=1e-4, rtol=1e-3))
    return rows


def _convolution_and_norm(cases: Cases) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    outputs, inputs = int(cases.randint(5, 9)), int(cases.randint(2, 5))
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    bn = nn.BatchNorm2d(outputs, eps=float(cases.choice([1e-5, 1e-3, 0.1]))).eval()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    with torch.no_grad():
        conv.weight.copy_(cases.randn(*conv.weight.shape))
        for value in (bn.weight, bn.bias, bn.running_mean):
            value.copy_(cases.randn(outputs))
        bn.running_var.copy_(cases.randn(outputs).square() + 0.01)
    return conv, bn


def _folded_type_fault(got: Any, shape: tuple[int, ...]) -> str | None:
    weight, bias = expect_tuple(got, "weight", "bias")
    return type_fault(weight, torch.float32, shape) or type_fault(bias, torch.float32, shape[:1])


# --- requantization ------------------------------------------------------------------------------


@check("requantize")
def _requantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    mantissa, shift = _multipliers(cases)
    plain = cases.randint(-2_000, 2_000, (3, len(mantissa), 4, 4)).int()
    huge = torch.stack([_near_half(mantissa, shift, cases) for _ in range(6)])
    ties = cases.randint(-500, 500, (40, 2)).int()
    half = torch.tensor([2**30, 2**30], dtype=torch.int32), torch.tensor([31, 32]).int()
    ranges = ((0, -128, 127), (-128, -128, 127), (5, -8, 7))  # zero point, low, high
    multipliers = fault(_fixed_point_fault, student, cases)
    codes = faults(_requantize_fault, [(student, plain, mantissa, shift, *each) for each in ranges])
    upwards = fault(_requantize_fault, student, ties, *half, 3, *INT32)
    exact = fault(_requantize_fault, student, huge, mantissa, shift, 0, *INT32)
    return [
        no_fault("mantissa and shift", [multipliers], 2),
        no_fault("int8 codes of accumulators", codes, 1),
        no_fault("halves upwards", [upwards], 1),
        no_fault("exact, also where float64 is not", [exact], 2),
    ]


def _multipliers(cases: Cases) -> tuple[torch.Tensor, torch.Tensor]:
    count = int(cases.randint(4, 8))
    mantissa = cases.randint(2**29, 2**30, (count,)) * 2 + 1  # odd: invertible modulo 2^n
    return mantissa.int(), cases.randint(31, 36, (count,)).int()


def _near_half(mantissa: torch.Tensor, shift: torch.Tensor, cases: Cases) -> torch.Tensor:
    """int32 accumulators whose product lies one below or exactly at a half: ``[C]``."""
    found = []
    for m, n in zip(mantissa.tolist(), shift.tolist(), strict=True):
        offset = int(cases.randint(0, 2))
        sums = (2 ** (n - 1) - offset) * pow(m, -1, 2**n) % 2**n
        if sums >= 2**31:  # not an int32: any large one
            sums = int(cases.randint(2**30, 2**31 - 1))
        found.append(sums if cases.randint(0, 2) else -sums)
    return torch.tensor(found, dtype=torch.int32)


def _requantize_fault(
    student: Student,
    sums: torch.Tensor,
    mantissa: torch.Tensor,
    shift: torch.Tensor,
    zero: int,
    low: int,
    high: int,
) -> str | None:
    got = student.call("requantize", sums, mantissa, shift, zero, low, high)
    if wrong := type_fault(got, torch.int32, tuple(sums.shape)):
        return wrong
    expected = torch.empty_like(sums)
    for place in itertools.product(*map(range, sums.shape)):
        n = int(shift[place[1]])
        code = (int(sums[place]) * int(mantissa[place[1]]) + 2 ** (n - 1)) // 2**n + zero
        expected[place] = min(max(code, low), high)
    return compare("", got, expected, 1, exact=True).message or None


def _fixed_point_fault(student: Student, cases: Cases) -> str | None:
    plain = cases.randn(12).double().exp() * 2.0 ** cases.randint(-12, 1, (12,)).double()
    edges = torch.tensor([1.0, 0.5, 1 - 2**-40, 2**-7, 0.75 + 2**-50], dtype=torch.float64)
    for multiplier in (plain, edges, plain.reshape(3, 4)):
        got = expect_tuple(student.call("fixed_point", multiplier), "mantissa", "shift")
        for value in got:
            if wrong := type_fault(value, torch.int32, tuple(multiplier.shape)):
                return wrong
        columns = [value.flatten().tolist() for value in (multiplier, *got)]
        for real, mantissa, shift in zip(*columns, strict=True):
            expected = exact_fixed_point(real)
            if (mantissa, shift) != expected:
                return f"{real!r}: got mantissa {mantissa}, shift {shift}, expected {expected}"
    return None


def exact_fixed_point(real: float) -> tuple[int, int]:
    """Mantissa from 2^30 and shift of ``real``, nearest to mantissa · 2^-shift, by fractions."""
    exact, shift = Fraction(real), 31
    while exact * 2**shift < 2**30:
        shift += 1
    while exact * 2**shift >= 2**31:
        shift -= 1
    mantissa = round(exact * 2**shift)
    return (mantissa, shift) if mantissa < 2**31 else (2**30, shift - 1)


# --- sums of products ----------------------------------------------------------------------------


@check("quantized_conv2d")
def _quantized_conv2d(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    conv = faults(_conv_fault, [(student, cases, index) for index in range(3)])
    large = fault(_conv_fault, student, cases, 3)
    linear = faults(_linear_fault, [(student, cases, index) for index in range(3)])
    return [
        no_fault("convolution, zero points, borders", conv, 4),
        no_fault("accumulators beyond 2^24", [large], 2),
        no_fault("linear layer", linear, 2),
    ]


def _conv_fault(student: Student, cases: Cases, index: int) -> str | None:
    count, outputs, inputs, side = 2, 3, int(cases.randint(2, 5)), int(cases.randint(4, 7))
    if index == 3:
        count, inputs = 1, 128
    codes = cases.randint(-128, 128, (count, inputs, side, side)).to(torch.int8)
    weight = cases.randint(-127, 128, (outputs, inputs, 3, 3)).to(torch.int8)
    zero = (0, -128, int(cases.randint(-60, 60)), -128)[index]
    if index == 3:  # all products of one sign
        codes, weight = codes.clamp(min=100), weight.abs().clamp(min=100).clamp(max=127)
    bias = cases.randint(-(2**16), 2**16, (outputs,)).int()
    got = student.call("quantized_conv2d", codes, zero, weight, bias)
    padded = functional.pad(codes.long() - zero, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # [N, I, H, W, 3, 3]
    expected = torch.einsum("nihwuv,oiuv->nohw", patches, weight.long()) + bias[:, None, None]
    return _sums_fault(got, expected, zero)


def _linear_fault(student: Student, cases: Cases, index: int) -> str | None:
    inputs, zero = (int(cases.randint(5, 20)), 64, 1_200)[index], (0, -7, -128)[index]
    codes = cases.randint(-128, 128, (3, inputs)).to(torch.int8)
    weight = cases.randint(-127, 128, (4, inputs)).to(torch.int8)
    if index == 2:
        codes, weight = codes.clamp(min=90), weight.abs().clamp(min=80).clamp(max=127)
    bias = cases.randint(-(2**20), 2**20, (4,)).int()
    got = student.call("quantized_linear", codes, zero, weight, bias)
    expected = ((codes.long() - zero)[:, None] * weight.long()).sum(2) + bias
    return _sums_fault(got, expected, zero)


def _sums_fault(got: Any, expected: torch.Tensor, zero: int) -> str | None:
    wrong = type_fault(got, torch.int32, tuple(expected.shape))
    wrong = wrong or compare("", got, expected.int(), 1, exact=True).message
    return f"zero point {zero}: {wrong}" if wrong else None
