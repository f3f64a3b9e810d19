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
# # Lecture 1: Introduction
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/01_introduction.ipynb)
#
# **The question: when is a smaller network a faster one?**
#
# Compression removes weights, bits and tokens. Whether time, energy or memory follows depends on
# the hardware that the network runs on. This lecture is the course in small: the machine in front
# of you measured, one network compressed in three steps, and six pieces of work in which algorithm
# and hardware were designed together. Every figure is counted or measured here; what is only quoted
# says so.

# %% tags=["setup"]
# Colab installs here what this notebook needs; what is installed already stays as it is.
import importlib.util
import os
import subprocess
import sys

course = os.environ.get("CODESIGN_REPO") or "git+https://github.com/ml-codesign/course@v0.1.0"
packages = {
    "codesign": course,
}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()

# %% tags=["parameters"] short={"VAL_IMAGES": 100, "FINETUNE_IMAGES": 256, "ADAPT_STEPS": 3, "READER_EPOCHS": 1, "ROUNDS": 3}
VAL_IMAGES = 1000  # images of the validation split behind every accuracy
FINETUNE_IMAGES = 15_000  # images of the one pass that repairs the pruned network
ADAPT_STEPS = 60  # updates of each run that adapts an int8 network
READER_EPOCHS = 3  # passes of the small attention network over its text
ROUNDS = 20  # rounds of every paired latency measurement

# %%
import copy
import dataclasses
import heapq
import math
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from codesign import checkpoints, cost, datasets, measure, plot, training
from codesign.hardware import device, eie, energy

torch.manual_seed(0)
plot.theme()

# %% [markdown]
# ## 1. The mismatch
#
# Parameters of well-known models (from their papers: Krizhevsky 2012, Simonyan 2014, He 2015,
# Vaswani 2017, Devlin 2018, Radford 2019, Brown 2020, Chowdhery 2022, Llama team 2024, DeepSeek-AI
# 2024), beside the memory and bandwidth of the largest NVIDIA GPU of the time, from the course's
# device table, where every number has its source.

# %%
MODELS = {
    "AlexNet": (2012.9, 60e6),
    "VGG-16": (2014.7, 138e6),
    "ResNet-152": (2015.9, 60e6),
    "Transformer": (2017.5, 213e6),
    "BERT": (2018.8, 340e6),
    "GPT-2": (2019.1, 1.5e9),
    "GPT-3": (2020.4, 175e9),
    "PaLM": (2022.3, 540e9),
    "Llama 3.1": (2024.5, 405e9),
    "DeepSeek-V3": (2024.9, 671e9),
}

# %%
GPUS = [device.get(name) for name in ("Tesla K20X", "Tesla V100", "A100", "H100", "H200")]


# %%
def growth(years, values):
    """Factor per two years of the exponential that fits best."""
    return 10 ** (2 * np.polyfit(years, np.log10(values), 1)[0])


# %%
years, parameters = np.array(list(MODELS.values())).T
gpu_years = [gpu.year for gpu in GPUS]
trends = {
    "parameters": growth(years, parameters),
    "GPU memory": growth(gpu_years, [gpu.memory_bytes for gpu in GPUS]),
    "GPU bandwidth": growth(gpu_years, [gpu.bandwidth_bytes_s for gpu in GPUS]),
    "GPU peak rate": growth(gpu_years, [max(gpu.peak_ops_s.values()) for gpu in GPUS]),
}

# %%
for name, factor in trends.items():
    print(f"{name:13} ×{factor:.1f} every two years")

# %%
memory = [gpu.memory_bytes for gpu in GPUS]
bandwidth = [gpu.bandwidth_bytes_s for gpu in GPUS]
below = {"ResNet-152", "Llama 3.1"}  # labels that would cover others above their point

# %%
blue, orange = plot.COLOURS["compute"], plot.COLOURS["memory"]
fig, ax = plt.subplots()
ax.semilogy(years, 2 * parameters, "o", color=blue, label="fp16 weights, bytes")
for name, (year, count) in MODELS.items():
    shift = (0, -11 if name in below else 5)
    ax.annotate(name, (year, 2 * count), shift, textcoords="offset points", fontsize=7, ha="center")
ax.semilogy(gpu_years, memory, "s-", color=orange, label="GPU memory, bytes")
ax.semilogy(gpu_years, bandwidth, "^--", color=orange, label="GPU bandwidth, byte/s")
ax.set(xlabel="year", ylabel="bytes, byte/s", ylim=(5e7, 2e13))
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# *Since GPT-3 the best-known models (blue) no longer fit one GPU (solid line). The distance of a
# point to the dashed line is the time to read its weights once: a decade below it, a tenth of a
# second.*
#
# **Smallest example.** A language model that writes one token reads every weight once. However fast
# its arithmetic, that takes bytes / bandwidth:

# %%
for name in ("H200", "Raspberry Pi 5"):
    board = device.get(name)
    read_s = 2 * 7e9 / board.bandwidth_bytes_s
    print(f"7e9 weights in fp16 on {board.name}: at least {read_s * 1e3:.0f} ms a token")

# %% [markdown]
# Halving the bytes halves this time; halving the multiplications does nothing. To know which of
# the two counts, one needs two numbers of the machine.
#
# ## 2. The roofline of this machine
#
# *Arithmetic intensity* $I$ is operations per byte moved. A machine with peak rate $P$ and
# bandwidth $B$ attains at most
#
# $$\min(P,\; I\cdot B),$$
#
# and the *ridge point* $P/B$ separates memory-bound from compute-bound work (Williams, Waterman,
# Patterson, 2009). Peak and bandwidth of the machine that runs this, measured with one thread:

# %%
host = device.this_machine(threads=1)
print(f"{host.source}")
print(f"peak {host.peak_ops_s['fp32'] / 1e9:.1f} GFLOP/s, {host.bandwidth_bytes_s / 1e9:.1f} GB/s")
print(f"ridge point: {host.ridge():.1f} FLOP/byte")

