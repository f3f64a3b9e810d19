"""Alter named tensors: the vocabulary of Lab 2's forgeries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import functional

from autograder.contract import artifacts
from autograder.proof.mutants import Forge

Tensors = dict[str, torch.Tensor]
Change = Callable[[torch.Tensor], torch.Tensor]


def altered(name: str, alter: Callable[[Tensors], object]) -> Forge:
    """A forgery of the artifact ``name``: ``alter`` changes the dictionary of its tensors."""

    def forge(outputs: Path) -> None:
        tensors = dict(artifacts.fetch(outputs, name))
        alter(tensors)
        artifacts.store(outputs, name, tensors)

    return forge


def only(**changes: Change) -> Callable[[Tensors], None]:
    """Replace tensors by name (``__`` for the dot), each by a function of itself."""

    def alter(tensors: Tensors) -> None:
        for name, change in changes.items():
            tensors[name.replace("__", ".")] = change(tensors[name.replace("__", ".")])

    return alter


def every(suffix: str, change: Change) -> Callable[[Tensors], None]:
    """Replace all tensors whose name ends with ``suffix``."""

    def alter(tensors: Tensors) -> None:
        for name in tensors:
            if name.endswith(suffix):
                tensors[name] = change(tensors[name])

    return alter


def nan_scale(name: str) -> Forge:
    """A forgery with NaN as the input's scale, written past ``store``, which would refuse it."""

    def forge(outputs: Path) -> None:
        tensors = dict(artifacts.fetch(outputs, name))
        tensors["input.scale"] = torch.tensor([float("nan")])
        (outputs / f"{name}.safetensors").write_bytes(save(tensors))

    return forge


def packed(codes: torch.Tensor) -> torch.Tensor:
    """Pack 4-bit codes: two a byte, the first in the low half."""
    flat = codes.flatten().int() & 15
    flat = functional.pad(flat, (0, len(flat) % 2))
    return (flat[::2] | (flat[1::2] << 4)).to(torch.uint8)


def one_code_a_byte(weight: torch.Tensor) -> torch.Tensor:
    """Packed codes, each in a byte of its own instead."""
    return torch.stack([weight & 15, weight >> 4], 1).flatten()


def halves_swapped(weight: torch.Tensor) -> torch.Tensor:
    """Packed codes, the first of a byte in its high half instead."""
    return (weight << 4) | (weight >> 4)
