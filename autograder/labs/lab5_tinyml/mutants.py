"""Wrong answers to Lab 5. Each must lose points in its own check and in no other.

Most are a right answer with one thing wrong: ``_changed`` replaces a part of a cell, ``_edited`` a
part of the C that the reference handed in. Forgeries alter a copy of the reference artifacts in
``outputs/<dataset>``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import torch

from autograder.contract import artifacts, held_out
from autograder.contract.checking import Cases
from autograder.labs.lab5_tinyml import checks
from autograder.proof.mutants import Mutant

LAB = "lab5_tinyml"


def _changed(check: str, right: str, **changes: tuple[str, str]) -> list[Mutant]:
    """Mutants of the solution cell of ``check``: name = (part of the right answer, instead)."""
    sources = {}
    for how, (part, instead) in changes.items():
        if right.count(part) != 1:
            raise ValueError(f"{check}: {part!r} occurs {right.count(part)} times, once is needed")
        sources[how] = right.replace(part, instead)
    return _wrong(check, **sources)


def _wrong(check: str, **sources: str) -> list[Mutant]:
    """Mutants of the solution cell of ``check``: name = source."""
    return [
        Mutant(f"{check}: {how}", check, f"solution_{check}", dedent(text))
        for how, text in sources.items()
    ]


def _forged(name: str, **forgeries: Callable[[Path], None]) -> list[Mutant]:
    """Mutants of one artifact, which carries the name of its check."""
    return [
        Mutant(f"{name}: {how}", name, artifact=name, forge=forge)
        for how, forge in forgeries.items()
    ]


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: artifacts.store(folder, name, text)


def _edited(name: str, *parts: tuple[str, str]) -> Callable[[Path], None]:
    """The reference's C with some parts replaced, each of which occurs."""

    def forge(folder: Path) -> None:
        text = artifacts.fetch(folder, name)
        for part, instead in parts:
            if part not in text:
                raise ValueError(f"{name}: {part!r} does not occur")
            text = text.replace(part, instead)
        artifacts.store(folder, name, text)

    return forge


# --- planning ------------------------------------------------------------------------------------

PEAK = dedent("""
    def peak_memory(operators, sizes):
        peaks = []
        for i, row in enumerate(operators):
            written = {before["output"] for before in operators[:i]}
            read = {name for later in operators[i:] for name in later["inputs"]}
            alive = written & read | {row["output"]}
            peaks.append(sum(sizes.get(name, 0) for name in alive))
        return peaks
    """)
PLAN = dedent("""
    def plan_memory(operators, sizes, in_place):
        first, last, home = {}, {}, {}
        for i, row in enumerate(operators):
            name = row["output"]
            home[name] = home[row["inputs"][0]] if i in in_place else name
            for touched in [name, *row["inputs"]]:
                if touched in sizes:
                    first.setdefault(home[touched], i)
                    last[home[touched]] = i
        size = {h: max(n for t, n in sizes.items() if home[t] == h) for h in first}
        at = {}
        for one in sorted(size, key=lambda h: -size[h]):
            taken = sorted(
                (at[o], at[o] + (size[o] + 3) // 4 * 4)
                for o in at
                if first[o] <= last[one] and last[o] >= first[one]
            )
            start = 0
            for low, high in taken:
                if start + size[one] <= low:
                    break
                start = max(start, high)
            at[one] = start
        return {name: at[home[name]] for name in sizes}
    """)
SCHEDULE = dedent("""
    def patch_schedule(layers, size, patches):
        rows = [size]
        for kernel, stride, padding in layers:
            rows.append((rows[-1] + 2 * padding - kernel) // stride + 1)
        schedule = []
        for i in range(patches):
            a, b = i * rows[-1] // patches, (i + 1) * rows[-1] // patches
            found = []
            for (kernel, stride, padding), height in zip(layers[::-1], rows[-2::-1]):
                first, last = a * stride - padding, (b - 1) * stride - padding + kernel
                a, b = max(first, 0), min(last, height)
                found.append((a, b, a - first, last - b))
            schedule.append(found[::-1])
        return schedule
    """)

