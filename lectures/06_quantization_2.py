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
# # Lecture 6: Quantization, part 2
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/06_quantization_2.ipynb)
#
# **The question: how few bits will do, who pays for each bit saved, and does the clock notice?**
#
# Lecture 5 rounded every tensor to one grid and got eight bits almost for free. Below eight, each
# choice it left open costs accuracy: who shares a scale, where to clip, which way to round, whether
# to train again. This lecture makes these choices one at a time, down to one bit a weight, and ends
# by spending a budget of bytes where it buys the most.

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

# %% tags=["parameters"] short={"SEEDS": 2, "SEARCH_IMAGES": 64, "REPORT_IMAGES": 100, "CALIBRATION_IMAGES": 64, "DEPTHWISE_IMAGES": 1000, "DEPTHWISE_STEPS": 60, "ADAROUND_STEPS": 40, "PATCHES": 1024, "QAT_SEEDS": 2, "QAT_IMAGES": 96, "BINARY_IMAGES": 320, "EVALUATIONS": 16, "ROUNDS": 3}
SEEDS = 3  # of AdaRound and of the mixed-precision search
SEARCH_IMAGES = 256  # validation images that searches may look at
REPORT_IMAGES = 1000  # other validation images, behind every reported accuracy
CALIBRATION_IMAGES = 256  # training images, without labels, behind ranges, means and AdaRound
DEPTHWISE_IMAGES, DEPTHWISE_STEPS = 6000, 280  # to train the small depthwise network
ADAROUND_STEPS, BATCH = 250, 128  # steps of each layer, and output pixels in each
PATCHES = 2048  # output pixels of each layer that batches are drawn from
QAT_SEEDS, QAT_IMAGES = 2, 3500  # trainings of each method in section 5, and images of each
BINARY_IMAGES = 2500  # training images of each network in section 6
EVALUATIONS = 40  # networks that each search may evaluate
ROUNDS = 10  # rounds of every paired latency measurement

# %%
import copy
import itertools
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval, parametrize

from codesign import checkpoints, datasets, measure, native, plot, training

plot.theme()
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1. Granularity: who shares a scale
#
# From Lecture 5: weights are symmetric integers of $b$ bits, $q = \text{clamp}(\text{round}(w/S))$
# within $\pm(2^{b-1}-1)$, and $\hat w = S q$. Batch norm is folded into the convolution before it,
# so the network is a list of weights and biases:
#
# $$W' = \frac{\gamma}{\sqrt{\sigma^2+\epsilon}}\,W,\qquad
# b' = \beta - \frac{\gamma\mu}{\sqrt{\sigma^2+\epsilon}}.$$

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val")
search, report = val.parts(SEARCH_IMAGES, REPORT_IMAGES)
calibration = datasets.normalize(train.images[:CALIBRATION_IMAGES])
original = checkpoints.load(checkpoints.shipped("vgg", dataset))


# %%
def folded(layers):
    """[(weight, bias), …] of the convolutions in ``layers``, each with its batch norm folded in."""
    fused = [
        fuse_conv_bn_eval(layer, norm)
        for layer, norm in itertools.pairwise(layers)
        if isinstance(layer, nn.Conv2d)
    ]
    return [(layer.weight.detach(), layer.bias.detach()) for layer in fused]


# %%
dense = folded(list(original.features))
dense.append((original.classifier.weight.detach(), original.classifier.bias.detach()))
LAYERS, POOLED = len(dense), (1, 3, 5)  # a 2×2 max pool follows these convolutions
NAMES = [*(f"conv{i}" for i in range(len(dense) - 1)), "classifier"]


# %%
def same(i, x):
    return x


# %%
def layer(x, w, b):
    """A 3×3 convolution, or the classifier for inputs ``[N, C]``."""
    return F.linear(x, w, b) if x.ndim == 2 else F.conv2d(x, w, b, padding=1)


# %%
def passed(i, y):
    """From a layer's output to the next one's input: ReLU, a pool, in the end the mean."""
    y = F.max_pool2d(y.relu(), 2) if i in POOLED else y.relu()
    return y.mean((2, 3)) if i == LAYERS - 2 else y


# %%
def network(params, x, act=same, start=0):
    """Logits; ``act(i, x)`` may change the input of layer ``i``; ``x`` enters at ``start``."""
    for i, (w, b) in enumerate(params[start:-1], start):
        x = passed(i, layer(act(i, x), w, b))
    return layer(act(LAYERS - 1, x), *params[-1])


# %%
@torch.no_grad()
def accuracy(params, act=same, data=report, batch=125):
    """Share of ``data`` that the network gets right."""
    right = 0
    for images, labels in zip(data.images.split(batch), data.labels.split(batch), strict=True):
        right += int((network(params, datasets.normalize(images), act).argmax(1) == labels).sum())
    return right / len(data)


# %%
with torch.no_grad():
    torch.testing.assert_close(
        network(dense, calibration[:16]), original(calibration[:16]), rtol=1e-3, atol=1e-3
    )
dense_accuracy = accuracy(dense)
error = (dense_accuracy * (1 - dense_accuracy) / len(report)) ** 0.5
print(f"fp32, folded: {dense_accuracy:.1%} ± {error:.1%} (one standard error)")

# %% [markdown]
# The standard error is that of one accuracy. Two quantizations of one network get mostly the same
# images right, so their difference is known better than that; a few tenths of a point are noise all
# the same.
#
# **Smallest example.** Two channels, one of them ten times smaller, four bits. With one scale the
# small channel has hardly a code left:

# %%
two = torch.tensor([[1.0, -0.62, 0.35, 0.8], [0.1, -0.062, 0.035, 0.08]])


# %%
def top(bits):
    """The largest code of symmetric integers: 127 for 8 bits, 7 for 4, 1 for 2."""
    return 2 ** (bits - 1) - 1


# %%
def to_codes(rows, scale, bits):
    return (rows / scale).round().clamp(-top(bits), top(bits))


# %%
for name, scale in (("tensor", two.abs().max()), ("channel", two.abs().amax(1, keepdim=True))):
    q = to_codes(two, scale / top(4), 4)
    off = (q * scale / top(4) - two).norm(dim=1) / two.norm(dim=1)
    print(
        f"scale per {name:7} codes {q.int().tolist()}, error / norm {off[0]:.1%} and {off[1]:.1%}"
    )

# %% [markdown]
# ### Finer and finer, and what the scales weigh
#
# A scale may be shared by a tensor, an output channel, or a group of $g$ consecutive weights of one
# channel. Scales are data too: with 16-bit scales a group of $g$ costs
#
# $$b_\text{eff} = b + \frac{16}{g}\quad\text{bits a weight.}$$
#
# Two ways out. **Two levels** (VS-Quant, Dai et al., 2021): small integers scale the groups, one
# fp16 number scales the integers of a channel. QLoRA's double quantization is the same idea. **MX**
# (OCP specification, 2023): 32 weights share a power of two, stored as an 8-bit exponent.
# Its integer elements have eight bits; we let $b$ vary, and add FP4, as MXFP4 has.


# %%
def split(w, size):
    """Rows that share a scale: all of ``w``, or ``size`` weights of a channel, zero-padded."""
    if size == w.numel():
        return w.reshape(1, -1)
    flat = w.flatten(1)
    size = min(size, flat.shape[1])
    return F.pad(flat, (0, -flat.shape[1] % size)).reshape(-1, size)


# %%
def join(rows, w):
    """The opposite of ``split``: the shape of ``w``."""
    return rows.reshape(len(w), -1)[:, : w[0].numel()].reshape(w.shape)


# %%
def largest(rows):
    return rows.abs().amax(1, keepdim=True).clamp(min=1e-6)


# %%
def grouped(size_of):
    """Quantizer with an fp16 scale for each ``size_of(w)`` weights: (values, bits of scales)."""

    def quantize(w, bits):
        rows = split(w, size_of(w))
        scale = (largest(rows) / top(bits)).half().float()
        return join(to_codes(rows, scale, bits) * scale, w), 16 * len(scale)

    return quantize


# %%
def two_level(size, level_bits=4):
    """An integer scale for each ``size`` weights, an fp16 scale for each channel."""

    def quantize(w, bits):
        rows = split(w, size)
        wanted = (largest(rows) / top(bits)).view(len(w), -1)
        outer = (wanted.amax(1, keepdim=True) / (2**level_bits - 1)).half().float()
        inner = (wanted / outer).ceil().clamp(1, 2**level_bits - 1)  # up: clip nothing
        scale = (inner * outer).view(-1, 1)
        return join(to_codes(rows, scale, bits) * scale, w), level_bits * len(rows) + 16 * len(w)

    return quantize


# %%
def power_of_two(w, bits, size=32):
    """MX's shared exponent over ``bits``-bit integers."""
    rows = split(w, size)
    scale = torch.exp2((largest(rows) / top(bits)).log2().ceil())
    return join(to_codes(rows, scale, bits) * scale, w), 8 * len(rows)


# %%
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])  # magnitudes of FP4, as in Lecture 5


# %%
def mxfp4(w, bits=4):
    """MXFP4: 32 values of FP4 share the exponent floor(log2(max)) − 2; more than 6 saturates."""
    rows = split(w, 32)
    scale = torch.exp2(largest(rows).log2().floor() - 2)
    nearest = ((rows / scale).abs()[..., None] - E2M1).abs().argmin(-1)
    return join(rows.sign() * E2M1[nearest] * scale, w), 8 * len(rows)


# %%
SCHEMES = {
    "tensor": grouped(torch.Tensor.numel),
    "channel": grouped(lambda w: w[0].numel()),
    "group 128": grouped(lambda w: 128),
    "group 32": grouped(lambda w: 32),
    "two-level 16": two_level(16),
    "MX int 32": power_of_two,
    "MXFP4": mxfp4,
}

# %% [markdown]
# Oracles: no weight is off by more than half a step; groups as long as a channel are channels; and
# QLoRA's overhead of double quantization (8-bit scales of 64 weights, an fp32 scale of 256 scales)
# is the paper's figure.

# %%
w5 = dense[5][0]
step = largest(split(w5, 32)) / top(4)
off = split(SCHEMES["group 32"](w5, 4)[0] - w5, 32).abs()
assert bool((off <= 0.502 * step).all())  # half a step, and what fp16 does to the scale
assert torch.equal(grouped(lambda w: 10**6)(w5, 4)[0], SCHEMES["channel"](w5, 4)[0])
assert round(8 / 64 + 32 / (64 * 256), 3) == 0.127
assert torch.equal(mxfp4(E2M1.repeat(1, 4))[0], E2M1.repeat(1, 4))  # representable, so exact


# %%
def quantized(params, quantize, bits):
    """Every weight quantized and restored; biases stay (they are int32 in the scheme)."""
    return [(quantize(w, bits)[0], b) for w, b in params]


# %%
def effective_bits(quantize, bits, params=dense):
    """Bits a weight, scales included."""
    scales = sum(quantize(w, bits)[1] for w, _ in params)
    return bits + scales / sum(w.numel() for w, _ in params)


# %%
def sqnr(quantize, bits):
    """Signal to quantization noise of the weights in dB, mean over layers."""
    pairs = [(w, quantize(w, bits)[0]) for w, _ in dense]
    return np.mean([20 * math.log10(w.norm() / (w - v).norm()) for w, v in pairs])


# %%
plane = {
    (name, bits): (effective_bits(quantize, bits), sqnr(quantize, bits))
    for name, quantize in SCHEMES.items()
    for bits in (2, 3, 4, 5, 6, 8)
    if name != "MXFP4" or bits == 4
}
by_scheme = {
    (name, bits): accuracy(quantized(dense, quantize, bits))
    for name, quantize in SCHEMES.items()
    for bits in (3, 4)
    if (name, bits) in plane
}

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
COLOUR, FLOOR = dict(zip(SCHEMES, plot.CYCLE, strict=True)), 70
for name, marker in zip(SCHEMES, "osv^DP*", strict=True):
    points = [point for (other, _), point in plane.items() if other == name]
    left.plot(*zip(*points, strict=True), marker=marker, color=COLOUR[name], label=name, lw=1.2)
    for bits in (3, 4) if (name, 3) in by_scheme else (4,):
        x, y = plane[name, bits][0], 100 * by_scheme[name, bits]
        right.plot(x, max(y, FLOOR), marker, color=COLOUR[name])
        if y < FLOOR:
            right.annotate(f"{y:.0f} %, below", (x, FLOOR), (8, 0), textcoords="offset points")
