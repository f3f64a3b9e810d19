"""Check of N:M sparsity: the mask of each group, and the packed values and positions of 2:4.

Groups are judged one by one; packed bytes are unpacked again, for patterns drawn at random. Vectors
and more dimensions stand beside matrices, kept zeros and equal magnitudes beside random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure

PACKED = ("values", "metadata")


@check("nm_prune")
def _nm_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    rows = int(cases.randint(3, 9))
    plain = cases.randn(rows, 8 * int(cases.randint(2, 6)))
    deep, vector = cases.randn(rows, 3, 2, 24), cases.randn(24)
    tied = torch.where(cases.randn(rows, 16) > 0, 1.0, -1.0)
    few = torch.eye(4).repeat(1, 2)  # groups of one weight and three zeros
    two_four = [(student, weight, 2, 4) for weight in (plain, tied, few, torch.zeros(1, 4))]
    shapes = [(deep, 1, 4), (deep, 4, 8), (deep, 2, 6), (vector, 1, 2), (vector, 3, 24)]
    other = [(student, *shape) for shape in (*shapes, (vector, 4, 4), (few, 1, 1))]
    packed = [cases.randn(*size) for size in ((8,), (1, 3, 8), (2, 1, 3, 16))]
    kept_zeros = torch.where(cases.randn(rows, 16) > 0, cases.randn(rows, 16), torch.zeros(()))
    packs = [
        (student, weight, *_random_pattern(cases, weight))
        for weight in (plain, *packed, kept_zeros)
    ]
    return [
        no_fault("2:4, of a matrix", faults(_group_fault, two_four), 2),
        no_fault("1:4, 4:8 and 2:6, of more dimensions", faults(_group_fault, other), 2),
        no_fault("packed values", faults(_values_fault, packs), 2),
        no_fault("packed metadata", faults(_metadata_fault, packs), 2),
    ]


def _group_fault(student: Student, weight: torch.Tensor, n: int, m: int) -> str | None:
    mask = student.call("nm_prune", weight, n, m)
    fault = type_fault(mask, torch.bool, tuple(weight.shape))
    if fault:
        return f"{n}:{m}: {fault}"
    for kept, group in zip(mask.reshape(-1, m), weight.abs().reshape(-1, m), strict=True):
        lost = group[~kept]
        if int(kept.sum()) != n or (len(lost) and group[kept].min() < lost.max()):
            return f"{n}:{m}: of magnitudes {group.tolist()} kept {kept.tolist()}"
    return None


def _random_pattern(cases: Cases, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two ascending positions ``[G, 2]`` of each group of four, any pattern, and their mask."""
    pairs = torch.combinations(torch.arange(4), 2)
    chosen = pairs[cases.randint(0, len(pairs), (weight.numel() // 4,))]
    mask = torch.zeros(weight.numel() // 4, 4, dtype=torch.bool).scatter_(1, chosen, True)
    return chosen, mask.view_as(weight)


def _packed(student: Student, weight: torch.Tensor, mask: torch.Tensor) -> tuple[Any, ...]:
    return expect_tuple(student.call("nm_pack", weight, mask), *PACKED)


def _values_fault(
    student: Student, weight: torch.Tensor, chosen: torch.Tensor, mask: torch.Tensor
) -> str | None:
    pairs = zip(weight.flatten(), mask.flatten(), strict=True)
    kept = torch.stack([w for w, is_kept in pairs if is_kept])
    expected = kept.reshape(*weight.shape[:-1], weight.shape[-1] // 2)
    return compare("", _packed(student, weight, mask)[0], expected, 1, exact=True).message or None


def _metadata_fault(
    student: Student, weight: torch.Tensor, chosen: torch.Tensor, mask: torch.Tensor
) -> str | None:
    metadata = _packed(student, weight, mask)[1]
    fault = type_fault(metadata, torch.uint8, (*weight.shape[:-1], weight.shape[-1] // 8))
    if fault:
        return fault
    assert isinstance(metadata, torch.Tensor)
    positions = [
        byte >> shift & 3 for byte in metadata.flatten().tolist() for shift in (0, 2, 4, 6)
    ]
    for i, (got, expected) in enumerate(zip(positions, chosen.flatten().tolist(), strict=True)):
        if got != expected:
            return f"value {i}: got position {got} in its four, expected {expected}"
    return None
