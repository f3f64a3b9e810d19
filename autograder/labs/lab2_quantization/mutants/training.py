"""Wrong answers to 4 bits everywhere: fake quantization, and forgeries of the trained network."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import torch
from torch.nn import functional

from autograder.contract import artifacts, held_out
from autograder.labs.lab2_quantization.checks.adaround import W4_TOP
from autograder.labs.lab2_quantization.checks.requantization import exact_fixed_point
from autograder.labs.lab2_quantization.checks.w4_network import folded_layers
from autograder.labs.lab2_quantization.mutants.tensors import (
    altered,
    every,
    halves_swapped,
    nan_scale,
    one_code_a_byte,
    only,
    packed,
)
from autograder.proof.mutants import changed, forged
from codesign.datasets import normalize

W4A4 = "w4a4_model"

STRAIGHT = dedent("""
    class FakeQuantize(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale, low, high):
            ctx.save_for_backward((x / scale >= low) & (x / scale <= high))
            return (x / scale).round().clamp(low, high) * scale

        @staticmethod
        def backward(ctx, gradient):
            (inside,) = ctx.saved_tensors
            return gradient * inside, None, None, None
    """)
FAKE = changed(
    "fake_quantize",
    STRAIGHT,
    blocks_the_gradient=("gradient * inside", "gradient * 0"),
    doubles_the_gradient=("gradient * inside", "2 * gradient * inside"),
    passes_what_was_clipped=("gradient * inside", "gradient"),
    scales_the_gradient=("gradient * inside", "gradient * inside * 0.1"),
    passes_only_what_was_clipped=("gradient * inside", "gradient * ~inside"),
    blocks_above_only=("(x / scale >= low) & (x / scale <= high)", "x / scale <= high"),
    blocks_below_only=("(x / scale >= low) & (x / scale <= high)", "x / scale >= low"),
    codes_instead_of_values=(".clamp(low, high) * scale", ".clamp(low, high)"),
    no_rounding=(".round()", ""),
    not_clipped=(".clamp(low, high)", ""),
    rounds_down=(".round()", ".floor()"),
    mask_a_quarter_step_too_wide=(
        "(x / scale >= low) & (x / scale <= high)",
        "(x / scale >= low - 0.25) & (x / scale <= high + 0.25)",
    ),
    mask_a_quarter_step_too_narrow=(
        "(x / scale >= low) & (x / scale <= high)",
        "(x / scale >= low + 0.25) & (x / scale <= high - 0.25)",
    ),
    mask_of_what_rounds_into_the_range=(
        "(x / scale >= low) & (x / scale <= high)",
        "((x / scale).round() >= low) & ((x / scale).round() <= high)",
    ),
    ends_are_clipped=(
        "(x / scale >= low) & (x / scale <= high)",
        "(x / scale > low) & (x / scale < high)",
    ),
    lower_end_is_clipped=("(x / scale >= low)", "(x / scale > low)"),
    upper_end_is_clipped=("(x / scale <= high)", "(x / scale < high)"),
    mask_in_values=("(x / scale >= low) & (x / scale <= high)", "(x >= low) & (x <= high)"),
    halves_upwards=("(x / scale).round()", "(x / scale + 0.5).floor()"),
    halves_away_from_zero=(
        "(x / scale).round()",
        "(x.sign() * (x.abs() / scale + 0.5).floor())",
    ),
    symmetric_range_always=(".clamp(low, high)", ".clamp(-high, high)"),
    gradient_through_the_rounded=("gradient * inside", "(gradient * inside).round()"),
    gradient_in_codes=("gradient * inside", "gradient * inside * inside.float().mean()"),
    small_scales_taken_for_zero=(
        "(x / scale).round().clamp(low, high) * scale",
        "(x / scale.clamp(min=1e-3)).round().clamp(low, high) * scale.clamp(min=1e-3)",
    ),
    alters_its_input=(
        "return (x / scale).round().clamp(low, high) * scale",
        "return x.div_(scale).round_().clamp_(low, high).clone() * scale",
    ),
    rows_only=("return (x / scale)", "x = x.reshape(len(x), -1)\n        return (x / scale)"),
)


def _untrained(outputs: Path) -> None:
    """The dense network at 4 bits without any training, clipped where most activations end."""
    dense = held_out.dense(outputs.name)
    x = normalize(held_out.images(outputs.name, held_out.PUBLIC_SEED).images[:100])
    tensors = {"input.scale": torch.tensor([0.02]), "input.zero_point": torch.tensor([0]).int()}
    scale, plan = 0.02, [item == "M" for item in dense.config["channels"]]
    for name, (weight, bias) in folded_layers(dense).items():
        w_scale = float(weight.abs().max()) / W4_TOP
        tensors[f"{name}.weight"] = packed((weight / w_scale).round())
        tensors[f"{name}.bias"] = (bias / (scale * w_scale)).round().int()
        if name == "classifier":
            break
        plan.pop(0)
        x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
        out_scale = float(x.flatten()[::11].quantile(0.999)) / 15
        mantissa, shift = exact_fixed_point(scale * w_scale / out_scale)
        tensors[f"{name}.mantissa"] = torch.full_like(bias, mantissa, dtype=torch.int32)
        tensors[f"{name}.shift"] = torch.full_like(bias, shift, dtype=torch.int8)
        tensors[f"{name}.zero_point"] = torch.tensor([-8]).int()
        scale = out_scale
        if plan and plan[0]:
            plan.pop(0)
            x = functional.max_pool2d(x, 2)
    artifacts.store(outputs, W4A4, tensors)


W4A4_MODEL = forged(
    W4A4,
    untrained=_untrained,
    not_packed=altered(W4A4, every(".weight", one_code_a_byte)),
    code_of_minus_eight=altered(W4A4, only(conv3__weight=lambda w: torch.full_like(w, 0x88))),
    zero_point_of_eight_bits=altered(W4A4, every(".zero_point", lambda z: z * 0 - 128)),
    another_scale=altered(W4A4, every(".shift", lambda n: n + 1)),
    float_weights=altered(W4A4, every(".weight", torch.Tensor.float)),
    nan_scale=nan_scale(W4A4),
    halves_swapped=altered(W4A4, every(".weight", halves_swapped)),
)

MUTANTS = [*FAKE, *W4A4_MODEL]
