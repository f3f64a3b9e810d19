"""Build the course's networks; each carries ``.config``, a JSON dict that rebuilds it.

A pruned or searched network is the same class with other widths in its config, so an artifact is
always (config, weights) and never code. Taught from Lecture 3 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from codesign.models.llama import Llama
from codesign.models.mobile import MobileNet
from codesign.models.resnet import ResNet8
from codesign.models.vgg import VGG

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "vgg": VGG,
    "resnet8": ResNet8,
    "mobile": MobileNet,
    "llama": Llama,
}


def build(config: Mapping[str, object]) -> nn.Module:
    """Build the network that ``config`` describes, with fresh weights.

    Args:
        config: ``{"architecture": name, **arguments of its class}``, a name of ``ARCHITECTURES``.

    Raises:
        ValueError: unknown architecture, or arguments that its class does not take.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"got config {config!r}; allowed: a dict with 'architecture'")
    arguments = dict(config)
    name = arguments.pop("architecture", None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"got architecture {name!r}; allowed: {sorted(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"config does not fit {name!r}: {error}") from None


__all__ = ["ARCHITECTURES", "VGG", "Llama", "MobileNet", "ResNet8", "build"]
