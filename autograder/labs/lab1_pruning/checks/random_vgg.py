"""A VGG with random weights and statistics, and images that it knows: nothing to learn by heart."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autograder.contract.checking import Cases
from codesign.datasets import normalize
from codesign.models import VGG


def random_vgg(cases: Cases, channels: Sequence[int | str], num_classes: int = 10) -> VGG:
    """A VGG with every tensor drawn at random, batch-norm statistics included."""
    model = VGG(channels, num_classes)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = cases.randn(*value.shape)
                scale = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.3
                positive = "bn" in name and name.endswith((".weight", "running_var"))
                value.copy_(0.5 + noise.abs() if positive else noise * scale)
    return model.eval()


def labelled_model(
    cases: Cases, channels: Sequence[int | str], count: int
) -> tuple[VGG, torch.Tensor, torch.Tensor]:
    """A random VGG, random images, and as labels its own answers: 100 % until it is pruned."""
    model = random_vgg(cases, channels)
    # Few coarse pixels each, so that images differ after pooling and answers spread over classes.
    images = cases.randint(0, 256, (count, 3, 2, 2)).to(torch.uint8)
    images = images.repeat_interleave(16, 2).repeat_interleave(16, 3)
    with torch.inference_mode():
        logits = model(normalize(images))
        model.classifier.bias.copy_(model.classifier.bias - logits.mean(0))
        labels = model(normalize(images)).argmax(1)
    return model, images, labels
