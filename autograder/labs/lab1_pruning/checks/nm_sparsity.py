"""Check of N:M sparsity: the mask of each group, and the packed values and positions of 2:4.

Groups are judged one by one; packed bytes are unpacked again, for patterns drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, passed, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError

PACK_ROWS = ("packed values", "packed metadata")


@check("nm_prune")
def _nm_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    rows = int(cases.randint(3, 9))
    plain = cases.randn(rows, 8 * int(cases.randint(2, 6)))
    deep = cases.randn(rows, 3, 2, 24)
    tied = torch.where(cases.randn(rows, 16) > 0, 1.0, -1.0)
    two_four = [(student, weight, 2, 4) for weight in (plain, tied)]
    other = [(student, deep, n, m) for n, m in ((1, 4), (4, 8), (2, 6))]
    return [
        no_fault("2:4, of a matrix", faults(_group_fault, two_four), 2),
        no_fault("1:4, 4:8 and 2:6, of more dimensions", faults(_group_fault, other), 2),
        *_pack_rows(student, cases, plain, 2),
    ]


def _group_fault(student: Student, weight: torch.Tensor, n: int, m: int) -> str | None:
    mask = student.call("nm_prune", weight, n, m)
    fault = type_fault(mask, torch.bool, tuple(weight.shape))
    if fault:
        return f"{n}:{m}: {fault}"
    for kept, group in zip(mask.reshape(-1, m), weight.abs().reshape(-1, m), strict=True):
        if int(kept.sum()) != n or group[kept].min() < group[~kept].max():
            return f"{n}:{m}: of magnitudes {group.tolist()} kept {kept.tolist()}"
    return None


def _pack_rows(student: Student, cases: Cases, weight: torch.Tensor, share: float) -> list[Row]:
    chosen, mask = _random_pattern(cases, weight)
    try:
        values, metadata = _packed(student, weight, mask)
    except (StudentError, ValueError) as error:  # the masks above keep their points
        return [passed(name, False, share, str(error)) for name in PACK_ROWS]
    lead, size = weight.shape[:-1], weight.shape[-1]
    pairs = zip(weight.flatten(), mask.flatten(), strict=True)
    expected = torch.stack([w for w, kept in pairs if kept]).reshape(*lead, size // 2)
    fault = _metadata_fault(metadata, chosen, (*lead, size // 8))
    return [
        compare(PACK_ROWS[0], values, expected, share, exact=True),
        no_fault(PACK_ROWS[1], [fault], share),
    ]


def _packed(student: Student, weight: torch.Tensor, mask: torch.Tensor) -> tuple[Any, ...]:
    return expect_tuple(student.call("nm_pack", weight, mask), "values", "metadata")


def _random_pattern(cases: Cases, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two ascending positions ``[G, 2]`` of each group of four, any pattern, and their mask."""
    pairs = torch.combinations(torch.arange(4), 2)
    chosen = pairs[cases.randint(0, len(pairs), (weight.numel() // 4,))]
    mask = torch.zeros(weight.numel() // 4, 4, dtype=torch.bool).scatter_(1, chosen, True)
    return chosen, mask.view_as(weight)


def _metadata_fault(metadata: object, chosen: torch.Tensor, shape: tuple[int, ...]) -> str | None:
    fault = type_fault(metadata, torch.uint8, shape)
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
