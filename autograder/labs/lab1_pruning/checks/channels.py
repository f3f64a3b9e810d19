"""Checks of channel pruning and of its repair by least squares.

A pruned network has to compute what the whole one computes with the removed channels zeroed after
their ReLU; a repair is judged by its residual, not by its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autograder.contract.checking import Cases, Student, fault
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault, type_fault
from autograder.contract.targets import Figure
from autograder.labs.lab1_pruning.checks.random_vgg import random_vgg
from codesign.models import VGG

Plan = Sequence[tuple[int, torch.Tensor]]  # of each step the convolution and the channels it keeps

# --- channel_prune -------------------------------------------------------------------------------


@check("channel_prune")
def _channel_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return [*_importance_rows(student, cases), *_removal_rows(student, cases)]


def _importance_rows(student: Student, cases: Cases) -> list[Row]:
    known = torch.zeros(4, 2, 3, 3)
    known[0, 0, 0, :2] = torch.tensor([3.0, -4.0])  # 5; the signed sum is -1, L1 is 7
    known[1, :, 1, 1] = torch.tensor([-6.0, -8.0])  # 10, all negative
    known[2] = 1.0  # √18 < 5, yet L1 is 18
    scale = 10 ** cases.randn(11)
    weight = cases.randn(11, int(cases.randint(2, 7)), 3, 3) * scale[:, None, None, None]
    norms = torch.stack([torch.dot(w, w).sqrt() for w in weight.flatten(1)])
    trials = [
        ("importance: known answers", known, torch.tensor([5.0, 10.0, 18**0.5, 0.0]), 2),
        ("importance: other scales and shapes", weight, norms, 1),
    ]
    return [
        no_fault(name, [fault(_importance_fault, student, case, answer)], share)
        for name, case, answer, share in trials
    ]


def _importance_fault(student: Student, weight: torch.Tensor, answer: torch.Tensor) -> str | None:
    return compare("", student.call("channel_importance", weight), answer, 1).message or None


def _removal_rows(student: Student, cases: Cases) -> list[Row]:
    a, b, c = (int(w) for w in cases.randint(5, 9, (3,)))
    model = random_vgg(cases, [a, "M", b, c, "M", 7])
    x = cases.randn(3, 3, 16, 16)
    middle, first, last = _keep(cases, b, 3), _keep(cases, a, 2), _keep(cases, 7, 4)
    plans = [
        ("an inner convolution", [(1, middle)], 3),
        ("the last convolution, before the classifier", [(3, last)], 2),
        ("nothing removed, then the first two", [(2, torch.arange(c)), (0, first), (1, middle)], 2),
    ]
    return [
        no_fault(name, [fault(_removal_fault, student, model, x, plan)], share)
        for name, plan, share in plans
    ]


def _keep(cases: Cases, width: int, count: int) -> torch.Tensor:
    return torch.randperm(width, generator=cases.generator)[:count].sort().values


def _removal_fault(student: Student, model: VGG, x: torch.Tensor, plan: Plan) -> str | None:
    channels, pruned = list(model.config["channels"]), model
    places = [i for i, item in enumerate(channels) if item != "M"]
    for layer, keep in plan:
        channels[places[layer]] = len(keep)
        pruned = student.call("channel_prune", pruned, layer, keep)
    got = getattr(pruned, "config", {}).get("channels")
    if got != channels:
        return f"got channels {got}, expected {channels}"
    with torch.inference_mode():
        expected, answer = _masked_output(model, plan, x), pruned.eval()(x)
    return compare("", answer, expected, 1, atol=1e-4).message or None


def _masked_output(model: VGG, plan: Plan, x: torch.Tensor) -> torch.Tensor:
    """What the model computes when the removed channels are zeroed after their ReLU."""

    def masked(keep: torch.Tensor) -> Any:
        return lambda _, __, y: torch.zeros_like(y).index_copy(1, keep, y[:, keep])

    handles = [
        model.features.get_submodule(f"relu{layer}").register_forward_hook(masked(keep))
        for layer, keep in plan
    ]
    output = model(x)
    for handle in handles:
        handle.remove()
    return output


# --- reconstruct ---------------------------------------------------------------------------------


@check("reconstruct")
def _reconstruct(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    samples, inputs, outputs = int(cases.randint(60, 90)), int(cases.randint(6, 12)), 5
    x, weight = cases.randn(samples, inputs), cases.randn(outputs, inputs)
    noisy = x @ weight.T + 0.5 * cases.randn(samples, outputs)
    exact = fault(_map_fault, student, x, weight)
    twice = torch.cat([x, 2 * x[:, :2], torch.zeros(samples, 1)], 1)
    smallest = fault(_residual_fault, student, x, noisy)
    dependent = fault(_residual_fault, student, twice, noisy)
    return [
        no_fault("recovers an exact linear map", [exact], 3),
        no_fault("noisy outputs: smallest residual", [smallest], 3),
        no_fault("linearly dependent inputs", [dependent], 2),
    ]


def _map_fault(student: Student, x: torch.Tensor, weight: torch.Tensor) -> str | None:
    got = student.call("reconstruct", x, x @ weight.T)
    return compare("", got, weight, 1, atol=1e-3, rtol=1e-3).message or None


def _residual_fault(student: Student, inputs: torch.Tensor, outputs: torch.Tensor) -> str | None:
    x, y = inputs.double(), outputs.double()
    best = torch.linalg.lstsq(x, y, driver="gelsd").solution
    smallest = float((x @ best - y).square().mean())
    got = student.call("reconstruct", inputs, outputs)
    wrong = type_fault(got, torch.float32, (outputs.shape[1], inputs.shape[1]))
    if wrong:
        return wrong
    found = float((x @ got.double().T - y).square().mean())
    if found <= 1.0001 * smallest:  # NaN is not
        return None
    return f"got a mean squared error of {found:.6g}, best {smallest:.6g}"
