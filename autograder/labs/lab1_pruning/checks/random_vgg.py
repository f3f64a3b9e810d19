"""A VGG with random weights and batch-norm statistics, for cases that nobody can know by heart."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autograder.contract.checking import Cases
from codesign.models import VGG


def random_vgg(cases: Cases, channels: Sequence[int | str]) -> VGG:
    """A VGG with every tensor drawn at random, batch-norm statistics included."""
    model = VGG(channels)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = cases.randn(*value.shape)
                scale = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.3
                positive = "bn" in name and name.endswith((".weight", "running_var"))
                value.copy_(0.5 + noise.abs() if positive else noise * scale)
    return model.eval()
