"""Checks of pruning criteria: magnitude masks, the sensitivity scan, second-order scores.

Masks are judged by what they remove, a scan by masking a copy of each layer, scores by autograd's
Hessian and by the true loss of every single removal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, passed, type_fault
from autograder.contract.targets import Figure
from autograder.labs.lab1_pruning.checks.random_vgg import random_vgg
from codesign import cost
from codesign.datasets import normalize
from codesign.models import VGG

SCAN_ROWS = ("accuracy with the first mask of each layer", "every accuracy, weights restored")

# --- fine_grained_prune --------------------------------------------------------------------------


@check("fine_grained_prune")
def _fine_grained_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    weight = _random_weight(cases)
    size = weight.numel()
    inner = [  # rounds to the same number: neither floor nor ceil does
        (student, weight, int(cases.randint(size // 5, 4 * size // 5)), offset)
        for offset in (-0.3, 0.0, 0.3)
    ]
    tied = torch.where(_random_weight(cases) > 0, 0.5, -0.5)
    ends = [(weight, 0), (weight, size), (tied, tied.numel() // 3)]
    return [
        no_fault("exact number of zeros", faults(_count_fault, inner), 3),
        no_fault("the smallest magnitudes go", faults(_smallest_fault, inner), 3),
        no_fault(
            "sparsity 0 and 1, equal magnitudes",
            faults(_count_fault, [(student, *end, 0.0) for end in ends]),
            2,
        ),
    ]


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
    shape = cases.choice([(rows, 40), (rows, 6, 3, 3), (rows, 13, 5)])
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
    if removed.max() <= kept.min():
        return None
    return f"removed a weight of magnitude {removed.max():.4f}, kept one of {kept.min():.4f}"


# --- sensitivity_scan ----------------------------------------------------------------------------


@check("sensitivity_scan")
def _sensitivity_scan(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    model, images, labels = labelled_model(cases)
    layers = cost.weighted_layers(model)
    masks = {name: _scan_masks(cases, layer.weight) for name, layer in layers.items()}
    expected = {
        name: [masked_accuracy(model, layers[name], m, images, labels) for m in listed]
        for name, listed in masks.items()
    }
    got = student.call("sensitivity_scan", model, images, labels, masks)
    keys = compare("one list for each layer", _lengths(got), _lengths(expected), 2, exact=True)
    if not keys.points:
        return [keys, *[passed(name, False, 3, "not measured") for name in SCAN_ROWS]]
    tolerance = 1.01 / len(labels)  # another batch size may flip one image
    first = {name: values[:1] for name, values in expected.items()}
    rows = [
        compare(SCAN_ROWS[0], {n: got[n][:1] for n in got}, first, 3, atol=tolerance, rtol=0.0),
        compare(SCAN_ROWS[1], got, expected, 3, atol=tolerance, rtol=0.0),
    ]
    return [keys, *rows]


def labelled_model(cases: Cases) -> tuple[VGG, torch.Tensor, torch.Tensor]:
    """A random VGG, random images, and as labels its own answers: 100 % until it is pruned."""
    widths = [int(w) for w in cases.randint(6, 12, (3,))]
    model = random_vgg(cases, [widths[0], "M", widths[1], "M", widths[2]])
    # Few coarse pixels each, so that images differ after pooling and answers spread over classes.
    images = cases.randint(0, 256, (200, 3, 2, 2)).to(torch.uint8)
    images = images.repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        logits = model(normalize(images))
        model.classifier.bias.copy_(model.classifier.bias - logits.mean(0))
        labels = model(normalize(images)).argmax(1)
    return model, images, labels


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


# --- second_order_scores -------------------------------------------------------------------------


@check("second_order_scores")
def _second_order_scores(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    samples, inputs, classes = int(cases.randint(30, 50)), int(cases.randint(5, 8)), 4
    features, bias = cases.randn(samples, inputs).double(), cases.randn(classes).double()
    weight = cases.randn(classes, inputs).double()
    exact = 0.5 * _hessian_diagonal(features, weight, bias) * weight.square()
    got = student.call("second_order_scores", features, weight, bias)
    rows = [compare("half the Hessian diagonal times w²", got, exact, 6, atol=1e-9, rtol=1e-6)]
    return [*rows, _rank_row(student, cases, 4)]


def _hessian_diagonal(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    labels = torch.zeros(len(features), dtype=torch.int64)  # the Hessian does not depend on them

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(features @ flat.view_as(weight).T + bias, labels)

    hessian = torch.autograd.functional.hessian(loss, weight.flatten())
    return hessian.diagonal().view_as(weight)


def _rank_row(student: Student, cases: Cases, share: float) -> Row:
    """Rank correlation of the scores with the true loss increase, at a minimum of the loss."""
    name = "rank correlation with the true loss increase"
    features, labels, weight, bias = _trained_regression(cases)
    increase = _loss_increase(features, labels, weight, bias)
    magnitude = _rank_correlation(weight.abs(), increase)
    bar = max(0.9, magnitude + 0.03)
    got = student.call("second_order_scores", features, weight, bias)
    fault = type_fault(got, torch.float64, tuple(weight.shape))
    if fault:
        return passed(name, False, share, fault)
    found = _rank_correlation(got, increase)
    enough = found >= bar  # NaN is not
    message = f"got {found:.3f}, expected at least {bar:.3f} (magnitude: {magnitude:.3f})"
    return Row(
        name=name,
        measured=found,
        target=bar,
        points=share if enough else 0.0,
        max_points=share,
        message="" if enough else message,
        status="ok" if enough else "failed",
    )


def _trained_regression(cases: Cases) -> tuple[torch.Tensor, ...]:
    """Softmax regression at its minimum, on features of very different scales."""
    features, labels = _random_classes(cases, count=400, inputs=16, classes=4)
    weight = torch.zeros(4, 16, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        # A little decay makes the minimum unique; it is part of neither loss nor scores below.
        loss = functional.cross_entropy(features @ weight.T + bias, labels)
        (loss + 1e-6 * weight.square().sum()).backward()
        return loss

    optimizer.step(closure)
    return features, labels, weight.detach(), bias.detach()


def _random_classes(
    cases: Cases, count: int, inputs: int, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``[count, inputs]`` and labels drawn from a softmax over a random linear map."""
    scales = torch.logspace(-0.7, 0.7, inputs, dtype=torch.float64)
    features = cases.randn(count, inputs).double() * scales
    truth = cases.randn(classes, inputs).double() / scales * cases.randn(classes, inputs).exp()
    gumbel = -torch.log(-torch.log(torch.rand(count, classes, generator=cases.generator)))
    return features, (0.3 * features @ truth.T + gumbel).argmax(1)


def _loss_increase(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    def loss(w: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(features @ w.T + bias, labels)

    increase = torch.zeros_like(weight)
    for index in torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist():
        pruned = weight.clone()
        pruned[tuple(index)] = 0
        increase[tuple(index)] = loss(pruned) - loss(weight)
    return increase


def _rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's rho (no ties expected)."""
    ranks = torch.stack([x.flatten().argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])
