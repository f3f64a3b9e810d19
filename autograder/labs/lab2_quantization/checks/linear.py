"""Check linear quantization: scale and zero point, codes, and the real numbers they stand for.

Expected parameters are computed slice by slice with Python's floats, codes entry by entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

PER_CHANNEL = [(True, 0), (True, 1), (False, 0), (False, 2)]  # symmetric, axis


@check("linear_quantize")
def _linear_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    rows = [
        _parameters_row(student, cases, "symmetric parameters", [(True, None)], 1.5),
        _parameters_row(student, cases, "affine parameters, 0 is a level", [(False, None)], 1.5),
        _parameters_row(student, cases, "parameters of each channel", PER_CHANNEL, 1.0),
    ]
    codes = faults(_codes_fault, [(student, cases, i) for i in range(6)])
    real = faults(_dequantize_fault, [(student, cases, i) for i in range(3)])
    return [*rows, no_fault("codes", codes, 3), no_fault("real numbers again", real, 3)]


def _parameters_row(
    student: Student,
    cases: Cases,
    name: str,
    kinds: Sequence[tuple[bool, int | None]],
    share: float,
) -> Row:
    """Covers positive, negative and mixed tensors, an all-zero one, and 3, 4 and 8 bits."""
    rows = int(cases.randint(4, 8))
    base = cases.randn(rows, int(cases.randint(5, 9)), 3) * cases.randn(rows).exp()[:, None, None]
    tensors = [base, base.abs() + 0.5, -base.abs() - 0.25, torch.zeros(3, 4, 2)]
    found = faults(
        _parameters_fault,
        [
            (student, x, bits, *kind)
            for kind, x, bits in itertools.product(kinds, tensors, (8, 4, 3))
        ],
    )
    return no_fault(name, found, share)


def _parameters_fault(
    student: Student, x: torch.Tensor, bits: int, symmetric: bool, axis: int | None
) -> str | None:
    where = f"{tuple(x.shape)}, {bits} bits, symmetric={symmetric}, axis={axis}"
    got = student.call("quantization_parameters", x, bits, symmetric, axis)
    got_scale, got_zero = expect_tuple(got, "scale", "zero_point")
    scale, zero = _parameters(x, bits, symmetric, axis)
    if said := compare("", got_scale, scale, 1, atol=0, rtol=1e-5).message:
        return f"{where}: scale {said}"
    if wrong := type_fault(got_zero, torch.int32, tuple(zero.shape)):
        return f"{where}: zero point {wrong}"
    if not torch.equal(got_zero, zero):
        return f"{where}: got zero point {got_zero.tolist()}, expected {zero.tolist()}"
    return None


def _parameters(
    x: torch.Tensor, bits: int, symmetric: bool, axis: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    slices = [x] if axis is None else list(x.unbind(axis))
    found = []
    for part in slices:
        low, high = min(0.0, float(part.min())), max(0.0, float(part.max()))
        if symmetric:
            found.append((max(-low, high) / (2 ** (bits - 1) - 1) or 1.0, 0))
        else:
            scale = (high - low) / (2**bits - 1) or 1.0
            found.append((scale, round(-(2 ** (bits - 1)) - low / scale)))
    scales = torch.tensor([s for s, _ in found], dtype=torch.float32)
    zeros = torch.tensor([z for _, z in found], dtype=torch.int32)
    return (scales[0], zeros[0]) if axis is None else (scales, zeros)


def _quantization_case(
    cases: Cases, index: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, int | None]:
    """Tensor, scale, zero point, bits, axis: values on halves, beyond the range, each axis."""
    bits, axis = (8, 4, 8, 3, 8, 4)[index], (None, 0, 1, None, 2, 0)[index]
    shape = [5, int(cases.randint(4, 8)), 6]
    count = 1 if axis is None else shape[axis]
    scale = 2.0 ** cases.randint(-4, 2, (count,)).float()  # quotients are exact, so halves are, too
    zero = cases.randint(-3, 4, (count,)).int()
    levels = cases.randint(-(2**bits) - 4, 2**bits + 4, shape).float() / 2
    place = [-1 if i == axis else 1 for i in range(3)]
    x = levels * scale.reshape(place)
    if axis is None:
        scale, zero = scale[0], zero[0]
    return x, scale, zero, bits, axis


def _codes_fault(student: Student, cases: Cases, index: int) -> str | None:
    x, scale, zero, bits, axis = _quantization_case(cases, index)
    got = student.call("linear_quantize", x, scale, zero, bits, axis)
    expected = torch.empty(x.shape, dtype=torch.int8)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for place in itertools.product(*map(range, x.shape)):
        own = () if axis is None else (place[axis],)
        code = round(float(x[place]) / float(scale[own])) + int(zero[own])  # halves to even
        expected[place] = min(max(code, low), high)
    wrong = type_fault(got, torch.int8, tuple(x.shape))
    wrong = wrong or compare("", got, expected, 1, exact=True).message
    return f"{bits} bits, axis={axis}: {wrong}" if wrong else None


def _dequantize_fault(student: Student, cases: Cases, index: int) -> str | None:
    x, scale, zero, _, axis = _quantization_case(cases, index)
    codes = cases.randint(-128, 128, x.shape).to(torch.int8)
    got = student.call("dequantize", codes, scale, zero, axis)
    expected = torch.empty(x.shape)
    for place in itertools.product(*map(range, x.shape)):
        own = () if axis is None else (place[axis],)
        expected[place] = float(scale[own]) * (int(codes[place]) - int(zero[own]))
    wrong = compare("", got, expected, 1).message
    return f"axis={axis}: {wrong}" if wrong else None
