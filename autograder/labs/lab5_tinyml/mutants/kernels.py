"""Mutants of the three kernels: the reference with one thing wrong, and texts of other kinds."""

from __future__ import annotations

import torch

from autograder.contract import artifacts, held_out
from autograder.contract.checking import Cases
from autograder.labs.lab5_tinyml.checks.kernel_answers import expected
from autograder.labs.lab5_tinyml.checks.kernel_cases import LOOPS, drawn
from autograder.proof.mutants import Forge, Mutant, edited, forged, stored


def _loop(name: str) -> str:
    """The function that the lab hands out, as if somebody had written it."""
    start = LOOPS.index(f"void {name}(")
    return LOOPS[start : LOOPS.index("#endif", start)]


def _nothing(name: str) -> str:
    """The function with an empty body."""
    start = LOOPS.index(f"void {name}(")
    return LOOPS[start : LOOPS.index("{", start)] + "{ }\n"


def _with_body(name: str, body: str) -> str:
    return _nothing(name).replace("{ }", f"{{ {body} }}")


ENDLESS = "for (volatile int i = 0; i >= 0; i = 0) { }"
HIGH = "int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);"
CODE = "(high >> (c->shift - 33)) + 1) >> 1"
PRODUCT = "((int64_t)sum * c->mantissa + ((int64_t)1 << (c->shift - 1))"
TOUCHED = "rows[zero_in + 128] = rows[1999] = 1;"
FIRST = {  # of each function's body
    "conv1x1": "uint32_t zero =",
    "depthwise": "int wide =",
    "conv3x3": "uint32_t *ring = (",
}
WASTE = "static int8_t more[300000]; for (int i = 0; i < 300000; i++) more[i]++;"


def _public_answers(name: str) -> str:
    """Writes what the public cases of this check expect, whatever it is given."""
    texts, tests = [], []
    to, key = ("data", "data") if name == "depthwise" else ("out", "in")
    for i, arguments in enumerate(drawn(Cases(name, "", held_out.PUBLIC_SEED), name)):
        answer = expected(name, arguments).flatten()
        first = arguments[0].flatten()[:8].tolist()
        texts.append(f"static const int8_t answer{i}[] = {{{numbers(answer)}}};")
        same = " && ".join(f"{key}[{j}] == {value}" for j, value in enumerate(first))
        copied = f"for (int j = 0; j < {len(answer)}; j++) {to}[j] = answer{i}[j];"
        tests.append(f"    if ({same}) {{ {copied} return; }}")
    body = "\n".join(tests)
    return "\n".join(texts) + "\n" + _with_body(name, body)


def numbers(values: torch.Tensor) -> str:
    """Initializer of a C array."""
    return ", ".join(map(str, values.tolist()))


def _common(name: str) -> list[Mutant]:
    """What is wrong alike in each of the three."""
    body = _nothing(name)
    return forged(
        name,
        the_loops_themselves=stored(name, _loop(name)),
        does_nothing=stored(name, body),
        never_ends=stored(name, _with_body(name, ENDLESS)),
        public_answers=stored(name, _public_answers(name)),
        not_c=stored(name, "def kernel(): return 0\n"),
        another_name=stored(name, body.replace(f"void {name}(", "void other(")),
        asks_the_system=stored(name, _with_body(name, '__asm__ volatile("svc 0");')),
        jumps_out=stored(name, _with_body(name, "((void (*)(void))0x60000001)();")),
        too_much_memory=stored(name, _with_body(name, WASTE)),
        needs_a_library=stored(name, _with_body(name, 'extern int puts(const char *); puts("1");')),
        a_table_instead=lambda folder: artifacts.store(folder, name, {"cycles": 1}),
        int16_accumulator=edited(name, *INT16[name]),
        rounded_down=edited(name, ("+ 1) >> 1)", ") >> 1)")),
        not_requantized=edited(
            name,
            (
                "int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);",
                "int32_t high = sum << (c->shift - 32);",
            ),
        ),
        zero_out_forgotten=edited(name, (">> 1) + zero_out, 8)", ">> 1), 8)")),
        wraps_instead_of_clamping=edited(
            name, ("(int8_t)__ssat((", "(int8_t)(("), (">> 1) + zero_out, 8)", ">> 1) + zero_out)")
        ),
        bias_forgotten=edited(name, *BIAS[name]),
        bias_of_16_bits=edited(name, *((old, BIAS_16[name]) for old, _ in BIAS[name])),
        ties_downwards=_requantized(name, f"{PRODUCT} - 1) >> c->shift"),
        ties_away_from_zero=_requantized(name, f"{PRODUCT} - (sum < 0)) >> c->shift"),
        ties_to_even=_requantized(
            name, f"{PRODUCT} - !((int64_t)sum * c->mantissa >> c->shift & 1)) >> c->shift"
        ),
        rounded_twice=edited(name, (" * c->mantissa >> 32", " * c->mantissa + 0x80000000ll >> 32")),
        shifts_up_to_48=edited(name, ("(c->shift - 33)", "(c->shift > 48 ? 15 : c->shift - 33)")),
        shifts_from_36=edited(name, ("(c->shift - 33)", "(c->shift < 36 ? 3 : c->shift - 33)")),
        first_call_alone=edited(name, *FIRST_CALL[name]),
        rows_in_static_memory=edited(
            name, (FIRST[name], f"static volatile int8_t rows[2000]; {TOUCHED} {FIRST[name]}")
        ),
        rows_on_the_stack=edited(
            name, (FIRST[name], f"volatile int8_t rows[2000]; {TOUCHED} {FIRST[name]}")
        ),
    )


