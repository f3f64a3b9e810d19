# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 5 · TinyML
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/labs/lab5_tinyml/lab5_tinyml.ipynb)
#
# Read Lectures 10 and 11 first. About 3 hours of work; the computing takes less than 10 minutes on
# two CPU cores.
#
# **The question:** a microcontroller has 256 KiB of SRAM, no operating system and one instruction
# that multiplies two pairs of 16-bit numbers. *What does it take to run a network there*, and who
# decides how much memory and time that is: the network, or the code around it?
#
# You plan memory, schedule patches, write three kernels in C and generate the program that calls
# them. A compiler, a linker and an emulator of the Cortex-M4 are part of the course; memory is what
# the linked file says, time is counted in executed instructions and their cycles. `lab.check("name")`
# tests a step and shows its points; in grading the judge compiles and emulates your C on shapes and
# numbers of its own. Your Python functions leave their arguments as they are.
#
# Cells with `YOUR CODE HERE` are yours. **In grading** cells of your own, and imports that you add
# to given cells, run where they stand; given cells otherwise have their released text. A cell has 60
# seconds and 2 MB of output then, all cells of your own together 120 seconds, the whole notebook 10
# minutes. `lab.produce` loads what you handed in.
#
# No GPU is needed: nothing here is trained. What has been stored in `outputs/` is there again after
# an interruption: run the cells again.

# %% tags=["setup"]
# Colab installs here what this notebook needs; what is installed already stays as it is.
import importlib.util
import os
import subprocess
import sys

course = os.environ.get("CODESIGN_REPO") or "git+https://github.com/ml-codesign/course@v0.1.0"
packages = {
    "codesign": course,
    "capstone": "capstone>=5.0",
    "unicorn": "unicorn>=2.1",
    "ziglang": "ziglang>=0.13",
}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np

from autograder import Lab
from codesign import checkpoints, cost, native, plot
from codesign.colab import keep_in_drive
from codesign.hardware.cortex_m import Firmware, InFlash
from codesign.hardware.operator_tables import constants, describe
from codesign.post_training import quantize

plot.theme()

# %%
KEEP_IN_DRIVE = False  # in Colab: True keeps outputs/ in your Drive, where they outlive the session
folder = keep_in_drive("lab5_tinyml") if KEEP_IN_DRIVE else None
lab = Lab("lab5_tinyml", folder=folder or ".")

# %% tags=["parameters"]
CALIBRATION_IMAGES = 256  # training images behind the range of every activation
REPORT_IMAGES = 500  # validation images of the accuracies shown
EMULATED_IMAGES = 10  # of them on the emulated microcontroller
BOARD = "m4"  # Cortex-M4, 256 KiB SRAM, 1 MiB flash

# %% [markdown]
# The network is the course's MobileNetV2-like one, quantized after training as in Lectures 5 and 6:
# int8 activations, int8 weights, int32 sums, fixed-point requantization. `describe` gives it as plain
# tables: operators in their order, the shape of every tensor as (height, width, channels), its zero
# point, and which operators may write their output where their first input lies.

# %%
dense = checkpoints.load(checkpoints.shipped("mobile", lab.dataset))
network = quantize(dense, lab.train.images[:CALIBRATION_IMAGES])
report = lab.val.head(REPORT_IMAGES)
table = describe(network)
operators, shapes, zeros, in_place = (
    table[key] for key in ("operators", "shapes", "zeros", "in_place")
)
sizes = {row["output"]: int(np.prod(shapes[row["output"]])) for row in operators[:-1]}

print(f"{cost.macs(dense):,} MACs, {cost.parameters(dense):,} parameters, ", end="")
print(f"{len(operators)} operators, accuracy of the integers {network.accuracy(report):.1%}")
for index in (0, 1, 2, 4):
    print(index, operators[index], "in place" if index in in_place else "")

# %% [markdown]
# ## 1 · What is alive, and when
#
# SRAM holds activations. A tensor has to exist from the operator that writes it to the last
# operator that reads it, both included; so does an input while its output is written. Tensors that
# are not in `sizes` (the image, the logits) lie elsewhere and count nothing. An output that no
# operator reads exists while it is written; in place or not makes no difference here. The network's
# memory is the largest of these sums over all operators, however cleverly tensors are placed.
#
# **Predict.** All tensors of this network together take several hundred KiB. How much is alive at
# once at most?

# %% nbgrader={"grade": false, "grade_id": "predict_peak", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_kib = ...  KiB
### BEGIN SOLUTION
predicted_kib = 96
### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_peak_memory", "locked": false, "schema_version": 3, "solution": true, "task": false}
def peak_memory(operators: list[dict], sizes: dict[str, int]) -> list[int]:
    """Bytes that have to exist while each operator runs.

    Args:
        operators: in their order, one or more, each with ``inputs`` (a list of names, in which one
            may stand twice) and ``output`` (a name). Some outputs are read by no operator.
        sizes: bytes of every tensor that counts, in any order; each is some operator's output.

    Returns:
        one integer for each operator.
    """
    ### BEGIN SOLUTION
    written = {row["output"]: i for i, row in enumerate(operators)}
    last = dict(written)
    for i, row in enumerate(operators):
        for name in row["inputs"]:
            last[name] = max(i, last.get(name, i))
    peaks = []
    for i in range(len(operators)):
        alive = [name for name in sizes if written[name] <= i <= last[name]]
        peaks.append(sum(sizes[name] for name in alive))
    return peaks
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "peak_memory", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("peak_memory")  # 8 points

