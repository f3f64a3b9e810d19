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
# # Lecture 3: Pruning and sparsity, part 1
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/03_pruning_and_sparsity_1.ipynb)
#
# **The question: which weights of a trained network can go, and who notices: the accuracy, the
# bytes, or the clock?**
#
# A weight that is zero needs no multiplication and no place in memory, at least on paper. This
# lecture measures what remains of that promise: why removing weights is worth the effort (energy),
# in which shapes they can be removed (granularity), how to choose them (criteria), and what this
# CPU makes of each. Lab 1 follows it; Lecture 4 chooses the sparsity of each layer.
#
# Before each measurement the lecture asks you for a number. Write one down: a wrong one teaches
# more than none. The last cell lists your hits.

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

# %% tags=["parameters"] short={"VAL_IMAGES": 50, "FINETUNE_IMAGES": 128, "CHANNEL_IMAGES": 48, "DRAWS": 3, "ROUNDS": 3}
VAL_IMAGES = 1000  # images of the validation split behind every accuracy
FINETUNE_IMAGES = 3500  # images of each of the eight fine-tuning runs
CHANNEL_IMAGES = 192  # images behind the criteria for channels
DRAWS = 11  # random choices of channels that every criterion is compared with
ROUNDS = 20  # rounds of every paired latency measurement

# %%
import copy
import itertools
import math
import warnings

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from codesign import checkpoints, cost, datasets, diagram, measure, models, plot, training
from codesign.claims import claims
from codesign.hardware import energy

plot.theme()
torch.manual_seed(0)
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

# %% [markdown]
# ## 1. Is it worth the effort?
#
# Start with energy, in a 45 nm process: one fp32 multiplication and one addition are one
# multiply–accumulate (MAC).

# %%
fetch = plot.predict(
    "How many times a MAC's energy does it take to fetch its 32-bit weight from DRAM?",
    unit="×",
    range=(0.1, 1000),
)

# %% [markdown]
# Figures: Horowitz, "Computing's energy problem", ISSCC 2014, as tabulated in Han et al., "Learning
# both weights and connections", NeurIPS 2015, figure 1; the 8-bit row from Horowitz, figure
# 1.1.9.

# %%
words = {f"{memory}, 32 bit": pj for memory, pj in energy.WORD_PJ.items()}
ENERGY_PJ = {**energy.OPERATION_PJ, **words}
for name in ("int8 add", "fp32 add", "fp32 multiply", *words):
    print(f"{name:20} {ENERGY_PJ[name]:7g} pJ")

# %%
mac_pj = energy.mac_pj("fp32")
fetch.measured(ENERGY_PJ["DRAM, 32 bit"] / mac_pj)

# %% [markdown]
# **Equation.** A layer with $M$ MACs whose $P$ weights are each fetched once per inference, and
# whose $A$ activations (inputs and outputs) are each moved once, spends
#
# $$E = M\,(e_\text{mul} + e_\text{add}) + P\,e_\text{weights} + A\,e_\text{activations}.$$
#
# Weights dominate where their *reuse* $M / P$ stays below
# $e_\text{weights} / (e_\text{mul} + e_\text{add})$. In a convolution the reuse is the number of
# output pixels; in a linear layer at batch 1 it is 1.


# %%
def energy_uj(macs, weights=0, activations=0, memory="DRAM, 32 bit"):
    """Microjoules of one inference, every weight and activation moved once."""
    return (macs * mac_pj + (weights + activations) * ENERGY_PJ[memory]) * 1e-6


# %%
assert math.isclose(energy_uj(10**6), 3.7 + 0.9)  # fp32 multiply and add
assert math.isclose(energy_uj(0, 2, 3, "SRAM, 32 bit"), 5 * 5e-6)
assert math.isclose(energy_uj(1, 1), (4.6 + 640) * 1e-6)

# %% [markdown]
# The network of this lecture, layer by layer, with everything in DRAM:

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val").head(VAL_IMAGES)
dense = checkpoints.load(checkpoints.shipped("vgg", dataset))
layers = cost.layers(dense)
dense_accuracy = training.evaluate(dense, val)
print(f"{cost.parameters(dense):,} parameters, {cost.macs(dense):,} MACs")
print(f"{dense_accuracy:.1%} of {len(val)} validation images right")

# %%
moved = [math.prod(own.input_shape) + math.prod(own.output_shape) for own in layers]
parts = {
    "arithmetic": [energy_uj(own.macs) for own in layers],
    "weights": [energy_uj(0, own.params) for own in layers],
    "activations": [energy_uj(0, 0, count) for count in moved],
}
print(", ".join(f"{name} {sum(values):.0f} µJ" for name, values in parts.items()))

# %%
names = [layer.name.split(".")[-1] for layer in layers]
_, ax = plt.subplots(figsize=(6.4, 2.8))
low = [0.0] * len(names)
for (name, values), colour in zip(parts.items(), plot.CYCLE, strict=False):
    ax.bar(names, values, bottom=low, color=colour, label=name)
    low = [a + b for a, b in zip(low, values, strict=True)]
for i, own in enumerate(layers):
    ax.text(i, low[i], f"×{own.macs / own.params:.0f}", ha="center", va="bottom")
ax.set(ylabel="energy, µJ (estimate)", title="× = uses of each fetched weight")
ax.legend()
plot.show("Bars of each layer: activations lead in the first, weights in the last ones")

# %% [markdown]
# *Every weight costs the same fetch. In the late layers few pixels share it, and it outweighs the
# arithmetic; pruning the early ones saves arithmetic, and, if whole channels go, activations.*
#
# Energy counters count the whole chip, so this stays an estimate. A related effect can be timed: in
# Lecture 1, section 2, the same linear layer did many times more per second at batch 64 than at
# batch 1, where each weight is used once. A weight that is not there is a fetch saved.
#
# ## 2. What is being asked for?
#
# $$\min_{W}\; L(W)\quad\text{subject to}\quad \lVert W\rVert_0 \le N,$$
#
# where $\lVert W\rVert_0$ counts the nonzeros: choose weights and a mask $M\in\{0,1\}$ with
# $\lVert M\rVert_0\le N$, and minimize $L(M\odot W)$. *Sparsity* is $s$ = zeros / size.
#
# **Smallest example.** Eight random weights of a least-squares problem with correlated inputs; four
# may stay, unchanged. There are 70 masks, few enough to try them all.

# %%
often = plot.predict(
    "On how many of 100 such problems has the mask of the four largest |w| the lowest loss?",
    unit="",
    range=(0, 100),
)


# %%
def loss_of(x, w, kept):
    """Mean squared error when only the weights ``kept`` of ``w [8]`` stay, unchanged."""
    removed = [i for i in range(8) if i not in kept]
    return float((x[:, removed] @ w[removed]).pow(2).mean())


# %%
small_masks = list(itertools.combinations(range(8), 4))


def place_of_largest(x, w):
    """Place among all masks, by loss, of the one that keeps the four largest weights."""
    found = loss_of(x, w, w.abs().topk(4).indices.tolist())
    return 1 + sum(loss_of(x, w, kept) < found for kept in small_masks)