right.axhline(100 * dense_accuracy, color=plot.COLOURS["baseline"], lw=1, label="fp32")
left.set(xlabel="effective bits a weight", ylabel="SQNR of the weights, dB", xlim=(1.8, 7))
right.set(xlabel="effective bits a weight", ylabel="accuracy, %", title="3 and 4 bits, no training")
left.legend(fontsize=7)
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# *Left: error against honest bits. A scheme pays where its line lies left of and above another;
# finer scales move a point up and to the right at once. Right: the same networks on images.
# A power of two (MX) is cheaper to store than an fp16 scale of the same group, and less exact.*

# %%
for bits in (4, 3):
    for name in SCHEMES:
        if (name, bits) in by_scheme:
            effective, quality = plane[name, bits]
            print(f"{name:13} {bits} bits, effective {effective:.2f}, {quality:5.1f} dB", end="")
            print(f", {by_scheme[name, bits]:.1%}")

# %% [markdown]
# **Estimate beside measurement.** A step half as long halves the error: every bit should bring
# $20\log_{10}2 = 6.02$ dB, wherever nothing is clipped and many codes are in use.

# %%
for name in ("tensor", "channel", "two-level 16"):
    low, high = (plane[name, b][1] - plane[name, a][1] for a, b in ((2, 3), (4, 8)))
    print(f"{name:13} {high / 4:.2f} dB a bit from 4 to 8, {low:.2f} from 2 to 3")

# %% [markdown]
# **What the hardware does with it.** An output is one sum of products. A scale of the tensor or of
# the output channel can wait until the end: one requantization an output. A scale of a group
# cannot, the integer sum has to be interrupted $K/g$ times. A scale for each *input* channel would
# have to multiply every product, and is therefore not used at all (CLE, section 3, moves it
# elsewhere).

# %%
rows = split(w5, 32)
scale = (largest(rows) / top(4)).double()
codes = to_codes(rows, scale, 4).view(len(w5), -1, 32).long()
x8 = torch.randint(-128, 128, (codes.shape[1], 32))
partial = (codes * x8).sum(2)  # integers, one for each group
outputs = (partial * scale.view(len(w5), -1)).sum(1)  # one rescaling for each group
restored = join(to_codes(rows, scale, 4) * scale, w5).flatten(1)
torch.testing.assert_close(outputs, restored @ x8.flatten().double())
for name, g in (("channel", w5[0].numel()), ("group 128", 128), ("group 32", 32)):
    print(f"conv5, {name:9} {w5[0].numel() // g:3} rescalings an output, one every {g} MACs")

# %% [markdown]
# With MX the rescaling is a shift (an addition to an exponent); with two levels a small integer
# multiplication. That is why both exist: they make fine groups affordable in hardware.
#
# ### The case that made per-channel scales standard: depthwise networks
#
# In a depthwise convolution each channel has its own 3×3 kernel and nothing mixes. After batch norm
# is folded in, kernels of one layer may differ in size by orders of magnitude, and int8 with one
# scale collapses (Krishnamoorthi, 2018). To see it we need a depthwise network: the reference CNN's
# first four convolutions, frozen, and three depthwise-separable blocks trained on their output.


# %%
@torch.no_grad()
def stem(images):
    """Output of conv3 and its pool, ``[N, 64, 8, 8]``."""
    x = datasets.normalize(images)
    for i, (w, b) in enumerate(dense[:4]):
        x = passed(i, layer(x, w, b))
    return x


# %%
def separable(c_in, c_out):
    """Depthwise 3×3 and pointwise 1×1, each with batch norm and ReLU."""
    depthwise = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)
    pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
    norms = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
    return [depthwise, norms[0], nn.ReLU(), pointwise, norms[1], nn.ReLU()]


