"""Wrong answers to folding and integer sums of products."""

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
    eps_of_torch=("var + eps", "var + 1e-5"),
    eps_of_keras=("var + eps", "var + 1e-3"),
    eps_of_a_tenth=("var + eps", "var + 0.1"),
    eps_added_to_the_deviation=("(var + eps).sqrt()", "(var.sqrt() + eps)"),
    larger_of_variance_and_eps=("(var + eps)", "var.clamp(min=eps)"),
    sign_of_gamma_lost=("factor = gamma", "factor = gamma.abs()"),
    channels_without_variance_left_out=(
        "factor = gamma / (var + eps).sqrt()",
        "factor = torch.where(var > 0, gamma / (var + eps).sqrt(), 0.0)",
    ),
    alters_its_weight=(
        "weight * factor[:, None, None, None]",
        "weight.mul_(factor[:, None, None, None])",
    ),
    three_by_three_only=("weight * factor", "weight.reshape(-1, weight.shape[1], 3, 3) * factor"),
    half_precision=(
        "weight * factor[:, None, None, None]",
        "(weight * factor[:, None, None, None]).bfloat16().float()",
    ),
)

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
        square_images_only=(
            "return sums.int()",
            "side = codes.shape[-1]\n    return sums.reshape(len(codes), -1, side, side).int()",
        ),
        height_and_width_exchanged=("sums.int()", "sums.int().movedim(2, 3)"),
        no_padding=(", padding=1)", ")"),
        one_image=("codes.double()", "codes[:1].double()"),
        one_zero_point_for_all=("- zero_point", "+ 128"),
        bias_of_float32=(
            "sums.int() + bias[:, None, None]",
            "(sums.float() + bias[:, None, None]).int()",
        ),
        alters_its_bias=(
            "sums.int() + bias[:, None, None]",
            "sums.int() + bias.add_(1)[:, None, None] - 1",
        ),
        bias_of_int16=("bias[:, None, None]", "bias[:, None, None].to(torch.int16)"),
        int64_result=("sums.int()", "sums.long()"),
        sixteen_channels_at_most=(
            "shifted, weight.double()",
            "shifted[:, :16], weight[:, :16].double()",
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
        zero_point_added=("codes.double() - zero_point", "codes.double() + zero_point"),
        int8_difference=("codes.double() - zero_point", "(codes - zero_point).double()"),
        float32=(
            "(codes.double() - zero_point) @ weight.double().T",
            "(codes.float() - zero_point) @ weight.float().T",
        ),
        bias_of_float32=(
            "return ((codes.double() - zero_point) @ weight.double().T).int() + bias",
            "sums = (codes.double() - zero_point) @ weight.double().T\n"
            "    return (sums.float() + bias).int()",
        ),
        int64_result=(".int() + bias", ".long() + bias"),
        zero_point_of_the_weights=("weight.double()", "(weight.double() - zero_point)"),
        one_vector=("codes.double()", "codes[:1].double()"),
    ),
]

MUTANTS = [*FOLDING, *LAYERS]
