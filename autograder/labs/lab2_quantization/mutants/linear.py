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
    ),
]
