"""Check requantization: fixed-point multipliers, and codes of accumulators, exact and halves up.

Expected codes are Python's integers, multipliers fractions. Every shift from 1 to 62 occurs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

INT32 = -(2**31), 2**31 - 1  # a clamp that hides little
RANGES = ((0, -128, 127), (-128, -128, 127), (5, -8, 7), (127, -128, 127), (-8, -8, 7), (3, 3, 7))
SHIFTS = range(1, 63)
BELOW_HALF = (  # sum, mantissa, shift: their products lie 1 to 4 below a half, beyond 2^53
    *((2**31 - 2, 2**30 + 1, 62), (2**30 - 1, 2**30 + 1, 61), (2**29 - 1, 2**30 + 2, 60)),
    (2**28 - 1, 2**30 + 4, 59),
)
EDGES = (  # multipliers: powers of two, fractions that round up to 1, both ends
    *(1.0, 0.5, 2.0**-7, 2.0**29, 2.0**-32, 3.0, 1 - 2.0**-40, 0.25 - 2.0**-50),
    *(0.75 + 2.0**-50, 2.0**29 + 0.3, 1e-9, 1e-3, 2.0**30 - 1.0, 1 - 0.49 * 2.0**-31),
)


@check("requantize")
def _requantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    mantissa, shift = _multipliers(cases)
    shapes = ((3, len(mantissa), 4, 5), (2, len(mantissa)), (1, len(mantissa), 3))
    plain = [cases.randint(-2_000, 2_000, shape).int() for shape in shapes]
    huge = torch.stack([_near_half(mantissa, shift, cases) for _ in range(6)])
    every = torch.tensor(SHIFTS).int()
    one = plain[0][:1, :1], mantissa[:1], shift[:1]
    codes = [
        *((student, plain[0], mantissa, shift, *each) for each in RANGES),
        *((student, sums, mantissa, shift, -3, -128, 127) for sums in plain[1:]),
        (student, *one, 9, -128, 127),
    ]
    ties = cases.randint(-500, 500, (40, 2)).int()
    half = torch.tensor([2**30, 2**30], dtype=torch.int32), torch.tensor([31, 32]).int()
    below = torch.tensor(BELOW_HALF).int()
    exact = [
        (student, below[:, :1].T, below[:, 1], below[:, 2], 0, *INT32),
        (student, -below[:, :1].T, below[:, 1], below[:, 2], 0, *INT32),
        (student, huge, mantissa, shift, 0, *INT32),
        (student, _of_every_shift(cases), _mantissas(cases, len(every)), every, 0, *INT32),
    ]
    multipliers = faults(_fixed_point_fault, [(student, real) for real in _reals(cases)])
    upwards = [(student, ties, *half, 3, *INT32), (student, *_half_of_every_shift(), 0, *INT32)]
    return [
        no_fault("mantissa and shift", multipliers, 2),
        no_fault("int8 codes of accumulators", faults(_requantize_fault, codes), 1),
        no_fault("halves upwards", faults(_requantize_fault, upwards), 1),
        no_fault("exact, also where float64 is not", faults(_requantize_fault, exact), 2),
    ]


def _mantissas(cases: Cases, count: int) -> torch.Tensor:
    return (cases.randint(2**29, 2**30, (count,)) * 2 + 1).int()  # odd: invertible modulo 2^n


def _multipliers(cases: Cases) -> tuple[torch.Tensor, torch.Tensor]:
    count = int(cases.randint(4, 8))
    return _mantissas(cases, count), cases.randint(31, 36, (count,)).int()


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


def _of_every_shift(cases: Cases) -> torch.Tensor:
    """int32 ``[9, 62]``: both ends, around 0, any, and those that become small codes."""
    ends = torch.tensor([INT32[0], INT32[1], 0, 1, -1])[:, None].expand(-1, len(SHIFTS))
    any_at_all = cases.randint(*INT32, (2, len(SHIFTS)))
    small = cases.randint(-100, 101, (2, len(SHIFTS))) << torch.tensor(SHIFTS).sub(31).clamp(0, 24)
    return torch.cat([ends, any_at_all, small]).int()


def _half_of_every_shift() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Accumulators ``[4, 62]``, mantissas and shifts whose products lie at a half."""
    columns = []
    for n in SHIFTS:
        mantissa = 2**30 + (2 ** (n - 1) if n < 31 else 0)
        step = 2 ** max(0, n - 31)
        sums = [odd * step if abs(odd * step) < 2**31 else -(2**31) for odd in (1, -1, 3, -3)]
        columns.append((sums, mantissa, n))
    sums, mantissas, shifts = zip(*columns, strict=True)
    return torch.tensor(sums).T.int(), torch.tensor(mantissas).int(), torch.tensor(shifts).int()


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
    where = f"sums {tuple(sums.shape)}, zero point {zero}, {low} to {high}"
    if wrong := type_fault(got, torch.int32, tuple(sums.shape)):
        return f"{where}: {wrong}"
    expected = torch.empty_like(sums)
    for place in itertools.product(*map(range, sums.shape)):
        n = int(shift[place[1]])
        code = (int(sums[place]) * int(mantissa[place[1]]) + 2 ** (n - 1)) // 2**n + zero
        expected[place] = min(max(code, low), high)
    wrong = compare("", got, expected, 1, exact=True).message
    return f"{where}, shifts {shift.tolist()[:8]}: {wrong}" if wrong else None


def _reals(cases: Cases) -> list[torch.Tensor]:
    plain = cases.randn(12).double().exp() * 2.0 ** cases.randint(-12, 1, (12,)).double()
    fractions = 0.5 + 0.5 * torch.rand(62, dtype=torch.float64, generator=cases.generator)
    of_every_shift = fractions * 2.0 ** (31 - torch.tensor(SHIFTS).double())
    edges = torch.tensor(EDGES, dtype=torch.float64)
    return [plain, edges, plain.reshape(3, 4), of_every_shift.reshape(2, 31), plain[:1]]


def _fixed_point_fault(student: Student, multiplier: torch.Tensor) -> str | None:
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
