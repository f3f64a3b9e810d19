"""Wrong answers to folding, requantization and integer sums of products."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed, wrong

FOLD = dedent("""
    def fold_batchnorm(weight, gamma, beta, mean, var, eps):
        factor = gamma / (var + eps).sqrt()
        return weight * factor[:, None, None, None], beta - mean * factor
    """)
FOLDING = changed(
    "fold_batchnorm",
    FOLD,
    without_eps=("var + eps", "var"),
    deviation_instead_of_variance=("(var + eps).sqrt()", "(var + eps)"),
    mean_not_scaled=("mean * factor", "mean"),
    mean_forgotten=("beta - mean * factor", "beta"),
    beta_forgotten=("beta - mean * factor", "-mean * factor"),
    gamma_forgotten=("gamma / (var", "1 / (var"),
    sign_of_the_mean=("beta - mean", "beta + mean"),
    nothing_folded=("weight * factor[:, None, None, None], beta - mean * factor", "weight, beta"),
)

FIXED_POINT = dedent("""
    def fixed_point(multiplier):
        fraction, exponent = torch.frexp(multiplier.double())
        mantissa = (fraction * 2**31).round().long()
        full = mantissa == 2**31
        return torch.where(full, mantissa // 2, mantissa).int(), (31 - exponent - full.int()).int()
    """)
REQUANTIZE = dedent("""
    def requantize(sums, mantissa, shift, zero_point, low, high):
        shape = [1, -1] + [1] * (sums.ndim - 2)
        mantissa, shift = mantissa.long().reshape(shape), shift.long().reshape(shape)
        half = torch.ones_like(shift) << (shift - 1)
        codes = ((sums.long() * mantissa + half) >> shift) + zero_point
        return codes.clamp(low, high).int()
    """)
REQUANTIZATION = [
    *changed(
        "requantize",
        FIXED_POINT,
        "solution_fixed_point",
        cut_off=(".round().long()", ".long()"),
        full_mantissa_overflows=("full = mantissa == 2**31", "full = mantissa < 0"),
        sixteen_bits=(
            "(fraction * 2**31).round().long()",
            "(fraction * 2**15).round().long() << 16",
        ),
        exponent_off_by_one=("31 - exponent", "32 - exponent"),
        float32=("multiplier.double()", "multiplier.float()"),
    ),
    *changed(
        "requantize",
        REQUANTIZE,
        no_rounding=(" + half", ""),
        product_of_32_bits=("sums.long() * mantissa", "(sums * mantissa.int()).long()"),
        one_multiplier_for_all=("mantissa.long().reshape(shape)", "mantissa[0].long()"),
        zero_point_before_the_shift=(
            "+ half) >> shift) + zero_point",
            "+ half + zero_point) >> shift)",
        ),
        without_zero_point=(" + zero_point", ""),
        not_clamped=("codes.clamp(low, high)", "codes"),
        always_int8=("codes.clamp(low, high)", "codes.clamp(-128, 127)"),
        channels_last=("[1, -1] + [1] * (sums.ndim - 2)", "[1] * (sums.ndim - 1) + [-1]"),
        towards_zero=(
            "((sums.long() * mantissa + half) >> shift)",
            "torch.div(sums.long() * mantissa + half, 1 << shift, rounding_mode='trunc')",
        ),
        halves_to_even=(
            "((sums.long() * mantissa + half) >> shift)",
            "(sums.double() * mantissa / 2.0**shift).round().long()",
        ),
        in_float64=(
            "((sums.long() * mantissa + half) >> shift)",
            "(sums.double() * mantissa / 2.0**shift + 0.5).floor().long()",
        ),
        in_float32=(
            "((sums.long() * mantissa + half) >> shift)",
            "(sums.float() * (mantissa / 2.0**shift) + 0.5).floor().long()",
        ),
    ),
]

CONVOLUTION = dedent("""
    def quantized_conv2d(codes, zero_point, weight, bias):
        shifted = codes.double() - zero_point
        sums = functional.conv2d(shifted, weight.double(), padding=1)
        return sums.int() + bias[:, None, None]
    """)
DENSE = dedent("""
    def quantized_linear(codes, zero_point, weight, bias):
        return ((codes.double() - zero_point) @ weight.double().T).int() + bias
    """)
LAYERS = [
    *changed(
        "quantized_conv2d",
        CONVOLUTION,
        zero_point_ignored=("codes.double() - zero_point", "codes.double()"),
        zero_point_added=("codes.double() - zero_point", "codes.double() + zero_point"),
        int8_difference=("codes.double() - zero_point", "(codes - zero_point).double()"),
        bias_forgotten=(" + bias[:, None, None]", ""),
        bias_on_the_last_axis=("bias[:, None, None]", "bias[: sums.shape[-1]].sum()"),
        flipped_kernel=("weight.double()", "weight.double().flip(2, 3)"),
        int16_accumulator=("sums.int()", "sums.int().to(torch.int16).int()"),
        float32=(
            "functional.conv2d(shifted, weight.double(), padding=1)",
            "functional.conv2d(shifted.float(), weight.float(), padding=1)",
        ),
    ),
    *wrong(
        "quantized_conv2d",
        pads_with_code_zero="""
            def quantized_conv2d(codes, zero_point, weight, bias):
                shifted = functional.pad(codes.double(), (1, 1, 1, 1)) - zero_point
                return functional.conv2d(shifted, weight.double()).int() + bias[:, None, None]
            """,
        accumulators_cut_to_24_bits="""
            def quantized_conv2d(codes, zero_point, weight, bias):
                sums = functional.conv2d(codes.double() - zero_point, weight.double(), padding=1)
                return sums.int().clamp(-(2**23), 2**23 - 1) + bias[:, None, None]
            """,
    ),
    *changed(
        "quantized_conv2d",
        DENSE,
        "solution_quantized_linear",
        zero_point_ignored=("codes.double() - zero_point", "codes.double()"),
        bias_forgotten=(" + bias", ""),
        float_result=(".int() + bias", " + bias"),
        int16_accumulator=(".int() + bias", ".int().to(torch.int16).int() + bias"),
    ),
]

MUTANTS = [*FOLDING, *REQUANTIZATION, *LAYERS]
