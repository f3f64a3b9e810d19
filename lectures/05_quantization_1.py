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
# # Lecture 5: Quantization, part 1
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/05_quantization_1.ipynb)
#
# **The question: what does a number of fewer bits buy: bytes, energy, time?**
#
# The bytes are certain, the energy is the designer's, and the time depends on which instructions a
# processor has. This lecture builds the number formats from their bits, shrinks the reference CNN
# in two ways (a codebook, a scale), runs all of it in integers, and ends in a matrix product
# compiled for this very machine, to see what eight bits are worth on it.

# %% tags=["setup"]
# Colab installs here what this notebook needs; what is installed already stays as it is.
import importlib.util
import os
import subprocess
import sys

course = os.environ.get("CODESIGN_REPO") or "git+https://github.com/ml-codesign/course@v0.1.0"
packages = {
    "codesign": course,
    "onnx": "onnx>=1.16,<1.23",
    "onnxruntime": "onnxruntime>=1.18",
    "ziglang": "ziglang>=0.13",
}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()

# %% tags=["parameters"] short={"REPORT_IMAGES": 100, "SCAN_IMAGES": 50, "CALIBRATION_IMAGES": 64, "STATISTICS_IMAGES": 128, "EXACT_IMAGES": 25, "FINETUNE_IMAGES": 128, "DEEP_IMAGES": 128, "CODEBOOK_IMAGES": 128, "SIZES": [32, 64, 128], "ROUNDS": 3}
REPORT_IMAGES = 1000  # validation images behind every reported accuracy
SCAN_IMAGES = 500  # validation images behind the accuracies of scans over bits and formats
CALIBRATION_IMAGES = 256  # training images whose activations set the scales
STATISTICS_IMAGES = 1000  # training images behind new batch-norm statistics
EXACT_IMAGES = 100  # images on which integers are compared layer by layer
FINETUNE_IMAGES = 4000  # training images after each step of pruning
DEEP_IMAGES = 8000  # more of them for the network that becomes a file
CODEBOOK_IMAGES = 2000  # training images for a codebook
SIZES = (64, 256, 512)  # of the square matrix products
ROUNDS = 21  # of latency measurements

# %%
import copy
import heapq
import itertools
import platform
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

# %%
import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from codesign import checkpoints, cost, datasets, huffman, measure, native, plot, training
from codesign.hardware import energy

plot.theme()
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1. Why fewer bits: energy and area
#
# A multiplier of $b$ bits adds up $b$ shifted copies of $b$ bits, so its energy and area grow about
# as $b^2$; an adder's about as $b$. A float also has to align, normalize and round. The figures are
# Horowitz's for 45 nm (ISSCC 2014, figure 1.1.9), as in Lecture 3: an estimate, never measured
# here.

# %%
pj = energy.OPERATION_PJ
fig, ax = plt.subplots(figsize=(6.4, 2.9))
for kind, colour in (("add", plot.COLOURS["compute"]), ("multiply", plot.COLOURS["memory"])):
    rows = [name for name in pj if name.endswith(kind)]
    bars = ax.barh(rows, [pj[name] for name in rows], color=colour)
    ax.bar_label(bars, [f" {pj[name]:g} pJ" for name in rows], fontsize=8)
ax.set(xscale="log", xlim=(0.02, 9), xlabel="energy of one operation at 45 nm, pJ (estimate)")
ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Logarithmic. Between 8-bit integers and 32-bit floats lies more than an order of magnitude, for
# the adder as for the multiplier.*
#
# **Does the multiplier follow $b^2$?** Two points of the table, int8 and int32:

# %%
growth = pj["int32 multiply"] / pj["int8 multiply"]
print(f"int32/int8 multiply: ×{growth:.1f}; b² says ×{(32 / 8) ** 2:.0f}")
print(f"int32/int8 add: ×{pj['int32 add'] / pj['int8 add']:.1f}; b says ×{32 / 8:.0f}")
ENERGY_RATIO = {op: pj[f"fp32 {op}"] / pj[f"int8 {op}"] for op in ("add", "multiply")}
print(*[f"fp32/int8 {op}: ×{ratio:.1f}" for op, ratio in ENERGY_RATIO.items()], sep="\n")

# %% [markdown]
# Area decides how many multipliers fit on a die. Count the one-bit products of a multiplier: $b^2$
# for an integer, $(m+1)^2$ for the significands of a float with $m$ stored mantissa bits.

# %%
for name, significand in (("fp32", 24), ("fp16", 11), ("bf16", 8), ("int8", 8), ("int4", 4)):
    cells = significand**2
    print(f"{name}: {cells:3} one-bit products, fp32 has {24**2 / cells:.1f} times as many")

# %% [markdown]
# **Estimate: joules per inference** of the reference CNN. Every weight is fetched once, from SRAM
# or from DRAM; each MAC multiplies in its own format and adds in the accumulator's.

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val")
model = checkpoints.load(checkpoints.shipped("vgg", dataset))
report, scan = val.head(REPORT_IMAGES), val.head(SCAN_IMAGES)
ACCURACY = {"fp32": training.evaluate(model, report)}
print(f"{cost.parameters(model):,} parameters, {cost.macs(model):,} MACs, {ACCURACY}")

# %%
NUMBERS = {"fp32": 32, "fp16": 16, "int8": 8}
joules = {}
for kind, bits in NUMBERS.items():
    arithmetic = cost.macs(model) * energy.mac_pj(kind)
    moved = [energy.access_pj(place, bits * cost.parameters(model)) for place in ("SRAM", "DRAM")]
    joules[kind] = [value / 1e6 for value in (arithmetic, *moved)]
    print(kind, *[f"{value:8.1f} µJ" for value in joules[kind]])

# %%
fig, ax = plt.subplots(figsize=(5.4, 2.9))
places = np.arange(len(NUMBERS))
names, colours = ("arithmetic", "weights from SRAM", "weights from DRAM"), plot.CYCLE
for i, (name, colour) in enumerate(zip(names, colours, strict=False)):
    ax.bar(places + 0.25 * (i - 1), [joules[k][i] for k in NUMBERS], 0.25, color=colour, label=name)
ax.set_xticks(places, list(NUMBERS))
ax.set(ylabel="energy per image, µJ (estimate)", yscale="log")
ax.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()

# %% [markdown]
# *Memory falls with the bits, arithmetic faster than the bits. This network uses a weight many
# times for each fetch, so both count.*
#
# ## 2. Number formats, built from bits
#
# ### Integers and fixed point
#
# Bits $b_{B-1}\dots b_0$ in two's complement, and the same integer with a binary point $f$ places
# from the right:
#
# $$q = -2^{B-1} b_{B-1} + \sum_{i<B-1} 2^i b_i,\qquad v = 2^{-f} q.$$


# %%
def integer(codes, bits):
    """Bit patterns to two's complement."""
    places = [codes >> i & 1 for i in range(bits)]
    return sum(2**i * bit for i, bit in enumerate(places[:-1])) - 2 ** (bits - 1) * places[-1]


# %%
for bits in (8, 16):
    codes = np.arange(2**bits)
    assert (integer(codes, bits) == codes.astype(f"uint{bits}").view(f"int{bits}")).all()
print("01011001 as an integer:", integer(np.array([0b01011001]), 8)[0])
print("01011001 with 4 places after the point:", integer(np.array([0b01011001]), 8)[0] / 2**4)

# %% [markdown]
# ### Floats
#
# A sign $s$, an exponent $e$ of $E$ bits and a mantissa $m$ of $M$ bits, in this order:
#
# $$v = (-1)^s\cdot\begin{cases}2^{\,e-\beta}\,(1+m/2^M) & e>0\\ 2^{\,1-\beta}\,m/2^M & e=0
# \ \text{(subnormal)}\end{cases}\qquad \beta = 2^{E-1}-1.$$
#
# Formats differ in $E$ and $M$ and in what they do with their largest codes. `ieee`: the top
# exponent holds infinity and NaN. `fn` (E4M3, "finite"): only the very last pattern is NaN, there
# is no infinity. `none` (E2M1): every pattern is a number.


# %%
@dataclass(frozen=True)
class Format:
    """A float of one sign bit, ``e`` exponent bits and ``m`` mantissa bits."""

    name: str
    e: int
    m: int
    special: str = "ieee"

    @property
    def bits(self):
        return 1 + self.e + self.m

    @property
    def overflow(self):
        """The first magnitude code that is no finite number."""
        top = {"ieee": (1 << self.e) - 1 << self.m, "fn": (1 << self.e + self.m) - 1}
        return top.get(self.special, 1 << self.e + self.m)


# %%
def plain(codes, f):
    """Value of each bit pattern as if none were special, float64."""
    mantissa, exponent = codes & (1 << f.m) - 1, codes >> f.m & (1 << f.e) - 1
    significand = (exponent > 0) + mantissa / 2**f.m
    value = np.ldexp(significand, np.maximum(exponent, 1) - (2 ** (f.e - 1) - 1))
    return np.where(codes >> f.e + f.m & 1, -value, value)


# %%
def decode(codes, f):
    """Value of each bit pattern ``codes`` (integers), float64."""
    value, magnitude = plain(codes, f), codes & (1 << f.e + f.m) - 1
    value = np.where(magnitude >= f.overflow, np.nan, value)
    if f.special == "ieee":
        infinite = np.copysign(np.inf, plain(codes, f))
        value = np.where(magnitude == f.overflow, infinite, value)
    return value


# %%
FP32, FP16, BF16 = Format("FP32", 8, 23), Format("FP16", 5, 10), Format("BF16", 8, 7)
E4M3, E5M2 = Format("FP8 E4M3", 4, 3, "fn"), Format("FP8 E5M2", 5, 2)
E2M1 = Format("FP4 E2M1", 2, 1, "none")
E3M2, E2M3 = Format("FP6 E3M2", 3, 2, "none"), Format("FP6 E2M3", 2, 3, "none")
print(f"01011001 as E4M3: {decode(np.array([0b01011001]), E4M3)[0]:g}")
print(f"01011001 as E5M2: {decode(np.array([0b01011001]), E5M2)[0]:g}")

# %% [markdown]
# **Oracle: torch reads the same bits.** All patterns of the 16- and 8-bit formats; FP32 has four
# billion, so a million random ones and both ends of every binade.

# %%
ORACLES = {FP16: torch.float16, BF16: torch.bfloat16, FP32: torch.float32}
ORACLES |= {E4M3: torch.float8_e4m3fn, E5M2: torch.float8_e5m2}


# %%
def torch_reads(codes, f):
    stored = torch.from_numpy(codes.astype(f"uint{f.bits}"))
    return stored.view(ORACLES[f]).double().numpy()


# %%
pick = np.random.default_rng(0)
ends = (np.arange(512)[:, None] << 23) + np.array([0, 1, 2**22, 2**23 - 1])
some = np.concatenate([pick.integers(0, 2**32, 10**6), ends.ravel()])
for f in ORACLES:
    codes = some if f is FP32 else np.arange(2**f.bits)
    ours, theirs = decode(codes, f), torch_reads(codes, f)
    np.testing.assert_array_equal(ours, theirs)
    real = ~np.isnan(ours)
    assert (np.signbit(ours) == np.signbit(theirs))[real].all()
    print(f"{f.name}: {len(codes):,} patterns agree, {np.isnan(ours).sum():,} of them NaN")

# %% [markdown]
# BF16 is the upper half of FP32: same exponent, so the same range, and conversion is a shift.

# %%
codes = np.arange(2**16)
np.testing.assert_array_equal(decode(codes, BF16), decode(codes << 16, FP32))

# %% [markdown]
# FP4 has sixteen patterns, so write them down (the OCP specification lists the same). Torch has a
# type for *pairs* of them; whether this build can read it, the cell finds out.

# %%
levels = decode(np.arange(8), E2M1)
assert levels.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
try:
    pairs = torch.arange(256, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    print("torch reads FP4 pairs:", pairs.float()[:4])
except (AttributeError, RuntimeError, NotImplementedError) as error:
    print("torch does not read FP4 on this CPU:", str(error).splitlines()[0][:90])

# %% [markdown]
# ### Encoding: round to the nearest, ties to even
#
# The magnitudes of a float ascend with their codes, also from the subnormals to the normals. So
# rounding is a search in a sorted list. At equal distance the *even code* wins: errors of ties then
# cancel on average. What rounds to the code after the largest number becomes whatever that code
# means: infinity in `ieee`, NaN in `fn`. A format without special codes saturates; for FP8 the OCP
# specification allows either.


# %%
@cache
def ladder(f):
    """All magnitudes by code, up to the first that overflows."""
    return plain(np.arange(min(f.overflow + 1, 1 << f.e + f.m)), f)


# %%
def encode(x, f):
    """Bit patterns nearest to ``x``, ties to the even code."""
    steps, size = ladder(f), np.abs(x)
    above = np.searchsorted(steps, size).clip(1, len(steps) - 1)
    below = above - 1
    up, down = steps[above] - size, size - steps[below]
    code = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return code | np.signbit(x).astype(code.dtype) << f.e + f.m


# %% [markdown]
# **Oracle: torch's casts**, on all midpoints between neighbours, where rules differ, on their
# float32 neighbours, and on random numbers of all sizes. E4M3 is compared up to where it overflows,
# because versions of torch differ in what they do beyond; the last column shows yours.


# %%
def hard_cases(f):
    """Midpoints and what lies next to them, overflow, and random values, float32."""
    steps = ladder(f)
    middle = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middle, np.float32(side)) for side in (0, np.inf)]
    wild = pick.normal(size=10**5) * 2.0 ** pick.integers(-30, 20, 10**5)
    x = np.concatenate([middle, *near, wild.astype(np.float32), [1e6, 3e38]]).astype(np.float32)
    return np.concatenate([x, -x])


# %%
for f in (FP16, BF16, E4M3, E5M2):
    x, last = hard_cases(f), ladder(f)[f.overflow - 1]
    x = x[np.abs(x) <= ladder(f)[-2:].mean()] if f.special == "fn" else x
    theirs = torch.from_numpy(x).to(ORACLES[f]).double().numpy()
    np.testing.assert_array_equal(decode(encode(x.astype(np.float64), f), f), theirs)
    after = decode(encode(np.array([2 * last]), f), f)[0]
    torchs = torch.tensor(2.0 * last, dtype=torch.float64).to(ORACLES[f]).item()
    print(f"{f.name}: {len(x):,} agree; twice {last:g} becomes {after} here, {torchs:g} in torch")

