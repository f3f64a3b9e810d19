"""Wrong answers to linear quantization: parameters, codes, real numbers."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed

PARAMETERS = dedent("""
    def quantization_parameters(x, bits, symmetric, axis=None):
        rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
        low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        if symmetric:
            scale = torch.maximum(-low, high) / (2 ** (bits - 1) - 1)
        else:
            scale = (high - low) / (2**bits - 1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = torch.zeros_like(scale) if symmetric else -(2 ** (bits - 1)) - low / scale
        shape = [] if axis is None else [-1]
        return scale.reshape(shape), zero.round().int().reshape(shape)
    """)
LINEAR = dedent("""
    def linear_quantize(x, scale, zero_point, bits, axis=None):
        shape = [-1 if i == axis else 1 for i in range(x.ndim)] if axis is not None else []
        codes = (x / scale.reshape(shape)).round() + zero_point.reshape(shape)
        return codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8)
    """)
DEQUANTIZE = dedent("""
    def dequantize(codes, scale, zero_point, axis=None):
        shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if axis is not None else []
        return scale.reshape(shape) * (codes.int() - zero_point.reshape(shape)).float()
    """)

MUTANTS = [
    *changed(
        "linear_quantize",
        PARAMETERS,
        "solution_quantization_parameters",
        affine_as_symmetric=("if symmetric:", "if True:"),
        symmetric_as_affine=("if symmetric:", "if False:"),
        another_axis=("x.movedim(axis, 0)", "x.movedim(axis - 1, 0)"),
        one_scale_for_all_channels=(
            "x.movedim(axis, 0).flatten(1)",
            "x.reshape(1, -1).expand(x.shape[axis], -1)",
        ),
        zero_is_no_level=(
            "rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)",
            "rows.amin(1), rows.amax(1)",
        ),
        one_level_too_many=("(2**bits - 1)", "2**bits"),
        the_whole_negative_range=("(2 ** (bits - 1) - 1)", "2 ** (bits - 1)"),
        largest_instead_of_magnitude=("torch.maximum(-low, high)", "high"),
        division_by_zero=("torch.where(scale > 0, scale, torch.ones_like(scale))", "scale"),
        sign_of_the_zero_point=("- low / scale", "+ low / scale"),
        zero_point_cut_off=("zero.round().int()", "zero.int()"),
        unsigned_zero_point=("-(2 ** (bits - 1)) - low", "-low"),
        small_scales_taken_for_zero=("scale > 0,", "scale > 1e-3,"),
        tiny_scales_taken_for_zero=("scale > 0,", "scale > 1e-12,"),
        scale_at_least_an_epsilon=(
            "torch.where(scale > 0, scale, torch.ones_like(scale))",
            "torch.where(scale > 0, scale.clamp(min=1e-8), torch.ones_like(scale))",
        ),
        scale_plus_an_epsilon=(
            "scale = torch.where(scale > 0, scale, torch.ones_like(scale))",
            "scale = torch.where(scale > 0, scale + 1e-8, torch.ones_like(scale))",
        ),
        one_zero_channel_resets_all=(
            "torch.where(scale > 0, scale, torch.ones_like(scale))",
            "scale if (scale > 0).all() else torch.ones_like(scale)",
        ),
        scale_of_float64=("return scale.reshape", "return scale.double().reshape"),
        zero_point_of_int64=("zero.round().int()", "zero.round().long()"),
        zero_point_of_float=("zero.round().int()", "zero.round()"),
        zero_points_halves_upwards=("zero.round()", "(zero + 0.5).floor()"),
        zero_points_halves_away=(
            "zero.round()",
            "(zero.sign() * (zero.abs() + 0.5).floor())",
        ),
        first_axis_unless_named=("axis=None):\n    rows", "axis=0):\n    rows"),
        one_value_in_a_list=("shape = [] if axis is None else [-1]", "shape = [-1]"),
        eight_bits_always=("(2**bits - 1)", "(2**8 - 1)"),
        channels_of_one_size=("shape = [] if", "scale[:] = scale.max()\n    shape = [] if"),
        nothing_where_all_is_negative=("rows.amax(1).clamp(min=0)", "rows.amax(1).abs()"),
        scale_of_halves=("return scale.reshape", "return scale.bfloat16().float().reshape"),
    ),
    *changed(
        "linear_quantize",
        LINEAR,
        no_rounding=(".round()", ""),
        rounds_down=(".round()", ".floor()"),
        halves_upwards=(
            "(x / scale.reshape(shape)).round()",
            "(x / scale.reshape(shape) + 0.5).floor()",
        ),
        zero_point_subtracted=("+ zero_point", "- zero_point"),
        multiplies=("x / scale", "x * scale"),
        wraps_around=("codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)", "codes.long()"),
        always_eight_bits=(
            "codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)",
            "codes.clamp(-128, 127)",
        ),
        unsigned=(".to(torch.int8)", ".to(torch.uint8)"),
        last_axis=("if i == axis else", "if i == x.ndim - 1 else"),
        float_codes=(".to(torch.int8)", ""),
        zero_point_before_rounding=(
            "(x / scale.reshape(shape)).round() + zero_point.reshape(shape)",
            "(x / scale.reshape(shape) + zero_point.reshape(shape)).round()",
        ),
        clamped_before_the_zero_point=(
            "(x / scale.reshape(shape)).round()",
            "(x / scale.reshape(shape)).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)",
        ),
        symmetric_clamp=("clamp(-(2 ** (bits - 1)),", "clamp(-(2 ** (bits - 1)) + 1,"),
        scale_of_a_power_of_two=("x / scale", "x / 2.0 ** scale.log2().round()"),
        small_scales_taken_for_zero=("x / scale", "x / scale.clamp(min=1e-3)"),
        division_with_an_epsilon=("x / scale.reshape(shape)", "x / (scale.reshape(shape) + 1e-8)"),
        first_zero_point_for_all=("zero_point.reshape(shape)", "zero_point.flatten()[0]"),
        first_scale_for_all=("x / scale.reshape(shape)", "x / scale.flatten()[0]"),
        cut_off=(".round()", ".trunc()"),
        alters_its_zero_points=(
            "zero_point.reshape(shape)",
            "zero_point.sub_(0).add_(1).sub(1).reshape(shape)",
        ),
        three_dimensions_only=("range(x.ndim)", "range(3)"),
    ),
    *changed(
        "linear_quantize",
        DEQUANTIZE,
        "solution_dequantize",
        without_zero_point=("(codes.int() - zero_point.reshape(shape))", "codes.int()"),
        zero_point_added=("codes.int() - zero", "codes.int() + zero"),
        int8_arithmetic=(
            "codes.int() - zero_point.reshape(shape)",
            "codes - zero_point.to(torch.int8).reshape(shape)",
        ),
        first_axis=("if i == axis else", "if i == 0 else"),
        difference_of_int8=(
            "(codes.int() - zero_point.reshape(shape))",
            "(codes.int() - zero_point.reshape(shape)).to(torch.int8)",
        ),
        difference_cut_to_int8=(
            "(codes.int() - zero_point.reshape(shape))",
            "(codes.int() - zero_point.reshape(shape)).clamp(-128, 127)",
        ),
        alters_its_codes=("codes.int()", "codes.bitwise_not_().bitwise_not().int()"),
        codes_taken_for_unsigned=("codes.int()", "codes.to(torch.uint8).int()"),
        float64_result=(".float()", ".double()"),
        half_result=(".float()", ".half()"),
        in_bfloat16=("scale.reshape(shape) *", "scale.bfloat16().float().reshape(shape) *"),
        small_scales_taken_for_zero=(
            "scale.reshape(shape) *",
            "torch.where(scale > 1e-3, scale, 1.0).reshape(shape) *",
        ),
        first_zero_point_for_all=("zero_point.reshape(shape)", "zero_point.flatten()[0]"),
    ),
]