# %%
alive = peak_memory(operators, sizes)
print(f"predicted {predicted_kib} KiB, measured {max(alive) / 1024:.0f} KiB of ", end="")
print(f"{sum(sizes.values()) / 1024:.0f} KiB in all tensors together")

# %%
figure, axis = plt.subplots(figsize=(8, 2.8))
axis.bar(range(len(alive)), [n / 1024 for n in alive], color=plot.COLOURS["memory"])
axis.axhline(256, color="gray", linestyle=":", label="SRAM of the board")
axis.set(xlabel="operator", ylabel="KiB alive", ylim=(0, 280))
axis.legend()
plt.show()

# %% [markdown]
# *Activations alive at each operator. One block at full resolution decides how much SRAM the whole
# network needs; the second half would be content with a fifth of it.*
#
# ## 2 · One arena
#
# Without an operating system there is no `malloc`: before anything runs, every tensor gets an offset
# in one array, the *arena*. Two tensors that are alive during the same operator may not overlap.
# Where an operator is in place, its output lies exactly where its first input lay: the same offset,
# and the two of them do not count as overlapping. Offsets are multiples of 4, so that a word can be
# loaded. Placing the tensors so that the arena is as small as possible is hard in general; a good
# order of placing them and the lowest free offset for each come close. Write the planner yourself
# (the course has one in `codesign.hardware.memory_planner`; here it is the question). Over many
# networks your arena may be 10 % larger on average than what the course's planner finds; 20 % and
# more earn nothing, and sizes count only where nothing overlaps.