# %% [markdown]
# **Estimate beside measurement.** One linear layer, 64 MiB of weights, with a batch of $r$ inputs:
# $2rn^2$ operations on $4(n^2 + 2rn)$ bytes, so $I \approx r/2$.

# %%
n, batches = 4096, (1, 4, 16, 64, 256)
linear = nn.Linear(n, n, bias=False).requires_grad_(False)
inputs = {r: torch.randn(r, n) for r in batches}
calls = {str(r): lambda x=x: linear(x) for r, x in inputs.items()}
times = measure.latency(calls, rounds=5, warm_up=1)

# %%
intensities = [2 * r * n**2 / (4 * (n**2 + 2 * r * n)) for r in batches]
attained = [2 * r * n**2 / times[str(r)].median for r in batches]

# %%
for r, intensity, rate in zip(batches, intensities, attained, strict=True):
    share = rate / host.attainable(intensity, "fp32")
    print(
        f"batch {r:3}: {intensity:6.1f} FLOP/byte, {rate / 1e9:6.1f} GFLOP/s, {share:.0%} of roof"
    )

# %% [markdown]
# Drag the intensity (in a live kernel), or compare the panels:

# %% tags=["widget"]
OTHERS = {"STM32F746": "Cortex-M7", "Snapdragon 888": "phone", "H100": "H100"}


def draw(ax, operations_per_byte):
    """Rooflines of four machines; markers: what each attains at one intensity."""
    boards = [(host, "this CPU"), *((device.get(k), name) for k, name in OTHERS.items())]
    for (board, name), colour in zip(boards, plot.CYCLE, strict=False):
        plot.roofline(ax, board, color=colour, lw=1.2)
        rate = board.attainable(operations_per_byte)
        bound = "memory" if operations_per_byte < board.ridge() else "compute"
        ax.plot(operations_per_byte, rate, "o", color=colour, label=f"{name}: {bound}-bound")
    ax.plot(intensities, attained, "k+", ms=5)
    ax.axvline(operations_per_byte, color=plot.COLOURS["baseline"], lw=0.8, ls=":")
    ax.set(xlim=(0.1, 5e3), ylim=(1e4, 1e16), xlabel="operations / byte", ylabel="operations / s")
    ax.set_yticks([1e6, 1e9, 1e12, 1e15], ["1 M", "1 G", "1 T", "1 P"])
    ax.legend(loc="lower right", fontsize=7, handletextpad=0.2)


plot.explore(draw, operations_per_byte=[0.5, 2, 8, 32, 128, 512])

# %% [markdown]
# *Each machine bends at its own ridge point: a layer that is compute-bound on a microcontroller is
# memory-bound on a data-centre GPU. Crosses: the linear layer measured above, on this CPU.*
#
# ## 3. The whole course in one pipeline
#
# Deep Compression (Han, Mao, Dally, ICLR 2016): prune, share the remaining weights, encode. The
# reference CNN of the course, a small VGG:

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val").head(VAL_IMAGES)
dense = checkpoints.load(checkpoints.shipped("vgg", dataset))
accuracy = {"dense": training.evaluate(dense, val)}
print(f"{cost.parameters(dense):,} parameters, {cost.macs(dense):,} MACs")
print(f"{accuracy['dense']:.1%} of {len(val)} validation images right")


# %%
def compressed(model):
    """Convolutions but the first, which has 0.2 % of the weights and sees the pixels."""
    return dict(list(cost.weighted_layers(model).items())[1:-1])


rest = cost.model_bytes(dense) - sum(4 * c.weight.numel() for c in compressed(dense).values())
print(f"{rest:,} bytes stay as they are: first and last layer, batch norm")

# %% [markdown]
# **Prune** (Lectures 3 and 4): the smallest 80 % of each layer go, then one pass over some images
# lets the others make up for it. A sparse format also stores *where*: 4 bits for each weight,
# counting the zeros before it.

# %%
SPARSITY = 0.8
pruned = copy.deepcopy(dense)
masks = {
    name: (conv.weight.abs() > conv.weight.abs().flatten().quantile(SPARSITY)).float()
    for name, conv in compressed(pruned).items()
}


@torch.no_grad()
def apply_masks(model):
    for name, conv in compressed(model).items():
        conv.weight *= masks[name]


# %%
apply_masks(pruned)
broken = training.evaluate(pruned, val)
_ = training.fit(pruned, train.head(FINETUNE_IMAGES), epochs=1, lr=0.02, after_step=apply_masks)

# %%
accuracy["pruned"] = training.evaluate(pruned, val)
size = {"dense": cost.model_bytes(dense)}
size["pruned"] = rest + sum(
    cost.relative_index_bytes(c.weight) for c in compressed(pruned).values()
)
print(f"accuracy {broken:.1%} pruned, {accuracy['pruned']:.1%} retrained")
print(f"{size['dense']:,} bytes became {size['pruned']:,}")

# %% [markdown]
# **Share** (Lecture 5): k-means turns the weights that are left into 15 values a layer. Each weight
# becomes a 4-bit code; code 0 is reserved for padding.


# %%
def shared_values(weights, count=15, rounds=25):
    """Lloyd's algorithm in one dimension: ``count`` centroids of ``weights [n]``, ascending."""
    centroids = torch.linspace(float(weights.min()), float(weights.max()), count)
    for _ in range(rounds):
        nearest = torch.bucketize(weights, (centroids[1:] + centroids[:-1]) / 2)
        sums = torch.zeros(count).index_add_(0, nearest, weights)
        members = nearest.bincount(minlength=count)
        centroids = torch.where(members > 0, sums / members.clamp(min=1), centroids)
    return centroids


# %%
def encode_layer(weight):
    """Codes 0..15 in the shape of ``weight``, and the codebook ``[16]``; code 0 is zero."""
    weight = weight.contiguous()
    centroids = shared_values(weight[weight != 0])
    nearest = torch.bucketize(weight, (centroids[1:] + centroids[:-1]) / 2) + 1
    return torch.where(weight != 0, nearest, 0), torch.cat([torch.zeros(1), centroids])


