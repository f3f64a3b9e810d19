"""Wrong answers to Lab 2. Each must lose points in its own check and in no other.

Most are a right answer with one thing wrong: ``_changed`` replaces a part of its text. Forgeries
alter a copy of the reference artifacts in ``outputs/<dataset>``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import torch
from safetensors.torch import save
from torch.nn import functional

from autograder.contract import artifacts, held_out
from autograder.labs.lab2_quantization import checks
from autograder.proof.mutants import Mutant
from codesign import native
from codesign.datasets import normalize

LAB = "lab2_quantization"


def _wrong(check: str, cell: str, **sources: str) -> list[Mutant]:
    """Mutants of one solution cell: name = source."""
    name = cell.removeprefix("solution_")
    return [Mutant(f"{name}: {how}", check, cell, dedent(text)) for how, text in sources.items()]


def _changed(check: str, cell: str, right: str, **changes: tuple[str, str]) -> list[Mutant]:
    """Mutants of one solution cell: name = (part of the right answer, what is there instead)."""
    sources = {}
    for how, (part, instead) in changes.items():
        if right.count(part) != 1:
            raise ValueError(f"{cell}: {part!r} occurs {right.count(part)} times, once is needed")
        sources[how] = right.replace(part, instead)
    return _wrong(check, cell, **sources)


def _forged(name: str, **forgeries: Callable[[Path], None]) -> list[Mutant]:
    """Mutants of one artifact, which carries the name of its check."""
    return [
        Mutant(f"{name}: {how}", name, artifact=name, forge=forge)
        for how, forge in forgeries.items()
    ]


# --- codebooks -----------------------------------------------------------------------------------

LLOYD = dedent("""
    def kmeans_quantize(weight, bits):
        values = weight.flatten().float()
        codebook = torch.linspace(float(values.min()), float(values.max()), 2**bits)
        for _ in range(300):
            codes = (values[:, None] - codebook).abs().argmin(1)
            before = codebook.clone()
            for entry in range(2**bits):
                if (codes == entry).any():
                    codebook[entry] = values[codes == entry].mean()
            if torch.equal(before, codebook):
                break
        return codebook, codes.reshape(weight.shape)
    """)
PACK = dedent("""
    def pack_codes(codes, bits):
        stream = ((codes.reshape(-1, 1) >> torch.arange(bits)) & 1).flatten()
        stream = functional.pad(stream, (0, -len(stream) % 8))
        return (stream.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    """)

CODEBOOKS = [
    *_changed(
        "kmeans_quantize",
        "solution_kmeans_quantize",
        LLOYD,
        evenly_spaced=("range(300)", "range(1)"),
        stops_early=("range(300)", "range(4)"),
        squared_mean=(".mean()", ".square().mean().sqrt()"),
        median=(".mean()", ".median()"),
        from_random_weights=(
            "torch.linspace(float(values.min()), float(values.max()), 2**bits)",
            "values[: 2**bits].clone()",
        ),
        one_entry_less=("2**bits)\n    for _", "2**bits - 1)\n    for _"),
        codes_as_int8=(
            "codes.reshape(weight.shape)",
            "codes.reshape(weight.shape).to(torch.int8)",
        ),
        signs_lost=("(values[:, None] - codebook)", "(values.abs()[:, None] - codebook)"),
    ),
    *_changed(
        "kmeans_quantize",
        "solution_pack_codes",
        PACK,
        highest_bit_first=(
            "codes.reshape(-1, 1) >> torch.arange(bits)",
            "codes.reshape(-1, 1) >> torch.arange(bits).flip(0)",
        ),
        bytes_big_endian=("<< torch.arange(8)", "<< torch.arange(8).flip(0)"),
        last_byte_lost=(
            "functional.pad(stream, (0, -len(stream) % 8))",
            "stream[: len(stream) // 8 * 8]",
        ),
    ),
    *_wrong(
        "kmeans_quantize",
        "solution_pack_codes",
        one_code_a_byte="""
            def pack_codes(codes, bits):
                return codes.flatten().to(torch.uint8)
            """,
        codes_do_not_cross_bytes="""
            def pack_codes(codes, bits):
                each = 8 // bits
                rows = functional.pad(codes.flatten(), (0, -codes.numel() % each)).reshape(-1, each)
                return (rows << (bits * torch.arange(each))).sum(1).to(torch.uint8)
            """,
    ),
    *_wrong(
        "kmeans_quantize",
        "solution_codebook_bytes",
        without_codebook="""
            def codebook_bytes(count, bits):
                return -(-count * bits // 8)
            """,
        codebook_counted_as_codes="""
            def codebook_bytes(count, bits):
                return -(-(count + 2**bits) * bits // 8)
            """,
        rounded_down="""
            def codebook_bytes(count, bits):
                return count * bits // 8 + 4 * 2**bits
            """,
        bits_instead_of_bytes="""
            def codebook_bytes(count, bits):
                return count * bits + 32 * 2**bits
            """,
        a_float="""
            def codebook_bytes(count, bits):
                return count * bits / 8 + 4 * 2**bits
            """,
    ),
    *_wrong(
        "kmeans_quantize",
        "solution_codebook_gradient",
        mean_instead_of_sum="""
            def codebook_gradient(gradient, codes, entries):
                sums = torch.zeros(entries).index_add(0, codes.flatten(), gradient.flatten())
                return sums / torch.bincount(codes.flatten(), minlength=entries).clamp(min=1)
            """,
        last_one_wins="""
            def codebook_gradient(gradient, codes, entries):
                found = torch.zeros(entries)
                found[codes.flatten()] = gradient.flatten()
                return found
            """,
        absolute="""
            def codebook_gradient(gradient, codes, entries):
                flat = gradient.abs().flatten()
                return torch.zeros(entries).index_add(0, codes.flatten(), flat)
            """,
        entries_without_weights_left_out="""
            def codebook_gradient(gradient, codes, entries):
                found = torch.zeros(int(codes.max()) + 1)
                return found.index_add(0, codes.flatten(), gradient.flatten())
            """,
    ),
]

# --- linear quantization -------------------------------------------------------------------------

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

LINEAR_QUANTIZATION = [
    *_changed(
        "linear_quantize",
        "solution_quantization_parameters",
        PARAMETERS,
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
    *_changed(
        "linear_quantize",
        "solution_linear_quantize",
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
    *_changed(
        "linear_quantize",
        "solution_dequantize",
        DEQUANTIZE,
        without_zero_point=("(codes.int() - zero_point.reshape(shape))", "codes.int()"),
        zero_point_added=("codes.int() - zero", "codes.int() + zero"),
        int8_arithmetic=(
            "codes.int() - zero_point.reshape(shape)",
            "codes - zero_point.to(torch.int8).reshape(shape)",
        ),
        first_axis=("if i == axis else", "if i == 0 else"),
    ),
]

# --- calibration, folding ------------------------------------------------------------------------

MSE = dedent("""
    def mse_threshold(x, bits, candidates):
        top = 2 ** (bits - 1) - 1
        errors = []
        for threshold in candidates:
            scale = threshold / top
            errors.append(((x / scale).round().clamp(-top, top) * scale - x).square().mean())
        return float(candidates[torch.stack(errors).argmin()])
    """)
KL = dedent("""
    def kl_threshold(counts, levels):
        best = (float("inf"), len(counts))
        for kept in range(levels, len(counts) + 1):
            inside = counts[:kept]
            p = inside.clone()
            p[-1] += counts[kept:].sum()
            group = torch.arange(kept) * levels // kept
            sums = torch.zeros(levels).double().index_add(0, group, inside)
            filled = torch.zeros(levels).double().index_add(0, group, (inside > 0).double())
            q = torch.where(inside > 0, (sums / filled.clamp(min=1))[group], 0.0)
            p, q = p / p.sum(), q / q.sum()
            best = min(best, (float(torch.where(p > 0, p * (p / q).log(), 0.0).sum()), kept))
        return best[1]
    """)

CALIBRATION = [
    *_wrong(
        "calibrate",
        "solution_percentile_threshold",
        signed="""
            def percentile_threshold(x, percent):
                return float(torch.quantile(x.flatten(), percent / 100))
            """,
        share_of_the_largest="""
            def percentile_threshold(x, percent):
                return float(x.abs().max()) * percent / 100
            """,
        nearest_value="""
            def percentile_threshold(x, percent):
                values = x.abs().flatten().sort().values
                return float(values[min(len(values) - 1, int(percent / 100 * len(values)))])
            """,
        min_max="""
            def percentile_threshold(x, percent):
                return float(x.abs().max())
            """,
    ),
    *_changed(
        "calibrate",
        "solution_mse_threshold",
        MSE,
        largest_candidate=("torch.stack(errors).argmin()", "candidates.argmax()"),
        worst=(".argmin()", ".argmax()"),
        not_clipped=(".clamp(-top, top)", ""),
        no_rounding=(".round()", ""),
        all_the_levels=("2 ** (bits - 1) - 1", "2**bits - 1"),
        inside_only=(
            "((x / scale).round().clamp(-top, top) * scale - x).square().mean()",
            "(((x / scale).round() * scale - x)[x.abs() < threshold].square().mean())",
        ),
        the_index=(
            "float(candidates[torch.stack(errors).argmin()])",
            "float(torch.stack(errors).argmin())",
        ),
    ),
    *_changed(
        "calibrate",
        "solution_kl_threshold",
        KL,
        outliers_dropped=("p[-1] += counts[kept:].sum()", "pass"),
        outliers_in_q=("index_add(0, group, inside)", "index_add(0, group, p)"),
        other_way_round=(
            "torch.where(p > 0, p * (p / q).log(), 0.0)",
            "torch.where((p > 0) & (q > 0), q * (q / p).log(), 0.0)",
        ),
        spread_over_empty_bins=("(inside > 0).double())", "torch.ones(kept).double())"),
        last_one_not_tried=("len(counts) + 1", "len(counts) - 8"),
        not_normalized=("p / p.sum(), q / q.sum()", "p, q"),
        keeps_all=("return best[1]", "return len(counts)"),
    ),
]

FOLD = dedent("""
    def fold_batchnorm(weight, gamma, beta, mean, var, eps):
        factor = gamma / (var + eps).sqrt()
        return weight * factor[:, None, None, None], beta - mean * factor
    """)
FOLDING = _changed(
    "fold_batchnorm",
    "solution_fold_batchnorm",
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

# --- integers ------------------------------------------------------------------------------------

FIXED_POINT = dedent("""
    def fixed_point(multiplier):
        mantissa, exponent = torch.frexp(multiplier.double())
        m0 = (mantissa * 2**31).round().long()
        full = m0 == 2**31
        return torch.where(full, m0 // 2, m0).int(), (31 - exponent - full.int()).int()
    """)
REQUANTIZE = dedent("""
    def requantize(sums, m0, n, zero_point, low, high):
        shape = [1, -1] + [1] * (sums.ndim - 2)
        m0, n = m0.long().reshape(shape), n.long().reshape(shape)
        half = torch.ones_like(n) << (n - 1)
        codes = ((sums.long() * m0 + half) >> n) + zero_point
        return codes.clamp(low, high).int()
    """)
REQUANTIZATION = [
    *_changed(
        "requantize",
        "solution_fixed_point",
        FIXED_POINT,
        cut_off=(".round().long()", ".long()"),
        full_mantissa_overflows=("full = m0 == 2**31", "full = m0 < 0"),
        sixteen_bits=(
            "(mantissa * 2**31).round().long()",
            "(mantissa * 2**15).round().long() << 16",
        ),
        exponent_off_by_one=("31 - exponent", "32 - exponent"),
        float32=("multiplier.double()", "multiplier.float()"),
    ),
    *_changed(
        "requantize",
        "solution_requantize",
        REQUANTIZE,
        no_rounding=(" + half", ""),
        product_of_32_bits=("sums.long() * m0", "(sums * m0.int()).long()"),
        one_multiplier_for_all=("m0.long().reshape(shape)", "m0[0].long()"),
        zero_point_before_the_shift=("+ half) >> n) + zero_point", "+ half + zero_point) >> n)"),
        without_zero_point=(" + zero_point", ""),
        not_clamped=("codes.clamp(low, high)", "codes"),
        always_int8=("codes.clamp(low, high)", "codes.clamp(-128, 127)"),
        channels_last=("[1, -1] + [1] * (sums.ndim - 2)", "[1] * (sums.ndim - 1) + [-1]"),
        towards_zero=(
            "((sums.long() * m0 + half) >> n)",
            "torch.div(sums.long() * m0 + half, 1 << n, rounding_mode='trunc')",
        ),
        halves_to_even=(
            "((sums.long() * m0 + half) >> n)",
            "(sums.double() * m0 / 2.0**n).round().long()",
        ),
        in_float64=(
            "((sums.long() * m0 + half) >> n)",
            "(sums.double() * m0 / 2.0**n + 0.5).floor().long()",
        ),
        in_float32=(
            "((sums.long() * m0 + half) >> n)",
            "(sums.float() * (m0 / 2.0**n) + 0.5).floor().long()",
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
    *_changed(
        "quantized_conv2d",
        "solution_quantized_conv2d",
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
    *_wrong(
        "quantized_conv2d",
        "solution_quantized_conv2d",
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
    *_changed(
        "quantized_conv2d",
        "solution_quantized_linear",
        DENSE,
        zero_point_ignored=("codes.double() - zero_point", "codes.double()"),
        bias_forgotten=(" + bias", ""),
        float_result=(".int() + bias", " + bias"),
        int16_accumulator=(".int() + bias", ".int().to(torch.int16).int() + bias"),
    ),
]

# --- rounding, fake quantization -----------------------------------------------------------------

ROUNDING = [
    *_wrong(
        "adaround",
        "solution_adaround",
        nearest="""
            def adaround(x, target, weight, scale, steps):
                return (weight / scale).round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
            """,
        always_down="""
            def adaround(x, target, weight, scale, steps):
                return (weight / scale).floor().clamp(-W4_TOP, W4_TOP).to(torch.int8)
            """,
        stochastic="""
            def adaround(x, target, weight, scale, steps):
                noise = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0))
                return (weight / scale + noise).floor().clamp(-W4_TOP, W4_TOP).to(torch.int8)
            """,
        best_of_random_roundings="""
            def adaround(x, target, weight, scale, steps):
                best, generator = None, torch.Generator().manual_seed(0)
                for _ in range(20):
                    noise = torch.rand(weight.shape, generator=generator)
                    codes = (weight / scale + noise).floor().clamp(-W4_TOP, W4_TOP)
                    error = (apply_layer(x, codes * scale) - target).square().mean()
                    if best is None or error < best[0]:
                        best = error, codes
                return best[1].to(torch.int8)
            """,
        any_code_at_all="""
            def adaround(x, target, weight, scale, steps):
                if weight.ndim == 4:
                    return (weight / scale).round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
                codes = torch.linalg.lstsq(x, target).solution.T / scale + 2
                return codes.round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
            """,
        float_codes="""
            def adaround(x, target, weight, scale, steps):
                return weight / scale
            """,
    )
]

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
FAKE = _changed(
    "fake_quantize",
    "solution_fake_quantize",
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
)

# --- networks ------------------------------------------------------------------------------------


def _tensors(
    name: str, alter: Callable[[dict[str, torch.Tensor]], object]
) -> Callable[[Path], None]:
    """A forgery of named tensors: ``alter`` changes the dictionary."""

    def forge(outputs: Path) -> None:
        stored = dict(artifacts.fetch(outputs, name))
        alter(stored)
        artifacts.store(outputs, name, stored)

    return forge


def _set(**tensors: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    """Tensors by name (``__`` for the dot), each replaced by a function of itself."""

    def alter(stored: dict[str, torch.Tensor]) -> None:
        for name, change in tensors.items():
            stored[name.replace("__", ".")] = change(stored[name.replace("__", ".")])

    return alter


def _nan(name: str) -> Callable[[Path], None]:
    """The input's scale is NaN; ``store`` would refuse it."""

    def forge(outputs: Path) -> None:
        stored = dict(artifacts.fetch(outputs, name))
        stored["input.scale"] = torch.tensor([float("nan")])
        (outputs / f"{name}.safetensors").write_bytes(save(stored))

    return forge


def _every(suffix: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def alter(stored: dict[str, torch.Tensor]) -> None:
        for name in stored:
            if name.endswith(suffix):
                stored[name] = change(stored[name])

    return alter


def _padded(stored: dict[str, torch.Tensor]) -> None:
    stored["comment.weight"] = torch.zeros(500_000, dtype=torch.int8)


INT8_MODEL = _forged(
    "int8_model",
    float_weights=_tensors("int8_model", _set(conv3__weight=torch.Tensor.float)),
    sixteen_bit_weights=_tensors("int8_model", _set(conv3__weight=lambda w: w.to(torch.int16))),
    weight_of_minus_128=_tensors(
        "int8_model", _set(conv3__weight=lambda w: torch.full_like(w, -128))
    ),
    float_bias=_tensors("int8_model", _set(conv2__bias=torch.Tensor.float)),
    bias_not_rescaled=_tensors("int8_model", _every(".bias", lambda b: b // 1000)),
    bias_overflows=_tensors(
        "int8_model", _set(conv1__bias=lambda b: torch.full_like(b, 2**31 - 1))
    ),
    zero_point_beyond_int8=_tensors("int8_model", _set(conv1__zero_point=lambda z: z + 300)),
    wrong_zero_point=_tensors("int8_model", _set(input__zero_point=lambda z: z + 100)),
    zero_points_near_the_top=_tensors("int8_model", _every(".zero_point", lambda z: z * 0 + 110)),
    nan_scale=_nan("int8_model"),
    scale_of_zero=_tensors("int8_model", _set(input__scale=torch.zeros_like)),
    mantissa_too_small=_tensors("int8_model", _set(conv4__mantissa=lambda m: m // 2)),
    shift_of_zero=_tensors("int8_model", _set(conv4__shift=torch.zeros_like)),
    channels_reversed=_tensors("int8_model", _every(".bias", lambda b: b.flip(0))),
    one_multiplier_a_layer=_tensors("int8_model", _every(".shift", lambda n: n * 0 + n.max())),
    layer_missing=_tensors("int8_model", lambda stored: stored.pop("conv5.weight")),
    more_than_the_network=_tensors("int8_model", _padded),
    classifier_transposed=_tensors(
        "int8_model", _set(classifier__weight=lambda w: w.T.contiguous())
    ),
)


def _packed(codes: torch.Tensor) -> torch.Tensor:
    """Two codes a byte, the first in the low half."""
    flat = codes.flatten().int() & 15
    flat = functional.pad(flat, (0, len(flat) % 2))
    return (flat[::2] | (flat[1::2] << 4)).to(torch.uint8)


def _rounded_to_nearest(outputs: Path) -> None:
    """Every weight at the nearest code of its layer's scale."""
    stored = {
        f"{name}.weight": _packed(
            checks._nearest(weight, float(weight.abs().max()) / checks.W4_TOP)
        )
        for name, (weight, _) in checks._folded(held_out.dense(outputs.name)).items()
    }
    artifacts.store(outputs, "w4_model", stored)


def _untrained(outputs: Path) -> None:
    """The dense network at 4 bits without any training, clipped where most activations end."""
    dense = held_out.dense(outputs.name)
    x = normalize(held_out.images(outputs.name, held_out.PUBLIC_SEED).images[:100])
    stored = {"input.scale": torch.tensor([0.02]), "input.zero_point": torch.tensor([0]).int()}
    scale, plan = 0.02, [item == "M" for item in dense.config["channels"]]
    for name, (weight, bias) in checks._folded(dense).items():
        w_scale = float(weight.abs().max()) / checks.W4_TOP
        stored[f"{name}.weight"] = _packed((weight / w_scale).round())
        stored[f"{name}.bias"] = (bias / (scale * w_scale)).round().int()
        if name == "classifier":
            break
        plan.pop(0)
        x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
        out_scale = float(x.flatten()[::11].quantile(0.999)) / 15
        m0, n = checks._fixed_point(scale * w_scale / out_scale)
        stored[f"{name}.mantissa"] = torch.full_like(bias, m0, dtype=torch.int32)
        stored[f"{name}.shift"] = torch.full_like(bias, n, dtype=torch.int8)
        stored[f"{name}.zero_point"] = torch.tensor([-8]).int()
        scale = out_scale
        if plan and plan[0]:
            plan.pop(0)
            x = functional.max_pool2d(x, 2)
    artifacts.store(outputs, "w4a4_model", stored)


W4_MODEL = [
    *_forged(
        "w4_model",
        nearest=_rounded_to_nearest,
        not_packed=_tensors(
            "w4_model",
            _every(".weight", lambda w: torch.stack([w & 15, w >> 4], 1).flatten()),
        ),
        halves_swapped=_tensors("w4_model", _every(".weight", lambda w: (w << 4) | (w >> 4))),
        float_weights=_tensors("w4_model", _every(".weight", torch.Tensor.float)),
        another_code=_tensors("w4_model", _set(conv2__weight=lambda w: w ^ 4)),
        layer_missing=_tensors("w4_model", lambda stored: stored.pop("classifier.weight")),
        all_zero=_tensors("w4_model", _every(".weight", torch.zeros_like)),
    )
]

W4A4_MODEL = _forged(
    "w4a4_model",
    untrained=_untrained,
    not_packed=_tensors(
        "w4a4_model", _every(".weight", lambda w: torch.stack([w & 15, w >> 4], 1).flatten())
    ),
    code_of_minus_eight=_tensors(
        "w4a4_model", _set(conv3__weight=lambda w: torch.full_like(w, 0x88))
    ),
    zero_point_of_eight_bits=_tensors("w4a4_model", _every(".zero_point", lambda z: z * 0 - 128)),
    another_scale=_tensors("w4a4_model", _every(".shift", lambda n: n + 1)),
    float_weights=_tensors("w4a4_model", _every(".weight", torch.Tensor.float)),
    nan_scale=_nan("w4a4_model"),
    halves_swapped=_tensors("w4a4_model", _every(".weight", lambda w: (w << 4) | (w >> 4))),
)

# --- the kernel ----------------------------------------------------------------------------------

LOOP = """
#include <stdint.h>
void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum = 0;
            for (int p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
            c[i * n + j] = sum;
        }
}
"""


def _source(text: str) -> Callable[[Path], None]:
    return lambda outputs: artifacts.store(outputs, "int8_gemm", text)


def _reference(old: str, new: str) -> Callable[[Path], None]:
    """The reference kernel with one part of its text replaced."""

    def forge(outputs: Path) -> None:
        text = artifacts.fetch(outputs, "int8_gemm")
        if old not in text:
            raise ValueError(f"{old!r} is not in the reference kernel")
        artifacts.store(outputs, "int8_gemm", text.replace(old, new))

    return forge


INT8_GEMM = _forged(
    "int8_gemm",
    as_handed_out=_source(LOOP),
    in_fp32=_source(LOOP.replace("int32_t sum", "float sum")),
    nothing=_source(LOOP.split("{")[0] + "{}"),
    no_c=_source("int8_gemm = numpy.matmul"),
    another_function=_source(LOOP.replace("int8_gemm", "gemm")),
    another_peer=_source(native.shipped("fp32_gemm")),
    int16_sums=_source(LOOP.replace("int32_t sum", "int16_t sum")),
    one_product_less=_source(LOOP.replace("p < k", "p < k - 1")),
    one_product_more=_source(LOOP.replace("p < k", "p <= k")),
    writes_beyond=_source(
        LOOP.replace("c[i * n + j] = sum;", "c[i * n + j] = sum; c[m * n] = sum;")
    ),
    endless=_source(LOOP.replace("i < m; i++", "i < m; i += 0")),
    asks_the_system=_reference(
        "const __m256i ones",
        '__asm__ volatile("syscall" : : "a"(39L) : "rcx", "r11");\n    const __m256i ones',
    ),
    ends_early=_reference(
        "const __m256i ones",
        '__asm__ volatile("syscall" : : "a"(60L), "D"(0L) : "rcx", "r11");\n    const __m256i ones',
    ),
    saturates=_reference("_mm256_maddubs_epi16(size, y)", "_mm256_maddubs_epi16(x, y)"),
    without_signs=_reference(
        "_mm256_sign_epi8(load(b + (j + v) * k + p), x)", "load(b + (j + v) * k + p)"
    ),
    transposed=_reference("c[(i + u) * n + j + v] =", "c[(j + v) * m + i + u] ="),
    half_of_the_products=_reference("p += STEP", "p += 2 * STEP"),
)

MUTANTS = [
    *CODEBOOKS,
    *LINEAR_QUANTIZATION,
    *CALIBRATION,
    *FOLDING,
    *REQUANTIZATION,
    *LAYERS,
    *INT8_MODEL,
    *ROUNDING,
    *W4_MODEL,
    *FAKE,
    *W4A4_MODEL,
    *INT8_GEMM,
]
