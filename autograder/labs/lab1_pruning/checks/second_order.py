"""Check of second-order scores: autograd's Hessian, and the true loss of every single removal."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, passed, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab1_pruning.signatures import SIGNATURES

ATOL, RTOL = 1e-6, 1e-3  # of float32: p(1 - p) loses digits where p is close to 1


@check("second_order_scores")
def _second_order_scores(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    drawn = int(cases.randint(30, 50)), int(cases.randint(5, 8)), 4
    corners = [(s["n"], s["k"], s["c"]) for s in SIGNATURES["second_order_scores"].corners()]
    layers = [(student, *_random_layer(cases, *sizes)) for sizes in (drawn, *corners)]
    found = faults(_scores_fault, layers)
    return [
        no_fault("half the Hessian diagonal times w²", found, 6),
        _rank_row(student, cases, 4),
    ]


def _random_layer(cases: Cases, samples: int, inputs: int, classes: int) -> list[torch.Tensor]:
    """Features ``[samples, inputs]``, weight and bias of a linear layer."""
    return [cases.randn(samples, inputs), cases.randn(classes, inputs), cases.randn(classes)]


def _scores_fault(
    student: Student, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> str | None:
    got = student.call("second_order_scores", features, weight, bias)
    hessian = _hessian_diagonal(features.double(), weight.double(), bias.double())
    exact = (0.5 * hessian * weight.double().square()).float()
    return compare("", got, exact, 1, atol=ATOL, rtol=RTOL).message or None


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
    try:
        got = student.call("second_order_scores", *(t.float() for t in (features, weight, bias)))
    except StudentError as error:  # the scores of other layers keep their points
        return passed(name, False, share, str(error))
    floating = isinstance(got, torch.Tensor) and got.is_floating_point()
    wrong = type_fault(got.float() if floating else got, torch.float32, tuple(weight.shape))
    if wrong:
        return passed(name, False, share, wrong)
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
