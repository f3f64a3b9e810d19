"""ResNet-8, the image-classification network of MLPerf Tiny (77,946 parameters, 12.5 M MACs).

One convolution, three residual stacks, a linear layer; Banbury et al., "MLPerf Tiny Benchmark"
(2021). The network that a microcontroller runs: Lectures 10 and 11. As in the benchmark's
reference code the 1x1 shortcut has no batch norm; unlike there, a convolution that batch norm
follows has no bias (240 parameters fewer than its 78,186), and global average pooling replaces the
fixed 8x8 pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu

from codesign.models.vgg import MAX_CHANNELS


class ResidualStack(nn.Module):
    """Two 3x3 convolutions beside an identity, or a strided 1x1 convolution where shapes change.

    Shapes: ``[N, width_in, H, W]`` to ``[N, width_out, ceil(H / stride), ceil(W / stride)]``.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(width_out)
        self.conv1 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        same = stride == 1 and width_in == width_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(width_in, width_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu(self.bn0(self.conv0(x)))
        return relu(self.bn1(self.conv1(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """Three residual stacks of ``widths`` channels, the second and third with stride 2.

    Shapes: input ``[N, 3, H, W]`` float32, output ``[N, num_classes]``.

    Raises:
        ValueError: not exactly three widths, or one outside 1..1024.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64), num_classes: int = 10) -> None:
        super().__init__()
        listed = list(widths) if isinstance(widths, Sequence) else [widths]
        numbers = [*listed, num_classes]
        if len(numbers) != 4 or any(
            type(n) is not int or not 1 <= n <= MAX_CHANNELS for n in numbers
        ):
            raise ValueError(
                f"got widths {widths!r} and {num_classes!r} classes; allowed: three integers and "
                f"one, each from 1 to {MAX_CHANNELS}"
            )
        self.config: dict[str, Any] = {
            "architecture": "resnet8",
            "widths": listed,
            "num_classes": num_classes,
        }
        a, b, c = listed
        self.conv = nn.Conv2d(3, a, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(a)
        self.stacks = nn.Sequential(
            ResidualStack(a, a, 1), ResidualStack(a, b, 2), ResidualStack(b, c, 2)
        )
        self.classifier = nn.Linear(c, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = relu(self.bn(self.conv(x)))
        return self.classifier(self.stacks(x).mean((2, 3)))
