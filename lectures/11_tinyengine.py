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
# # Lecture 11: TinyEngine
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/11_tinyengine.ipynb)
#
# **The question: network, board and compiler are given. How many cycles and bytes are still the
# engine's to lose?**
#
# Lecture 10 chose the network. Here one int8 convolution is written again and again in C, executed
# on an emulated Cortex-M4 after each step and compared bit by bit with the reference. Then come the
# parts of an engine around its kernels: layouts, memory planning, generated code. It ends with
# whole networks, beside figures that others published for the same network on a real Cortex-M4.

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

# %% tags=["parameters"] short={"SIDE": 8, "CHANNELS": 16, "TILE_CHANNELS": [8], "CALIBRATION_IMAGES": 16, "REPORT_IMAGES": 50, "GRAPHS": 8, "ROUNDS": 3}
SIDE, CHANNELS = 16, 32  # the convolution that is rewritten: 16×16×32 → 16×16×32, 3×3
TILE_CHANNELS = (8, 32, 64)  # of the scan over register tiles
CALIBRATION_IMAGES = 256  # training images that set the ranges of activations
REPORT_IMAGES = 500  # validation images behind the accuracies
GRAPHS = 60  # random graphs for the memory planners
ROUNDS = 7  # of latency measurements on this machine

# %%
import itertools
import math
from collections import OrderedDict
from functools import cache, partial

import capstone
import matplotlib.pyplot as plt
import numpy as np
import torch

from codesign import checkpoints, datasets, measure, models, native, plot
from codesign.hardware import engine, memory_planner
from codesign.hardware.cortex_m import Firmware, InFlash
from codesign.hardware.memory_planner import Buffer
from codesign.post_training import quantize

plot.theme()
_ = torch.manual_seed(0)
pick = np.random.default_rng(0)

# %% [markdown]
# ## 1. What one product costs
#
# **Smallest example**: 64 products of int8, summed. The emulator executes what clang makes of the C
# and counts every instruction with the cycles of the manual (Lecture 10).

# %%
DOT = """
#include <stdint.h>
int dot(const int8_t *x, const int8_t *w, int n) {
    int sum = 0;
    #pragma clang loop unroll(disable)
    for (int i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}
"""


# %%
def listing(firmware, function):
    """Assembly of a function, from the bytes that were linked."""
    start, size = firmware.symbols[function]
    at, data, _ = next(s for s in firmware.segments if s[0] <= start < s[0] + len(s[1]))
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    code = data[(start & ~1) - at :][:size]
    return [f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(code, start & ~1)]


# %%
x, w = pick.integers(-128, 128, (2, 64), dtype=np.int8)
firmware = Firmware(DOT, keep=["dot"])
run = firmware.run("dot", x, InFlash(w), 64)
assert run.value == x.astype(int) @ w.astype(int)
print("\n".join(listing(firmware, "dot")))
print(f"{run.instructions / 64:.1f} instructions, {run.cycles / 64:.1f} cycles for each MAC")

# %% [markdown]
# One instruction of the loop is a product. The others load its operands, count and jump.
#
# The M4 has instructions for halfwords: `SMLAD` multiplies two pairs of 16-bit numbers and adds
# both products to a sum, in one cycle. Bytes have to be widened first: `SXTB16` takes bytes 0 and 2
# of a word, and bytes 1 and 3 after a rotation by 8. Weights and inputs are widened alike, so the
# pairs fit and nothing need be sorted. Arm's header names these instructions as C functions.

# %%
PAIRS = """
#include <arm_acle.h>
#include <stdint.h>
int dot(const uint32_t *x, const uint32_t *w, int n) {
    int sum = 0;
    #pragma clang loop unroll(disable)
    for (int i = 0; i < n / 4; i++) {
        sum = __smlad(__sxtb16(x[i]), __sxtb16(w[i]), sum);
        sum = __smlad(__sxtb16(__ror(x[i], 8)), __sxtb16(__ror(w[i], 8)), sum);
    }
    return sum;
}
"""

# %%
firmware = Firmware(PAIRS, keep=["dot"])
run = firmware.run("dot", x, InFlash(w), 64)
assert run.value == x.astype(int) @ w.astype(int)
assert "ror" not in run.mix  # the rotation is part of SXTB16
print("\n".join(listing(firmware, "dot")))
print(f"{run.instructions / 64:.2f} instructions, {run.cycles / 64:.2f} cycles for each MAC")

# %% [markdown]
# **The bound.** Two products an instruction: no kernel on this core can do better than 0.5 cycles a
# MAC. Everything above that is loading, widening, counting, rescaling. The rest of this lecture
# removes it.
#
# ## 2. One convolution, step by step
#
# The scheme is that of Lectures 5 and 10: affine inputs with zero point $Z_x$, symmetric weights,
# 32-bit sums, fixed-point requantization with a multiplier $M_0\,2^{-n}$ for each output channel
# $o$; $q_x$, $q_w$, $q_b$ and $q_y$ are codes:
#
# $$a_{ijo} = q_{b,o} + \sum_{r,s,m} (q_{x;\,i+r-1,\,j+s-1,\,m}-Z_x)\,q_{w;\,orsm},\qquad
# q_{y;\,ijo} = \mathrm{clamp}\big(((a_{ijo}M_0 + 2^{n-1}) \gg n) + Z_y\big).$$
#
# The codes are random: the cycles do not depend on them.

# %%
Z_X, Z_Y, SHIFT = -20, 5, 41
H = W = SIDE
C = F = CHANNELS  # inputs, filters
X = pick.integers(-128, 128, (H, W, C), dtype=np.int8)
K = pick.integers(-127, 128, (F, 3, 3, C), dtype=np.int8)
BIAS = pick.integers(-3000, 3000, F).astype(np.int32)
MANTISSA = pick.integers(2**30, 2**31, F).astype(np.int32)
MACS = H * W * F * K[0].size


# %%
def requantized(sums, shift=SHIFT):
    """int32 sums ``[..., F]`` to int8 codes."""
    rounded = sums * MANTISSA[: sums.shape[-1]].astype(np.int64) + (1 << (shift - 1))
    return ((rounded >> shift) + Z_Y).clip(-128, 127).astype(np.int8)


# %%
def sums_of(x, k, bias):
    """The sums of a 3×3 convolution in numpy, padded with the zero point."""
    h, w, _ = x.shape
    padded = np.pad(x.astype(np.int64) - Z_X, ((1, 1), (1, 1), (0, 0)))
    windows = [(r, s, padded[r : r + h, s : s + w]) for r in range(3) for s in range(3)]
    return sum(v @ k[:, r, s].T.astype(np.int64) for r, s, v in windows) + bias


# %%
Y = requantized(sums_of(X, K, BIAS))
print(f"{MACS:,} MACs; weights {K.nbytes:,} bytes, input and output {X.nbytes:,} bytes each")

# %% [markdown]
# All kernels share a head and a signature. A kernel is compiled twice: once with the shape as
# arguments, as a library has it, and once with the shape as constants, as a code generator can
# write it. Nothing else differs.

# %%
HEAD = r"""
#include <arm_acle.h>
#include <stdint.h>
#define INLINE static inline __attribute__((always_inline))
#define KERNEL(name) INLINE void name(const int8_t *x, const int8_t *k, const Channel *out, \
    int8_t *y, uint32_t *scratch, int h, int w, int c, int o, int zx, int zy)
typedef struct { int32_t bias, mantissa, shift; } Channel;

INLINE int8_t requantize(int32_t sum, const Channel *p, int zy) {
    int64_t half = (int64_t)1 << (p->shift - 1);
    return __ssat((int32_t)(((int64_t)sum * p->mantissa + half) >> p->shift) + zy, 8);
}
"""

# %%
CALLED = """
void conv(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y, uint32_t *scratch,
          int h, int w, int c, int o, int zx, int zy) {
    kernel(x, k, out, y, scratch, h, w, c, o, zx, zy);
}
"""

# %%
CONSTANT = """
void conv(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y, uint32_t *scratch) {
    kernel(x, k, out, y, scratch, SHAPE);
}
"""


# %%
def channels(bias, shift=SHIFT):
    """The table that a kernel reads for each output: bias, mantissa, shift."""
    columns = [bias, MANTISSA[: len(bias)], np.full(len(bias), shift)]
    return np.stack(columns, 1).astype(np.int32)