# %% [markdown]
# ### Range against precision
#
# With the same bits, an exponent bit buys range and a mantissa bit precision. Draw, for each
# format, the largest relative rounding error, half the gap to the next number, over the magnitude.


# %%
def worst_error(values):
    """Powers of two among ascending ``values``, and half the gap above each, relative."""
    mantissa, _ = np.frexp(values[:-1])
    at = np.flatnonzero(mantissa == 0.5)
    return values[at], (values[at + 1] - values[at]) / 2 / values[at]


# %%
fig, ax = plt.subplots(figsize=(7, 3.8))
exponents = np.arange(-126, 128)
ax.plot(2.0**exponents, np.full(254, 2.0**-24), color=plot.CYCLE[6], label="FP32")
for f, colour in zip((FP16, BF16, E4M3, E5M2, E2M1), plot.CYCLE, strict=False):
    ax.plot(*worst_error(ladder(f)[: f.overflow]), color=colour, label=f.name)
ax.plot(*worst_error(np.arange(1.0, 129)), color=plot.COLOURS["baseline"], label="INT8, scale 1")
ax.set(xscale="log", yscale="log", xlabel="magnitude", ylabel="largest relative error")
ax.set(xlim=(1e-9, 1e9), ylim=(1e-8, 1))
ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()

# %% [markdown]
# *A float is flat: the same relative error over its whole range, rising only among the subnormals
# at the left end. An integer has one absolute error, so its relative error falls all the way. E4M3
# beside E5M2: one bit moved from precision to range. FP32 and BF16 go on beyond both edges.*
#
# ### NF4: levels where the weights are
#
# A code need not be a formula. NF4 (QLoRA, Dettmers et al. 2023) is a list of 16 quantiles of the
# normal distribution, on $[-1, 1]$ with an exact zero: seven levels below it, eight above.


# %%
def nf4():
    """The codebook: quantiles of N(0, 1) on both sides of zero, divided by the largest."""
    end = 1 - (1 / 32 + 1 / 30) / 2  # not 1: its quantile is infinite
    negative = torch.special.ndtri(torch.linspace(1 - end, 0.5, 8, dtype=torch.float64))
    positive = torch.special.ndtri(torch.linspace(0.5, end, 9, dtype=torch.float64))
    levels = torch.cat([negative[:-1], positive])
    return (levels / levels.max()).numpy()


# %% [markdown]
# Oracle: the sixteen values that the paper prints (appendix E).

# %%
NF4 = nf4()
paper = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635
-0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725
0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941
0.7229568362236023 1.0"""
np.testing.assert_allclose(NF4, np.array(paper.split(), dtype=float), atol=3e-7)

# %% [markdown]
# ### MX: one scale for 32 numbers
#
# A microscaling block (OCP MX specification 1.0) is 32 small elements and one scale that is a power
# of two, stored as a bare exponent of 8 bits, E8M0: code $c$ means $2^{c-127}$, 255 is NaN. The
# scale brings the block's largest magnitude into the element's top binade, $2^{e_{\max}}$:
#
# $$X = 2^{\lfloor\log_2\max_i|v_i|\rfloor - e_{\max}},\qquad
# p_i = \text{round}(v_i/X),\ \text{saturating}.$$

# %%
codes = np.arange(256)
e8m0 = np.where(codes < 255, np.ldexp(1.0, codes - 127), np.nan)
if hasattr(torch, "float8_e8m0fnu"):  # from torch 2.7 on
    stored = torch.from_numpy(codes.astype(np.uint8)).view(torch.float8_e8m0fnu)
    np.testing.assert_array_equal(e8m0, stored.double().numpy())


# %%
def mx(x, f, block=32):
    """E8M0 codes ``[n]`` and element codes ``[n, 32]`` of ``x`` with 32 n entries."""
    blocks, largest = x.reshape(-1, block), ladder(f)[f.overflow - 1]
    top = np.frexp(largest)[1] - 1
    shared = np.frexp(np.abs(blocks).max(1, keepdims=True))[1] - 1 - top
    shared = np.where(blocks.any(1, keepdims=True), shared, -127).clip(-127, 127)
    elements = encode((blocks * 2.0**-shared).clip(-largest, largest), f)
    return shared[:, 0] + 127, elements


# %%
def mx_values(shared, elements, f):
    return e8m0[shared][:, None] * decode(elements, f)


# %% [markdown]
# **Smallest example**, then two properties on random blocks: what a block can hold comes back
# exactly, and no element is off by more than a quarter of the block's largest magnitude (half of
# the widest step, or what saturation cuts off).

# %%
shown = np.zeros(32)
shown[:4] = [0.7, -0.1, 0.33, 2.9]
shared, elements = mx(shown, E2M1)
print(f"scale 2^{shared[0] - 127}, elements {decode(elements, E2M1)[0, :4]}")
print(f"read back {mx_values(shared, elements, E2M1)[0, :4]}; {4 + 8 / 32} bits a number")

# %%
held = decode(pick.integers(0, 16, (1000, 32)), E2M1)
held[:, 0] = 6
held *= 2.0 ** pick.integers(-20, 20, (1000, 1))
assert (mx_values(*mx(held, E2M1), E2M1) == held).all()
x = pick.normal(size=(1000, 32))
off = np.abs(mx_values(*mx(x, E2M1), E2M1) - x)
assert (off <= np.abs(x).max(1, keepdims=True) / 4).all()

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.4))
e2m1 = decode(np.arange(16), E2M1) / 6
rows = {"INT4": np.arange(-7, 8) / 7, "FP4 E2M1": e2m1, "NF4": NF4}
for y, values in enumerate(rows.values()):
    ax.plot(values, np.full(len(values), y), "|", ms=18, mew=1.6, color=plot.CYCLE[y])
bell = np.linspace(-1, 1, 201)
ax.fill_between(bell, -0.5, -0.5 + 3 * np.exp(-4 * bell**2), color="#eeeeee", zorder=0)
ax.set_yticks(range(3), list(rows))
ax.set(xlabel="level, largest magnitude = 1", ylim=(-0.5, 2.6))
ax.grid(visible=False)
plt.show()

# %% [markdown]
# *Four bits, three opinions on where to put the levels: evenly, finer towards zero by powers of
# two, or where a bell curve has its mass.*
#
# What the hardware does with it: an integer or a float of few bits has a small multiplier of its
# own. A codebook has none: NF4 is looked up and multiplied in 16 bits, so it saves bytes and no
# MACs. MX was made for multipliers: 32 products of small floats are added, then one exponent is.
#
# ## 3. Linear quantization
#
# Integers become reals by a **scale** $S$ and a **zero point** $Z$, the code of the real 0:
#
# $$x \approx S\,(q - Z),\qquad
# q = \mathrm{clamp}\big(\mathrm{round}(x/S)+Z,\; q_{\min},\, q_{\max}\big).$$
#
# *Affine* quantization fits $S$ and $Z$ to the range of the data. *Symmetric* sets $Z=0$ and gives
# up $-2^{b-1}$, so that $\pm$ are alike. Rounding is half to even, as in section 2.


# %%
def affine(low, high, bits=8):
    """Scale (a float32 number) and zero point of signed codes over [low, high] and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (2**bits - 1)))
    return scale, round(-(2 ** (bits - 1)) - low / scale)


# %%
def quantize(x, scale, zero=0, low=-128, high=127):
    return (torch.round(x / scale) + zero).clamp(low, high).to(torch.int8)


# %%
def dequantize(q, scale, zero=0):
    return scale * (q.float() - zero)


# %%
x = torch.tensor([0.0, 0.1, 0.5, 1.3])  # what leaves a ReLU has no negative side
for name, (S, Z) in {"symmetric": (1.3 / 7, 0), "affine": affine(0.0, 1.3, bits=4)}.items():
    q = quantize(x, S, Z, low=-7 if Z == 0 else -8, high=7)
    back = [round(value, 3) for value in dequantize(q, S, Z).tolist()]
    print(f"{name:9} S = {S:.4f}, Z = {Z:2}: q = {q.tolist()}, back {back}")

# %% [markdown]
# Four bits on data from 0 to 1.3: the symmetric grid leaves half of its levels below zero unused,
# so its step is twice as long.
#
# **Oracle**: torch's own per-tensor quantization, on scales whose reciprocal is exact (torch
# multiplies by $1/S$, which may fall on the other side of a tie), and the error bound $S/2$ inside
# the range.

# %%
x = torch.randn(10_000)
theirs = torch.fake_quantize_per_tensor_affine(x, 2.0**-5, 3, -128, 127)
assert torch.equal(dequantize(quantize(x, 2.0**-5, 3), 2.0**-5, 3), theirs)
S, Z = affine(float(x.min()), float(x.max()))
assert (dequantize(quantize(x, S, Z), S, Z) - x).abs().max() <= 0.501 * S

# %% [markdown]
# **Estimate: 6 dB a bit.** If the rounding error is uniform over a step, its variance is $S^2/12$.
# Compare signal-to-quantization-noise, $10\log_{10}(\overline{x^2}/\overline{e^2})$, of one layer's
# weights with this estimate.


# %%
def sqnr_db(x, y):
    return 10 * float(torch.log10(x.pow(2).mean() / (x - y).pow(2).mean()))


# %%
def symmetric(w, bits):
    """``w`` on the symmetric grid of so many bits, one scale for the tensor; and the levels."""
    top = 2 ** (bits - 1) - 1
    scale = w.abs().max() / top
    return scale * torch.round(w / scale), scale * torch.arange(-top, top + 1)


# %%
w = model.features.conv5.weight.detach()
for bits in (2, 3, 4, 6, 8, 10):
    on_grid, grid = symmetric(w, bits)
    step = float(grid[1] - grid[0])
    expected = 10 * np.log10(float(w.pow(2).mean()) / (step**2 / 12))
    print(f"{bits:2} bits: estimate {expected:5.1f} dB, measured {sqnr_db(w, on_grid):5.1f} dB")

# %% [markdown]
# Where the estimate fails, the step is as long as the weights are wide: the error is then the
# weight itself, not noise.
#
# **One scale or many.** Output channels of one layer differ in range. A scale for each costs one
# number a channel, and integer arithmetic does not mind, because all products of one output share
# it. (Groups, clipping and calibration are Lecture 6.)


# %%
def per_channel(w, bits):
    """``w`` with a symmetric scale for each output channel."""
    top = 2 ** (bits - 1) - 1
    scale = w.abs().amax(tuple(range(1, w.ndim)), keepdim=True) / top
    return scale * torch.round(w / scale)


# %%
for bits in (4, 8):
    tensor, channel = sqnr_db(w, symmetric(w, bits)[0]), sqnr_db(w, per_channel(w, bits))
    print(f"{bits} bits: per tensor {tensor:.1f} dB, per channel {channel:.1f} dB")

# %% [markdown]
# ### A product of integers
#
# Put the two grids into $Y = XW$ and multiply out. Only the first term needs a product for each
# pair:
#
# $$\sum_k S_x(q_x-Z_x)\,S_w(q_w-Z_w) = S_xS_w\Big[\sum_k q_xq_w - Z_x\sum_k q_w
# - Z_w\sum_k q_x + K Z_xZ_w\Big].$$
#
# $\sum_k q_w$ is known before the input is, so it goes into the bias. With symmetric weights
# ($Z_w=0$) the last two terms vanish, and nothing remains that depends on the input but the integer
# product itself. That is why weights are symmetric and activations need not be.

# %%
q_x, q_w = torch.randint(-128, 128, (5, 40)), torch.randint(-128, 128, (40, 7))
Z_x, Z_w = 17, -3
direct = (q_x - Z_x) @ (q_w - Z_w)
terms = q_x @ q_w - Z_x * q_w.sum(0) - Z_w * q_x.sum(1, keepdim=True) + 40 * Z_x * Z_w
assert torch.equal(direct, terms)
bits = np.log2(128 * 127 * 1152)
print(f"largest accumulator of a layer with 1152 inputs: {bits:.1f} bits and the sign")

# %% [markdown]
# ## 4. K-means: a codebook for each layer
#
# Let the weights choose the levels. K-means minimizes the squared error over the codebook $c$ and
# the assignment; Lloyd's algorithm improves one at a time, so its error never rises:
#
# $$\min_{c,\,a} \sum_i (w_i - c_{a_i})^2:\qquad a_i = \arg\min_j |w_i - c_j|,\qquad
# c_j = \mathrm{mean}\{w_i : a_i = j\}.$$
#
# On a line, "nearest" means: between two midpoints. Three ways to begin, as in Deep Compression:
# evenly over the range (linear), at equal shares of the weights (density), at random weights.


# %%
def begin(w, count, how):
    """The first codebook, ``[count]`` ascending."""
    if how == "linear":
        return torch.linspace(float(w.min()), float(w.max()), count)
    if how == "density":
        at = (torch.arange(count) + 0.5) / count * len(w)
        return w.sort().values[at.long()]
    chosen = torch.randperm(len(w), generator=torch.Generator().manual_seed(0))[:count]
    return w[chosen].sort().values


# %%
def assign(w, codebook):
    """Index of the nearest entry of an ascending codebook, in the shape of ``w``."""
    return torch.bucketize(w.contiguous(), (codebook[1:] + codebook[:-1]) / 2)


# %%
def lloyd(w, count, how="linear", rounds=30):
    """Codebook of ``w [n]``, and the mean squared error before each round."""
    codebook, errors = begin(w, count, how), []
    for _ in range(rounds):
        a = assign(w, codebook)
        errors.append(float((w - codebook[a]).pow(2).mean()))
        size = a.bincount(minlength=count)
        sums = torch.zeros(count).index_add_(0, a, w)
        codebook = torch.where(size > 0, sums / size.clamp(min=1), codebook).sort().values
    return codebook, errors


# %% [markdown]
# **Oracle.** On a line the best clusters are intervals, so dynamic programming finds the optimum:
# the best $k$ intervals of the first $i$ points end in one last interval. For 60 points, Lloyd must
# not be better, and must not get worse from round to round.


# %%
def optimum(points, count):
    """Least summed squared error of ``count`` clusters of sorted ``points``, exactly."""
    n = len(points)
    one = {(i, j): points[i:j].var() * (j - i) for i in range(n) for j in range(i + 1, n + 1)}
    best = [0.0] + [one[0, j] for j in range(1, n + 1)]
    for _ in range(count - 1):
        best = [min([best[j]] + [best[i] + one[i, j] for i in range(j)]) for j in range(n + 1)]
    return best[n]