def _requantized(name: str, code: str) -> Forge:
    """The reference with ``code`` for the value that is clamped, without the zero point."""
    return edited(name, (HIGH, ""), (f"(({CODE})", f"((int32_t)({code}))"))


SUMS = "int32_t a = 0, b = 0, c = 0, d = 0;"
INT16 = {
    "conv1x1": [(SUMS, SUMS.replace("int32_t", "int16_t"))],
    "conv3x3": [(SUMS, SUMS.replace("int32_t", "int16_t"))],
    "depthwise": [("depthwise_out(sum[0],", "depthwise_out((int16_t)sum[0],")],
}
BIAS = {
    "conv1x1": [("c->bias + sum[i]", "sum[i]")],
    "conv3x3": [("c->bias + sum[i]", "sum[i]")],
    "depthwise": [("{channel->bias, channel->bias}", "{0, 0}")],
}

BIAS_16 = {
    "conv1x1": "(int16_t)c->bias + sum[i]",
    "conv3x3": "(int16_t)c->bias + sum[i]",
    "depthwise": "{(int16_t)channel->bias, (int16_t)channel->bias}",
}
ONCE = "static int ready; if (!ready++)"  # what it prepares is there in its first call alone
FIRST_CALL = {
    "conv1x1": [
        (
            "const Channel *c = &channel[",
            "static const Channel *kept; if (!kept) kept = channel; const Channel *c = &kept[",
        )
    ],
    "conv3x3": [
        (
            "    for (int i = 0; i < (width + 2) * channels / 2; i++) to[i] = 0;\n",
            "    static int ready; if (ready++ < 3)\n"
            "        for (int i = 0; i < (width + 2) * channels / 2; i++) to[i] = 0;\n",
        )
    ],
    "depthwise": [
        (
            "for (int i = 0; i < (height + 2) * wide; i++) scratch",
            f"{ONCE} for (int i = 0; i < (height + 2) * wide; i++) scratch",
        )
    ],
}

