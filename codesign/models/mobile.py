"""A MobileNetV2-like network of inverted residual blocks, sized for a microcontroller.

A 3x3 stem, blocks that expand with a 1x1 convolution, filter each channel on its own and project
back, a 1x1 head, global average pooling, a linear layer; Sandler et al., "MobileNetV2: Inverted
Residuals and Linear Bottlenecks" (CVPR 2018), section 3. ReLU instead of ReLU6: quantized, both
are the clamp of an integer. The network whose memory Lectures 10 and 11 plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from codesign.models.vgg import MAX_CHANNELS

# expansion, channels, stride of each block; the reference has 10.0 M MACs
REFERENCE_BLOCKS = (
    (1, 16, 1),
    (6, 24, 2), (4, 24, 1), (4, 24, 1),
    (4, 40, 2), (4, 40, 1), (4, 40, 1),
    (4, 64, 2), (4, 64, 1),
)  # fmt: skip
KERNELS = (3, 5, 7)
MAX_BLOCKS = 40


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes allow it.

    Shapes: ``[N, width_in, H, W]`` to ``[N, width_out, ceil(H / stride), ceil(W / stride)]``. With
    an expansion of 1 the first convolution is left out.
    """

    def __init__(
        self, width_in: int, expansion: int, width_out: int, stride: int, kernel: int = 3
    ) -> None:
        super().__init__()
        width = width_in * expansion
        if expansion > 1:
            self.expand = nn.Conv2d(width_in, width, 1, bias=False)
            self.bn_expand = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(
            width, width, kernel, stride, kernel // 2, groups=width, bias=False
        )
        self.bn_depthwise = nn.BatchNorm2d(width)
        self.project = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn_project = nn.BatchNorm2d(width_out)
        self.expands, self.adds = expansion > 1, stride == 1 and width_in == width_out
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn_expand(self.expand(x))) if self.expands else x
        y = self.relu(self.bn_depthwise(self.depthwise(y)))
        y = self.bn_project(self.project(y))
        return y + x if self.adds else y


class MobileNet(nn.Module):
    """Inverted residual blocks between a 3x3 stem and a 1x1 head.

    Shapes: input ``[N, 3, H, W]`` float32, output ``[N, num_classes]``.

    Args:
        stem, head: channels of the first and of the last convolution.
        blocks: (expansion, channels, stride) or (expansion, channels, stride, kernel) of each.

    Raises:
        ValueError: a number out of range; says which are allowed.
    """

    def __init__(
        self,
        stem: int = 16,
        blocks: Sequence[Sequence[int]] = REFERENCE_BLOCKS,
        head: int = 128,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        listed = _validated(stem, blocks, head, num_classes)
        self.config: dict[str, Any] = {
            "architecture": "mobile",
            "stem": stem,
            "blocks": listed,
            "head": head,
            "num_classes": num_classes,
        }
        self.stem = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn_stem = nn.BatchNorm2d(stem)
        widths = [stem, *(block[1] for block in listed)]
        self.blocks = nn.Sequential(
            *(InvertedResidual(width, *block) for width, block in zip(widths, listed, strict=False))
        )
        self.head = nn.Conv2d(widths[-1], head, 1, bias=False)
        self.bn_head = nn.BatchNorm2d(head)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(head, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.relu(self.bn_stem(self.stem(x))))
        return self.classifier(self.relu(self.bn_head(self.head(x))).mean((2, 3)))


def _validated(stem: Any, blocks: Any, head: Any, num_classes: Any) -> list[list[int]]:
    """Blocks as lists, if all numbers are in range."""
    if not isinstance(blocks, (list, tuple)) or not 1 <= len(blocks) <= MAX_BLOCKS:
        raise ValueError(f"got blocks {blocks!r:.200}; allowed: a list of 1 to {MAX_BLOCKS} blocks")
    for block in blocks:
        if (
            not isinstance(block, (list, tuple))
            or len(block) not in (3, 4)
            or any(type(n) is not int for n in block)
            or not 1 <= block[0] <= 8
            or not 1 <= block[1] <= MAX_CHANNELS
            or block[2] not in (1, 2)
            or (len(block) == 4 and block[3] not in KERNELS)
        ):
            raise ValueError(
                f"got block {block!r:.200}; allowed: (expansion 1 to 8, channels 1 to "
                f"{MAX_CHANNELS}, stride 1 or 2, and, if given, kernel {KERNELS})"
            )
    for name, n in (("stem", stem), ("head", head), ("num_classes", num_classes)):
        if type(n) is not int or not 1 <= n <= MAX_CHANNELS:
            raise ValueError(f"got {name} {n!r}; allowed: an integer from 1 to {MAX_CHANNELS}")
    return [list(block) for block in blocks]