PLANNING = [
    *_changed(
        "peak_memory",
        PEAK,
        input_not_counted=("operators[i:]", "operators[i + 1 :]"),
        output_not_counted=('| {row["output"]}', ""),
        never_freed=("written & read", "written"),
        inputs_and_output_only=("written & read", "set(row['inputs'])"),
        one_operator_longer=("operators[i:]", "operators[max(i - 1, 0) :]"),
        floats=("peaks.append(sum(", "peaks.append(1.0 * sum("),
        largest_tensor=("sum(sizes.get(name, 0) for name in alive)", "max(sizes.values())"),
    ),
    *_wrong(
        "peak_memory",
        the_peak_alone="""
            def peak_memory(operators, sizes):
                return sum(sorted(sizes.values())[-2:])
            """,
        returns_none="""
            def peak_memory(operators, sizes):
                pass
            """,
    ),
    *_changed(
        "plan_memory",
        PLAN,
        one_byte_overlap=("at[o] + (size[o] + 3) // 4 * 4", "at[o] + max(size[o] - 1, 1)"),
        not_in_words=("(size[o] + 3) // 4 * 4", "size[o]"),
        ends_at_its_last_reader=("first[o] <= last[one]", "first[o] < last[one]"),
        nothing_in_place=(
            'home[row["inputs"][0]] if i in in_place else name',
            "name",
        ),
        everything_in_place=(
            "if i in in_place else name",
            "if i and row['inputs'][0] in sizes else name",
        ),
        all_at_zero=("at[one] = start", "at[one] = 0"),
        behind_each_other=("if first[o] <= last[one] and last[o] >= first[one]", ""),
        as_they_come=("sorted(size, key=lambda h: -size[h])", "size"),
        smallest_first=("-size[h]", "size[h]"),
        inputs_are_dead=('[name, *row["inputs"]]', "[name]"),
        one_missing=(
            "return {name: at[home[name]] for name in sizes}",
            "return {name: at[home[name]] for name in list(sizes)[1:]}",
        ),
        negative=("at[home[name]] for", "at[home[name]] - 4 for"),
    ),
    *_changed(
        "patch_schedule",
        SCHEDULE,
        no_halo=(
            "(b - 1) * stride - padding + kernel\n",
            "b * stride\n            first = a * stride\n",
        ),
        halo_of_one_side=("first, last = a * stride - padding", "first, last = a * stride"),
        padded_everywhere=("(a, b, a - first, last - b)", "(a, b, padding, padding)"),
        never_padded=("(a, b, a - first, last - b)", "(a, b, 0, 0)"),
        stride_forgotten=("(b - 1) * stride", "(b - 1)"),
        from_first_to_last=("zip(layers[::-1], rows[-2::-1])", "zip(layers, rows)"),
        one_row_more=("min(last, height)", "min(last + 1, height)"),
        rounded_up=("i * rows[-1] // patches,", "-(-i * rows[-1] // patches),"),
        layers_reversed=("found[::-1]", "found"),
        whole_image_each_time=(
            "a, b = i * rows[-1] // patches, (i + 1) * rows[-1] // patches",
            "a, b = 0, rows[-1]",
        ),
    ),
]

# --- kernels -------------------------------------------------------------------------------------

LOOPS = checks.GIVEN


def _loop(name: str) -> str:
    """The function that the lab hands out, as if somebody had written it."""
    start = LOOPS.index(f"void {name}(")
    return LOOPS[start : LOOPS.index("#endif", start)]


def _nothing(name: str) -> str:
    start = LOOPS.index(f"void {name}(")
    return LOOPS[start : LOOPS.index("{", start)] + "{ }\n"


def _with_body(name: str, body: str) -> str:
    return _nothing(name).replace("{ }", f"{{ {body} }}")


ENDLESS = "for (volatile int i = 0; i >= 0; i = 0) { }"
WASTE = "static int8_t more[300000]; for (int i = 0; i < 300000; i++) more[i]++;"


def _public_answers(name: str) -> str:
    """Writes what the public cases of this check expect, whatever it is given."""
    cases = Cases(name, "", held_out.PUBLIC_SEED)
    drawn = [
        checks._arguments(cases, name, shape, extreme)
        for shape in checks.SMALL[name]
        for extreme in (0, 1)
    ]
    drawn += [checks._arguments(cases, name, shape, 0) for shape in checks.USUAL[name]]
    texts, tests = [], []
    to, key = ("data", "data") if name == "depthwise" else ("out", "in")
    for i, arguments in enumerate(drawn):
        answer = checks._expected(name, arguments).flatten()
        first = arguments[0].flatten()[:8].tolist()
        texts.append(f"static const int8_t answer{i}[] = {{{_numbers(answer)}}};")
        same = " && ".join(f"{key}[{j}] == {value}" for j, value in enumerate(first))
        copied = f"for (int j = 0; j < {len(answer)}; j++) {to}[j] = answer{i}[j];"
        tests.append(f"    if ({same}) {{ {copied} return; }}")
    body = "\n".join(tests)
    return "\n".join(texts) + "\n" + _with_body(name, body)


