"""Check of the patch schedule: rows that each layer reads for each strip, and their padding.

Expected rows are found by walking over all rows that an output reads; that patches together are the
whole image is tested by running integer convolutions both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, expect_tuple, no_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab5_tinyml.checks.integers import plain

Layers = list[list[int]]  # (kernel, stride, padding) of each
Schedule = list[list[list[int]]]  # of each strip and layer: start, stop, padding before, after
MOST_ROWS = 10_000
# (layers, rows, patches): no padding and more than "same", kernels of any width, strides that skip
# rows or do not divide them, one strip, and a strip for every row.
FIXED: list[tuple[Layers, int, int]] = [
    ([[3, 1, 1]], 6, 1),
    ([[3, 1, 0]], 9, 3),
    ([[3, 1, 2]], 5, 7),
    ([[2, 2, 0], [2, 1, 1]], 11, 2),
    ([[4, 2, 1], [3, 1, 1]], 13, 3),
    ([[7, 2, 3], [3, 2, 0]], 21, 2),
    ([[1, 2, 0], [3, 1, 1]], 10, 5),
    ([[1, 3, 0], [2, 3, 1], [5, 1, 4]], 31, 4),
    ([[5, 1, 0], [3, 1, 0], [3, 3, 1]], 20, 4),
    ([[3, 2, 1], [1, 1, 0], [3, 2, 1]], 15, 4),
    ([[3, 1, 0]], 3, 1),
]


@check("patch_schedule")
def _patch_schedule(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    drawn = [*FIXED, *(_stage(cases, depth) for depth in (1, 2, 3, 4, 5))]
    ranges = faults(_range_fault, [(student, *stage, False) for stage in drawn])
    padding = faults(_range_fault, [(student, *stage, True) for stage in drawn])
    equal = faults(_patch_fault, [(student, cases, *stage) for stage in drawn])
    return [
        no_fault("rows that every layer reads", ranges, 5),
        no_fault("padding at the borders of the image alone", padding, 3),
        no_fault("patches together are the whole image", equal, 4),
    ]


def _stage(cases: Cases, depth: int) -> tuple[Layers, int, int]:
    """Layers, rows of the image, patches a side; no output and no strip is empty."""
    size = int(cases.randint(20, 33))
    layers: Layers = []
    while len(layers) < depth:
        kernel, stride = int(cases.choice([1, 2, 3, 3, 4, 5])), int(cases.choice([1, 1, 2, 3]))
        layer = [kernel, stride, int(cases.randint(0, kernel))]
        if _sizes([*layers, layer], size)[-1] >= 2 + depth - len(layers):
            layers.append(layer)
    patches = int(cases.randint(2, min(5, _sizes(layers, size)[-1] + 1)))
    return layers, size, patches


def _sizes(layers: Layers, size: int) -> list[int]:
    """Rows of the image and of every layer's output."""
    found = [size]
    for kernel, stride, padding in layers:
        found.append((found[-1] + 2 * padding - kernel) // stride + 1)
    return found


def expected_schedule(layers: Layers, size: int, patches: int) -> Schedule:
    """By walking over the rows that each output row reads, instead of by their ends."""
    sizes = _sizes(layers, size)
    schedule = []
    for patch in range(patches):
        wanted = set(range(patch * sizes[-1] // patches, (patch + 1) * sizes[-1] // patches))
        rows = []
        for (kernel, stride, padding), rows_in in zip(layers[::-1], sizes[-2::-1], strict=True):
            touched = {o * stride - padding + k for o in wanted for k in range(kernel)}
            touched = set(range(min(touched), max(touched) + 1))  # a stride may skip some
            inside = {row for row in touched if 0 <= row < rows_in}
            before, after = (sum(r < 0 for r in touched), sum(r >= rows_in for r in touched))
            wanted = inside
            rows.append([min(inside), max(inside) + 1, before, after])
        schedule.append(rows[::-1])
    return schedule


def _scheduled(student: Student, layers: Layers, size: int, patches: int) -> Schedule:
    """The student's schedule.

    Raises:
        StudentError, ValueError: it is not four numbers of each strip and layer.
    """
    got = plain(student.call("patch_schedule", layers, size, patches))
    right = _is_sequence(got, patches) and all(_is_sequence(strip, len(layers)) for strip in got)
    if not right:
        raise StudentError(
            f"got {str(got)[:120]}, expected {patches} lists with (start, stop, before, after) "
            f"of each of {len(layers)} layers"
        )
    return [[_rows(row) for row in strip] for strip in got]


def _is_sequence(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def _rows(row: Any) -> list[int]:
    found = expect_tuple(row, "start", "stop", "before", "after")
    if not all(type(n) is int and 0 <= n <= MOST_ROWS for n in found):
        raise StudentError(f"got {str(row)[:120]}, expected integers from 0 to {MOST_ROWS:,}")
    return list(found)


def _range_fault(
    student: Student, layers: Layers, size: int, patches: int, is_padding: bool
) -> str | None:
    got = _scheduled(student, layers, size, patches)
    part = slice(2, 4) if is_padding else slice(0, 2)
    expected = expected_schedule(layers, size, patches)
    for p, (found, wanted) in enumerate(zip(got, expected, strict=True)):
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            if a[part] != b[part]:
                what = "padding" if is_padding else "rows"
                return (
                    f"{layers}, {size} rows, patch {p}, layer {i}: {what} {a[part]}, not {b[part]}"
                )
    return None


def _patch_fault(
    student: Student, cases: Cases, layers: Layers, size: int, patches: int
) -> str | None:
    """Run the layers on integers: whole, and patch by patch as scheduled; both axes alike."""
    schedule = _scheduled(student, layers, size, patches)
    zero = int(cases.randint(-20, 20))
    weights = [cases.randint(-3, 4, (2, 2, k, k)).double() for k, _, _ in layers]
    image = cases.randint(-9, 10, (1, 2, size, size)).double()
    whole = image
    for weight, (_, stride, padding) in zip(weights, layers, strict=True):
        whole = _convolved(whole, weight, stride, zero, (padding,) * 4)
    joined = torch.full_like(whole, torch.nan)
    bounds = [p * whole.shape[2] // patches for p in range(patches + 1)]
    for y, down in enumerate(schedule):
        for x, right in enumerate(schedule):
            part = _patched(image, weights, layers, zero, down, right)
            to = joined[:, :, bounds[y] : bounds[y + 1], bounds[x] : bounds[x + 1]]
            if part.shape != to.shape:
                return f"patch {y}, {x} has the shape {tuple(part.shape)}, not {tuple(to.shape)}"
            to.copy_(part)
    wrong = int((joined != whole).sum())
    return f"{wrong} of {whole.numel()} outputs differ from the whole image" if wrong else None


def _convolved(
    x: torch.Tensor, weight: torch.Tensor, stride: int, zero: int, pad: Sequence[int]
) -> torch.Tensor:
    """Sums of products, wrapped to small numbers so that everything stays exact."""
    padded = functional.pad(x, list(pad), value=zero)
    return functional.conv2d(padded, weight, stride=stride).remainder(61) - 30


def _patched(
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    layers: Layers,
    zero: int,
    down: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
) -> torch.Tensor:
    """One patch through all layers, each reading the rows and columns that are scheduled.

    Raises:
        ValueError: a layer reads what the one before did not make.
    """
    x = image
    top = left = 0  # where x begins in its tensor
    for i, (weight, (_, stride, padding)) in enumerate(zip(weights, layers, strict=True)):
        (y0, y1, above, below), (x0, x1, before, after) = down[i], right[i]
        inside = top <= y0 < y1 <= top + x.shape[2] and left <= x0 < x1 <= left + x.shape[3]
        if not inside:
            raise ValueError(
                f"layer {i} reads rows {y0} to {y1} that the layer before did not make"
            )
        x = x[:, :, y0 - top : y1 - top, x0 - left : x1 - left]
        if min(x.shape[2] + above + below, x.shape[3] + before + after) < weight.shape[2]:
            raise ValueError(f"layer {i}: fewer rows than its kernel has")
        x = _convolved(x, weight, stride, zero, (before, after, above, below))
        top, left = ((y0 - above + padding) // stride, (x0 - before + padding) // stride)
    return x
