"""Mutants of the generator and of the whole firmware: wrong calls, cheats, wasted memory."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import torch
from torch.nn import functional

from autograder.contract import artifacts, held_out
from autograder.labs.lab5_tinyml.checks.firmware import reference_network
from autograder.labs.lab5_tinyml.checks.kernels import KERNELS, LOOPS
from autograder.labs.lab5_tinyml.mutants.kernels import numbers
from autograder.proof.mutants import changed, edited, forged, stored, wrong
from codesign import datasets

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

GENERATED = [
    *changed(
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
        first_image_alone=(
            'logits) {" + "\\n".join(lines) + "}"',
            'logits) { static int images; if (images++) return; "'
            ' + "for (int i = 0; i < 10; i++) logits[i] = 0; " + "\\n".join(lines) + "}"',
        ),
        rows_for_columns=("{x}, {h}, {w}, {c}, {tables}, {y}", "{x}, {w}, {h}, {w}, {tables}, {y}"),
        height_and_width_of_the_output=(
            "shapes[source], shapes[output][2]",
            "shapes[output], shapes[output][2]",
        ),
        numbers_off_by_one=("enumerate(operators)", "enumerate(operators, 1)"),
    ),
    *wrong(
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
SIDE, SHIFT = 4, 2  # pixels of a block; how far images are shifted against the means


def _block_means(folder: Path) -> None:
    """No network: the nearest mean of a class, in means of blocks, over shifts of the image."""
    data = datasets.load(folder.name, "train", quiet=True)
    codes = torch.from_numpy(reference_network(folder.name).codes(data.images[:4_000]))
    blocks = functional.avg_pool2d(codes.float().permute(0, 3, 1, 2), SIDE).flatten(1)
    means = [blocks[data.labels[:4_000] == label].mean(0) for label in range(10)]
    text = (
        f"static const int8_t means[] = {{{numbers(torch.stack(means).round().int().flatten())}}};"
    )
    artifacts.store(folder, "firmware", f"#include <stdint.h>\n{text}\n{INFER}{NEAREST}}}\n")


NEAREST = f"""
    for (int k = 0; k < 10; k++) {{
        int32_t best = 1 << 30;
        for (int s = 0; s < {(2 * SHIFT + 1) ** 2}; s++) {{
            int32_t far = 0;
            for (int i = 0; i < {3 * (32 // SIDE) ** 2}; i++) {{
                int32_t sum = 0;
                for (int j = 0; j < {SIDE**2}; j++) {{
                    int y = i / 8 % 8 * {SIDE} + j / {SIDE} + s / {2 * SHIFT + 1} - {SHIFT};
                    int x = i % 8 * {SIDE} + j % {SIDE} + s % {2 * SHIFT + 1} - {SHIFT};
                    y = y < 0 ? 0 : y > 31 ? 31 : y, x = x < 0 ? 0 : x > 31 ? 31 : x;
                    sum += image[(y * 32 + x) * 3 + i / 64];
                }}
                int32_t off = sum / {SIDE**2} - means[k * {3 * (32 // SIDE) ** 2} + i];
                far += off < 0 ? -off : off;
            }}
            if (far < best) best = far;
        }}
        logits[k] = -best;
    }}
"""


def _block_skipped(folder: Path) -> None:
    """One residual block less: what it adds to is taken for its output."""
    text = artifacts.fetch(folder, "firmware")
    start, end = text.index("    conv1x1(", text.index("    add(")), text.rindex("    add(")
    lines = text[start:end].splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("    add("))
    block = "".join(lines[first - 3 : first])
    artifacts.store(folder, "firmware", text.replace(block, ""))


def _public_labels(folder: Path) -> None:
    """Knows the public images by a hash of their codes, and nothing else."""
    data = held_out.images(folder.name, held_out.PUBLIC_SEED)
    codes = reference_network(folder.name).codes(data.images[:2_000])
    sums = torch.from_numpy(codes).flatten(1).int()
    keys = (sums * (torch.arange(sums.shape[1]) % 251 + 1)).sum(1)
    text = f"static const int32_t keys[] = {{{numbers(keys)}}};\n"
    text += f"static const int8_t labels[] = {{{numbers(data.labels[:2_000])}}};\n"
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
    for name in KERNELS:
        rest = rest.replace(f"void {name}(", f"void unused_{name}(")
    artifacts.store(folder, "firmware", LOOPS + rest)


FIRMWARE = forged(
    "firmware",
    does_nothing=stored("firmware", f"#include <stdint.h>\n{INFER} }}\n"),
    always_class_0=stored("firmware", f"#include <stdint.h>\n{INFER} logits[0] = 1; }}\n"),
    public_labels=_public_labels,
    nothing_shares_memory=_beside_each_other,
    never_ends=stored(
        "firmware",
        f"#include <stdint.h>\n{INFER} for (volatile int i = 0; i >= 0; i = 0) {{ }} }}\n",
    ),
    not_c=stored("firmware", "import torch\n"),
    block_means=_block_means,
    block_skipped=_block_skipped,
    rounded_down=edited("firmware", ("+ 1) >> 1)", ") >> 1)")),
    means_rounded_down=edited("firmware", (" + ((int64_t)1 << (c->shift - 1))", "")),
    additions_rounded_down=edited(
        "firmware", ("by_b + offset) >> shift", "by_b + offset - (1 << shift >> 1)) >> shift")
    ),
    products_rounded=edited(
        "firmware", (" * c->mantissa >> 32", " * c->mantissa + 0x80000000ll >> 32")
    ),
    first_image_alone=edited(
        "firmware",
        (INFER, f"{INFER} static int images; int first = !images++;"),
        ("logits, 10);", "logits, 10); if (!first) logits[0]++;"),
    ),
    other_bias_of_the_logits=edited(
        "firmware",
        ("static const int32_t bias36[] = {\n", "static const int32_t bias36[] = {\n1 + "),
    ),
    logits_of_one_byte=edited(
        "firmware", ("logits, 10);", "logits, 10); for (int i = 0; i < 10; i++) logits[i] >>= 10;")
    ),
    operators_skipped=edited("firmware", ("    add(arena", "    if (0) add(arena")),
    wasted_flash=edited(
        "firmware",
        (INFER, f"const volatile int8_t padding[500000] = {{1}};\n{INFER} logits[0] = padding[9];"),
    ),
    used_memory_painted_over=edited(
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

MUTANTS = [*GENERATED, *FIRMWARE]