# %% [markdown]
# The oracles: the loss of a network whose weights are set to zero; inputs of equal size that have
# nothing to do with each other, where the largest are best; and inputs that shrink as $1/w^2$, where
# they are worst.

# %%
x, small_w = torch.randn(200, 8) @ torch.randn(8, 8), torch.randn(8)
half_w = small_w * torch.tensor([1, 1, 0, 1, 0, 0, 1, 0])
left_over = F.mse_loss(x @ half_w, x @ small_w)
assert math.isclose(loss_of(x, small_w, (0, 1, 3, 6)), left_over, rel_tol=1e-4)
assert place_of_largest(torch.eye(8), small_w) == 1
assert place_of_largest(torch.diag(small_w**-2), small_w) == 70

# %%
MIX = [torch.randn(8, 8) for _ in range(100)]  # how the inputs of each problem are correlated
places = [place_of_largest(torch.randn(200, 8) @ mix, torch.randn(8)) for mix in MIX]
print(f"place of the largest |w|: median {sorted(places)[50]}, worst {max(places)} of 70")
often.measured(places.count(1))

# %% [markdown]
# **Change this:** take the correlation out of the inputs (`torch.eye(8)` in `MIX`) and run that cell
# again. What has become of the places, and why?
#
# Keeping the largest weights is a guess about the loss. For a whole network nobody can enumerate, so
# its methods guess, and are judged by what they lose.
#
# So every pruning method is four choices: the **granularity** (in which shapes weights go), the
# **criterion** (which go), the **ratio** of each layer (Lecture 4), and the **fine-tuning** after.
#
# ## 3. In which shapes may weights go?
#
# A convolution's weight is `[C_out, C_in, k, k]`. Flattened in this order, four of the five usual
# granularities are runs of some length: a single weight (1), a *vector*, one row of a kernel (3), a
# *kernel* (9), and a *channel*, that is one whole filter ($9\,C_\text{in}$). Score each run by its
# norm and keep the runs above a quantile:
#
# $$M_g = \mathbb{1}\big[\lVert W_g\rVert_2 \ge Q_s(\lVert W\rVert_2)\big].$$

# %%
RUNS = {"fine-grained": 1, "vector": 3, "kernel": 9, "channel": None}


def run_mask(weight, sparsity, run):
    """Mask of ``weight [C_out, C_in, k, k]`` by strength of runs (None: filters)."""
    runs = weight.detach().reshape(-1, run or weight[0].numel())
    score = runs.norm(dim=1)
    keep = score >= score.quantile(sparsity)
    return keep[:, None].expand_as(runs).reshape(weight.shape).float()


# %% [markdown]
# The fifth is a *pattern*: of every four neighbours along the input channels exactly two stay
# (2:4). There are six such patterns, so take the one that keeps the largest sum of magnitudes.

# %%
by_four = itertools.product((0.0, 1.0), repeat=4)
PATTERNS = torch.tensor([p for p in by_four if sum(p) == 2])


def pattern_mask(weight):
    """2:4 mask of ``weight [C_out, C_in, k, k]``, C_in a multiple of 4."""
    last = weight.detach().permute(0, 2, 3, 1)  # input channels last, as hardware wants
    best = (last.reshape(-1, 4).abs() @ PATTERNS.T).argmax(1)
    return PATTERNS[best].reshape(last.shape).permute(0, 3, 1, 2)


# %%
def mask_of(weight, sparsity, granularity):
    """The mask of one layer at one granularity."""
    if granularity == "2:4":
        return pattern_mask(weight)
    return run_mask(weight, sparsity, RUNS[granularity])


# %% [markdown]
# The oracle sorts instead: of the runs of `conv5`, the strongest stay whole, and as many as the
# sparsity says; of every four weights along the channels, the two largest stay.

# %%
layer = dense.features.conv5
for name, run in RUNS.items():
    kept = mask_of(layer.weight, 0.75, name).reshape(-1, run or layer.weight[0].numel())
    strength = (layer.weight.detach().reshape(kept.shape) ** 2).sum(1)
    strongest = strength.argsort(descending=True)[: round(0.25 * len(strength))]
    expected = torch.zeros(len(strength)).index_fill(0, strongest, 1)
    assert torch.equal(kept, expected[:, None].expand_as(kept)), name
assert mask_of(layer.weight, 0.0, "channel").all()
fours = layer.weight.detach().permute(0, 2, 3, 1).reshape(-1, 4).abs()
two = torch.zeros_like(fours).scatter(1, fours.topk(2).indices, 1)
in_fours = mask_of(layer.weight, 0.5, "2:4").permute(0, 2, 3, 1)
assert torch.equal(in_fours.reshape(-1, 4), two)

# %% [markdown]
# At 50 %, all that 2:4 can do:

# %%
GRANULARITIES = ("fine-grained", "2:4", "vector", "kernel", "channel")
masks = {name: mask_of(layer.weight, 0.5, name) for name in GRANULARITIES}
for name, mask in masks.items():
    kept_norm = (mask * layer.weight).pow(2).sum() / layer.weight.pow(2).sum()
    print(f"{name:13} s = {cost.sparsity(mask):.3f}, {kept_norm:.1%} of ‖W‖² left")

# %% [markdown]
# The coarser the shape, the less of the weight's norm survives at the same sparsity: a strong
# weight falls together with its weak neighbours. Now the other side, time. How does one store what
# is left? By the coordinates of the nonzeros (compressed sparse rows, CSR), by one bit a weight, or,
# where whole rows go, by a smaller matrix:

# %%
example = torch.tensor([[0, 7, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0], [5, 0, 0, 1, 0, 3]])
csr = example.to_sparse_csr()
bits = (example != 0).flatten().int().tolist()
_, ax = diagram.blank(21, 5)
diagram.cells(ax, (0.2, 4), example.tolist())
diagram.arrow(ax, (6.5, 3), (9, 4), "CSR")
diagram.cells(ax, (13, 5), [csr.values().tolist()], label="values")
memory = plot.COLOURS["memory"]
columns = [str(c) for c in csr.col_indices().tolist()]
starts = [str(c) for c in csr.crow_indices().tolist()]
diagram.cells(ax, (13, 4), [columns], color=memory, label="columns")
diagram.cells(ax, (13, 3), [starts], color=memory, label="row starts")
diagram.arrow(ax, (6.5, 1.6), (9, 0.6), "bitmap")
diagram.cells(ax, (13, 1.2), [list(map(str, bits[:6]))], color=memory, label="bits, first row")
plot.show("A 3 x 6 matrix of five nonzeros beside its CSR arrays and its bitmap")

# %% [markdown]
# *Blue is what the layer computes with, orange is what says where it belongs: CSR pays an index for
# every nonzero, a bitmap one bit for every place. With half of the weights left, 32-bit indices
# cost as much as the zeros saved.*
#
# Three ways, then, to run a pruned layer on a CPU:
#
# 1. the dense kernel, which multiplies by the zeros;
# 2. a sparse kernel: unfold the input into patches, multiply by the weight in CSR;
# 3. where whole channels went, a smaller dense layer.