# %%
layers = {name: encode_layer(c.weight.detach()) for name, c in compressed(pruned).items()}
shared = copy.deepcopy(pruned)
with torch.no_grad():
    for name, conv in compressed(shared).items():
        codes, codebook = layers[name]
        conv.weight.copy_(codebook[codes])

# %%
accuracy["shared"] = training.evaluate(shared, val)
size["shared"] = rest + sum(
    cost.relative_index_bytes(codes, value_bits=4) + 4 * len(codebook)
    for codes, codebook in layers.values()
)
print(f"accuracy {accuracy['shared']:.1%}, {size['shared']:,} bytes")

# %% [markdown]
# **Encode**: frequent codes get short words. Huffman's algorithm merges the two rarest symbols
# until one is left, and every merge costs one bit for each symbol below it, so the total needs no
# tree. (Lab 1 builds the words and decodes them again.)


# %%
def huffman_bits(counts):
    """Bits of the best prefix code for symbols that occur ``counts`` times."""
    heap, bits = [count for count in counts.tolist() if count], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, merged)
        bits += merged
    return bits


# %%
def symbol_counts(codes):
    """How often each code and each gap is stored, ``[16]`` each; long gaps need padding."""
    places = codes.flatten().nonzero()[:, 0]
    gaps = places.diff(prepend=torch.tensor([-1])) - 1
    padding = int((gaps // 16).sum())
    counts = codes.flatten().bincount(minlength=16)
    counts[0] = padding
    gap_counts = (gaps % 16).bincount(minlength=16)
    gap_counts[15] += padding
    return counts, gap_counts


# %% [markdown]
# Oracle: Huffman's average length lies between the entropy and one bit more.

# %%
size["encoded"] = rest
for codes, codebook in layers.values():
    for counts in symbol_counts(codes):
        p = counts[counts > 0] / counts.sum()
        bits, entropy = huffman_bits(counts), float(-(p * p.log2()).sum())
        assert entropy - 1e-6 <= bits / int(counts.sum()) < entropy + 1
        size["encoded"] += math.ceil(bits / 8) + 16  # and the length of each of 16 words
    size["encoded"] += 4 * len(codebook)
accuracy["encoded"] = accuracy["shared"]  # lossless
print(f"{size['encoded']:,} bytes: {size['dense'] / size['encoded']:.1f}× smaller")

# %% [markdown]
# **And the clock?** All stages run on the same dense kernels here, zeros included:

# %%
stages = {"dense": dense, "pruned": pruned, "shared": shared}
calls = {name: measure.inference(copy.deepcopy(model)) for name, model in stages.items()}
times = measure.latency(calls, rounds=ROUNDS)
for name in stages:
    print(f"{name:7} latency / dense: {times.ratio(name, 'dense')}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True)
kib = [value / 1024 for value in size.values()]
bars = left.barh(list(size), kib, color=plot.COLOURS["memory"])
left.bar_label(bars, [f"{k:.0f} KiB, {accuracy[s]:.1%}" for s, k in zip(size, kib, strict=True)])
left.set(xlabel="bytes, KiB, indices and codebooks included", xlim=(0, 1.45 * kib[0]))
shown = [times.ratio(run, "dense") for run in ("dense", "pruned", "shared", "shared")]
spread = [figure.iqr / 2 for figure in shown]
right.errorbar([f.median for f in shown], list(size), xerr=spread, fmt="o", color="k", capsize=2)
right.set(xlabel="measured latency / dense", xlim=(0, 1.3))
left.invert_yaxis()
for ax in (left, right):
    ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Left: bytes shrink at every stage, with the accuracy beside them. Right: what the stopwatch says
# (the encoded network is decoded before it runs).
# Nothing on this CPU's dense path looks at a weight to see whether it is worth a multiplication.
# That is the gap this course is about.*
#
# ## 4. Hardware for the compressed network: EIE
#
# EIE (Han et al., ISCA 2016) multiplies in the compressed form. Rows are dealt out to processing
# elements (PEs), each holding its part of every column as 4-bit code + 4-bit gap in its own SRAM.
# Non-zero activations are broadcast; a PE does one entry a cycle and queues up to 8 activations.
# `codesign.hardware.eie` counts the cycles. One output pixel of the last convolution, on a real
# image:

# %%
last = list(layers)[-1]
codes, codebook = (layers[last][0].flatten(1), layers[last][1])
with torch.no_grad():
    maps = shared.features[:-3](datasets.normalize(val.images[:1]))  # what conv6 sees
    x = F.unfold(maps, 3, padding=1)[0, :, 5]

# %%
matrix = eie.Matrix(codes, codebook, pes=16)
found = eie.multiply(matrix, x)
torch.testing.assert_close(found.result, matrix.dense @ x, rtol=1e-4, atol=1e-4)
print(f"{last}: {tuple(codes.shape)}, {float((x != 0).float().mean()):.0%} activations alive")

# %% [markdown]
# Cycles of 16 multipliers, one step at a time. The bound is perfect load balance: every PE always
# has an entry.

# %%
rows, cols = codes.shape
cycles = {
    "dense": rows * cols // 16,
    "without zero weights": int((codes != 0).sum()) // 16,
    "and zero activations": found.macs // 16,
    "as EIE runs it": found.cycles,
}

# %%
for name, count in cycles.items():
    print(f"{name:21} {count:6,} cycles, {cycles['dense'] / count:5.1f}× fewer than dense")
print(f"PEs busy: {found.utilization:.0%}; padding: {int(found.work.sum()) - found.macs} entries")

# %% [markdown]
# **Energy.** The paper credits four steps: SRAM instead of DRAM, fewer weights, shared weights,
# skipped activations. The same steps here, with the 45 nm figures of `codesign.hardware.energy`
# (an estimate; Lecture 3 shows the table):

# %%
kept, touched = int(matrix.entries.sum()), int(found.work.sum())
steps = {
    "fp32 from DRAM": (energy.access_pj("DRAM", 32 * rows * cols), rows * cols, "fp32"),
    "SRAM": (energy.access_pj("SRAM", 32 * rows * cols), rows * cols, "fp32"),
    "pruned": (energy.access_pj("SRAM", 36 * kept), kept, "fp32"),
    "shared": (energy.access_pj("SRAM", 8 * kept), kept, "fp16"),
    "zeros skipped": (energy.access_pj("SRAM", 8 * touched), touched, "fp16"),
}

# %%
weights_nj = np.array([pj for pj, _, _ in steps.values()]) / 1e3
compute_nj = np.array([macs * energy.mac_pj(kind) for _, macs, kind in steps.values()]) / 1e3
factors = weights_nj[:-1] / weights_nj[1:]
print(
    *[f"{s}: {f:.1f}× less for weights" for s, f in zip(list(steps)[1:], factors, strict=True)],
    sep="\n",
)

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.6))
places = np.arange(len(steps))
ax.bar(places - 0.2, weights_nj, 0.4, color=plot.COLOURS["memory"], label="fetching weights")
ax.bar(places + 0.2, compute_nj, 0.4, color=plot.COLOURS["compute"], label="arithmetic")
ax.set_xticks(places, list(steps))
ax.set(yscale="log", ylabel="energy, nJ (estimate)")
ax.legend()
plt.show()

# %% [markdown]
# *Weights in DRAM dwarf everything; on chip, fetching and multiplying are of one size, and each
# further step has to shrink both.*
#
# ### What the hardware does with it
#
# The CPU fetched every zero. EIE is almost all memory (93 % of a PE's area, table II of the paper),
# so that no weight comes from outside; that pays for fully connected layers at batch 1, and less
# where each weight is reused anyway. Lecture 4 returns to its load balance.
#
# ## 5. Training on a microcontroller: MCUNetV3
#
# Inference forgets an activation once the next layer has read it. Training keeps it for the weight
# gradient, $\partial L/\partial W = X^\top\,\partial L/\partial Y$. Lin et al. (NeurIPS 2022) fit
# training into 256 KiB by keeping few of them: update biases everywhere (a bias gradient needs no
# $X$) and weights only where they matter.


# %%
def training_bytes(model, updated, bits):
    """Bytes kept for one image's update: inputs and gradients of ``updated`` layers, ReLU masks.

    A ReLU behind the first weight that is updated, or behind the first bias, keeps one bit an
    activation. ``updated``: names of layers; biases are always updated.
    """
    kept = 0
    for layer in cost.layers(model):
        if layer.name in updated:
            kept += (math.prod(layer.input_shape) + layer.params) * bits // 8
        if "conv" in layer.name:
            kept += math.prod(layer.output_shape) // 8
    return kept


# %%
names = [layer.name for layer in cost.layers(dense)]
plans = {"full": names, "last two layers + biases": names[-2:], "biases only": []}
counted = {
    f"{plan}, {kind}": training_bytes(dense, updated, bits)
    for plan, updated in plans.items()
    for kind, bits in (("fp32", 32), ("int8", 8))
}

# %% [markdown]
# **Measured:** what PyTorch keeps for the same three plans, counted by its own hooks, at batch 1.


# %%
def autograd_bytes(model, updated):
    """Bytes that autograd saves for one image, parameters left out, and of all gradients."""
    model, seen = copy.deepcopy(model).eval(), {}
    for name, p in model.named_parameters():
        layer = name.rsplit(".", 1)[0]
        p.requires_grad_(layer in updated or name.endswith("bias"))
    own = {p.data_ptr() for p in [*model.parameters(), *model.buffers()]}

    def pack(tensor):
        seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(datasets.normalize(val.images[:1])).sum().backward()
    gradients = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    return sum(size for place, size in seen.items() if place not in own) + gradients


# %%
kept = {plan: autograd_bytes(dense, updated) for plan, updated in plans.items()}
for plan in plans:
    fp32, int8 = counted[f"{plan}, fp32"], counted[f"{plan}, int8"]
    print(
        f"{plan:25} PyTorch keeps {kept[plan] >> 10:5} KiB, needed {fp32 >> 10:4}, "
        f"int8 {int8 >> 10:4}"
    )
smallest = counted["last two layers + biases, int8"]
print(f"PyTorch, full / last two layers in int8: {kept['full'] / smallest:.0f}×")

# %% [markdown]
# Autograd keeps fp32 inputs even where only biases change; an engine that knows the plan ahead
# (the paper's Tiny Training Engine) drops them at compile time.
#
# ### Quantization-aware scaling
#
# An int8 weight is $\bar W = W/S$ with a scale $S$ around 1/1000. By the chain rule its gradient is
# $S\,\partial L/\partial W$: weights grew by $1/S$, gradients shrank by $S$, and the ratio of their
# norms is off by $S^{-2}$. Scaling the gradient by $S^{-2}$ repairs it.


# %%
class Int8Conv(nn.Module):
    """A convolution of integer weights ``[C_out, C_in, 3, 3]`` with one scale a filter."""

    def __init__(self, conv):
        super().__init__()
        scale = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.weight = nn.Parameter((conv.weight.detach() / scale).round())

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1) * self.scale.view(1, -1, 1, 1)


