"""Mutants of the generator and of the whole firmware: wrong calls, cheats, wasted memory."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import torch

from autograder.contract import artifacts, held_out
from autograder.labs.lab5_tinyml.checks.firmware import reference_network
from autograder.labs.lab5_tinyml.checks.kernels import KERNELS, LOOPS
from autograder.labs.lab5_tinyml.mutants.kernels import numbers
from autograder.proof.mutants import changed, edited, forged, stored, wrong

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