# %%
class SparseConv(nn.Module):
    """3x3 convolution (stride 1, padding 1, batch 1) of the nonzeros alone."""

    def __init__(self, conv):
        super().__init__()
        self.kept = conv.weight.detach().flatten(1).contiguous().to_sparse_csr()

    def forward(self, x):
        patches = F.unfold(x, 3, padding=1)[0]  # [C_in·9, H·W]
        return (self.kept @ patches).view(1, -1, *x.shape[2:])


# %%
def masked(conv, mask):
    """A copy of ``conv`` with the mask applied."""
    pruned = copy.deepcopy(conv)
    pruned.weight.data *= mask
    return pruned


# %%
def without_filters(conv, mask):
    """A convolution of only those filters that the mask keeps."""
    small = copy.deepcopy(conv)
    small.weight.data = conv.weight.data[mask.flatten(1).any(1)]
    return small


# %% [markdown]
# The oracle is the dense convolution with the masked weight: all three must compute its numbers.

# %%
size = dict((c.name, c.input_shape) for c in layers)["features.conv5"]
probe = torch.randn(size)
stay = masks["channel"].flatten(1).any(1)
with torch.no_grad():
    expected = F.conv2d(probe, layer.weight * masks["channel"], padding=1)
    zeros = masked(layer, masks["channel"])
    few = without_filters(layer, masks["channel"])(probe)
    for got in (zeros(probe), SparseConv(zeros)(probe)):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(few, expected[:, stay], rtol=1e-3, atol=1e-4)
stored_values = SparseConv(masked(layer, masks["2:4"])).kept.values()
assert len(stored_values) == layer.weight.numel() / 2

# %% [markdown]
# All timings here use one thread: several wait for each other when the machine does other work.