# %%
def with_int8(model):
    """A copy whose convolutions hold integers."""
    model = copy.deepcopy(model)
    for name, conv in list(model.features.named_children()):
        if isinstance(conv, nn.Conv2d):
            setattr(model.features, name, Int8Conv(conv))
    return model


# %% [markdown]
# The task: the camera is mounted sideways, and the deployed network must adapt.


# %%
def sideways(images):
    """Images ``[N, 3, H, W]`` turned by 90 degrees."""
    return images.rot90(1, (2, 3))


# %%
turned = dataclasses.replace(val, images=sideways(val.images))
int8 = with_int8(dense)
print(f"int8 {training.evaluate(int8, val):.1%}, sideways {training.evaluate(int8, turned):.1%}")


# %%
def backward(model, step, batch=64):
    """Gradients of one batch of images that lie on their side."""
    part = slice(step * batch, (step + 1) * batch)
    images, labels = datasets.normalize(sideways(train.images[part])), train.labels[part]
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


# %%
def rescale_gradients(model):
    """Quantization-aware scaling (Lin et al. 2022, equation 3)."""
    for conv in model.features:
        if isinstance(conv, Int8Conv):
            conv.weight.grad /= conv.scale**2


# %%
def norm_ratios(model, rescaled=False):
    """log10 of ‖W‖ / ‖∂L/∂W‖ of every convolution."""
    backward(model, 0)
    if rescaled:
        rescale_gradients(model)
    convs = [m for m in model.features if hasattr(m, "weight") and m.weight.ndim == 4]
    return [float((c.weight.detach().norm() / c.weight.grad.norm()).log10()) for c in convs]