# %%
def descend(parameters, loss, steps, lr, threads=None):
    """Adam under a one-cycle schedule; ``loss(progress)`` draws its own batch.

    threads: 1 for small steps, in which several threads would mostly wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    adam = torch.optim.Adam(parameters, lr, fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = lr * training.one_cycle(step / steps)
        value = loss(step / steps)
        adam.zero_grad()
        value.backward()
        adam.step()
    torch.set_num_threads(before)


# %%
features = torch.cat([stem(part) for part in train.images[:DEPTHWISE_IMAGES].split(125)])
report_features = torch.cat([stem(part) for part in report.images.split(125)])
blocks = [*separable(64, 128), *separable(128, 128), nn.MaxPool2d(2), *separable(128, 128)]
head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)]
mobile = nn.Sequential(*blocks, *head).to(memory_format=torch.channels_last)


# %%
def mobile_loss(_):
    i = torch.randint(len(features), (64,))
    return F.cross_entropy(mobile(features[i]), train.labels[i])


# %%
descend(mobile.parameters(), mobile_loss, DEPTHWISE_STEPS, lr=3e-3, threads=1)
mobile.eval()
small = [*folded(blocks), tuple(p.detach() for p in head[-1].parameters())]


# %%
@torch.no_grad()
def tail(params, x):
    """Logits of the depthwise network's own part from the stem's output."""
    for i, (w, b) in enumerate(params[:-1]):
        depthwise = w.shape[1] == 1
        x = F.conv2d(x, w, b, padding=w.shape[2] // 2, groups=len(w) if depthwise else 1).relu()
        x = F.max_pool2d(x, 2) if i == 3 else x
    return F.linear(x.mean((2, 3)), *params[-1])


# %%
def small_accuracy(params):
    return float((tail(params, report_features).argmax(1) == report.labels).float().mean())


# %%
with torch.no_grad():
    torch.testing.assert_close(
        tail(small, features[:8]), mobile(features[:8]), rtol=1e-3, atol=1e-3
    )
ratios = [float(largest(w.flatten(1)).max() / largest(w.flatten(1)).min()) for w, _ in small[::2]]
print(
    f"fp32 {small_accuracy(small):.1%}; largest / smallest kernel of each depthwise layer:", end=""
)
print("".join(f" {r:.1f}" for r in ratios[:3]))

# %% [markdown]
# Trained for seconds, its kernels are of one size, and per-tensor int8 is harmless. The published
# networks were trained far longer and are not like that. Their case can be made exactly: ReLU is
# positively homogeneous, so multiplying channel $c$ of the depthwise layer by $f_c>0$ and dividing
# the next layer's input channel by it leaves the function as it is. We draw $\log_2 f_c$ evenly
# from $[-a, a]$.


# %%
def rescaled(params, a):
    """The same function, depthwise kernels multiplied by random factors of 2^-a to 2^a."""
    draw, params = torch.Generator().manual_seed(0), list(params)
    for i in (0, 2, 4):
        (w, b), (after, after_b) = params[i : i + 2]
        f = torch.exp2(a * (2 * torch.rand(len(w), generator=draw) - 1))
        params[i] = w * f.view(-1, 1, 1, 1), b * f
        params[i + 1] = after / f.view(1, -1, 1, 1), after_b
    return params


# %%
SPREADS = (0, 1, 2, 3, 4, 5)
mobiles = {a: rescaled(small, a) for a in SPREADS}
for params in mobiles.values():
    torch.testing.assert_close(
        tail(params, features[:8]), tail(small, features[:8]), rtol=1e-3, atol=1e-3
    )
rescue = {
    name: [small_accuracy(quantized(mobiles[a], SCHEMES[name], 8)) for a in SPREADS]
    for name in ("tensor", "channel")
}

# %%
fig, ax = plt.subplots()
for name, values in rescue.items():
    ax.plot(SPREADS, [100 * v for v in values], "o-", color=COLOUR[name], label=f"int8 per {name}")
fp32 = 100 * small_accuracy(small)
ax.axhline(fp32, color=plot.COLOURS["baseline"], lw=1, label="fp32, the same function throughout")
ax.set(xlabel="a: kernels scaled by $2^{-a}$ to $2^a$", ylabel="accuracy, %", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# *Eight bits throughout and one function throughout; only the channels' sizes differ. One scale for
# a layer gives way as soon as small kernels fall below its step. Scales for output channels repair
# the depthwise layers completely. They cannot repair the pointwise layers, whose* input *channels
# carry the inverse factors: at the right end that shows too.*
#
# ## 2. Activations: where to clip
#
# Weights are known; activations must be guessed from a few images, the *calibration*. After a ReLU
# they are not negative, so the zero point is $Z=-2^{b-1}$ and all $2^b$ codes are used: $q - Z =
# \text{clamp}(\text{round}(x/S), 0, 2^b-1)$ with $S = T/(2^b-1)$. Only the threshold $T$ is open.
# A large $T$ makes steps coarse, a small one cuts off what lies above:
#
# $$\underbrace{\mathbb E\big[(x-\hat x)^2\big]}_\text{error}
# = \underbrace{\textstyle\int_0^T (x-Sq)^2 p(x)\,dx}_{\text{rounding, about }S^2/12\text{ for }x>0}
# + \underbrace{\textstyle\int_T^\infty (x-T)^2 p(x)\,dx}_\text{clipping}.$$


# %%
@torch.no_grad()
def inputs_of(params, x):
    """What every layer sees: a list of tensors."""
    seen = []
    network(params, x, lambda i, value: seen.append(value) or value)
    return seen


# %%
BINS = 2048
seen = inputs_of(dense, calibration)
ranges = [float(a.max()) for a in seen]
counts = [torch.histc(a, BINS, 0, r).double() for a, r in zip(seen, ranges, strict=True)]


# %%
def errors_at(counts, width, threshold, bits):
    """Mean squared (rounding, clipping) error of a histogram of bins ``width`` wide."""
    x = (torch.arange(len(counts)) + 0.5) * width
    x[0] = 0.0  # the exact zeros that a ReLU leaves; zero is always a code
    step = threshold / (2**bits - 1)
    squared = (x - (x / step).round().clamp(0, 2**bits - 1) * step) ** 2 * counts / counts.sum()
    return float(squared[x <= threshold].sum()), float(squared[x > threshold].sum())


# %% [markdown]
# The oracle: on the tensor itself, without a histogram.

# %%
a, width = seen[3].flatten(), ranges[3] / BINS
step = 1.0 / 15
direct = ((a / step).round().clamp(0, 15) * step - a).pow(2).mean()
assert abs(sum(errors_at(counts[3], width, 1.0, 4)) / direct - 1) < 0.02

# %%
BITS, WIDGET_LAYER = (2, 3, 4, 6, 8), 3
heights, reach = counts[WIDGET_LAYER] / counts[WIDGET_LAYER].sum(), ranges[WIDGET_LAYER]
clip_x = [k * reach / 64 for k in range(2, 65)]


# %%
def log_curves(bits):
    """log10 of rounding, clipping, both, and S²/12 of the positive values below each threshold."""
    pairs = [errors_at(heights, reach / BINS, t, bits) for t in clip_x]
    below = [float(heights[1 : int(t / reach * BINS)].sum()) for t in clip_x]
    steps = [t / (2**bits - 1) for t in clip_x]
    estimate = [p * s**2 / 12 for p, s in zip(below, steps, strict=True)]
    rows = [*zip(*pairs, strict=True), [sum(pair) for pair in pairs], estimate]
    return np.log10(np.maximum(rows, 1e-12)).tolist()


# %%
curves = {bits: log_curves(bits) for bits in BITS}
bars = [k * reach / 64 for k in range(64)]
density = (0.02 * heights.view(64, -1).sum(1)).clamp(min=1e-9).log10().tolist()


# %% tags=["widget"]
def draw_clip(ax, bits):
    """Logarithms of both errors against the threshold, over the logarithm of the histogram."""
    rounding, clipping, total, estimate = curves[bits]
    best = min(range(len(total)), key=total.__getitem__)
    ax.fill_between(bars, density, -7, step="post", color="#dddddd", label="histogram")
    ax.plot(clip_x, rounding, color=plot.COLOURS["compute"], label="rounding")
    ax.plot(clip_x, clipping, color=plot.COLOURS["memory"], label="clipping")
    ax.plot(clip_x, total, color=plot.COLOURS["measured"], lw=1, label="sum")
    ax.plot(clip_x, estimate, ":", color=plot.CYCLE[4], label="S²/12")
    ax.plot(clip_x[best], total[best], "o", color=plot.COLOURS["ours"], label="least")
    ax.set(ylim=(-7, 1.2), xlabel="threshold T", ylabel="log₁₀ of the mean squared error")
    ax.legend(fontsize=6.5, loc="upper right", ncols=3)


# %% tags=["widget"]
plot.explore(draw_clip, bits=BITS)

# %% [markdown]
# *The input of `conv3`. Blue rises with the step, and the dotted estimate $S^2/12$ follows it
# while steps are small; orange falls with the tail that is cut off. With many bits the best
# threshold lies far out, close to the largest value; each bit less moves it inwards.*
#
# ### Five ways to choose the threshold
#
# - **Min–max**: the largest value seen. **EMA**: the largest value of each batch, averaged with
#   weights that decay, so that one image cannot set the scale alone.
# - **Percentile**: the value that 99.9 % of activations stay below. **MSE**: the least sum above.
# - **KL** (TensorRT): treat the histogram as a distribution $P$, what quantization makes of it as
#   $Q$, and take the threshold where $\sum P\log(P/Q)$ is least.


# %%
def min_max(i, bits):
    return ranges[i]


# %%
def moving_average(i, bits, batch=32, keep=0.9):
    peaks = seen[i].flatten(1).amax(1).view(-1, batch).amax(1).tolist()
    level = peaks[0]
    for peak in peaks[1:]:
        level = keep * level + (1 - keep) * peak
    return level


# %%
def percentile(i, bits, share=0.999):
    below = counts[i].cumsum(0) / counts[i].sum()
    return (int((below < share).sum()) + 1) * ranges[i] / BINS


# %%
def least_squares(i, bits):
    tried = [(k + 1) * ranges[i] / 64 for k in range(64)]
    return min(tried, key=lambda t: sum(errors_at(counts[i], ranges[i] / BINS, t, bits)))


# %% [markdown]
# For KL, keep the first $k$ bins. $P$ is their histogram with everything beyond added to the last
# bin. $Q$ cuts the $k$ bins into $2^b$ codes and spreads each code's mass evenly over those of its
# bins that are not empty. Zeros are exact in any case, so bin 0 gets the height of bin 1, as in
# NVIDIA's pytorch-quantization; otherwise they would outvote everything else.


# %%
def divergence(counts, keep, codes):
    """KL(P‖Q) in nats with the first ``keep`` bins as ``codes`` codes; inf where Q misses P."""
    kept = counts[:keep]
    p = kept.clone()
    p[-1] += counts[keep:].sum()
    code = torch.arange(keep) * codes // keep
    mass = torch.zeros(codes).double().index_add(0, code, kept)
    bins = torch.zeros(codes).double().index_add(0, code, (kept > 0).double())
    q = (mass / bins.clamp(min=1))[code] * (kept > 0)
    p, q = p / p.sum(), q / q.sum()
    return float((torch.xlogy(p, p) - torch.xlogy(p, q)).sum())


# %%
def kl(i, bits):
    heights = counts[i].clone()
    heights[0] = heights[1]
    keeps = range(2**bits, BINS + 1, 16)
    return min(keeps, key=lambda k: divergence(heights, k, 2**bits)) * ranges[i] / BINS


# %% [markdown]
# The oracle is the definition, bin by bin, on small histograms.


# %%
def brute_force(counts, keep, codes):
    """The same divergence with loops over single bins."""
    p = [*counts[: keep - 1], sum(counts[keep - 1 :])]
    q = [0.0] * keep
    for code in range(codes):
        own = [j for j in range(keep) if j * codes // keep == code and counts[j] > 0]
        for j in own:
            q[j] = sum(counts[o] for o in own) / len(own)
    if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
        return math.inf
    total = sum(p), sum(q)
    pairs = [(a / total[0], b / total[1]) for a, b in zip(p, q, strict=True) if a > 0]
    return sum(a * math.log(a / b) for a, b in pairs)


# %%
for seed in range(20):
    tiny = torch.randint(0, 4, (24,), generator=torch.Generator().manual_seed(seed)).double()
    for keep in range(4, 25):
        if tiny[:keep].sum() > 0:
            both = divergence(tiny, keep, 4), brute_force(tiny.tolist(), keep, 4)
            assert both[0] == both[1] or abs(both[0] - both[1]) < 1e-9


# %%
def clip_to(thresholds, bits):
    """An ``act`` for ``network``: inputs of all layers but the first, quantized."""

    def act(i, x):
        step = thresholds[i] / (2**bits - 1)
        return x if i == 0 else (x / step).round().clamp(0, 2**bits - 1) * step

    return act


# %%
METHODS = {
    "min–max": min_max,
    "EMA": moving_average,
    "percentile": percentile,
    "MSE": least_squares,
    "KL": kl,
}
thresholds = {
    (name, bits): [method(i, bits) for i in range(len(dense))]
    for name, method in METHODS.items()
    for bits in (2, 3, 4, 8)
}
calibrated = {
    (name, bits): accuracy(dense, clip_to(thresholds[name, bits], bits))
    for name in METHODS
    for bits in (8, 4, 3)
}

# %%
print("accuracy with fp32 weights:", "".join(f"{bits:6} bits" for bits in (8, 4, 3)))
for name in METHODS:
    row = "".join(f"{calibrated[name, bits]:11.1%}" for bits in (8, 4, 3))
    print(f"{name:26} {row}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, i in zip(axes, (3, 6), strict=True):
    height = counts[i].view(128, -1).sum(1).clamp(min=1)
    ax.stairs(height, np.linspace(0, ranges[i], 129), fill=True, color="#cccccc")
    for (name, colour), line in itertools.product(
        zip(METHODS, plot.CYCLE, strict=False), ((4, "-"), (8, ":"))
    ):
        label = name if line[0] == 4 else None
        ax.axvline(thresholds[name, line[0]][i], color=colour, ls=line[1], lw=1.4, label=label)
    ax.set(yscale="log", xlabel="activation", title=f"input of {NAMES[i]}", xlim=(0, None))
axes[0].set_ylabel("count of 256 images")
axes[1].legend(
    fontsize=7,
    title="— 4 bits\n··· 8 bits",
    title_fontsize=7,
    loc="upper left",
    bbox_to_anchor=(1, 1),
)
plt.show()

# %% [markdown]
# *Where each method clips. Min–max and EMA do not know the number of bits (their lines coincide);
# MSE and KL move inwards when bits get few. KL weighs how many values it moves and not how far, so
# it can sacrifice a tail that MSE keeps.*
#
# What the hardware does with it: nothing. Any threshold costs one number a tensor and no time at
# all, which makes calibration the cheapest accuracy in this lecture.
#
# ## 3. Two repairs that need no training
#
# ### Bias correction: what quantization shifts on average
#
# Quantized weights change a layer's output by $(\hat W - W)x$. Part of it is the same for all
# images: its mean over inputs is a constant for each channel, and a constant can be taken back in
# the bias, for free (Nagel et al., ICCV 2019):
#
# $$b' = b - \mathbb E\big[\hat W \hat x - W x\big].$$
#
# We measure the mean on the calibration images, layer after layer; $\hat x$ has passed through the
# quantized and already corrected layers before.


# %%
@torch.no_grad()
def bias_corrected(params, reference, act=same):
    """``params`` with biases such that every channel has the mean that it has in ``reference``."""
    x = x_ref = calibration
    corrected = []
    for i, ((w, b), (w_ref, b_ref)) in enumerate(zip(params, reference, strict=True)):
        y, y_ref = layer(act(i, x), w, b), layer(x_ref, w_ref, b_ref)
        over = [d for d in range(y.ndim) if d != 1]
        shift = y.mean(over) - y_ref.mean(over)
        corrected.append((w, b - shift))
        x, x_ref = (passed(i, v) for v in (y - shift.view(-1, *[1] * (y.ndim - 2)), y_ref))
    return corrected


# %%
w3 = quantized(dense, SCHEMES["tensor"], 3)
fixed = bias_corrected(w3, dense)
for params in (w3, fixed):
    shift = network(params, calibration).mean(0) - network(dense, calibration).mean(0)
    print(f"mean shift of the ten logits: {shift.abs().mean():.4f}")
assert float(shift.abs().max()) < 1e-3  # the last layer's means agree by construction

# %% [markdown]
# ### Cross-layer equalization: move the scale to where it does not hurt
#
# The exact rescaling that broke the depthwise network can also mend one. Between two layers,
# channel $c$ has the range $r_c = \max|W_{1,c}|$ on its way out and $r'_c = \max|W_{2,\cdot c}|$
# on its way in. Dividing the first and multiplying the second by
#
# $$s_c = \sqrt{r_c / r'_c}$$
#
# gives both the range $\sqrt{r_c r'_c}$. Pooling and ReLU let positive factors through, so the
# function stays. A few rounds over all pairs settle it.


# %%
def equalized(params, rounds=10):
    """The same function with equal ranges on both sides of every channel."""
    params = [(w.clone(), b.clone()) for w, b in params]
    for _ in range(rounds):
        for (w, b), (after, _) in itertools.pairwise(params):
            side = 0 if after.shape[1] == 1 else 1  # a depthwise kernel is its own input channel
            into = after.transpose(0, side).flatten(1).abs().amax(1)
            s = (w.flatten(1).abs().amax(1) / into.clamp(min=1e-6)).sqrt().clamp(1e-3, 1e3)
            w /= s.view(-1, *[1] * (w.ndim - 1))
            b /= s
            after.transpose(0, side).mul_(s.view(-1, *[1] * (after.ndim - 1)))
    return params


# %%
equal = equalized(dense)
with torch.no_grad():
    before, after = network(dense, calibration[:32]), network(equal, calibration[:32])
torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
(w, _), (following, _) = equal[2:4]
torch.testing.assert_close(
    w.flatten(1).abs().amax(1),
    following.transpose(0, 1).flatten(1).abs().amax(1),
    rtol=0.05,
    atol=0,
)

# %%
repairs = {"nearest": lambda p, q: q(p)}
repairs["bias correction"] = lambda p, q: bias_corrected(q(p), p)
repairs["equalization"] = lambda p, q: q(equalized(p))
repairs["both"] = lambda p, q: bias_corrected(q(equalized(p)), equalized(p))
repaired = {
    (name, bits): accuracy(repair(dense, lambda p, b=bits: quantized(p, SCHEMES["tensor"], b)))
    for name, repair in repairs.items()
    for bits in (4, 3)
}
for name in repairs:
    print(f"per tensor, {name:16} W4 {repaired[name, 4]:.1%}, W3 {repaired[name, 3]:.1%}")

# %% [markdown]
# A mean can be corrected, a variance cannot: where bias correction does not help, the error is no
# longer a shift. The depthwise networks of section 1, int8 with one scale a tensor, are a case for
# equalization:

# %%
rescue["equalized, tensor"] = [
    small_accuracy(quantized(equalized(mobiles[a]), SCHEMES["tensor"], 8)) for a in SPREADS
]
for name, values in rescue.items():
    print(f"{name:18}" + "".join(f"{v:7.1%}" for v in values) + "   a = 0 … 5")

# %% [markdown]
# Equalization undoes the factors on *both* sides of the depthwise layer, output and input
# channels, which no choice of weight granularity does; and the hardware keeps one multiplier a
# layer. Its price: activations are scaled too, and they share one scale a tensor. How far a
# tensor's largest channel stands above its median one:

# %%
for name, params in (("as trained", dense), ("equalized", equal)):
    peaks = [x.amax((0, 2, 3)) for x in inputs_of(params, calibration)[1 : LAYERS - 1]]
    spread_of = [f"{p.max() / p.median():.1f}" for p in peaks]
    print(f"largest / median channel, inputs of conv1 to conv6, {name:10}: {', '.join(spread_of)}")

# %% [markdown]
#
# ## 4. AdaRound: which way to round
#
# Rounding to nearest makes each weight's error least. The loss does not look at single weights: to
# second order a perturbation $\Delta w$ of trained weights costs
#
# $$\Delta L \approx \tfrac12\,\Delta w^\top H\,\Delta w,$$
#
# and the off-diagonal of $H$ couples them.
#
# **Smallest example.** Two weights of value 0.4 (in steps)
# on inputs that are correlated, $H=\begin{pmatrix}1&\rho\\\rho&1\end{pmatrix}$. Nearest rounds both
# down; the two errors point the same way and add up.

# %%
rho = 0.8
H = torch.tensor([[1, rho], [rho, 1]])
choices = [torch.tensor(c, dtype=torch.float32) for c in itertools.product((0, 1), repeat=2)]
for c in choices:
    delta = c - 0.4
    cost = 0.5 * delta @ H @ delta
    print(f"round to {c.int().tolist()}: distance {delta.norm():.2f}, loss {cost:.3f}")

# %%
axis = torch.linspace(-0.3, 1.3, 80)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1) - 0.4
loss_map = 0.5 * ((grid @ H) * grid).sum(-1)
fig, ax = plt.subplots(figsize=(4.6, 3.3))
ax.contour(
    axis, axis, loss_map, levels=[0.02, 0.07, 0.15, 0.3, 0.6, 1], colors="#aaaaaa", linewidths=0.8
)
ax.plot(*zip(*(c.tolist() for c in choices), strict=True), "s", color=plot.COLOURS["baseline"])
ax.plot(0.4, 0.4, "x", color=plot.COLOURS["measured"], label="weights")
ax.plot(0, 0, "s", color=plot.COLOURS["memory"], label="nearest")
ax.plot([0, 1], [1, 0], "s", color=plot.COLOURS["ours"], label="least loss")
ax.set(xlabel="first weight, steps", ylabel="second weight, steps", aspect="equal")
ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# *Contours of the loss. The nearest corner lies across the narrow valley, the better ones along
# it.*
#
# Is the valley narrow in a real layer? For one output channel of a convolution the Hessian of the
# squared output error is $\mathbb E[xx^\top]$ over its input patches. How much of it lies off the
# diagonal:


# %%
def patches(x, count, seed):
    """``count`` random 3×3 patches ``[count, C·9]`` of ``x``, padded with zeros; repeatable."""
    draw = torch.Generator().manual_seed(seed)
    n, _, side, _ = x.shape
    image, row, column = (torch.randint(m, (count, 1, 1), generator=draw) for m in (n, side, side))
    rows, columns = row + torch.arange(3)[:, None], column + torch.arange(3)
    return F.pad(x, [1] * 4)[image, :, rows, columns].permute(0, 3, 1, 2).flatten(1)


# %%
p = patches(seen[4], PATCHES, 0)
whole = F.unfold(seen[4], 3, padding=1).transpose(1, 2)
assert bool((whole == p[0]).all(2).any())  # a patch is a column of the unfolded image
H4 = p.T @ p / len(p)
correlation = H4 / H4.diag().sqrt().outer(H4.diag().sqrt())
off_diagonal = correlation[~torch.eye(len(H4), dtype=torch.bool)]
print(f"conv4: mean correlation of two inputs {off_diagonal.mean():.2f}", end=", ")
print(f"{(off_diagonal > 0.3).float().mean():.0%} of the pairs above 0.3")

# %% [markdown]
# So even random rounding, up with a probability that makes it right on average, may beat nearest.
# Forty draws for the first layer, at three bits with one scale; all other layers in fp32:

# %%
w0, b0 = dense[0]
flat0 = w0.flatten(1)
scale0 = flat0.abs().max() / top(3)
p0 = patches(seen[0], 4 * PATCHES, 0)
H0 = p0.T @ p0 / len(p0)
judges = datasets.normalize(search.images[:128]), search.labels[:128]


# %%
@torch.no_grad()
def judged(codes):
    """½ tr(ΔW H ΔWᵀ), and the loss of the network, with these codes in conv0."""
    w = codes.clamp(-top(3), top(3)) * scale0
    delta = w - flat0
    logits = network([(w.view_as(w0), b0), *dense[1:]], judges[0])
    return float(0.5 * ((delta @ H0) * delta).sum()), float(F.cross_entropy(logits, judges[1]))


# %%
draw = torch.Generator().manual_seed(0)
stochastic = [
    judged((flat0 / scale0 + torch.rand(flat0.shape, generator=draw)).floor()) for _ in range(40)
]
nearest0 = judged((flat0 / scale0).round())
better = sum(loss < nearest0[1] for _, loss in stochastic)
print(
    f"{better} of {len(stochastic)} stochastic roundings have a lower loss than nearest", end=": "
)
print(f"{nearest0[1]:.3f}, best {min(loss for _, loss in stochastic):.3f}")

# %%
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(*zip(*stochastic, strict=True), "o", color=plot.CYCLE[5], label="stochastic")
ax.plot(*nearest0, "s", color=plot.COLOURS["memory"], label="nearest")
ax.set(xlabel="½ tr(ΔW H ΔWᵀ) of conv0", ylabel="loss of the network")
ax.legend()
plt.show()

# %% [markdown]
# *Each point is one way to round the first layer. Points below the square beat nearest by chance. A
# cloud that rises to the right says that the layer's own squared error, which needs no labels, is a
# guide to the loss; how tight it is says how good a guide.*
#
# ### The method
#
# A layer of $n$ weights has $2^n$ roundings. AdaRound (Nagel et al., ICML 2020) relaxes the choice:
# every weight gets $\lfloor w/S\rfloor + h(v)$ with a rectified sigmoid, which reaches 0 and 1,
#
# $$h(v) = \text{clamp}(1.2\,\sigma(v) - 0.1,\,0,\,1),$$
#
# and minimizes the error of the layer's output after its ReLU, plus a term that drives $h$ to 0 or
# 1:
#
# $$\min_v\; \mathbb E\big\lVert f(Wx) - f(\hat W\hat x)\big\rVert^2
# + \lambda\sum_i \big(1-|2h(v_i)-1|^\beta\big),$$
#
# with $\beta$ falling from 20 (only the undecided feel it) to 2. It is *asymmetric*: $x$ is the
# input in the fp32 network, $\hat x$ in the network whose earlier layers are already rounded, so
# that later layers make up for earlier ones.


# %%
def soft(v):
    """The rectified sigmoid."""
    return (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)


# %%
def undecided(h, progress, warm_up=0.2):
    """The regularizer without its λ, absent while warming up; β falls from 20 to 2."""
    if progress < warm_up:
        return 0.0
    beta = 20 - 18 * (progress - warm_up) / (1 - warm_up)
    return (1 - (2 * h - 1).abs().pow(beta)).sum()


# %%
def adaround(w, b, scale, bits, x, target, f, seed=0, lam=0.01):
    """``w`` rounded to steps ``[rows, 1]``, so that inputs ``x`` ``[P, K]`` give ``target``."""
    low = (w.flatten(1) / scale).floor()
    rest = w.flatten(1) / scale - low
    v = torch.logit(((rest + 0.1) / 1.2).clamp(1e-4, 1 - 1e-4)).requires_grad_()
    torch.testing.assert_close(low + soft(v.detach()), w.flatten(1) / scale, rtol=0, atol=2e-3)
    draw = torch.Generator().manual_seed(seed)

    def loss(progress):
        first = int(torch.randint(max(1, len(x) - BATCH), (1,), generator=draw))
        part = slice(first, first + BATCH)  # rows are in random order already
        h = soft(v)
        rounded = (low + h).clamp(-top(bits), top(bits)) * scale
        error = (f(F.linear(x[part], rounded, b)) - target[part]).pow(2).sum(1).mean()
        return error + lam * undecided(h, progress)

    descend([v], loss, ADAROUND_STEPS, lr=0.02, threads=1)
    return ((low + (v.detach() >= 0)).clamp(-top(bits), top(bits)) * scale).view_as(w)


# %% [markdown]
# The oracle: twelve layers of ten weights, all 1,024 roundings of each tried. (So few weights
# cannot make up for each other as thousands can, and λ is larger here.)

# %%
UPS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)))


# %%
def tiny_costs(seed):
    """Squared error of (the best of 1,024, AdaRound, nearest) for one small layer."""
    torch.manual_seed(seed)
    x, w = torch.randn(500, 10) @ torch.randn(10, 10), torch.randn(1, 10)
    scale = largest(w) / top(4)
    every = ((w / scale).floor() + UPS).clamp(-top(4), top(4)) * scale
    found = adaround(w, None, scale, 4, x, x @ w.T, torch.Tensor.clone, lam=0.2)
    kinds = torch.cat([every, found, to_codes(w, scale, 4) * scale])
    costs = ((kinds - w) @ x.T).pow(2).mean(1)
    return costs[:1024].min(), costs[1024], costs[1025]


# %%
best, found, simple = np.array([tiny_costs(seed) for seed in range(12)]).T
assert (found > best - 1e-6).all()
assert found.mean() < simple.mean()
print(f"mean error / best of 1,024: AdaRound {np.mean(found / best):.2f}", end=", ")
print(f"nearest {np.mean(simple / best):.2f}")

# %% [markdown]
# Scales come first. As for activations, the largest weight is not always the best threshold; take
# the one with the least squared error.


# %%
def best_scale(rows, bits):
    """Scale ``[rows, 1]`` of least squared error of each row, over 29 shares of the maximum."""
    tried = torch.linspace(0.3, 1, 29).view(-1, 1, 1) * largest(rows) / top(bits)
    error = (to_codes(rows, tried, bits) * tried - rows).pow(2).sum(2, keepdim=True)
    return tried.gather(0, error.argmin(0, keepdim=True))[0]


# %%
def scales(bits, size_of, choose=best_scale):
    """A scale column for each layer of ``dense``; ``bits`` of each layer."""
    rows = [split(w, size_of(w)) for w, _ in dense]
    return [choose(r, b) for r, b in zip(rows, bits, strict=True)]


# %%
def nearest(bits, scale):
    return [
        ((to_codes(w.flatten(1), s, n) * s).view_as(w), b)
        for (w, b), s, n in zip(dense, scale, bits, strict=True)
    ]


# %%
@torch.no_grad()
def adaround_network(bits, scale, seed, act=same):
    """All layers rounded one after the other; ``act`` quantizes activations on the way."""
    x = x_ref = calibration
    params = []
    for i, (w, b) in enumerate(dense):
        x = act(i, x)
        sample = [t if t.ndim == 2 else patches(t, PATCHES, seed) for t in (x, x_ref)]
        f = torch.relu if i < LAYERS - 1 else torch.Tensor.clone
        target = f(F.linear(sample[1], w.flatten(1), b))
        with torch.enable_grad():
            rounded = adaround(w, b, scale[i], bits[i], sample[0], target, f, seed)
        params.append((rounded, b))
        x, x_ref = passed(i, layer(x, rounded, b)), passed(i, layer(x_ref, w, b))
    return params


# %% [markdown]
# Where nearest loses nothing there is nothing to win. We take the settings where it
# does lose: four and three bits with one scale a tensor.

# %%
table = {}
for bits in (4, 3):
    column = [bits] * LAYERS
    by_range = scales(column, torch.Tensor.numel, lambda rows, n: largest(rows) / top(n))
    by_mse = scales(column, torch.Tensor.numel)
    table["nearest, max", bits] = [accuracy(nearest(column, by_range))]
    table["nearest, MSE", bits] = [accuracy(nearest(column, by_mse))]
    table["AdaRound", bits] = [
        accuracy(adaround_network(column, by_mse, seed)) for seed in range(SEEDS)
    ]
for (name, bits), values in table.items():
    print(f"W{bits} per tensor, {name:13} " + ", ".join(f"{v:.1%}" for v in values))

# %%
fig, ax = plt.subplots(figsize=(5.4, 3))
labels = ["nearest, max", "nearest, MSE", "AdaRound"]
for bits, colour, shift in ((4, plot.CYCLE[0], -0.08), (3, plot.CYCLE[1], 0.08)):
    for x, name in enumerate(labels):
        values = [100 * v for v in table[name, bits]]
        ax.plot(
            [x + shift] * len(values),
            values,
            "o",
            color=colour,
            label=f"W{bits}" if not x else None,
        )
ax.axhline(100 * dense_accuracy, color=plot.COLOURS["baseline"], lw=1, label="fp32")
ax.set_xticks(range(3), labels)
ax.set(ylabel="accuracy, %", ylim=(0, 100), xlim=(-0.4, 2.4))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# *Same grid, same number of bits, same bytes: only the direction of rounding differs. Three points
# for AdaRound: three draws of patches and batches.*
#
# What the hardware does with it: nothing at all, and that is the point. The rounded network is the
# same integers in the same kernel; the cost was paid once, by the person who deploys.
#
# ## 5. Quantization-aware training
#
# What no rounding can repair, training may. The forward pass computes with quantized weights and
# activations, the update goes to an fp32 copy. But rounding has the derivative zero almost
# everywhere. The *straight-through estimator* (Bengio et al., 2013) pretends that it is the
# identity:
#
# $$\frac{\partial \hat x}{\partial x} := \mathbb 1\big[q_\min \le x/S \le q_\max\big].$$


# %%
class FakeQuantize(torch.autograd.Function):
    """Quantize and restore; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx, x, scale, low, high):
        q = x / scale
        ctx.save_for_backward((q >= low) & (q <= high))
        return q.round().clamp(low, high) * scale

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