# %%
def timed(calls):
    """Paired latencies on one thread, and the machine they were taken on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found, machine = measure.latency(calls, rounds=ROUNDS), measure.machine()
    torch.set_num_threads(threads)
    return found, machine


# %%
shape_calls = {"dense": measure.inference(layer, size)}
for name, mask in masks.items():
    shape_calls[f"{name}, zeros"] = measure.inference(masked(layer, mask), size)
    shape_calls[f"{name}, CSR"] = measure.inference(SparseConv(masked(layer, mask)), size)
fewer = without_filters(layer, masks["channel"])
shape_calls["channel, small"] = measure.inference(fewer, size)
shape_times, where = timed(shape_calls)
print(f"{where}\ndense: {shape_times['dense']}")

# %% [markdown]
# The five masks, and over each what it does to the clock:

# %%
_, axes = plt.subplots(1, 5, figsize=(9, 3.1), sharey=True)
for ax, (name, mask) in zip(axes, masks.items(), strict=True):
    ax.imshow(mask[:36, :4].flatten(1), cmap="Blues", vmin=-0.15, vmax=1.4)
    kinds = [k for k in ("zeros", "CSR", "small") if f"{name}, {k}" in shape_calls]
    ratios = [shape_times.ratio(f"{name}, {kind}", "dense").median for kind in kinds]
    shown = [f"{kind} ×{ratio:.2f}" for kind, ratio in zip(kinds, ratios, strict=True)]
    ax.set_title("\n".join([name, *shown, " "][:4]), fontsize=8.5)
    ax.set_xticks([0, 9, 18, 27], ["0", "1", "2", "3"])
    ax.set_xlabel("input channel")
    ax.grid(visible=False)
axes[0].set_ylabel("filter")
plot.show("Five masks of conv5, half of it left: from salt and pepper to whole rows")

# %% [markdown]
# *Half of `conv5` removed in five shapes (dark: kept; the first 36 filters, 4 input channels of 9
# weights each). Above each: its measured latency as a multiple of the dense layer's, run with the
# dense kernel on zeros, with CSR, and as a smaller dense layer. Zeros alone buy the dense
# kernel nothing.*
#
# ### When does CSR pay?
#
# A sparse kernel's time grows with the nonzeros, $t_\text{CSR}(s) \approx t_0 + (1-s)\,t_1$, where
# $t_0$, the unfolding, does not shrink. It beats the dense kernel beyond
#
# $$s^* = 1 - \frac{t_\text{dense} - t_0}{t_1}.$$

# %%
pays = plot.predict(
    "From which sparsity of conv5 on is CSR faster than the dense kernel? "
    "(Tried: 0.5, 0.75, 0.875, 0.9375, 0.97, 0.99; 1: never)",
    unit="",
    range=(0.5, 1),
)

# %% [markdown]
# Two timings give the model: unfolding alone is $t_0$, a CSR layer without any zero takes
# $t_0 + t_1$. All the others test it.

# %%
SPARSITIES = (0.5, 0.75, 0.875, 0.9375, 0.97, 0.99)
csr_calls = {"dense": measure.inference(layer, size)}
csr_calls["unfold"] = measure.inference(nn.Unfold(3, padding=1), size)
csr_calls["CSR 0"] = measure.inference(SparseConv(layer), size)
for s in SPARSITIES:
    fine = masked(layer, mask_of(layer.weight, s, "fine-grained"))
    csr_calls[f"CSR {s}"] = measure.inference(SparseConv(fine), size)
    channel = without_filters(layer, mask_of(layer.weight, s, "channel"))
    csr_calls[f"channel {s}"] = measure.inference(channel, size)
csr_times, _ = timed(csr_calls)

# %%
t0 = csr_times["unfold"].median
t1 = csr_times["CSR 0"].median - t0
break_even = 1 - (csr_times["dense"].median - t0) / t1
faster = [s for s in SPARSITIES if csr_times.ratio(f"CSR {s}", "dense").median < 1]
print(f"t0 = {t0 * 1e3:.3f} ms, t1 = {t1 * 1e3:.3f} ms, dense {csr_times['dense']}")
print(f"estimated s* = {break_even:.3f}; measured, CSR wins at {faster or 'none'}")
for s in SPARSITIES:
    ratio = csr_times[f"CSR {s}"].median / (t0 + t1 * (1 - s))
    print(f"s = {s:6}: CSR measured / estimated = {ratio:.2f}")
pays.measured(min(faster, default=1))

# %% [markdown]
# The same as a figure, the model as lines and the measurements as marks, channels beside it:

# %%
dense_ms, line = csr_times["dense"].median * 1e3, torch.logspace(-2, -0.3, 50)
grey, orange = plot.COLOURS["baseline"], plot.COLOURS["memory"]
_, ax = plt.subplots()
ax.axhline(dense_ms, color=grey, label="dense kernel, zeros")
ax.plot(line, dense_ms * line, ":", color=grey, label="dense · (1 − s)")
ax.plot(line, (t0 + t1 * line) * 1e3, color=orange, label="t₀ + (1 − s) t₁")
for kind, key in (("CSR", "memory"), ("channel", "ours")):
    points = [csr_times[f"{kind} {s}"] for s in SPARSITIES]
    density = [1 - s for s in SPARSITIES]
    plot.measured(ax, density, points, scale=1e3, color=plot.COLOURS[key], label=kind)
ax.loglog()
ax.set(xlabel="density 1 − s", ylabel="latency of conv5, ms")
ax.set_xticks(density, [f"{d:g}" for d in density])
ax.invert_xaxis()
ax.legend(fontsize=7)
plot.show("Latency over density: channels fall at once, CSR starts above dense")

# %% [markdown]
# *Zeros are free only if something skips them. Removing filters follows the nonzeros down at first;
# then fixed costs remain. Irregular sparsity starts far above the dense kernel and crosses it, if at
# all, where little of the layer is left.*
#
# **What the hardware does with it.** A dense kernel typically loads a vector of consecutive weights
# and inputs and issues one fused multiply–add for all of them; tiles stay in registers and caches.
# CSR loads an index for each weight, then gathers a row of the input from wherever the index points.
# So a nonzero costs more than a weight of the dense kernel: compare $t_1$ with the dense time above.
#
# Hardware that wants irregular sparsity has to be built for it (EIE, Lecture 4). 2:4 is the
# compromise in NVIDIA GPUs since Ampere: two bits of metadata select the inputs, and the dense
# pipeline stays full. This CPU has no such instruction, so 2:4 runs as dense or as CSR.
#
# ### How many bytes, indices included?
#
# With Deep Compression's relative index each kept run carries 4 bits, which say how many runs were
# skipped before it (after a gap of more than 15, a zero is stored): nine weights of a kernel need one
# index. 2:4 needs 2 bits for each kept weight.


# %%
def layer_bytes(weight, granularity):
    """Bytes of one pruned layer in fp32 with the indices that its granularity needs."""
    if granularity == "2:4":
        return cost.nm_bytes(weight)
    run = RUNS[granularity] or weight[0].numel()
    alive = weight.reshape(-1, run).any(1)
    return cost.relative_index_bytes(alive, value_bits=32 * run)


# %%
toy = torch.zeros(2, 4, 3, 3)
toy[0, 0, 0, :2] = 1  # two neighbours, and one weight at the end
toy[1, 3, 2, 2] = 1
# by hand: 69 zeros before the last weight need 4 fillers of 16 places each
assert layer_bytes(toy, "fine-grained") == math.ceil((3 + 4) * (32 + 4) / 8)
assert layer_bytes(toy, "vector") == math.ceil((2 + 1) * (3 * 32 + 4) / 8)
assert layer_bytes(toy, "kernel") == math.ceil(2 * (9 * 32 + 4) / 8)
assert layer_bytes(toy, "channel") == math.ceil(2 * (36 * 32 + 4) / 8)
assert layer_bytes(toy, "2:4") == 36 * (32 + 2) / 8

# %%
full = layer.weight.numel() * 4
for name, mask in masks.items():
    cut = mask * layer.weight.detach()
    in_csr, own = cost.csr_bytes(cut), layer_bytes(cut, name)
    print(f"{name:13} CSR {in_csr / full:.2f} of dense, its own index {own / full:.3f}")

# %% [markdown]
# Plain CSR with 32-bit indices saves nothing at 50 %: one index for each weight. Relative indices
# nearly repair that.
#
# ## 4. Which weights go?
#
# ### 4.1 Magnitude, and what batch norm makes of it
#
# The magnitude criterion assumes that a group of small norm matters little. Norms do not always
# agree: of the groups $(3, 3)$ and $(5, 0)$, L1 removes the second, L2 the first. Neither looks at
# the data, and neither knows what follows the layer. What does follow?

# %%
_, ax = diagram.blank(21, 3.4)
steps = [("filter c\nof conv i", 3.4), ("batch norm\nγ, β, μ, σ of c", 4.4), ("ReLU", 2)]
steps += [("channel c\nH × W", 3), ("input c of every\nfilter of conv i+1", 5)]
left = 0.2
for number, (text, width) in enumerate(steps):
    ours = {"color": "#d9ede5"} if number in (0, 1, 4) else {}
    diagram.box(ax, (left, 0.8), width, 1.6, text, **ours)
    if number < len(steps) - 1:
        diagram.arrow(ax, (left + width, 1.6), (left + width + 0.7, 1.6))
    left += width + 0.7
plot.show("Filter, batch norm, ReLU, channel, next layer's inputs; green: weights of c")

# %% [markdown]
# *A channel is a filter, four numbers of batch norm, and a slice of every filter of the next layer
# (green: what goes when the channel goes). Batch norm divides by σ: with the statistics of a batch, a
# filter of another scale is the same function:*

# %%
block = copy.deepcopy(dense.features[:3]).train()  # conv0, bn0, relu0, batch statistics
batch = datasets.normalize(train.images[:64])
with torch.no_grad():
    before = block(batch)
    block[0].weight[0] *= 100
    change = (block(batch) - before).abs().max()
print(f"filter 0 is 100 times larger, the block's output changes by {change:.0e}")

# %% [markdown]
# ### 4.2 Scaling factors
#
# After normalization, $y = \gamma\,\hat x + \beta$ with $\hat x$ of unit variance, so $|\gamma|$ is
# the standard deviation of the channel before ReLU. Network slimming (Liu et al., ICCV 2017) trains
# with an L1 penalty on $\gamma$ and removes the channels with small ones. Section 4.5 tries $|\gamma|$
# of this network, which was trained without the penalty.
#
# ### 4.3 What does removal do to the loss?
#
# What removal *does* is a question about the loss. Around trained weights, with gradient $g$ and
# Hessian $H$,
#
# $$\Delta L = g^\top\delta + \tfrac12\,\delta^\top H\,\delta + O(\lVert\delta\rVert^3),$$
#
# and at a minimum $g = 0$. Removing weight $q$ alone, $\delta = -w_q e_q$ ($e_q$: 1 at $q$), gives
# LeCun, Denker and Solla's OBD (1989); letting all others adapt, that is, minimizing over $\delta$
# with a multiplier for $\delta_q = -w_q$, gives Hassibi and Stork's OBS (1992):
#
# $$\text{OBD: } \tfrac12 H_{qq} w_q^2 \qquad
# \text{OBS: } \frac{w_q^2}{2\,[H^{-1}]_{qq}},\quad
# \delta = -\frac{w_q}{[H^{-1}]_{qq}}\,H^{-1}e_q.$$
#
# **A small real problem.** One filter of `conv0`: 27 weights, its inputs the 3×3×3 patches of
# images, its target its own output. Neighbouring pixels are alike, so $H$ is far from diagonal.

# %%
patches = F.unfold(datasets.normalize(train.images[:100]), 3)  # [100, 27, places]
chosen = torch.randperm(100 * patches.shape[2])[:2000]
P = patches.transpose(1, 2).reshape(-1, 27)[chosen].double()
w0 = dense.features.conv0.weight[0].detach().flatten().double()
target = P @ w0


def filter_loss(v):
    """Half the mean squared error of the filter ``v [27]``."""
    return (P @ v - target).pow(2).mean() / 2


# %%
H = torch.autograd.functional.hessian(filter_loss, w0)
torch.testing.assert_close(H, P.T @ P / len(P))
half = F.mse_loss(P @ (w0 + 1), target) / 2
torch.testing.assert_close(filter_loss(w0 + 1), half)

# %%
inverse = torch.linalg.inv(H)
obd = H.diagonal() * w0**2 / 2
obs = w0**2 / inverse.diagonal() / 2


# %%
def surgeon_step(w, inverse, q):
    """OBS: remove weight ``q`` and let all others make up for it."""
    return w - w[q] / inverse[q, q] * inverse[q]


# %% [markdown]
# The oracle for OBD is the loss after deletion; for OBS, the loss after deletion and a least-squares
# refit of the other 26 weights.


# %%
def refit(kept):
    """The best filter whose nonzeros are ``kept``, by least squares on the data."""
    v = torch.zeros(27, dtype=torch.float64)
    v[kept] = torch.linalg.lstsq(P[:, kept], target[:, None]).solution[:, 0]
    return v


# %%
others = [[i for i in range(27) if i != q] for q in range(27)]
deleted = torch.stack([filter_loss(w0 * (torch.arange(27) != q)) for q in range(27)])
refitted = torch.stack([filter_loss(refit(kept)) for kept in others])
torch.testing.assert_close(obd, deleted)
torch.testing.assert_close(obs, refitted, rtol=1e-4, atol=1e-12)
stepped = surgeon_step(w0, inverse, 5)
torch.testing.assert_close(stepped, refit(others[5]), rtol=1e-4, atol=1e-8)

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True)
left.loglog(w0.abs(), refitted, "o", color=plot.COLOURS["baseline"])
left.set(xlim=(0.004, 0.8), xlabel="|w|", ylabel="loss after refit", title="magnitude")
right.loglog(obd, refitted, "o", color=plot.COLOURS["compute"], label="OBD")
right.loglog(obs, refitted, "s", color=plot.COLOURS["ours"], label="OBS")
limits = [float(refitted.min()) / 2, float(obd.max()) * 2]
right.loglog(limits, limits, color=plot.COLOURS["measured"], lw=0.8)
right.set(xlabel="predicted loss", title="second order")
right.legend()
plot.show("OBS lies on the line of equality, OBD far above it, magnitude scatters")

# %% [markdown]
# *Each point is one of 27 weights. OBS predicts exactly what removal costs once the others adapt
# (black line: equality); OBD answers the question without adaptation, exactly too, and so overstates.
# As an order of these weights, it and magnitude are alike.*
#
# One weight is easy. Removing many separates the methods: OBD ignores how deletions interact, OBS
# updates $w$ and $H^{-1}$ after each. The [further reading to this
# lecture](further/03_second_order.ipynb) does it for every filter of `conv0`, and shows that much of
# OBS's advantage is repair. The price: $H$ has the square of the number of weights as entries.
# Layer-wise OBS, one small $H$ for all filters of a layer, returns in Lecture 13; in Lab 1 you derive
# OBD's diagonal for a loss that is not quadratic.
#
# ### 4.4 First order: Taylor and Fisher
#
# For *channels* one needs no Hessian. Multiply channel $c$ by a gate $z_c = 1$; removal is
# $z_c \to 0$, and to first order $\Delta L \approx -\partial L/\partial z_c$. With the gradients
# $g_{nc}$ of each image $n$:
#
# $$\text{Taylor: } \Big|\tfrac1N\sum_n g_{nc}\Big| \qquad
# \text{Fisher: } \tfrac1{2N}\sum_n g_{nc}^2 .$$
#
# A large slope either way says that the channel is used. The second takes the mean square of the
# gradients, the Fisher information, for $H_{cc}$, and survives a vanishing mean gradient. (Molchanov
# et al., ICLR 2017 and CVPR 2019; Theis et al., 2018.)

# %%
sample = train.head(CHANNEL_IMAGES)
CONVS = range(len(layers) - 1)
heads, h = {}, datasets.normalize(sample.images)
with torch.no_grad():
    for name, module in dense.features.named_children():
        h = module(h)
        if name.startswith("relu"):
            heads[int(name.removeprefix("relu"))] = h  # of layer i, [N, C, H, W]


# %%
def gated_losses(i, gate, remeasure=False):
    """Loss of each image ``[N]``, layer ``i``'s channels times ``gate [N or 1, C]``.

    ``remeasure``: batch norms behind the gate take the statistics of these images.
    """
    behind = list(dict(dense.features.named_children())).index(f"relu{i}") + 1
    tail = dense.features[behind:]
    if remeasure:
        tail = copy.deepcopy(tail).train()
    pooled = tail(heads[i] * gate[:, :, None, None]).mean((2, 3))
    return F.cross_entropy(dense.classifier(pooled), sample.labels, reduction="none")


# %%
def gradients(i):
    """Gradient of each image's loss by each gate of layer ``i``: ``[N, C]``."""
    gate = torch.ones(len(sample), heads[i].shape[1], requires_grad=True)
    return torch.autograd.grad(gated_losses(i, gate).sum(), gate)[0]