# %%
points = torch.randn(60, generator=torch.Generator().manual_seed(3)).sort().values
least = optimum(points.double().numpy(), 4) / len(points)
for how in ("linear", "density", "random"):
    _, errors = lloyd(points, 4, how)
    assert all(b <= a + 1e-7 for a, b in itertools.pairwise(errors))
    assert errors[-1] >= least - 1e-6
    print(f"{how:8} {errors[0]:.4f} → {errors[-1]:.4f}; optimum {least:.4f}")

# %% [markdown]
# The three beginnings on a layer, and what they mean for the network: all convolutions at 3 and at
# 2 bits, nothing retrained.


# %%
def compressible(net):
    """Convolutions but the first: nearly all weights."""
    return dict(list(cost.weighted_layers(net).items())[1:-1])


# %%
@torch.no_grad()
def shared(net, bits, how="linear"):
    """A copy whose convolutions hold ``2**bits`` values each."""
    net = copy.deepcopy(net)
    for conv in compressible(net).values():
        codebook, _ = lloyd(conv.weight.flatten(), 2**bits, how, rounds=15)
        conv.weight.copy_(codebook[assign(conv.weight, codebook)])
    return net


# %%
INITS = ("linear", "density", "random")
found = {(how, b): training.evaluate(shared(model, b, how), scan) for how in INITS for b in (3, 2)}
for how in INITS:
    print(f"{how:8} 3 bits {found[how, 3]:.1%}, 2 bits {found[how, 2]:.1%}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3))
for how, colour in zip(INITS, plot.CYCLE, strict=False):
    codebook, errors = lloyd(w.flatten(), 8, how)
    left.plot(errors, color=colour, label=how)
    right.plot(codebook, [INITS.index(how)] * 8, "|", ms=18, mew=1.6, color=colour)
left.set(xlabel="round of Lloyd's algorithm", ylabel="mean squared error", yscale="log")
left.legend()
counts, edges = np.histogram(w.flatten(), 80)
right.stairs(counts / counts.max() * 2.4 - 0.5, edges, baseline=-0.5, fill=True, color="#dddddd")
right.set_yticks(range(3), list(INITS))
right.set(xlabel="conv5: weights (grey) and 8 levels after 30 rounds", ylim=(-0.5, 2.5))
right.grid(visible=False)
plt.show()

# %% [markdown]
# *Left: how fast each beginning comes down, and whether they end alike. Right: where each puts its
# levels. The paper prefers linear, which keeps levels for the few large weights; compare the
# accuracies above, because the squared error alone does not decide.*
#
# ### Fine-tuning a codebook
#
# A weight is now an address, and addresses have no gradient; the shared values have:
#
# $$\frac{\partial L}{\partial c_j} = \sum_{i:\,a_i=j}\frac{\partial L}{\partial w_i}.$$
#
# Writing $w = c[a]$ makes autograd do exactly this. Torch's parametrization puts the look-up
# between the trained parameter and the layer.


# %%
class LookUp(nn.Module):
    """The weight is ``codebook[codes]``; code 0 stays 0 where ``keep_zero``."""

    def __init__(self, codes, keep_zero=False):
        super().__init__()
        self.codes, self.keep_zero = codes, keep_zero

    def forward(self, codebook):
        if self.keep_zero:
            codebook = F.pad(codebook[1:], (1, 0))
        return codebook[self.codes]


# %%
def with_codebook(net, layers, keep_zero=False):
    """``net`` whose convolutions are ``(codes, codebook)`` of ``layers``, ready to train."""
    net = copy.deepcopy(net)
    for name, (codes, codebook) in layers.items():
        conv = net.get_submodule(name)
        conv.weight = nn.Parameter(codebook.clone())
        parametrize.register_parametrization(conv, "weight", LookUp(codes, keep_zero), unsafe=True)
    return net


# %%
def encoded(net, bits):
    """Codes and codebook of each convolution."""
    layers = {}
    for name, conv in compressible(net).items():
        weight = conv.weight.detach().contiguous()
        codebook, _ = lloyd(weight.flatten(), 2**bits, rounds=15)
        layers[name] = assign(weight, codebook), codebook
    return layers


# %% [markdown]
# Oracle: the gradient of a codebook equals the weights' gradients, summed by cluster.

# %%
few = datasets.normalize(train.images[:8])
layers = encoded(model, 2)
net = with_codebook(model, layers)
F.cross_entropy(net(few), train.labels[:8]).backward()
whole = shared(model, 2)
F.cross_entropy(whole(few), train.labels[:8]).backward()
for name, (codes, _) in layers.items():
    gradient = whole.get_submodule(name).weight.grad.contiguous()
    summed = torch.zeros(4).index_add_(0, codes.flatten(), gradient.flatten())
    own = net.get_submodule(name).parametrizations.weight.original.grad
    torch.testing.assert_close(own, summed, rtol=1e-3, atol=1e-4)

# %% [markdown]
# **What did it?** Training also measures the batch-norm statistics anew, and Lecture 4 showed how
# much that does. So there are three columns: as assigned, with new statistics only, and with
# codebooks (and the batch norms and ends of the network) trained.


# %%
@torch.no_grad()
def settled(net):
    """A copy with batch-norm statistics of ``STATISTICS_IMAGES`` training images."""
    net = copy.deepcopy(net)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # one batch, all of it
    net.train()(datasets.normalize(train.images[:STATISTICS_IMAGES]))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


# %%
def tuned(net, layers, keep_zero=False):
    """``with_codebook`` after a short training."""
    net = with_codebook(net, layers, keep_zero)
    epochs = CODEBOOK_IMAGES / len(train)
    training.fit(net, train, epochs=epochs, lr=3e-5, weight_decay=0, seed=1)
    return settled(net)


# %%
TUNED = {}
for bits in (2, 1):
    layers = encoded(model, bits)
    nets = [with_codebook(model, layers), settled(with_codebook(model, layers))]
    TUNED[bits] = [training.evaluate(net, report) for net in (*nets, tuned(model, layers))]
    print(f"{bits}-bit codes: {TUNED[bits][0]:.1%}, statistics {TUNED[bits][1]:.1%}, "
          f"codebooks {TUNED[bits][2]:.1%}")  # fmt: skip

# %% [markdown]
# The difference of the last two is the training's. The step before it takes one pass over some
# images and no gradient: whoever changes weights measures the statistics anew.
#
# ### Which levels for which bits
#
# All formats side by side: one scale for each tensor so that the largest weight meets the largest
# level (MX: one for 32 weights, with E2M1, E2M3 or E4M3 elements); nothing is retrained and batch
# norm stays as it was. A quantizer returns the new weights and its levels.


# %%
def by_levels(w, levels):
    """``w`` on the nearest of ``levels``, scaled so that the largest magnitudes meet."""
    levels = torch.as_tensor(np.unique(levels), dtype=torch.float32)
    levels = levels * (w.abs().max() / levels.abs().max())
    return levels[assign(w, levels)], levels


# %%
def by_format(f):
    codes = np.arange(1 << f.bits)
    levels = decode(codes, f)
    return lambda w: by_levels(w, levels[np.isfinite(levels)])


# %%
def by_kmeans(bits):
    def quantizer(w):
        codebook, _ = lloyd(w.flatten(), 2**bits, rounds=10)
        return codebook[assign(w, codebook)], codebook

    return quantizer


# %%
def by_mx(f):
    def quantizer(w):
        rows = w.permute(0, 2, 3, 1).contiguous()  # a block is 32 input channels
        values = mx_values(*mx(rows.double().numpy(), f), f).reshape(rows.shape)
        return torch.from_numpy(values).float().permute(0, 3, 1, 2), torch.zeros(0)

    return quantizer


# %%
BITS = (2, 3, 4, 6, 8)
QUANTIZERS = {b: {"int": lambda w, b=b: symmetric(w, b), "k-means": by_kmeans(b)} for b in BITS}
QUANTIZERS[4] |= {"E2M1": by_format(E2M1), "NF4": lambda w: by_levels(w, NF4), "MX": by_mx(E2M1)}
QUANTIZERS[6] |= {"E2M3": by_format(E2M3), "E3M2": by_format(E3M2), "MX": by_mx(E2M3)}
QUANTIZERS[8] |= {"E4M3": by_format(E4M3), "E5M2": by_format(E5M2), "MX": by_mx(E4M3)}


# %%
@torch.no_grad()
def with_weights(net, quantizer):
    net = copy.deepcopy(net)
    for conv in compressible(net).values():
        conv.weight.copy_(quantizer(conv.weight)[0])
    return net


# %%
w = model.features.conv5.weight.detach().contiguous()
ROWS = {}
for b, quantizers in QUANTIZERS.items():
    for name, quantizer in quantizers.items():
        values, levels = quantizer(w)
        right = training.evaluate(with_weights(model, quantizer), scan)
        ROWS[b, name] = levels.numpy(), sqnr_db(w, values), 100 * right
HISTOGRAM, w_max = np.histogram(w.flatten(), 100), float(w.abs().max())


# %% tags=["widget"]
def draw_levels(ax, bits):
    """The weights of conv5 and, below, each format's levels with its error and accuracy."""
    heights, edges = HISTOGRAM
    ax.stairs(heights / heights.max(), edges, fill=True, color="#cccccc")
    names = [name for b, name in ROWS if b == bits]
    for i, name in enumerate(names):
        levels, decibels, percent = ROWS[bits, name]
        y, colour = -0.45 * (i + 1), plot.CYCLE[i]
        ax.plot(levels, [y] * len(levels), "|", ms=5, mew=0.8, color=colour)
        text = f"{name}: {decibels:.1f} dB, {percent:.1f} %"
        ax.text(-w_max, y + 0.11, text, color=colour, fontsize=7)
    ax.set(ylim=(-2.5, 1.1), xlim=(-1.05 * w_max, 1.05 * w_max))
    ax.set(xlabel="weight of conv5", yticks=[])
    ax.grid(visible=False)


# %% tags=["widget"]
plot.explore(draw_levels, columns=2, bits=BITS)

# %% [markdown]
# *Grey: one layer's weights. Each row: a format's levels at this number of bits, the layer's
# signal-to-noise ratio, and the accuracy of the network with all its convolutions in that format
# (MX has other levels in every block). At few bits it matters where the levels lie: levels out in
# the empty tails are wasted. Where the accuracies no longer differ, what counts is which format the
# hardware multiplies.*
#
# ## 5. Deep Compression, completed
#
# Lecture 1 ran the pipeline once; Lectures 3 and 4 took its first stage apart. Now all of it, into
# a file: prune → k-means on the surviving weights → fine-tune the codebook → relative index →
# Huffman.
#
# **Prune** in steps, with a short fine-tuning under the mask after each. All intermediate networks
# are kept, because the second question is whether pruning and quantization get in each other's way.

# %%
SPARSITIES, DEEP, DEEP_BITS = (0.5, 0.7, 0.8, 0.9), 0.8, 3


# %%
def keep_largest(net, sparsity):
    """Masks of the largest weights of each convolution."""
    masks = {}
    for name, conv in compressible(net).items():
        size = conv.weight.detach().abs()
        masks[name] = size > size.flatten().kthvalue(round(sparsity * size.numel())).values
    return masks


# %%
@torch.no_grad()
def apply(masks, net):
    for name, mask in masks.items():
        net.get_submodule(name).weight.mul_(mask)


# %%
def prune(net, sparsity, images, seed):
    """A copy of ``net`` pruned and fine-tuned on so many images, mask held."""
    net = copy.deepcopy(net)
    masks = keep_largest(net, sparsity)
    held = partial(apply, masks)
    held(net)
    training.fit(net, train, epochs=images / len(train), lr=0.02, seed=seed, after_step=held)
    return settled(net)


# %%
pruned = {0.0: model}
for seed, (before, s) in enumerate(itertools.pairwise((0.0, *SPARSITIES))):
    pruned[s] = prune(pruned[before], s, FINETUNE_IMAGES, seed)
    assert abs(cost.sparsity(pruned[s].features.conv5.weight) - s) < 0.01

# %% [markdown]
# **Share.** Of $2^b$ codes, code 0 means a pruned weight (or padding); the others are k-means
# levels of the survivors.


# %%
def survivors(net, bits):
    """Codes and codebook ``[2**bits]`` of each convolution; code 0 is the value 0."""
    layers = {}
    for name, conv in compressible(net).items():
        weight = conv.weight.detach().contiguous()
        levels, _ = lloyd(weight[weight != 0], 2**bits - 1, rounds=15)
        codes = torch.where(weight != 0, assign(weight, levels) + 1, 0)
        layers[name] = codes, torch.cat([torch.zeros(1), levels])
    return layers


# %%
@torch.no_grad()
def filled(net, layers):
    """A copy of ``net`` with the weights of ``layers``."""
    net = copy.deepcopy(net)
    for name, (codes, codebook) in layers.items():
        net.get_submodule(name).weight.copy_(codebook[codes])
    return net


# %%
DENSE_BYTES = cost.model_bytes(model)
REST = DENSE_BYTES - sum(4 * c.weight.numel() for c in compressible(model).values())


# %%
def stored_bytes(layers, value_bits, sparse=True):
    """Bytes of the network with these weights: relative index or dense codes, and codebooks."""
    total = REST
    for weight in layers:
        book = 4 * 2**value_bits if value_bits < 32 else 0
        dense = weight.numel() * value_bits // 8
        total += book + (cost.relative_index_bytes(weight, value_bits) if sparse else dense)
    return total


# %%
CURVES = {"pruning alone": [], "quantization alone": [], "both": []}


# %%
def add(curve, net, weights, value_bits, sparse=True):
    ratio = DENSE_BYTES / stored_bytes(weights, value_bits, sparse)
    CURVES[curve].append((ratio, 100 * training.evaluate(net, scan)))


# %%
for s in SPARSITIES:
    add("pruning alone", pruned[s], [c.weight for c in compressible(pruned[s]).values()], 32)
for b in (4, 3, 2, 1):
    layers = encoded(model, b)
    codes = [codes for codes, _ in layers.values()]
    add("quantization alone", settled(filled(model, layers)), codes, b, sparse=False)
for s, b in ((0.5, 4), (0.7, 4), (0.7, 3), (0.8, 3), (0.8, 2), (0.9, 3), (0.9, 2)):
    layers = survivors(pruned[s], b)
    codes = [codes for codes, _ in layers.values()]
    add("both", settled(filled(pruned[s], layers)), codes, b)

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.4))
styles = (("pruning alone", "s", 1), ("quantization alone", "^", 0), ("both", "o", 2))
for name, marker, colour in styles:
    x, y = zip(*sorted(CURVES[name]), strict=True)
    ax.plot(x, y, marker + "-", color=plot.CYCLE[colour], label=name)