# %%
x = torch.tensor([-3.0, -0.4, 0.2, 0.76, 2.5], requires_grad=True)
y = FakeQuantize.apply(x, 0.5, -3, 3)
oracle = torch.fake_quantize_per_tensor_affine(x.detach(), 0.5, 0, -3, 3)
assert torch.equal(y.detach(), oracle)
y.sum().backward()
assert x.grad.tolist() == [0, 1, 1, 1, 0]
print(y.tolist(), x.grad.tolist())

# %% [markdown]
# ### What the straight-through estimator hides
#
# Take one weight of the trained network, on a grid of two bits, and move it. The true loss is a
# staircase: its derivative is zero, or infinite. A meaningful one belongs to the loss *on average
# over a random offset* of the grid (dither): it joins the stairs' levels by straight lines, so it
# is a finite difference over one step. The straight-through gradient is something else: the slope
# of the loss at the code, carried over to everything that rounds to it.

# %%
images, labels = datasets.normalize(search.images), search.labels
moving = int(w0.abs().argmax())  # a weight that matters
step0 = float(w0.abs().max())


# %%
def loss_at(value):
    """Loss, and its derivative, with the chosen weight of conv0 set to ``value``."""
    w = w0.clone().requires_grad_()
    moved = torch.where(torch.arange(w.numel()).view_as(w) == moving, w - w0 + value, w)
    loss = F.cross_entropy(network([(moved, b0), *dense[1:]], images), labels)
    (gradient,) = torch.autograd.grad(loss, w)
    return loss.item(), gradient.flatten()[moving].item()