# %% [markdown]
# The oracles: an open gate is the network itself; a closed one is the network whose next layer has
# lost that input; the gradient is a finite difference; and re-measured statistics are those that
# batch norm itself would gather.

# %%
one = torch.ones(1, 64)
shut = one - F.one_hot(torch.tensor(7), 64)
with torch.no_grad():
    loss_now = F.cross_entropy(dense(datasets.normalize(sample.images)), sample.labels)
    without = copy.deepcopy(dense)
    without.features.conv4.weight[:, 7] = 0
    expected = F.cross_entropy(without(datasets.normalize(sample.images)), sample.labels)
    torch.testing.assert_close(gated_losses(3, one).mean(), loss_now)
    closed = gated_losses(3, shut).mean()
    torch.testing.assert_close(closed, expected, rtol=1e-4, atol=1e-6)

# %%
g3 = gradients(3)
top = g3.mean(0).abs().argmax()
with torch.no_grad():
    step = F.one_hot(top, 64) * 0.01
    difference = (gated_losses(3, one + step) - gated_losses(3, one - step)) / 0.02
torch.testing.assert_close(difference.mean(), g3.mean(0)[top], rtol=0.05, atol=1e-4)
torch.testing.assert_close(difference.norm(), g3[:, top].norm(), rtol=0.05, atol=1e-4)

# %% [markdown]
# Statistics gathered by batch norm itself, over the same images:

# %%
with torch.no_grad():
    gathered = copy.deepcopy(without).train()
    for module in gathered.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain average instead of a running one
            module.reset_running_stats()
    for name in ("bn0", "bn1", "bn2", "bn3"):  # not those before the gate
        setattr(gathered.features, name, getattr(dense.features, name))
    gathered(datasets.normalize(sample.images))
    expected = F.cross_entropy(gathered.eval()(datasets.normalize(sample.images)), sample.labels)
    closed_again = gated_losses(3, shut, True).mean()
torch.testing.assert_close(closed_again, expected, rtol=0.02, atol=1e-3)

