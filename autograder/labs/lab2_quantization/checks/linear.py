"""Check linear quantization: scale and zero point, codes, and the real numbers they stand for.

Expected parameters are computed slice by slice with Python's floats and fractions, codes entry by
entry. Fixed cases stand beside drawn ones: one value, zeros, tiny and huge values, halves, every
number of bits, every axis, zero points at both ends of their range.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

PER_CHANNEL = [(s, axis) for s in (True, False) for axis in (0, 1, 2)]  # symmetric, axis
BITS = (8, 4, 3, 2, 7, 5, 6)
TIES = (((-126.5, 128.5), 8), ((-1.5, 1.5), 2), ((-0.5, 2.5), 2), ((-6.5, 8.5), 4))  # S = 1
OTHER_SHAPES = ((2, 3), 1), ((3, 2, 1, 4), 3), ((5, 2, 3, 3), 0), ((1, 4), 0), ((6, 1), 0)
CODES = (  # bits, axis, shape
    *((8, None, (5, 4, 6)), (4, 0, (3, 5, 6)), (8, 1, (4, 4, 4)), (3, None, (7,))),
    *((8, 2, (2, 5, 3)), (2, None, (1,)), (5, 0, (1, 2)), (7, 3, (2, 3, 1, 4)), (6, 1, (3, 1))),
)
CLOSE = 1e-3  # of a code: what rounding in float32 may move


@check("linear_quantize")
def _linear_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    shapes = [(student, cases, *each) for each in CODES]
    shapes.append((student, cases, 8, int(cases.randint(0, 3)), (5, int(cases.randint(4, 8)), 6)))
    rows = [
        _parameters_row(student, cases, "symmetric parameters", [(True, None)], 1.5),
        _parameters_row(student, cases, "affine parameters, 0 is a level", [(False, None)], 1.5),
        _parameters_row(student, cases, "parameters of each channel", PER_CHANNEL, 1.0),
    ]
    codes = faults(_codes_fault, shapes) + faults(_between_fault, shapes[:4])
    return [
        *rows,
        no_fault("codes", codes, 3),
        no_fault("real numbers again", faults(_dequantize_fault, shapes), 3),
    ]


# --- scale and zero point ------------------------------------------------------------------------


def _parameters_row(
    student: Student,
    cases: Cases,
    name: str,
    kinds: Sequence[tuple[bool, int | None]],
    share: float,
) -> Row:
    """Covers positive, negative and mixed tensors, zeros, one value, and 2 to 8 bits."""
    found = []
    for number, kind in enumerate(kinds):
        tensors = _tensors(cases)
        if kind[1] is None:
            single = [torch.tensor([-0.75]), torch.tensor([0.0]), torch.tensor([[3e-5]])]
            tensors += [*single, *(torch.tensor(values) for values, _ in TIES)]
        bits = itertools.islice(itertools.cycle(BITS), number, None)
        pairs = [*zip(tensors, bits, strict=False), *((tensors[0], b) for b in (8, 4, 3))]
        if kind[1] is None:
            pairs += [(torch.tensor(values), b) for values, b in TIES]
        found += [(student, x, b, *kind) for x, b in pairs]
    if kinds is PER_CHANNEL:
        others = itertools.product((True, False), OTHER_SHAPES)
        found += [(student, cases.randn(*shape), 8, s, axis) for s, (shape, axis) in others]
    return no_fault(name, faults(_parameters_fault, found), share)


def _tensors(cases: Cases) -> list[torch.Tensor]:
    """Tensors of three dimensions whose channels differ in size along each axis."""
    rows = int(cases.randint(4, 8))
    base = cases.randn(rows, int(cases.randint(5, 9)), 3) * cases.randn(rows).exp()[:, None, None]
    some = base.clone()
    some[1], some[:, 2], some[:, :, 0] = 0, 0, 0  # channels of zeros beside others
    positive, negative = base.abs() + 0.5, -base.abs() - 0.25
    zeros = torch.zeros(3, 4, 2)
    return [base, positive, negative, zeros, some, base * 1e-5, base * 1e-12, base * 1e9]


def _parameters_fault(
    student: Student, x: torch.Tensor, bits: int, symmetric: bool, axis: int | None
) -> str | None:
    where = f"{tuple(x.shape)}, {bits} bits, symmetric={symmetric}, axis={axis}"
    options = () if axis is None and x.ndim % 2 else (axis,)  # its default is promised, too
    got = student.call("quantization_parameters", x, bits, symmetric, *options)
    got_scale, got_zero = expect_tuple(got, "scale", "zero_point")
    scale, zeros = parameters(x, bits, symmetric, axis)
    if wrong := type_fault(got_scale, torch.float32, tuple(scale.shape)):
        return f"{where}: scale {wrong}"
    if said := compare("", got_scale, scale, 1, atol=0, rtol=1e-5).message:
        return f"{where}: scale {said}"
    if wrong := type_fault(got_zero, torch.int32, tuple(scale.shape)):
        return f"{where}: zero point {wrong}"
    found = got_zero.flatten().tolist()
    if all(one in allowed for one, allowed in zip(found, zeros, strict=True)):
        return None
    return f"{where}: got zero point {got_zero.tolist()}, expected {[z[0] for z in zeros]}"


def parameters(
    x: torch.Tensor, bits: int, symmetric: bool, axis: int | None
) -> tuple[torch.Tensor, list[tuple[int, ...]]]:
    """Scale, and the zero points of each slice that rounding in float32 may give."""
    slices = [x] if axis is None else list(x.unbind(axis))
    scales, zeros = [], []
    for part in slices:
        low, high = min(0.0, float(part.min())), max(0.0, float(part.max()))
        scale = (max(-low, high) if symmetric else high - low) or 0.0
        scale = scale / (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1) or 1.0
        scales.append(scale)
        exact = Fraction(-(2 ** (bits - 1))) - Fraction(low) / Fraction(scale)
        zeros.append((0,) if symmetric else _roundings(exact, clear=scale == 1.0))
    found = torch.tensor(scales, dtype=torch.float32)
    return (found[0] if axis is None else found), zeros


def _roundings(exact: Fraction, clear: bool) -> tuple[int, ...]:
    """``exact`` rounded, and both neighbours of a half that float32 may miss unless ``clear``."""
    slack = Fraction(0 if clear else CLOSE)
    return tuple({round(exact): 0, round(exact - slack): 0, round(exact + slack): 0})


# --- codes ---------------------------------------------------------------------------------------


def _case(
    cases: Cases, bits: int, axis: int | None, shape: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Steps in halves (``x / S``) beyond both ends, scales and zero points at both ends."""
    count = 1 if axis is None else shape[axis]
    scale = 2.0 ** cases.randint(-20, 3, (count,)).float()  # quotients are exact, so halves are
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zero = cases.randint(low, high + 1, (count,)).int()
    zero[0] = (low, high, -1)[len(shape) % 3]
    zero[-1] = (low, high, 2)[count % 3] if count > 1 else zero[0]
    span = 2 ** (bits + 1) + 8
    steps = cases.randint(-span, span, shape).float() / 2
    return (steps, scale[0], zero[0]) if axis is None else (steps, scale, zero)