# %%
codes = range(-2, 3)
at_code = [loss_at(k * step0) for k in codes]
between = [loss_at((k + 0.5) * step0)[0] for k in codes[:-1]]
secant = [(b[0] - a[0]) / step0 for a, b in itertools.pairwise(at_code)]
for k, slope in zip(codes, secant, strict=False):
    here, there = (at_code[j + 2][1] for j in (k, k + 1))
    print(
        f"from code {k:2} to {k + 1:2}: mean slope {slope:+.3f}, straight-through {here:+.3f}",
        end="",
    )
    print(f" below the threshold, {there:+.3f} above")

# %%
LOOK = dict(lw=1.8, baseline=None)
stairs, slopes = ([row[side] for row in at_code] for side in (0, 1))
edges = [k - 0.5 for k in codes] + [codes[-1] + 0.5]
fine = sorted(zip([*codes, *(k + 0.5 for k in codes)], [*stairs, *between], strict=False))


# %%
def draw_loss(ax):
    ax.stairs(stairs, edges, color=plot.COLOURS["measured"], label="true: a staircase", **LOOK)
    ax.plot(codes, stairs, "--", color=plot.COLOURS["ours"], label="mean over dither")
    ax.plot(*zip(*fine, strict=True), ":", color=plot.COLOURS["baseline"], label="not quantized")
    ax.set(xlabel="weight / step", ylabel="loss")


# %%
def draw_slopes(ax):
    ax.stairs(slopes, edges, color=plot.COLOURS["memory"], label="straight-through", **LOOK)
    ax.stairs(secant, list(codes), color=plot.COLOURS["ours"], label="mean over dither", **LOOK)
    ax.axhline(0, color=plot.COLOURS["measured"], lw=1, label="true, off the jumps")
    ax.set(xlabel="weight / step", ylabel="derivative")


# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True)
draw_loss(axes[0])
draw_slopes(axes[1])
for ax in axes:
    ax.legend(fontsize=7)
plt.show()

# %% [markdown]
# *Left: the loss along one weight. Right: three derivatives of it. Where orange and green have the
# same sign, the straight-through step goes the right way; where they do not, it climbs. With fine
# steps the two coincide, with coarse ones they need not.*
#
# There is a second trap, at the minimum. Let the best value $t$ lie between two codes. The
# straight-through gradient never vanishes there: below the threshold it pushes up, above it down,
# and the weight oscillates around the *threshold*, however close to a code $t$ is.

# %%
target, w, path = 0.2, 0.9, []
for _ in range(400):
    q = float(round(w))  # steps of 1
    w -= 0.05 * (q - target)  # derivative of (q − t)²/2, straight through
    path.append((w, q))
late = torch.tensor(path[100:])
print(
    f"mean of the weight {late[:, 0].mean():.2f}, mean of its code {late[:, 1].mean():.2f}", end=""
)
print(f", target {target}, changes of code {int((late[1:, 1] != late[:-1, 1]).sum())}")
assert abs(float(late[:, 1].mean()) - target) < 0.05

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.6))
ax.plot([w for w, _ in path[:150]], color=plot.COLOURS["ours"], label="weight")
ax.plot(
    [q for _, q in path[:150]],
    drawstyle="steps-post",
    color=plot.COLOURS["memory"],
    lw=1,
    label="its code",
)
ax.axhline(target, color=plot.COLOURS["baseline"], lw=1, label="best value")
ax.axhline(0.5, color=plot.COLOURS["measured"], ls=":", lw=1, label="threshold")
ax.set(xlabel="update", ylabel="steps")
ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# *The code is right on average and wrong at any moment. What is deployed is the last moment. A
# learning rate that decays to zero stops the oscillation at a random phase; Nagel et al. (ICML
# 2022) damp it or freeze weights that oscillate.*
#
# ### LSQ: learn the step too
#
# LSQ (Esser et al., ICLR 2020) trains the scale $S$ with the weights. Write $\hat v = S\cdot
# \text{round}(\text{clamp}(v/S, -Q_N, Q_P))$ and let only the rounding be straight-through; then
#
# $$\frac{\partial \hat v}{\partial S} = \begin{cases}-v/S + \text{round}(v/S) & -Q_N < v/S < Q_P\\
# -Q_N & v/S\le -Q_N\\ Q_P & v/S\ge Q_P,\end{cases}$$
#
# and this gradient is multiplied by $1/\sqrt{N Q_P}$ so that scales learn at the pace of weights.
# In code nobody writes the cases: autograd finds them in the surrogate.


# %%
def straight(x, value):
    """``value``, with the gradient of ``x``."""
    return x + (value - x).detach()


# %%
def lsq(v, scale, low, high, count):
    """Quantized ``v``; ``count``: how many values share a scale."""
    gain = 1 / math.sqrt(count * high)
    scale = straight(gain * scale, scale)  # the value of the scale, a gradient times the gain
    u = (v / scale).clamp(low, high)
    return straight(u, u.round()) * scale


# %%
v = torch.randn(24, dtype=torch.float64)
s = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
cases = torch.where(v / s <= -3, -3.0, torch.where(v / s >= 3, 3.0, (v / s).round() - v / s))
upstream = torch.randn(24, dtype=torch.float64)
(own,) = torch.autograd.grad((lsq(v, s, -3, 3, 24) * upstream).sum(), s)
torch.testing.assert_close(own, (cases * upstream).sum().detach() / math.sqrt(24 * 3))

# %% [markdown]
# ### Post-training against training, at equal bits
#
# Weights per channel and activations per tensor, at two and at four bits; the first and the last
# layer have eight, as in LSQ's paper. Every method starts from the same scales (least squared
# error). Training: a short pass over a few thousand images, fp32 weights as the start. *STE* keeps
# the scales, *LSQ* learns them.


# %%
def mixed(bits):
    return [8, *[bits] * (LAYERS - 2), 8]


# %%
def start_scales(bits):
    """Scales of weights (columns) and of activations, and the activations' quantizer."""
    ws = scales(mixed(bits), lambda w: w[0].numel())
    ts = [least_squares(i, n) for i, n in enumerate(mixed(bits))]
    return ws, [t / (2**n - 1) for t, n in zip(ts, mixed(bits), strict=True)]


# %%
def fixed_act(steps, bits):
    """An ``act`` with these steps for every input but the image."""

    def act(i, x):
        high = 2 ** mixed(bits)[i] - 1
        return FakeQuantize.apply(x, steps[i], 0, high) if i else x

    return act


# %%
def batch_loss(forward, seed, size=32):
    """A loss for ``descend``: a random augmented batch through ``forward``."""
    draw = torch.Generator().manual_seed(seed)

    def loss(_):
        i = torch.randint(len(train), (size,), generator=draw)
        x = training.augment(train.images[i], draw, crop=4, flip=dataset == "cifar10")
        return F.cross_entropy(forward(datasets.normalize(x)), train.labels[i])

    return loss


# %%
class QuantizedNetwork:
    """Trainable weights and biases behind quantizers; the scales too if ``learn``."""

    def __init__(self, bits, learn):
        ws, xs = start_scales(bits)
        self.bits, self.learn = mixed(bits), learn
        self.weights = [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in dense]
        self.ws = [s.view(-1, *[1] * (w.ndim - 1)) for s, (w, _) in zip(ws, dense, strict=True)]
        self.xs = [torch.tensor(s) for s in xs]
        for s in [*self.ws, *self.xs]:
            s.requires_grad_(learn)

    def parameters(self):
        trained = [t for pair in self.weights for t in pair]
        return [*trained, *self.ws, *self.xs[1:]] if self.learn else trained


# %%
def quantizer(net, v, scale, low, high, count):
    """LSQ where scales are learned, else fake quantization."""
    if net.learn:
        return lsq(v, scale, low, high, count)
    return FakeQuantize.apply(v, scale, low, high)


# %%
def inside(net):
    """(params, act) of a QuantizedNetwork, for ``network`` and ``accuracy``."""
    params = [
        (quantizer(net, w, s, -top(n), top(n), w[0].numel()), b)
        for (w, b), s, n in zip(net.weights, net.ws, net.bits, strict=True)
    ]

    def act(i, x):
        high = 2 ** net.bits[i] - 1
        return quantizer(net, x, net.xs[i], 0, high, x[0].numel()) if i else x

    return params, act


# %%
def qat(bits, learn, seed):
    """Accuracy after a short training."""
    net = QuantizedNetwork(bits, learn)

    def forward(x):
        params, act = inside(net)
        return network(params, x, act)

    descend(net.parameters(), batch_loss(forward, seed), QAT_IMAGES // 32, lr=3e-4)
    with torch.no_grad():
        params, act = inside(net)
        return accuracy(params, act)


# %%
equal_bits = {}
for bits in (4, 2):
    ws, xs = start_scales(bits)
    act = fixed_act(xs, bits)
    equal_bits["nearest", bits] = [accuracy(nearest(mixed(bits), ws), act)]
    equal_bits["AdaRound", bits] = [accuracy(adaround_network(mixed(bits), ws, 0, act), act)]
equal_bits["LSQ", 4] = [qat(4, True, 0)]
for name, learn in (("STE", False), ("LSQ", True)):
    equal_bits[name, 2] = [qat(2, learn, seed) for seed in range(QAT_SEEDS)]
for (name, bits), values in equal_bits.items():
    print(f"W{bits}A{bits} {name:9} " + ", ".join(f"{v:.1%}" for v in values))

# %%
fig, ax = plt.subplots(figsize=(5.4, 3))
order = ["nearest", "AdaRound", "STE", "LSQ"]
for bits, colour, shift in ((4, plot.CYCLE[0], -0.08), (2, plot.CYCLE[1], 0.08)):
    for x, name in enumerate(order):
        values = [100 * v for v in equal_bits.get((name, bits), [])]
        label = f"W{bits}A{bits}" if not x else None
        ax.plot([x + shift] * len(values), values, "o", color=colour, label=label)
ax.axhline(100 * dense_accuracy, color=plot.COLOURS["baseline"], lw=1, label="fp32")
ax.axvline(1.5, color=plot.COLOURS["measured"], lw=0.6)
ax.set_xticks(range(4), ["nearest", "AdaRound", "QAT, STE", "QAT, LSQ"])
ax.set(ylabel="accuracy, %", ylim=(0, 100), xlim=(-0.4, 3.4))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# *Left of the line nothing was trained and no label seen; right of it, a few thousand labelled
# images. What a colour loses between fp32 and the left half is what training could win back.*
#
# What the hardware does with it: two-bit operands save bytes everywhere, but a CPU's narrowest
# multiplier is eight bits wide, so W2A2 runs as int8 after unpacking. There is one exception.
#
# ## 6. One bit: binary and ternary weights
#
# With one bit a product is not a multiplication any more. For $a, b\in\{-1,+1\}$ stored as bits (1
# for $+1$), $ab=+1$ exactly where the bits agree:
#
# $$a^\top b = K - 2\,\text{popcount}(a \oplus b).$$
#
# **BinaryConnect** (Courbariaux et al., 2015) trains with $\text{sign}(w)$ forward and
# straight-through updates of fp32 weights (which it also clips to $[-1,1]$). **XNOR-Net**
# (Rastegari et al., ECCV 2016) gives every channel a scale, chosen for the least $\lVert w-\alpha
# b\rVert^2$:
#
# $$b = \text{sign}(w),\qquad \alpha = \tfrac1n\textstyle\sum|w_i|.$$
#
# The oracle: twelve weights, all sign patterns, each with its own best scale $b^\top w/n$.

# %%
w12 = torch.randn(12)
signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=12)))
alpha = signs @ w12 / 12
costs = (w12 - alpha[:, None] * signs).pow(2).sum(1)
best = costs.argmin()  # of two: a pattern and its negative
assert torch.equal(signs[best] * alpha[best].sign(), w12.sign())
torch.testing.assert_close(alpha[best].abs(), w12.abs().mean())