# %% [markdown]
# ### 4.5 Which criterion beats random?
#
# One more candidate: a channel that ReLU silences most of the time says little (APoZ, average
# percentage of zeros, Hu et al., 2016). The last one is yours. Each layer is pruned alone, as it is,
# and once more with the statistics of the batch norms behind it measured again: they expect channels
# that are gone.

# %%
beaten = plot.predict(
    f"3/8 of a layer's channels go. On how many of {len(CONVS)} layers is the loss by L1 below "
    "the median of random choices, batch norm as it is?",
    unit="",
    range=(0, len(CONVS)),
)


# %%
def mine(i):
    """Change this: scores of layer ``i``'s channels. Now: their mean activation."""
    return heads[i].mean((0, 2, 3))


# %%
def scores_of(i):
    """Importance of every channel of layer ``i`` by each criterion, ``{name: [C]}``."""
    conv, g = dense.features.get_submodule(f"conv{i}"), gradients(i)
    filters = conv.weight.detach().flatten(1)
    return {
        "L1": filters.abs().sum(1),
        "L2": filters.norm(dim=1),
        "|γ|": dense.features.get_submodule(f"bn{i}").weight.detach().abs(),
        "1 − APoZ": (heads[i] > 0).float().mean((0, 2, 3)),
        "Taylor": g.mean(0).abs(),
        "Fisher": g.pow(2).mean(0) / 2,
        "mine": mine(i),
    }


# %%
def loss_without(i, score, remeasure=False, share=3 / 8):
    """Mean loss without the least important ``share`` of layer ``i``'s channels."""
    keep = score.argsort().argsort() >= round(share * len(score))
    with torch.no_grad():
        return float(gated_losses(i, keep.float()[None], remeasure).mean())


# %% [markdown]
# The oracles: sums by hand, the finite differences from above, and channels really cut off.

# %%
found, conv = scores_of(3), dense.features.conv3.weight
fifth = conv[5].flatten().tolist()
assert math.isclose(found["L1"][5], sum(abs(v) for v in fifth), rel_tol=1e-4)
assert math.isclose(found["L2"][5] ** 2, sum(v * v for v in fifth), rel_tol=1e-4)
silent = (heads[3][:, 5] == 0).float().mean()
assert math.isclose(1 - found["1 − APoZ"][5], silent, rel_tol=1e-4)
taylor, fisher = difference.mean().abs(), difference.pow(2).mean() / 2
torch.testing.assert_close(found["Taylor"][top], taylor, rtol=0.05, atol=1e-4)
torch.testing.assert_close(found["Fisher"][top], fisher, rtol=0.1, atol=1e-6)
shuffled = torch.randperm(64).float()  # a score; the 24 lowest go
with torch.no_grad():
    without.features.conv4.weight.copy_(dense.features.conv4.weight)
    without.features.conv4.weight[:, shuffled < 24] = 0
    expected = F.cross_entropy(without(datasets.normalize(sample.images)), sample.labels)
assert math.isclose(loss_without(3, shuffled), expected, rel_tol=1e-3)

# %% [markdown]
# Every layer, every criterion, and random choices beside them:

# %%
drawn = {i: torch.rand(DRAWS, heads[i].shape[1]) for i in CONVS}
random_losses, losses = {}, {}
for remeasure, i in itertools.product((False, True), CONVS):
    by_chance = [loss_without(i, score, remeasure) for score in drawn[i]]
    random_losses[remeasure, i] = torch.tensor(by_chance)
    for name, score in scores_of(i).items():
        losses[remeasure, i, name] = loss_without(i, score, remeasure)

# %%
CRITERIA = list(found)
wins = {
    (remeasure, name): sum(
        losses[remeasure, i, name] < random_losses[remeasure, i].median() for i in CONVS
    )
    for remeasure, name in itertools.product((False, True), CRITERIA)
}
for name in CRITERIA:
    print(
        f"{name:9} beats the median draw on {wins[False, name]} of {len(CONVS)} layers, "
        f"on {wins[True, name]} with batch norm measured again"
    )
beaten.measured(wins[False, "L1"])

# %% [markdown]
# What each choice adds to the loss, random choices as a band:

# %%
_, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
for ax, remeasure in zip(axes, (False, True), strict=True):
    draws = torch.stack([random_losses[remeasure, i] for i in CONVS]) - loss_now
    band = {"color": "#dddddd", "label": "random, all draws"}
    ax.fill_between(CONVS, draws.amin(1), draws.amax(1), **band)
    ax.plot(CONVS, draws.median(1).values, color=grey, label="random, median")
    for name, marker in zip(CRITERIA, "ov^sPXD", strict=True):
        added = [losses[remeasure, i, name] - loss_now for i in CONVS]
        ax.plot(CONVS, added, marker, ms=4, label=name)
    title = "batch norm measured again" if remeasure else "as it is"
    ax.set(xlabel="layer", title=title)
axes[0].set_ylabel("loss added by removing 3/8")
axes[1].legend(fontsize=7, ncols=2)
plot.show("Loss added on seven layers: criteria scatter over and below the band of random draws")

# %%
for remeasure, how in ((False, "as it is"), (True, "with batch norm measured again")):
    best = max(CRITERIA, key=lambda name: wins[remeasure, name])
    lucky = [random_losses[remeasure, i] for i in CONVS]
    spans = [float(draws.max() - draws.min()) for draws in lucky]
    print(
        f"{how}: {best} wins most often, on {wins[remeasure, best]} of {len(CONVS)} layers; "
        f"luck alone spans a loss of {min(spans):.2f} to {max(spans):.2f}"
    )

# %% [markdown]
# *The grey band is what luck alone makes of a layer. A criterion is worth having where it lies below
# the band, not where it beats another criterion: a coin is at 5 of 7 or more in 23 % of cases. Where
# the panels differ, the left one's loss is batch norm that a pass over a few images repairs; behind
# the last layer there is none.*
#
# A criterion of another kind looks at the next layer's output and needs no labels: regression, in
# the further reading.
#
# **Change this:** put a criterion of your own into `mine`, run from there, and see whether it leaves
# the band. Then try the *worst* one you can think of.
#
# ## 5. What does fine-tuning give back, and what does it buy?
#
# Han et al.'s recipe has three steps: train, prune, retrain what remains. One pass over a few images
# stands for retraining here; Lecture 4 iterates, and Lab 1 takes the time.
#
# Compare methods at equal *accuracy*, after retraining. Fine-grained pruning, 2:4 and whole
# channels get the same images, the same steps and the same rate. When channels go, batch norm's
# offsets of them go, too; and since each removed filter takes its inputs in the next layer along,
# channel pruning keeps $\sqrt{1-s}$ of the filters to leave $1-s$ of the weights. May any number stay?

# %%
odd = plot.predict(
    "A layer of 48 filters loses one. How many times as long does it take then?",
    unit="×",
    range=(0.5, 2),
)

# %%
width_calls = {}
for count in (32, 40, 44, 46, 47, 48):
    conv_of = nn.Conv2d(64, count, 3, padding=1, bias=False)
    width_calls[str(count)] = measure.inference(conv_of, (1, 64, 16, 16))