def _numbers(values: torch.Tensor) -> str:
    return ", ".join(map(str, values.tolist()))


def _common(name: str) -> list[Mutant]:
    """What is wrong alike in each of the three."""
    body = _nothing(name)
    return _forged(
        name,
        the_loops_themselves=_text(name, _loop(name)),
        does_nothing=_text(name, body),
        never_ends=_text(name, _with_body(name, ENDLESS)),
        public_answers=_text(name, _public_answers(name)),
        not_c=_text(name, "def kernel(): return 0\n"),
        another_name=_text(name, body.replace(f"void {name}(", "void other(")),
        asks_the_system=_text(name, _with_body(name, '__asm__ volatile("svc 0");')),
        jumps_out=_text(name, _with_body(name, "((void (*)(void))0x60000001)();")),
        too_much_memory=_text(name, _with_body(name, WASTE)),
        needs_a_library=_text(name, _with_body(name, 'extern int puts(const char *); puts("1");')),
        a_table_instead=lambda folder: artifacts.store(folder, name, {"cycles": 1}),
        int16_accumulator=_edited(name, *INT16[name]),
        rounded_down=_edited(name, ("+ 1) >> 1)", ") >> 1)")),
        not_requantized=_edited(
            name,
            (
                "int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);",
                "int32_t high = sum << (c->shift - 32);",
            ),
        ),
        zero_out_forgotten=_edited(name, (">> 1) + zero_out, 8)", ">> 1), 8)")),
        wraps_instead_of_clamping=_edited(
            name, ("(int8_t)__ssat((", "(int8_t)(("), (">> 1) + zero_out, 8)", ">> 1) + zero_out)")
        ),
        bias_forgotten=_edited(name, *BIAS[name]),
    )


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

CONV1X1 = _forged(
    "conv1x1",
    reads_past_the_input=_edited("conv1x1", ("(1 + two) * channels / 4", "2 * channels / 4")),
    last_pixel_lost=_edited("conv1x1", ("p < pixels;", "p + 1 < pixels;")),
    writes_past_the_output=_edited("conv1x1", ("i < 2 + 2 * two", "i < 4")),
    zero_in_forgotten=_edited("conv1x1", ("(uint16_t)zero_in * 0x10001u", "0")),
    second_output_is_the_first=_edited("conv1x1", ("(w + channels)", "(w)")),
    bytes_not_paired=_edited("conv1x1", ("v1 = __sxtb16(__ror(v, 8))", "v1 = __sxtb16(v)")),
    unsigned_weights=_edited("conv1x1", ("uint32_t v0 = __sxtb16(v)", "uint32_t v0 = __uxtb16(v)")),
    one_group_less=_edited("conv1x1", ("int i = channels / 4;", "int i = channels / 4 - 1;")),
    saturates_its_inputs=_edited(
        "conv1x1",
        ("__ssub16(__sxtb16(from[i]), zero)", "__sxtb16(__qsub8(from[i], zero & 0xff00ff00u))"),
    ),
    overwrites_the_input=_edited(
        "conv1x1",
        (
            "int two = p + 1 < pixels;",
            "int two = p + 1 < pixels; ((int8_t *)in)[p * channels] ^= p > 0;",
        ),
    ),
)
DEPTHWISE = _forged(
    "depthwise",
    off_by_one_at_the_border=_edited("depthwise", ("(y + 1) * wide + x + 1", "(y + 1) * wide + x")),
    padded_with_zero_codes=_edited(
        "depthwise", ("scratch[i] = 0", "scratch[i] = (int16_t)-zero_in")
    ),
    other_channels_overwritten=_edited(
        "depthwise", ("int8_t *out = data + c;", "int8_t *out = data + c * height * width;")
    ),
    written_while_it_is_read=_text(
        "depthwise",
        _loop("depthwise").replace(
            "scratch[row * width + column]", "data[(row * width + column) * channels + c]"
        ),
    ),
    stride_ignored=_edited("depthwise", ("y * stride * wide + x * stride", "y * wide + x")),
    last_column_lost=_edited("depthwise", ("x + 1 < out_w", "x + 2 < out_w")),
    scratch_too_large=_edited(
        "depthwise", ("i < (height + 2) * wide", "i < (height + 4) * (wide + 4)")
    ),
    middle_weight_twice=_edited(
        "depthwise",
        ("row[channels] | row[2 * channels] << 16", "row[channels] | row[channels] << 16"),
    ),
    kernel_transposed=_edited(
        "depthwise", ("weight + 3 * k * channels + c", "weight + k * channels + c")
    ),
)
CONV3X3 = _forged(
    "conv3x3",
    off_by_one_at_the_border=_edited(
        "conv3x3", ("if (row < 0 || row >= height) return;", "if (row < 0) return;")
    ),
    padded_with_zero_codes=_edited("conv3x3", ("to[i] = 0;", "to[i] = __ssub16(0, pair);")),
    no_padding_at_the_sides=_edited("conv3x3", ("    to += channels / 2;\n", "")),
    ring_too_short=_edited("conv3x3", ("ring + (y + 1) % 3 * row", "ring + (y + 1) % 2 * row")),
    rows_in_wrong_order=_edited("conv3x3", ("(y + k + 2) % 3", "(y + 2 - k + 2) % 3")),
    odd_width_lost=_edited("conv3x3", ("x + 1 < width ? x : width - 2", "x + 1 < width ? x : 0")),
    second_output_is_the_first=_edited("conv3x3", ("(w + 9 * channels)", "(w)")),
    one_row_of_the_kernel_lost=_edited(
        "conv3x3",
        (
            "for (int k = 0; k < 3; k++) {\n        const uint32_t *x",
            "for (int k = 0; k < 2; k++) {\n        const uint32_t *x",
        ),
    ),
    writes_past_the_scratch=_edited(
        "conv3x3", ("i < (width + 2) * channels / 2", "i < (width + 3) * channels / 2")
    ),
)