# %% [markdown]
# **Ternary** weights add zero. For a threshold $\Delta$ with $I=\{i:|w_i|>\Delta\}$ the best scale
# is the mean of $|w_i|$ over $I$, and the least error belongs to
#
# $$\max_\Delta\ \frac1{|I|}\Big(\sum_{i\in I}|w_i|\Big)^2.$$
#
# Sorting gives the exact answer; TWN (Li and Liu, 2016) uses $\Delta = 0.7\,\overline{|w|}$
# instead, which needs no sorting in every training step.


# %%
def ternary(w, threshold):
    """Rows with values −α, 0, α: zero up to ``threshold`` ``[rows, 1]``."""
    kept = (w.abs() > threshold).float()
    alpha = (w.abs() * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
    return w.sign() * kept * alpha


# %%
def exact_threshold(w):
    """The best threshold ``[rows, 1]`` of each row, by trying every size of I."""
    ordered = w.abs().sort(1, descending=True).values
    gain = ordered.cumsum(1) ** 2 / torch.arange(1, w.shape[1] + 1)
    size = gain.argmax(1, keepdim=True)
    below = F.pad(ordered, (0, 1)).gather(1, size + 1)
    return (ordered.gather(1, size) + below) / 2


# %%
patterns = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=8)))[:, None]
w8 = torch.randn(1, 8)
scale = (patterns * w8).sum(-1) / patterns.abs().sum(-1).clamp(min=1)
least = (w8 - scale[..., None] * patterns).pow(2).sum(-1).min()
exact = ternary(w8, exact_threshold(w8))
torch.testing.assert_close((exact - w8).pow(2).sum(), least)

# %%
for i in (1, 5):
    w = dense[i][0].flatten(1)
    approximate = ternary(w, 0.7 * w.abs().mean(1, keepdim=True))
    alpha = w.abs().mean(1, keepdim=True)
    kinds = {"binary": alpha * w.sign(), "0.7 rule": approximate}
    kinds["exact"] = ternary(w, exact_threshold(w))
    shares = [f"{name} {(w - v).pow(2).sum() / w.pow(2).sum():.1%}" for name, v in kinds.items()]
    print(f"{NAMES[i]}, error / squared norm: {', '.join(shares)}")

# %% [markdown]
# TTQ (Zhu et al., ICLR 2017) goes one step further and trains two scales a layer, $W_p$ for
# positive and $W_n$ for negative weights. Four kinds of weights, as parametrizations of the
# convolutions between the first and the last layer, which stay fp32:


# %%
class BinaryConnect(nn.Module):
    """sign(w); batch norm takes care of the scale."""

    def forward(self, w):
        return straight(w, torch.where(w >= 0, 1.0, -1.0))


# %%
class BinaryWeight(nn.Module):
    """α sign(w) for each output channel, as in XNOR-Net."""

    def forward(self, w):
        alpha = w.abs().mean((1, 2, 3), keepdim=True)
        return straight(w, torch.where(w >= 0, alpha, -alpha))


# %%
class TernaryWeight(nn.Module):
    """TWN, a scale and threshold for each output channel."""

    def forward(self, w):
        rows = w.flatten(1)
        return straight(w, ternary(rows, 0.7 * rows.abs().mean(1, keepdim=True)).view_as(w))


# %%
class TrainedTernary(nn.Module):
    """TTQ: ±1 and 0, and two trained scales a layer; weights see their own scale as gradient."""

    def __init__(self, w):
        super().__init__()
        start = ternary(w.detach().reshape(1, -1), 0.7 * w.detach().abs().mean().view(1, 1)).max()
        self.positive, self.negative = (nn.Parameter(start.clone()) for _ in range(2))

    def forward(self, w):
        delta = 0.7 * w.detach().abs().mean()
        scale = torch.where(w > delta, self.positive, self.negative)
        scale = torch.where(w.abs() > delta, scale, 0.0)
        slope = torch.where(w.abs() > delta, scale, 1.0).detach()
        return w.sign() * scale + slope * (w - w.detach())


# %%
w = torch.randn(4, 2, 3, 3, requires_grad=True)
ttq = TrainedTernary(w)
ttq(w).sum().backward()
delta = 0.7 * w.detach().abs().mean()
assert float(ttq.positive.grad) == float((w > delta).sum())  # each sums its own weights' gradients
assert float(ttq.negative.grad) == -float((w < -delta).sum())

# %% [markdown]
# The fifth network is XNOR-Net proper: binary weights *and* binary activations,
# $\text{sign}(\text{BN}(\cdot))$ in place of ReLU, with a gradient where $|x|\le1$.


# %%
class SignActivation(nn.Module):
    def forward(self, x):
        return straight(x.clamp(-1, 1), torch.where(x >= 0, 1.0, -1.0))


# %%
def low_bit(kind, sign=False):
    """The reference CNN with parametrized middle layers, ready to be trained."""
    model = copy.deepcopy(original).train()
    for i in range(1, len(dense) - 1):
        conv = model.features.get_submodule(f"conv{i}")
        made = kind(conv.weight) if kind is TrainedTernary else kind()
        parametrize.register_parametrization(conv, "weight", made)
        if sign:
            setattr(model.features, f"relu{i - 1}", SignActivation())
    return model


