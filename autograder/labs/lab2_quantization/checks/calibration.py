"""Check clipping thresholds: percentile, least squared error, least KL divergence.

Percentiles are interpolated between sorted values; divergences are sums over plain lists. Fixed
cases have their answer at either end: the first candidate, the last number of bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, no_fault
from autograder.contract.targets import Figure

PERCENTILES = (  # values, percent
    *(([-5.0, 1.0, 2.0], 100.0), ([-1.0, -2.0, -3.0, -4.0], 0.0), ([4.0, -1.0, -2.0, 3.0], 50.0)),
    *(([-3.0, 1.0, 2.0, -4.0, 0.0], 25.0), ([2e-5, -1e-5], 75.0), ([-7.0], 12.5)),
    ([0.0, 0.0, 0.0], 99.0),
)
CANDIDATES = (  # values, bits, candidates, the best of them
    ([-2.0, -2.0, -2.0, 1.0], 2, [1.0, 2.0], 2.0),  # there is no code of -2
    ([1.0, 0.25, -0.75], 8, [0.5], 0.5),
    ([3e-4, -1e-4, 2e-4], 3, [6e-4, 3e-4, 1e-4], 3e-4),
    ([30.0, -10.0, 20.0], 3, [10.0, 25.0, 30.0], 30.0),
    ([1.0, 1.0, 1.0, 1.0, 1.0, 3.0], 2, [1.0, 3.0], 1.0),  # 3 is clipped
    ([1.0] * 8 + [10.0], 2, [1.0, 10.0], 10.0),  # one error of 81 against eight of 1
    ([1.0] * 20 + [130.0], 9, [127.0, 254.0], 254.0),
)
HISTOGRAMS = (  # counts, levels
    ([4, 0, 0, 0, 0, 0, 0, 0], 3),  # all are equally good, and the first wins
    ([1] * 12, 4),  # the last is the best
    ([5, 3, 2, 1], 4),  # there is one only
    ([3, 1, 2], 1),
    ([6, 6, 2, 2, 4, 4, 0, 0, 0, 0], 3),
    ([9, 7, 0, 8, 0, 5, 0, 4, 0, 3], 2),  # what ends with an empty bin is infinitely bad
    ([800_000, 200_000, 0, 1], 3),  # however little lies beyond
    ([900, 0, 700, 500, 0, 300, 100, 40, 7, 1, 0, 2], 4),
)


@check("calibrate")
def _calibrate(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    x = cases.randn(3, 40, int(cases.randint(9, 14))) ** 3
    percents = [(student, x, percent) for percent in (99.0, 97.3, 50.0, 100.0, 99.9)]
    percents += [(student, torch.tensor(values), p) for values, p in PERCENTILES]
    places = zip((3, 4, 6, 8, 2), (0, 7, 3, 0, 7), strict=True)
    squared = [
        *faults(_mse_fault, [(student, cases, x, *each) for each in places]),
        *faults(_best_fault, [(student, *each) for each in CANDIDATES]),
    ]
    fixed = [(student, torch.tensor(c).double(), levels) for c, levels in HISTOGRAMS]
    drawn = [(student, _histogram(cases, index), (4, 8, 7, 16)[index]) for index in range(4)]
    return [
        no_fault("percentile", faults(_percentile_fault, percents), 2),
        no_fault("least squared error", squared, 3),
        no_fault("least KL divergence", faults(_kl_fault, [*fixed, *drawn]), 3),
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
    said = f"{percent} % of {x.numel()} values: got {got:.6g}, expected {expected:.6g}"
    return None if close else said


def _mse_fault(
    student: Student, cases: Cases, x: torch.Tensor, bits: int, place: int
) -> str | None:
    """Eight candidates, the clearly best one at ``place`` among them, and not the largest."""
    largest = float(x.abs().max())
    for _ in range(100):
        candidates = (0.02 + 0.98 * torch.rand(8, generator=cases.generator)) * largest
        errors = [_squared_error(x, bits, threshold) for threshold in candidates.double()]
        first, second = sorted(errors)[:2]
        at = errors.index(first)
        if second > 1.03 * first and float(candidates[at]) < float(candidates.max()):
            break
    candidates[[at, place]] = candidates[[place, at]]
    return _best_fault(student, x, bits, candidates, float(candidates[place]))


def _best_fault(
    student: Student,
    values: torch.Tensor | list[float],
    bits: int,
    candidates: torch.Tensor | list[float],
    best: float,
) -> str | None:
    x, candidates = torch.as_tensor(values), torch.as_tensor(candidates)
    got = _number(student.call("mse_threshold", x, bits, candidates))
    close = math.isclose(got, best, rel_tol=1e-5)
    said = f"{bits} bits: got {got:.6g}, expected {best:.6g} of {len(candidates)} candidates"
    return None if close else said


def _squared_error(x: torch.Tensor, bits: int, threshold: torch.Tensor) -> float:
    top, wide = 2 ** (bits - 1) - 1, x.double()
    scale = threshold / top
    codes = (wide / scale).round().clamp(-top, top)
    return float((codes * scale - wide).square().mean())


def _histogram(cases: Cases, index: int) -> torch.Tensor:
    """float64 ``[40..69]``: magnitudes of another distribution for each index."""
    bins = int(cases.randint(40, 70))
    x = cases.randn(4_000).abs() ** (1.0, 1.5, 2.0, 1.2)[index]
    counts = torch.histc(x, bins, 0, float(x.max())).double()
    if index == 1:  # empty bins between full ones
        counts[int(cases.randint(3, 8)) :: 5] = 0
    return counts


def _kl_fault(student: Student, counts: torch.Tensor, levels: int) -> str | None:
    bins = len(counts)
    found = [divergence(counts.tolist(), kept, levels) for kept in range(levels, bins + 1)]
    least = min(found)
    got = student.call("kl_threshold", counts, levels)
    if isinstance(got, torch.Tensor) and got.numel() == 1 and not got.is_floating_point():
        got = int(got)
    if not isinstance(got, int):  # it is an index
        return f"got {str(got)[:80]}, expected an int"
    if levels <= got <= bins:  # as good up to float32; of the same the first
        excess = found[got - levels] - least
        if excess <= 1e-6 and (excess > 0 or got - levels == found.index(least)):
            return None
    where = f"{bins} bins, {levels} levels"
    return f"{where}: got {got}, expected {levels + found.index(least)}"


def divergence(counts: list[float], kept: int, levels: int) -> float:
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