width_times, _ = timed(width_calls)
for count in width_calls:
    print(f"{count} filters: ×{width_times.ratio(count, '48').median:.2f}")
odd.measured(width_times.ratio("47", "48").median)

# %% [markdown]
# A vector register of a CPU holds eight or sixteen floats, and fast kernels compute that many output
# channels at once. What does not fill a block probably takes a slower kernel, or computes channels
# that nobody asked for. So ask the hardware before you choose a width: here filters stay in sixteens.


# %%
def prunable(model):
    """Convolutions but the first, which has 0.2 % of the weights."""
    return dict(list(cost.weighted_layers(model).items())[1:-1])


# %%
def removed_share(filters, sparsity):
    """Share of ``filters`` to remove, so that sixteens stay."""
    kept = 16 * max(1, round(filters * (1 - sparsity) ** 0.5 / 16))
    return 1 - kept / filters


# %%
assert list(prunable(dense)) == [f"features.conv{i}" for i in range(1, 7)]
assert removed_share(64, 0.25) == removed_share(64, 0.5) == 1 / 4  # of 55.4 and of 45.3
assert removed_share(64, 0.999) == 3 / 4  # sixteen stay, whatever is asked for


# %%
def masks_for(model, sparsity, granularity):
    """A mask for every prunable layer, and for the batch norms that lose channels."""
    found = {}
    for name, conv in prunable(model).items():
        channels = granularity == "channel"
        share = removed_share(len(conv.weight), sparsity) if channels else sparsity
        found[f"{name}.weight"] = mask_of(conv.weight, share, granularity)
        if channels:
            alive = found[f"{name}.weight"][:, 0, 0, 0]
            norm = name.replace("conv", "bn")
            found |= {f"{norm}.weight": alive, f"{norm}.bias": alive}
    return found


# %% [markdown]
# The masks are applied again after each step of the optimizer, so pruned weights stay zero:


# %%
@torch.no_grad()
def apply_masks(model, masks):
    """Set what the masks remove to zero."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


# %%
def retrained(sparsity, granularity):
    """Prune, then retrain: the model, its accuracy before and after."""
    model = copy.deepcopy(dense)
    masks = masks_for(model, sparsity, granularity)
    apply_masks(model, masks)
    before = training.evaluate(model, val)
    again = {"epochs": 1, "lr": 0.01, "after_step": lambda m: apply_masks(m, masks)}
    training.fit(model, train.head(FINETUNE_IMAGES), **again)
    return model, before, training.evaluate(model, val)


# %% [markdown]
# A network without its dead channels computes the same function. How long it takes does not depend
# on the values of its weights, so it may be built with fresh ones; its accuracy is the masked one's.


# %%
def narrow(model):
    """The architecture without dead filters, with fresh weights to time."""
    convs = list(cost.weighted_layers(model).values())[:-1]
    left = iter(int(conv.weight.flatten(1).any(1).sum()) for conv in convs)
    channels = [c if c == "M" else next(left) for c in model.config["channels"]]
    return models.build({**model.config, "channels": channels}).eval()


# %%
gain = plot.predict(
    "25, 50 or 65 % of the weights go with whole filters; five points of accuracy may go. How many "
    "times as fast is the fastest such network? (1: none keeps the accuracy)",
    unit="×",
    range=(0.8, 2.5),
)

# %% [markdown]
# The dense network is retrained, too: else the others would owe points to the training alone.

# %%
LEVELS = {"fine-grained": (0.5, 0.75, 0.9), "2:4": (0.5,), "channel": (0.25, 0.5, 0.65)}
baseline = retrained(0.0, "fine-grained")[2]
error = math.sqrt(baseline * (1 - baseline) / len(val))
print(f"dense: {dense_accuracy:.1%}, retrained {baseline:.1%}; standard error {error:.1%}")
RUNS_MADE = [(name, s) for name, levels in LEVELS.items() for s in levels]
pruned = {(name, s): retrained(s, name) for name, s in RUNS_MADE}
for (name, s), (model, before, after) in pruned.items():
    rest = narrow(model) if name == "channel" else model
    left = cost.nonzeros(rest) / cost.parameters(dense)
    print(f"{name:12} s = {s}: {left:.0%} left, {before:.1%}, retrained {after:.1%}")

# %%
for (shape_name, level), (model, _, _) in pruned.items():
    convs = [conv.weight for conv in prunable(model).values()]
    all_weights = sum(w.numel() for w in convs)
    if shape_name == "channel":  # nobody may read a removed channel
        alive = [w.flatten(1).any(1) for w in convs]
        left = sum(c.weight.numel() for c in prunable(narrow(model)).values())
        assert abs(left / all_weights - (1 - level)) < 0.08
        for i, on in enumerate(alive, 1):
            handed_on = model.features[: 3 * i + 3 + sum(i > p for p in (1, 3, 5))]
            assert (handed_on(datasets.normalize(val.images[:9]))[:, ~on] == 0).all()
    else:
        assert abs(1 - sum(map(cost.nonzeros, convs)) / all_weights - level) < 0.01

# %% [markdown]
# The accuracies, too, against a network that is masked by hand:

# %%
twin = copy.deepcopy(dense)
for conv in prunable(twin).values():
    conv.weight.data *= pattern_mask(conv.weight)
assert pruned["2:4", 0.5][1] == training.evaluate(twin, val)
assert pruned["2:4", 0.5][2] == training.evaluate(pruned["2:4", 0.5][0], val)
first = pruned["2:4", 0.5][0].features.conv0.weight
assert not torch.equal(first, dense.features.conv0.weight)  # it was retrained

# %% [markdown]
# What does the clock say? Where single weights go, each layer takes the faster of two kernels, dense
# or CSR, as timed alone:


# %%
def fastest(model):
    """The network with CSR where that is faster; and in how many layers."""
    calls, chosen = {}, copy.deepcopy(model)
    sizes = {c.name: c.input_shape for c in layers}
    for name, conv in prunable(model).items():
        calls[name] = measure.inference(conv, sizes[name])
        calls[f"{name} CSR"] = measure.inference(SparseConv(conv), sizes[name])
    alone, _ = timed(calls)
    won = [n for n in prunable(model) if alone.ratio(f"{n} CSR", n).median < 1]
    for name in won:
        sparse = SparseConv(model.get_submodule(name))
        setattr(chosen.features, name.removeprefix("features."), sparse)
    return chosen, len(won)


# %%
def network_bytes(model, granularity):
    """Bytes of the pruned network: narrow, or with the indices of its layers."""
    if granularity == "channel":
        return cost.model_bytes(narrow(model))
    convs = prunable(model).values()
    dense_bytes = sum(4 * conv.weight.numel() for conv in convs)
    kept_bytes = sum(layer_bytes(conv.weight, granularity) for conv in convs)
    return cost.model_bytes(model) - dense_bytes + kept_bytes


# %% [markdown]
# Build each, check that those with CSR compute what the masked network computes, count and time:

# %%
rows, network_calls = [], {"dense": measure.inference(copy.deepcopy(dense))}
for (name, s), (model, _, after) in pruned.items():
    small, sparse_layers = (narrow(model), 0) if name == "channel" else fastest(model)
    if name != "channel":
        image = datasets.normalize(val.images[:1])
        torch.testing.assert_close(small(image), model(image), rtol=1e-2, atol=1e-2)
    row = dict(shape=name, sparsity=s, accuracy=after, bytes=network_bytes(model, name))
    rows.append({**row, "sparse": sparse_layers})
    network_calls[f"{name} {s}"] = measure.inference(small)
network_times, machine = timed(network_calls)

# %%
weights = sum(conv.weight.numel() for conv in prunable(dense).values())
by_hand = cost.model_bytes(dense) - 4 * weights + weights // 2 * (32 + 2) // 8
assert network_bytes(pruned["2:4", 0.5][0], "2:4") == by_hand
assert network_bytes(dense, "channel") == cost.model_bytes(dense)
for row in rows:
    called = f"{row['shape']} {row['sparsity']}"
    row["latency"] = network_times.ratio(called, "dense").median
    print("{shape:12} s = {sparsity}: ×{latency:.2f}, {bytes:,} bytes, {accuracy:.1%}, "
          "CSR in {sparse} layers".format(**row))  # fmt: skip

# %% [markdown]
# Where no layer runs in CSR the dense kernels multiply by the zeros, and what differs from ×1 is the
# noise of this comparison. Where some do, compare: a layer that is faster alone need not make the
# network faster. Now the fair question: what is the best that each shape offers at like accuracy?


# %%
def best_of(shape, points, figure):
    """Lowest ``latency`` or ``bytes`` of a shape within ``points`` of dense, or None."""
    floor = baseline - points / 100
    own = [row for row in rows if row["shape"] == shape]
    return min((row[figure] for row in own if row["accuracy"] >= floor), default=None)


# %%
narrow_rows = [row for row in rows if row["shape"] == "channel"]
most = max(row["accuracy"] for row in narrow_rows)
lost, tied = 100 * (baseline - most), [r["bytes"] for r in narrow_rows if r["accuracy"] == most]
assert best_of("channel", lost + 0.01, "bytes") == min(tied)
assert best_of("channel", lost - 0.01, "bytes") is None
assert best_of("channel", 100, "bytes") == min(row["bytes"] for row in narrow_rows)

# %%
for shape in LEVELS:
    fast, small = best_of(shape, 5, "latency"), best_of(shape, 5, "bytes")
    shown = f"×{fast:.2f} of the time, {small:,} bytes" if fast else "nothing"
    print(f"{shape:12} at most 5 points lost: {shown}")
gain.measured(1 / (best_of("channel", 5, "latency") or 1))

# %% [markdown]
# Drag how much may be lost (in a live kernel), or compare the panels:

# %% tags=["widget"]
SHAPES = dict(zip(LEVELS, ("o", "s", "^"), strict=True))


def draw(ax, points):
    """What each shape reaches within ``points`` of dense: latency against bytes."""
    for (shape, marker), colour in zip(SHAPES.items(), plot.CYCLE, strict=False):
        own = [r for r in rows if r["shape"] == shape]
        for r in own:
            able = r["accuracy"] >= baseline - points / 100
            ax.plot(r["latency"], r["bytes"] / 2**20, marker, color=colour, ms=7,
                    alpha=1 if able else 0.15, label=shape if r is own[0] else None)  # fmt: skip
    ax.axvline(1, color=plot.COLOURS["baseline"], lw=0.8)
    ax.set(xlim=(0, 1.3), ylim=(0, 1.8), xlabel="latency / dense", ylabel="MiB")
    ax.legend(loc="upper left", fontsize=7)


plot.explore(draw, size=(5.6, 4), points_lost=[0, 1, 2, 5, 10])

# %% [markdown]
# *What loses more than the slider allows is pale. With points to spend, channels move down and left:
# what they remove is gone from memory and, in part, from the clock. Irregular weights move down, and
# further, but not left. (Bytes as stored, with the 4-bit index; time as decoded.)*

# %% [markdown]
# ## 6. Limits
#
# - Latency is that of one CPU, one library, batch 1. A kernel generated for one sparsity pattern, or
#   hardware with skip logic, moves the break-even; Lecture 4 simulates the latter.
# - Energy figures are for 45 nm, and 5 pJ is a *small* SRAM; large caches cost several times more.
#   Every activation is counted as moved once through DRAM; a cache or a fused kernel keeps much of
#   that on the chip.
# - Section 5 prunes every layer alike and retrains for seconds. Lab 1 does better.
# - Criteria were compared on one network and at one share of channels, one layer at a time; scores,
#   statistics and losses use the same images.
#
# ## 7. Claims
#
# What was published, beside what came out here:

# %%
fine_text = ", ".join(
    f"{1 / (1 - s):.1f}× at {100 * (pruned['fine-grained', s][2] - baseline):+.1f} points"
    for s in LEVELS["fine-grained"]
)
best_five = [(shape, best_of(shape, 5, "latency")) for shape in ("channel", "fine-grained")]
faster_text = ", ".join(
    f"{shape} {1 / f:.2f}×" if f else f"{shape} never" for shape, f in best_five
)

# %%
claims(
    "03",
    parameters=dict(
        measured=f"pruned layers: {fine_text}",
        on=f"reference VGG, {dataset}, {len(val)} validation images",
        why="one step and seconds of retraining, not many rounds; no large fully connected "
        "layers, which is where AlexNet and VGG-16 lose most",
    ),
    structured=dict(
        measured=f"times as fast as dense, at most 5 points lost: {faster_text}",
        on=machine,
        why="seconds of retraining; theirs trains with a group penalty from the start",
    ),
    dram=dict(why="no energy counter here; Lecture 1 times the same effect"),
    two_of_four=dict(why="a CPU has no sparse tensor cores; its accuracy is measured"),
)

# %% [markdown]
# Your predictions:

# %%
plot.hits()

# %% [markdown]
# ## Discussion
#
# 1. A colleague reports "90 % sparse, so 10× faster". Which three questions do you ask first?
# 2. Section 1's bars say which layers spend their energy on weights, which on activations. Which
#    would you prune for a phone that runs from DRAM, and which for a microcontroller whose weights
#    sit beside the core?
# 3. Why can the sum of OBD's predictions *under*estimate the loss of removing two weights, and when
#    does it overestimate? Construct a 2×2 Hessian for each.
# 4. In section 4.5 much of the damage vanished when batch norm was measured again. What does that
#    say about a paper that compares criteria without fine-tuning?
#
# ## Further reading
#
# - Y. LeCun, J. Denker, S. Solla, "Optimal Brain Damage", NeurIPS 1989.
# - B. Hassibi, D. Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon",
#   NeurIPS 1992.
# - S. Han, J. Pool, J. Tran, W. Dally, "Learning both weights and connections for efficient neural
#   networks", NeurIPS 2015.
# - T. Hoefler et al., "Sparsity in deep learning", JMLR 2021: the survey.
#
# **Next:** Lab 1 prunes this network for good. Lecture 4 gives every layer its own ratio.
