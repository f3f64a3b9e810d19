"""Check of channel pruning: the norms of channels, and networks with channels removed.

A pruned network has to compute what the whole one computes with the removed channels zeroed after
their ReLU, in networks of any widths, pools and classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, no_fault
from autograder.contract.targets import Figure
from autograder.labs.lab1_pruning.checks.random_vgg import random_vgg
from autograder.labs.lab1_pruning.signatures import SIGNATURES
from codesign.models import VGG

Plan = Sequence[tuple[int, torch.Tensor]]  # of each step the convolution and the channels it keeps


@check("channel_prune")
def _channel_prune(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return [*_importance_rows(student, cases), *_removal_rows(student, cases)]


# --- importance ----------------------------------------------------------------------------------


def _importance_rows(student: Student, cases: Cases) -> list[Row]:
    known = torch.zeros(4, 2, 3, 3)
    known[0, 0, 0, :2] = torch.tensor([3.0, -4.0])  # 5; the signed sum is -1, L1 is 7
    known[1, :, 1, 1] = torch.tensor([-6.0, -8.0])  # 10, all negative
    known[2] = 1.0  # √18 < 5, yet L1 is 18
    scale = 10 ** cases.randn(11)
    drawn = cases.randn(11, int(cases.randint(2, 7)), 3, 3) * scale[:, None, None, None]
    sizes = SIGNATURES["channel_importance"].corners()
    corners = [cases.randn(s["c_out"], s["c_in"], s["k"], s["k"]) for s in sizes]
    trials = [(student, weight, _norms(weight)) for weight in (drawn, *corners)]
    answers = torch.tensor([5.0, 10.0, 18**0.5, 0.0])
    known_fault = faults(_importance_fault, [(student, known, answers)])
    return [
        no_fault("importance: known answers", known_fault, 2),
        no_fault("importance: other scales and shapes", faults(_importance_fault, trials), 1),
    ]


def _norms(weight: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.dot(w, w).sqrt() for w in weight.flatten(1)])


def _importance_fault(student: Student, weight: torch.Tensor, answer: torch.Tensor) -> str | None:
    return compare("", student.call("channel_importance", weight), answer, 1).message or None


# --- removal -------------------------------------------------------------------------------------


def _removal_rows(student: Student, cases: Cases) -> list[Row]:
    a, b, c = (int(w) for w in cases.randint(5, 9, (3,)))
    model = random_vgg(cases, [a, "M", b, c, "M", 7])
    x = cases.randn(3, 3, 16, 16)
    middle, first, last = _keep(cases, b, 3), _keep(cases, a, 2), _keep(cases, 7, 4)
    single, one = random_vgg(cases, [4], num_classes=3), torch.tensor([2])
    pools = random_vgg(cases, [3, "M", "M", 5, 4, "M"], num_classes=2)
    plans = {
        "an inner convolution": [(model, [(1, middle)]), (pools, [(1, torch.tensor([0, 4]))])],
        "the last convolution, before the classifier": [
            (model, [(3, last)]),
            (pools, [(2, torch.tensor([1, 3]))]),
            (single, [(0, one)]),
        ],
        "nothing removed, then the first two": [
            (model, [(2, torch.arange(c)), (0, first), (1, middle)]),
            (pools, [(0, one), (1, one)]),
        ],
    }
    shares = (3, 2, 2)
    return [
        no_fault(name, faults(_removal_fault, [(student, m, x, p) for m, p in listed]), share)
        for (name, listed), share in zip(plans.items(), shares, strict=True)
    ]


def _keep(cases: Cases, width: int, count: int) -> torch.Tensor:
    return torch.randperm(width, generator=cases.generator)[:count].sort().values


def _removal_fault(student: Student, model: VGG, x: torch.Tensor, plan: Plan) -> str | None:
    channels, pruned = list(model.config["channels"]), model
    places = [i for i, item in enumerate(channels) if item != "M"]
    for layer, keep in plan:
        channels[places[layer]] = len(keep)
        pruned = student.call("channel_prune", pruned, layer, keep)
    expected = {**model.config, "channels": channels}
    got = getattr(pruned, "config", type(pruned).__name__)
    if got != expected:
        return f"got a model {got}, expected {expected}"
    with torch.inference_mode():
        answer, masked = pruned.eval()(x), _masked_output(model, plan, x)
    return compare("", answer, masked, 1, atol=1e-4).message or None


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
