"""The reference CNN of the course: a small VGG (0.44 M parameters, 41 M MACs at 32x32).

Plain 3x3 convolutions with batch norm, so that every compression method applies to every layer.
Its widths are free: channel pruning yields the same class with other numbers. After Simonyan &
Zisserman, "Very Deep Convolutional Networks" (2015), scaled down for two CPU cores. Lecture 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

REFERENCE_CHANNELS = (32, 32, "M", 64, 64, "M", 128, 128, "M", 128)
MAX_CHANNELS = 1024
MAX_POOLS = 5


class VGG(nn.Module):
    """Convolutions ``conv0, conv1, …`` (3x3, padding 1, no bias), each with ``bn``, ``relu``.

    Args:
        channels: output channels of each convolution in order; ``"M"`` is a 2x2 max pool.
        num_classes: width of ``classifier``, the last linear layer.

    Shapes: input ``[N, 3, H, W]`` float32, output ``[N, num_classes]``. H and W are free as long
    as every pool halves at least 2 pixels; at 32x32 that allows ``MAX_POOLS``.

    Raises:
        ValueError: a width outside 1..1024, an unknown letter, more than 5 pools or 64 entries, or
            no convolution before the first pool.
    """

    def __init__(
        self, channels: Sequence[int | str] = REFERENCE_CHANNELS, num_classes: int = 10
    ) -> None:
        super().__init__()
        _check_channels(channels, num_classes)
        self.config: dict[str, Any] = {
            "architecture": "vgg",
            "channels": list(channels),
            "num_classes": num_classes,
        }
        self.features = nn.Sequential()
        width, index = 3, 0
        for item in channels:
            if isinstance(item, str):
                self.features.add_module(f"pool{index - 1}", nn.MaxPool2d(2))
                continue
            self.features.add_module(f"conv{index}", nn.Conv2d(width, item, 3, 1, 1, bias=False))
            self.features.add_module(f"bn{index}", nn.BatchNorm2d(item))
            self.features.add_module(f"relu{index}", nn.ReLU(inplace=True))
            width, index = item, index + 1
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def _check_channels(channels: Sequence[int | str], num_classes: int) -> None:
    if isinstance(channels, str) or not isinstance(channels, Sequence):
        raise ValueError(f"got channels {channels!r}; allowed: a list of widths and 'M'")
    widths = [item for item in channels if not isinstance(item, str)]
    for width in [*widths, num_classes]:
        if type(width) is not int or not 1 <= width <= MAX_CHANNELS:
            raise ValueError(f"got width {width!r}; allowed: an integer from 1 to {MAX_CHANNELS}")
    letters = [item for item in channels if isinstance(item, str)]
    fits = len(letters) <= MAX_POOLS and len(channels) <= 64
    if set(letters) - {"M"} or not fits or not widths or channels[0] == "M":
        raise ValueError(
            f"got channels {list(channels)!r}; allowed: at most 64 entries, 'M' for a pool, "
            f"at most {MAX_POOLS} pools, at least one width and a width first"
        )
