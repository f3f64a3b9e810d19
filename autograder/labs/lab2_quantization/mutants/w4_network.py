"""Forgeries of the network of 4-bit weights."""

from __future__ import annotations

from pathlib import Path

import torch

from autograder.contract import artifacts, held_out
from autograder.labs.lab2_quantization.checks.adaround import W4_TOP, nearest_codes
from autograder.labs.lab2_quantization.checks.w4_network import folded_layers
from autograder.labs.lab2_quantization.mutants.tensors import (
    altered,
    every,
    halves_swapped,
    one_code_a_byte,
    only,
    packed,
)
from autograder.proof.mutants import forged


def _rounded_to_nearest(outputs: Path) -> None:
    """Every weight at the nearest code of its layer's scale."""
    tensors = {
        f"{name}.weight": packed(nearest_codes(weight, float(weight.abs().max()) / W4_TOP))
        for name, (weight, _) in folded_layers(held_out.dense(outputs.name)).items()
    }
    artifacts.store(outputs, "w4_model", tensors)


MUTANTS = forged(
    "w4_model",
    nearest=_rounded_to_nearest,
    not_packed=altered("w4_model", every(".weight", one_code_a_byte)),
    halves_swapped=altered("w4_model", every(".weight", halves_swapped)),
    float_weights=altered("w4_model", every(".weight", torch.Tensor.float)),
    another_code=altered("w4_model", only(conv2__weight=lambda w: w ^ 4)),
    layer_missing=altered("w4_model", lambda tensors: tensors.pop("classifier.weight")),
    all_zero=altered("w4_model", every(".weight", torch.zeros_like)),
)