# %%
KINDS = {
    "BinaryConnect": (BinaryConnect, False),
    "binary, α": (BinaryWeight, False),
    "TWN": (TernaryWeight, False),
    "TTQ": (TrainedTernary, False),
    "XNOR": (BinaryWeight, True),
}
one_bit = {}
for name, (kind, sign) in KINDS.items():
    torch.manual_seed(0)
    model = low_bit(kind, sign)
    descend(model.parameters(), batch_loss(model, 0), BINARY_IMAGES // 32, lr=1e-3)
    one_bit[name] = training.evaluate(model, report)

# %% [markdown]
# Bytes of the six middle layers, counted: one bit a binary weight, $\log_2 3\approx1.58$ bits (two
# in practice) a ternary one, and fp32 scales.

# %%
middle = dense[1:-1]
size, channels = (sum(f(w) for w, _ in middle) for f in (torch.Tensor.numel, len))
stored = {"fp32": 4 * size, "BinaryConnect": size / 8, "binary, α": size / 8 + 4 * channels}
stored |= {"TWN": size / 4 + 4 * channels, "TTQ": size / 4 + 8 * len(middle)}
stored["XNOR"] = stored["binary, α"]
for name, value in {"fp32": dense_accuracy, **one_bit}.items():
    print(
        f"{name:14} {value:6.1%}, {stored[name] / 1e3:8,.1f} kB, "
        f"{stored['fp32'] / stored[name]:4.1f}×"
    )

# %% [markdown]
# Binary *weights* and binary *activations* are two prices: compare the rows "binary, α" and
# "XNOR", which differ in nothing but the activations. The bytes are saved by the first alone.
# XNOR-Net's authors trained far longer, and kept the first and last layer in fp32 too. What do
# binary activations buy? Sixty-four products in one instruction.
#
# ### The popcount kernel
#
# A product of $[M,K]$ and $[N,K]$, both binary and packed into 64-bit words. In fp32 there are two
# baselines, compiled with the same flags: the plain loop, and one that keeps a tile of sums in
# registers.

# %%
FP32 = r"""
void fp32_plain(const float *a, const float *b, float *c, int m, int n, int k) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      float sum = 0;
      for (int p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
      c[i * n + j] = sum;
    }
}
"""

# %%
TILED = r"""
#ifdef __AVX512F__
#define W 16
#else
#define W 8
#endif
typedef float vec __attribute__((vector_size(4 * W), aligned(4)));
void fp32_tiled(const float *a, const float *b, float *c, int m, int n, int k) {
  for (int j = 0; j < n; j += 2 * W)  // b is [k][n] here
    for (int i = 0; i < m; i += 4) {
      vec s[4][2] = {0};
      for (int p = 0; p < k; p++) {
        const vec *row = (const vec *)(b + p * n + j);
        for (int r = 0; r < 4; r++)
          for (int h = 0; h < 2; h++) s[r][h] += a[(i + r) * k + p] * row[h];
      }
      for (int r = 0; r < 4; r++)
        for (int h = 0; h < 2; h++) *(vec *)(c + (i + r) * n + j + h * W) = s[r][h];
    }
}"""

# %% [markdown]
# Binary, three ways: the scalar `popcnt` of one word after the other; the same loop, which the
# compiler may vectorize (integer sums may be reordered, float sums may not: that is why
# `fp32_plain` stays scalar); and by hand for AVX2.

# %%
XNOR = r"""
#include <stdint.h>
#define PRODUCT(name, pragma)                                                            \
  void name(const uint64_t *a, const uint64_t *b, int32_t *c, int m, int n, int words, int k) { \
    for (int i = 0; i < m; i++)                                                          \
      for (int j = 0; j < n; j++) {                                                      \
        int64_t ones = 0;                                                                \
        _Pragma(pragma) for (int w = 0; w < words; w++)                                  \
          ones += __builtin_popcountll(a[i * words + w] ^ b[j * words + w]);             \
        c[i * n + j] = k - 2 * (int)ones;                                                \
      }                                                                                  \
  }
PRODUCT(xnor_scalar, "clang loop vectorize(disable)")
PRODUCT(xnor_compiler, "clang loop vectorize(enable)")
"""

# %% [markdown]
# AVX2 has no vector popcount. The known way round it (Muła et al., 2018) looks up the count of
# each half byte in a table of 16 with a byte shuffle: two `and`, one shift, two shuffles and one
# addition for 256 bits, besides the `xor` and the summing up. AVX-512 has the instruction in an
# extension (VPOPCNTDQ), NEON for bytes (`cnt`).

# %%
LOOKUP = r"""
#ifdef __AVX2__
#include <immintrin.h>
static inline __m256i counts_of_bytes(__m256i v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  __m256i upper = _mm256_and_si256(_mm256_srli_epi32(v, 4), low);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
                         _mm256_shuffle_epi8(table, upper));
}
static inline __m256i load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
"""

# %%
LOOKUP_LOOP = r"""
void xnor_lookup(const uint64_t *a, const uint64_t *b, int32_t *c, int m, int n, int words, int k) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j += 4) {
      __m256i total[4] = {0};
      for (int w = 0; w < words; w += 4) {
        __m256i x = load(a + i * words + w), zero = _mm256_setzero_si256();
        for (int q = 0; q < 4; q++) {
          __m256i bits = _mm256_xor_si256(x, load(b + (j + q) * words + w));
          __m256i sums = _mm256_sad_epu8(counts_of_bytes(bits), zero);  // 4 sums of 8 bytes
          total[q] = _mm256_add_epi64(total[q], sums);
        }
      }
      for (int q = 0; q < 4; q++)
        c[i * n + j + q] = k - 2 * (int)(total[q][0] + total[q][1] + total[q][2] + total[q][3]);
    }
}
#endif"""

# %%
PACK = r"""
void pack(const float *x, uint64_t *out, int words) {
  for (int i = 0; i < words; i++) {
    uint64_t word = 0;
    for (int bit = 0; bit < 64; bit++) word |= (uint64_t)(x[i * 64 + bit] > 0) << bit;
    out[i] = word;
  }
}
void int8_product(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j += 4) {
      int32_t s[4] = {0};
      for (int p = 0; p < k; p++)
        for (int q = 0; q < 4; q++) s[q] += a[i * k + p] * b[(j + q) * k + p];
      for (int q = 0; q < 4; q++) c[i * n + j + q] = s[q];
    }
}"""

# %%
library = native.build(FP32 + TILED + XNOR + LOOKUP + LOOKUP_LOOP + PACK)
cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
FLAGS = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_vpopcntdq") if flag in cpuinfo]
print(f"{measure.machine()}: {', '.join(FLAGS) or 'unknown extensions'}")


# %%
def packed(x):
    """Bits of ``x > 0`` ``[rows, K]`` as int64 words, zeros up to 256 bits: they add nothing."""
    bits = np.pad((x > 0).numpy(), ((0, 0), (0, -x.shape[1] % 256)))
    return torch.from_numpy(np.packbits(bits, 1, bitorder="little").view(np.int64).copy())


# %%
def signs_of(*shape):
    return torch.randint(0, 2, shape).mul(2).sub(1).float()


# %%
def integer_session(weight):
    """ONNX Runtime's (x − 128)·weight, uint8 by int8, one thread; a constant ``[K, M]``."""
    node = onnx.helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])
    info, tensor = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    x = info("x", onnx.TensorProto.UINT8, ["n", weight.shape[0]])
    y = info("y", onnx.TensorProto.INT32, ["n", weight.shape[1]])
    constants = [tensor(weight.numpy(), "w"), tensor(np.array(128, np.uint8), "z")]
    graph = onnx.helper.make_graph([node], "product", [x], [y], constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


# %%
XNORS = ["xnor_scalar", "xnor_compiler", *(["xnor_lookup"] if "avx2" in FLAGS else [])]


# %%
def candidates(a, b):
    """Name → (call, what it leaves behind), for ±1 matrices ``[m, k]`` and ``[n, k]``."""
    (m, k), n = a.shape, len(b)
    bits, words = (packed(a), packed(b)), -(-k // 256) * 4
    a8, b8, t = a.to(torch.int8), b.to(torch.int8), b.T.contiguous()
    out = {name: torch.zeros(m, n) for name in ("fp32_plain", "fp32_tiled", "torch fp32")}
    out |= {name: torch.zeros(m, n, dtype=torch.int32) for name in ["int8_product", *XNORS]}
    calls = {x: lambda x=x: getattr(library, x)(*bits, out[x], m, n, words, k) for x in XNORS}
    calls["fp32_plain"] = lambda: library.fp32_plain(a, b, out["fp32_plain"], m, n, k)
    calls["fp32_tiled"] = lambda: library.fp32_tiled(a, t, out["fp32_tiled"], m, n, k)
    calls["torch fp32"] = lambda: torch.mm(a, t, out=out["torch fp32"])
    calls["int8_product"] = lambda: library.int8_product(a8, b8, out["int8_product"], m, n, k)
    return {name: (calls[name], out[name]) for name in calls}


# %%
def checked(m, n, k):
    """Calls that all compute the same product, each compared with it bit by bit."""
    a, b = signs_of(m, k), signs_of(n, k)
    exact = (a @ b.T).int()  # sums of ±1 are exact in fp32
    calls = {}
    for name, (call, out) in candidates(a, b).items():
        call()
        assert torch.equal(out.int(), exact), name
        calls[name] = call
    session = integer_session(a.T.to(torch.int8).contiguous())
    feed = {"x": (b + 128).to(torch.uint8).numpy()}
    calls["ONNX Runtime int8"] = lambda: session.run(None, feed)[0]
    assert np.array_equal(calls["ONNX Runtime int8"]().T, exact.numpy())
    return calls


# %%
SHAPES = {"conv5, one image": (128, 64, 1152), "256 channels, 16×16": (256, 256, 2304)}
kernel_times = {}
for name, shape in SHAPES.items():
    calls = checked(*shape)
    pixels = torch.randn(shape[1], shape[2] // 9)  # each pixel is packed once and used nine times
    words = torch.zeros(pixels.numel() // 64, dtype=torch.int64)
    calls["pack activations"] = lambda p=pixels, w=words: library.pack(p, w, w.numel())
    calls["pack activations"]()
    assert torch.equal(words, packed(pixels.view(-1, 64).repeat(1, 4))[:, 0])
    kernel_times[name] = measure.latency(calls, rounds=ROUNDS)

# %%
for name, times in kernel_times.items():
    macs = math.prod(SHAPES[name])
    print(
        f"{name}: {macs / 1e6:.1f} million MACs; packing its activations takes "
        f"{times.ratio('pack activations', 'xnor_compiler').median:.0%} of xnor_compiler"
    )
    for call in [call for call in times.samples_s if "pack" not in call]:
        t = times[call].median
        over = [times.ratio(base, call).median for base in ("fp32_tiled", "fp32_plain")]
        print(f"  {call:18} {t * 1e6:8.0f} µs {macs / t / 1e9:6.0f} GMAC/s", end=", ")
        print(f"{over[0]:6.3g}× tiled, {over[1]:5.3g}× plain")

# %%
order = ["fp32_plain", "fp32_tiled", "torch fp32", "int8_product", "ONNX Runtime int8"]
order += XNORS
fig, ax = plt.subplots(figsize=(7, 3.4))
for (name, times), colour, side in zip(kernel_times.items(), plot.CYCLE, (-0.2, 0.2), strict=False):
    rates = [math.prod(SHAPES[name]) / times[call].median / 1e9 for call in order]
    drawn = ax.barh([i + side for i in range(len(order))], rates, 0.38, color=colour, label=name)
    ax.bar_label(drawn, fmt="%.0f", fontsize=7, padding=2)
ax.set_yticks(range(len(order)), order)
ax.invert_yaxis()
ax.set(xscale="log", xlim=(0.3, 4000), xlabel="billion MACs a second, one thread")
ax.grid(axis="y", visible=False)
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# *The same product, computed exactly by all. How much faster one bit is depends on the bar it is
# compared with: the plain loop, which leaves the vector units idle; fp32 that uses them; or int8
# that uses them too.*
#
# **Estimate beside measurement.** XNOR-Net counts 64 binary operations for one of a CPU's clock
# cycles, against one multiplication. A vector unit does not multiply once a cycle. Per instruction
# that computes (not loads):

# %%
width = 16 if "avx512f" in FLAGS else 8
ESTIMATE = {"fp32, one number": 1, "fp32, vector multiply-add": width}
if "avx512_vnni" in FLAGS:
    ESTIMATE["int8, vector multiply-add (VNNI)"] = 4 * width
ESTIMATE["xor, popcnt, add of 64 bits"] = 64 / 3
ESTIMATE["256 bits by table: 9 instructions"] = 256 / 9
if "avx512_vpopcntdq" in FLAGS:
    ESTIMATE["xor, popcnt, add of 512 bits"] = 512 / 3
for name, macs in ESTIMATE.items():
    print(f"{name:34} {macs:6.1f} MACs an instruction, {macs / width:5.1f}× the vector fp32")

# %% [markdown]
# So 58 is a ratio to arithmetic one number at a time. Against vectors the honest promise is a
# single digit where popcount is scalar or by table, and more only where the processor has a vector
# popcount. What is measured also depends on memory: bits are 32 times smaller, so the operands of
# a large product stay in a nearer cache. Against it count binarizing and packing the activations
# (timed above), the scales, and the first and last layers, which stay as they are.
#
# ## 7. Mixed precision: where to spend the bytes
#
# Layers differ in size and in sensitivity, so one number of bits for all is wasteful. The problem
#
# $$\min_{b_1,\dots,b_L} L(b_1,\dots,b_L)\quad\text{subject to}\quad
# \sum_l \text{bytes}_l(b_l)\le B$$
#
# is that of Lecture 4 with bits in place of channels, and HAQ (Wang et al., CVPR 2019) solves it
# as AMC did there: an agent, a reward after the last layer, and bits lowered until the budget
# holds. Here only weights are searched, to nearest, with one scale a tensor (the setting in which
# three bits hurt in section 4), within the bytes of three bits everywhere.

# %%
CHOICES = (2, 3, 4, 5, 6, 8)
by_bits = {b: nearest([b] * LAYERS, scales([b] * LAYERS, torch.Tensor.numel)) for b in CHOICES}
options = [{b: by_bits[b][i][0] for b in CHOICES} for i in range(LAYERS)]
cost_bytes = [{b: (w.numel() * b + 7) // 8 + 2 for b in CHOICES} for w, _ in dense]


# %%
def size_of(bits):
    return sum(cost_bytes[i][b] for i, b in enumerate(bits))


# %%
def with_bits(bits):
    return [(options[i][b], dense[i][1]) for i, b in enumerate(bits)]


# %%
searched = inputs_of(dense, datasets.normalize(search.images))


# %%
@torch.no_grad()
def search_loss(params, start=0):
    logits = network(params, searched[start], start=start)
    return float(F.cross_entropy(logits, search.labels))


# %% [markdown]
# **Sensitivity**: quantize one layer, leave the others fp32, measure how much the loss rises.

# %%
base_loss = search_loss(dense)
rise = [
    {
        b: search_loss([*dense[:i], (options[i][b], dense[i][1]), *dense[i + 1 :]], i) - base_loss
        for b in CHOICES
    }
    for i in range(LAYERS)
]
print("bits:      " + "".join(f"{b:8}" for b in CHOICES) + "   params")
for name, row, (w, _) in zip(NAMES, rise, dense, strict=True):
    print(f"{name:11}" + "".join(f"{v:+8.3f}" for v in row.values()) + f"{w.numel():9,}")

# %% [markdown]
# **Greedy**: start at two bits everywhere; while a step fits, raise the layer that gains most loss
# per byte. **Exact**: if rises simply added up, this would be a knapsack, and dynamic programming
# over layers, keeping for every number of bytes the least sum, finds the optimum of that proxy.

# %%
budget = size_of([3] * LAYERS)


# %%
def greedy():
    bits = [2] * LAYERS
    while True:
        steps = []
        for i, b in enumerate(bits):
            for more in (c for c in CHOICES if c > b):
                extra = cost_bytes[i][more] - cost_bytes[i][b]
                if size_of(bits) + extra <= budget:
                    steps.append(((rise[i][b] - rise[i][more]) / extra, i, more))
        if not steps or max(steps)[0] <= 0:
            return tuple(bits)
        _, i, more = max(steps)
        bits[i] = more


# %%
def knapsack():
    """The least sum of rises within the budget, exactly: (sum, bits)."""
    best = {0: (0.0, ())}
    for row, sizes in zip(rise, cost_bytes, strict=True):
        following = {}
        for (used, (total, bits)), b in itertools.product(best.items(), CHOICES):
            size = used + sizes[b]
            if size <= budget and (size not in following or total + row[b] < following[size][0]):
                following[size] = total + row[b], (*bits, b)
        best = following
    return min(best.values())


# %%
every = np.array(list(itertools.product(range(len(CHOICES)), repeat=LAYERS)))
sums = sum(np.array(list(rise[i].values()))[every[:, i]] for i in range(LAYERS))
sizes = sum(np.array(list(cost_bytes[i].values()))[every[:, i]] for i in range(LAYERS))
by_sum, exact_bits = knapsack()
assert abs(by_sum - sums[sizes <= budget].min()) < 1e-9  # all of them, tried
print(f"{len(every):,} networks, {(sizes <= budget).mean():.1%} of them within {budget:,} bytes")

# %% [markdown]
# **Search on the network itself**, because rises do not simply add up. A cross-entropy search:
# draw bits from a distribution for each layer, lower the layer that is least sensitive per byte
# until the budget holds, measure, and move the distribution towards the best quarter.


# %%
def into_budget(bits):
    """Lower bits, the cheapest loss by the sensitivity table first, until the bytes fit."""
    bits = list(bits)
    while size_of(bits) > budget:
        moves = []
        for i, b in enumerate(bits):
            if b > CHOICES[0]:
                less = max(c for c in CHOICES if c < b)
                freed = cost_bytes[i][b] - cost_bytes[i][less]
                moves.append(((rise[i][less] - rise[i][b]) / freed, i, less))
        _, i, less = min(moves)
        bits[i] = less
    return tuple(bits)


# %%
def cross_entropy_search(seed, generations=4):
    """(loss on the search images, bits) of every network that was tried."""
    draw, seen_bits = np.random.default_rng(seed), {}
    chance = np.full((LAYERS, len(CHOICES)), 1 / len(CHOICES))
    for _ in range(generations):
        for _ in range(EVALUATIONS // generations):
            bits = into_budget(CHOICES[draw.choice(len(CHOICES), p=p)] for p in chance)
            seen_bits[bits] = seen_bits.get(bits) or search_loss(with_bits(bits))
        best = sorted(seen_bits, key=seen_bits.get)[: EVALUATIONS // generations // 4 + 1]
        hits = np.array(
            [[np.mean([b[i] == c for b in best]) for c in CHOICES] for i in range(LAYERS)]
        )
        chance = 0.3 * chance + 0.7 * (0.9 * hits + 0.1 / len(CHOICES))
    return [(loss, bits) for bits, loss in seen_bits.items()]


# %%
runs = [cross_entropy_search(seed) for seed in range(SEEDS)]
allocations = {"uniform 3": (3,) * LAYERS, "greedy": greedy(), "knapsack": exact_bits}
allocations |= {f"search {seed}": min(run)[1] for seed, run in enumerate(runs)}
allocations["uniform 4"] = (4,) * LAYERS
mixed_accuracy = {name: accuracy(with_bits(bits)) for name, bits in allocations.items()}
mixed_rise = {name: search_loss(with_bits(b)) - base_loss for name, b in allocations.items()}
for name, bits in allocations.items():
    total = sum(rise[i][b] for i, b in enumerate(bits))
    print(f"{name:9} {bits} {size_of(bits):,} bytes, sum of rises {total:+.3f}", end=", ")
    print(f"measured {mixed_rise[name]:+.3f}, accuracy {mixed_accuracy[name]:.1%}")


# %%
def proxy(bits):
    """What the loss would rise by if rises added up."""
    return sum(rise[i][b] for i, b in enumerate(bits))


# %%
MARKED = ["uniform 3", "greedy", "knapsack", "search"]
LOOKS = dict(zip(MARKED, zip("sDP*", plot.CYCLE[:4], strict=True), strict=True))
search_rise = {bits: mixed_rise[name] for name, bits in allocations.items()}

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
cloud = [(proxy(bits), loss - base_loss) for run in runs for loss, bits in run]
left.plot(*zip(*cloud, strict=True), "o", color=plot.CYCLE[5], label="tried by the search")
for name, (marker, colour) in LOOKS.items():
    for bits in [bits for other, bits in allocations.items() if other.startswith(name)]:
        left.plot(proxy(bits), search_rise[bits], marker, color=colour, ms=8, zorder=3)
        right.plot(bits, marker + "-", color=colour, alpha=0.8)
    left.plot([], [], marker, color=colour, label=name)
ends = [0, max(total for total, _ in cloud)]
left.plot(ends, ends, color=plot.COLOURS["baseline"], lw=1, label="rises add up")
left.set(xlabel="sum of the layers' own rises", ylabel="rise of the loss, measured")
right.set_xticks(range(LAYERS), NAMES, rotation=35, fontsize=7)
right.set(ylabel="bits", yticks=CHOICES)
left.legend(fontsize=7)
plt.show()

# %% [markdown]
# *Left: every network within the budget that was looked at. On the grey line the proxy would be
# exact; the further above it, the more the layers' errors amplify each other. The knapsack's point
# is the leftmost that exists. Right: who got the bits.*
#
# What the hardware does with it: fewer bytes to load, if the format can be unpacked fast enough;
# time only where multipliers of several widths exist (HAQ's latencies come from models of such
# accelerators). On this CPU all widths up to eight compute alike, so a *latency* budget would see
# no difference and the search would return eight bits everywhere.
#
# ## 8. Limits
#
# - One small CNN on small images. Transformers have outliers in activations that change the picture
#   of section 2 (Lecture 13).
# - Differences of a few tenths of a point are within the noise of the reported images, and most
#   comparisons ran once. Where seeds are shown, they vary the draws, not the network.
# - The depthwise network's unequal channels were made, exactly but by hand; how unequal published
#   ones are is cited, not measured.
# - Trainings last seconds. QAT, binary and ternary results are what such a budget gives, not what
#   the methods can do.
# - Weights and activations are quantized and restored in floating point here. That this equals the
#   integer network of Lecture 5 is shown there; Lab 2 builds it.
# - XNOR-Net also scales each activation patch by its mean magnitude; here batch norm has to do.
# - The search in section 7 does not fine-tune; HAQ does, for an epoch each time.
#
# ## 9. Claims

# %%
on = f"reference VGG, {dataset}, {len(report)} validation images"


# %%
def points(value, reference=dense_accuracy):
    """Difference in percentage points, signed."""
    return f"{100 * (value - reference):+.1f}"


# %%
def spread(values, reference=dense_accuracy):
    return f"{points(min(values), reference)} to {points(max(values), reference)}"


# %%
ada_claim = plot.Claim(
    claim="AdaRound quantizes weights to 4 bits without fine-tuning",
    paper="within 1 % of fp32, ResNet18 and ResNet50 on ImageNet",
    source="Nagel et al., ICML 2020, abstract",
    measured=f"W4 per tensor {spread(table['AdaRound', 4])} points ({SEEDS} seeds), nearest "
    f"{points(table['nearest, max', 4][0])}; W3 {spread(table['AdaRound', 3])}, nearest "
    f"{points(table['nearest, max', 3][0])} (MSE scales {points(table['nearest, MSE', 3][0])})",
    on=on,
    why="a small network that loses less at four bits, and one scale a tensor, the harder setting",
)
at4 = {name: points(values[4], fp32 / 100) for name, values in rescue.items()}
depthwise_claim = plot.Claim(
    claim="per-channel weights rescue depthwise networks in int8",
    paper="within 2 % of fp32 for a wide variety of CNNs, activations per layer",
    source="Krishnamoorthi, arXiv:1806.08342, 2018, abstract",
    measured=f"kernels within 2^±4: per tensor {at4['tensor']} points, "
    f"per channel {at4['channel']}",
    on=f"three depthwise-separable blocks on the reference stem, {dataset}, weights only",
    why="unequal kernels were made by an exact rescaling; ImageNet networks have them by training",
)

# %%
dfq_claim = plot.Claim(
    claim="equalization makes per-tensor int8 work without data",
    paper="near-original performance of the MobileNet family",
    source="Nagel et al., ICCV 2019, abstract",
    measured=f"same network: {at4['equalized, tensor']} points per tensor; reference VGG at W4 per "
    f"tensor: nearest {points(repaired['nearest', 4])}, equalized "
    f"{points(repaired['equalization', 4])}, with bias correction {points(repaired['both', 4])}",
    on=on,
    why="our factors lie exactly where equalization can take them back; no ReLU6, weights only",
)
lsq_claim = plot.Claim(
    claim="learned step sizes reach full precision at three bits",
    paper="3-bit models that reach full-precision accuracy, ImageNet",
    source="Esser et al., ICLR 2020, abstract",
    measured=f"W2A2: LSQ {spread(equal_bits['LSQ', 2])} points, fixed steps "
    f"{spread(equal_bits['STE', 2])}, AdaRound {points(equal_bits['AdaRound', 2][0])}; W4A4: LSQ "
    f"{points(equal_bits['LSQ', 4][0])}, AdaRound {points(equal_bits['AdaRound', 4][0])}",
    on=f"{on}, {QAT_SEEDS} seeds, {QAT_IMAGES} training images",
    why="seconds of training instead of whole ones",
)

# %%
big = kernel_times["256 channels, 16×16"]
fastest = min(XNORS, key=lambda name: big[name].median)
xnor_claim = plot.Claim(
    claim="binary convolutions are faster",
    paper="58× faster convolutions by the number of high-precision operations, 32× less memory",
    source="Rastegari et al., ECCV 2016, abstract",
    measured=f"{fastest}: {big.ratio('fp32_plain', fastest).median:.0f}× the plain fp32 loop, "
    f"{big.ratio('fp32_tiled', fastest).median:.1f}× tiled fp32, "
    f"{big.ratio('torch fp32', fastest).median:.1f}× torch, "
    f"{big.ratio('ONNX Runtime int8', fastest).median:.1f}× ONNX Runtime int8; scalar popcnt "
    f"{big.ratio('fp32_tiled', 'xnor_scalar').median:.1f}× tiled fp32",
    on=f"256×2304 by 2304×256, one thread, {big.machine}, {', '.join(FLAGS)}",
    why="58 compares with one multiplication a cycle; vector units do many, and int8 more",
)

# %%
binary_claim = plot.Claim(
    claim="binary weights cost little accuracy",
    paper="2.9 % less top-1 than full-precision AlexNet, ImageNet (binary weights only)",
    source="Rastegari et al., ECCV 2016, abstract (arXiv v4)",
    measured=f"binary weights with α {points(one_bit['binary, α'])} points, BinaryConnect "
    f"{points(one_bit['BinaryConnect'])}; with binary activations too {points(one_bit['XNOR'])}",
    on=f"{on}, {BINARY_IMAGES} training images, first and last layer fp32",
    why="seconds of training; a small network has less redundancy than AlexNet",
)
ternary_claim = plot.Claim(
    claim="trained ternary weights match full precision",
    paper="ResNet-32, 44, 56 on CIFAR-10 better than full precision by 0.04, 0.16, 0.36 %",
    source="Zhu et al., ICLR 2017, abstract",
    measured=f"TTQ {points(one_bit['TTQ'])} points",
    on=f"{on}, {BINARY_IMAGES} training images, first and last layer fp32",
    why="a short fine-tuning instead of full training",
)

# %%
twn_claim = plot.Claim(
    claim="ternary weight networks are small and only slightly worse",
    paper="up to 16× or 32× compression, slightly worse than full precision",
    source="Li and Liu, arXiv:1605.04711, 2016, abstract",
    measured=f"{stored['fp32'] / stored['TWN']:.1f}× on six layers at two bits a weight, "
    f"{points(one_bit['TWN'])} points; the 0.7 rule against the exact threshold: see section 6",
    on=f"{on}, {BINARY_IMAGES} training images, first and last layer fp32",
    why="a scale for every channel is counted; a short fine-tuning",
)

# %%
gap = {name: points(value) for name, value in mixed_accuracy.items()}
searched_accuracy = [value for name, value in mixed_accuracy.items() if "search" in name]
haq_claim = plot.Claim(
    claim="searched bits beat uniform bits",
    paper="1.4–1.95× less latency, 1.9× less energy than 8 bits, negligible loss",
    source="Wang et al., CVPR 2019, abstract",
    measured=f"at the bytes of uniform 3 bits ({gap['uniform 3']} points): greedy {gap['greedy']}, "
    f"knapsack {gap['knapsack']}, {SEEDS} searches of {EVALUATIONS} {spread(searched_accuracy)}; "
    f"uniform 4, a third more bytes, {gap['uniform 4']}",
    on=on,
    why="bytes, not latency: a CPU has no multipliers of two or three bits; no fine-tuning",
)

# %%
rows = [ada_claim, depthwise_claim, dfq_claim, lsq_claim]
plot.claims([*rows, xnor_claim, binary_claim, twn_claim, ternary_claim, haq_claim])

# %% [markdown]
# ## Discussion
#
# 1. Two-level scales and MX both avoid fp16 scales of small groups. Which would you build into an
#    accelerator, and what does it cost in the adder tree?
# 2. Equalization can move a spread from weights into activations. When is that a bad bargain?
# 3. KL and MSE disagree about a long thin tail. Which one would you trust for a detector whose rare
#    large activations are the objects?
# 4. AdaRound may only round up or down. Invent a layer where the best integer is two steps away,
#    and say what would find it.
# 5. The straight-through gradient is the slope at the code. What would you use if you could afford
#    one more forward pass?
# 6. On your machine, which bar of section 6 should a paper on binary networks be compared with?
# 7. The knapsack is exact and its answer need not be best. What did the proxy leave out?
#
# ## Further reading
#
# - R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
#   whitepaper", arXiv:1806.08342, 2018.
# - M. Nagel et al., "A white paper on neural network quantization", arXiv:2106.08295, 2021.
# - M. Nagel et al., "Data-free quantization through weight equalization and bias correction",
#   ICCV 2019.
# - M. Nagel et al., "Up or down? Adaptive rounding for post-training quantization", ICML 2020.
# - M. Nagel et al., "Overcoming oscillations in quantization-aware training", ICML 2022.
# - S. Dai et al., "VS-Quant: Per-vector scaled quantization for accurate low-precision neural
#   network inference", MLSys 2021.
# - T. Dettmers et al., "QLoRA: Efficient finetuning of quantized LLMs", NeurIPS 2023: double
#   quantization.
# - Open Compute Project, "OCP microscaling formats (MX) specification", version 1.0, 2023.
# - S. Migacz, "8-bit inference with TensorRT", GTC 2017: calibration by KL.
# - Y. Bengio, N. Léonard, A. Courville, "Estimating or propagating gradients through stochastic
#   neurons for conditional computation", arXiv:1308.3432, 2013: the straight-through estimator.
# - S. Esser et al., "Learned step size quantization", ICLR 2020.
# - M. Courbariaux, Y. Bengio, J.-P. David, "BinaryConnect", NeurIPS 2015.
# - M. Rastegari et al., "XNOR-Net: ImageNet classification using binary convolutional neural
#   networks", ECCV 2016.
# - F. Li, B. Liu, "Ternary weight networks", arXiv:1605.04711, 2016.
# - C. Zhu et al., "Trained ternary quantization", ICLR 2017.
# - W. Muła, N. Kurz, D. Lemire, "Faster population counts using AVX2 instructions", The Computer
#   Journal, 2018.
# - K. Wang et al., "HAQ: Hardware-aware automated quantization with mixed precision", CVPR 2019.
#
# **Next:** Lab 2 builds the integer network, AdaRound and quantization-aware training, and has them
# measured.