# --- the program ---------------------------------------------------------------------------------

GENERATE = dedent("""
    def generate(operators, shapes, zeros, offsets):
        lines = []
        for i, row in enumerate(operators):
            kind, source, output = row["kind"], row["inputs"][0], row["output"]
            x = f"arena + {offsets[source]}" if source in offsets else "image"
            y = f"arena + {offsets[output]}" if output in offsets else "logits"
            (h, w, c), o = shapes[source], shapes[output][2]
            zx, zy = zeros[source], zeros[output]
            tables = f"weight{i}, channel{i}, {zx}, {zy}"
            if kind == "four_channels":
                lines.append(f"four_channels({x}, {h * w}, {zx}, {y});")
            if kind == "conv1x1":
                lines.append(f"conv1x1({x}, {h * w}, {c}, {tables}, {y}, {o}, scratch);")
            if kind == "conv3x3":
                lines.append(f"conv3x3({x}, {h}, {w}, {c}, {tables}, {y}, {o}, scratch);")
            if kind == "depthwise":
                if x != y:
                    lines.append(f"copy({x}, {y}, {h * w * c});")
                lines.append(f"depthwise({y}, {h}, {w}, {c}, {row['stride']}, {tables}, scratch);")
            if kind == "add":
                other, (by, of) = f"arena + {offsets[row['inputs'][1]]}", row["by"]
                tail = f"{h * w * c}, {by}, {of}, {row['offset']}, {row['shift']}"
                lines.append(f"add({x}, {other}, {y}, {tail});")
            if kind == "mean":
                lines.append(f"mean({x}, {h * w}, {c}, channel{i}, {zx}, {zy}, {y});")
            if kind == "linear":
                lines.append(f"linear({x}, {c}, weight{i}, bias{i}, {zx}, {y}, {o});")
        return "void infer(const int8_t *image, int32_t *logits) {" + "\\n".join(lines) + "}"
    """)