# %%
def adapt(model, rescaled=False, lr=0.02):
    """Accuracy sideways after ``ADAPT_STEPS`` plain SGD updates of the convolutions."""
    for step in range(ADAPT_STEPS):
        backward(model.train(), step)
        if rescaled:
            rescale_gradients(model)
        with torch.no_grad():
            for conv in model.features:
                if hasattr(conv, "weight") and conv.weight.ndim == 4:
                    conv.weight -= lr * conv.weight.grad
    return training.evaluate(model, turned)


# %%
runs = {
    "fp32": (copy.deepcopy(dense), False),
    "int8": (int8, False),
    "int8 + QAS": (with_int8(dense), True),
}
ratios = {
    name: norm_ratios(copy.deepcopy(model).eval(), flag) for name, (model, flag) in runs.items()
}

# %%
adapted = {name: adapt(model, flag) for name, (model, flag) in runs.items()}
fig, ax = plt.subplots(figsize=(6.4, 2.8))
looks = zip(ratios, ("baseline", "memory", "ours"), ("o-", "s-", "^--"), strict=True)
for name, colour, style in looks:
    label = f"{name}: {adapted[name]:.1%} after {ADAPT_STEPS} updates"
    ax.plot(ratios[name], style, color=plot.COLOURS[colour], label=label)
ax.set(xlabel="convolution", ylabel="log₁₀ ‖W‖ / ‖∂L/∂W‖", xticks=range(len(ratios["fp32"])))
ax.legend()
plt.show()

# %% [markdown]
# *Integer weights lift the curve by several orders of magnitude, so the learning rate that fits
# fp32 moves nothing; scaled gradients bring it back. The legend gives the accuracy sideways
# after the same updates. Batch-norm statistics adapt in all three.*
#
# What the same kind of device needs for inference alone, and how a network is made to fit into its
# SRAM, is counted and executed in [Lecture 10](10_mcunet_and_tinyml.ipynb).
#
# ## 6. Attention: fewer tokens, fewer heads
#
# Language models spend differently: attention compares all $T$ tokens, $2T^2d$ MACs beside $4Td^2$
# for its projections. Lite Transformer (Wu et al., ICLR 2020) gives half of the channels to a
# convolution that looks nearby:

