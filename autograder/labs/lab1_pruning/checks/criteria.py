"""Checks of pruning by magnitude: masks, and the sensitivity scan.

Masks are judged by what they remove, a scan by masking a copy of each layer. Random weights stand
beside fixed ones with equal magnitudes, zeros, one entry.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from autograder.contract.checking import Cases, Student, fault, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, passed, type_fault
from autograder.contract.targets import Figure
from autograder.labs.lab1_pruning.checks.random_vgg import labelled_model
from codesign import cost
from codesign.datasets import normalize
from codesign.models import VGG

Masks = Mapping[str, list[torch.Tensor]]
SCAN_ROWS = ("accuracy with the first mask of each layer", "every accuracy, weights restored")
FLIP = 1.01  # images: another batch size may change the answer to one

# --- fine_grained_prune --------------------------------------------------------------------------


@check("fine_grained_prune")
def _fine_grained_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    weight = _random_weight(cases)
    size = weight.numel()
    inner = [  # rounds to the same number: neither floor nor ceil does
        (student, weight, int(cases.randint(size // 5, 4 * size // 5)), offset)
        for offset in (-0.3, 0.0, 0.3)
    ]
    corners = [(student, *corner, 0.0) for corner in _corners(cases, weight)]
    return [
        no_fault("exact number of zeros", faults(_count_fault, inner), 3),
        no_fault("the smallest magnitudes go", faults(_smallest_fault, inner), 3),
        no_fault("sparsity 0 and 1, equal magnitudes", faults(_smallest_fault, corners), 2),
    ]


def _corners(cases: Cases, weight: torch.Tensor) -> list[tuple[torch.Tensor, int]]:
    """Weights, and how many of them go: all or none, some of equal ones, some of the zeros."""
    tied = torch.where(_random_weight(cases) > 0, 0.5, -0.5)
    levels = torch.arange(-3.0, 4.0).repeat(11, 1)  # 11 zeros, then 22 of each magnitude
    all_or_none = (weight, tied, levels, torch.zeros(2, 3), torch.tensor([-2.0]))
    ends = [(one, zeros) for one in all_or_none for zeros in (0, one.numel())]
    some = [(levels, 5), (levels, 20), (levels, 76), (torch.zeros(2, 3), 4)]
    return [*ends, (tied, tied.numel() // 3), *some]


def _count_fault(student: Student, weight: torch.Tensor, zeros: int, offset: float) -> str | None:
    mask = student.call("fine_grained_prune", weight, (zeros + offset) / weight.numel())
    return _mask_fault(mask, weight, zeros)


def _smallest_fault(
    student: Student, weight: torch.Tensor, zeros: int, offset: float
) -> str | None:
    mask = student.call("fine_grained_prune", weight, (zeros + offset) / weight.numel())
    return _mask_fault(mask, weight, zeros) or _order_fault(mask, weight)


def _random_weight(cases: Cases) -> torch.Tensor:
    rows = int(cases.randint(9, 20))
    shape = cases.choice([(rows, 40), (rows, 6, 3, 3), (rows, 13, 5), (rows * 11,)])
    return cases.randn(*shape)


def _mask_fault(mask: object, weight: torch.Tensor, zeros: int) -> str | None:
    fault = type_fault(mask, torch.bool, tuple(weight.shape))
    if fault:
        return fault
    assert isinstance(mask, torch.Tensor)
    got = int((~mask).sum())
    return None if got == zeros else f"got {got} zeros of {weight.numel()}, expected {zeros}"


def _order_fault(mask: torch.Tensor, weight: torch.Tensor) -> str | None:
    removed, kept = weight[~mask].abs(), weight[mask].abs()
    if not len(removed) or not len(kept) or removed.max() <= kept.min():
        return None
    return f"removed a weight of magnitude {removed.max():.4f}, kept one of {kept.min():.4f}"


# --- sensitivity_scan ----------------------------------------------------------------------------


@check("sensitivity_scan")
def _sensitivity_scan(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    widths = [int(w) for w in cases.randint(6, 12, (3,))]
    case = model, _, labels = labelled_model(cases, [widths[0], "M", widths[1], "M", widths[2]], 80)
    layers = cost.weighted_layers(model)
    masks = {name: _scan_masks(cases, layer.weight) for name, layer in layers.items()}
    some = {"classifier": [*masks["classifier"]] * 2, "features.conv1": masks["features.conv1"][:1]}
    expected = _expected_scan(*case, masks)
    # What it does to the model has a row of its own.
    got = student.call("sensitivity_scan", *case, masks, may_change=(0,))
    keys = compare("one list for each layer", _lengths(got), _lengths(expected), 2, exact=True)
    left = fault(_left_fault, student, case, some)
    last = no_fault("some layers only; the model is left as it was", [left], 2)
    if not keys.points:
        return [keys, *[passed(name, False, 2, "not measured") for name in SCAN_ROWS], last]
    near = FLIP / len(labels)
    first = {name: values[:1] for name, values in expected.items()}
    rows = [
        compare(SCAN_ROWS[0], {n: got[n][:1] for n in got}, first, 2, atol=near, rtol=0.0),
        compare(SCAN_ROWS[1], got, expected, 2, atol=near, rtol=0.0),
    ]
    return [keys, *rows, last]


def _left_fault(
    student: Student, case: tuple[VGG, torch.Tensor, torch.Tensor], masks: Masks
) -> str | None:
    got = student.call("sensitivity_scan", *case, masks)  # fails where an argument has changed
    tolerance = FLIP / len(case[2])
    return (
        compare("", got, _expected_scan(*case, masks), 1, atol=tolerance, rtol=0.0).message or None
    )


def _expected_scan(
    model: VGG, images: torch.Tensor, labels: torch.Tensor, masks: Masks
) -> dict[str, list[float]]:
    layers = cost.weighted_layers(model)
    return {
        name: [masked_accuracy(model, layers[name], m, images, labels) for m in listed]
        for name, listed in masks.items()
    }


def _scan_masks(cases: Cases, weight: torch.Tensor) -> list[torch.Tensor]:
    order = cases.randn(*weight.shape)
    return [order > threshold for threshold in (1.0, 0.0, -0.8)]


@torch.no_grad()
def masked_accuracy(
    model: nn.Module,
    layer: nn.Conv2d | nn.Linear,
    mask: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    """Accuracy in 0..1 with ``mask`` on one layer of ``model``, which is left as it was."""
    kept = layer.weight.clone()
    layer.weight.mul_(mask)
    correct = int((model(normalize(images)).argmax(1) == labels).sum())
    layer.weight.copy_(kept)
    return correct / len(labels)


def _lengths(scan: object) -> object:
    if not isinstance(scan, dict):
        return type(scan).__name__
    return {k: len(v) if isinstance(v, (list, tuple)) else str(type(v)) for k, v in scan.items()}
