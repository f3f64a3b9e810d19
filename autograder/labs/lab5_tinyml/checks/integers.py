"""Whole numbers as students return them: plain, or NumPy's and PyTorch's, in lists, tuples, arrays.

What kind of container a solution computes with is its own matter; floats stay floats and fail.
"""

from __future__ import annotations

from typing import Any

import torch


def plain(value: Any) -> Any:
    """``value`` with lists for tuples and integer tensors, at any depth; anything else unchanged.

    A tensor without dimensions becomes a number. Arrays arrive as tensors.
    """
    if isinstance(value, torch.Tensor):
        whole = not value.is_floating_point() and value.dtype != torch.bool
        return value.tolist() if whole else value
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value
