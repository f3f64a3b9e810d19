"""Put weights from a file into a Llama: names and shapes first, then one tensor after the other.

A file may be damaged or lie, and a config of a hundred bytes can ask for gigabytes; so the network
is outlined without memory, its tensors are compared with those that the file lists, its size with
the memory that is free, and only then a number is read. Whatever is stored becomes float32. Used by
:mod:`codesign.llama_files` and :mod:`codesign.gguf_files`. Lecture 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch

from codesign.models.llama import Llama

Shapes = Mapping[str, tuple[int, ...]]
BYTES_EACH = 4  # of a float32


def outline(config: Mapping[str, Any]) -> Llama:
    """The network of ``config`` (Llama's arguments) with shapes and no memory.

    Raises:
        ValueError: a number out of range.
    """
    with torch.device("meta"):
        return Llama(**config)


def shapes(model: Llama) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by its name; a tied head is the embedding and has none of its own."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def fill(skeleton: Llama, stored: Shapes, read: Callable[[str], torch.Tensor]) -> Llama:
    """Give an outlined network the tensors that ``read`` yields by name, in evaluation mode.

    Args:
        stored: what the file says that it has; compared before ``read`` is called.

    Raises:
        ValueError: other names or shapes than the network's, more bytes than there is memory, or
            values that are NaN or infinite.
    """
    compare(skeleton, stored)
    weights = {}
    for name, shape in shapes(skeleton).items():
        weights[name] = read(name).to(torch.float32)
        if tuple(weights[name].shape) != shape or not torch.isfinite(weights[name]).all():
            raise ValueError(f"got NaN or infinity in {name!r}; allowed: finite weights")
    skeleton.load_state_dict(weights, assign=True)
    return skeleton.eval()


def compare(skeleton: Llama, stored: Shapes) -> None:
    """Hold what a file says that it has against the network, and that against the memory.

    Raises:
        ValueError: they do not agree, and names the first tensor; or it does not fit.
    """
    expected = shapes(skeleton)
    wrong = sorted(k for k in expected.keys() | stored.keys() if expected.get(k) != stored.get(k))
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"weights do not fit the config in {len(wrong)} tensors, first {first!r}: "
            f"got {stored.get(first, 'nothing')}; allowed: {expected.get(first, 'nothing')}"
        )
    check_memory(skeleton)


def check_memory(skeleton: Llama) -> None:
    """Hold the size of a network against the memory that is free.

    Raises:
        ValueError: it does not fit.
    """
    needed = BYTES_EACH * sum(p.numel() for p in skeleton.parameters())
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"got a model of {needed / 1e9:.1f} GB; allowed: {free / 1e9:.1f} GB, what is free"
        )
