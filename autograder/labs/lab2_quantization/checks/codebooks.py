"""Check weight sharing: k-means codebooks, packed codes, their bytes and the codebook's gradient.

Lloyd's algorithm is computed by the borders of sorted values, packing by one long integer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction

import torch

from autograder.contract.checking import Cases, Student, fault, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure


@check("kmeans_quantize")
def _kmeans_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    weights = [
        (student, cases.randn(int(cases.randint(20, 30)), 7, 3, 3) * 0.1 + 0.02, 3),
        (student, cases.randn(31, int(cases.randint(17, 29))) ** 3, 4),
        # entries without a weight
        (student, torch.cat([cases.randn(90) - 9, cases.randn(200) + 9]), 2),
    ]
    lengths = ((64, 4), (int(cases.randint(33, 60)), 3), (17, 5), (8, 1), (9, 8))
    codes = [(student, cases.randint(0, 2**bits, (n,)), bits) for n, bits in lengths]
    counts = ((1_000, 4), (int(cases.randint(100, 900)) * 8 + 3, 3), (17, 5))
    storage = faults(_bytes_fault, [(student, *count) for count in counts])
    gradient = fault(_gradient_fault, student, cases)
    return [
        no_fault(
            "each weight has its nearest entry, each entry is a mean",
            faults(_nearest_fault, weights),
            2,
        ),
        no_fault("squared error of Lloyd's algorithm", faults(_lloyd_fault, weights), 2),
        no_fault("packed codes", faults(_packing_fault, codes), 2),
        no_fault("bytes, codebook included", storage, 2),
        no_fault("gradient of the codebook", [gradient], 2),
    ]


def _clusters(student: Student, weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, ...]:
    names = "codebook", "codes"
    codebook, codes = expect_tuple(student.call("kmeans_quantize", weight, bits), *names)
    wrong = (
        type_fault(codebook, torch.float32, (2**bits,)),
        type_fault(codes, torch.int64, tuple(weight.shape)),
    )
    for name, said in zip(names, wrong, strict=True):
        if said:
            raise ValueError(f"{name}: {said}")
    if not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise ValueError(f"codes: got {int(codes.min())} to {int(codes.max())}")
    return codebook, codes


def _nearest_fault(student: Student, weight: torch.Tensor, bits: int) -> str | None:
    codebook, codes = _clusters(student, weight, bits)
    values, chosen = weight.flatten(), codes.flatten()
    distance = (values[:, None] - codebook).abs()
    excess = distance.gather(1, chosen[:, None])[:, 0] - distance.amin(1)
    if float(excess.max()) > 1e-5 * float(values.abs().max()):
        worst = int(excess.argmax())
        return (
            f"weight {values[worst]:.5f} has entry {codebook[chosen[worst]]:.5f}, "
            f"nearest is {codebook[distance[worst].argmin()]:.5f}"
        )
    for entry in chosen.unique().tolist():
        mean = float(values[chosen == entry].double().mean())
        if abs(float(codebook[entry]) - mean) > 1e-4 * float(values.abs().max()):
            return f"entry {entry} is {codebook[entry]:.5f}, the mean of its weights {mean:.5f}"
    return None


def _lloyd_fault(student: Student, weight: torch.Tensor, bits: int) -> str | None:
    codebook, codes = _clusters(student, weight, bits)
    got = float((codebook[codes] - weight).double().square().sum())
    expected = _lloyd_error(sorted(weight.flatten().tolist()), 2**bits)
    if got <= 1.02 * expected + 1e-9:
        return None
    return f"{bits} bits: squared error {got:.5g}, expected {expected:.5g}"


def _lloyd_error(values: list[float], entries: int) -> float:
    """Squared error of Lloyd's algorithm from an even start, by the borders of sorted values."""
    low, high = values[0], values[-1]
    centers = [low + (high - low) * i / (entries - 1) for i in range(entries)]
    sums = [0.0, *itertools.accumulate(values)]
    squares = [0.0, *itertools.accumulate(v * v for v in values)]
    borders: list[int] = []
    for _ in range(300):
        found = _borders(values, centers)
        if found == borders:
            break
        borders = found
        for i, (a, b) in enumerate(itertools.pairwise(borders)):
            if b > a:
                centers[i] = (sums[b] - sums[a]) / (b - a)
    return sum(
        squares[b] - squares[a] - (sums[b] - sums[a]) ** 2 / (b - a)
        for a, b in itertools.pairwise(borders)
        if b > a
    )


def _borders(values: list[float], centers: list[float]) -> list[int]:
    """Where each center's part of the sorted values begins, and where the last one's ends."""
    found, position = [0], 0
    for left, right in itertools.pairwise(centers):
        while position < len(values) and values[position] <= (left + right) / 2:
            position += 1
        found.append(position)
    return [*found, len(values)]


def _packing_fault(student: Student, codes: torch.Tensor, bits: int) -> str | None:
    got = student.call("pack_codes", codes, bits)
    number = sum(code << (bits * i) for i, code in enumerate(codes.tolist()))
    size = -(-len(codes) * bits // 8)
    expected = torch.tensor(list(number.to_bytes(size, "little")), dtype=torch.uint8)
    wrong = type_fault(got, torch.uint8, (size,))
    if wrong or not torch.equal(got, expected):
        said = wrong or f"got bytes {got.tolist()[:8]}, expected {expected.tolist()[:8]}"
        return f"{len(codes)} codes of {bits} bits: {said}"
    return None


def _bytes_fault(student: Student, count: int, bits: int) -> str | None:
    got = student.call("codebook_bytes", count, bits)
    expected = math.ceil(Fraction(count * bits, 8)) + 2**bits * 4
    same = isinstance(got, int) and got == expected
    return None if same else f"{count} weights of {bits} bits: got {got!r}, expected {expected}"


def _gradient_fault(student: Student, cases: Cases) -> str | None:
    entries, shape = int(cases.randint(5, 9)), (6, int(cases.randint(4, 9)), 3)
    codes = cases.randint(0, entries - 1, shape)  # the last entry has no weight
    codebook = cases.randn(entries).requires_grad_()
    upstream = cases.randn(*shape)
    (codebook[codes] * upstream).sum().backward()
    got = student.call("codebook_gradient", upstream, codes, entries)
    return compare("", got, codebook.grad, 1, atol=1e-5).message or None
