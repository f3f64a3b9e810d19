"""Rows of the check of the sparse network that call its function, on a tiny network.

Judged are the zeros that the masks ask for, and that the rest was trained: on the given images, for
so many epochs as were asked for. How well it trains is left to the network that is handed in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student
from autograder.contract.rows import Row, no_fault, passed
from autograder.contract.verdict import StudentError
from autograder.labs.lab1_pruning.checks.random_vgg import labelled_model
from codesign import cost
from codesign.datasets import normalize
from codesign.models import VGG

ROWS = (
    "prune_and_finetune: zeros where the masks say, and only there",
    "prune_and_finetune: the other weights are trained",
)
IMAGES = 128
EPOCHS = (1.0, 4.0)


@dataclass(frozen=True)
class _Case:
    """Arguments of a call; the labels are what the network answers before it is pruned."""

    model: VGG
    masks: Mapping[str, torch.Tensor]
    images: torch.Tensor
    labels: torch.Tensor

    @torch.no_grad()
    def loss(self, model: VGG) -> float:
        """Mean cross-entropy of ``model`` on the images.

        With their own batch statistics: the running ones lag behind a few updates.
        """
        logits = copy.deepcopy(model).train()(normalize(self.images))
        return float(functional.cross_entropy(logits, self.labels))

    @torch.no_grad()
    def pruned(self) -> VGG:
        """The network with its masks, not trained."""
        model = copy.deepcopy(self.model)
        for name, layer in cost.weighted_layers(model).items():
            layer.weight.mul_(self.masks[name])
        return model


def finetune_rows(student: Student, cases: Cases) -> list[Row]:
    """The two rows of ``prune_and_finetune``, of one share each."""
    case = _tiny(cases)
    try:
        short, long = (_finetuned(student, case, epochs) for epochs in EPOCHS)
    except StudentError as error:
        return [
            passed(ROWS[0], False, 1, str(error)),
            passed(ROWS[1], False, 1, "not measured: no network"),
        ]
    return [
        no_fault(ROWS[0], [_zeros_fault(case, short) or _zeros_fault(case, long)], 1),
        no_fault(ROWS[1], [_trained_fault(case, short, long)], 1),
    ]


def _tiny(cases: Cases) -> _Case:
    model, images, labels = labelled_model(cases, [6, "M", 8], IMAGES)
    layers = cost.weighted_layers(model).items()
    masks = {name: cases.randn(*layer.weight.shape) > 0 for name, layer in layers}
    return _Case(model, masks, images, labels)


def _finetuned(student: Student, case: _Case, epochs: float) -> VGG:
    given = case.model, case.masks, case.images, case.labels, epochs
    model = student.call("prune_and_finetune", *given, may_change=(0,))
    got = getattr(model, "config", type(model).__name__)
    if not isinstance(model, VGG) or got != case.model.config:
        raise StudentError(f"got a model {got}, expected {case.model.config}")
    return model


def _zeros_fault(case: _Case, model: VGG) -> str | None:
    for name, layer in cost.weighted_layers(model).items():
        kept, mask = layer.weight != 0, case.masks[name]
        stayed, lost = int((kept & ~mask).sum()), int((~kept & mask).sum())
        if stayed or lost:
            return f"{name}: {stayed} removed weights are not zero, {lost} others are"
    return None


def _trained_fault(case: _Case, short: VGG, long: VGG) -> str | None:
    before, after = case.loss(case.pruned()), case.loss(long)
    if not after < before:  # NaN is not
        return f"got a loss of {after:.4g} on the given images, {before:.4g} without any training"
    steps = [_steps(model) for model in (short, long)]
    if steps[1] * EPOCHS[0] != steps[0] * EPOCHS[1] or steps[1] > IMAGES * EPOCHS[1]:
        return f"got {steps} updates of {IMAGES} images for {list(EPOCHS)} epochs"
    return None


def _steps(model: VGG) -> int:
    """How often batch norm has seen a batch in training: 0 where its statistics were frozen."""
    return int(model.state_dict()["features.bn0.num_batches_tracked"])