ax.axhline(100 * training.evaluate(model, scan), color=plot.COLOURS["baseline"], label="fp32")
ax.set(xscale="log", xlabel="fp32 bytes / bytes (indices and codebooks counted)")
ax.set(ylabel="accuracy, %")
ax.set_xticks([2, 4, 8, 16, 32], ["2×", "4×", "8×", "16×", "32×"])
ax.minorticks_off()
ax.legend(loc="lower left")
plt.show()

# %% [markdown]
# *Pruned networks were fine-tuned briefly, codebooks not at all; all have new batch-norm
# statistics, and nothing is Huffman-coded yet. Where the green curve stays up and the other two
# have fallen, the two methods remove different redundancy: one the weights that do not matter, the
# other the digits that do not.*
#
# Why the two do not simply multiply: a dense code takes $b$ bits, a sparse one $b+4$ with its gap,
# so pruning saves bytes only if $(1-s)(b+4)<b$, that is
#
# $$s > \frac{4}{b+4}.$$

# %%
for b in (8, 4, 3, 2, 1):
    print(f"{b} bits: pruning pays in bytes above a sparsity of {4 / (b + 4):.0%}")

# %% [markdown]
# One sparsity of it goes all the way: first more fine-tuning, then k-means, then **tune** the
# codebooks with code 0 held at zero.

# %%
deep = prune(pruned[DEEP], DEEP, DEEP_IMAGES, seed=len(SPARSITIES))
layers = survivors(deep, DEEP_BITS)
STAGES = {"dense": (DENSE_BYTES, ACCURACY["fp32"])}
pruned_weights = [c.weight for c in compressible(deep).values()]
STAGES["pruned"] = stored_bytes(pruned_weights, 32), training.evaluate(deep, report)
shared_bytes = stored_bytes([codes for codes, _ in layers.values()], DEEP_BITS)
STAGES["shared"] = shared_bytes, training.evaluate(settled(filled(deep, layers)), report)

# %%
net = tuned(deep, layers, keep_zero=True)
for name, (codes, _) in layers.items():
    conv = net.get_submodule(name)
    book = F.pad(conv.parametrizations.weight.original.detach()[1:], (1, 0))
    parametrize.remove_parametrizations(conv, "weight")
    layers[name] = codes, book
    assert torch.equal(conv.weight, book[codes])
STAGES["tuned"] = shared_bytes, training.evaluate(net, report)

# %% [markdown]
# **Index.** Every stored entry is a gap of 4 bits, the zeros before it, and a code. A run of 16
# zeros or more takes padding: an entry of gap 15 and code 0. Oracle: `huffman.place` undoes it, and
# the count agrees with `cost.relative_index_bytes`.


