"""Small networks with random weights and batch norms, for tests of what makes them integers."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from codesign import models
from codesign.hardware.layout import Layout
from codesign.int8 import Network

fours = st.integers(1, 4).map(lambda n: 4 * n)


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """uint8 ``[count, 3, height, width]``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def randomized(model: nn.Module, seed: int, tiny: bool = False) -> nn.Module:
    """Weights and batch norms by ``seed``; ``tiny``: some channels with little or no gain."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) / 4)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
            elif isinstance(module, nn.BatchNorm2d):
                size = module.running_mean.shape
                module.running_mean.copy_(torch.randn(size, generator=generator))
                module.running_var.copy_(0.05 + torch.rand(size, generator=generator))
                module.weight.copy_(torch.randn(size, generator=generator))
                module.bias.copy_(torch.randn(size, generator=generator))
                if tiny:
                    small = torch.tensor([0.0, 1e-30, 1e-8, 1e-5, 1.0, 1.0])
                    pick = torch.randint(0, len(small), size, generator=generator)
                    module.weight.mul_(small[pick])
    return model.eval()


@st.composite
def configs(draw: Any, widths: st.SearchStrategy[int] = fours) -> dict[str, Any]:
    """A ResNet-8 or a MobileNet with few channels, at least one addition, and kernels 3, 5, 7."""
    classes = draw(st.integers(1, 11))
    if draw(st.booleans()):
        three = draw(st.lists(widths, min_size=3, max_size=3))
        return {"architecture": "resnet8", "widths": three, "num_classes": classes}
    stem = draw(widths)
    kernel = st.sampled_from([3, 3, 5, 7])
    block = st.tuples(st.integers(1, 3), widths, st.integers(1, 2), kernel)
    blocks = [(draw(st.integers(1, 3)), stem, 1, draw(kernel))]
    blocks += draw(st.lists(block, min_size=1, max_size=2))
    return {
        "architecture": "mobile",
        "stem": stem,
        "blocks": blocks,
        "head": draw(widths) + draw(st.integers(0, 1)),
        "num_classes": classes,
    }


def built(config: dict[str, Any], seed: int, tiny: bool = False) -> nn.Module:
    """The network of a config, randomized."""
    return randomized(models.build(config), seed, tiny)


def stages(network: Network) -> list[int]:
    """Numbers of first operators that may run in patches."""
    allowed = []
    for count in range(1, len(network.operators)):
        try:
            Layout(network, "naive", False, (1, 1, count))
        except ValueError:
            continue
        allowed.append(count)
    return allowed
