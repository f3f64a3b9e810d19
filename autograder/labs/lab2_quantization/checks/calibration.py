"""Check clipping thresholds: percentile, least squared error, least KL divergence.

Percentiles are interpolated between sorted values; divergences are sums over plain lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, no_fault
from autograder.contract.targets import Figure


@check("calibrate")
def _calibrate(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    x = cases.randn(3, 40, int(cases.randint(9, 14))) ** 3
    percents = [(student, x, percent) for percent in (99.0, 97.3, 50.0, 100.0)]
    percentile = faults(_percentile_fault, percents)
    squared = faults(_mse_fault, [(student, cases, x, bits) for bits in (3, 4, 6)])
    divergence = faults(_kl_fault, [(student, cases, index) for index in range(4)])
    return [
        no_fault("percentile", percentile, 2),
        no_fault("least squared error", squared, 3),
        no_fault("least KL divergence", divergence, 3),
    ]


def _number(got: object) -> float:
    if isinstance(got, torch.Tensor) and got.numel() == 1:
        return float(got)
    if isinstance(got, (int, float)) and not isinstance(got, bool):
        return float(got)
    raise ValueError(f"got {str(got)[:80]}, expected a number")


def _percentile_fault(student: Student, x: torch.Tensor, percent: float) -> str | None:
    got = _number(student.call("percentile_threshold", x, percent))
    values = sorted(x.abs().flatten().tolist())
    place = percent / 100 * (len(values) - 1)
    low = values[math.floor(place)]
    expected = low + (values[math.ceil(place)] - low) * (place - math.floor(place))
    close = math.isclose(got, expected, rel_tol=1e-4)
    return None if close else f"{percent} %: got {got:.6g}, expected {expected:.6g}"


def _mse_fault(student: Student, cases: Cases, x: torch.Tensor, bits: int) -> str | None:
    largest = float(x.abs().max())
    for _ in range(100):  # until the best candidate is clearly the best, and inside
        candidates = (0.02 + 0.98 * torch.rand(8, generator=cases.generator)) * largest
        errors = [_squared_error(x, bits, threshold) for threshold in candidates.double()]
        first, second = sorted(errors)[:2]
        best = float(candidates[errors.index(first)])
        if second > 1.03 * first and best < float(candidates.max()):
            break
    got = _number(student.call("mse_threshold", x, bits, candidates))
    close = math.isclose(got, best, rel_tol=1e-5)
    return None if close else f"{bits} bits: got {got:.6g}, expected {best:.6g} of 8 candidates"


def _squared_error(x: torch.Tensor, bits: int, threshold: torch.Tensor) -> float:
    top, wide = 2 ** (bits - 1) - 1, x.double()
    scale = threshold / top
    codes = (wide / scale).round().clamp(-top, top)
    return float((codes * scale - wide).square().mean())


def _kl_fault(student: Student, cases: Cases, index: int) -> str | None:
    bins, levels = int(cases.randint(40, 70)), (4, 8, 7, 16)[index]
    x = cases.randn(4_000).abs() ** (1.0, 1.5, 2.0, 1.2)[index]
    counts = torch.histc(x, bins, 0, float(x.max())).double()
    if index == 1:  # empty bins between full ones
        counts[int(cases.randint(3, 8)) :: 5] = 0
    found = [_divergence(counts.tolist(), kept, levels) for kept in range(levels, bins + 1)]
    expected = levels + found.index(min(found))
    got = _number(student.call("kl_threshold", counts, levels))
    if got == int(got) and levels <= got <= bins:  # equally good up to the last digits
        excess = found[int(got) - levels] - min(found)
        if excess <= 1e-9:
            return None
    return f"{bins} bins, {levels} levels: got {got:g}, expected {expected}"


def _divergence(counts: list[float], kept: int, levels: int) -> float:
    p = counts[:kept]
    p[-1] += sum(counts[kept:])
    q = [0.0] * kept
    for group in range(levels):
        members = [j for j in range(kept) if j * levels // kept == group and counts[j] > 0]
        for j in members:
            q[j] = sum(counts[i] for i in members) / len(members)
    total_p, total_q, divergence = sum(p), sum(q), 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0 and b == 0:
            return math.inf
        if a > 0:
            divergence += a / total_p * math.log((a / total_p) / (b / total_q))
    return divergence