# %%
def execute(source, x, k, bias, scratch, constant):
    """Run a kernel on the emulated board: its output, the run, and bytes of code."""
    shape = [*x.shape, len(bias), Z_X, Z_Y]
    call = CONSTANT.replace("SHAPE", ", ".join(map(str, shape))) if constant else CALLED
    firmware = Firmware(HEAD + source + call, keep=["conv"])
    y = np.zeros((*x.shape[:2], len(bias)), np.int8)
    words = np.zeros(max(1, scratch // 4), np.uint32)
    arrays = [x, InFlash(k), InFlash(channels(bias)), y, words]
    run = firmware.run("conv", *arrays, *([] if constant else shape))
    return run.outputs[1], run, firmware.flash_bytes


# %%
RUNS = {}


# %%
def step(name, source, k=K, bias=BIAS, scratch=0, ways=(False, True)):
    """Execute one step both ways, hold it against the reference, and print it."""
    for constant in ways:
        y, run, code = execute(source, X, k, bias, scratch, constant)
        assert np.array_equal(y, Y), name
        RUNS[name, constant] = run, code, scratch
        how = "constants" if constant else "arguments"
        print(f"{how}: {run.instructions / MACS:.2f} instructions, {run.cycles / MACS:.2f} cycles "
              f"for each MAC; {code:,} bytes of code")  # fmt: skip


# %% [markdown]
# ### Naive
#
# As it is written in a textbook, in the order of a PyTorch weight: output channel, position, input
# channel, window. A test in the innermost loop leaves the border out.

# %%
NAIVE = r"""
KERNEL(kernel) {
    for (int n = 0; n < o; n++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                int32_t sum = out[n].bias;
                for (int m = 0; m < c; m++)
                    for (int r = 0; r < 3; r++)
                        for (int s = 0; s < 3; s++) {
                            int a = i + r - 1, b = j + s - 1, at = ((n * 3 + r) * 3 + s) * c + m;
                            if (a >= 0 && a < h && b >= 0 && b < w)
                                sum += (x[(a * w + b) * c + m] - zx) * k[at];
                        }
                y[(i * w + j) * o + n] = requantize(sum, out + n, zy);
            }
}
"""

# %%
step("naive", NAIVE)

# %% [markdown]
# ### Reorder the loops
#
# Channels lie together in memory (NHWC), so they belong in the innermost loop: the address moves by
# one byte, and test and index leave it.

# %%
REORDERED = r"""
KERNEL(kernel) {
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++)
            for (int n = 0; n < o; n++) {
                int32_t sum = out[n].bias;
                for (int r = 0; r < 3; r++)
                    for (int s = 0; s < 3; s++) {
                        int a = i + r - 1, b = j + s - 1;
                        if (a < 0 || a >= h || b < 0 || b >= w) continue;
                        const int8_t *p = x + (a * w + b) * c;
                        const int8_t *q = k + ((n * 3 + r) * 3 + s) * c;
                        for (int m = 0; m < c; m++) sum += (p[m] - zx) * q[m];
                    }
                y[(i * w + j) * o + n] = requantize(sum, out + n, zy);
            }
}
"""

# %%
step("loops reordered", REORDERED)

# %% [markdown]
# ### A ring of padded rows
#
# Under one row of the window, $3C$ inputs lie together. Only the border is in the way. So keep
# three rows with padding around them in a small ring; the next row overwrites the oldest. What is
# padded with $Z_x$ contributes nothing, so $Z_x$ leaves the loop for good:
#
# $$q_b + \sum (q_x-Z_x)\,q_w = \Big(q_b - Z_x\sum q_w\Big) + \sum q_x\,q_w.$$

# %%
FOLDED = (BIAS - Z_X * K.reshape(F, -1).astype(np.int64).sum(1)).astype(np.int32)

# %%
RING = r"""
INLINE int8_t *row_of(int8_t *ring, int i, int w, int c) {
    return ring + (i + 3) % 3 * (w + 2) * c;
}

INLINE void fill(const int8_t *x, int8_t *ring, int i, int h, int w, int c, int zx) {
    int8_t *to = row_of(ring, i, w, c);
    for (int m = 0; m < (w + 2) * c; m++) to[m] = zx;
    if (i >= 0 && i < h)
        for (int m = 0; m < w * c; m++) to[c + m] = x[i * w * c + m];
}
"""

# %% [markdown]
# What follows is written once for all later steps: `PIXELS` neighbouring pixels times `OUTPUTS`
# output channels at a time. `tile` adds one run of $3C$ products to each of their sums.

# %%
ENDS = r"""
INLINE void begin(int32_t a[PIXELS][OUTPUTS], const Channel *p) {
    for (int u = 0; u < PIXELS; u++)
        for (int v = 0; v < OUTPUTS; v++) a[u][v] = p[v].bias;
}
INLINE void end(int32_t a[PIXELS][OUTPUTS], int8_t *y, int o, const Channel *p, int zy) {
    for (int u = 0; u < PIXELS; u++)
        for (int v = 0; v < OUTPUTS; v++) y[u * o + v] = requantize(a[u][v], p + v, zy);
}
"""

# %%
DIRECT = r"""
KERNEL(kernel) {
    int8_t *ring = (int8_t *)scratch;
    for (int i = -1; i < 1; i++) fill(x, ring, i, h, w, c, zx);
    for (int i = 0; i < h; i++) {
        fill(x, ring, i + 1, h, w, c, zx);
        for (int j = 0; j < w; j += PIXELS)
            for (int n = 0; n < o; n += OUTPUTS) {
                int32_t a[PIXELS][OUTPUTS];
                begin(a, out + n);
                for (int r = 0; r < 3; r++) {
                    const int8_t *p = row_of(ring, i + r - 1, w, c) + j * c;
                    tile(p, c, k + (n * 3 + r) * 3 * c, 9 * c, 3 * c, a);
                }
                end(a, y + (i * w + j) * o + n, o, out + n, zy);
            }
    }
}
"""

# %%
TILE = r"""
INLINE void tile(const int8_t *p, int right, const int8_t *q, int next, int run,
                 int32_t a[PIXELS][OUTPUTS]) {
    UNROLL
    for (int m = 0; m < run; m++)
        for (int v = 0; v < OUTPUTS; v++)
            for (int u = 0; u < PIXELS; u++) a[u][v] += p[m + u * right] * q[m + v * next];
}
"""


# %%
def tiled(source, pixels, outputs, unroll=0):
    """``source`` for one shape of the tile; ``unroll`` steps in a row (0: clang's choice)."""
    how = f'_Pragma("clang loop unroll_count({unroll})")' if unroll else ""
    sizes = f"#define PIXELS {pixels}\n#define OUTPUTS {outputs}\n"
    return sizes + source.replace("UNROLL", how)


# %%
ROWS = 3 * (W + 2) * C
step("ring of rows", tiled(RING + ENDS + TILE + DIRECT, 1, 1), k=K, bias=FOLDED, scratch=ROWS)

# %% [markdown]
# ### Tile the registers
#
# Two pixels times two outputs: four loads feed four products. Each input serves two outputs and
# each weight two pixels while they are in a register. The compiler has unrolled the loops above by
# itself; here it is told not to, so that the next step can be seen alone.

# %%
step("tile 2×2", tiled(RING + ENDS + TILE + DIRECT, 2, 2, 1), bias=FOLDED, scratch=ROWS)

# %% [markdown]
# ### Unroll
#
# Several steps of the loop in a row: one count and one jump for all of them.

# %%
for times in (2, 4, 8):
    print(f"{times} in a row")
    text = tiled(RING + ENDS + TILE + DIRECT, 2, 2, times)
    step(f"unrolled {times}×", text, bias=FOLDED, scratch=ROWS)
for key in list(itertools.product(("unrolled 2×", "unrolled 4×"), (False, True))):
    del RUNS[key]  # the table below keeps the last one

# %% [markdown]
# Compare the two ways of compiling. With constants, the distance from one weight to the next
# output's is part of the load instruction. With arguments it takes an address of its own; the M4
# has thirteen registers for everything, and what does not fit is stored to the stack and loaded
# again, which can cost more than the jumps did. Code grows both ways.
#
# ### SIMD
#
# Four inputs a word, two products an instruction.

# %%
WORDS = r"""
INLINE uint32_t word(const int8_t *p) { return *(const uint32_t *)p; }
INLINE uint32_t even(uint32_t v) { return __sxtb16(v); }
INLINE uint32_t odd(uint32_t v) { return __sxtb16(__ror(v, 8)); }
"""

# %%
SIMD = r"""
INLINE void tile(const int8_t *p, int right, const int8_t *q, int next, int run,
                 int32_t a[PIXELS][OUTPUTS]) {
    UNROLL
    for (int m = 0; m < run; m += 4) {
        uint32_t e[PIXELS], d[PIXELS];
        for (int u = 0; u < PIXELS; u++)
            e[u] = even(word(p + m + u * right)), d[u] = odd(word(p + m + u * right));
        for (int v = 0; v < OUTPUTS; v++) {
            uint32_t f = even(word(q + m + v * next)), g = odd(word(q + m + v * next));
            for (int u = 0; u < PIXELS; u++) a[u][v] = __smlad(e[u], f, __smlad(d[u], g, a[u][v]));
        }
    }
}
"""
SIMD = WORDS + SIMD
step("SIMD", tiled(RING + ENDS + SIMD + DIRECT, 2, 2, 8), bias=FOLDED, scratch=ROWS)

# %% [markdown]
# **Estimate beside measurement.** Four inputs for $T_p$ pixels and $T_o$ outputs take $T_p+T_o$
# loads, twice as many `SXTB16`, and $2T_pT_o$ `SMLAD` for $4T_pT_o$ products:
#
# $$\frac{3(T_p+T_o)+2T_pT_o}{4\,T_pT_o}\ \text{instructions for each MAC}\;\to\;\tfrac12
# \ \text{for large tiles.}$$
#
# A tile has $T_pT_o$ sums, though, and they have to stay in registers.

# %%
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (4, 2), (4, 4)]


# %%
def inner(pixels, outputs):
    """Instructions for each MAC of the innermost loop, without counting and jumping."""
    return (3 * (pixels + outputs) + 2 * pixels * outputs) / (4 * pixels * outputs)


# %%
@cache
def tile_run(pixels, outputs, c):
    """Instructions for each MAC, executed on an 8×8 image."""
    x = pick.integers(-128, 128, (8, 8, c), dtype=np.int8)
    k = pick.integers(-127, 128, (8, 3, 3, c), dtype=np.int8)
    source = tiled(RING + ENDS + SIMD + DIRECT, pixels, outputs, 8)
    folded = BIAS[:8] - Z_X * k.reshape(8, -1).astype(int).sum(1)
    y, run, _ = execute(source, x, k, folded, 3 * 10 * c, constant=True)
    assert np.array_equal(y, requantized(sums_of(x, k, BIAS[:8])))
    return run.instructions / (64 * k.size)


# %%
MEASURED = {(c, s): tile_run(*s, c) for c in TILE_CHANNELS for s in SHAPES}


# %% tags=["widget"]
def draw_tiles(ax, channels):
    """Instructions for each MAC against the shape of the tile."""
    names = [f"{p}×{o}" for p, o in SHAPES]
    ax.plot(names, [inner(*s) for s in SHAPES], color=plot.COLOURS["compute"], label="estimate")
    own = [MEASURED[channels, s] for s in SHAPES]
    ax.plot(names, own, "o", color=plot.COLOURS["measured"], label="executed")
    ax.axhline(0.5, color=plot.COLOURS["baseline"], lw=1, ls="--", label="bound")
    ax.set(xlabel="pixels × outputs in registers", ylabel="instructions / MAC", ylim=(0, 3.6))
    ax.legend(fontsize=7, loc="upper right")


# %% tags=["widget"]
plot.explore(draw_tiles, channels=TILE_CHANNELS)

# %% [markdown]
# *Line: the innermost loop, if registers never ran out. Markers: the whole kernel, executed. More
# channels bring the markers down towards the line, because what happens once for each tile is
# shared by more products. A tile that is too large takes them off it: its sums no longer fit into
# registers.*
#
# ### Widen once
#
# Half of the `SXTB16` widen the same inputs again for each pair of outputs. Widen each input once,
# when its row enters the ring: the ring holds 16-bit numbers and doubles. The weights of two
# outputs alternate in flash, four of each, so one `LDRD` loads both. Four inputs, 2×2: 3 `LDRD`, 4
# `SXTB16` and 8 `SMLAD`, so 15 instructions for 16 products.

# %%
WIDE = r"""
INLINE uint32_t *wide_row(uint32_t *ring, int i, int w, int c, int rows) {
    return ring + (i + rows) % rows * (w + 2) * (c / 2);
}
INLINE void wide_fill(const int8_t *x, uint32_t *ring, int i, int h, int w, int c, int zx,
                      int rows) {
    uint32_t *to = wide_row(ring, i, w, c, rows);
    for (int m = 0; m < (w + 2) * c / 2; m++) to[m] = (uint16_t)zx * 0x10001u;
    if (i < 0 || i >= h) return;
    to += c / 2;
    for (int m = 0; m < w * c; m += 4) {
        uint32_t v = *(const uint32_t *)(x + i * w * c + m);
        *to++ = __sxtb16(v);
        *to++ = __sxtb16(__ror(v, 8));
    }
}
"""

# %%
WIDE_DIRECT = r"""
KERNEL(kernel) {
    for (int i = -1; i < 1; i++) wide_fill(x, scratch, i, h, w, c, zx, 3);
    for (int i = 0; i < h; i++) {
        wide_fill(x, scratch, i + 1, h, w, c, zx, 3);
        for (int j = 0; j < w; j += 2)
            for (int n = 0; n < o; n += 2) {
                const uint32_t *q = (const uint32_t *)k + n * 9 * c / PER_WORD;
                int32_t a[2][2];
                begin(a, out + n);
                for (int r = 0; r < 3; r++) {
                    const uint32_t *p = wide_row(scratch, i + r - 1, w, c, 3) + j * (c / 2);
                    q = tile(p, c / 2, q, 3 * c, a);
                }
                end(a, y + (i * w + j) * o + n, o, out + n, zy);
            }
    }
}
"""

# %%
WIDE_TILE = r"""
INLINE const uint32_t *tile(const uint32_t *p, int right, const uint32_t *q, int run,
                            int32_t a[2][2]) {
    UNROLL
    for (int m = 0; m < run; m += 4, q += 2, p += 2) {
        uint32_t f = __sxtb16(q[0]), g = __sxtb16(__ror(q[0], 8));
        uint32_t s = __sxtb16(q[1]), t = __sxtb16(__ror(q[1], 8));
        for (int u = 0; u < 2; u++) {
            a[u][0] = __smlad(p[u * right], f, __smlad(p[u * right + 1], g, a[u][0]));
            a[u][1] = __smlad(p[u * right], s, __smlad(p[u * right + 1], t, a[u][1]));
        }
    }
    return q;
}
"""


# %%
def interleaved(k):
    """Weights ``[F, ...]`` as ``[F/2, n, 2, 4]``: four of one output, four of the next."""
    return k.reshape(len(k) // 2, 2, -1, 4).transpose(0, 2, 1, 3).copy()


# %%
in_c = tiled(ENDS + WIDE + WIDE_TILE + WIDE_DIRECT, 2, 2, 8).replace("PER_WORD", "4")
step("widened once", in_c, k=interleaved(K), bias=FOLDED, scratch=2 * ROWS)

# %% [markdown]
# ### Keep it in registers
#
# That should be 15/16. The rest is mostly stack traffic: the compiler schedules loads early and
# runs out of registers. So the step is written by hand: 15 instructions on 13 registers, repeated
# by the assembler. Here the constants pay once more: the distance to the right neighbour stands in
# the instruction and takes no register at all.

# %%
FOUR = r"""
#define FOUR                                                                       \
    "ldrd %[p], %[q], [%[w]], #8\n"         "ldrd %[t], %[u], [%[x], %[right]]\n"  \
    "sxtb16 %[r], %[p]\n"                   "sxtb16 %[p], %[p], ror #8\n"          \
    "sxtb16 %[s], %[q]\n"                   "sxtb16 %[q], %[q], ror #8\n"          \
    "smlad %[c], %[r], %[t], %[c]\n"        "smlad %[d], %[s], %[t], %[d]\n"       \
    "smlad %[c], %[p], %[u], %[c]\n"        "smlad %[d], %[q], %[u], %[d]\n"       \
    "ldrd %[t], %[u], [%[x]], #8\n"                                                \
    "smlad %[a], %[r], %[t], %[a]\n"        "smlad %[b], %[s], %[t], %[b]\n"       \
    "smlad %[a], %[p], %[u], %[a]\n"        "smlad %[b], %[q], %[u], %[b]\n"
"""

# %%
BY_HAND = r"""
INLINE const uint32_t *tile(const uint32_t *x, int right, const uint32_t *w, int run,
                            int32_t a[2][2]) {
    uint32_t p, q, r, s, t, u;
    const uint32_t *end = w + 2 * run / PER_WORD;
    __asm__ volatile(
        "1:\n.rept %c[times]\n" FOUR ".endr\n.if %c[more]\ncmp %[w], %[end]\nbne 1b\n.endif"
        : [w] "+r"(w), [x] "+r"(x), [a] "+r"(a[0][0]), [b] "+r"(a[0][1]), [c] "+r"(a[1][0]),
          [d] "+r"(a[1][1]), [p] "=&r"(p), [q] "=&r"(q), [r] "=&r"(r), [s] "=&r"(s),
          [t] "=&r"(t), [u] "=&r"(u)
        : [end] "r"(end), [right] "i"(4 * right), [times] "i"(TIMES), [more] "i"(run > 4 * TIMES)
        : "cc", "memory");
    return w;
}
"""


# %%
def by_hand(source, times, per_word=4):
    """``source`` on the hand-written tile, ``times`` of its steps in a row."""
    text = tiled(ENDS + WIDE + (FOUR if per_word == 4 else FOUR_WIDE) + BY_HAND + source, 2, 2)
    return text.replace("PER_WORD", str(per_word)).replace("TIMES", str(times))


# %%
TIMES = next(t for t in (6, 4, 3, 2, 1) if 3 * C // 4 % t == 0)
hand = by_hand(WIDE_DIRECT, TIMES)
step("in registers", hand, k=interleaved(K), bias=FOLDED, scratch=2 * ROWS, ways=(True,))

# %% [markdown]
# ### The table
#
# Instructions by what they do; SRAM holds input, output, scratch memory and stack.


# %%
def share(run):
    """Instructions of a run by kind."""
    kinds = {"MACs": ("sml", "mla", "mul", "mls"), "widening": ("sxt", "uxt")}
    kinds |= {"loads": ("ldr", "ldm", "pop"), "stores": ("str", "stm", "push")}
    counts = {kind: sum(n for name, n in run.mix.items() if name.startswith(starts))
              for kind, starts in kinds.items()}  # fmt: skip
    return counts | {"rest": run.instructions - sum(counts.values())}


# %%
STEPS = [name for name, constant in RUNS if constant]


def per_mac_of(name, constant):
    """Instructions and cycles for each MAC, as text."""
    if (name, constant) not in RUNS:
        return f"{'–':>5} {'–':>5}"
    run = RUNS[name, constant][0]
    return f"{run.instructions / MACS:5.2f} {run.cycles / MACS:5.2f}"


# %%
kinds = list(share(RUNS["naive", True][0]))
print(
    f"{'':15} {'arguments':>11} {'constants':>11} {'SRAM':>7} {'code':>6}  instructions, constants"
)
print(f"{'':15}" + " instr   cyc" * 2 + f" {'bytes':>7} {'bytes':>6} "
      + "".join(f"{kind:>9}" for kind in kinds))  # fmt: skip
for name in STEPS:
    run, code, _ = RUNS[name, True]
    mix = "".join(f"{n / MACS:9.2f}" for n in share(run).values())
    both = f"{per_mac_of(name, False)} {per_mac_of(name, True)}"
    print(f"{name:15} {both} {run.sram_bytes:7,} {code:6,} {mix}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
starts = np.zeros(len(STEPS))
colours = (plot.COLOURS["compute"], "#56B4E9", plot.COLOURS["memory"], "#E69F00", "#bbbbbb")
for kind, colour in zip(("MACs", "widening", "loads", "stores", "rest"), colours, strict=True):
    counts = np.array([share(RUNS[name, True][0])[kind] / MACS for name in STEPS])
    ax.barh(STEPS, counts, left=starts, color=colour, label=kind)
    starts += counts
for way, marker in ((True, "o"), (False, "|")):
    has = [name for name in STEPS if (name, way) in RUNS]
    label = "cycles, constants" if way else "cycles, arguments"
    at = [RUNS[name, way][0].cycles / MACS for name in has]
    ax.plot(at, has, marker, color=plot.COLOURS["measured"], ms=5 if way else 11, label=label)
ax.axvline(0.5, color=plot.COLOURS["baseline"], ls="--", lw=1)
ax.invert_yaxis()
ax.set(xlabel="instructions (bars) and cycles (markers) for each MAC")
ax.legend(fontsize=7, loc="lower right")
plt.show()

# %% [markdown]
# *Bars: instructions of the kernels with constant shapes. Dashed: half an instruction, two products
# each. Each step removes something that was no product. The distance between dot and stroke is what
# it costs not to know the shape when compiling.*
#
# What the hardware does with it: the products were never the problem. Loads are, and a load of the
# M4 takes two cycles unless another follows; so the last kernel has three load instructions for
# sixteen products.
#
# ## 3. im2col, and why not
#
# The usual way to a convolution is a matrix product: copy the window of every output pixel into a
# column of $9C$ inputs (im2col), then multiply. The inner loop gets longer runs and no borders. The
# price is memory: every input is stored nine times.

# %%
COLUMN = r"""
INLINE void column(const int8_t *x, int8_t *to, int at, int h, int w, int c, int zx) {
    int i = at / w, j = at % w;
    for (int r = i - 1; r <= i + 1; r++)
        for (int s = j - 1; s <= j + 1; s++, to += c) {
            int inside = r >= 0 && r < h && s >= 0 && s < w;
            const int8_t *from = x + (r * w + s) * c;
            for (int m = 0; m < c; m += 4)
                *(uint32_t *)(to + m) = inside ? word(from + m) : (uint8_t)zx * 0x01010101u;
        }
}
"""

# %%
PRODUCT = r"""
INLINE void product(const int8_t *p, const int8_t *k, const Channel *out, int8_t *y, int run, int o,
                    int zy) {
    for (int n = 0; n < o; n += 2) {
        int32_t a[2][2];
        begin(a, out + n);
        tile(p, run, k + n * run, run, run, a);
        end(a, y + n, o, out + n, zy);
    }
}
"""

# %%
WHOLE = r"""
KERNEL(kernel) {
    int8_t *columns = (int8_t *)scratch;
    for (int j = 0; j < h * w; j++) column(x, columns + j * 9 * c, j, h, w, c, zx);
    for (int j = 0; j < h * w; j += 2)
        product(columns + j * 9 * c, k, out, y + j * o, 9 * c, o, zy);
}
"""

# %% [markdown]
# CMSIS-NN does not store all columns but two at a time, multiplies, and forgets them ("partial
# im2col"). Same arithmetic, same tile; only what lies in memory differs.

# %%
TWO = r"""
KERNEL(kernel) {
    int8_t *columns = (int8_t *)scratch;
    for (int j = 0; j < h * w; j += 2) {
        column(x, columns, j, h, w, c, zx);
        column(x, columns + 9 * c, j + 1, h, w, c, zx);
        product(columns, k, out, y + j * o, 9 * c, o, zy);
    }
}
"""

# %%
LOWERED = {"im2col, whole": (WHOLE, H * W * 9 * C), "im2col, two columns": (TWO, 18 * C)}
for name, (source, scratch) in LOWERED.items():
    text = tiled(ENDS + SIMD + COLUMN + PRODUCT + source, 2, 2, 8)
    y, run, code = execute(text, X, K, FOLDED, scratch, constant=True)
    assert np.array_equal(y, Y)
    LOWERED[name] = run, code, scratch

# %%
for name, (run, code, scratch) in (LOWERED | {"ring of rows": RUNS["SIMD", True]}).items():
    print(f"{name:20} {run.cycles / MACS:.2f} cycles a MAC, {run.sram_bytes:7,} bytes of SRAM, "
          f"{scratch:7,} of them scratch; {code:,} of code")  # fmt: skip

# %% [markdown]
# **Estimate: when does copying cost?** A column of $9C$ inputs is copied once and multiplied with
# $O$ outputs, so copying adds about $1/O$ of a copied byte to each MAC. Execute it: the same layer
# with fewer outputs.

# %%
OUTPUTS_TRIED = [n for n in (2, 4, 8, 16, 32) if n <= F]
KINDS = {"two columns": (ENDS + SIMD + COLUMN + PRODUCT + TWO, 18 * C)}
KINDS["ring"] = RING + ENDS + SIMD + DIRECT, ROWS
BY_OUTPUTS = {}
for (name, (source, scratch)), n in itertools.product(KINDS.items(), OUTPUTS_TRIED):
    y, run, _ = execute(tiled(source, 2, 2, 8), X, K[:n], FOLDED[:n], scratch, constant=True)
    assert np.array_equal(y, Y[..., :n])
    BY_OUTPUTS[name, n] = run.cycles / (H * W * K[:n].size)

# %%
fig, ax = plt.subplots(figsize=(5.2, 2.8))
for name, colour in zip(KINDS, (plot.COLOURS["memory"], plot.COLOURS["ours"]), strict=True):
    own = [BY_OUTPUTS[name, n] for n in OUTPUTS_TRIED]
    ax.plot(OUTPUTS_TRIED, own, "o-", color=colour, label=name)
ax.set(xlabel="output channels", ylabel="cycles for each MAC", xscale="log")
ax.set(ylim=(0, 1.15 * max(BY_OUTPUTS.values())))
ax.set_xticks(OUTPUTS_TRIED, map(str, OUTPUTS_TRIED))
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# *Where many outputs share a column, copying hardly shows. As they get fewer, its line rises
# faster: an input is copied nine times, into the ring once.*
#
# So im2col on a microcontroller is not slow. Stored whole, it takes several times the memory of the
# layer itself, and on this board memory is what a network runs out of first. In pieces it is a fair
# kernel, and what CMSIS-NN ships. TinyEngine as published goes on from there: one buffer for the
# whole network, as large as its most demanding layer, and in every layer as many columns as fit
# into it (MCUNet, section 3.2). What the ring saves is not the buffer but the copying: an input is
# widened once, not nine times, and that is why the next steps of section 2 stand on it.
#
# ## 4. Winograd: fewer multiplications, and then?
#
# Two outputs of a filter with three taps need four multiplications, not six:
#
# $$\begin{aligned}y_0&=m_0+m_1+m_2,& m_0&=(d_0-d_2)g_0,& m_1&=(d_1+d_2)\tfrac{g_0+g_1+g_2}{2},\\
# y_1&=m_1-m_2-m_3,& m_3&=(d_1-d_3)g_2,& m_2&=(d_2-d_1)\tfrac{g_0-g_1+g_2}{2}.\end{aligned}$$
#
# Nested for rows and columns, $F(2{\times}2,3{\times}3)$ computes four outputs with 16
# multiplications instead of 36. The factor of the weights is doubled here, so that everything stays
# an integer and the sums are exactly four times the true ones.

# %%
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
d, g = pick.integers(-128, 128, (4, 4)), pick.integers(-127, 128, (3, 3))
direct = [[(d[i : i + 3, j : j + 3] * g).sum() for j in range(2)] for i in range(2)]
assert (A @ ((G @ g @ G.T) * (B @ d @ B.T)) @ A.T == 4 * np.array(direct)).all()

# %% [markdown]
# What the transforms do to eight bits:

# %%
U = np.einsum("ar,nrsm,bs->nabm", G, K.astype(int), G)
corner = X[:4, :4].astype(int)
V = np.einsum("ar,rsm,bs->abm", B, corner, B)
wide = {"weights": U, "inputs": V}
for name, values in wide.items():
    inside = ((values >= -128) & (values < 128)).mean()
    print(f"{name}: up to {np.abs(values).max()}, {inside:.0%} of them fit into 8 bits")

# %% [markdown]
# So transformed numbers are 16 bits wide. On this core that is no loss by itself, `SMLAD`
# multiplies halfwords anyway, and weights that are stored with 16 bits need no widening. They take
# twice the flash, and there are 16 of them for every 9:

# %%
FOUR_WIDE = r"""
#define FOUR                                                                       \
    "ldrd %[p], %[q], [%[w]], #8\n"         "ldrd %[r], %[s], [%[w]], #8\n"         \
    "ldrd %[t], %[u], [%[x], %[right]]\n"                                          \
    "smlad %[c], %[p], %[t], %[c]\n"        "smlad %[d], %[r], %[t], %[d]\n"       \
    "smlad %[c], %[q], %[u], %[c]\n"        "smlad %[d], %[s], %[u], %[d]\n"       \
    "ldrd %[t], %[u], [%[x]], #8\n"                                                \
    "smlad %[a], %[p], %[t], %[a]\n"        "smlad %[b], %[r], %[t], %[b]\n"       \
    "smlad %[a], %[q], %[u], %[a]\n"        "smlad %[b], %[s], %[u], %[b]\n"
"""

# %% [markdown]
# The input transform handles two channels at once (`SADD16`, `SSUB16` on the widened ring); 16
# products over all channels follow, for two tiles and two outputs in registers; then the sums go
# back.

# %%
FORWARD = r"""
INLINE void forward(const uint32_t *const *d, int at, int px, uint32_t *v, int gap) {
    uint32_t t[4][4];
    for (int s = 0; s < 4; s++, at += px) {
        t[0][s] = __ssub16(d[0][at], d[2][at]), t[1][s] = __sadd16(d[1][at], d[2][at]);
        t[2][s] = __ssub16(d[2][at], d[1][at]), t[3][s] = __ssub16(d[1][at], d[3][at]);
    }
    for (int r = 0; r < 4; r++, v += 4 * gap) {
        v[0] = __ssub16(t[r][0], t[r][2]), v[gap] = __sadd16(t[r][1], t[r][2]);
        v[2 * gap] = __ssub16(t[r][2], t[r][1]), v[3 * gap] = __ssub16(t[r][1], t[r][3]);
    }
}
"""

# %%
BACK = r"""
INLINE void back(int32_t m[16][2][2], int u, int n, int8_t *y, int row, int px, const Channel *p,
                 int zy) {
    int32_t s[2][4];
    for (int b = 0; b < 4; b++) {
        s[0][b] = m[b][u][n] + m[4 + b][u][n] + m[8 + b][u][n];
        s[1][b] = m[4 + b][u][n] - m[8 + b][u][n] - m[12 + b][u][n];
    }
    for (int a = 0; a < 2; a++, y += row) {
        y[0] = requantize((s[a][0] + s[a][1] + s[a][2]) / 4 + p->bias, p, zy);
        y[px] = requantize((s[a][1] - s[a][2] - s[a][3]) / 4 + p->bias, p, zy);
    }
}
"""

# %%
PRODUCTS = r"""
INLINE void products(const uint32_t *v, const uint32_t *q, const Channel *out, int8_t *y, int w,
                     int c, int o, int zy) {
    for (int n = 0; n < o; n += 2) {
        int32_t m[16][2][2];
        for (int f = 0; f < 16; f++) {
            int32_t a[2][2] = {{0, 0}, {0, 0}};
            q = tile(v + f * c, c / 2, q, c, a);
            for (int t = 0; t < 4; t++) m[f][t / 2][t % 2] = a[t / 2][t % 2];
        }
        for (int t = 0; t < 4; t++)
            back(m, t / 2, t % 2, y + t / 2 * 2 * o + n + t % 2, w * o, o, out + n + t % 2, zy);
    }
}
"""

# %%
WINOGRAD = r"""
KERNEL(kernel) {
    uint32_t *v = scratch + 4 * (w + 2) * (c / 2);
    for (int i = -1; i < 1; i++) wide_fill(x, scratch, i, h, w, c, zx, 4);
    for (int i = 0; i < h; i += 2) {
        const uint32_t *d[4];
        for (int r = 1; r < 3; r++) wide_fill(x, scratch, i + r, h, w, c, zx, 4);
        for (int r = 0; r < 4; r++) d[r] = wide_row(scratch, i + r - 1, w, c, 4);
        for (int j = 0; j < w; j += 4) {
            for (int u = 0; u < 2; u++)
                for (int m = 0; m < c / 2; m++)
                    forward(d, (j + 2 * u) * (c / 2) + m, c / 2, v + u * (c / 2) + m, c);
            products(v, (const uint32_t *)k, out, y + (i * w + j) * o, w, c, o, zy);
        }
    }
}
"""

# %%
MIXED = [0, 2, 1, 3]  # the order into which SXTB16 brings four inputs
wide_weights = interleaved(K.reshape(F, -1, 4)[..., MIXED].astype(np.int16))
transformed = U.reshape(F // 2, 2, 16, C // 4, 4)[..., MIXED].transpose(0, 2, 3, 1, 4)
transformed = np.ascontiguousarray(transformed, dtype=np.int16)

# %%
few = next(t for t in (8, 4, 2, 1) if C // 4 % t == 0)
text = by_hand(WIDE_DIRECT, TIMES, per_word=2)
step("16-bit weights", text, wide_weights, FOLDED, 2 * ROWS, ways=(True,))
text = by_hand(FORWARD + BACK + PRODUCTS + WINOGRAD, few, per_word=2)
step("Winograd", text, transformed, FOLDED, 8 * (W + 2) * C + 64 * C, ways=(True,))

# %%
plain = RUNS["in registers", True][0]
COMPARED = {"in registers": K, "16-bit weights": wide_weights, "Winograd": transformed}
for name, k in COMPARED.items():
    run, code, scratch = RUNS[name, True]
    print(f"{name:14} SMLAD ×{run.mix['smlad'] / plain.mix['smlad']:.2f}, "
          f"instructions ×{run.instructions / plain.instructions:.2f}, "
          f"cycles ×{run.cycles / plain.cycles:.2f}; flash {k.nbytes + code:,}, "
          f"scratch {scratch:,} bytes")  # fmt: skip

# %% [markdown]
# A counter-example to counting multiplications. The products fall as promised. Cycles fall less:
# every product still loads its operands, now both of them 16 bits wide, and transforms come on top.
# The bytes go the other way, in flash and in SRAM. A board is harder on it than the emulator: flash
# has wait states, and this kernel reads far more of it. And where the fast instruction multiplies
# *bytes* (`SDOT`), the gain is gone before it begins: either the products are done 16 bits wide at
# a lower rate, or the transformed numbers are rounded to 8 bits, which changes the result.
#
# ## 5. Depthwise: one channel at a time, in place
#
# A depthwise convolution filters each channel on its own, with nine products for each output. There
# is no sum over channels, so nothing of the tile above applies: a weight serves one channel and an
# input one output channel. First as everybody writes it:

# %%
CUT = r"""
#define H SIDE_
#define W SIDE_
#define C CHANNELS_
#define O CHANNELS_
#define ZX INPUT_ZERO
#define ZY OUTPUT_ZERO
#define STRIDE STEP_
"""


# %%
def with_shape(source, stride=1):
    """``source`` with the layer's shape as macros: all kernels below are specialised."""
    values = {"SIDE_": SIDE, "CHANNELS_": CHANNELS, "INPUT_ZERO": Z_X, "OUTPUT_ZERO": Z_Y}
    text = CUT
    for name, value in (values | {"STEP_": stride}).items():
        text = text.replace(name, str(value))
    return HEAD + text + source


# %%
DEPTHWISE = r"""
void depthwise(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y) {
    for (int i = 0; i < H / STRIDE; i++)
        for (int j = 0; j < W / STRIDE; j++)
            for (int n = 0; n < C; n++) {
                int32_t sum = out[n].bias;
                for (int r = 0; r < 3; r++)
                    for (int s = 0; s < 3; s++) {
                        int a = i * STRIDE + r - 1, b = j * STRIDE + s - 1;
                        if (a < 0 || a >= H || b < 0 || b >= W) continue;
                        sum += (x[(a * W + b) * C + n] - ZX) * k[(r * 3 + s) * C + n];
                    }
                *y++ = requantize(sum, out + n, ZY);
            }
}
"""

# %% [markdown]
# **In place.** Output channel $o$ reads input channel $o$ and nothing else. So copy one channel
# into a small padded plane, filter from there, and write the results over the input: with NHWC,
# channel $o$ of input and output lies at the addresses $o$ modulo $C$. With stride 2 the results
# are fewer; slot $t$ of a channel is written when the plane already holds it. The peak is one
# tensor and one plane, instead of two tensors.
#
# In the plane, neighbours of one channel lie together, so a row of the window is one word: bytes 0
# and 2 against $(w_0, w_2)$, byte 1 against $(w_1, 0)$. (The word's last byte meets the 0.)

# %%
PLANE = r"""
INLINE void filter(const int8_t *p, const int8_t *k, const Channel *out, int8_t *y, int gap) {
    uint32_t ends[3], middle[3];
    Channel own = *out;
    for (int r = 0; r < 3; r++, k += 3) {
        ends[r] = (uint16_t)k[0] | (uint32_t)k[2] << 16;
        middle[r] = (uint16_t)k[1];
    }
    for (int i = 0; i < H; i += STRIDE)
        for (int j = 0; j < W; j += STRIDE, y += gap) {
            int32_t sum = own.bias;
            for (int r = 0; r < 3; r++) {
                uint32_t v = word(p + (i + r) * (W + 2) + j);
                sum = __smlad(odd(v), middle[r], __smlad(even(v), ends[r], sum));
            }
            *y = requantize(sum, &own, ZY);
        }
}
"""

# %%
IN_PLACE = r"""
INLINE void gather(const int8_t *x, int8_t *plane, int gap) {
    for (int i = 1; i <= H; i++)
        for (int j = 1; j <= W; j++, x += gap) plane[i * (W + 2) + j] = *x;
}
void in_place(int8_t *x, const int8_t *k, const Channel *out, int8_t *plane) {
    for (int i = 0; i < (H + 2) * (W + 2); i++) plane[i] = ZX;
    for (int n = 0; n < C; n++) {
        gather(x + n, plane, C);
        filter(plane, k + 9 * n, out + n, x + n, C);
    }
}
"""

# %% [markdown]
# Nine products for each output: what was negligible with 288 is not any more, the requantization
# above all. It has a shorter form. If $n\ge33$, the rounding term has an empty low word, so only
# the high word of the product matters; and $Z_y$ can go through the shift:
#
# $$\big((aM_0 + 2^{n-1})\gg n\big) + Z_y =
# \big(\mathrm{high}(aM_0) + 2^{n-33} + Z_y 2^{n-32}\big)\gg(n-32).$$
#
# High word of a product plus an accumulator is one instruction, `SMMLA`. A shift and a saturation
# follow.

# %%
SHORT = r"""
#define requantize(sum, p, zy) short_form(sum, p, zy)
INLINE int8_t short_form(int32_t sum, const Channel *p, int zy) {
    int32_t offset = (1 << (p->shift - 33)) + (zy << (p->shift - 32));
    int32_t high = (int32_t)(((int64_t)sum * p->mantissa + ((int64_t)offset << 32)) >> 32);
    return __ssat(high >> (p->shift - 32), 8);
}
"""

# %%
D = pick.integers(-127, 128, (3, 3, C), dtype=np.int8)
D_SHIFT = 38
padded = np.pad(X.astype(np.int64) - Z_X, ((1, 1), (1, 1), (0, 0)))
D_SUMS = sum(padded[r : r + H, s : s + W] * D[r, s] for r in range(3) for s in range(3)) + BIAS
D_FOLDED = (BIAS - Z_X * D.reshape(9, C).astype(np.int64).sum(0)).astype(np.int32)
BY_CHANNEL = D.reshape(9, C).T.copy()
PLANE_BYTES = (H + 2) * (W + 2) + 4

# %%
table, folded = (InFlash(channels(b, D_SHIFT)) for b in (BIAS, D_FOLDED))
plane = np.zeros(PLANE_BYTES, np.int8)

# %%
DEPTH = {}
for stride in (1, 2):
    expected = requantized(D_SUMS[::stride, ::stride], D_SHIFT)
    firmware = Firmware(with_shape(DEPTHWISE, stride), keep=["depthwise"])
    run = firmware.run("depthwise", X, InFlash(D), table, np.zeros_like(expected))
    assert np.array_equal(run.outputs[1], expected)
    DEPTH["two tensors", stride] = run, firmware.flash_bytes
    for name, head in (("in place", ""), ("in place, SMMLA", SHORT)):
        text = with_shape(head + WORDS + PLANE + IN_PLACE, stride)
        firmware = Firmware(text, keep=["in_place"])
        run = firmware.run("in_place", X, InFlash(BY_CHANNEL), folded, plane)
        assert np.array_equal(run.outputs[0].ravel()[: expected.size], expected.ravel())
        DEPTH[name, stride] = run, firmware.flash_bytes

# %%
for (name, stride), (run, code) in DEPTH.items():
    macs = H * W * D.size // stride**2
    print(f"stride {stride}, {name:16} {run.instructions / macs:5.2f} instructions, "
          f"{run.cycles / macs:5.2f} cycles a MAC, {run.sram_bytes:6,} bytes of SRAM, "
          f"{code:,} of code")  # fmt: skip

# %% [markdown]
# Even so a depthwise MAC costs several times one of section 2: there is nothing to reuse. It has
# few MACs. Its *memory* is what counts, because in an inverted residual block it sits between the
# two widest tensors of the network.
#
# ### NHWC or NCHW?
#
# By kind of kernel. A *pointwise* convolution sums over channels: NHWC lays down together what is
# summed, and `SMLAD` adds two products of one sum. In NCHW a word holds four pixels of one channel,
# whose products belong to four sums; each needs an instruction of its own. A *depthwise* one sums
# over neighbours: planes, NCHW, are what `SMLAD` wants.

# %%
POINTWISE = r"""
void pointwise_nhwc(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y) {
    for (int j = 0; j < H * W; j += 2)
        for (int n = 0; n < O; n += 2) {
            int32_t a[2][2];
            begin(a, out + n);
            tile(x + j * C, C, k + n * C, C, C, a);
            end(a, y + j * O + n, O, out + n, ZY);
        }
}
"""

# %%
POINTWISE_PLANES = r"""
void pointwise_nchw(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y) {
    for (int n = 0; n < O; n++, out++)
        for (int j = 0; j < H * W; j += 4, y += 4) {
            int32_t a0 = out->bias, a1 = a0, a2 = a0, a3 = a0;
            for (int m = 0; m < C; m++) {
                uint32_t v = word(x + m * H * W + j);
                int q = k[n * C + m];
                a0 = __smlabb(even(v), q, a0), a1 = __smlabb(odd(v), q, a1);
                a2 = __smlatb(even(v), q, a2), a3 = __smlatb(odd(v), q, a3);
            }
            y[0] = requantize(a0, out, ZY), y[1] = requantize(a1, out, ZY);
            y[2] = requantize(a2, out, ZY), y[3] = requantize(a3, out, ZY);
        }
}
"""

# %% [markdown]
# For the depthwise one in NHWC, not the naive kernel but a good one: four channels a word, four
# sums, from the ring of padded rows.

# %%
DEPTHWISE_WORDS = r"""
INLINE void four(const int8_t *ring, const int8_t *k, const Channel *p, int8_t *y, int i, int at) {
    int32_t a0 = p[0].bias, a1 = p[1].bias, a2 = p[2].bias, a3 = p[3].bias;
    for (int r = 0; r < 3; r++)
        for (int s = 0; s < 3; s++) {
            uint32_t v = word(row_of((int8_t *)ring, i + r - 1, W, C) + at + s * C);
            uint32_t q = word(k + (r * 3 + s) * C);
            a0 = __smlabb(even(v), even(q), a0), a1 = __smlabb(odd(v), odd(q), a1);
            a2 = __smlatt(even(v), even(q), a2), a3 = __smlatt(odd(v), odd(q), a3);
        }
    y[0] = requantize(a0, p, ZY), y[1] = requantize(a1, p + 1, ZY);
    y[2] = requantize(a2, p + 2, ZY), y[3] = requantize(a3, p + 3, ZY);
}
"""

# %%
DEPTHWISE_NHWC = r"""
void depthwise_nhwc(const int8_t *x, const int8_t *k, const Channel *out, int8_t *y, int8_t *ring) {
    for (int i = -1; i < 1; i++) fill(x, ring, i, H, W, C, ZX);
    for (int i = 0; i < H; i++) {
        fill(x, ring, i + 1, H, W, C, ZX);
        for (int n = 0; n < C; n += 4)
            for (int j = 0; j < W; j++)
                four(ring, k + n, out + n, y + (i * W + j) * C + n, i, j * C + n);
    }
}
void depthwise_nchw(int8_t *x, const int8_t *k, const Channel *out, int8_t *plane) {
    for (int i = 0; i < (H + 2) * (W + 2); i++) plane[i] = ZX;
    for (int n = 0; n < C; n++) {
        gather(x + n * H * W, plane, 1);
        filter(plane, k + 9 * n, out + n, x + n * (H / STRIDE) * (W / STRIDE), 1);
    }
}
"""

# %%
LAYOUTS = SHORT + RING + ENDS + SIMD + PLANE + IN_PLACE + POINTWISE + POINTWISE_PLANES
text = with_shape(tiled(LAYOUTS + DEPTHWISE_WORDS + DEPTHWISE_NHWC, 2, 2, 4))
names = [f"{kind}_{layout}" for kind in ("pointwise", "depthwise") for layout in ("nhwc", "nchw")]
layouts = Firmware(text, keep=names)
P = pick.integers(-127, 128, (F, C), dtype=np.int8)
P_FOLDED = (BIAS - Z_X * P.astype(np.int64).sum(1)).astype(np.int32)
P_Y = requantized((X.astype(np.int64) - Z_X) @ P.T.astype(np.int64) + BIAS, 39)
D_Y = requantized(D_SUMS, D_SHIFT)

# %%
planes, empty = X.transpose(2, 0, 1).copy(), np.zeros_like(Y)
pointwise = [InFlash(P), InFlash(channels(P_FOLDED, 39)), empty]
filters = [InFlash(channels(D_FOLDED, D_SHIFT))]
space = np.zeros(ROWS, np.int8)

# %%
CASES = {
    "pointwise_nhwc": ([X, *pointwise], 1, P_Y),
    "pointwise_nchw": ([planes, *pointwise], 1, P_Y.transpose(2, 0, 1)),
    "depthwise_nhwc": ([X, InFlash(D), *filters, empty, space], 1, D_Y),
    "depthwise_nchw": ([planes, InFlash(BY_CHANNEL), *filters, space], 0, D_Y.transpose(2, 0, 1)),
}

# %%
CYCLES = {}
for name, (arguments, at, expected) in CASES.items():
    run = layouts.run(name, *arguments)
    assert np.array_equal(run.outputs[at].ravel(), expected.ravel())
    CYCLES[name] = run.cycles / (H * W * {"p": P, "d": D}[name[0]].size)

# %%
fig, ax = plt.subplots(figsize=(5.6, 2.6))
for at, (layout, colour) in enumerate((("nhwc", plot.CYCLE[0]), ("nchw", plot.CYCLE[4]))):
    own = [CYCLES[f"{kind}_{layout}"] for kind in ("pointwise", "depthwise")]
    bars = ax.bar(np.arange(2) + 0.36 * (at - 0.5), own, 0.34, color=colour, label=layout.upper())
    ax.bar_label(bars, fmt="%.2f", fontsize=8)
in_place = DEPTH["in place, SMMLA", 1][0].cycles / (H * W * D.size)
label = "NHWC, by planes in place"
bars = ax.bar([1.54], [in_place], 0.34, color=plot.COLOURS["ours"], label=label)
ax.bar_label(bars, fmt="%.2f", fontsize=8)
ax.set_xticks([0, 1.18], ["pointwise", "depthwise"])
ax.set(ylabel="cycles for each MAC", ylim=(0, 1.2 * max(CYCLES.values())))
ax.grid(axis="x", visible=False)
ax.legend(fontsize=7)
plt.show()

# %% [markdown]
# *The layouts win where they put together what is summed. Green: input and output stay NHWC, and
# the depthwise kernel makes a plane of one channel at a time.*
#
# So the tensors stay NHWC for the many MACs of pointwise layers, and the plane of section 5 is a
# change of layout for one channel, for as long as it is needed. Its *weights* lie by channels from
# the start, nine together; TinyEngine reorders those of depthwise layers offline as well, from HWC
# to CHW.
#
# ## 6. Loop locality
#
# The emulated M4 has no data cache: a load costs the same from anywhere in SRAM. A Cortex-M7 has
# one of a few KiB, a laptop has three. There the *order of addresses* decides, and it can be
# simulated: a cache of sets, each with a few lines, that throws out the line not used for longest
# (LRU).

# %%
LRU = r"""
static int sets, line_bytes, ways, misses, held[1 << 20];

void reset(int new_sets, int new_ways, int new_line) {
    sets = new_sets, ways = new_ways, line_bytes = new_line, misses = 0;
    for (int i = 0; i < sets * ways; i++) held[i] = -1;
}
static inline void touch(int address) {
    int line = address / line_bytes, *set = held + line % sets * ways, moving = line;
    for (int w = 0; w < ways; w++) { /* the newest in front, all others one place back */
        int next = set[w];
        set[w] = moving;
        if (next == line) return;
        moving = next;
    }
    misses++;
}
"""

# %% [markdown]
# The loops are those of a matrix product, $c_{ij} \mathrel{+}= a_{ik}b_{kj}$, which is also a
# pointwise convolution: pixels, outputs, inputs. All six orders compute the same. The text of the
# loops is generated, once with the product in it and once with the three addresses.

# %%
ORDERS = ["".join(p) for p in itertools.permutations("ijk")]
PRODUCT_BODY = "c[i * J + j] += a[i * K + k] * b[k * J + j];"
TOUCHES = "touch(4 * (i * K + k)); touch(AT_B + 4 * (k * J + j)); touch(AT_C + 4 * (i * J + j));"


# %%
def nest(order, body, tile=0):
    """Loops in this order; with ``tile``, over blocks of that size and then inside of a block."""
    heads = []
    if tile:
        heads = [f"for (int {v}0 = 0; {v}0 < {v.upper()}; {v}0 += {tile})" for v in order]
    for v in order:
        first, last = (f"{v}0", f"LESS({v}0 + {tile}, {v.upper()})") if tile else (0, v.upper())
        heads.append(f"for (int {v} = {first}; {v} < {last}; {v}++)")
    heads.insert(-1, "\n#pragma clang loop vectorize(disable) unroll(disable)\n")
    return " ".join(heads) + f" {{ {body} }}"


# %%
def library(i, k, j, tile):
    """For each order ``run_…`` and ``trace_…``, and both for the tiled loops."""
    text = f"enum {{ I = {i}, K = {k}, J = {j}, AT_B = 4 * I * K, AT_C = AT_B + 4 * K * J }};\n"
    text += "#define LESS(x, y) ((x) < (y) ? (x) : (y))\n" + LRU
    for name, order, size in [*((o, o, 0) for o in ORDERS), ("tiled", "ikj", tile)]:
        arrays = "float *restrict a, float *restrict b, float *restrict c"
        text += f"void run_{name}({arrays}) {{ {nest(order, PRODUCT_BODY, size)} }}\n"
        text += f"int trace_{name}(void) {{ {nest(order, TOUCHES, size)} return misses; }}\n"
    return native.build(text)


# %% [markdown]
# **Oracle**: the same cache in Python, an ordered dictionary for each set; and numpy for the
# product.


# %%
def misses_in_python(addresses, sets, ways, line):
    """LRU by ordered dictionaries."""
    cache_sets, count = [OrderedDict() for _ in range(sets)], 0
    for address in addresses:
        lines = cache_sets[address // line % sets]
        count += address // line not in lines
        lines[address // line] = None
        lines.move_to_end(address // line)
        if len(lines) > ways:
            lines.popitem(last=False)
    return count


# %%
small = library(5, 11, 7, tile=4)
at_b, at_c = 4 * 5 * 11, 4 * (5 * 11 + 11 * 7)
sizes = {"i": 5, "k": 11, "j": 7}

# %%
for order in ORDERS:
    trace = []
    for values in itertools.product(*(range(sizes[v]) for v in order)):
        at = dict(zip(order, values, strict=True))
        i, k, j = at["i"], at["k"], at["j"]
        trace += [4 * (i * 11 + k), at_b + 4 * (k * 7 + j), at_c + 4 * (i * 7 + j)]
    small.reset(2, 2, 16)
    assert getattr(small, f"trace_{order}")() == misses_in_python(trace, 2, 2, 16)

# %%
names = [*ORDERS, "tiled"]
a, b = pick.normal(size=(5, 11)).astype(np.float32), pick.normal(size=(11, 7)).astype(np.float32)
for name in names:
    c = np.zeros((5, 7), np.float32)
    getattr(small, f"run_{name}")(a, b, c)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)

# %% [markdown]
# **A layer on an M7**: 64 pixels, 96 inputs, 96 outputs, lines of 32 bytes, four to a set, as in
# the Cortex-M7; caches from half a KiB to 64 KiB.

# %%
layer = library(64, 96, 96, tile=16)
KIBS = [0.5 * 2**n for n in range(8)]
MISSES = {}
for name, kib in itertools.product(names, KIBS):
    layer.reset(int(kib * 1024) // (4 * 32), 4, 32)
    MISSES[name, kib] = getattr(layer, f"trace_{name}")() / (64 * 96 * 96)

# %%
STYLES = dict(zip(names, [*plot.CYCLE[:6], plot.COLOURS["measured"]], strict=True))
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for name in names:
    own = [MISSES[name, kib] for kib in KIBS]
    style = {"ls": "--", "marker": "s"} if name == "tiled" else {"marker": "o"}
    ax.plot(KIBS, own, color=STYLES[name], label=name, **style)
ax.set(xscale="log", yscale="log", xlabel="cache, KiB (simulated)", ylabel="misses for each MAC")
ax.set_xticks(KIBS, [f"{kib:g}" for kib in KIBS])
ax.minorticks_off()
ax.legend(ncols=2, fontsize=7, title="loops, outermost first", title_fontsize=7)
plt.show()

# %% [markdown]
# *Same work, same data. An order falls at the cache size in which what it comes back to fits, and
# orders with the same innermost loop start together. Tiling makes it fit early: blocks of 16
# are three KiB.*
#
# **Simulation beside time.** Now a product that does not fit into this machine's first cache
# either, in a simulated cache of 32 KiB with lines of 64 bytes, and timed. The loops are not
# vectorized, or vectors would be compared instead of orders.

# %%
SIZES = (16, 1000, 1000)
big = library(*SIZES, tile=64)
a = pick.normal(size=SIZES[:2]).astype(np.float32)
b = pick.normal(size=SIZES[1:]).astype(np.float32)
c = np.zeros((SIZES[0], SIZES[2]), np.float32)
calls = {n: partial(getattr(big, f"run_{n}"), a, b, c) for n in names}
TIMES_OF = measure.latency(calls, rounds=ROUNDS, warm_up=1)

# %%
L1 = {}
for name in names:
    big.reset(64, 8, 64)
    L1[name] = getattr(big, f"trace_{name}")() / math.prod(SIZES)

# %%
fig, ax = plt.subplots(figsize=(5.6, 3))
per_mac = math.prod(SIZES) * 1e-9
for name in names:
    time = TIMES_OF[name]
    ax.errorbar(L1[name], time.median / per_mac, yerr=time.iqr / 2 / per_mac, fmt="o", capsize=2,
                color=STYLES[name], label=name)  # fmt: skip
top = 1.3 * max(TIMES_OF[name].median for name in names) / per_mac
ax.set(xscale="log", xlabel="misses for each MAC (32 KiB, simulated)", ylim=(0, top))
ax.set(ylabel="ns for each MAC (measured)")
ax.legend(ncols=2, fontsize=7)
plt.show()
for name in names:
    print(f"{name:5} {L1[name]:.4f} misses, {TIMES_OF[name].median / per_mac:.2f} ns for each MAC")

# %% [markdown]
# *To the right more misses. Where orders with many misses are not slower, the processor's
# prefetcher saw the pattern coming or other work hid the wait; a count of misses says where the
# risk is, not the time.*
#
# What it means for the kernels above: with NHWC and channels innermost, weights and inputs are both
# read straight through. The order that spares instructions on the M4 is also the one that
# spares misses where there is a cache.
#
# ## 7. Memory: planned, not allocated
#
# A network's tensors have fixed sizes and known lifetimes: from the operator that writes one to the
# last that reads it. So their addresses can be chosen before the program runs, and the engine needs
# no allocator. Two tensors that are never alive together may share bytes. With offset $\omega_t$,
# size $s_t$ and life $[f_t, l_t]$:
#
# $$\min_\omega\ \max_t\,(\omega_t + s_t)\quad
# \text{so that tensors alive together do not overlap.}$$
#
# The least possible is what is alive at the worst moment. In general it is not reached, and finding
# the optimum is NP-hard, so engines place greedily. **First fit**: one after the other, each at the
# lowest offset that is free for its whole life. **Best fit**: into the smallest gap that holds it.


# %%
def gaps(buffer, placed):
    """Free intervals ``(start, size)`` during the life of ``buffer``; the last is unbounded."""
    level, free = 0, []
    for other, at in sorted(placed.items(), key=lambda item: item[1]):
        if other.first <= buffer.last and buffer.first <= other.last:
            if at > level:
                free.append((level, at - level))
            level = max(level, at + other.nbytes)
    return [*free, (level, math.inf)]


# %%
def greedy(buffers, rule):
    """Offsets by name; ``rule`` picks one of the gaps that are large enough."""
    placed = {}
    for buffer in buffers:
        fitting = [gap for gap in gaps(buffer, placed) if gap[1] >= buffer.nbytes]
        placed[buffer] = min(fitting, key=rule)[0]
    return {buffer.name: at for buffer, at in placed.items()}


# %%
def first_fit(buffers):
    return greedy(buffers, lambda gap: gap[0])


def best_fit(buffers):
    return greedy(buffers, lambda gap: gap[1])


# %%
def by_size(buffers):
    return first_fit(sorted(buffers, key=lambda buffer: -buffer.nbytes))


# %%
def arena(buffers, offsets):
    """Bytes of the arena; raises if two buffers that are alive together share a byte."""
    return memory_planner.peak(buffers, offsets)


# %%
def alive(buffers):
    """The lower bound: most bytes alive at one operator."""
    times = range(max(buffer.last for buffer in buffers) + 1)
    return max(sum(b.nbytes for b in buffers if b.first <= t <= b.last) for t in times)


# %% [markdown]
# **The optimum** of small graphs by brute force: first fit in *some* order is optimal (place the
# buffers of any optimal plan in the order of their offsets; none comes to lie higher), so try all
# orders.


# %%
def exhaustive(buffers):
    orders = (first_fit(order) for order in itertools.permutations(buffers))
    return min(orders, key=lambda offsets: arena(buffers, offsets))


# %%
def random_graph(count=6, operators=8):
    """Buffers with random sizes (in KiB) and lives."""
    found = []
    for i in range(count):
        first, last = sorted(pick.integers(0, operators, 2).tolist())
        found.append(Buffer("abcdefgh"[i], int(pick.integers(1, 9)) * 1024, first, last))
    return found


# %%
PLANNERS = {"first fit, in order": first_fit, "best fit, in order": best_fit}
PLANNERS |= {"first fit, by size": by_size, "optimum": exhaustive}
graphs = [random_graph() for _ in range(GRAPHS)]
RESULTS = {name: [arena(g, place(g)) for g in graphs] for name, place in PLANNERS.items()}
bounds = [alive(g) for g in graphs]

# %% [markdown]
# **Oracles**: the course's planner, with the same rules, and its own search for the optimum.

# %%
for graph, bound, least in zip(graphs, bounds, RESULTS["optimum"], strict=True):
    assert first_fit(graph) == memory_planner.first_fit(graph)
    assert best_fit(graph) == memory_planner.best_fit(graph)
    assert bound == memory_planner.lower_bound(graph) <= least
    assert least == arena(graph, memory_planner.optimum(graph))

# %%
for name, sizes in RESULTS.items():
    excess = [size / least for size, least in zip(sizes, RESULTS["optimum"], strict=True)]
    hits = sum(ratio == 1 for ratio in excess)
    print(f"{name:20} optimal in {hits} of {GRAPHS}, worst ×{max(excess):.2f}")
reached = sum(bound == least for bound, least in zip(bounds, RESULTS["optimum"], strict=True))
print(f"the optimum is what is alive at the worst moment in {reached} of {GRAPHS}")

# %% [markdown]
# Small random graphs seldom need more than the bound. Ten buffers whose optimum does (every
# operator has 8 words alive; sizes in words, first and last operator):

# %%
LIVES = "a400 b211 c301 d102 e122 f213 g233 h324 i124 j444"
tight = [Buffer(t[0], 4 * int(t[1]), int(t[2]), int(t[3])) for t in LIVES.split()]
least = arena(tight, memory_planner.optimum(tight))
assert least > alive(tight)
print(f"alive {alive(tight) // 4} words, optimum {least // 4} words")

# %% [markdown]
# Of the random graphs, the one on which the greedy rules differ most:

# %%
spread = [max(RESULTS[n][i] for n in PLANNERS) / RESULTS["optimum"][i] for i in range(GRAPHS)]
SHOWN = graphs[int(np.argmax(spread))]
PLANS = {"no sharing": dict(zip((b.name for b in SHOWN),
         np.cumsum([0, *(b.nbytes for b in SHOWN)]).tolist(), strict=False))}  # fmt: skip
PLANS |= {name: place(SHOWN) for name, place in PLANNERS.items()}


# %% tags=["widget"]
def draw_arena(ax, planner):
    """Every buffer as a rectangle: operators across, addresses up."""
    offsets = PLANS[planner]
    for i, buffer in enumerate(SHOWN):
        at, colour = offsets[buffer.name] / 1024, plot.CYCLE[i % 6]
        box = (buffer.first - 0.5, at), buffer.last - buffer.first + 1, buffer.nbytes / 1024
        ax.add_patch(plt.Rectangle(*box, facecolor=colour, alpha=0.7, edgecolor="white"))
        middle = (buffer.first + buffer.last) / 2, at + buffer.nbytes / 2048
        ax.text(*middle, buffer.name, ha="center", va="center", fontsize=7)
    top = max(offsets[b.name] + b.nbytes for b in SHOWN) / 1024
    ax.axhline(top, color=plot.COLOURS["measured"], lw=1, label=f"arena {top:g} KiB")
    ax.axhline(alive(SHOWN) / 1024, color=plot.COLOURS["baseline"], ls="--", lw=1, label="alive")
    ax.set(xlim=(-0.6, 7.6), ylim=(0, sum(b.nbytes for b in SHOWN) / 1024 + 6))
    ax.set(xlabel="operator", ylabel="address, KiB")
    ax.legend(fontsize=7, loc="upper left", ncols=2)


# %% tags=["widget"]
plot.explore(draw_arena, planner=list(PLANS))

# %% [markdown]
# *Time runs across, addresses up; a rectangle is a tensor from its first to its last operator.
# Dashed: what is alive at the worst moment, which no plan can undercut.*
#
# ### The buffers of real networks
#
# ResNet-8 and the MobileNet of Lecture 10, quantized after training as there.

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
report = datasets.load(dataset, "val").head(REPORT_IMAGES)
NETWORKS = {}
for name in ("resnet8", "mobile"):
    model = checkpoints.load(checkpoints.shipped(name, dataset))
    NETWORKS[name] = quantize(model, train.images[:CALIBRATION_IMAGES])
    print(f"{name}: {NETWORKS[name].accuracy(report):.1%} right with integers")


# %%
def lives(network):
    """A buffer for every tensor between the image and the logits."""
    found = []
    for i, operator in enumerate(network.operators[:-1]):
        readers = [j for j, o in enumerate(network.operators) if operator.output in o.inputs]
        nbytes = network.tensors[operator.output].nbytes
        found.append(Buffer(operator.output, nbytes, i, max(readers)))
    return found


# %%
GREEDY = {name: PLANNERS[name] for name in list(PLANNERS)[:3]}
for name, network in NETWORKS.items():
    buffers = lives(network)
    every = sum(b.nbytes for b in buffers)
    print(f"{name}: {len(buffers)} tensors, {every:,} bytes, {alive(buffers):,} alive at most")
    for planner, place in GREEDY.items():
        print(f"    {planner:20} {arena(buffers, place(buffers)):9,} bytes")

# %% [markdown]
# Chains with short branches are easy: compare with what is alive at most. What is *not* easy is
# that bound itself. No planner goes below it; in-place operators and patches (Lecture 10) do,
# because they change what is alive. The engine's own plan, scratch memory included:

# %%
PLANNED = {
    "tensor by tensor": {"kernels": "simd", "in_place": False},
    "in place": {"kernels": "simd", "in_place": True},
    "in place, patches": {"kernels": "simd", "patches": (4, 4, 7)},
}
mobile = NETWORKS["mobile"]
programs = {name: engine.generate(mobile, **how) for name, how in PLANNED.items()}

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for ax, (name, program) in zip(axes, programs.items(), strict=True):
    for i, buffer in enumerate(program.buffers):
        at = program.offsets[buffer.name] / 1024
        box = (buffer.first - 0.5, at), buffer.last - buffer.first + 1, buffer.nbytes / 1024
        colour = "#bbbbbb" if buffer.name.startswith("scratch") else plot.CYCLE[i % 6]
        ax.add_patch(plt.Rectangle(*box, facecolor=colour, alpha=0.8, edgecolor="white", lw=0.4))
    top = program.arena_bytes / 1024
    ax.axhline(top, color=plot.COLOURS["measured"], lw=1)
    ax.set(title=f"{name}: {top:.0f} KiB", xlabel="operator", xlim=(-1, len(mobile.operators)))
axes[0].set(ylabel="address, KiB", ylim=(0, 130))
plt.show()

# %% [markdown]
# *The MobileNet's arena, time across and addresses up; the little grey is scratch memory. The early
# layers decide. In place removes the second of two equal tensors wherever a depthwise layer stands;
# patches cut the first tensors themselves.*
#
# Training keeps every activation until its gradient has passed, so its lives do not end: section 5
# of Lecture 1 counts that, and why MCUNetV3 updates only some layers.
#
# ## 8. Generate code, do not interpret
#
# An interpreter keeps the network as data: a table of operators with shapes and addresses, a loop
# over it, a `switch`, and one kernel for each kind that serves all shapes. A generator writes the
# calls, with the shapes as constants. What does that buy? A small network, so that all of it can be
# read:

# %%
CONFIG = {"architecture": "mobile", "stem": 8, "blocks": [[1, 16, 2], [4, 24, 2]], "head": 32,
          "num_classes": 10}  # fmt: skip
toy = quantize(models.build(CONFIG).eval(), train.images[:CALIBRATION_IMAGES])
OPS = toy.operators
TOY_MACS = sum(toy.macs(operator) for operator in OPS)
for operator in OPS:
    print(f"{operator.kind:10} {operator.output:20} {toy.tensors[operator.output].shape}")

# %% [markdown]
# The table's row, and the kernels that read it:

# %%
ROW = (
    HEAD
    + r"""
typedef struct {
    int8_t kind, size, stride, zx, zy;
    int16_t h, w, c, o;
    int32_t in, out;
    const int8_t *k;
    const Channel *p;
} Op;
enum { CONV, DEPTHWISE, MEAN, LINEAR };
"""
)

# %%
GENERIC_WINDOW = r"""
#define WINDOW(tap)  /* one sum per output; the tap adds what pixel a, b holds for weight r, s */ \
    Op t = *row;                                                                                 \
    int h = t.h / t.stride, w = t.w / t.stride, pad = t.size / 2;                                \
    for (int i = 0; i < h; i++)                                                                  \
        for (int j = 0; j < w; j++)                                                              \
            for (int n = 0; n < t.o; n++) {                                                      \
                int32_t sum = t.p[n].bias;                                                       \
                for (int r = 0; r < t.size; r++)                                                 \
                    for (int s = 0; s < t.size; s++) {                                           \
                        int a = i * t.stride + r - pad, b = j * t.stride + s - pad;              \
                        if (a < 0 || a >= t.h || b < 0 || b >= t.w) continue;                    \
                        tap                                                                      \
                    }                                                                            \
                *y++ = requantize(sum, t.p + n, t.zy);                                           \
            }
"""

# %% [markdown]
# The two convolutions differ in the tap alone: every input channel of a pixel, or the output's own.

# %%
GENERIC_CONVOLUTIONS = r"""
GENERIC(conv) {
    WINDOW({
        const int8_t *p = x + (a * t.w + b) * t.c;
        const int8_t *q = t.k + ((n * t.size + r) * t.size + s) * t.c;
        for (int m = 0; m < t.c; m++) sum += (p[m] - t.zx) * q[m];
    })
}
GENERIC(depthwise) {
    WINDOW({
        int8_t q = t.k[(r * t.size + s) * t.c + n];
        sum += (x[(a * t.w + b) * t.c + n] - t.zx) * q;
    })
}
"""

# %%
GENERIC_ENDS = r"""
GENERIC(mean) {
    Op t = *row;
    for (int n = 0; n < t.c; n++) {
        int32_t sum = 0;
        for (int j = 0; j < t.h * t.w; j++) sum += x[j * t.c + n] - t.zx;
        *y++ = requantize(sum, t.p, t.zy);
    }
}
GENERIC(linear) {
    Op t = *row;
    int32_t *logits = (int32_t *)y;
    for (int n = 0; n < t.o; n++) {
        int32_t sum = t.p[n].bias;
        for (int m = 0; m < t.c; m++) sum += (x[m] - t.zx) * t.k[n * t.c + m];
        *logits++ = sum;
    }
}
"""

# %%
INTERPRETER = r"""
void infer(int8_t *arena) {
    for (const Op *row = TABLE; row < TABLE + sizeof TABLE / sizeof *TABLE; row++) {
        const int8_t *x = arena + row->in;
        int8_t *y = arena + row->out;
        switch (row->kind) {
            case CONV: conv(row, x, y); break;
            case DEPTHWISE: depthwise(row, x, y); break;
            case MEAN: mean(row, x, y); break;
            case LINEAR: linear(row, x, y); break;
        }
    }
}
"""

# %% [markdown]
# The generator. Constants first: weights, and for each output bias, mantissa and shift. They go to
# flash in all variants.


# %%
def constant(kind, name, values):
    return f"static const {kind} {name}[] __attribute__((aligned(4))) = {{{', '.join(values)}}};\n"


# %%
def constants(index, operator, order=lambda k: k, zero=0):
    """Weights in this order, and the table of outputs with the zero point in the bias or not."""
    k, outputs = operator.weight, max(len(operator.bias), 1)
    axes = (0, 1) if operator.kind == "depthwise" else tuple(range(1, k.ndim))
    bias = operator.bias if len(operator.bias) else np.zeros(1, int)
    bias = bias - zero * k.astype(np.int64).sum(axes) if zero else bias
    m, t = (np.resize(v, outputs) if v.size else np.zeros(outputs, int)
            for v in (operator.mantissa, operator.shift))  # fmt: skip
    rows = [f"{{{b}, {n}, {s}}}" for b, n, s in zip(bias, m, t, strict=True)]
    weights = map(str, order(k).ravel()) if k.size else "0"
    return constant("int8_t", f"k{index}", weights) + constant("Channel", f"p{index}", rows)


# %%
def shape_of(operator):
    """Height, width, channels in; channels out; both zero points."""
    source, target = toy.tensors[operator.inputs[0]], toy.tensors[operator.output]
    return (*source.shape, target.shape[2], source.zero_point, target.zero_point)


# %%
def row_of_table(index, operator, offsets):
    h, w, c, o, zx, zy = shape_of(operator)
    size = {"conv": 1, "depthwise": 0}.get(operator.kind)
    size = 1 if size is None else operator.weight.shape[size]
    at = [offsets[operator.inputs[0]], offsets[operator.output]]
    numbers = [size, operator.stride, zx, zy, h, w, c, o, *at]
    return f"{{{operator.kind.upper()}, {', '.join(map(str, numbers))}, k{index}, p{index}}}"


# %% [markdown]
# Four ways to run it:
#
# 1. *Interpreter*: table, loop, `switch`, generic kernels.
# 2. *Calls*: the same kernels, called one after the other; table and loop are gone.
# 3. *Constants*: the same text of the kernels, inlined with constant shapes.
# 4. *Chosen kernels*: as 3, but 1×1 convolutions by the SIMD tile and depthwise ones in place.


# %%
def toy_buffers(in_place=False):
    """Image, tensors and logits as buffers, and for each tensor the one that it lies in."""
    buffers, home = [Buffer("image", toy.input.nbytes, 0, 0), *lives(toy)], {}
    buffers.append(Buffer(toy.output.name, toy.output.nbytes, len(OPS) - 1, len(OPS) - 1))
    spans = {b.name: b for b in buffers}
    for i, operator in enumerate(OPS):
        source = home.get(operator.inputs[0], operator.inputs[0])
        if in_place and operator.kind == "depthwise":
            own, into = spans.pop(operator.output), spans[source]
            spans[source] = Buffer(source, into.nbytes, into.first, own.last)
            home[operator.output] = source
            h, w, *_ = shape_of(operator)
            spans[f"plane {i}"] = Buffer(f"plane {i}", (h + 2) * (w + 2) + 4 & ~3, i, i)
    return list(spans.values()), home


# %%
def offsets_of(in_place=False):
    buffers, home = toy_buffers(in_place)
    offsets = by_size(buffers)
    return offsets | {name: offsets[at] for name, at in home.items()}, arena(buffers, offsets)


# %%
def called(index, operator, offsets, row):
    x, y = (f"arena + {offsets[name]}" for name in (operator.inputs[0], operator.output))
    return f"    {{ const Op row = {row}; {operator.kind}(&row, {x}, {y}); }}\n"


# %%
def program(how):
    """C of the small network in one of the first three ways, and the bytes of its arena."""
    offsets, size = offsets_of()
    rows = [row_of_table(i, operator, offsets) for i, operator in enumerate(OPS)]
    inline = "static inline __attribute__((always_inline))" if how == "constants" else "NOINLINE"
    text = ROW + "#define NOINLINE __attribute__((noinline))\n#define GENERIC(name) "
    text += f"{inline} void name(const Op *row, const int8_t *x, int8_t *y)\n"
    text += GENERIC_WINDOW + GENERIC_CONVOLUTIONS + GENERIC_ENDS
    text += "".join(constants(i, operator) for i, operator in enumerate(OPS))
    if how == "interpreter":
        return text + f"const Op TABLE[] = {{{', '.join(rows)}}};\n" + INTERPRETER, size
    body = "".join(called(i, op, offsets, rows[i]) for i, op in enumerate(OPS))
    return text + f"void infer(int8_t *arena) {{\n{body}}}\n", size


# %% [markdown]
# For the fourth, a kernel of section 5 becomes a template: its text once for each layer, with that
# layer's shape as macros and its own name.


# %%
def template(index, operator, offsets):
    """C of one layer with its own kernel, and the call; nothing if no kernel fits."""
    h, w, c, o, zx, zy = shape_of(operator)
    x, y = offsets[operator.inputs[0]], offsets[operator.output]
    if operator.kind == "depthwise" and operator.weight.shape[0] == 3:
        text, function = PLANE + IN_PLACE, "in_place"
        rest = f"arena + {offsets[f'plane {index}']}"
    elif operator.kind == "conv" and operator.weight.shape[1] == 1 and c % 4 == o % 2 == h * w % 2:
        text, function, rest = POINTWISE, "pointwise_nhwc", f"arena + {y}"
    else:
        return "", ""
    macros = {"H": h, "W": w, "C": c, "O": o, "ZX": zx, "ZY": zy, "STRIDE": operator.stride}
    for name in ("in_place", "pointwise_nhwc", "filter", "gather"):
        text = text.replace(f"{name}(", f"{name}{index}(")
    text = "".join(f"#define {name} {n}\n" for name, n in macros.items()) + text
    text += "".join(f"#undef {name}\n" for name in macros)
    return text, f"    {function}{index}(arena + {x}, k{index}, p{index}, {rest});\n"


# %%
def chosen():
    """C of the small network with kernels chosen by shape, and the bytes of its arena."""
    offsets, size = offsets_of(in_place=True)
    start, _ = program("constants")
    text = start[: start.index("static const int8_t k0")] + SHORT + tiled(ENDS + SIMD, 2, 2, 4)
    body = ""
    for i, operator in enumerate(OPS):
        kernel, call = template(i, operator, offsets)
        zero = toy.tensors[operator.inputs[0]].zero_point if kernel else 0
        depthwise = kernel and operator.kind == "depthwise"
        order = (lambda k: k.transpose(2, 0, 1)) if depthwise else lambda k: k
        text += constants(i, operator, order, zero) + kernel
        body += call or called(i, operator, offsets, row_of_table(i, operator, offsets))
    return text + f"void infer(int8_t *arena) {{\n{body}}}\n", size


# %%
codes = toy.codes(report.images[:1])[0]
truth = toy.logits(report.images[:1]).numpy()[0]
WAYS = {how: program(how) for how in ("interpreter", "calls", "constants")}
WAYS["chosen kernels"] = chosen()
at = {how: offsets_of(how == "chosen kernels")[0] for how in WAYS}

# %%
TOY = {}
for how, (text, size) in WAYS.items():
    firmware = Firmware(text, keep=["infer"])
    start = np.zeros(size, np.int8)
    start[at[how]["image"] :][: codes.size] = codes.ravel()
    run = firmware.run("infer", start)
    logits = run.outputs[0][at[how][toy.output.name] :][:40].view(np.int32)
    assert np.array_equal(logits, truth), how
    TOY[how] = run, firmware.flash_bytes

# %%
first = TOY["interpreter"][0].cycles
for how, (run, flash) in TOY.items():
    print(f"{how:15} {run.cycles:11,} cycles ({run.cycles / TOY_MACS:5.2f} a MAC, "
          f"×{first / run.cycles:4.1f} faster), {flash:6,} bytes of flash, "
          f"{run.sram_bytes:6,} of SRAM")  # fmt: skip

# %% [markdown]
# Interpretation itself costs next to nothing: compare the first two rows. What it *prevents* is
# expensive: a kernel that serves every shape can rely on none. That is what the third row recovers
# with the same text, and what the fourth builds on. SRAM hardly moves in this network: its peak is
# the expanding convolution, whose input and output are both needed.
#
# What real interpreters add, and this one does not: they read a flat buffer, keep a structure for
# each tensor in SRAM, plan memory at start, and link kernels for operators and cases that the
# network does not have.
#
# ## 9. Whole networks
#
# The course's engine (`codesign.hardware.engine`) does all of the above: planned arena, generated
# code, kernels like those of sections 2 and 5. Every variant computes the same integers.

# %%
VARIANTS = {
    ("resnet8", "naive kernels"): {"kernels": "naive"},
    ("resnet8", "SIMD kernels"): {},
    ("mobile", "naive kernels"): {"kernels": "naive"},
    ("mobile", "SIMD, two tensors"): {"in_place": False},
    ("mobile", "SIMD, in place"): {},
    ("mobile", "SIMD, in place, patches"): {"patches": (4, 4, 7)},
}

# %%
DEPLOYED = {}
for (name, variant), how in VARIANTS.items():
    network = NETWORKS[name]
    device = engine.deploy(network, **how)
    logits, run = device.infer(network.codes(report.images[:1])[0])
    assert np.array_equal(logits, network.logits(report.images[:1]).numpy()[0])
    DEPLOYED[name, variant] = device, run

# %%
board = DEPLOYED["resnet8", "SIMD kernels"][0].board
for (name, variant), (device, run) in DEPLOYED.items():
    macs = sum(device.network.macs(operator) for operator in device.network.operators)
    ms, per_mac = 1e3 * device.firmware.seconds(run.cycles), run.cycles / macs
    sram, flash = run.sram_bytes / 1024, device.firmware.flash_bytes / 1024
    print(f"{name:8} {variant:24} {run.cycles / 1e6:6.1f} M cycles, {per_mac:5.2f} a MAC, "
          f"{ms:5.0f} ms; SRAM {sram:5.1f} KiB, flash {flash:5.1f} KiB")  # fmt: skip
print(f"at {board.clock_hz / 1e6:.0f} MHz; MACs are the network's, without what patches repeat")

# %% [markdown]
# Fast kernels are not free in bytes: rings and planes are scratch memory, weights lie interleaved
# or wider, and code is written out for each layer. Patches pay in MACs and in code as well.
#
# **Beside published figures.** ResNet-8 is the image classifier of MLPerf Tiny, so the same network
# has been measured on a real Cortex-M4, the STM32L4R5 at 120 MHz, by several submitters. Their
# throughput is published; 120 MHz and 12.5 M MACs turn it into cycles for each MAC.

# %%
RESNET_MACS = sum(map(NETWORKS["resnet8"].macs, NETWORKS["resnet8"].operators))
PUBLISHED = {  # inferences a second, image classification, NUCLEO-L4R5ZI, closed division
    "TFLite Micro 2.3.1 (reference, v0.5)": 1.420,
    "microTVM with CMSIS-NN (OctoML, v1.0)": 2.567,
    "microTVM, own kernels (OctoML, v1.0)": 2.569,
    "X-CUBE-AI 7.1.0 (ST, v0.7)": 3.956,
    "Plumerai's engine (v1.0)": 5.775,
}

# %%
LEVELS = {name: 120e6 / rate / RESNET_MACS for name, rate in PUBLISHED.items()}
OURS = {f"this course, {variant}": run.cycles / RESNET_MACS
        for (name, variant), (_, run) in DEPLOYED.items() if name == "resnet8"}  # fmt: skip

# %%
fig, ax = plt.subplots(figsize=(7, 2.9))
groups = (LEVELS, "baseline", "published, board"), (OURS, "ours", "executed, emulated core")
for levels, colour, label in groups:
    bars = ax.barh(list(levels), levels.values(), color=plot.COLOURS[colour], label=label)
    ax.bar_label(bars, fmt=" %.1f", fontsize=8)
ax.invert_yaxis()
ax.margins(x=0.08)
ax.set(xlabel="cycles for each MAC of ResNet-8")
ax.grid(axis="y", visible=False)
ax.legend(fontsize=7, loc="lower right")
plt.show()

# %% [markdown]
# *Grey: MLPerf Tiny results (mlcommons/tiny_results_v0.5, v0.7 and v1.0), measured on a board with
# its flash and bus. Green: our engine in an emulator without wait states, on a network of the same
# shape with 240 parameters less.*
#
# Read the distance with care. Flash is slower than the core at 120 MHz, and a kernel like ours
# reads all weights of a layer again for every two pixels. The grey bars pay for that, ours do not.
# Which kernels the reference submission linked is not stated. What can be compared is the order of
# magnitude, and naive against good kernels in one and the same machine: our own two bars.
#
# TinyEngine's authors publish whole networks on an STM32H743 (Cortex-M7), measured in December 2022
# (README of mit-han-lab/tinyengine):

# %%
ENGINES = ("TFLite Micro", "CMSIS-NN", "X-CUBE-AI", "TinyEngine")
H743 = {  # latency in ms, peak SRAM and flash in kB, in the order of ENGINES
    "mcunet-vww1": ((1120, 97, 57, 51), (220, 220, 113, 92), (718, 736, 534, 521)),
    "mcunet-in1": ((1227, 103, 63, 56), (219, 219, 106, 96), (937, 956, 737, 727)),
    "mcunet-in3": ((7821, 770, 414, 336), (493, 493, 243, 260), (1091, 1106, 867, 835)),
    "proxyless-w0.3": ((3801, 380, 205, 176), (453, 453, 221, 259), (1065, 1075, 865, 842)),
}

# %%
print(f"{'':15}" + "".join(f"{name:>21}" for name in ENGINES))
print(f"{'':15}" + f"{'ms':>9} {'SRAM':>4} {'flash':>6}" * len(ENGINES))
for name, columns in H743.items():
    cells = (f"{ms:>9,} {sram:>4} {flash:>6,}" for ms, sram, flash in zip(*columns, strict=True))
    print(f"{name:15}" + "".join(cells))

# %% [markdown]
# Between the first column and the others lies an order of magnitude, as between our own two bars.
# Between the optimized engines lie factors of about two in time, and in memory, where no single
# engine is ahead on every network.
#
# ## 10. Limits
#
# - The emulator counts cycles of the core. Flash wait states, bus contention and the M7's caches
#   and second issue slot are not in it. Section 6 simulates LRU; real caches replace otherwise.
# - One shape of convolution in section 2. Kernels with few channels pay more around the tile, as
#   the slider shows; the hand-written tile wants channels in multiples of four.
# - The compiler is clang at -O2. GCC schedules and unrolls differently, and so would the steps.
# - Codes are random or a network's own; the M4's products take the same time for all of them.
# - The interpreter is ours and smaller than any real one.
# - Winograd is the small variant. Larger tiles save more products and need more bits.
#
# ## 11. Claims


# %%
def times(a, b):
    return f"{a / b:.1f}×"


# %%
naive, simd = (DEPLOYED["resnet8", f"{kind} kernels"][1] for kind in ("naive", "SIMD"))
m_naive, m_simd = (DEPLOYED["mobile", v][1] for v in ("naive kernels", "SIMD, in place"))
m_patches = DEPLOYED["mobile", "SIMD, in place, patches"][1]
speed = plot.Claim(
    claim="TinyEngine is faster than TF-Lite Micro and CMSIS-NN",
    paper="inference accelerated by 1.7–3.3×",
    source="Lin et al., MCUNet, NeurIPS 2020, abstract",
    measured=f"against naive kernels, ResNet-8 {times(naive.cycles, simd.cycles)}, MobileNet "
    f"{times(m_naive.cycles, m_simd.cycles)}; against an interpreter, small network "
    f"{times(first, TOY['chosen kernels'][0].cycles)}",
    on="emulated Cortex-M4, cycles of the core",
    why="their baselines are libraries on a Cortex-M7; ours are textbook loops and the generic "
    "interpreter of this notebook",
)

# %%
memory = plot.Claim(
    claim="memory scheduling and in-place operators shrink the peak",
    paper="memory usage reduced by 3.4× (proceedings); 4.8× in the abstract on arXiv",
    source="Lin et al., MCUNet, NeurIPS 2020, abstract, and arXiv:2007.10319",
    measured=f"MobileNet: in place {times(m_naive.sram_bytes, m_simd.sram_bytes)}, with patches "
    f"{times(m_naive.sram_bytes, m_patches.sram_bytes)}",
    on="emulated Cortex-M4, SRAM with stack, against naive kernels with the same planner",
    why="theirs is against libraries that interpret; our baseline is planned and interprets "
    "nothing. Patches are MCUNetV2's: two papers' gains in one figure",
)

# %%
start = DEPTH["two tensors", 1][0]
placed = DEPTH["in place, SMMLA", 1][0]
depthwise = plot.Claim(
    claim="a depthwise convolution can overwrite its input",
    paper="overwrites input by output, which reduces the peak",
    source="README of mit-han-lab/tinyengine; Lin et al., MCUNet, NeurIPS 2020",
    measured=f"{times(start.sram_bytes, placed.sram_bytes)} less SRAM for one layer, bit-exact, "
    "with strides 1 and 2",
    on=f"{H}×{W}×{C}, 3×3, emulated Cortex-M4",
    why="two equal tensors become one and a plane; stack and plane keep it from 2×",
)

# %%
naive_layer, hand_layer = RUNS["naive", False][0], RUNS["in registers", True][0]
cmsis = plot.Claim(
    claim="SIMD kernels speed up networks on Cortex-M",
    paper="CMSIS-NN: 4.6× throughput, 4.9× energy efficiency",
    source="Lai, Suda & Chandra, arXiv:1801.06601, 2018, abstract",
    measured=f"one convolution {times(naive_layer.cycles, hand_layer.cycles)}, "
    f"{times(RUNS['ring of rows', False][0].cycles, RUNS['SIMD', False][0].cycles)} of it by tile, "
    "unrolling and SIMD with shapes as arguments",
    on=f"{H}×{W}×{C} → {F}, 3×3, emulated Cortex-M4",
    why="theirs is a whole network against a baseline of its own; energy is not counted here",
)

# %%
ratio = RUNS["Winograd", True][0].cycles / RUNS["in registers", True][0].cycles
winograd = plot.Claim(
    claim="Winograd's F(2×2, 3×3) saves multiplications",
    paper="2.25× fewer multiplications (16 for 36)",
    source="Lavin & Gray, CVPR 2016, section 4.1",
    measured=f"2.25× fewer, cycles ×{ratio:.2f}, weights ×{transformed.nbytes / K.nbytes:.1f}",
    on=f"{H}×{W}×{C} → {F}, int8, bit-exact, emulated Cortex-M4 without wait states",
    why="operands are 16 bits wide, every product still loads them, transforms come on top",
)

# %%
published = plot.Claim(
    claim="generated code with good kernels beats an interpreter on one board",
    paper=f"ResNet-8: 704 ms with TFLite Micro 2.3.1, 253 ms with X-CUBE-AI 7.1.0 "
    f"({LEVELS['TFLite Micro 2.3.1 (reference, v0.5)']:.1f} and "
    f"{LEVELS['X-CUBE-AI 7.1.0 (ST, v0.7)']:.1f} cycles a MAC)",
    source="MLPerf Tiny v0.5 and v0.7, closed division, NUCLEO-L4R5ZI, 120 MHz",
    measured=f"{OURS['this course, naive kernels']:.1f} cycles a MAC naive, "
    f"{OURS['this course, SIMD kernels']:.1f} with SIMD",
    on=f"{dataset}, emulated Cortex-M4",
    why="their board waits for its flash, the emulator does not; which kernels the reference "
    "submission links is not stated, ours are textbook loops",
)
plot.claims([speed, memory, depthwise, cmsis, winograd, published])

# %% [markdown]
# ## Discussion
#
# 1. The ring holds 16-bit numbers for speed. On a board whose SRAM is full, which step of section 2
#    would you give back first, and what does it cost by the table?
# 2. Input and output of a 3×3 convolution with as many outputs as inputs: could the ring of rows
#    let it work in place as well? What about stride 2, and what about the residual branch?
# 3. A core with 32 registers: which shape of the tile would you choose, and how close to the bound
#    does the estimate then come?
# 4. The interpreter's dispatch is cheap here. For which networks would it not be?
# 5. Winograd's weights could be transformed on the board instead of offline. When would that pay?
# 6. Take the published table: what would you have to know to say *why* one engine needs less SRAM
#    than another?
#
# ## Further reading
#
# - J. Lin, W.-M. Chen, Y. Lin, J. Cohn, C. Gan, S. Han, "MCUNet: Tiny deep learning on IoT
#   devices", NeurIPS 2020: TinyEngine is section 3.2.
# - L. Lai, N. Suda, V. Chandra, "CMSIS-NN: Efficient neural network kernels for Arm Cortex-M CPUs",
#   arXiv:1801.06601, 2018.
# - A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016: Winograd.
# - C. Banbury et al., "MLPerf Tiny benchmark", NeurIPS Datasets and Benchmarks 2021.
# - Y. Pisarchyk, J. Lee, "Efficient memory management for deep neural net inference", 2020.
# - Arm, "Cortex-M4 technical reference manual", ARM DDI 0439: the cycles.
#
# **Next:** Lab 5 lets you write such kernels, and a generator, for a network of your own. Lecture
# 12 leaves the microcontroller for language models.
