"""Forgeries of the network of 8-bit integers."""

from __future__ import annotations

import torch

from autograder.labs.lab2_quantization.mutants.tensors import (
    Tensors,
    altered,
    every,
    nan_scale,
    only,
)
from autograder.proof.mutants import forged

INT8 = "int8_model"


def _padded(tensors: Tensors) -> None:
    tensors["comment.weight"] = torch.zeros(500_000, dtype=torch.int8)


MUTANTS = forged(
    INT8,
    float_weights=altered(INT8, only(conv3__weight=torch.Tensor.float)),
    sixteen_bit_weights=altered(INT8, only(conv3__weight=lambda w: w.to(torch.int16))),
    weight_of_minus_128=altered(INT8, only(conv3__weight=lambda w: torch.full_like(w, -128))),
    float_bias=altered(INT8, only(conv2__bias=torch.Tensor.float)),
    bias_not_rescaled=altered(INT8, every(".bias", lambda b: b // 1000)),
    bias_overflows=altered(INT8, only(conv1__bias=lambda b: torch.full_like(b, 2**31 - 1))),
    zero_point_beyond_int8=altered(INT8, only(conv1__zero_point=lambda z: z + 300)),
    wrong_zero_point=altered(INT8, only(input__zero_point=lambda z: z + 100)),
    zero_points_near_the_top=altered(INT8, every(".zero_point", lambda z: z * 0 + 110)),
    nan_scale=nan_scale(INT8),
    scale_of_zero=altered(INT8, only(input__scale=torch.zeros_like)),
    mantissa_too_small=altered(INT8, only(conv4__mantissa=lambda m: m // 2)),
    shift_of_zero=altered(INT8, only(conv4__shift=torch.zeros_like)),
    channels_reversed=altered(INT8, every(".bias", lambda b: b.flip(0))),
    one_multiplier_a_layer=altered(INT8, every(".shift", lambda n: n * 0 + n.max())),
    layer_missing=altered(INT8, lambda tensors: tensors.pop("conv5.weight")),
    more_than_the_network=altered(INT8, _padded),
    classifier_transposed=altered(INT8, only(classifier__weight=lambda w: w.T.contiguous())),
)
