"""Mutants of the patch schedule: halo, padding or order of layers is wrong."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed

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


MUTANTS = changed(
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
    rows_as_if_padded_the_same=(
        "(rows[-1] + 2 * padding - kernel) // stride + 1",
        "-(-rows[-1] // stride)",
    ),
    rows_of_the_same_padding=(
        "(rows[-1] + 2 * padding - kernel) // stride + 1",
        "(rows[-1] - 1) // stride + 1",
    ),
    padding_of_half_a_kernel=(
        "first, last = a * stride - padding, (b - 1) * stride - padding + kernel",
        "padding = kernel // 2\n            "
        "first, last = a * stride - padding, (b - 1) * stride - padding + kernel",
    ),
    ends_by_the_padding=("(b - 1) * stride - padding + kernel", "(b - 1) * stride + padding + 1"),
    ends_by_the_stride=("(b - 1) * stride - padding + kernel", "b * stride + padding"),
    ends_by_the_start=("(b - 1) * stride - padding + kernel", "b * stride - padding + kernel - 1"),
    rows_rounded_up=(
        "(rows[-1] + 2 * padding - kernel) // stride",
        "-(-(rows[-1] + 2 * padding - kernel) // stride)",
    ),
    strips_of_one_height=(
        "a, b = i * rows[-1] // patches, (i + 1) * rows[-1] // patches",
        "a, b = i * (rows[-1] // patches), (i + 1) * (rows[-1] // patches)",
    ),
    padding_at_most_one=("(a, b, a - first, last - b)", "(a, b, min(a - first, 1), last - b)"),
    whole_image_each_time=(
        "a, b = i * rows[-1] // patches, (i + 1) * rows[-1] // patches",
        "a, b = 0, rows[-1]",
    ),
)
