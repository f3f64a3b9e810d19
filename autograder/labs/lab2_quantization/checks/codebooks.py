"""Check weight sharing: k-means codebooks, packed codes, their bytes and the codebook's gradient.

Lloyd's algorithm is computed by the borders of sorted values, packing by one long integer. Fixed
cases stand beside drawn ones: entries without a weight, one weight, every number of bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

CORNERS = (  # weights, their shape, bits; no weight is ever as near to one entry as to another
    ([-1.0, -0.75, 10.5, 11.0], (2, 2), 2),  # two entries never have a weight
    ([-14.5, 0.75, 8.25, 10.75, -13.75, 13.5, 9.5, -1.0], (2, 4), 2),  # entry 2 loses its weight
    ([0.5, 0.5, 0.5], (3, 1), 2),  # all entries are one
    ([-3.25], (1,), 1),
    ([0.001, 0.002, -0.0015], (1, 3, 1), 4),  # fewer weights than entries
    ([2.0, 3.0], (1, 2), 8),
    ([-2.0, -1.75, 5.0, 5.5, 6.0], (5,), 1),
)
PACKED = (  # shape of the codes, bits
    *(((11,), bits) for bits in range(1, 9)),
    *(((1,), 4), ((1,), 1), ((0,), 3), ((64,), 4), ((8,), 1), ((9,), 8)),
    *(((3, 5), 3), ((5, 1), 7), ((2, 3, 5), 5), ((4, 3, 3, 3), 2), ((1, 17), 6)),
)
COUNTS = (*itertools.product((0, 1, 7, 8, 9), (1, 3, 8)), (1_000, 4), (17, 5), (10**9 + 3, 2))
GRADIENTS = (((7,), 1), ((1,), 4), ((5, 3), 2), ((4, 3, 3, 3), 16), ((2, 9), 256))


@check("kmeans_quantize")
def _kmeans_quantize(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    fixed = [
        (student, torch.tensor(values).reshape(shape), bits) for values, shape, bits in CORNERS
    ]
    weights = [
        *fixed,
        (student, cases.randn(int(cases.randint(20, 30)), 7, 3, 3) * 0.1 + 0.02, 3),
        (student, cases.randn(31, int(cases.randint(17, 29))) ** 3 * 1e-4, 4),
        (student, torch.cat([cases.randn(90) - 9, cases.randn(200) + 9]), 2),
    ]
    shapes = [*PACKED, ((int(cases.randint(33, 60)),), 3)]
    codes = [(student, cases.randint(0, 2**bits, shape), bits) for shape, bits in shapes]
    counts = (*COUNTS, (int(cases.randint(100, 900)) * 8 + 3, 3))
    largest = [(student, torch.full((11,), 2**bits - 1), bits) for bits in range(1, 9)]
    shapes = [*GRADIENTS, ((6, int(cases.randint(4, 9)), 3), int(cases.randint(5, 9)))]
    return [
        no_fault(
            "each weight has its nearest entry, each entry is a mean",
            faults(_nearest_fault, weights),
            2,
        ),
        no_fault("squared error of Lloyd's algorithm", faults(_lloyd_fault, weights), 2),
        no_fault("packed codes", faults(_packing_fault, [*codes, *largest]), 2),
        no_fault(
            "bytes, codebook included",
            faults(_bytes_fault, [(student, *count) for count in counts]),
            2,
        ),
        no_fault(
            "gradient of the codebook",
            faults(_gradient_fault, [(student, cases, *each) for each in shapes]),
            2,
        ),
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
    if not codebook.isfinite().all():
        raise ValueError(f"codebook: got {codebook.tolist()[:16]}, expected finite values")
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
            f"weight {values[worst]:.5g} has entry {codebook[chosen[worst]]:.5g}, "
            f"nearest is {codebook[distance[worst].argmin()]:.5g}"
        )
    for entry in chosen.unique().tolist():
        mean = float(values[chosen == entry].double().mean())
        if abs(float(codebook[entry]) - mean) > 1e-4 * float(values.abs().max()):
            return f"entry {entry} is {codebook[entry]:.5g}, the mean of its weights {mean:.5g}"
    return None


def _lloyd_fault(student: Student, weight: torch.Tensor, bits: int) -> str | None:
    """Few weights: every entry, also those without a weight. Many: the squared error alone."""
    codebook, codes = _clusters(student, weight, bits)
    centers, expected = lloyd(sorted(weight.flatten().tolist()), 2**bits)
    if weight.numel() <= 2**3:
        found = codebook.tolist()
        close = 1e-5 * float(weight.abs().max())
        for entry, (value, right) in enumerate(zip(found, centers, strict=True)):
            if abs(value - right) > close:
                return f"{weight.tolist()}: entry {entry} is {value:.5g}, expected {right:.5g}"
        return None
    got = float((codebook[codes] - weight).double().square().sum())
    if got <= 1.02 * expected + 1e-12:
        return None
    return f"{bits} bits: squared error {got:.5g}, expected {expected:.5g}"


def lloyd(values: list[float], entries: int) -> tuple[list[float], float]:
    """Entries and squared error of Lloyd's algorithm from an even start, of sorted ``values``.

    By the borders between the parts of the sorted values. Of two entries at the same distance a
    weight takes the lower one.
    """
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
    return centers, sum(
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
    number = sum(code << (bits * i) for i, code in enumerate(codes.flatten().tolist()))
    size = math.ceil(codes.numel() * bits / 8)
    expected = torch.tensor(list(number.to_bytes(size, "little")), dtype=torch.uint8)
    wrong = type_fault(got, torch.uint8, (size,))
    if wrong or not torch.equal(got, expected):
        said = wrong or f"got bytes {got.tolist()[:8]}, expected {expected.tolist()[:8]}"
        return f"codes {tuple(codes.shape)} of {bits} bits: {said}"
    return None


def _bytes_fault(student: Student, count: int, bits: int) -> str | None:
    got = student.call("codebook_bytes", count, bits)
    expected = math.ceil(Fraction(count * bits, 8)) + 2**bits * 4
    same = isinstance(got, int) and got == expected
    return None if same else f"{count} weights of {bits} bits: got {got!r}, expected {expected}"


def _gradient_fault(
    student: Student, cases: Cases, shape: tuple[int, ...], entries: int
) -> str | None:
    """Autograd's gradient; the last of several entries has no weight."""
    codes = cases.randint(0, max(1, entries - 1), shape)
    codebook = cases.randn(entries).requires_grad_()
    upstream = cases.randn(*shape)
    (codebook[codes] * upstream).sum().backward()
    got = student.call("codebook_gradient", upstream, codes, entries)
    said = compare("", got, codebook.grad, 1, atol=1e-5).message
    return f"codes {shape}, {entries} entries: {said}" if said else None