# %%
def relative(codes):
    """Gaps 0..15 and values of the relative index of ``codes``, ``[E]`` each."""
    flat = codes.flatten()
    at = flat.nonzero()[:, 0]
    gaps = at.diff(prepend=torch.tensor([-1])) - 1
    ends = (gaps // 16 + 1).cumsum(0) - 1  # where each value comes to stand, after its padding
    gap, value = torch.full((int(ends[-1]) + 1,), 15), torch.zeros(int(ends[-1]) + 1).long()
    gap[ends], value[ends] = gaps % 16, flat[at]
    return gap, value


# %%
for codes, _ in layers.values():
    gap, value = relative(codes)
    assert torch.equal(huffman.place(gap, value, codes.numel()), codes.flatten())
    assert (len(gap) * (4 + DEEP_BITS) + 7) // 8 == cost.relative_index_bytes(codes, DEEP_BITS)

# %% [markdown]
# **Encode.** Huffman: merge the two rarest groups of symbols until one is left; each merge puts one
# bit in front of all its members. The lengths suffice, because `codesign.huffman` assigns canonical
# words. Oracle: the mean length lies between the entropy and one bit more.


# %%
def code_lengths(counts):
    """Bits of each symbol's Huffman word, 0 for one that does not occur."""
    lengths = torch.zeros(len(counts), dtype=torch.int64)
    heap = [(n, [symbol]) for symbol, n in enumerate(counts.tolist()) if n]
    heapq.heapify(heap)
    while len(heap) > 1:
        (n, left), (m, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (n + m, left + right))
    return lengths.clamp(min=(counts > 0).long())


# %%
def encode_layer(codes, codebook):
    """The tensors that a file stores for one convolution."""
    pair = relative(codes)
    lengths = [code_lengths(part.bincount(minlength=16)) for part in pair]
    words = [huffman.canonical_codes(n)[part] for part, n in zip(pair, lengths, strict=True)]
    bits = [n[part] for part, n in zip(pair, lengths, strict=True)]
    stream = huffman.write_bits(*(torch.stack(part, 1).flatten() for part in (words, bits)))
    return {"stream": stream, "lengths": torch.stack(lengths).to(torch.uint8), "book": codebook}


# %%
pair = relative(layers["features.conv5"][0])
for name, part, fixed in zip(("gaps", "codes"), pair, (4, DEEP_BITS), strict=True):
    p = part.bincount(minlength=16) / len(part)
    entropy, mean_bits = float(-(p * p.clamp(min=1e-9).log2()).sum()), p @ code_lengths(p).float()
    assert entropy - 1e-6 <= mean_bits < entropy + 1
    print(f"{name} of conv5: {fixed} bits, entropy {entropy:.2f}, Huffman {mean_bits:.2f}")

# %% [markdown]
# **Write it**, with everything a network needs: first and last layer and batch norm in fp32. The
# size is the file's.

# %%
file = {}
for name, layer in layers.items():
    file |= {f"{name}.{key}": value for key, value in encode_layer(*layer).items()}
for name, value in net.state_dict().items():
    if name.removesuffix(".weight") not in layers and value.is_floating_point():
        file[name] = value.contiguous()
counts = {name: str(len(relative(codes)[0])) for name, (codes, _) in layers.items()}
folder = tempfile.TemporaryDirectory()
path = checkpoints.write_tensors(Path(folder.name) / "deep.safetensors", file, counts)
STAGES["file"] = path.stat().st_size, STAGES["tuned"][1]

# %% [markdown]
# **Read it back**, from the file alone: bit for bit the same network.


# %%
def decoded(path):
    """The network in a file of this section."""
    stored, entries = checkpoints.tensors(path), checkpoints.metadata(path)
    again = copy.deepcopy(model)
    state = {name: value for name, value in stored.items() if name in again.state_dict()}
    for name in entries:
        gap_lengths, value_lengths = stored[f"{name}.lengths"].long()
        stream, count = stored[f"{name}.stream"], int(entries[name])
        pair = huffman.read_entries(stream, count, gap_lengths, value_lengths)
        shape = again.get_submodule(name).weight.shape
        codes = huffman.place(*pair, shape.numel()).reshape(shape)
        state[f"{name}.weight"] = stored[f"{name}.book"][codes]
    again.load_state_dict(state, strict=False)
    return again.eval()


# %%
again = decoded(path)
for name, value in net.state_dict().items():
    if value.is_floating_point():
        assert torch.equal(again.state_dict()[name], value), name
assert training.evaluate(again, report) == STAGES["file"][1]
for name, (size, right) in STAGES.items():
    print(f"{name:7} {size:9,} bytes, {DENSE_BYTES / size:5.1f}× smaller, {right:.1%}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.6))
kib = [size / 1024 for size, _ in STAGES.values()]
bars = ax.barh(list(STAGES), kib, color=plot.COLOURS["memory"])
notes = [f" {k:.0f} KiB, {100 * a:.1f} %" for k, (_, a) in zip(kib, STAGES.values(), strict=True)]
ax.bar_label(bars, notes)
ax.set(xlabel="KiB, everything included", xlim=(0, 1.3 * kib[0]))
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Each stage with the accuracy behind it; the last bar is the size of the file on disk, its header
# included.*
#
# What the hardware does with it: the CPU decodes the file once, then multiplies in fp32 as before.
# The bytes are saved where they are shipped and stored. To save them at run time takes a machine
# that multiplies in the compressed form (EIE, Lecture 4), or numbers that the CPU can multiply as
# they are. That is the rest of this lecture.

# %% [markdown]
# ## 6. The whole network in integers
#
# From pixels to class without a float: int8 weights and activations, int32 accumulators, and
# between two layers a multiplication by an integer and a shift (Jacob et al. 2018).
#
# ### Fold batch norm
#
# At inference batch norm is a factor and an offset for each channel, so it goes into the
# convolution:
#
# $$W' = \frac{\gamma}{\sqrt{\sigma^2+\epsilon}}\,W,\qquad
# b' = \beta - \frac{\gamma\mu}{\sqrt{\sigma^2+\epsilon}}.$$


# %%
def folded(conv, bn):
    """Weight and bias of the one convolution that computes ``bn(conv(x))``."""
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    return conv.weight * factor[:, None, None, None], bn.bias - bn.running_mean * factor


# %%
def stages(net):
    """The folded network: name, kind, weight and bias of each step, in order."""
    for name, module in net.features.named_children():
        if isinstance(module, nn.Conv2d):
            bn = net.features.get_submodule(name.replace("conv", "bn"))
            yield name, "conv", *folded(module, bn)
        elif isinstance(module, nn.MaxPool2d):
            yield name, "pool", None, None
    yield "mean", "mean", None, None
    yield "classifier", "linear", net.classifier.weight, net.classifier.bias


# %%
IN_FLOAT = {
    "conv": lambda x, w, b: F.conv2d(x, w, b, padding=1).relu(),
    "pool": lambda x, w, b: F.max_pool2d(x, 2),
    "mean": lambda x, w, b: x.mean((2, 3)),
    "linear": F.linear,
}


# %% [markdown]
# ### Calibrate
#
# Scales of weights are read off the weights. Scales of activations come from running some training
# images and keeping each layer's least and greatest value: min–max, the simplest choice. Oracle:
# the folded network computes what the original does.


# %%
@torch.no_grad()
def calibrate(net, images):
    """Least and greatest output of each step, and the last output."""
    x, ranges = datasets.normalize(images), {}
    for name, kind, w, b in stages(net):
        x = IN_FLOAT[kind](x, w, b)
        ranges[name] = float(x.min()), float(x.max())
    return ranges, x


# %%
RANGES, logits = calibrate(model, train.images[:CALIBRATION_IMAGES])
with torch.no_grad():
    whole = model(datasets.normalize(train.images[:CALIBRATION_IMAGES]))
torch.testing.assert_close(logits, whole, rtol=1e-3, atol=1e-3)
print({name: f"{low:.2f} to {high:.2f}" for name, (low, high) in RANGES.items()})

# %% [markdown]
# ### Requantize with an integer and a shift
#
# An accumulator counts in units of $S_xS_w$, the next layer in units of $S_y$. The ratio is a real
# number, written as a 31-bit integer, the *mantissa* $M_0$, and a power of two, the *shift* $n$:
#
# $$M = \frac{S_xS_w}{S_y} = M_0\,2^{-n},\quad M_0\in[2^{30},2^{31}),\qquad
# q_y = \mathrm{clamp}\Big(\big((a\,M_0 + 2^{\,n-1}) \gg n\big) + Z_y\Big).$$
#
# The product has 64 bits; adding half and shifting arithmetically rounds *half up* (towards
# $+\infty$). ReLU costs nothing: it is the clamp at $Z_y$ from below.


# %%
def fixed_point(ratio):
    """Mantissa and shift of each multiplier in ``ratio``, int64."""
    fraction, exponent = np.frexp(np.asarray(ratio, dtype=np.float64))
    mantissa = np.round(fraction * 2.0**31).astype(np.int64)
    over = mantissa == 2**31  # rounded up to a power of two
    mantissa, shift = np.where(over, 2**30, mantissa), 31 - exponent - over
    return torch.from_numpy(mantissa), torch.from_numpy(shift.astype(np.int64))


# %%
def rescale(acc, mantissa, shift):
    return acc * mantissa + (1 << (shift - 1)) >> shift


# %%
ratio = np.random.default_rng(0).uniform(1e-4, 1, 1000)
mantissa, shift = fixed_point(ratio)
assert ((mantissa >= 2**30) & (mantissa < 2**31)).all()
np.testing.assert_allclose(mantissa * 2.0 ** -shift.double(), ratio, rtol=2**-30)
acc = torch.tensor([1, 3, 5, -1, -3])
print(f"{acc.tolist()} / 2: half up {rescale(acc, *fixed_point([0.5])).tolist()}, "
      f"half to even {torch.round(acc / 2).int().tolist()}")  # fmt: skip

# %% [markdown]
# **Oracle**: exact rational arithmetic, $\lfloor aM_0/2^n + 1/2\rfloor$, with Python's own
# integers.

# %%
acc = torch.randint(-(2**24), 2**24, (1000,))
columns = (part.tolist() for part in (acc, mantissa, shift))
exact = [(2 * a * m + 2**n) // 2 ** (n + 1) for a, m, n in zip(*columns, strict=True)]
assert rescale(acc, mantissa, shift).tolist() == exact

# %% [markdown]
# ### The integer network
#
# Weights per output channel, symmetric in $[-127,127]$; biases in units of $S_xS_w$, so that they
# add to the accumulator. The pixels' scale is symmetric: with 255 steps for 256 pixel values, each
# pixel would lie exactly between two codes, and half of the values would merge.


# %%
@dataclass
class Layer:
    """One step in integers: scales and zero points of input and output, weights, multiplier."""

    name: str
    kind: str
    s_x: float
    z_x: int
    s_y: float
    z_y: int
    weight: torch.Tensor | None = None
    s_w: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    mantissa: torch.Tensor | None = None
    shift: torch.Tensor | None = None


# %%
@torch.no_grad()
def add_weights(layer, w, b):
    """Quantize weight and bias per output channel."""
    layer.s_w = w.flatten(1).abs().amax(1) / 127
    unit = layer.s_w.reshape(-1, *[1] * (w.ndim - 1))
    layer.weight = quantize(w, unit, low=-127)
    layer.bias = torch.round(b.double() / (layer.s_x * layer.s_w.double())).long()
    layer.mantissa, layer.shift = fixed_point(layer.s_x * layer.s_w.double() / layer.s_y)


# %%
def in_integers(net, ranges, places=16):
    """The list of integer layers; the mean is over ``places`` positions."""
    layers, s, z = [], float(np.float32(2 / 127)), 0
    for name, kind, w, b in stages(net):
        out = (s, z) if kind == "pool" else affine(*ranges[name])
        layer = Layer(name, kind, s, z, *out)
        if kind == "mean":
            layer.mantissa, layer.shift = fixed_point([s / (places * layer.s_y)])
        if w is not None:
            add_weights(layer, w, b)
        layers.append(layer)
        s, z = out
    return layers


# %%
LAYERS = in_integers(model, RANGES)
for layer in (LAYERS[0], LAYERS[1], LAYERS[-1]):
    print(f"{layer.name}: S_x {layer.s_x:.4f}, Z_x {layer.z_x}, S_y {layer.s_y:.4f}, "
          f"Z_y {layer.z_y}, mantissa {int(layer.mantissa[0]):,}, shift {int(layer.shift[0])}")  # fmt: skip

# %% [markdown]
# **First executor, in torch.** A convolution is a matrix product with unfolded patches (im2col).
# Subtracting $Z_x$ first makes a border of zeros the same as a border of zero points. The products
# are done in float64, where sums of integers below $2^{53}$ are exact in any order.


# %%
def accumulate(q, layer):
    """Integer accumulators of a convolution, mean or linear layer, int64."""
    x = q.double() - layer.z_x
    if layer.kind == "mean":
        return x.sum((2, 3)).long()
    if layer.kind == "linear":
        return (x @ layer.weight.double().T).long() + layer.bias
    sums = layer.weight.double().flatten(1) @ F.unfold(x, 3, padding=1)
    return sums.unflatten(2, q.shape[2:]).long() + layer.bias[:, None, None]


# %%
def run_integer(q, layer):
    """int8 codes ``[N, C, H, W]`` through one layer."""
    if layer.kind == "pool":
        return F.max_pool2d(q.float(), 2).to(torch.int8)
    acc = accumulate(q, layer)
    multiplier = layer.mantissa, layer.shift
    per_channel = [part.reshape(-1, *[1] * (acc.ndim - 2)) for part in multiplier]
    low = layer.z_y if layer.kind == "conv" else -128  # ReLU
    return (rescale(acc, *per_channel) + layer.z_y).clamp(low, 127).to(torch.int8)


# %%
def pixels(images):
    """int8 codes of images, ``[N, 3, 32, 32]`` contiguous."""
    return quantize(datasets.normalize(images), LAYERS[0].s_x).contiguous()


# %%
def trace(q):
    """The input and every layer's output."""
    return list(itertools.accumulate(LAYERS, run_integer, initial=q))


# %%
parts = [trace(pixels(images)) for images in report.images[:EXACT_IMAGES].split(25)]
TRACE = [torch.cat(part) for part in zip(*parts, strict=True)]
summing = [pair for pair in zip(TRACE, LAYERS, strict=False) if pair[1].mantissa is not None]
biggest = max(int(accumulate(q[:8], layer).abs().max()) for q, layer in summing)
print(f"largest accumulator: {biggest:,} of {2**31:,}")

# %% [markdown]
# **Second executor, in C.** One image, channels last, as on a microcontroller. The zero-point term
# $-Z_x\sum q_w$ is already in the bias, so the inner loop multiplies what it finds; outside the
# image it finds $Z_x$.

# %%
BASICS = r"""
#include <stdint.h>
#include <string.h>

static int8_t requantize(int32_t acc, int32_t mantissa, int32_t shift, int32_t z, int32_t low) {
    int64_t q = (((int64_t)acc * mantissa + ((int64_t)1 << (shift - 1))) >> shift) + z;
    return q < low ? low : q > 127 ? 127 : q;
}

// The 3x3 patch around position i of x [side][side][c]; outside lies the zero point z.
static void gather(const int8_t *x, int8_t *patch, int i, int side, int c, int z) {
    for (int t = 0; t < 9; t++) {
        int row = i / side + t / 3 - 1, col = i % side + t % 3 - 1;
        if (row < 0 || row >= side || col < 0 || col >= side) memset(patch + t * c, z, c);
        else memcpy(patch + t * c, x + (row * side + col) * c, c);
    }
}
"""

# %%
CONVOLUTION = r"""
void conv(const int8_t *x, const int8_t *w, const int32_t *b, const int32_t *mantissa,
          const int32_t *shift, int8_t *y, int side, int c, int o, int z_x, int z_y) {
    int8_t patch[9 * c];
    for (int i = 0; i < side * side; i++) {
        gather(x, patch, i, side, c, z_x);
        for (int j = 0; j < o; j++) {
            int32_t acc = b[j];
            for (int k = 0; k < 9 * c; k++) acc += patch[k] * w[j * 9 * c + k];
            y[i * o + j] = requantize(acc, mantissa[j], shift[j], z_y, z_y);
        }
    }
}
"""

# %%
OTHERS = r"""
void pool(const int8_t *x, int8_t *y, int side, int c) {  // 2x2 maximum
    for (int i = 0; i < side * side / 4; i++) {
        const int8_t *p = x + (i / (side / 2) * 2 * side + i % (side / 2) * 2) * c;
        for (int j = 0; j < c; j++) {
            int8_t four[4] = {p[j], p[c + j], p[side * c + j], p[side * c + c + j]}, most = -128;
            for (int t = 0; t < 4; t++) most = four[t] > most ? four[t] : most;
            y[i * c + j] = most;
        }
    }
}
void mean(const int8_t *x, const int32_t *mantissa, const int32_t *shift, int8_t *y, int places,
          int c, int z_x, int z_y) {
    for (int j = 0; j < c; j++) {
        int32_t acc = -places * z_x;
        for (int i = 0; i < places; i++) acc += x[i * c + j];
        y[j] = requantize(acc, *mantissa, *shift, z_y, -128);
    }
}
"""

# %%
LINEAR = r"""
void linear(const int8_t *x, const int8_t *w, const int32_t *b, const int32_t *mantissa,
            const int32_t *shift, int8_t *y, int c, int o, int z_y) {
    for (int j = 0; j < o; j++) {
        int32_t acc = b[j];
        for (int k = 0; k < c; k++) acc += x[k] * w[j * c + k];
        y[j] = requantize(acc, mantissa[j], shift[j], z_y, -128);
    }
}
"""
kernels = native.build(BASICS + CONVOLUTION + OTHERS + LINEAR)


# %%
def packed(layer):
    """Weights ``[O, 3, 3, C]`` or ``[O, C]``, bias with the zero-point term, mantissa, shift."""
    w = layer.weight.permute(0, 2, 3, 1) if layer.kind == "conv" else layer.weight
    bias = layer.bias - layer.z_x * layer.weight.long().flatten(1).sum(1)
    return w.contiguous(), bias.int(), layer.mantissa.int(), layer.shift.int()


# %%
def step_in_c(layer, x, side):
    """The output buffer of a layer, and a call that fills it from the buffer ``x``."""
    c, z_x, z_y = x.shape[-1], layer.z_x, layer.z_y
    if layer.kind == "pool":
        y = torch.empty(side // 2, side // 2, c, dtype=torch.int8)
        return y, lambda: kernels.pool(x, y, side, c)
    if layer.kind == "mean":
        multiplier, y = (layer.mantissa.int(), layer.shift.int()), torch.empty(c, dtype=torch.int8)
        return y, lambda: kernels.mean(x, *multiplier, y, side * side, c, z_x, z_y)
    weights, o = packed(layer), len(layer.weight)
    if layer.kind == "linear":
        y = torch.empty(o, dtype=torch.int8)
        return y, lambda: kernels.linear(x, *weights, y, c, o, z_y)
    y = torch.empty(side, side, o, dtype=torch.int8)
    return y, lambda: kernels.conv(x, *weights, y, side, c, o, z_x, z_y)


# %%
class Chain:
    """Steps that pass buffers on: ``chain(codes)`` runs one image ``[32, 32, 3]``."""

    def __init__(self, step):
        self.buffers, self.calls = [torch.zeros(32, 32, 3, dtype=torch.int8)], []
        for layer in LAYERS:
            y, call = step(layer, self.buffers[-1], self.buffers[-1].shape[0])
            self.buffers.append(y)
            self.calls.append(call)

    def __call__(self, codes):
        self.buffers[0].copy_(codes)
        for call in self.calls:
            call()
        return self.buffers[-1].clone()


# %% [markdown]
# **Bit-exact**: every code of every layer of every one of these images.

# %%
in_c = Chain(step_in_c)
for i, image in enumerate(TRACE[0]):
    in_c(image.permute(1, 2, 0))
    for mine, theirs in zip(in_c.buffers, TRACE, strict=True):
        reference = theirs[i].permute(1, 2, 0) if theirs.ndim == 4 else theirs[i]
        assert torch.equal(mine, reference)
codes = sum(q.numel() for q in TRACE[1:])
print(f"{codes:,} codes in {len(LAYERS)} layers agree")

# %% [markdown]
# ### Third executor: ONNX Runtime
#
# Deployed int8 networks travel as ONNX in the QDQ form: the graph stays a float graph, and pairs of
# QuantizeLinear and DequantizeLinear say which tensors are integers with which scale. The runtime
# fuses `DQ → Conv → Relu → Q` into one integer operator where it can. We build ours by hand from
# the same integers, one piece a layer. Activations are int8, or the same codes 128 higher as uint8:
# no difference to mathematics, a large one to x86, whose 8-bit instructions multiply unsigned by
# signed.


# %%
def as_type(q, kind):
    """int8 codes as they are, or as uint8 codes: 128 more, which flips the top bit."""
    q = np.asarray(q, dtype=np.int8)
    return q if kind == "int8" else q.view(np.uint8) ^ np.uint8(128)


# %%
def constants(layer, kind):
    """Everything a piece stores, as arrays by name; ``kind``: of the activations."""
    found = {"s_x": np.float32(layer.s_x), "z_x": as_type(layer.z_x, kind)}
    found |= {"s_y": np.float32(layer.s_y), "z_y": as_type(layer.z_y, kind)}
    if layer.weight is not None:
        s_w = layer.s_w.numpy()
        found |= {"w": layer.weight.numpy(), "s_w": s_w, "z_w": np.zeros(len(s_w), np.int8)}
        found |= {"b": layer.bias.int().numpy(), "s_b": np.float32(layer.s_x) * s_w}
        found |= {"z_b": np.zeros(len(s_w), np.int32)}
    return {f"{layer.name}.{key}": np.asarray(value) for key, value in found.items()}


# %%
OPERATORS = {
    "conv": ("Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "pool": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "mean": ("GlobalAveragePool", {}),
    "linear": ("Gemm", {"transB": 1}),
}
AFTER = {"conv": "Relu", "mean": "Flatten"}


# %%
def operator(name, kind, inputs, output):
    """The float nodes of one step."""
    op, attributes = OPERATORS[kind]
    if kind not in AFTER:
        return [helper.make_node(op, inputs, [output], **attributes)]
    first = helper.make_node(op, inputs, [f"{name}.inner"], **attributes)
    return [first, helper.make_node(AFTER[kind], [f"{name}.inner"], [output])]


# %%
def qdq(layer, x, y, kind):
    """Nodes and constants from the 8-bit tensor ``x`` to the 8-bit tensor ``y``."""
    n, stored = layer.name, constants(layer, kind)
    make, inputs = helper.make_node, [f"{n}.x"]
    nodes = [make("DequantizeLinear", [x, f"{n}.s_x", f"{n}.z_x"], [f"{n}.x"])]
    for part in ("w", "b") if layer.weight is not None else ():
        names = [f"{n}.{part}", f"{n}.s_{part}", f"{n}.z_{part}"]
        nodes.append(make("DequantizeLinear", names, [f"{n}.real_{part}"], axis=0))
        inputs.append(f"{n}.real_{part}")
    nodes += operator(n, layer.kind, inputs, f"{n}.y")
    nodes.append(make("QuantizeLinear", [f"{n}.y", f"{n}.s_y", f"{n}.z_y"], [y]))
    return nodes, stored


# %%
LEVELS = onnxruntime.GraphOptimizationLevel


def session(nodes, stored, inputs, outputs, level=LEVELS.ORT_ENABLE_ALL, **entries):
    """A session of one thread; ``inputs`` and ``outputs``: (name, ONNX type, shape)."""
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    ends = [[helper.make_tensor_value_info(*end) for end in part] for part in (inputs, outputs)]
    graph = helper.make_graph(nodes, "lecture5", *ends, tensors)
    opset = [helper.make_opsetid("", 17)]
    built = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(built)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    options.optimized_model_filepath = entries.pop("save_as", "")
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    cpu = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(built.SerializeToString(), options, providers=cpu)


# %%
TYPES = {"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8}
SIGNED = {"qdqisint8allowed": "1"}  # fuse int8 activations too; by default x86 prefers uint8
SHAPES = [["n", *q.shape[1:]] for q in TRACE]


# %%
def pieces(kind, **how):
    """Every layer by itself: inputs ``in0, in1, …``, outputs ``out0, …``."""
    nodes, stored = [], {}
    for i, layer in enumerate(LAYERS):
        more, values = qdq(layer, f"in{i}", f"out{i}", kind)
        nodes, stored = nodes + more, stored | values
    inputs = [(f"in{i}", TYPES[kind], shape) for i, shape in enumerate(SHAPES[:-1])]
    outputs = [(f"out{i}", TYPES[kind], shape) for i, shape in enumerate(SHAPES[1:])]
    return session(nodes, stored, inputs, outputs, **how)


# %%
def network(kind, **how):
    """The whole network in QDQ form, from 8-bit pixels to 8-bit logits."""
    nodes, stored, x = [], {}, "image"
    for layer in LAYERS:
        more, values = qdq(layer, x, layer.name, kind)
        nodes, stored, x = nodes + more, stored | values, layer.name
    ends = [("image", TYPES[kind], SHAPES[0])], [(x, TYPES[kind], SHAPES[-1])]
    return session(nodes, stored, *ends, **how)


# %% [markdown]
# **Layer by layer**, each fed with our codes: as written (float arithmetic between Q and DQ), and
# fused into integers, with int8 and with uint8 activations.

# %%
FORMS = {
    "as written": ("int8", {"level": LEVELS.ORT_DISABLE_ALL}),
    "fused int8": ("int8", SIGNED),
    "fused uint8": ("uint8", {}),
}


# %%
def apart(kind, **how):
    """Codes of each layer, ours minus the runtime's, fed with our codes."""
    feeds = {f"in{i}": as_type(q, kind) for i, q in enumerate(TRACE[:-1])}
    outputs = pieces(kind, **how).run(None, feeds)
    return [q.numpy().astype(int) - as_type(y.view(np.int8), kind).view(np.int8)
            for q, y in zip(TRACE[1:], outputs, strict=True)]  # fmt: skip


# %%
DIFFERENT = {}
for form, (kind, how) in FORMS.items():
    found = apart(kind, **how)
    counts, most = [int((d != 0).sum()) for d in found], max(int(abs(d).max()) for d in found)
    DIFFERENT[form] = sum(counts), most, found
    print(f"{form:11}: {sum(counts)} of {codes:,} codes differ ({sum(counts) / codes:.1e}), "
          f"by at most {most}; by layer {counts}")  # fmt: skip
assert DIFFERENT["as written"][1] <= 1

# %% [markdown]
# As written, never by more than the last bit. (The assertion is on that form only: fused kernels on
# an x86 without VNNI go through 16-bit sums that may saturate; section 7 shows how.) Where the last
# bit differs, two roundings disagree: ours multiplies by a 31-bit integer and rounds half up, the
# fused runtime by a float32 of 24 bits and rounds half to even. If that is all, emulating its
# rounding must explain every difference of the fused form.


# %%
def float_requantized(q, layer):
    """Our accumulators, rounded as a float32 multiplier and half-to-even would."""
    scale = torch.tensor(layer.s_x) * layer.s_w / torch.tensor(layer.s_y)
    acc = accumulate(q, layer).float()
    real = acc * scale.reshape(-1, *[1] * (acc.ndim - 2))
    return (torch.round(real) + layer.z_y).clamp(layer.z_y, 127).to(torch.int8)


# %%
conv_at = [i for i, layer in enumerate(LAYERS) if layer.kind == "conv"]
unexplained = 0
for i in conv_at:
    emulated = torch.cat([float_requantized(q, LAYERS[i]) for q in TRACE[i].split(25)])
    theirs = TRACE[i + 1].numpy() - DIFFERENT["fused int8"][2][i]
    unexplained += int((emulated.numpy() != theirs).sum())
counted = sum(int((DIFFERENT["fused int8"][2][i] != 0).sum()) for i in conv_at)
print(f"convolutions, fused int8: {counted} codes differ from fixed point, "
      f"{unexplained} from the emulated float rounding")  # fmt: skip

# %% [markdown]
# **Accuracy of all**, on the same validation images:

# %%
ORT_INT8 = {"int8": network("int8", **SIGNED), "uint8": network("uint8")}
images = pixels(report.images)
by_ort = torch.from_numpy(ORT_INT8["uint8"].run(None, {"image": as_type(images, "uint8")})[0])
by_c = torch.stack([in_c(image) for image in images.permute(0, 2, 3, 1)])
by_torch = torch.cat([trace(part)[-1] for part in images.split(50)])
assert torch.equal(by_c, by_torch)
for name, logits in {"torch int": by_torch, "C int8": by_c, "ORT int8": by_ort}.items():
    ACCURACY[name] = float((logits.argmax(1) == report.labels).float().mean())
print({name: f"{right:.1%}" for name, right in ACCURACY.items()})
print(f"images on which C and ONNX Runtime decide alike: "
      f"{(by_c.argmax(1) == by_ort.argmax(1)).float().mean():.2%}")  # fmt: skip

# %% [markdown]
# ## 7. An int8 kernel for this CPU, step by step
#
# A convolution after im2col is a matrix product, so the question of time is: how fast is
#
# $$C_{ij} = \sum_k A_{ik}B_{jk},\qquad
# A\in\{-128..127\}^{M\times K},\; B\in\{-127..127\}^{N\times K},$$
#
# with int32 sums, against the same in fp32? Both in C, compiled with the same flags, one thread.
# Throughput is in MACs per second; every int8 variant has to agree bit for bit with numpy.
#
# **Step 0: the loop as one writes it.** The int8 loop and the fp32 loop are the same text. Yet the
# compiler may reorder a sum of integers and may not reorder a sum of floats: fp32 addition is not
# associative, so this loop waits for one addition after the other.

# %%
PLAIN = r"""
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#define WIDTH 64  // bytes of a vector
#else
#define WIDTH 32
#endif
#define DOT(name, type, sum_type) \
    void name(const type *a, const type *b, sum_type *c, int m, int n, int k) { \
        for (int i = 0; i < m; i++) \
            for (int j = 0; j < n; j++) { \
                sum_type sum = 0; \
                for (int l = 0; l < k; l++) sum += a[i * k + l] * b[j * k + l]; \
                c[i * n + j] = sum; \
            } \
    }
DOT(fp32_dot, float, float)
DOT(int8_dot, int8_t, int32_t)
"""

# %% [markdown]
# **Step 1: let fp32 run.** With $B$ stored as $K\times N$, row $i$ of $C$ is a sum of rows of $B$,
# and its elements do not wait for each other. Then keep a tile of $C$, 4 rows by two vectors (of 8
# or 16 floats), in registers over the whole of $k$: each number loaded is used several times.

# %%
FLOATS = r"""
#define COLS (WIDTH / 2)
void fp32_axpy(const float *a, const float *b, float *c, int m, int n, int k) {
    for (int i = 0; i < m * n; i++) c[i] = 0;
    for (int i = 0; i < m; i++)
        for (int l = 0; l < k; l++)
            for (int j = 0; j < n; j++) c[i * n + j] += a[i * k + l] * b[l * n + j];
}
void fp32_tile(const float *a, const float *b, float *c, int m, int n, int k) {
    for (int j = 0; j < n; j += COLS)
        for (int i = 0; i < m; i += 4) {
            float t[4][COLS] = {0};
            for (int l = 0; l < k; l++)
                for (int r = 0; r < 4; r++)
                    for (int s = 0; s < COLS; s++) t[r][s] += a[(i + r) * k + l] * b[l * n + j + s];
            for (int r = 0; r < 4; r++) memcpy(c + (i + r) * n + j, t[r], sizeof t[r]);
        }
}
"""

# %% [markdown]
# **Step 2: name the instructions.** AVX2 has no 8-bit multiply-accumulate. What it has:
#
# | instruction | does | MACs |
# | --- | --- | --- |
# | `vfmadd…ps` | 8 × fp32 multiply and add | 8 |
# | `vpmovsxbw` | widens 16 × int8 to int16 | – |
# | `vpmaddwd` | 16 × int16 products, added in pairs to 8 × int32 | 16 |
# | `vpmaddubsw` | 32 × uint8 · int8, added in pairs to 16 × int16, *saturating* | 32 |
# | `vpaddd` | 8 × int32 additions | – |
# | `vpdpbusd` (VNNI) | 32 × uint8 · int8, added in fours to 8 × int32 | 32 |
#
# First `vpmaddwd` on widened numbers, in a tile of 2 × 4 dot products.

# %%
X86 = r"""
#include <immintrin.h>
#define AT(p) _mm256_loadu_si256((const __m256i *)(p))
#define WIDE(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
#define ADD _mm256_add_epi32
#define MADD _mm256_madd_epi16
static int32_t total(__m256i v) {  // of eight int32
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_hadd_epi32(s, s);
    return _mm_cvtsi128_si32(_mm_hadd_epi32(s, s));
}
"""

# %%
MADD = r"""
void int8_madd(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    for (int j = 0; j < n; j += 4)
        for (int i = 0; i < m; i += 2) {
            __m256i t[2][4] = {0};
            for (int l = 0; l < k; l += 16)
                for (int r = 0; r < 2; r++)
                    for (int s = 0; s < 4; s++)
                        t[r][s] = ADD(t[r][s], MADD(WIDE(a + (i + r) * k + l),
                                                    WIDE(b + (j + s) * k + l)));
            for (int r = 0; r < 2; r++)
                for (int s = 0; s < 4; s++) c[(i + r) * n + j + s] = total(t[r][s]);
        }
}
"""

# %% [markdown]
# **Step 3: do not widen.** `vpmaddubsw` multiplies 32 bytes at once, if one side is unsigned. So
# write $ab$ as $|a|\cdot(\mathrm{sign}(a)\,b)$. Its pair sums must fit into int16, or they saturate
# *silently*. Here the largest is $2\cdot128\cdot127 = 32\,512 < 2^{15}$, which is what
# $|q_w|\le127$ is for. To shift activations to 0…255 instead of taking $|a|$ saves an instruction,
# and its pairs reach $2\cdot255\cdot127$. `saturating` is that kernel, to count what goes wrong.

# %%
MADDUBS = r"""
#define BYTES(name, UNSIGNED, SIGNED) \
    void name(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) { \
        const __m256i one = _mm256_set1_epi16(1), top = _mm256_set1_epi8(-128); \
        for (int j = 0; j < n; j += 4) \
            for (int i = 0; i < m; i += 2) { \
                __m256i t[8] = {0}; \
                for (int l = 0; l < k; l += 32) \
                    for (int r = 0; r < 8; r++) { \
                        __m256i x = AT(a + (i + r / 4) * k + l), y = AT(b + (j + r % 4) * k + l); \
                        t[r] = ADD(t[r], MADD(_mm256_maddubs_epi16(UNSIGNED, SIGNED), one)); \
                    } \
                for (int r = 0; r < 8; r++) c[(i + r / 4) * n + j + r % 4] = total(t[r]); \
            } \
    }
BYTES(int8_maddubs, _mm256_abs_epi8(x), _mm256_sign_epi8(y, x))
BYTES(saturating, _mm256_xor_si256(x, top), y)
"""

# %% [markdown]
# **Step 4: pack.** Widen once, before the product, and store $B$ so that two neighbours in $k$ of
# 16 columns lie side by side. Then a broadcast pair of $A$ meets eight columns in one `vpmaddwd`,
# without any rearranging in the loop. The price: 16 bits in memory.

# %%
PACKED = r"""
void int16_tile(const int16_t *a, const int16_t *b, int32_t *c, int m, int n, int k) {
    for (int j = 0; j < n; j += 16)
        for (int i = 0; i < m; i += 4) {
            __m256i t[4][2] = {0};
            for (int l = 0; l < k; l += 2)
                for (int r = 0; r < 4; r++) {
                    __m256i x = _mm256_set1_epi32(*(const int32_t *)(a + (i + r) * k + l));
                    for (int s = 0; s < 2; s++)
                        t[r][s] = ADD(t[r][s], MADD(x, AT(b + j * k + 16 * l + 16 * s)));
                }
            for (int r = 0; r < 4; r++)
                for (int s = 0; s < 2; s++)
                    _mm256_storeu_si256((__m256i *)(c + (i + r) * n + j + 8 * s), t[r][s]);
        }
}
"""

# %% [markdown]
# **Step 5: the instruction that was made for this.** VNNI multiplies four bytes by four, adds them
# to an int32, and does not saturate on the way. Not every x86 has it; the source says what to do
# where it is missing: leave the function out. The side that must be unsigned is shifted by 128
# (flip the top bit), and $-128\sum_k b$ is where the sums begin.

# %%
HAS_VNNI = r"""
#if defined(__AVX512VNNI__)
typedef __m512i V;
#define VNNI _mm512_dpbusd_epi32
#define ALL _mm512_set1_epi32
#elif defined(__AVXVNNI__)
typedef __m256i V;
#define VNNI _mm256_dpbusd_avx_epi32
#define ALL _mm256_set1_epi32
#endif
#ifdef VNNI
typedef V U __attribute__((aligned(1)));  // may lie anywhere
#define AS_V(p) (*(const U *)(p))
#define LANES ((int)sizeof(V) / 4)
int vnni_lanes(void) { return LANES; }
#else
int vnni_lanes(void) { return 0; }
#endif
"""

# %%
BY_FOUR = r"""
#ifdef VNNI
void int8_vnni(const int8_t *a, const int8_t *b, const int32_t *from, int32_t *c,
               int m, int n, int k) {
    for (int j = 0; j < n; j += 2 * LANES)
        for (int i = 0; i < m; i += 4) {
            V t[4][2];
            for (int r = 0; r < 8; r++) t[r / 2][r % 2] = AS_V(from + j + r % 2 * LANES);
            for (int l = 0; l < k; l += 4)
                for (int r = 0; r < 4; r++) {
                    V x = ALL(*(const int32_t *)(a + (i + r) * k + l) ^ 0x80808080);
                    for (int s = 0; s < 2; s++)
                        t[r][s] = VNNI(t[r][s], x, AS_V(b + (j + s * LANES) * k + l * LANES));
                }
            for (int r = 0; r < 8; r++)
                *(U *)(c + (i + r / 2) * n + j + r % 2 * LANES) = t[r / 2][r % 2];
        }
}
#endif
"""

# %% [markdown]
# **What a port can do at most.** Before timing kernels, time their instructions: ten independent
# chains of each step in registers, no memory. This is the bound for every kernel that uses them.

# %%
PEAK = r"""
#define CHAINS 10
#define BOUND(name, T, ZERO, STEP) \
    int name(int n) { \
        T t[CHAINS], x = ZERO, y = ZERO; \
        for (int r = 0; r < CHAINS; r++) t[r] = ZERO; \
        for (int i = 0; i < n; i++) \
            for (int r = 0; r < CHAINS; r++) { \
                __asm__ volatile("" : "+v"(x), "+v"(y)); /* no constants */ \
                t[r] = STEP; \
            } \
        int sum = 0; \
        for (int r = 0; r < CHAINS; r++) sum += ((int *)&t[r])[0]; \
        return sum; \
    }
typedef float F __attribute__((vector_size(WIDTH)));
BOUND(peak_fp32, F, (F){0}, x * y + t[r])
"""

# %%
PEAK_X86 = r"""
#define Z _mm256_setzero_si256()
BOUND(peak_madd, __m256i, Z, ADD(t[r], MADD(x, y)))
BOUND(peak_maddubs, __m256i, Z, ADD(t[r], MADD(_mm256_maddubs_epi16(x, y), y)))
#ifdef VNNI
BOUND(peak_vnni, V, ALL(0), VNNI(t[r], x, y))
#endif
int fp32_lanes(void) { return WIDTH / 4; }
"""

# %% [markdown]
# **Two machines in one.** The same source is compiled twice: for this CPU as it is (`native`), and
# for an x86 of AVX2 only (`AVX2`), as sold from 2013 on: no VNNI, registers of 256 bits. (On
# another architecture only the plain C remains.)

# %%
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
IS_X86 &= torch.backends.cpu.get_cpu_capability() != "DEFAULT"  # nor older than AVX2
SOURCE = PLAIN + FLOATS
if IS_X86:
    SOURCE += X86 + MADD + MADDUBS + PACKED + HAS_VNNI + BY_FOUR + PEAK + PEAK_X86


# %%
LIBRARIES = {"native": native.build(SOURCE)}
if IS_X86:
    LIBRARIES["AVX2"] = native.build(SOURCE, native.AVX2)
    print(f"VNNI lanes, native: {LIBRARIES['native'].vnni_lanes()}; "
          f"fp32 lanes, native: {LIBRARIES['native'].fp32_lanes()}")  # fmt: skip

# %% [markdown]
# **What the compiler made of it**: the multiplying and widening instructions in each function's
# assembly, vector width in bits.

# %%
WANTED = re.compile(r"^\s+(?:\{\w+\}\s+)?(v?(?:fmadd|pmadd|pdp|pmovsx|psign|pabs)\w+)\s.*", re.M)
KERNELS = ("fp32_dot", "int8_dot", "fp32_axpy", "fp32_tile",
           "int8_madd", "int8_maddubs", "int16_tile", "int8_vnni")  # fmt: skip


# %%
def instructions(cpu):
    """Counter of instructions of each kernel, with the widest register that each uses."""
    target = Path(folder.name) / f"{cpu}.s"
    native.compile_c(SOURCE, target, cpu, "-S")
    text, found = target.read_text(), {}
    for part in re.split(r"^(?=\w+:)", text, flags=re.M):
        if (name := part.split(":")[0]) in KERNELS:
            lines = [(m.group(1), m.group(0)) for m in WANTED.finditer(part)]
            wide = {"zmm": 512, "ymm": 256, "xmm": 128}
            found[name] = Counter(
                f"{op}/{next((b for r, b in wide.items() if r in line), 0)}" for op, line in lines
            )
    return found


# %%
if IS_X86:
    for cpu in (native.AVX2, native.NATIVE):
        for name, ops in instructions(cpu).items():
            print(f"{cpu:9} {name:13}", *(f"{n}×{op}" for op, n in ops.most_common(4)))

# %% [markdown]
# `…ss` at 128 bits is scalar: one MAC an instruction. Where a build for a newer CPU shows
# `vpdpwssd`, the compiler has fused `vpmaddwd` and the addition by itself, because that CPU can.


# %%
def prepared(library, name, b):
    """``f(a, c)``: the product by one kernel, ``b [N, K]`` packed beforehand."""
    (n, k), call = b.shape, getattr(library, name)
    if name in ("fp32_axpy", "fp32_tile"):
        b = b.T.contiguous()
    if name == "int16_tile":
        b = b.short().reshape(n // 16, 16, k // 2, 2).permute(0, 2, 1, 3).contiguous()
    if name == "int8_vnni":
        lanes, start = library.vnni_lanes(), (-128 * b.int().sum(1)).int()
        b = b.reshape(n // lanes, lanes, k // 4, 4).permute(0, 2, 1, 3).contiguous()
        return lambda a, c: call(a, b, start, c, len(a), n, k)
    return lambda a, c: call(a, b, c, len(a), n, k)


# %%
def kernels_of(library):
    """The kernels that this library has."""
    found = []
    for name in KERNELS:
        try:
            getattr(library, name)
        except AttributeError:  # not x86, or without VNNI
            continue
        found.append(name)
    return found


# %% [markdown]
# **What saturation does**, in the kernel built for it: random weights of three widths against uint8
# activations in the whole range. The right sum is the shifted one, less $128\sum_k b$.

# %%
for spread in (10, 40, 120) if IS_X86 else ():
    a = torch.randint(-128, 128, (64, 256), dtype=torch.int8)
    b = (spread * torch.randn(64, 256)).clamp(-127, 127).to(torch.int8)
    c = torch.empty(64, 64, dtype=torch.int32)
    LIBRARIES["native"].saturating(a, b, c, 64, 64, 256)
    wrong = c - 128 * b.int().sum(1) != (a.int() @ b.int().T)
    print(f"weights with a deviation of {spread:3}: {wrong.float().mean():.1%} of the sums wrong")

# %% [markdown]
# Where small weights give no wrong sum and large ones do, the error is hard to find: it shows in
# some layers of some networks.

# %%
CASTS = {"fp32": torch.Tensor.float, "int1": torch.Tensor.short, "int8": torch.Tensor.clone}


def candidates(size):
    """Calls of all kernels on one random product, each checked against numpy."""
    a = torch.randint(-128, 128, (size, size), dtype=torch.int8)
    b = torch.randint(-127, 128, (size, size), dtype=torch.int8)
    exact, calls = a.numpy().astype(np.int32) @ b.numpy().astype(np.int32).T, {}
    for build, library in LIBRARIES.items():
        for name in kernels_of(library):
            is_float = name.startswith("fp32")
            product = prepared(library, name, b.float() if is_float else b)
            c = torch.empty(size, size, dtype=torch.float32 if is_float else torch.int32)
            calls[build, name] = partial(product, CASTS[name[:4]](a), c)
            calls[build, name]()
            assert is_float or np.array_equal(c.numpy(), exact), (build, name)
            assert not is_float or np.allclose(c.numpy(), exact, rtol=1e-4, atol=size)
    return calls | libraries(a, b, exact)


# %% [markdown]
# Beside our kernels: torch's fp32, and ONNX Runtime in fp32, with int8 and with uint8 activations
# (the same numbers, shifted).


# %%
def matmul(op, b, kind, zero=None):
    """A session that multiplies its input ``a [N, K]`` by the constant ``b [K, N]``."""
    stored = {"b": b} | ({} if zero is None else {"zero": zero})
    node = helper.make_node(op, ["a", *stored], ["c"])
    out = onnx.TensorProto.FLOAT if op == "MatMul" else onnx.TensorProto.INT32
    return session([node], stored, [("a", kind, b.shape)], [("c", out, b.shape)])


# %%
def libraries(a, b, exact):
    real, bt = a.float(), b.T.contiguous()
    fbt, calls = bt.float(), {}
    calls["native", "torch fp32"] = lambda: torch.mm(real, fbt)
    float_session = matmul("MatMul", fbt.numpy(), onnx.TensorProto.FLOAT)
    calls["native", "ORT fp32"] = lambda: float_session.run(None, {"a": real.numpy()})
    for kind, name in (("int8", "ORT int8"), ("uint8", "ORT uint8")):
        zero = as_type(np.int8(0), kind)
        integer_session = matmul("MatMulInteger", bt.numpy(), TYPES[kind], zero)
        feed = {"a": as_type(a, kind)}
        calls["native", name] = partial(integer_session.run, None, feed)
        EXACT[name, len(a)] = float((calls["native", name]()[0] == exact).mean())
    return calls


# %%
EXACT, GEMM = {}, {}
for size in SIZES:
    GEMM[size] = measure.latency(candidates(size), rounds=ROUNDS, warm_up=2, sample_s=1e-3)
for name in ("ORT int8", "ORT uint8"):
    print(f"{name}: {min(EXACT[name, size] for size in SIZES):.2%} of the sums are numpy's")


# %%
def speed(build, name, size):
    """GMAC/s."""
    return size**3 / GEMM[size][build, name].median / 1e9


# %%
print(f"GMAC/s at M = N = K of {SIZES} on {GEMM[SIZES[0]].machine}")
for build, name in GEMM[SIZES[0]].samples_s:
    print(f"{build:7} {name:13}", *(f"{speed(build, name, size):7.1f}" for size in SIZES))

# %%
STEPS = 20_000
PEAKS = {"peak_fp32": 8, "peak_madd": 16, "peak_maddubs": 32, "peak_vnni": 32}  # MACs at 256 bits
calls, macs = {}, {}
for build, library in LIBRARIES.items() if IS_X86 else ():
    for name, each in PEAKS.items():
        lanes = {"peak_fp32": library.fp32_lanes(), "peak_vnni": library.vnni_lanes()}.get(name, 8)
        if lanes:
            calls[build, name] = partial(getattr(library, name), STEPS)
            macs[build, name] = 10 * STEPS * each * lanes // 8
found = measure.latency(calls, rounds=ROUNDS) if calls else {}
BOUNDS = {key: macs[key] / found[key].median / 1e9 for key in calls}
for (build, name), bound in BOUNDS.items():
    print(f"{build:7} {name:13} {bound:7.1f} GMAC/s")

# %%
USES = {"int8_maddubs": "peak_maddubs", "int8_vnni": "peak_vnni", "int": "peak_madd"}
USES["fp32"] = "peak_fp32"


def bound_of(build, name):
    """The bound of the instruction that a kernel of ours uses, or None."""
    wanted = next((peak for start, peak in USES.items() if name.startswith(start)), None)
    return BOUNDS.get((build, wanted))


# %%
fig, axes = plt.subplots(1, len(LIBRARIES), figsize=(8, 3.9), sharex=True, squeeze=False)
for ax, build in zip(axes[0], sorted(LIBRARIES), strict=True):
    rows = [name for at, name in GEMM[SIZES[0]].samples_s if at == build][::-1]
    colours = [plot.COLOURS["memory" if "fp32" in name else "compute"] for name in rows]
    ax.scatter([], [], color=plot.COLOURS["memory"], label="fp32")
    ax.scatter([], [], color=plot.COLOURS["compute"], label="integers")
    for size, marker in zip(SIZES, "o^s", strict=True):
        x = [speed(build, name, size) for name in rows]
        ax.scatter(x, rows, c=colours, marker=marker, s=24, alpha=0.75)
        ax.scatter([], [], color=plot.COLOURS["baseline"], marker=marker, label=f"{size}³")
    bounds = [(bound_of(build, name), y) for y, name in enumerate(rows) if bound_of(build, name)]
    if bounds:
        ax.plot(*zip(*bounds, strict=True), "k|", ms=13, mew=2, label="bound")
    ax.set(xscale="log", title=build, xlabel="GMAC/s, one thread")
fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
plt.show()

# %% [markdown]
# *Markers: measured at three sizes; black: what the kernel's instruction does at best, without
# loads. AVX2: int8 gains what is left after widening, or after three instructions for 32 MACs.
# Native: this CPU as it is. The smallest products pay for the call; a kernel far from its bound
# waits for something other than multipliers.*


# %%
def best(build, start):
    """Fastest of our kernels whose name starts so, at the largest size: name, GMAC/s."""
    names = [n for n in kernels_of(LIBRARIES[build]) if n.startswith(start)]
    return max(((speed(build, n, SIZES[-1]), n) for n in names), default=(0.0, "none"))


# %%
GAIN = {}
for build in LIBRARIES:
    (f, f_name), (i, i_name) = best(build, "fp32"), best(build, "int")
    GAIN[build] = i / f
    print(f"{build}: {i_name} over {f_name} ×{i / f:.1f}", end="; ")
    if (build, "peak_maddubs") in BOUNDS:
        top = max(BOUNDS.get((build, p), 0) for p in ("peak_madd", "peak_maddubs", "peak_vnni"))
        print(f"by the bounds ×{top / BOUNDS[build, 'peak_fp32']:.1f}", end="")
    print()

# %% [markdown]
# **Why no VNNI means no 4×.** Bytes are four times smaller, so registers hold four times as many.
# But `vfmadd` multiplies *and adds* 8 numbers in one instruction. For int8, AVX2 needs three for 32
# MACs (`vpmaddubsw`, `vpmaddwd`, `vpaddd`), and `vpsignb` here: 32/3 or 32/4 MACs an instruction
# against 8. Packed int16 needs two for 16: again 8. What the bounds show beyond that is ports: on
# many CPUs integer additions have more of them than multiplications. With VNNI one instruction does
# 32, and the 4× of the byte count is there.
#
# And the sign matters. ONNX Runtime's int8 and uint8 compute the same sums here; where their
# markers lie apart, only one of them has a fast kernel.
#
# ## 8. End to end: what is left for the network
#
# Our fastest C: gather all patches (im2col), one matrix product with the best kernel of this CPU,
# requantize. Only convolutions change; $K$ is filled up with zeros to a multiple of 32.

# %%
FAST = next(
    n for n in ("int8_vnni", "int8_maddubs", "int8_dot") if n in kernels_of(LIBRARIES["native"])
)
WHOLE = r"""
void im2col(const int8_t *x, int8_t *patches, int side, int c, int k, int z) {
    for (int i = 0; i < side * side; i++) gather(x, patches + i * k, i, side, c, z);
}
void requantize_all(const int32_t *acc, const int32_t *b, const int32_t *mantissa,
                    const int32_t *shift, int8_t *y, int rows, int o, int z) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < o; j++)
            y[i * o + j] = requantize(acc[i * o + j] + b[j], mantissa[j], shift[j], z, z);
}
"""
around = native.build(BASICS + WHOLE)
print("kernel:", FAST)


# %%
def fast_parts(layer, x, side):
    """The output buffer of a convolution, and its three calls: gather, multiply, requantize."""
    w, bias, mantissa, shift = packed(layer)
    o, c, k = len(w), x.shape[-1], -(-9 * x.shape[-1] // 32) * 32
    w = F.pad(w.reshape(o, -1), (0, k - 9 * c)).contiguous()
    patches = torch.zeros(side * side, k, dtype=torch.int8)
    acc, y = torch.empty(side * side, o).int(), torch.empty(side, side, o, dtype=torch.int8)
    multiply = prepared(LIBRARIES["native"], FAST, w)
    return y, (
        lambda: around.im2col(x, patches, side, c, k, layer.z_x),
        lambda: multiply(patches, acc),
        lambda: around.requantize_all(acc, bias, mantissa, shift, y, side * side, o, layer.z_y),
    )


# %%
PARTS = {"gather": [], "multiply": [], "requantize": []}


def fast_step(layer, x, side):
    if layer.kind != "conv":
        return step_in_c(layer, x, side)
    y, calls = fast_parts(layer, x, side)
    for part, call in zip(PARTS.values(), calls, strict=True):
        part.append(call)
    return y, lambda: [call() for call in calls]


# %%
fast = Chain(fast_step)
quick = torch.stack([fast(image) for image in images.permute(0, 2, 3, 1)])
assert torch.equal(quick, by_c)  # bit-exact with the other two executors

# %% [markdown]
# Against it: torch and ONNX Runtime in fp32 (the same folded network, built by hand as well), and
# the QDQ network. Batch 1, one thread, all interleaved. Integer networks begin with 8-bit pixels,
# float networks with float pixels.


# %%
@torch.no_grad()
def in_onnx(steps, x_shape, y_shape):
    """A float session of some steps of the folded network."""
    nodes, stored, x = [], {}, "image"
    for name, kind, w, b in steps:
        values = {f"{name}.w": w, f"{name}.b": b} if w is not None else {}
        stored |= {key: value.contiguous().numpy() for key, value in values.items()}
        nodes, x = nodes + operator(name, kind, [x, *values], name), name
    kind = onnx.TensorProto.FLOAT
    return session(nodes, stored, [("image", kind, x_shape)], [(x, kind, y_shape)])


# %%
ORT_FP32 = in_onnx(list(stages(model)), SHAPES[0], SHAPES[-1])
real = datasets.normalize(report.images[:8])
with torch.no_grad():
    theirs = ORT_FP32.run(None, {"image": real.contiguous().numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(theirs), model(real), rtol=1e-3, atol=1e-3)

# %%
one = images[:1]
calls = {"torch fp32": measure.inference(copy.deepcopy(model))}
feed = {"image": real[:1].contiguous().numpy()}
calls["ORT fp32"] = lambda: ORT_FP32.run(None, feed)
for kind in ORT_INT8:
    calls[f"ORT {kind}"] = partial(ORT_INT8[kind].run, None, {"image": as_type(one, kind)})
calls["ORT int8, default"] = partial(network("int8").run, None, {"image": as_type(one, "int8")})
image = one[0].permute(1, 2, 0).contiguous()
calls["C int8, plain"], calls["C int8, fast"] = partial(in_c, image), partial(fast, image)
for part, steps in PARTS.items():
    calls[part] = lambda steps=steps: [call() for call in steps]
TIMES = measure.latency(calls, rounds=ROUNDS)
for name in calls:
    print(f"{name:17} {TIMES[name]}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.9))
names = [name for name in calls if name not in PARTS]
spread = [TIMES[name].iqr * 500 for name in names]
at = [TIMES[name].median * 1e3 for name in names]
ax.errorbar(at, names, xerr=spread, fmt="o", color=plot.COLOURS["measured"], capsize=2)
start = 0.0
for part, colour in zip(PARTS, (plot.CYCLE[1], plot.CYCLE[0], plot.CYCLE[4]), strict=True):
    width = TIMES[part].median * 1e3
    ax.barh("C int8, fast", width, 0.5, start, color=colour, label=part, zorder=0)
    start += width
ax.set(xlabel="latency of one image, ms", xlim=(0, None))
ax.invert_yaxis()
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# *Markers: whole networks. Bars: the three parts of our fast convolutions, timed alone. What is not
# blue is what eight bits cost around the product: gathering patches and rescaling sums.*
#
# Three of the rows are one network in ONNX Runtime. `ORT int8` holds it to signed activations;
# `default` is the same file without that option: an x86 build rewrites to unsigned what it can,
# which does not include an input that the user declared signed. `ORT uint8` declares all of it
# unsigned.
#
# ### Where int8 does not pay
#
# Each layer alone in ONNX Runtime, fp32 against fused 8 bits, with int8 and with uint8 activations.


# %%
def alone(i, kind, **how):
    """A call of layer ``i`` in QDQ form on one image."""
    nodes, stored = qdq(LAYERS[i], "image", "y", kind)
    ends = [("image", TYPES[kind], SHAPES[i])], [("y", TYPES[kind], SHAPES[i + 1])]
    feed = {"image": as_type(TRACE[i][:1], kind)}
    return partial(session(nodes, stored, *ends, **how).run, None, feed)


# %%
calls = {}
for i, (layer, step) in enumerate(zip(LAYERS, stages(model), strict=True)):
    as_float = dequantize(TRACE[i][:1], layer.s_x, layer.z_x).numpy()
    float_session = in_onnx([step], SHAPES[i], SHAPES[i + 1])
    calls[layer.name, "fp32"] = partial(float_session.run, None, {"image": as_float})
    calls[layer.name, "int8"] = alone(i, "int8", **SIGNED)
    calls[layer.name, "uint8"] = alone(i, "uint8")
BY_LAYER = measure.latency(calls, rounds=ROUNDS, sample_s=1e-3)

# %%
fig, ax = plt.subplots(figsize=(7, 3.2))
names = [layer.name for layer in LAYERS]
for kind, colour, by in (("int8", plot.CYCLE[1], -0.12), ("uint8", plot.CYCLE[0], 0.12)):
    ratios = [BY_LAYER.ratio((name, "fp32"), (name, kind)) for name in names]
    plot.measured(ax, np.arange(len(names)) + by, ratios, color=colour, label=f"{kind} activations")
ax.axhline(1, color=plot.COLOURS["baseline"])
ax.set_xticks(range(len(names)), names, rotation=35, ha="right")
ax.set(yscale="log", ylabel="fp32 time / 8-bit time", ylim=(0.06, 8))
ax.set_yticks([0.125, 0.25, 0.5, 1, 2, 4], ["⅛", "¼", "½", "1", "2", "4"])
ax.minorticks_off()
ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()

# %% [markdown]
# *Above the grey line 8 bits are faster than fp32, below it slower, layer by layer. The two colours
# are the same arithmetic.*


# %%
def verdict(kind):
    gains = {n: BY_LAYER.ratio((n, "fp32"), (n, kind)).median for n in names}
    slow = [n for n, gain in gains.items() if gain < 1]
    top = max(gains, key=gains.get)
    whole = TIMES.ratio("ORT fp32", f"ORT {kind}").median
    listed = ", ".join(slow) or "–"
    return (f"{kind}: slower than fp32 in {len(slow)} of {len(gains)} layers ({listed}); "
            f"best {top} ×{gains[top]:.1f}; whole network ×{whole:.2f}")  # fmt: skip


# %%
for kind in ORT_INT8:
    print(verdict(kind))
parts = {part: TIMES[part].median for part in PARTS}
print(f"our C: {parts['multiply'] / sum(parts.values()):.0%} of the convolutions' time multiplies")
path = Path(folder.name) / "fused.onnx"
network("uint8", save_as=str(path))
print(dict(Counter(node.op_type for node in onnx.load(path).graph.node)))

# %% [markdown]
# Reasons to look for in these figures:
#
# - **No instruction, no gain.** Without VNNI (section 7, AVX2) the multiplications themselves gain
#   little. With a signedness for which the runtime has no fast kernel the gain can be a loss:
#   compare the two colours.
# - **QDQ that is not fused.** The last line above lists the operators after optimization. What
#   still stands between DequantizeLinear and QuantizeLinear runs in fp32, with two conversions on
#   top.
# - **Small layers.** The call and the dispatch cost the same for 8 bits.
# - **The work around the product.** im2col moves nine bytes for each byte, and every sum is
#   rescaled: the shorter $K$ is, the more this weighs. The first layer sums only 27 products for
#   each output.
#
# ## 9. Limits
#
# - Energy is a table from 45 nm and leaves out control and everything that moves activations.
# - One network, ten classes, one machine. Networks with depthwise convolutions can lose far more
#   at int8; Lecture 6 shows what rescues them.
# - Calibration is min–max over a few hundred images; one outlier stretches a scale for all.
# - The size comparison in section 5 fine-tunes for seconds. The paper retrains until nothing is
#   lost.
# - The kernels ask for sizes that are multiples of their tiles and have no cache blocking; a
#   library's take every size. All times are those of one thread.
# - `AVX2` is this CPU held to older instructions. An older CPU also has other ports and caches.
# - FP8, FP4 and MX are emulated by table: this shows their error, and nothing about their speed.
#
# ## 10. Claims

# %%
on = f"reference VGG, {dataset}, {len(report)} validation images"
size, right = STAGES["file"]
deep_claim = plot.Claim(
    claim="pruning, trained quantization and Huffman coding shrink a network without loss",
    paper="35× on AlexNet (240 MB to 6.9 MB), 49× on VGG-16 (552 MB to 11.3 MB), no accuracy lost",
    source="Han, Mao & Dally, ICLR 2016, abstract",
    measured=f"{DENSE_BYTES / size:.1f}× ({DENSE_BYTES:,} to {size:,} bytes), accuracy "
    f"{100 * (right - ACCURACY['fp32']):+.1f} points",
    on=on,
    why="their networks are mostly fully connected weights and were retrained to convergence; ours "
    "has none and was fine-tuned for seconds; its batch norm and its ends stay fp32",
)


# %%
def held(curve, loss=3.0):
    """Largest ratio of a curve within so many points of fp32."""
    top = 100 * training.evaluate(model, scan)
    return max((ratio for ratio, percent in CURVES[curve] if percent >= top - loss), default=1.0)


# %%
reach = {curve: held(curve) for curve in CURVES}
together = plot.Claim(
    claim="pruning and quantization work together better than each alone",
    paper="together 3 % of the size without loss; each alone drops below 8 %",
    source="Han, Mao & Dally, ICLR 2016, figure 6",
    measured="within 3 points of fp32: " + ", ".join(f"{c} {r:.1f}×" for c, r in reach.items()),
    on=f"{dataset}, {len(scan)} validation images, indices and codebooks counted",
    why="AlexNet there; here few weights are spare, pruned networks were fine-tuned for seconds, "
    "and an index of 4 bits weighs more, the fewer bits a code has",
)
ratios = plot.Claim(
    claim="an 8-bit integer operation needs far less energy than a 32-bit float one",
    paper=f"add {ENERGY_RATIO['add']:.0f}×, multiply {ENERGY_RATIO['multiply']:.1f}× (45 nm)",
    source="Horowitz, ISSCC 2014, figure 1.1.9",
    why="a CPU shows no program the energy of an operation; section 1 estimates "
    f"{sum(joules['fp32'][::2]) / sum(joules['int8'][::2]):.1f}× for a whole inference from DRAM",
)

# %%
integer_claim = plot.Claim(
    claim="integer-only inference keeps the accuracy",
    paper="preserves end-to-end accuracy, with a training procedure designed for it",
    source="Jacob et al., CVPR 2018, abstract",
    measured=f"{ACCURACY['fp32']:.1%} in float, {ACCURACY['C int8']:.1%} in integers, "
    "without retraining",
    on=on,
    why="ten classes and one scale for each output channel, where theirs had one for each tensor",
)
times_claim = plot.Claim(
    claim="int8 is faster on CPUs",
    paper="2×–3× against float on CPUs, up to 10× on processors with fixed-point SIMD",
    source="Krishnamoorthi, arXiv:1806.08342, 2018, abstract",
    measured="; ".join(f"kernel, {b}: ×{g:.1f}" for b, g in GAIN.items())
    + "; network in ONNX Runtime: "
    + ", ".join(f"{k} ×{TIMES.ratio('ORT fp32', f'ORT {k}').median:.2f}" for k in ORT_INT8),
    on=f"one thread; {TIMES.machine}",
    why="phones there; here it hangs on one instruction (VNNI) and on the sign of the activations",
)

# %%
fp8 = {name: ROWS[8, name][2] for name in ("E4M3", "E5M2")}
fp8_claim = plot.Claim(
    claim="FP8 keeps the accuracy of 16-bit formats",
    paper="E4M3 up to 448, E5M2 up to 57,344; training matches 16-bit results",
    source="Micikevicius et al., arXiv:2209.05433, 2022, abstract and table 1",
    measured=f"largest numbers {ladder(E4M3)[E4M3.overflow - 1]:g} and "
    f"{ladder(E5M2)[E5M2.overflow - 1]:g}; weights only, untrained: "
    + ", ".join(f"{n} {a:.1f} %" for n, a in fp8.items())
    + f", fp32 {training.evaluate(model, scan):.1%}",
    on=f"{dataset}, {len(scan)} validation images; decoded by hand, all patterns equal to torch's",
    why="the paper trains in FP8 on GPUs; here weights are rounded once, products stay fp32",
)

# %%
nf4_claim = plot.Claim(
    claim="NF4 is a better 4-bit type for normal weights than integers or floats",
    paper="NF4 improves perplexity significantly over FP4 and Int4",
    source="Dettmers et al., NeurIPS 2023, section 4 and table 2",
    measured=", ".join(
        f"{n} {ROWS[4, n][1]:.1f} dB, {ROWS[4, n][2]:.1f} %" for n in ("int", "E2M1", "NF4")
    ),
    on=f"conv5 and all convolutions, {dataset}, {len(scan)} validation images",
    why="blocks of 64 weights and language models there; here one scale for a layer, so that the "
    "tails count more",
)
folder.cleanup()
plot.claims([deep_claim, together, ratios, integer_claim, times_claim, fp8_claim, nf4_claim])

# %% [markdown]
# ## Discussion
#
# 1. E4M3 gives up infinity. Who pays for that, training or inference, and what should a cast do on
#    overflow? Compare the column of section 2 with your version of torch.
# 2. K-means has the smallest error for its bits, and no processor multiplies in it. Where in a
#    system does it still pay?
# 3. Weights are symmetric and activations affine. Write down what each input would cost with affine
#    weights, and find the term that cannot be computed beforehand.
# 4. Our requantization rounds half up and the runtime half to even. Construct a network whose
#    decision differs. Would you ever see it?
# 5. Take your machine's figures of section 7: which kernel is nearest to its bound, and what does
#    the farthest wait for?
# 6. Which of the reasons in section 8 would a larger batch remove? Which a larger network?
#
# ## Further reading
#
# - S. Han, H. Mao, W. J. Dally, "Deep Compression: Compressing deep neural networks with pruning,
#   trained quantization and Huffman coding", ICLR 2016.
# - B. Jacob et al., "Quantization and training of neural networks for efficient
#   integer-arithmetic-only inference", CVPR 2018.
# - R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
#   whitepaper", arXiv:1806.08342, 2018.
# - P. Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433, 2022.
# - T. Dettmers et al., "QLoRA: Efficient finetuning of quantized LLMs", NeurIPS 2023: NF4.
# - B. D. Rouhani et al., "Microscaling data formats for deep learning", arXiv:2310.10537, 2023.
# - M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.
#
# **Next:** Lecture 6 goes below eight bits: finer scales, better rounding, and training that knows
# of the grid.