# %% nbgrader={"grade": false, "grade_id": "solution_plan_memory", "locked": false, "schema_version": 3, "solution": true, "task": false}
def plan_memory(
    operators: list[dict], sizes: dict[str, int], in_place: list[int]
) -> dict[str, int]:
    """Offset in bytes of every tensor in ``sizes``.

    The arena, up to the last byte of any tensor, is at most 1.1 times as large as that of the
    course's planner, on average over many networks.

    Args:
        operators, sizes: as in ``peak_memory``; one tensor or more has a size.
        in_place: numbers of the operators whose output lies where their first input lay. Both have
            a size, the output is no larger, and no later operator reads that input.

    Returns:
        an integer for each name in ``sizes``, from 0, a multiple of 4.
    """
    ### BEGIN SOLUTION
    home: dict[str, str] = {}
    groups: dict[str, list] = {}  # home: bytes, first operator, last operator
    for i, row in enumerate(operators):
        name, source = row["output"], row["inputs"][0]
        for read in {*row["inputs"], name} & home.keys():
            groups[home[read]][2] = i
        if name in sizes:
            home[name] = home[source] if i in in_place else name
            group = groups.setdefault(home[name], [0, i, i])
            group[:] = [max(group[0], sizes[name]), group[1], i]

    at: dict[str, int] = {}
    for one in sorted(groups, key=lambda g: -groups[g][0]):  # the largest first
        size, first, last = groups[one]
        beside = [o for o in at if groups[o][1] <= last and groups[o][2] >= first]
        spans = [(at[o], at[o] + -(-groups[o][0] // 4) * 4) for o in beside]
        for start in sorted([0, *(end for _, end in spans)]):  # the lowest free offset
            if all(start + size <= low or start >= high for low, high in spans):
                at[one] = start
                break
    return {name: at[group] for name, group in home.items()}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "plan_memory", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
lab.check("plan_memory")  # 12 points

# %%
offsets = {name: int(at) for name, at in plan_memory(operators, sizes, in_place).items()}
arena_bytes = max(offsets[name] + size for name, size in sizes.items())
print(f"arena {arena_bytes / 1024:.1f} KiB, alive at once {max(alive) / 1024:.1f} KiB")

# %%
figure, axis = plt.subplots(figsize=(8, 3))
lives = {row["output"]: [i, i] for i, row in enumerate(operators[:-1])}
for i, row in enumerate(operators):
    for name in set(row["inputs"]) & lives.keys():
        lives[name][1] = i
for name, (first, last) in lives.items():
    axis.add_patch(
        plt.Rectangle(
            (first - 0.5, offsets[name] / 1024),
            last - first + 1,
            sizes[name] / 1024,
            alpha=0.6,
            facecolor=plot.COLOURS["memory"],
            edgecolor="white",
        )
    )
axis.set(xlabel="operator", ylabel="address, KiB", xlim=(-1, len(operators)))
axis.set_ylim(0, arena_bytes / 1024)
plt.show()

# %% [markdown]
# *Your arena: every rectangle is a tensor, from its first to its last operator and from its first to
# its last address. White space is memory that nobody needs at that time. Darker: two tensors share
# an address in place, so the arena can be smaller than what is alive at once.*
#
# ## 3 · Patches
#
# The first operators need most of the memory because they see the whole image at full resolution.
# They need not: an output row depends on few input rows. Cut the output of a *stage* of layers into
# $p$ strips of rows (and columns, which work alike), and compute each from as much input as it needs.
#
# For output rows $[a, b)$, a layer with kernel $k$, stride $s$ and padding $P$ reads the rows from
# $a s - P$ to $(b-1) s - P + k$ (exclusive). What lies outside of its input is padding; **only there
# is anything padded**, not at the borders between strips. Strip $i$ of $p$ covers the output rows
# from $\lfloor i H / p \rfloor$ to $\lfloor (i+1) H / p \rfloor$.
#
# A layer with $H_{in}$ rows of input has $H = \lfloor (H_{in} + 2P - k) / s \rfloor + 1$ rows of
# output, whatever its padding: nothing here is always "same". The check draws layers with any kernel
# and stride, and any padding smaller than the kernel. A layer has to make exactly the rows from the
# first to the last one that the next layer reads.


# %% nbgrader={"grade": false, "grade_id": "solution_patch_schedule", "locked": false, "schema_version": 3, "solution": true, "task": false}
def patch_schedule(
    layers: list[list[int]], size: int, patches: int
) -> list[list[tuple[int, int, int, int]]]:
    """Which rows each layer reads for each strip.

    Args:
        layers: (kernel, stride, padding) of each, in their order: integers, kernel and stride
            from 1, padding from 0 to kernel - 1.
        size: rows of the image; every layer has at least one row of output.
        patches: strips of the last layer's output, from 1 to its rows.

    Returns:
        for each strip and layer four integers: first row read and row after the last one, both cut
        to 0 ... rows of the layer's input; then rows of padding before and after.
    """
    ### BEGIN SOLUTION
    rows = [size]
    for kernel, stride, padding in layers:
        rows.append((rows[-1] + 2 * padding - kernel) // stride + 1)
    schedule = []
    for i in range(patches):
        a, b = i * rows[-1] // patches, (i + 1) * rows[-1] // patches
        found = []
        for (kernel, stride, padding), height in zip(layers[::-1], rows[-2::-1], strict=True):
            first, last = a * stride - padding, (b - 1) * stride - padding + kernel
            a, b = max(first, 0), min(last, height)
            found.append((a, b, a - first, last - b))
        schedule.append(found[::-1])
    return schedule
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "patch_schedule", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
lab.check("patch_schedule")  # 12 points

# %% [markdown]
# The stage of this network: stem and two blocks, down to 16×16 pixels. What a patch holds at once is
# the input and the output of its widest layer; what is computed twice is the halo.


# %%
STAGE = [[3, 1, 1], [3, 1, 1], [1, 1, 0], [1, 1, 0], [3, 2, 1], [1, 1, 0]]
STAGE_CHANNELS = [4, 16, 16, 16, 96, 96, 24]  # of every layer's input, and of the output
DEPTHWISE = {1, 4}


def stage_cost(patches: int) -> tuple[float, float]:
    """Largest input + output of a layer in KiB, and MACs relative to one patch."""

    def macs(count: int) -> int:
        total = 0
        for strip in patch_schedule(STAGE, 32, count):
            lasts = [b - a for a, b, _, _ in strip[1:]] + [16 // count]
            for i, height in enumerate(lasts):
                depth = STAGE[i][0] ** 2 * (1 if i in DEPTHWISE else STAGE_CHANNELS[i])
                total += height * depth * STAGE_CHANNELS[i + 1] * (32 if i < 4 else 16)
        return total

    most = 0
    for strip in patch_schedule(STAGE, 32, patches):
        heights = [b - a for a, b, _, _ in strip] + [16 // patches]
        held = [h * h * c for h, c in zip(heights, STAGE_CHANNELS, strict=True)]
        most = max(most, *(a + b for a, b in itertools.pairwise(held)))
    return most / 1024, (macs(patches) / macs(1)) ** 2


for count in (1, 2, 4, 8):
    kib, repeated = stage_cost(count)
    print(f"{count} × {count} patches: {kib:6.1f} KiB, about {repeated:.2f} times the MACs")

# %% [markdown]
# ## 4 · A 1×1 convolution
#
# Three kernels do nearly all of the work. The course hands out plain loops, with the arithmetic of
# Lectures 5 and 6; your kernels have to give the same numbers, faster. `Channel` holds what an
# output channel is requantized with: an output is
#
# $$\mathrm{clamp}\left(\left\lfloor \frac{sum \cdot mantissa + 2^{shift - 1}}{2^{shift}}
# \right\rfloor + zero_{out},\ -128,\ 127\right), \qquad
# sum = bias + \sum (q - zero_{in}) \cdot weight$$
#
# with a mantissa from $2^{30}$ to $2^{31} - 1$, a shift from 33 to 55, a bias from $-2^{30}$ to
# $2^{30}$, zero points from −128 to 127 and weights from −127 to 127. Every sum with its bias is
# what int32 holds, and `in` and `out` do not overlap unless the contract says so. Half a code is
# rounded up, below zero too; nothing else is allowed: the firmware at the end has to be this
# network, bit for bit.
#
# **C in a minute**, for who knows Python. `int8_t`, `int16_t`, `int32_t`, `int64_t` are integers of
# so many bits, `uint32_t` one without sign; nothing checks that a value fits. `const int8_t *x` is an
# address of bytes that you only read: `x[i]` is the one `i` places on, `x + i` its address, `*x++`
# reads one and moves on. `(const uint32_t *)x` takes the same address for words of four bytes, so
# `((const uint32_t *)x)[0]` loads four at once. `channel->bias` is a field of the struct at an
# address, `&channel[o]` the address of one. `a >> n` divides by $2^n$ and rounds down (on signed
# numbers too), `a << n`, `a & b`, `a | b` work on bits, `~1` has all bits but the lowest.
# `(int64_t)a * b` computes in 64 bits; without it the product of two `int32_t` keeps the low half.
# `c ? a : b` is `a if c else b`. `for (int i = 0; i < n; i++)` counts. `static inline` is a helper of
# this file, `static int32_t n;` in a function a variable that stays between calls, in SRAM;
# `static const` tables lie in flash. Memory that nobody wrote holds anything.
#
# There is no operating system and no C library: `<stdint.h>`, `<stddef.h>`, `<stdbool.h>`,
# `<limits.h>`, `<arm_acle.h>` and of `<string.h>` `memcpy`, `memmove`, `memset`, `memcmp`; no
# `malloc`, `printf`, `math.h`. Division of 64-bit numbers and `double` need a library and do not
# link; `int` divides in 12 cycles, `float` works. Dialect: C17 with `asm` and `typeof` (gnu17), at
# `-O2 -fno-strict-aliasing`: memory may be read by addresses of other types.

# %%
LOOPS = native.shipped("int8_loops")
print(LOOPS[: LOOPS.index("/* --- 2")])

# %% [markdown]
# **What the core offers.** `SMLAD` multiplies two pairs of halfwords and adds both products to a sum,
# in one cycle. Activations and weights are bytes: `SXTB16` turns bytes 0 and 2 of a word into
# halfwords, and, rotated by 8, bytes 1 and 3. In C, with `#include <arm_acle.h>`: `__sxtb16(x)`,
# `__sxtb16(__ror(x, 8))`, `__smlad(a, b, sum)`, `__ssub16(a, b)` on two halfwords at once, and
# `__ssat(x, 8)`, which clamps to int8.
#
# **Where the time goes.** A product costs one instruction or less; loading and widening its operands
# costs more. So use what is loaded: two pixels times two outputs are four sums, and each loaded
# value serves two of them. The scratch memory has room for two widened pixels. Requantize by the
# high word of the product: with a shift of at least 33 the low one does not matter, as
# $\lfloor p / 2^{shift} + 1/2 \rfloor = \left\lfloor \left(\left\lfloor
# \lfloor p / 2^{32} \rfloor / 2^{shift - 33} \right\rfloor + 1\right) / 2 \right\rfloor$.
#
# **Contract.** `channels` is a multiple of 4, `outputs` of 2; `pixels` is any number from 1. All
# arrays begin at words. Nothing outside of the arrays may be touched, not even read, and the input
# stays as it is. What `scratch` and `out` hold before is not known, and between two calls nothing
# is reset. Stack and variables of a kernel take at most 1,024 bytes together. Helper functions are
# `static` and carry the kernel's name in front, because all C goes into one file in the end.
#
# **Points.** The judge calls the kernel on small shapes at all ends of the contract and counts cycles
# on three usual ones. Full points for cycles: the geometric mean of their shares of the loops' cycles
# is at most 0.45; none from 0.95; linear between. The points for exact outputs count in the same
# proportion, as the loops are exact, too.
#
# **Trying.** `lab.try_kernel("conv1x1", CONV1X1, (5, 12, 6), "ties")` runs your text on one case
# (here 5 pixels, 12 channels, 6 outputs; sizes in the order of the contract) and prints the first
# wrong output and the cycles; the numbers are `"usual"`, `"extreme"`, `"ties"` or `"every shift"`.
# `assembly=True` prints the instructions that the compiler made, too. Errors of the compiler count
# the lines of your text from 1.
#
# **Predict.** The loops take about 6 to 8 instructions a MAC. Which share of their cycles will your
# kernel take?

# %% nbgrader={"grade": false, "grade_id": "predict_share", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_share = ...  cycles of your conv1x1 / cycles of the loops
### BEGIN SOLUTION
predicted_share = 0.25
### END SOLUTION


# %%
def program(**kernels: str) -> str:
    """C text: what is handed out, with these kernels instead of its loops."""
    left_out = "".join(f"#define OWN_{name.upper()}\n" for name in kernels)
    own = [f'#line 1 "{name}.c"\n{text}' for name, text in kernels.items()]
    return left_out + "\n".join([LOOPS, *own])


# %% nbgrader={"grade": false, "grade_id": "solution_conv1x1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# CONV1X1 = r"""  C text: the function above, by the same name and with the same arguments
# """
### BEGIN SOLUTION
CONV1X1 = r"""
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t conv1x1_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* Two pixels times two outputs: x holds both pixels, widened, channels / 2 words each. */
static inline void conv1x1_tile(
    const uint32_t *x, const int8_t *w, int channels, int32_t *sum) {
    const uint32_t *p = (const uint32_t *)w, *q = (const uint32_t *)(w + channels);
    const uint32_t *y = x + channels / 2;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int i = channels / 4; i > 0; i--, x += 2, y += 2) {
        uint32_t v = *p++, u = *q++;
        uint32_t v0 = __sxtb16(v), v1 = __sxtb16(__ror(v, 8));
        uint32_t u0 = __sxtb16(u), u1 = __sxtb16(__ror(u, 8));
        a = __smlad(x[0], v0, a), b = __smlad(x[0], u0, b);
        a = __smlad(x[1], v1, a), b = __smlad(x[1], u1, b);
        c = __smlad(y[0], v0, c), d = __smlad(y[0], u0, d);
        c = __smlad(y[1], v1, c), d = __smlad(y[1], u1, d);
    }
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

void conv1x1(
    const int8_t *in, int pixels, int channels, const int8_t *weight, const Channel *channel,
    int zero_in, int zero_out, int8_t *out, int outputs, int16_t *scratch) {
    uint32_t zero = (uint16_t)zero_in * 0x10001u;
    for (int p = 0; p < pixels; p += 2, out += 2 * outputs) {
        uint32_t *x = (uint32_t *)scratch;
        int two = p + 1 < pixels;
        const uint32_t *from = (const uint32_t *)(in + p * channels);
        for (int i = 0; i < (1 + two) * channels / 4; i++, x += 2) {
            x[0] = __ssub16(__sxtb16(from[i]), zero);
            x[1] = __ssub16(__sxtb16(__ror(from[i], 8)), zero);
        }
        for (int o = 0; o < outputs; o += 2) {
            int32_t sum[4];
            conv1x1_tile((uint32_t *)scratch, weight + o * channels, channels, sum);
            for (int i = 0; i < 2 + 2 * two; i++) {
                const Channel *c = &channel[o + i % 2];
                out[i / 2 * outputs + o + i % 2] = conv1x1_out(c->bias + sum[i], c, zero_out);
            }
        }
    }
}
"""
### END SOLUTION

# %%
conv1x1 = lab.produce("conv1x1", str, CONV1X1, fresh=True)


def speed(name: str, source: str, arguments: list, macs: int) -> tuple[float, float, float]:
    """Instructions and cycles a MAC of a kernel, and its share of the cycles of the loops."""
    loops = Firmware(LOOPS, BOARD, (name,)).run(name, *arguments)
    ours = Firmware(program(**{name: source}), BOARD, (name,)).run(name, *arguments)
    return ours.instructions / macs, ours.cycles / macs, ours.cycles / loops.cycles


def channels(count: int, shift: int) -> InFlash:
    """Some requantization for ``count`` outputs."""
    return InFlash(np.tile(np.array([100, 2**30 + 99, shift], np.int32), (count, 1)))


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


# %%
shares = {}
for pixels, depth, outputs in ((64, 24, 96), (64, 96, 24), (64, 160, 40)):
    arguments = [
        ones(pixels, depth), pixels, depth, InFlash(ones(outputs, depth)), channels(outputs, 38),
        3, -5, ones(pixels, outputs), outputs, np.zeros(2 * depth, np.int16),
    ]  # fmt: skip
    found = speed("conv1x1", conv1x1, arguments, pixels * depth * outputs)
    shares[pixels, depth, outputs] = found[2]
    print(f"{depth:3d} to {outputs:2d} channels: {found[0]:.2f} instructions and ", end="")
    print(f"{found[1]:.2f} cycles a MAC, {found[2]:.2f} of the loops' cycles")
print(f"predicted {predicted_share}, measured {np.mean(list(shares.values())):.2f}")

# %% nbgrader={"grade": true, "grade_id": "conv1x1", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("conv1x1")  # 10 points

# %% [markdown]
# ## 5 · A depthwise convolution, in place
#
# Here channels do not mix, so nothing has to be kept but one channel: copy it, widened and with its
# padding, into the scratch memory, then write its outputs where its inputs lay. Address
# $(y \cdot W_{out} + x) \cdot C + c$ belongs to channel $c$ before and after, also with stride 2:
# no other channel is touched. In a row of halfwords two neighbours are one word, which fits `SMLAD`;
# `__smlabt(a, b, sum)` multiplies the low half of `a` with the high half of `b`, `__smlatb` the other
# way round, so one word of inputs serves two neighbouring outputs.

# %%
print(LOOPS[LOOPS.index("/* --- 2") : LOOPS.index("/* --- 3")])

# %% [markdown]
# **Contract.** 3×3, padding 1 with the zero point; `stride` 1 or 2; height, width and channels are
# any numbers from 1, also different ones. The output has $\lceil height / stride \rceil$ rows and
# $\lceil width / stride \rceil$ columns. `scratch` has `(height + 2) * (width + 4)` halfwords, its
# beginning aligned to words (rows of an odd number of halfwords are not: round their length up, it
# fits); memory and points as above: full points for cycles at a share of 0.45, none from 0.95.

# %% nbgrader={"grade": false, "grade_id": "solution_depthwise", "locked": false, "schema_version": 3, "solution": true, "task": false}
# DEPTHWISE_C = r"""  C text: the function above, by the same name and with the same arguments
# """
### BEGIN SOLUTION
DEPTHWISE_C = r"""
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t depthwise_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* One row of three inputs: two neighbouring outputs at stride 1, the first one else. */
static inline void depthwise_row(const int16_t *at, const int32_t *w, int32_t *sum, int stride) {
    int32_t near = ((const int32_t *)at)[0], far = ((const int32_t *)at)[1];
    sum[0] = __smlabt(far, w[1], __smlad(near, w[0], sum[0]));
    if (stride == 1) sum[1] = __smlad(far, w[1], __smlatb(near, w[0], sum[1]));
}

void depthwise(
    int8_t *data, int height, int width, int channels, int stride, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int16_t *scratch) {
    int wide = (width + 4) & ~1, out_h = (height + stride - 1) / stride;
    int out_w = (width + stride - 1) / stride;
    for (int i = 0; i < (height + 2) * wide; i++) scratch[i] = 0;
    for (int c = 0; c < channels; c++, channel++) {
        const int8_t *from = data + c;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++, from += channels)
                scratch[(y + 1) * wide + x + 1] = (int16_t)(*from - zero_in);
        int32_t w[6];
        for (int k = 0; k < 3; k++) {
            const int8_t *row = weight + 3 * k * channels + c;
            w[2 * k] = (uint16_t)row[0] | row[channels] << 16;
            w[2 * k + 1] = (uint16_t)row[channels] | row[2 * channels] << 16;
        }
        int8_t *out = data + c;
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x += 3 - stride) {
                const int16_t *at = scratch + y * stride * wide + x * stride;
                int32_t sum[2] = {channel->bias, channel->bias};
                for (int k = 0; k < 3; k++) depthwise_row(at + k * wide, w + 2 * k, sum, stride);
                *out = depthwise_out(sum[0], channel, zero_out), out += channels;
                if (stride == 1 && x + 1 < out_w)
                    *out = depthwise_out(sum[1], channel, zero_out), out += channels;
            }
    }
}
"""
### END SOLUTION

# %%
depthwise = lab.produce("depthwise", str, DEPTHWISE_C, fresh=True)
for side, depth, stride in ((32, 16, 1), (16, 96, 1), (16, 96, 2)):
    arguments = [
        ones(side, side, depth), side, side, depth, stride, InFlash(ones(3, 3, depth)),
        channels(depth, 36), 3, -5, np.zeros((side + 2) * (side + 4), np.int16),
    ]  # fmt: skip
    found = speed("depthwise", depthwise, arguments, 9 * depth * (side // stride) ** 2)
    print(f"{side}×{side}×{depth}, stride {stride}: {found[0]:.2f} instructions and ", end="")
    print(f"{found[1]:.2f} cycles a MAC, {found[2]:.2f} of the loops' cycles")

# %% nbgrader={"grade": true, "grade_id": "depthwise", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
lab.check("depthwise")  # 12 points

# %% [markdown]
# ## 6 · A 3×3 convolution, directly
#
# *im2col* would copy every input nine times. Directly: under one row of the kernel lie three
# neighbouring pixels, $3C$ values in a run of memory, so a 3×3 convolution is three runs of a 1×1.
# Only borders disturb. Keep three input rows in the scratch memory, widened, with one pixel of
# padding on both sides, as a ring: each new output row replaces the oldest one.

# %%
print(LOOPS[LOOPS.index("/* --- 3") : LOOPS.index("/* --- given")])

# %% [markdown]
# **Contract.** 3×3, stride 1, padding 1 with the zero point; `channels` is a multiple of 4, `outputs`
# of 2; height any number from 1, width from 2, also different ones. `scratch` has
# `3 * (width + 2) * channels` halfwords; memory and points as above, but full points for cycles at a
# share of 0.35.

# %% nbgrader={"grade": false, "grade_id": "solution_conv3x3", "locked": false, "schema_version": 3, "solution": true, "task": false}
# CONV3X3 = r"""  C text: the function above, by the same name and with the same arguments
# """
### BEGIN SOLUTION
CONV3X3 = r"""
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t conv3x3_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* Two pixels times two outputs under three rows; the second pixel begins one pixel further. */
static inline void conv3x3_tile(
    const uint32_t *const *rows, int at, const int8_t *w, int channels, int32_t *sum) {
    const uint32_t *p = (const uint32_t *)w, *q = (const uint32_t *)(w + 9 * channels);
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int k = 0; k < 3; k++) {
        const uint32_t *x = rows[k] + at, *y = x + channels / 2;
        for (int i = 3 * channels / 4; i > 0; i--, x += 2, y += 2) {
            uint32_t v = *p++, u = *q++;
            uint32_t v0 = __sxtb16(v), v1 = __sxtb16(__ror(v, 8));
            uint32_t u0 = __sxtb16(u), u1 = __sxtb16(__ror(u, 8));
            a = __smlad(x[0], v0, a), b = __smlad(x[0], u0, b);
            a = __smlad(x[1], v1, a), b = __smlad(x[1], u1, b);
            c = __smlad(y[0], v0, c), d = __smlad(y[0], u0, d);
            c = __smlad(y[1], v1, c), d = __smlad(y[1], u1, d);
        }
    }
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

/* One row of the input, widened, with a pixel of padding on both sides. */
static inline void conv3x3_fill(
    const int8_t *in, int row, int height, int width, int channels, int zero, uint32_t *to) {
    uint32_t pair = (uint16_t)zero * 0x10001u;
    for (int i = 0; i < (width + 2) * channels / 2; i++) to[i] = 0;
    if (row < 0 || row >= height) return;
    const uint32_t *from = (const uint32_t *)(in + row * width * channels);
    to += channels / 2;
    for (int i = 0; i < width * channels / 4; i++, to += 2) {
        to[0] = __ssub16(__sxtb16(from[i]), pair);
        to[1] = __ssub16(__sxtb16(__ror(from[i], 8)), pair);
    }
}

void conv3x3(
    const int8_t *in, int height, int width, int channels, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int8_t *out, int outputs,
    int16_t *scratch) {
    uint32_t *ring = (uint32_t *)scratch;
    int row = (width + 2) * channels / 2;
    conv3x3_fill(in, -1, height, width, channels, zero_in, ring + 2 * row);
    conv3x3_fill(in, 0, height, width, channels, zero_in, ring);
    for (int y = 0; y < height; y++) {
        conv3x3_fill(in, y + 1, height, width, channels, zero_in, ring + (y + 1) % 3 * row);
        const uint32_t *rows[3];
        for (int k = 0; k < 3; k++) rows[k] = ring + (y + k + 2) % 3 * row;
        for (int x = 0; x < width; x += 2) {
            int start = x + 1 < width ? x : width - 2; /* the last two pixels, one of them again */
            for (int o = 0; o < outputs; o += 2) {
                int32_t sum[4];
                int8_t *to = out + (y * width + start) * outputs + o;
                conv3x3_tile(rows, start * channels / 2, weight + 9 * o * channels, channels, sum);
                for (int i = 0; i < 4; i++) {
                    const Channel *c = &channel[o + i % 2];
                    to[i / 2 * outputs + i % 2] = conv3x3_out(c->bias + sum[i], c, zero_out);
                }
            }
        }
    }
}
"""
### END SOLUTION

# %%
conv3x3 = lab.produce("conv3x3", str, CONV3X3, fresh=True)
for side, depth, outputs in ((16, 4, 16), (8, 16, 16), (8, 32, 32)):
    arguments = [
        ones(side, side, depth), side, side, depth, InFlash(ones(outputs, 3, 3, depth)),
        channels(outputs, 39), 3, -5, ones(side, side, outputs), outputs,
        np.zeros(3 * (side + 2) * depth, np.int16),
    ]  # fmt: skip
    found = speed("conv3x3", conv3x3, arguments, 9 * depth * outputs * side**2)
    print(
        f"{side}×{side}, {depth:2d} to {outputs} channels: {found[0]:.2f} instructions and ", end=""
    )
    print(f"{found[1]:.2f} cycles a MAC, {found[2]:.2f} of the loops' cycles")

# %% nbgrader={"grade": true, "grade_id": "conv3x3", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
lab.check("conv3x3")  # 12 points

# %% [markdown]
# ## 7 · The program
#
# An interpreter would read the network from a table, again for every image. A *generator* writes the
# calls down once. The text around them is given: constants `weight<i>` and `channel<i>` (of the last
# layer `bias<i>`) for operator number `i`, and
#
# ```c
# static int8_t arena[…];      // activations, at your offsets
# static int16_t scratch[…];   // enough for every kernel
# ```
#
# Write `void infer(const int8_t *image, int32_t *logits)`: one call for each operator, in order. A
# tensor that has an offset lies at `arena + offset`; the one that `four_channels` reads is `image`,
# the one that `linear` writes is `logits`. These are the calls; `h`, `w`, `c` are the shape of the
# first input, `o` the channels of the output, `zx` the zero point of the first input, `zy` of the
# output, `x`, `x2` and `y` where the inputs and the output lie. An operator has `kind`, `inputs`,
# `output`; a depthwise one also `stride`, an addition `by`, `offset` and `shift`, which the calls
# name so (this `offset` is a number of the addition, no place in the arena). `infer` declares no
# arrays: activations lie in `arena` alone, and the check counts its SRAM.

# %%
CALLS = {
    "four_channels": "four_channels({x}, {h} * {w}, {zx}, {y});",
    "conv1x1": "conv1x1({x}, {h} * {w}, {c}, weight{i}, channel{i}, {zx}, {zy}, {y}, {o}, scratch);",
    "conv3x3": "conv3x3({x}, {h}, {w}, {c}, weight{i}, channel{i}, {zx}, {zy}, {y}, {o}, scratch);",
    "depthwise": "depthwise({y}, {h}, {w}, {c}, {stride}, weight{i}, channel{i}, {zx}, {zy}, scratch);",
    "copy": "copy({x}, {y}, {h} * {w} * {c});",
    "add": "add({x}, {x2}, {y}, {h} * {w} * {c}, {by[0]}, {by[1]}, {offset}, {shift});",
    "mean": "mean({x}, {h} * {w}, {c}, channel{i}, {zx}, {zy}, {y});",
    "linear": "linear({x}, {c}, weight{i}, bias{i}, {zx}, {y}, {o});",
}

# %% [markdown]
# A depthwise convolution works where its *output* lies. Compare the two offsets: where they differ
# (somebody still needs the input then, and its stride is 1), call `copy` first.


# %% nbgrader={"grade": false, "grade_id": "solution_generate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def generate(operators: list[dict], shapes: dict, zeros: dict, offsets: dict) -> str:
    """The C text of ``infer``: a call of ``CALLS`` for every operator.

    Args:
        operators, shapes, zeros: as ``describe`` gives them, of any such network.
        offsets: of every tensor in the arena, in bytes; neither the image nor the logits have one.
    """

    ### BEGIN SOLUTION
    def at(name: str, outside: str) -> str:
        return f"arena + {offsets[name]}" if name in offsets else outside

    calls = []
    for i, row in enumerate(operators):
        source, output = row["inputs"][0], row["output"]
        fields = {**row, "i": i, "x": at(source, "image"), "y": at(output, "logits")}
        fields |= {"x2": at(row["inputs"][-1], "image"), "o": shapes[output][2]}
        fields |= dict(zip("hwc", shapes[source], strict=True))
        fields |= {"zx": zeros[source], "zy": zeros[output]}
        if row["kind"] == "depthwise" and fields["x"] != fields["y"]:
            calls.append(CALLS["copy"].format(**fields))
        calls.append(CALLS[row["kind"]].format(**fields))
    body = "\n    ".join(calls)
    return f"void infer(const int8_t *image, int32_t *logits) {{\n    {body}\n}}\n"
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "generate", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("generate")  # 6 points


# %%
def firmware_text(**kernels: str) -> str:
    """The whole program in one C text."""
    halfwords = 0
    for row in operators:
        height, width, depth = shapes[row["inputs"][0]]
        rooms = {"conv1x1": 2 * depth, "conv3x3": 3 * (width + 2) * depth}
        rooms["depthwise"] = (height + 2) * (width + 4)
        halfwords = max(halfwords, rooms.get(row["kind"], 0))
    memory = f"static int8_t arena[{arena_bytes}] __attribute__((aligned(8)));\n"
    memory += f"static int16_t scratch[{halfwords}] __attribute__((aligned(8)));\n"
    calls = generate(operators, shapes, zeros, offsets)
    return "\n".join([program(**kernels), constants(network), memory, '#line 1 "infer.c"', calls])


text = firmware_text(conv1x1=conv1x1, depthwise=depthwise, conv3x3=conv3x3)
firmware = lab.produce("firmware", str, text, fresh=True)
print(firmware[-1_000:])

# %% [markdown]
# **Points.** The firmware has to *be* the network: the judge compares its ten logits with those of
# the integers, on held-out images, shifted a little and with noise as a second photograph would
# have, and on blends, textures and noise that are in no data set; an image has to give the same
# logits when it is the second one after a reset. Of each kind, all ten must be equal on at least 80
# % of the images and off by at most 500 on the others (they spread over more than 100,000);
# otherwise nothing counts. Then full points for SRAM up to 124 KiB (none from 200), flash up to 180
# KiB (none from 400), 57 million cycles an image (none from 95) and an accuracy at most 2 % below
# that of the integers (none from 15 %). Kernels with full points in their own checks are fast
# enough. $ms = cycles / 100{,}000$ at 100 MHz.
#
# **Predict.** The board runs at 100 MHz. How many milliseconds will one image take with your kernels?

# %% nbgrader={"grade": false, "grade_id": "predict_ms", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_ms = ...  milliseconds
### BEGIN SOLUTION
predicted_ms = 200
### END SOLUTION


# %%
def emulated(source: str) -> dict[str, float]:
    """One image counted, and, with the same code, some more for their logits."""
    built = Firmware(source, BOARD, ("infer",))
    codes, logits = network.codes(report.images[:EMULATED_IMAGES]), np.zeros(10, np.int32)
    run = built.run("infer", codes[0], logits)
    found = {"Mcycles": run.cycles / 1e6, "ms": 1e3 * built.seconds(run.cycles)}
    found |= {"SRAM, KiB": run.sram_bytes / 1024, "flash, KiB": built.flash_bytes / 1024}
    rows = [built.run("infer", image, logits, counted=False).outputs[1] for image in codes]
    exact = network.logits(report.images[:EMULATED_IMAGES]).numpy()
    return found | {"equal logits": float((np.stack(rows) == exact).all(1).mean())}


results = {"loops": emulated(firmware_text()), "yours": emulated(firmware)}
for name, found in results.items():
    print(f"{name:6s}", ", ".join(f"{key} {value:.1f}" for key, value in found.items()))
print(f"predicted {predicted_ms} ms")

# %% nbgrader={"grade": true, "grade_id": "firmware", "locked": true, "points": 18, "schema_version": 3, "solution": false, "task": false}
lab.check("firmware")  # 18 points

# %% [markdown]
# ### Reflection
# Answer in a few sentences each, with numbers that you measured. These are graded by a person.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_predictions", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Predicted against measured (4 points).** Which of your three predictions was furthest off? Explain
# the difference by lifetimes of tensors or by instructions.
#
# ### BEGIN SOLUTION
# A full answer compares all three pairs and names a mechanism for each. Memory: input and output of
# the widest layer exist together, and a residual input besides. Cycles: products take half an
# instruction each with SMLAD, but loading, widening, loop ends and above all requantization of an
# output stay, so a 1×1 convolution with few channels gains less. Milliseconds: cycles a MAC times
# 10 million MACs, where depthwise layers take more cycles a MAC than the others.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_bottleneck", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **The bottleneck (3 points).** Which kind of operator takes the most cycles for a MAC in your
# firmware, and why? What keeps the SRAM from shrinking further, and what would you give for it?
#
# ### BEGIN SOLUTION
# A full answer: depthwise and narrow 1×1 layers, because nine (or a few dozen) products carry a whole
# requantization and the widening of their inputs. SRAM: the expanded tensor at 32×32 pixels in one
# block; patches remove it, for a few percent more MACs in the halo, or another network would.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_device", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Another device (3 points).** A Cortex-M0+ with 32 KiB of SRAM and no `SMLAD`, or a Cortex-M7 with
# caches and two instructions a cycle. What of your code survives there, and what would you have to
# measure again?
#
# ### BEGIN SOLUTION
# A full answer picks one. M0+: planner, schedule and generator survive, the kernels do not compile;
# multiplications and loads cost more, 64-bit products are library calls; 32 KiB need patches or a
# smaller network. M7: the same binary runs; loads and multiplications pair, so cycles a MAC fall, but
# flash behind caches makes the order of weights matter, which these counts leave out: measure with
# the cycle counter of the device.
# ### END SOLUTION

# %% [markdown]
# Hand in the notebook with its outputs: save it, then run the next line.

# %%
# lab.package()
