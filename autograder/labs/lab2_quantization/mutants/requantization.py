"""Wrong answers to requantization: mantissa and shift, and codes of accumulators."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed

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
MUTANTS = [
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
        multipliers_below_one_only=(
            "torch.frexp(multiplier.double())",
            "torch.frexp(multiplier.double().clamp(max=1 - 2.0**-40))",
        ),
        tiny_multipliers_taken_for_zero=(
            "torch.frexp(multiplier.double())",
            "torch.frexp(torch.where(multiplier > 1e-8, multiplier, 0.0))",
        ),
        shift_from_31=(
            "(31 - exponent - full.int()).int()",
            "(31 - exponent - full.int()).clamp(min=31).int()",
        ),
        shift_to_40=(
            "(31 - exponent - full.int()).int()",
            "(31 - exponent - full.int()).clamp(max=40).int()",
        ),
        full_mantissa_cut=(
            "torch.where(full, mantissa // 2, mantissa)",
            "mantissa.clamp(max=2**31 - 1)",
        ),
        int64_mantissa=(
            "torch.where(full, mantissa // 2, mantissa).int()",
            "torch.where(full, mantissa // 2, mantissa)",
        ),
        shift_of_int8=("full.int()).int()", "full.int()).to(torch.int8)"),
        flat=(
            "return torch.where(full",
            "full, exponent = full.flatten(), exponent.flatten()\n"
            "    mantissa = mantissa.flatten()\n    return torch.where(full",
        ),
        rounded_up=(".round().long()", ".ceil().long()"),
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
        shift_of_31_to_40_only=(
            "shift.long().reshape(shape)",
            "shift.long().clamp(31, 40).reshape(shape)",
        ),
        shift_of_31_at_least=(
            "shift.long().reshape(shape)",
            "shift.long().clamp(min=31).reshape(shape)",
        ),
        shift_of_61_at_most=(
            "shift.long().reshape(shape)",
            "shift.long().clamp(max=61).reshape(shape)",
        ),
        half_of_31=("torch.ones_like(shift) << (shift - 1)", "torch.full_like(shift, 2**30)"),
        half_of_int32=(
            "torch.ones_like(shift) << (shift - 1)",
            "(torch.ones_like(shift) << (shift - 1)).int()",
        ),
        rounded_twice=(
            "((sums.long() * mantissa + half) >> shift)",
            "((((sums.long() * mantissa + 2**30) >> 31) + (half >> 31))"
            " >> (shift - 31).clamp(min=0))",
        ),
        clamped_before_the_zero_point=(
            "+ half) >> shift) + zero_point",
            "+ half) >> shift).clamp(low, high) + zero_point",
        ),
        relu_always=("codes.clamp(low, high)", "codes.clamp(max(low, zero_point), high)"),
        low_ignored=("codes.clamp(low, high)", "codes.clamp(max=high)"),
        high_ignored=("codes.clamp(low, high)", "codes.clamp(min=low)"),
        four_dimensions_only=("[1, -1] + [1] * (sums.ndim - 2)", "[1, -1, 1, 1]"),
        int32_before_the_clamp=("codes.clamp(low, high).int()", "codes.int().clamp(low, high)"),
        halves_away_from_zero=(
            "((sums.long() * mantissa + half) >> shift)",
            "sums.long().sign() * ((sums.long().abs() * mantissa + half) >> shift)",
        ),
        alters_its_sums=("sums.long()", "sums.neg_().neg().long()"),
        int64_codes=("codes.clamp(low, high).int()", "codes.clamp(low, high)"),
        int8_codes=("codes.clamp(low, high).int()", "codes.clamp(low, high).to(torch.int8)"),
    ),
]