# %%
for tokens in (32, 128, 512):
    d, k = 512, 15
    full = 4 * tokens * d**2 + 2 * tokens**2 * d
    half = 4 * tokens * (d // 2) ** 2 + 2 * tokens**2 * (d // 2)
    local = 2 * tokens * (d // 2) ** 2 + tokens * k * d // 2
    print(f"{tokens:3} tokens: {full / (half + local):.1f}× fewer MACs than full attention")

# %% [markdown]
# SpAtten (Wang et al., HPCA 2021) drops tokens and heads on the fly: a token that is not attended
# to is not fetched in the next layer. To see real attention, train a small network on real text,
# Python's own standard library: 64 words in which exactly one of ten keywords occurs, and the
# question is which.

# %%
MODULES = "argparse _pydecimal tarfile typing inspect pydoc pickletools doctest difflib subprocess"
KEYWORDS = ["raise", "yield", "lambda", "assert", "while", "with", "try", "pass", "del", "import"]
WORDS, LENGTH = 2000, 64
paths = [Path(importlib.util.find_spec(name).origin) for name in MODULES.split()]
texts = [re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8")) for path in paths]
counted_words = Counter(word for text in texts for word in text[: len(text) * 4 // 5])
vocabulary = ["?"] + [word for word, _ in counted_words.most_common(WORDS - 1)]  # "?": a rare one
number_of = {word: number for number, word in enumerate(vocabulary)}
numbers = [torch.tensor([number_of.get(word, 0) for word in text]) for text in texts]


# %%
def snippets(start, end):
    """Windows ``[N, 64]`` of words with one of the keywords, from a part of each module; which."""
    parts = [text[int(len(text) * start) : int(len(text) * end)] for text in numbers]
    windows = torch.cat([part.unfold(0, LENGTH, 16) for part in parts])
    has = (windows[:, :, None] == torch.tensor([number_of[k] for k in KEYWORDS])).any(1)
    one = has.sum(1) == 1
    return windows[one], has[one].float().argmax(1)


texts_train, texts_val = snippets(0, 0.8), snippets(0.8, 1)
print(f"{len(texts_train[1]):,} snippets to train on, {len(texts_val[1]):,} of later pages to test")


# %%
class Attention(nn.Module):
    """Pre-norm attention and feed-forward; keeps its map ``[N, heads, T, T]`` and head outputs."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x, alive_heads=None):
        split = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each [N, heads, T, width / heads]
        self.map = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        self.head_outputs = self.map @ v
        heads = self.head_outputs if alive_heads is None else self.head_outputs * alive_heads
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


# %%
WIDTH, HEADS, DEPTH = 32, 4, 5


# %%
class Reader(nn.Module):
    """A class token and 64 words, attention layers, ten answers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS + 1, WIDTH)
        self.place = nn.Parameter(torch.randn(LENGTH + 1, WIDTH) * 0.02)
        self.layers = nn.ModuleList(Attention(WIDTH, HEADS) for _ in range(DEPTH))
        self.classifier = nn.Linear(WIDTH, len(KEYWORDS))

    def tokens(self, words):
        return self.embed(F.pad(words, (1, 0), value=WORDS)) + self.place

    def forward(self, words):
        x = self.tokens(words)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x[:, 0])  # reads the class token


# %%
reader = Reader()
optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
for epoch in range(READER_EPOCHS):
    order = torch.randperm(len(texts_train[0]), generator=torch.Generator().manual_seed(epoch))
    for part in order.split(64):
        logits = reader(texts_train[0][part])
        optimizer.zero_grad()
        F.cross_entropy(logits, texts_train[1][part]).backward()
        optimizer.step()


# %%
def share_right(logits):
    """Share of the later snippets whose keyword is found."""
    return float((logits.argmax(1) == texts_val[1]).float().mean())


with torch.inference_mode():
    whole_logits = reader(texts_val[0])
print(f"{share_right(whole_logits):.1%} of {len(texts_val[1])} snippets right")

# %% [markdown]
# A token's importance is the attention that the class token pays it, summed over heads and layers
# so far; a head's is the size of what it puts out. Both prune in a cascade: what is gone stays
# gone. The first layer only looks around, so nothing is dropped after it.


# %%
def stronger(x, score, share):
    """The share of tokens ``x [N, T, d]`` with the highest scores, the class token first."""
    score[:, 0] = torch.inf
    best = score.topk(max(2, round(share * x.shape[1])), 1).indices
    return x.take_along_dim(best[..., None], 1), score.take_along_dim(best, 1)


# %%
@torch.inference_mode()
def cascade(words, keep_tokens, keep_heads, by_chance=False):
    """Logits, and the tokens and heads that each layer works on; ``by_chance``: any tokens."""
    x, work, alive = reader.tokens(words), [], torch.ones(HEADS)
    score, head_score = torch.zeros(x.shape[:2]), torch.zeros(HEADS)
    for number, layer in enumerate(reader.layers):
        work.append((x.shape[1], int(alive.sum())))
        x = layer(x, alive[:, None, None])
        score = score + (layer.map * alive[:, None, None])[:, :, 0].sum(1)
        head_score = head_score + alive * layer.head_outputs.abs().mean((0, 2, 3))
        if number == 0:
            continue
        x, score = stronger(x, torch.rand_like(score) if by_chance else score, keep_tokens)
        best = head_score.topk(max(1, round(keep_heads * int(alive.sum())))).indices
        alive = torch.zeros(HEADS).scatter(0, best, 1.0)
    return reader.classifier(x[:, 0]), work


# %% [markdown]
# Oracle: keeping everything is the network itself. The cost: queries, keys and values of every
# token and head that is left are fetched.

# %%
full_logits, full_work = cascade(texts_val[0], 1.0, 1.0)
torch.testing.assert_close(full_logits, whole_logits, rtol=1e-3, atol=1e-3)


def fetched(work):
    """Bytes of fp32 queries, keys and values that all layers fetch."""
    return sum(3 * tokens * heads * WIDTH // HEADS * 4 for tokens, heads in work)


# %%
spatten = []
for share, heads in ((1, 1), (0.5, 1), (0.35, 1), (0.2, 1), (0.1, 1), (0.35, 0.75), (0.2, 0.5)):
    logits, work = cascade(texts_val[0], share, heads)
    chance, _ = cascade(texts_val[0], share, heads, by_chance=True)
    saved = fetched(full_work) / fetched(work)
    spatten.append((saved, share_right(logits), share_right(chance)))

# %%
for saved, ranked, chance in spatten:
    print(
        f"{saved:4.1f}× fewer bytes: {ranked:.1%} right, with tokens dropped at random {chance:.1%}"
    )

# %%
example = texts_val[0][7:8]
with torch.inference_mode():
    reader(example)
received = sum(layer.map[0, :, 0, 1:].sum(0) for layer in reader.layers[:2])
fig, ax = plt.subplots(figsize=(8, 2.2))
ax.imshow(received.reshape(8, 8), cmap="Oranges", aspect="auto", vmax=float(received.max()) * 1.3)
for place, word in enumerate(example[0].tolist()):
    bold = "bold" if vocabulary[word] in KEYWORDS else "normal"
    ax.text(place % 8, place // 8, vocabulary[word], ha="center", va="center", weight=bold)
ax.set_axis_off()
plt.show()

# %% [markdown]
# *Sixty-four words of a real module, in reading order; the darker, the more attention of the class
# token in the first two layers; the keyword is bold (a question mark is a rare word). The ranking
# is worth what it beats chance by in the list above. It needs a top-k engine in hardware: on a CPU
# sorting costs time of its own.*
#
# ## 7. Spatial sparsity: recompute what was edited
#
# SIGE (Li et al., NeurIPS 2022): after an edit of an image, most activations of a generative model
# are what they were. Gather the tiles that an edit can reach, with a border of one pixel, convolve
# only them, and write them into the cached output.


# %%
TILE = 16


def touched_tiles(edited, reach):
    """Rows and columns ``[K, 2]`` of the tiles within ``reach`` pixels of an edit, ``[H, W]``."""
    grown = F.max_pool2d(edited[None, None], 2 * reach + 1, 1, reach)
    return F.max_pool2d(grown, TILE)[0, 0].nonzero().tolist()


# %%
def update_tiles(conv, x, cached, tiles):
    """Write ``conv(x)``, 3x3 with padding 1, into ``cached`` in these tiles only."""
    padded = F.pad(x, (1, 1, 1, 1))
    corners = [(i * TILE, j * TILE) for i, j in tiles]
    blocks = torch.cat([padded[..., i : i + TILE + 2, j : j + TILE + 2] for i, j in corners])
    for (i, j), block in zip(corners, F.conv2d(blocks, conv.weight), strict=True):
        cached[0, :, i : i + TILE, j : j + TILE] = block
    return cached


# %% [markdown]
# Oracle: with small integers the arithmetic of floats is exact, so the updated output must equal
# the full one to the last bit, inside the tiles and, because nothing else changed, outside.

# %%
side, width = 256, 32
conv = nn.Conv2d(width, width, 3, padding=1, bias=False).requires_grad_(False)
before = torch.randint(-8, 8, (1, width, side, side)).float()

# %%
edited = torch.zeros(side, side)
edited[70:110, 90:140] = 1
after = torch.where(edited.bool(), torch.randint(-8, 8, before.shape).float(), before)
whole = nn.Conv2d(width, width, 3, padding=1, bias=False).requires_grad_(False)
whole.weight.copy_(torch.randint(-8, 8, whole.weight.shape))
tiles = touched_tiles(edited, reach=1)
assert torch.equal(update_tiles(whole, after, whole(before), tiles), whole(after))
print(f"{len(tiles)} of {(side // TILE) ** 2} tiles, for {float(edited.mean()):.1%} of the pixels")

# %%
noise, shares, tile_counts = torch.randn(before.shape), (0.01, 0.05, 0.2, 0.5, 1.0), {}

# %%
calls = {"whole": lambda: conv(noise)}
cache = conv(noise)
for share in shares:
    edge = round(side * share**0.5)
    edited = torch.zeros(side, side)
    edited[:edge, :edge] = 1
    found_tiles = touched_tiles(edited, reach=1)
    tile_counts[share] = len(found_tiles) / (side // TILE) ** 2
    calls[f"{share}"] = lambda t=found_tiles: update_tiles(conv, noise, cache, t)
times = measure.latency(calls, rounds=10)

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.8))
speedups = {share: times.ratio("whole", f"{share}").median for share in shares}
ax.loglog(
    shares,
    [1 / tile_counts[s] for s in shares],
    color=plot.COLOURS["compute"],
    label="MACs, counted",
)
ax.loglog(shares, list(speedups.values()), "o", color=plot.COLOURS["measured"], label="measured")
ax.axhline(1, color=plot.COLOURS["baseline"], lw=0.8)
ax.set(xlabel="edited share of the pixels", ylabel="whole / updated")
ax.legend()
plt.show()

# %%
for share in shares:
    print(
        f"{share:4.0%} edited: {1 / tile_counts[share]:5.1f}× fewer MACs, "
        f"{speedups[share]:5.1f}× faster"
    )

# %% [markdown]
# *Line: MACs saved, borders included; markers: time saved. Gathering and scattering is what lies
# between them. Below the grey line the tiles cost more than they save. Unlike single zero weights,
# whole tiles keep the dense kernel busy, so this sparsity needs no new hardware.*
#
# ## 8. Where hardware gains came from
#
# NVIDIA's single-GPU inference rate grew 317 times from the K20X (2012) to the A100 (2020). The
# data sheets say in which steps:

# %%
old, new = device.get("Tesla K20X"), device.get("A100")
rate = new.peak_ops_s
gains = {
    "process: more and faster units": rate["fp32"] / old.peak_ops_s["fp32"],
    "tensor instructions (TF32)": rate["tf32"] / rate["fp32"],
    "number format: TF32 → FP16 → INT8": rate["int8"] / rate["tf32"],
    "2:4 sparsity": 2.0,  # the sparse rate is twice the dense one
}

# %%
total = math.prod(gains.values())
print(
    *[f"{name:35} ×{gain:.2f}" for name, gain in gains.items()], f"together ×{total:.0f}", sep="\n"
)
print(f"memory bandwidth meanwhile ×{new.bandwidth_bytes_s / old.bandwidth_bytes_s:.1f}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.2))
start = 0.0
for (name, gain), colour in zip(gains.items(), plot.CYCLE, strict=False):
    ax.barh(0, math.log10(gain), left=start, color=colour, label=f"{name} ×{gain:.1f}")
    start += math.log10(gain)
ax.set(xlabel="log₁₀ of the gain", yticks=[], xlim=(0, start * 1.02))
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=2)
ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Only the blue part came from better transistors. The other three are agreements between numerics
# and hardware: a model that is not quantized and not 2:4-sparse cannot have them. Order matters for
# the split (TF32 is itself a shorter format), not for the product.*
#
# The same agreement for language models, later in the course: **SmoothQuant** moves outliers from
# activations into weights so that int8 instructions fit, **AWQ** keeps the salient weights of a
# 4-bit model, **TinyChatEngine** is the runtime that turns 4 bits into tokens per second. Lecture
# 13 builds all three ideas and times them.
#
# ## 9. Limits
#
# - One CPU thread, one library, batch 1; your ridge point is yours.
# - EIE's cycles leave out its pipeline and everything around the product; energies are 45 nm table
#   values times counts.
# - Training memory leaves out scratch buffers and, for microcontrollers, code. The integers of
#   section 5 are updated as floats; on a device they are rounded again.
# - The reader's task needs one word in 64: it shows the mechanism, not how redundant language is.
# - Section 8 multiplies peak rates. Section 2 shows how far a real layer can be from a peak.
#
# ## 10. Claims

# %%
vgg_on = f"reference VGG, {dataset}, {len(val)} validation images"
compression = plot.Claim(
    claim="prune, share, encode: much smaller, as accurate",
    paper="35× AlexNet, 49× VGG-16 on ImageNet, no loss of accuracy",
    source="Han, Mao & Dally, ICLR 2016, abstract",
    measured=f"{size['dense'] / size['encoded']:.1f}× at "
    f"{100 * (accuracy['encoded'] - accuracy['dense']):+.1f} points",
    on=vgg_on,
    why=f"one pruning step and {FINETUNE_IMAGES:,} images of retraining, centroids not trained; no "
    "large fully connected layers, which is where AlexNet and VGG-16 lose most",
)

# %%
weight, column = matrix.dense.contiguous(), x.clone()
times = measure.latency({"dense": lambda: weight @ column}, rounds=ROUNDS)
eie_s = eie.multiply(eie.Matrix(codes, codebook, pes=64), x).cycles / 800e6

# %%
eie_claim = plot.Claim(
    claim="EIE beats a CPU on compressed fully connected layers",
    paper="189× faster than a CPU, 13× than a GPU, both dense; 24,000× and 3,400× less energy",
    source="Han et al., ISCA 2016, abstract",
    measured=f"{times['dense'].median / eie_s:.1f}× the dense product, 64 PEs at 800 MHz against "
    f"one CPU thread; {weights_nj[0] / weights_nj[-1]:,.0f}× less energy for weights (estimate)",
    on=f"{last} at one pixel, {dataset}; {times.machine}",
    why="a matrix that fits this CPU's caches instead of AlexNet's 4096 × 9216 from DRAM; cycles "
    "are simulated; the paper's CPU is a Core i7-5930K",
)

# %%
memory_claim = plot.Claim(
    claim="training fits a microcontroller",
    paper="less than 1/1000 of PyTorch's memory (abstract); 2300× in the authors' lecture",
    source="Lin et al., NeurIPS 2022; MIT 6.5940, 2023, Lecture 1",
    measured=f"{kept['full'] / smallest:.0f}× fewer bytes kept than by PyTorch's autograd",
    on=f"reference VGG, {dataset}, one image",
    why="bytes of tensors only; the paper compares a framework's whole memory with an engine that "
    "plans every buffer, on larger networks and images",
)
gain_qas = (
    f"{adapted['int8']:.1%} without, {adapted['int8 + QAS']:.1%} with, fp32 {adapted['fp32']:.1%}"
)
qas_claim = plot.Claim(
    claim="quantization-aware scaling makes int8 training as good as fp32's",
    paper="average accuracy of 8 tasks from 64.9 % to 73.5 %, that of fp32 training",
    source="Lin et al., NeurIPS 2022, section 3.1",
    measured=gain_qas,
    on=f"reference VGG, {dataset} turned by 90°, {ADAPT_STEPS} updates",
    why="another task; scales stay fixed and integers are not rounded after each update",
)

# %%
best_saving = max(s for s, right, _ in spatten if right >= spatten[0][1] - 0.01)
spatten_claim = plot.Claim(
    claim="pruned tokens and heads need not be fetched",
    paper="10.0× less DRAM access at no loss, 30 benchmarks",
    source="Wang et al., HPCA 2021, abstract",
    measured=f"{best_saving:.1f}× fewer bytes of Q, K, V within 1 point of accuracy",
    on=f"a {DEPTH}-layer reader of Python source, {len(texts_val[1])} snippets of {LENGTH} words",
    why="one word in 64 decides here, which favours pruning; but two of five layers see every "
    "token, and no progressive quantization",
)

# %%
sige_claim = plot.Claim(
    claim="recomputing only what was edited",
    paper="1.2 % edited: DDIM 7.5× fewer MACs, 3.0× faster on RTX 3090, 6.6× on an M1 Pro CPU",
    source="Li et al., NeurIPS 2022, abstract",
    measured=f"1 % edited: {1 / tile_counts[0.01]:.1f}× fewer MACs, {speedups[0.01]:.1f}× faster",
    on=f"one convolution, {width} channels at {side} × {side}; {times.machine}",
    why="one layer instead of a network whose receptive field grows; a square edit in a corner",
)

# %%
trend_claim = plot.Claim(
    claim="models outgrow memory",
    paper="transformers 410×, accelerator memory 2×, bandwidth 1.6× every two years",
    source="Gholami et al., IEEE Micro 2024, sections 1 and 2",
    measured=f"parameters {trends['parameters']:.1f}×, memory {trends['GPU memory']:.1f}×, "
    f"bandwidth {trends['GPU bandwidth']:.1f}×",
    on=f"fits through {len(MODELS)} models and {len(GPUS)} GPUs, cited data",
    why="twelve years of best-known models, CNNs included, not the transformers of 2018 to 2021",
)

# %%
dally_claim = plot.Claim(
    claim="single-GPU inference grew 317× in eight years",
    paper="317×, K20X to A100",
    source="W. Dally, NVIDIA, talk figure shown in MIT 6.5940, 2023, Lecture 1",
    measured=f"{total:.0f}×, of it {gains['process: more and faster units']:.1f}× from process",
    on="data sheets of both GPUs (device table)",
    why="peak rates of the data sheets; the A100's with 2:4 sparsity",
)

# %%
plot.claims(
    [
        trend_claim,
        compression,
        eie_claim,
        memory_claim,
        qas_claim,
        spatten_claim,
        sige_claim,
        dally_claim,
        plot.Claim(
            claim="Lite Transformer: less computation, smaller",
            paper="2.5× less computation than Transformer base, 18.2× smaller with pruning and "
            "quantization",
            source="Wu et al., ICLR 2020, abstract",
            why="MACs of one layer are counted in section 6; no translation model is trained here",
        ),
    ]
)

# %% [markdown]
# ## Discussion
#
# 1. Section 3 made the network many times smaller and not faster. Name two machines on which the
#    same bytes would have bought time, and say why, with section 2's two numbers.
# 2. EIE's PEs wait for the busiest one. Which would you change first: the number of PEs, the depth
#    of the queues, or the way the network is pruned?
# 3. Section 5's int8 network did not learn although its forward pass is as good as fp32's. What
#    else in a training loop depends on the scale of a weight?
# 4. SpAtten, SIGE and pruning all skip work. Which of them know at compile time what will be
#    skipped, and what does that change for the hardware?
# 5. Take away number format and sparsity from the 317. What would the A100 be for a network that is
#    kept in fp32, and what does that say about who has to move first, model or chip?
#
# ## Further reading
#
# - S. Han, H. Mao, W. Dally, "Deep Compression", ICLR 2016.
# - S. Han et al., "EIE: Efficient inference engine on compressed deep neural network", ISCA 2016.
# - S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for
#   multicore architectures", CACM 52(4), 2009.
# - J. Lin et al., "On-device training under 256KB memory", NeurIPS 2022 (MCUNetV3).
# - Z. Wu et al., "Lite Transformer with long-short range attention", ICLR 2020.
# - H. Wang, Z. Zhang, S. Han, "SpAtten: efficient sparse attention architecture with cascade token
#   and head pruning", HPCA 2021.
# - M. Li et al., "Efficient spatially sparse inference for conditional GANs and diffusion models",
#   NeurIPS 2022 (SIGE).
# - A. Gholami et al., "AI and memory wall", IEEE Micro 44(3), 2024.
# - J. Hennessy, D. Patterson, "A new golden age for computer architecture", CACM 62(2), 2019.
#
# **Next:** Lecture 3 takes up pruning. (There is no Lecture 2 in the course this one follows, and
# the numbers are kept.)