COUNT = "int i = channels / 4;"
CONV1X1 = forged(
    "conv1x1",
    channels_in_groups_of_eight=edited(
        "conv1x1",
        (COUNT, "int i = channels > 8 ? channels / 8 * 2 : channels / 4;"),
    ),
    channels_20_and_28_cut=edited(
        "conv1x1",
        (COUNT, f"{COUNT[:-1]} - (channels == 20 || channels == 28);"),
    ),
    reads_past_the_input=edited("conv1x1", ("(1 + two) * channels / 4", "2 * channels / 4")),
    last_pixel_lost=edited("conv1x1", ("p < pixels;", "p + 1 < pixels;")),
    writes_past_the_output=edited("conv1x1", ("i < 2 + 2 * two", "i < 4")),
    zero_in_forgotten=edited("conv1x1", ("(uint16_t)zero_in * 0x10001u", "0")),
    second_output_is_the_first=edited("conv1x1", ("(w + channels)", "(w)")),
    bytes_not_paired=edited("conv1x1", ("v1 = __sxtb16(__ror(v, 8))", "v1 = __sxtb16(v)")),
    unsigned_weights=edited("conv1x1", ("uint32_t v0 = __sxtb16(v)", "uint32_t v0 = __uxtb16(v)")),
    one_group_less=edited("conv1x1", (COUNT, "int i = channels / 4 - 1;")),
    saturates_its_inputs=edited(
        "conv1x1",
        ("__ssub16(__sxtb16(from[i]), zero)", "__sxtb16(__qsub8(from[i], zero & 0xff00ff00u))"),
    ),
    overwrites_the_input=edited(
        "conv1x1",
        (
            "int two = p + 1 < pixels;",
            "int two = p + 1 < pixels; ((int8_t *)in)[p * channels] ^= p > 0;",
        ),
    ),
)
DEPTHWISE = forged(
    "depthwise",
    padding_never_cleared=edited(
        "depthwise", ("for (int i = 0; i < (height + 2) * wide; i++) scratch[i] = 0;", "")
    ),
    square_images_alone=edited("depthwise", ("y < out_h", "y < out_w")),
    as_high_as_wide=edited("depthwise", ("wide = (width + 4) & ~1", "wide = (height + 4) & ~1")),
    one_column_is_none=edited("depthwise", ("x < out_w;", "x < out_w - (out_w == 1);")),
    odd_sides_rounded_down=edited(
        "depthwise",
        ("(height + stride - 1) / stride", "(height > 1 ? height : stride) / stride"),
    ),
    off_by_one_at_the_border=edited("depthwise", ("(y + 1) * wide + x + 1", "(y + 1) * wide + x")),
    padded_with_zero_codes=edited(
        "depthwise", ("scratch[i] = 0", "scratch[i] = (int16_t)-zero_in")
    ),
    other_channels_overwritten=edited(
        "depthwise", ("int8_t *out = data + c;", "int8_t *out = data + c * height * width;")
    ),
    written_while_it_is_read=stored(
        "depthwise",
        _loop("depthwise").replace(
            "scratch[row * width + column]", "data[(row * width + column) * channels + c]"
        ),
    ),
    stride_ignored=edited("depthwise", ("y * stride * wide + x * stride", "y * wide + x")),
    last_column_lost=edited("depthwise", ("x + 1 < out_w", "x + 2 < out_w")),
    scratch_too_large=edited(
        "depthwise", ("i < (height + 2) * wide", "i < (height + 4) * (wide + 4)")
    ),
    middle_weight_twice=edited(
        "depthwise",
        ("row[channels] | row[2 * channels] << 16", "row[channels] | row[channels] << 16"),
    ),
    kernel_transposed=edited(
        "depthwise", ("weight + 3 * k * channels + c", "weight + k * channels + c")
    ),
)
CONV3X3 = forged(
    "conv3x3",
    padding_never_cleared=edited(
        "conv3x3",
        ("    for (int i = 0; i < (width + 2) * channels / 2; i++) to[i] = 0;\n", ""),
    ),
    channels_20_and_28_cut=edited(
        "conv3x3",
        (
            "int i = 3 * channels / 4;",
            "int i = 3 * channels / 4 - (channels == 20 || channels == 28);",
        ),
    ),
    square_images_alone=edited("conv3x3", ("y < height; y++", "y < width; y++")),
    one_row_is_none=edited("conv3x3", ("y < height; y++", "y < height - (height == 1); y++")),
    off_by_one_at_the_border=edited(
        "conv3x3", ("if (row < 0 || row >= height) return;", "if (row < 0) return;")
    ),
    padded_with_zero_codes=edited("conv3x3", ("to[i] = 0;", "to[i] = __ssub16(0, pair);")),
    no_padding_at_the_sides=edited("conv3x3", ("    to += channels / 2;\n", "")),
    ring_too_short=edited("conv3x3", ("ring + (y + 1) % 3 * row", "ring + (y + 1) % 2 * row")),
    rows_in_wrong_order=edited("conv3x3", ("(y + k + 2) % 3", "(y + 2 - k + 2) % 3")),
    odd_width_lost=edited("conv3x3", ("x + 1 < width ? x : width - 2", "x + 1 < width ? x : 0")),
    second_output_is_the_first=edited("conv3x3", ("(w + 9 * channels)", "(w)")),
    one_row_of_the_kernel_lost=edited(
        "conv3x3",
        (
            "for (int k = 0; k < 3; k++) {\n        const uint32_t *x",
            "for (int k = 0; k < 2; k++) {\n        const uint32_t *x",
        ),
    ),
    writes_past_the_scratch=edited(
        "conv3x3", ("i < (width + 2) * channels / 2", "i < (width + 3) * channels / 2")
    ),
)

MUTANTS = [
    *_common("conv1x1"),
    *CONV1X1,
    *_common("depthwise"),
    *DEPTHWISE,
    *_common("conv3x3"),
    *CONV3X3,
]