def _along(values: torch.Tensor, axis: int | None, dimensions: int) -> torch.Tensor:
    return values.reshape([-1 if i == axis else 1 for i in range(dimensions if values.ndim else 0)])


def _codes_fault(
    student: Student, cases: Cases, bits: int, axis: int | None, shape: Sequence[int]
) -> str | None:
    steps, scale, zero = _case(cases, bits, axis, shape)
    return _quantized_fault(student, steps, scale, zero, bits, axis)


def _between_fault(
    student: Student, cases: Cases, bits: int, axis: int | None, shape: Sequence[int]
) -> str | None:
    """Scales that are no powers of two, and values between the halves."""
    steps, scale, zero = _case(cases, bits, axis, shape)
    return _quantized_fault(student, steps.floor() + 0.3, scale * 0.7, zero, bits, axis)


def _quantized_fault(
    student: Student,
    steps: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor,
    bits: int,
    axis: int | None,
) -> str | None:
    x = steps * _along(scale, axis, steps.ndim)
    options = () if axis is None and steps.ndim % 2 else (axis,)
    got = student.call("linear_quantize", x, scale, zero, bits, *options)
    expected = torch.empty(steps.shape, dtype=torch.int8)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for place in itertools.product(*map(range, steps.shape)):
        own = () if axis is None else (place[axis],)
        code = round(float(steps[place])) + int(zero[own])  # halves to even
        expected[place] = min(max(code, low), high)
    wrong = type_fault(got, torch.int8, tuple(x.shape))
    wrong = wrong or compare("", got, expected, 1, exact=True).message
    return f"{tuple(x.shape)}, {bits} bits, axis={axis}: {wrong}" if wrong else None


def _dequantize_fault(
    student: Student, cases: Cases, bits: int, axis: int | None, shape: Sequence[int]
) -> str | None:
    """Real numbers in steps of their scale: also tiny ones have to be right."""
    _, scale, zero = _case(cases, 8, axis, shape)
    scale = scale * 0.7
    codes = cases.randint(-128, 128, shape).to(torch.int8)
    if axis is None:  # the difference leaves int8
        zero = torch.tensor(127 if codes.numel() % 2 else -128, dtype=torch.int32)
        codes.view(-1)[0] = -128 if codes.numel() % 2 else 127
    got = student.call("dequantize", codes, scale, zero, *(() if axis is None else (axis,)))
    if wrong := type_fault(got, torch.float32, tuple(codes.shape)):
        return f"{tuple(shape)}, axis={axis}: {wrong}"
    expected = codes.double() - _along(zero, axis, codes.ndim)
    found = got.double() / _along(scale, axis, codes.ndim).double()
    wrong = compare("", found, expected, 1, atol=CLOSE, rtol=0).message
    return f"{tuple(shape)}, axis={axis}, in steps of the scale: {wrong}" if wrong else None