PROGRAM = [
    *_changed(
        "generate",
        GENERATE,
        never_copies=("if x != y:", "if False:"),
        additions_skipped=('lines.append(f"add({x}, {other}, {y}, {tail});")', "pass"),
        adds_itself=("offsets[row['inputs'][1]]", "offsets[source]"),
        stride_always_one=("{row['stride']}", "1"),
        zero_points_swapped=(
            "zx, zy = zeros[source], zeros[output]",
            "zy, zx = zeros[source], zeros[output]",
        ),
        own_memory=(
            '"void infer(const int8_t *image, int32_t *logits) {"',
            '"static int8_t mine[65536];\\nvoid infer(const int8_t *image, int32_t *logits) {"'
            ' + "for (int i = 0; i < 65536; i++) mine[i]++;"',
        ),
        height_and_width_of_the_output=(
            "shapes[source], shapes[output][2]",
            "shapes[output], shapes[output][2]",
        ),
        numbers_off_by_one=("enumerate(operators)", "enumerate(operators, 1)"),
    ),
    *_wrong(
        "generate",
        an_empty_function="""
            def generate(operators, shapes, zeros, offsets):
                return "void infer(const int8_t *image, int32_t *logits) { }"
            """,
        logits_of_another_network="""
            def generate(operators, shapes, zeros, offsets):
                body = "for (int i = 0; i < 10; i++) logits[i] = i;"
                return "void infer(const int8_t *image, int32_t *logits) { " + body + " }"
            """,
        returns_lines="""
            def generate(operators, shapes, zeros, offsets):
                return [row["kind"] for row in operators]
            """,
        runs_past_the_image="""
            def generate(operators, shapes, zeros, offsets):
                body = "for (int i = 0; ; i++) logits[i] = image[i];"
                return "void infer(const int8_t *image, int32_t *logits) { " + body + " }"
            """,
    ),
]

INFER = "void infer(const int8_t *image, int32_t *logits) {"


def _public_labels(folder: Path) -> None:
    """Knows the public images by a hash of their codes, and nothing else."""
    data = held_out.images(folder.name, held_out.PUBLIC_SEED)
    codes = checks.reference_network(folder.name).codes(data.images[:2_000])
    sums = torch.from_numpy(codes).flatten(1).int()
    keys = (sums * (torch.arange(sums.shape[1]) % 251 + 1)).sum(1)
    text = f"static const int32_t keys[] = {{{_numbers(keys)}}};\n"
    text += f"static const int8_t labels[] = {{{_numbers(data.labels[:2_000])}}};\n"
    body = "int32_t key = 0; for (int i = 0; i < 3072; i++) key += image[i] * (i % 251 + 1);"
    body += " for (int i = 0; i < 10; i++) logits[i] = 0;"
    body += f" for (int i = 0; i < {len(keys)}; i++) if (keys[i] == key) logits[labels[i]] = 1;"
    artifacts.store(folder, "firmware", f"#include <stdint.h>\n{text}{INFER} {body} }}\n")


def _beside_each_other(folder: Path) -> None:
    """No tensor shares memory with another one: the board's SRAM is too small."""
    text = artifacts.fetch(folder, "firmware")
    start = text.index("static int8_t arena[") + len("static int8_t arena[")
    end = text.index("]", start)
    artifacts.store(folder, "firmware", f"{text[:start]}430000{text[end:]}")


def _with_loops(folder: Path) -> None:
    """The program with the kernels that were handed out."""
    rest = artifacts.fetch(folder, "firmware").split(LOOPS)[1]
    for name in checks.KERNELS:
        rest = rest.replace(f"void {name}(", f"void unused_{name}(")
    artifacts.store(folder, "firmware", LOOPS + rest)


FIRMWARE = _forged(
    "firmware",
    does_nothing=_text("firmware", f"#include <stdint.h>\n{INFER} }}\n"),
    always_class_0=_text("firmware", f"#include <stdint.h>\n{INFER} logits[0] = 1; }}\n"),
    public_labels=_public_labels,
    nothing_shares_memory=_beside_each_other,
    never_ends=_text(
        "firmware",
        f"#include <stdint.h>\n{INFER} for (volatile int i = 0; i >= 0; i = 0) {{ }} }}\n",
    ),
    not_c=_text("firmware", "import torch\n"),
    operators_skipped=_edited("firmware", ("    add(arena", "    if (0) add(arena")),
    wasted_flash=_edited(
        "firmware",
        (INFER, f"const volatile int8_t padding[500000] = {{1}};\n{INFER} logits[0] = padding[9];"),
    ),
    used_memory_painted_over=_edited(
        "firmware",
        (
            INFER,
            f"{INFER} volatile uint32_t *free = (uint32_t *)0x20025000; uint32_t paint = free[-1];"
            " for (int i = 0; i < 12288; i++) free[i] = i;"
            " for (int i = 0; i < 12288; i++) free[i] = paint;",
        ),
    ),
    the_loops=_with_loops,
)

MUTANTS = [
    *PLANNING,
    *_common("conv1x1"),
    *CONV1X1,
    *_common("depthwise"),
    *DEPTHWISE,
    *_common("conv3x3"),
    *CONV3X3,
    *PROGRAM,
    *FIRMWARE,
]
