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

# %% tags=["setup"]
# Colab installs the course here; where it is installed already, this cell does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("codesign") is None:
    course = os.environ.get("CODESIGN_REPO") or "git+https://github.com/ml-codesign/course@v0.1.0"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", course], check=True)
    importlib.invalidate_caches()

# %% tags=["parameters"] short={"VAL_IMAGES": 100, "FINETUNE_IMAGES": 128, "CHANNEL_IMAGES": 64, "ROUNDS": 3}
VAL_IMAGES = 1000  # images of the validation split behind every accuracy
FINETUNE_IMAGES = 5000  # images of each of the four fine-tuning runs
CHANNEL_IMAGES = 256  # images behind the criteria for channels
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

from codesign import checkpoints, cost, datasets, measure, models, plot, training
from codesign.hardware import energy

plot.theme()
torch.manual_seed(0)
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

# %% [markdown]
# ## 1. Why memory dominates energy
#
# The energy of one 32-bit operation in a 45 nm process, and of moving one 32-bit word. Figures:
# Horowitz, "Computing's energy problem", ISSCC 2014, as tabulated in Han et al., "Learning both
# weights and connections", NeurIPS 2015, figure 1; 8- and 16-bit rows from Horowitz, figure 1.1.9.

# %%
words = {f"{memory}, 32 bit": picojoules for memory, picojoules in energy.WORD_PJ.items()}
ENERGY_PJ = dict(sorted({**energy.OPERATION_PJ, **words}.items(), key=lambda item: item[1]))

# %%
names, energies = list(ENERGY_PJ), list(ENERGY_PJ.values())
kinds = ["memory" if "32 bit" in name else "compute" for name in names]
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.barh(names, energies, color=[plot.COLOURS[kind] for kind in kinds])
ax.bar_label(ax.containers[0], fmt="%g", padding=3, fontsize=8)
ax.set(xscale="log", xlim=(0.01, 3000), xlabel="energy per operation, pJ (45 nm, cited)")
ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Fetching one word from DRAM costs more than a hundred multiplications. Arithmetic in blue,
# memory in orange; the axis is logarithmic.*
#
# **Smallest example.** One multiply–accumulate (MAC) with its weight in DRAM:

# %%
mac_pj = energy.mac_pj("fp32")
for place in ("DRAM, 32 bit", "SRAM, 32 bit", "register, 32 bit"):
    print(f"{place:20} fetch / MAC = {ENERGY_PJ[place] / mac_pj:6.1f}")

# %% [markdown]
# **Equation.** A layer with $M$ MACs whose $P$ weights are each fetched once per inference spends
#
# $$E = M\,(e_\text{mul} + e_\text{add}) + P\,e_\text{mem}.$$
#
# Memory dominates where the *reuse* $M / P$ of a weight stays below
# $e_\text{mem} / (e_\text{mul} + e_\text{add})$. In a convolution the reuse is the number of output
# pixels; in a linear layer at batch 1 it is 1.

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val").head(VAL_IMAGES)
dense = checkpoints.load(checkpoints.shipped("vgg", dataset))
print(f"{cost.parameters(dense):,} parameters, {cost.macs(dense):,} MACs")
dense_accuracy = training.evaluate(dense, val)
print(f"{dense_accuracy:.1%} of {len(val)} validation images right")


# %%
def energy_uj(macs, weights, memory):
    """Microjoules of one inference, every weight fetched once from ``memory``."""
    return (macs * mac_pj + weights * ENERGY_PJ[memory]) * 1e-6


# %%
counts = cost.macs(dense), cost.parameters(dense)
for memory in ("DRAM, 32 bit", "SRAM, 32 bit"):
    total, arithmetic = energy_uj(*counts, memory), energy_uj(counts[0], 0, memory)
    print(f"weights from {memory:19} {total:6.1f} µJ, of it {1 - arithmetic / total:.0%} memory")

# %% [markdown]
# Layer by layer the picture splits:

# %%
layers = cost.layers(dense)
names = [layer.name.split(".")[-1] for layer in layers]
compute = [energy_uj(layer.macs, 0, "DRAM, 32 bit") for layer in layers]
memory = [energy_uj(0, layer.params, "DRAM, 32 bit") for layer in layers]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
ax.bar(names, compute, color=plot.COLOURS["compute"], label="arithmetic")
ax.bar(names, memory, bottom=compute, color=plot.COLOURS["memory"], label="weights from DRAM")
for i, layer in enumerate(layers):
    reuse = layer.macs / layer.params
    ax.text(i, compute[i] + memory[i], f"×{reuse:.0f}", ha="center", va="bottom", fontsize=8)
ax.set(ylabel="energy, µJ (estimate)", title="× = how often each fetched weight is used")
ax.legend()
plt.show()

# %% [markdown]
# *The same number of weights costs more in the late layers, where few pixels share each weight.
# Those layers hold most of the parameters, so pruning them saves memory energy; pruning the early
# ones saves arithmetic.*
#
# A laptop does not show its energy to a program, so the table stays an estimate. But the cause can
# be timed: one linear layer too large for the caches, with each weight used once or many times.
# All timings here use one thread: several wait for each other when the machine does other work.


# %%
def timed(calls):
    """Paired latencies on one thread, and the machine they were taken on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times, machine = measure.latency(calls, rounds=ROUNDS), measure.machine()
    torch.set_num_threads(threads)
    return times, machine


# %%
linear = nn.Linear(4096, 4096, bias=False).requires_grad_(False)
inputs = {reuse: torch.randn(reuse, 4096) for reuse in (1, 4, 16, 64)}
times, machine = timed({str(r): lambda x=x: linear(x) for r, x in inputs.items()})
print(machine)
for reuse in inputs:
    per_mac = times[str(reuse)].median / (reuse * linear.weight.numel())
    print(f"each weight used {reuse:2}×: {per_mac * 1e12:6.1f} ps per MAC")

# %% [markdown]
# Same weights, same arithmetic per input; only the reuse differs. Where a weight is used once, the
# time per MAC is the time to bring in the weight, and a weight that is not there is time saved.
#
# ## 2. The problem: a budget of nonzeros
#
# $$\min_{W}\; L(W)\quad\text{subject to}\quad \lVert W\rVert_0 \le N,$$
#
# where $\lVert W\rVert_0$ counts the nonzeros. Equivalently, choose a mask $M\in\{0,1\}$ of the
# shape of $W$ and minimize $L(M\odot W)$. *Sparsity* is $s$ = zeros / size.
#
# **Smallest example.** Eight weights of a least-squares problem, four may stay. All 70 masks:

# %%
x = torch.randn(200, 8) @ torch.randn(8, 8)  # correlated inputs
w = torch.randn(8)


def loss_of(kept):
    """Mean squared error when only the weights ``kept`` stay, unchanged."""
    removed = [i for i in range(8) if i not in kept]
    return float((x[:, removed] @ w[removed]).pow(2).mean())


# %%
masks = list(itertools.combinations(range(8), 4))
losses = sorted(masks, key=loss_of)
largest = tuple(sorted(w.abs().topk(4).indices.tolist()))
print(f"best mask {losses[0]}: loss {loss_of(losses[0]):.2f}")
print(f"largest |w| {largest}: loss {loss_of(largest):.2f}, rank {losses.index(largest) + 1} of 70")

# %% [markdown]
# Keeping the largest weights is a guess about the loss, and here one can see how good a guess. For
# the reference network nobody can enumerate. The number of masks that keep a fifth of its weights:

# %%
n = cost.parameters(dense)
kept = n // 5
log_masks = math.lgamma(n + 1) - math.lgamma(kept + 1) - math.lgamma(n - kept + 1)
print(f"10^{log_masks / math.log(10):,.0f} masks")

# %% [markdown]
# So every pruning method is four choices: the **granularity** (in which shapes weights go), the
# **criterion** (which go), the **ratio** of each layer (Lecture 4), and the **fine-tuning** after.
#
# ## 3. Granularity: in which shapes weights go
#
# A convolution's weight is `[C_out, C_in, k, k]`. Flattened in this order, four of the five usual
# granularities are runs of some length: a single weight (1), a *vector*, one row of a kernel (3), a
# *kernel* (9), and a *channel*, that is one whole filter ($9\,C_\text{in}$). Score each run by its
# norm and keep the runs above a quantile:
#
# $$M_g = \mathbb{1}\big[\lVert W_g\rVert_2 > Q_s(\lVert W\rVert_2)\big].$$

# %%
RUNS = {"fine-grained": 1, "vector": 3, "kernel": 9, "channel": None}


def run_mask(weight, sparsity, run):
    """Mask of ``weight [C_out, C_in, k, k]`` without its weakest runs; None: whole filters."""
    runs = weight.detach().reshape(-1, run or weight[0].numel())
    score = runs.norm(dim=1)
    keep = score > score.quantile(sparsity)
    return keep[:, None].expand_as(runs).reshape(weight.shape).float()


# %% [markdown]
# The fifth is a *pattern*: of every four neighbours along the input channels exactly two stay
# (2:4). There are six such patterns, so take the one that keeps the largest sum of magnitudes.

# %%
PATTERNS = torch.tensor([p for p in itertools.product((0.0, 1.0), repeat=4) if sum(p) == 2])


def pattern_mask(weight):
    """2:4 mask of ``weight [C_out, C_in, k, k]``, C_in a multiple of 4."""
    last = weight.detach().permute(0, 2, 3, 1)  # input channels last, where hardware wants them
    best = (last.reshape(-1, 4).abs() @ PATTERNS.T).argmax(1)
    return PATTERNS[best].reshape(last.shape).permute(0, 3, 1, 2)


# %%
def mask_of(weight, sparsity, granularity):
    """The mask of one layer at one granularity."""
    if granularity == "2:4":
        return pattern_mask(weight)
    return run_mask(weight, sparsity, RUNS[granularity])


# %% [markdown]
# On a real layer, `conv5` of the reference network, at 50 % (all that 2:4 can do):

# %%
layer = dense.features.conv5
GRANULARITIES = ("fine-grained", "2:4", "vector", "kernel", "channel")
masks = {name: mask_of(layer.weight, 0.5, name) for name in GRANULARITIES}
for name, mask in masks.items():
    energy = (mask * layer.weight).pow(2).sum() / layer.weight.pow(2).sum()
    print(f"{name:13} sparsity {cost.sparsity(mask):.3f}, keeps {energy:.1%} of ‖W‖²")
assert (masks["2:4"].permute(0, 2, 3, 1).reshape(-1, 4).sum(1) == 2).all()

# %% [markdown]
# The coarser the shape, the less of the weight's norm survives at the same sparsity: a strong
# weight falls together with its weak neighbours. Now the other side, time. Three ways to run a
# pruned layer on a CPU:
#
# 1. the dense kernel, which multiplies by the zeros;
# 2. a sparse kernel: unfold the input into patches, multiply by the weight in compressed sparse
#    rows (CSR);
# 3. where whole channels went, a smaller dense layer.


# %%
class SparseConv(nn.Module):
    """A 3x3 convolution (stride 1, padding 1, batch 1) that stores and multiplies nonzeros only."""

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
    alive = mask.flatten(1).any(1)
    small = nn.Conv2d(conv.in_channels, int(alive.sum()), 3, padding=1, bias=False)
    small.weight.data = conv.weight.data[alive]
    return small


# %% [markdown]
# The oracle: all three must compute the same numbers.

# %%
shape = dict((c.name, c.input_shape) for c in cost.layers(dense))["features.conv5"]
probe = torch.randn(shape)
with torch.inference_mode():
    expected = masked(layer, masks["channel"])(probe)
    alive = masks["channel"].flatten(1).any(1)
    small = without_filters(layer, masks["channel"])(probe)
    sparse = SparseConv(masked(layer, masks["channel"]))(probe)
torch.testing.assert_close(sparse, expected, rtol=1e-3, atol=1e-4)
torch.testing.assert_close(small, expected[:, alive], rtol=1e-3, atol=1e-4)

# %%
calls = {"dense": measure.inference(layer, shape)}
for name, mask in masks.items():
    pruned = masked(layer, mask)
    calls[f"{name}, zeros"] = measure.inference(pruned, shape)
    calls[f"{name}, CSR"] = measure.inference(SparseConv(pruned), shape)
calls["channel, small"] = measure.inference(without_filters(layer, masks["channel"]), shape)
times, machine = timed(calls)
print(f"dense: {times['dense']} on {machine}")

# %%
fig, axes = plt.subplots(1, 5, figsize=(9, 3.1), sharey=True)
for ax, (name, mask) in zip(axes, masks.items(), strict=True):
    ax.imshow(mask[:36, :4].flatten(1), cmap="Blues", vmin=-0.15, vmax=1.4, aspect="equal")
    kinds = [kind for kind in ("zeros", "CSR", "small") if f"{name}, {kind}" in calls]
    ratios = [times.ratio(f"{name}, {kind}", "dense").median for kind in kinds]
    shown = [f"{kind} ×{ratio:.2f}" for kind, ratio in zip(kinds, ratios, strict=True)]
    ax.set_title("\n".join([name, *shown, " "][:4]), fontsize=8.5)
    ax.set_xticks([0, 9, 18, 27], ["0", "1", "2", "3"])
    ax.set_xlabel("input channel")
    ax.grid(visible=False)
axes[0].set_ylabel("filter")
plt.show()

# %% [markdown]
# *Half of `conv5` removed in five shapes (dark: kept; the first 36 filters, 4 input channels of 9
# weights each). Above each: its measured latency as a multiple of the dense layer's, run with the
# dense kernel on zeros, with CSR, and as a smaller dense layer. Zeros alone buy the dense
# kernel nothing.*
#
# ### Estimate beside measurement: when does CSR pay?
#
# A sparse kernel's time grows with the nonzeros, $t_\text{CSR}(s) \approx t_0 + (1-s)\,t_1$, where
# $t_0$, the unfolding, does not shrink. It beats the dense kernel beyond
#
# $$s^* = 1 - \frac{t_\text{dense} - t_0}{t_1}.$$
#
# Two timings give the model: unfolding alone is $t_0$, a CSR layer without any zero takes
# $t_0 + t_1$. All the others test it.

# %%
SPARSITIES = (0.5, 0.75, 0.875, 0.9375, 0.97, 0.99)
calls = {"dense": measure.inference(layer, shape)}
calls["unfold"] = lambda: F.unfold(probe, 3, padding=1)
calls["CSR 0"] = measure.inference(SparseConv(layer), shape)
for s in SPARSITIES:
    fine = masked(layer, mask_of(layer.weight, s, "fine-grained"))
    calls[f"CSR {s}"] = measure.inference(SparseConv(fine), shape)
    channel = without_filters(layer, mask_of(layer.weight, s, "channel"))
    calls[f"channel {s}"] = measure.inference(channel, shape)
times, machine = timed(calls)

# %%
densities = [1 - s for s in SPARSITIES]
t0 = times["unfold"].median
t1 = times["CSR 0"].median - t0
break_even = 1 - (times["dense"].median - t0) / t1
faster = [s for s in SPARSITIES if times.ratio(f"CSR {s}", "dense").median < 1]
print(f"t0 = {t0 * 1e3:.3f} ms, t1 = {t1 * 1e3:.3f} ms, dense {times['dense']}")
print(f"estimated break-even s* = {break_even:.3f}" + (" (never)" if break_even >= 1 else ""))
for s, density in zip(SPARSITIES, densities, strict=True):
    ratio = times[f"CSR {s}"].median / (t0 + t1 * density)
    print(f"s = {s:6}: CSR measured / estimated = {ratio:.2f}")
print(f"measured: CSR is faster at {faster or 'none'} of {SPARSITIES}")

# %%
dense_ms, line = times["dense"].median * 1e3, torch.logspace(-2, math.log10(0.5), 50)
grey, orange = plot.COLOURS["baseline"], plot.COLOURS["memory"]
fig, ax = plt.subplots()
ax.axhline(dense_ms, color=grey, label="dense kernel, zeros")
ax.plot(line, dense_ms * line, ":", color=grey, label="dense · (1 − s)")
ax.plot(line, (t0 + t1 * line) * 1e3, color=orange, label="t₀ + (1 − s) t₁")
for kind, key in (("CSR", "memory"), ("channel", "ours")):
    points = [times[f"{kind} {s}"] for s in SPARSITIES]
    plot.measured(ax, densities, points, scale=1e3, color=plot.COLOURS[key], label=kind)
ax.set(xscale="log", yscale="log", xlabel="density 1 − s", ylabel="latency of conv5, ms")
ax.set_xticks(densities, [f"{d:g}" for d in densities])
ax.minorticks_off()
ax.invert_xaxis()
ax.legend(fontsize=7)
plt.show()

# %% [markdown]
# *Zeros are free only if something skips them. Removing filters follows the nonzeros down until
# fixed costs remain; irregular sparsity starts far above the dense kernel and crosses it, if at
# all, where little of the layer is left.*
#
# ### What the hardware does with it
#
# The dense kernel loads a vector of consecutive weights and inputs and issues one fused
# multiply–add for all of them; tiles stay in registers and caches. CSR loads an index for each
# weight, then gathers a row of the input from wherever the index points. In this picture a nonzero
# costs so much more than a weight of the dense kernel:

# %%
dense_ps = times["dense"].median / layer.weight.numel() * 1e12
csr_ps = t1 / layer.weight.numel() * 1e12
print(
    f"dense {dense_ps:.0f} ps per weight, CSR {csr_ps:.0f} ps per nonzero: {csr_ps / dense_ps:.1f}×"
)

# %% [markdown]
# Hardware that wants irregular sparsity has to be built for it (EIE, Lecture 4). 2:4 is the
# compromise in NVIDIA GPUs since Ampere: two bits of metadata select the inputs, and the dense
# pipeline stays full. This CPU has no such instruction, so 2:4 runs as dense or as CSR.
#
# ### Bytes, indices included
#
# A sparse format also stores *where*. With Deep Compression's relative index each kept run carries
# 4 bits; longer runs share the index. 2:4 needs 2 bits for each kept weight.


# %%
def layer_bytes(weight, granularity):
    """Bytes of one pruned layer in fp32 with the indices that its granularity needs."""
    if granularity == "2:4":
        return cost.nm_bytes(weight)
    run = RUNS[granularity] or weight[0].numel()
    alive = weight.reshape(-1, run).any(1)
    return cost.relative_index_bytes(alive, value_bits=32 * run)


# %%
full = layer.weight.numel() * 4
for name, mask in masks.items():
    pruned = mask * layer.weight.detach()
    csr, small = cost.csr_bytes(pruned), layer_bytes(pruned, name)
    print(f"{name:13} CSR {csr / full:.2f}, with its own index {small / full:.3f} of dense")

# %% [markdown]
# Plain CSR with 32-bit indices saves nothing at 50 %: one index for each weight. Relative indices
# nearly repair that.
#
# ## 4. Criteria: which weights go
#
# ### 4.1 Magnitude
#
# A group is unimportant if its norm is small; norms do not always agree:

# %%
groups = torch.tensor([[3.0, 3.0], [5.0, 0.0]])
print("L1", groups.abs().sum(1).tolist(), " L2", groups.norm(dim=1).tolist())

# %% [markdown]
# L1 removes the second group, L2 the first. Neither looks at the data, and neither knows what
# follows the layer. Batch normalization, for one, undoes the scale of every filter:

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
# the size of the channel that the next layer sees. Network slimming (Liu et al., ICCV 2017) trains
# with an L1 penalty on $\gamma$ and removes the channels with small ones.

# %%
for name, gamma in dense.features.named_parameters():
    if "bn" not in name or "bias" in name:
        continue
    gamma = gamma.detach().abs()
    low, median, high = gamma.quantile(torch.tensor([0.0, 0.5, 1.0]))
    print(f"{name}: |γ| from {low:.3f}, median {median:.3f}, to {high:.3f}")

# %% [markdown]
# ### 4.3 Second order: Optimal Brain Damage and Optimal Brain Surgeon
#
# What removal *does* is a question about the loss. Around trained weights,
#
# $$\Delta L = g^\top\delta + \tfrac12\,\delta^\top H\,\delta + O(\lVert\delta\rVert^3),$$
#
# and at a minimum $g = 0$. Removing weight $q$ alone, $\delta = -w_q e_q$, gives LeCun, Denker and
# Solla's OBD (1989); letting all other weights adapt, subject to $\delta_q = -w_q$, gives Hassibi and
# Stork's OBS (1992):
#
# $$\text{OBD: } \tfrac12 H_{qq} w_q^2 \qquad
# \text{OBS: } \frac{w_q^2}{2\,[H^{-1}]_{qq}},\quad
# \delta = -\frac{w_q}{[H^{-1}]_{qq}}\,H^{-1}e_q.$$
#
# **A small real problem.** One filter of `conv0`: 27 weights, its inputs the 3×3×3 patches of
# images, its target its own output. Neighbouring pixels are alike, so $H$ is far from diagonal.

# %%
patches = F.unfold(datasets.normalize(train.images[:100]), 3).transpose(1, 2).reshape(-1, 27)
X = patches[torch.randperm(len(patches))[:2000]].double()
w = dense.features.conv0.weight[0].detach().flatten().double()
y = X @ w


def loss(v):
    """Half the mean squared error of the filter ``v [27]``."""
    return (X @ v - y).pow(2).mean() / 2


# %%
H = torch.autograd.functional.hessian(loss, w)
torch.testing.assert_close(H, X.T @ X / len(X))

# %%
inverse = torch.linalg.inv(H)
obd = H.diagonal() * w**2 / 2
obs = w**2 / inverse.diagonal() / 2


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
    v[kept] = torch.linalg.lstsq(X[:, kept], y[:, None]).solution[:, 0]
    return v


# %%
others = [[i for i in range(27) if i != q] for q in range(27)]
deleted = torch.stack([loss(w * (torch.arange(27) != q)) for q in range(27)])
refitted = torch.stack([loss(refit(kept)) for kept in others])
torch.testing.assert_close(obd, deleted)
torch.testing.assert_close(obs, refitted, rtol=1e-4, atol=1e-12)
torch.testing.assert_close(surgeon_step(w, inverse, 5), refit(others[5]), rtol=1e-4, atol=1e-8)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True)
left.semilogy(w.abs(), refitted, "o", color=plot.COLOURS["baseline"])
left.set(xlabel="|w|", ylabel="true loss increase after refit", title="magnitude")
right.loglog(obd, refitted, "o", color=plot.COLOURS["compute"], label="OBD")
right.loglog(obs, refitted, "s", color=plot.COLOURS["ours"], label="OBS")
limits = [float(refitted.min()) / 2, float(obd.max()) * 2]
right.loglog(limits, limits, color=plot.COLOURS["measured"], lw=0.8)
right.set(xlabel="predicted loss increase", title="second order")
right.legend()
plt.show()

# %% [markdown]
# *Each point is one of 27 weights. OBS predicts exactly what removal costs once the others adapt
# (black line: equality); OBD answers the question without adaptation, exactly too, and so overstates;
# magnitude only hints.*
#
# One weight is easy. Removing many separates the methods: OBD ignores how deletions interact, OBS
# updates $w$ and $H^{-1}$ after each. The loss is quadratic, so $H$ and $w$ are all we need.


# %%
def surgeon(w, H, count):
    """Remove ``count`` weights by OBS, one after the other; the filter ``[n]`` that is left."""
    w, inverse = w.clone(), torch.linalg.inv(H)
    alive = torch.ones(len(w), dtype=torch.bool)
    for _ in range(count):
        score = torch.where(alive, w**2 / inverse.diagonal().clamp(min=1e-30), torch.inf)
        q = int(score.argmin())
        w = surgeon_step(w, inverse, q)
        inverse = inverse - torch.outer(inverse[q], inverse[q]) / inverse[q, q]
        alive[q] = False
        w[~alive], inverse[~alive], inverse[:, ~alive] = 0, 0, 0  # rounding, not mathematics
    return w


# %%
def lowest(w, H, score, count, adapt):
    """The filter without its ``count`` lowest scores; ``adapt`` refits the others."""
    removed, kept = score.argsort()[:count], score.argsort()[count:]
    v = w.clone()
    v[removed] = 0
    if adapt:
        v[kept] += torch.linalg.solve(H[kept][:, kept], H[kept][:, removed] @ w[removed])
    return v


# %%
def error(v, w, H):
    """Loss of ``v`` relative to that of removing everything."""
    return float((v - w) @ H @ (v - w) / (w @ H @ w))


# %%
METHODS = {
    "magnitude": lambda w, H, n: lowest(w, H, w.abs(), n, adapt=False),
    "OBD": lambda w, H, n: lowest(w, H, H.diagonal() * w**2, n, adapt=False),
    "magnitude + refit": lambda w, H, n: lowest(w, H, w.abs(), n, adapt=True),
    "OBS": surgeon,
}
# %%
v = lowest(w, H, w.abs(), 9, adapt=True)
torch.testing.assert_close(v, refit(v.nonzero()[:, 0].tolist()), rtol=1e-4, atol=1e-8)

# %%
fig, ax = plt.subplots()
looks = [("baseline", "--"), ("compute", ":"), ("baseline", "-"), ("ours", "-")]
for (name, prune), (colour, style) in zip(METHODS.items(), looks, strict=True):
    curve = [error(prune(w, H, n), w, H) for n in range(1, 25)]
    ax.semilogy(range(1, 25), curve, style, color=plot.COLOURS[colour], label=name)
ax.set(xlabel="weights removed, of 27", ylabel="error / energy of the output")
ax.legend()
plt.show()

# %% [markdown]
# *Much of OBS's advantage is repair: the broken curves keep the other weights as they are, the
# solid ones adapt them. Between the solid ones, what differs is which weights were chosen.*
#
# The broken curves are close because all 27 inputs are pixels of one scale, so $H_{qq}$ hardly
# depends on $q$ and OBD orders the weights nearly as magnitude does. Measure the red channel in
# units ten times smaller, and the same function has red weights ten times smaller:

# %%
print(f"H_qq: largest / smallest = {H.diagonal().max() / H.diagonal().min():.2f}")
units = torch.ones(27, dtype=torch.float64)
units[:9] = 10
rescaled = w / units, H * torch.outer(units, units)
for name, prune in METHODS.items():
    same, other = error(prune(w, H, 9), w, H), error(prune(*rescaled, 9), *rescaled)
    print(f"{name:18} error at 9 removed: {same:.1e}, in other units {other:.1e}")

# %% [markdown]
# Magnitude changes its mind with the units; the second-order criteria cannot, because $H$ carries
# the scale of the inputs. All filters of `conv0`, half of the weights removed:

# %%
filters = dense.features.conv0.weight.detach().flatten(1).double()
wins = {}
for name, prune in METHODS.items():
    own, best = ([error(p(w, H, 14), w, H) for w in filters] for p in (prune, surgeon))
    wins[name] = sum(a > b for a, b in zip(own, best, strict=True))
    median = torch.tensor(own).median()
    print(f"{name:18} median error {median:.1e}, OBS better on {wins[name]} of {len(filters)}")

# %% [markdown]
# The price: $H$ has the square of the number of weights as entries. For the whole network,

# %%
entries = cost.parameters(dense) ** 2
print(f"{entries:.1e} entries, {entries * 4 / 2**30:.0f} GiB in fp32")

# %% [markdown]
# OBD's diagonal fits anywhere, and layer-wise OBS as above, one small $H$ per layer shared by all
# its filters, is what prunes and quantizes language models today (Lecture 13). In Lab 1 you derive
# the diagonal for a loss that is not quadratic.
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
# The second replaces $H_{cc}$ by the Fisher information, so it survives a vanishing mean gradient.
# (Molchanov et al., ICLR 2017 and CVPR 2019; Theis et al., 2018.) Here: the 64 channels of `conv3`.

# %%
stop = list(dict(dense.features.named_children())).index("relu3") + 1
head, tail = dense.features[:stop], dense.features[stop:]
sample = train.head(CHANNEL_IMAGES)

# %%
with torch.no_grad():
    activation = head(datasets.normalize(sample.images))  # [N, 64, 16, 16]


# %%
def gated_losses(gate):
    """Cross-entropy of each image, channels of ``conv3`` multiplied by ``gate [N or 1, 64]``."""
    pooled = tail(activation * gate[:, :, None, None]).mean((2, 3))
    return F.cross_entropy(dense.classifier(pooled), sample.labels, reduction="none")


# %%
gate = torch.ones(len(sample), 64, requires_grad=True)
(g,) = torch.autograd.grad(gated_losses(gate).sum(), gate)  # [N, 64], one row an image
taylor, fisher = g.mean(0).abs(), g.pow(2).mean(0) / 2

# %% [markdown]
# The oracles: the gradient against a finite difference, and for every channel the true increase of
# the loss when it is removed.

# %%
one = torch.ones(1, 64)
with torch.no_grad():
    base = gated_losses(one).mean()
    step = F.one_hot(taylor.argmax(), 64) * 0.01
    difference = (gated_losses(one + step) - gated_losses(one - step)).mean() / 0.02
    true = torch.stack([gated_losses(one - e).mean() - base for e in torch.eye(64)])
torch.testing.assert_close(difference, g.mean(0)[taylor.argmax()], rtol=0.05, atol=1e-4)
print(f"loss {base:.4f}; removing one channel adds {true.min():.4f} to {true.max():.4f}")

# %% [markdown]
# ### 4.5 Average percentage of zeros
#
# A channel that ReLU silences most of the time says little (APoZ, Hu et al., 2016). Importance is
# the share of nonzero outputs.

# %%
active = (activation > 0).float().mean((0, 2, 3))
conv3, bn3 = dense.features.conv3, dense.features.bn3
importance = {
    "random": torch.rand(64),
    "L1": conv3.weight.detach().abs().sum((1, 2, 3)),
    "L2": conv3.weight.detach().flatten(1).norm(dim=1),
    "BN γ": bn3.weight.detach().abs(),
    "1 − APoZ": active,
    "Taylor": taylor,
    "Fisher": fisher,
}


# %%
def rank_correlation(a, b):
    """Spearman's: the correlation of the ranks of ``a [n]`` and ``b [n]``."""
    ranks = torch.stack([v.argsort().argsort().float() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


# %%
def loss_without(score, count=24):
    """Mean loss after removing the ``count`` least important channels together."""
    keep = (score.argsort().argsort() >= count).float()
    with torch.no_grad():
        return float(gated_losses(keep[None]).mean())


# %%
correlation = {name: rank_correlation(score, true) for name, score in importance.items()}
joint = {name: loss_without(score) for name, score in importance.items()}
joint["random"] = sum(loss_without(torch.rand(64)) for _ in range(8)) / 8  # one draw says little
joint["single losses"] = loss_without(true)
correlation["single losses"] = 1.0

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True)
special = {"Taylor": "ours", "Fisher": "ours", "single losses": "measured"}
colours = [plot.COLOURS[special.get(name, "baseline")] for name in correlation]
left.barh(list(correlation), list(correlation.values()), color=colours)
left.set(xlabel="rank correlation with the true\nloss increase, one channel at a time")
right.barh(list(joint), list(joint.values()), color=colours)
right.axvline(float(base), color=plot.COLOURS["measured"], lw=1)
right.set(xlabel="loss without the 24 least\nimportant of 64 channels")
for ax in (left, right):
    ax.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# *Green criteria saw gradients, grey ones did not; random is the mean of eight draws on the right;
# the black line is the intact network. Ranking by the true single-channel losses (black) is the
# reference on the left; on the right even it need not give the best set, because channels that are
# each dispensable may stand in for one another. A criterion is worth having where it beats random.*
#
# ### 4.6 Regression: choose channels that reproduce the next layer's output
#
# He, Zhang and Sun (ICCV 2017) ask for few channels that still explain the *next* layer's output
# $Y = \sum_c X_c W_c$, first with a LASSO on channel factors $\beta$, then with least squares on the
# weights that remain:
#
# $$\min_\beta \tfrac1{2N}\Big\lVert Y - \sum_c \beta_c X_c W_c\Big\rVert^2 + \lambda\lVert\beta\rVert_1,
# \qquad \min_{W'} \lVert Y - X_{\beta\ne0}W'\rVert^2 .$$
#
# Here the next layer is the classifier, $X$ the 128 pooled features. With
# $G = \tfrac1N X^\top X \odot W^\top W$ the LASSO needs only $G$ and its row sums.


# %%
@torch.no_grad()
def features(images):
    """Pooled features ``[N, 128]`` of the dense network."""
    parts = images.split(250)
    return torch.cat([dense.features(datasets.normalize(p)).mean((2, 3)) for p in parts])


# %%
X, V = features(train.images[:2000]), features(val.images)
W, bias = dense.classifier.weight.detach(), dense.classifier.bias.detach()
G = ((X.T @ X / len(X)) * (W.T @ W)).double()
b = G.sum(1)


# %%
def lasso(G, b, penalty, steps=2000):
    """Minimize ½βᵀGβ − bᵀβ + penalty·‖β‖₁ by proximal gradient steps with momentum (FISTA)."""
    beta, rate = torch.zeros_like(b), 1 / torch.linalg.eigvalsh(G)[-1]
    ahead = beta
    for step in range(steps):
        moved = ahead - rate * (G @ ahead - b)
        new = moved.sign() * (moved.abs() - rate * penalty).clamp(min=0)
        ahead, beta = new + step / (step + 3) * (new - beta), new
    return beta


# %% [markdown]
# The oracle is the optimality condition: the gradient $G\beta - b$ equals
# $-\lambda\,\mathrm{sign}\,\beta_c$ where $\beta_c\ne0$ and stays within $\pm\lambda$ elsewhere.
# Raise $\lambda$ until at most a quarter of the channels is left.

# %%
penalty = float(b.abs().max()) / 100
while (beta := lasso(G, b, penalty)).count_nonzero() > 32:
    penalty *= 1.2
gradient, on = G @ beta - b, beta != 0
assert (gradient.abs() <= penalty * 1.02).all()
torch.testing.assert_close(gradient[on], -penalty * beta[on].sign(), rtol=0.02, atol=0)
print(f"λ = {penalty:.3g} keeps {int(on.sum())} of 128 channels")


# %%
def accuracy(logits):
    return float((logits.argmax(1) == val.labels).float().mean())


# %%
strong = torch.zeros(128, dtype=torch.bool)
strong[W.norm(dim=0).topk(int(on.sum())).indices] = True
X_bias = torch.cat([X, torch.ones(len(X), 1)], 1)
for name, keep in (("L2 norm", strong), ("LASSO", on)):
    kept = torch.cat([keep, torch.tensor([True])])
    solved = torch.linalg.lstsq(X_bias[:, kept], X @ W.T + bias).solution
    refitted = V[:, keep] @ solved[:-1] + solved[-1]
    as_is = accuracy(V[:, keep] @ W[:, keep].T + bias)
    print(f"{name:8} weights as they are: {as_is:.1%}, least squares: {accuracy(refitted):.1%}")
print(f"all 128 channels: {accuracy(V @ W.T + bias):.1%}")

# %% [markdown]
# Regression needs no labels and no backward pass, only activations. That is why it returns wherever
# training is out of reach.
#
# ## 5. Fine-tuning
#
# Han et al.'s recipe has three steps: train, prune, retrain what remains. The mask is applied after
# every update, so pruned weights stay exactly zero. One pass over a few images stands for retraining
# here; Lecture 4 iterates, and Lab 1 takes the time.


# %%
def prunable(model):
    """Convolutions but the first, which has 0.2 % of the weights and sees the pixels."""
    return dict(list(cost.weighted_layers(model).items())[1:-1])


# %%
def retrain(sparsity):
    """Prune, then retrain; parameters dense / left, accuracy before and after retraining."""
    model = copy.deepcopy(dense)
    layers = prunable(model).values()
    masks = [mask_of(layer.weight, sparsity, "fine-grained") for layer in layers]

    @torch.no_grad()
    def apply_masks(model):
        for layer, mask in zip(prunable(model).values(), masks, strict=True):
            layer.weight *= mask

    apply_masks(model)
    before, budget = training.evaluate(model, val), train.head(FINETUNE_IMAGES)
    training.fit(model, budget, epochs=1, lr=0.004, after_step=apply_masks)
    factor = cost.parameters(dense) / cost.nonzeros(model)
    return factor, before, training.evaluate(model, val)


# %%
levels = (0.5, 0.65, 0.8, 0.9)
retrained = [retrain(s) for s in levels]
for s, (factor, before, after) in zip(levels, retrained, strict=True):
    print(f"s = {s}: {factor:.1f}× fewer parameters, {before:.1%} pruned, {after:.1%} retrained")

# %%
factors, before, after = zip(*retrained, strict=True)
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axhline(100 * dense_accuracy, color=plot.COLOURS["baseline"], label="dense")
ax.plot(factors, [100 * a for a in before], "s--", color=plot.COLOURS["baseline"], label="pruned")
ax.plot(factors, [100 * a for a in after], "o-", color=plot.COLOURS["ours"], label="retrained")
ax.set(xlabel="parameters, dense / left", ylabel="accuracy, %")
ax.legend()
plt.show()

# %% [markdown]
# *How much can go is a question of how much one retrains: the gap between the two curves is what one
# short pass over the data buys.*

# %% [markdown]
# ## 6. All three at once: accuracy, bytes, latency
#
# Prune the whole network at every granularity, without fine-tuning but with the batch-norm
# statistics measured again, and count and time the result. To compare at equal numbers of weights,
# channel pruning keeps $\sqrt{1-s}$ of the filters: each removed filter takes its inputs in the
# next layer along.


# %%
@torch.no_grad()
def prune_all(sparsity, granularity):
    """A copy of the dense network, pruned uniformly, batch-norm statistics measured anew."""
    model = copy.deepcopy(dense)
    share = 1 - (1 - sparsity) ** 0.5 if granularity == "channel" else sparsity
    for name, conv in prunable(model).items():
        mask = mask_of(conv.weight, share, granularity)
        conv.weight *= mask
        if granularity == "channel":  # a removed channel has no offset either
            model.get_submodule(name.replace("conv", "bn")).bias *= mask[:, 0, 0, 0]
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None  # plain average
    model.train()(datasets.normalize(train.images[:500]))
    return model.eval()


# %%
def narrow(model):
    """The architecture that is left when dead filters are gone, with fresh weights to time."""
    convs = list(cost.weighted_layers(model).values())[:-1]
    alive = iter(int(conv.weight.flatten(1).any(1).sum()) for conv in convs)
    channels = [c if c == "M" else next(alive) for c in model.config["channels"]]
    return models.build({**model.config, "channels": channels})


# %%
def with_sparse_convs(model):
    """The same network with every pruned convolution in CSR."""
    model = copy.deepcopy(model)
    for name, conv in prunable(model).items():
        setattr(model.features, name.removeprefix("features."), SparseConv(conv))
    return model


# %% [markdown]
# How long a network takes does not depend on the values of its weights, so the narrow one may be
# timed untrained; its accuracy is the masked one's. Every other granularity is timed both ways, and
# the faster counts.


# %%
def network_bytes(model, granularity):
    """Bytes of the pruned network: a narrow one, or pruned layers with their indices."""
    if granularity == "channel":
        return cost.model_bytes(narrow(model))
    pruned = prunable(model).values()
    dense_bytes = sum(4 * conv.weight.numel() for conv in pruned)
    kept_bytes = sum(layer_bytes(conv.weight, granularity) for conv in pruned)
    return cost.model_bytes(model) - dense_bytes + kept_bytes


# %%
LEVELS = (0.25, 0.5, 0.625, 0.75, 0.875, 0.9375)
rows, calls = [], {"dense": measure.inference(copy.deepcopy(dense))}
for s, name in itertools.product(LEVELS, GRANULARITIES):
    if name == "2:4" and s != 0.5:
        continue
    model = prune_all(s, name)
    size, accurate = network_bytes(model, name), training.evaluate(model, val)
    rows.append(dict(granularity=name, sparsity=s, bytes=size, accuracy=accurate))
    smaller = narrow(model) if name == "channel" else with_sparse_convs(model)
    calls[f"{name} {s}"] = measure.inference(smaller)

# %%
times, machine = timed(calls)
for row in rows:
    ratio = times.ratio(f"{row['granularity']} {row['sparsity']}", "dense").median
    row["kernel"] = "narrow" if row["granularity"] == "channel" else "CSR"
    if ratio > 1 and row["kernel"] == "CSR":
        ratio, row["kernel"] = 1.0, "dense"
    row["latency"] = ratio

# %%
print(f"dense: {times['dense']}, {cost.model_bytes(dense) >> 10} KiB, {dense_accuracy:.1%}")
text = "{granularity:12} runs {kernel:6}: ×{latency:.2f}, {bytes:7,} bytes, accuracy {accuracy:.1%}"
print(*[text.format(**row) for row in rows if row["sparsity"] == 0.75], sep="\n")

# %% [markdown]
# Drag the sparsity (in a live kernel), or compare the panels:

# %% tags=["widget"]
SHAPES = dict(zip(("fine-grained", "2:4", "vector", "kernel", "channel"), "oPsD^", strict=True))


def draw(ax, sparsity):
    """Accuracy against latency of each granularity; the label is its size in KiB."""
    for (name, marker), colour in zip(SHAPES.items(), plot.CYCLE, strict=False):
        own = [r for r in rows if r["granularity"] == name]
        trail = [[r["latency"] for r in own], [100 * r["accuracy"] for r in own]]
        ax.plot(*trail, color=colour, alpha=0.25, lw=1)
        for r in own:
            if r["sparsity"] == sparsity:
                point = r["latency"], 100 * r["accuracy"]
                ax.plot(*point, marker, color=colour, ms=8, label=f"{name}, {r['bytes'] >> 10} KiB")
    ax.set(xlim=(0, 1.15), ylim=(0, 100), xlabel="latency / dense", ylabel="accuracy, %")
    ax.legend(loc="upper left", fontsize=7, handletextpad=0.2)


plot.explore(draw, size=(5.6, 4), sparsity=sorted({r["sparsity"] for r in rows}))

# %% [markdown]
# *Before fine-tuning, fine shapes stay up (accuracy) and right (latency); channels move left and
# fall. Bytes follow the sparsity whatever the shape, once indices are relative. A faint line joins
# the points of one granularity.*
#
# ## 7. Limits
#
# - Latency is that of one CPU, one library, batch 1. A kernel generated for one sparsity pattern, or
#   hardware with skip logic, moves the break-even; Lecture 4 measures how far.
# - Energy figures are for 45 nm, and 5 pJ is a *small* SRAM; large caches cost several times more.
#   Ratios age better than absolute values.
# - Section 6 prunes every layer alike and does not fine-tune. Both choices are poor, and they favour
#   fine granularities. Lab 1 does better.
# - Criteria were compared on one layer and one network; rankings differ elsewhere.
#
# ## 8. Claims

# %%
on = f"reference VGG, {dataset}, {len(val)} validation images"
at_75 = {r["granularity"]: r for r in rows if r["sparsity"] == 0.75}
faster_than = at_75["fine-grained"]["latency"] / at_75["channel"]["latency"]
HAN = "Han et al., NeurIPS 2015"
shown = [f"{f:.1f}× at {100 * (a - dense_accuracy):+.1f} points" for f, _, a in retrained]
pruning = plot.Claim(
    claim="pruning removes most parameters at no loss of accuracy",
    paper="9× AlexNet, 13× VGG-16 on ImageNet",
    source=f"{HAN}, abstract",
    measured=", ".join(shown),
    on=on,
    why=f"one pruning step and {FINETUNE_IMAGES:,} images of retraining, not many rounds; no large "
    "fully connected layers, which is where AlexNet and VGG-16 lose most",
)

# %%
surgeon_claim = plot.Claim(
    claim="OBS deletes better weights than magnitude or OBD",
    paper="90, 76, 62 % fewer weights than weight decay on the MONK's problems",
    source="Hassibi & Stork, NeurIPS 1992, abstract",
    measured=f"lower error than OBD on {wins['OBD']}, than magnitude with refit on "
    f"{wins['magnitude + refit']} of {len(filters)} filters at 14 of 27 weights removed",
    on=f"conv0 as least squares, {dataset}",
    why="a quadratic loss, where OBS is exact for each removal; no generalization is tested",
)
structure = plot.Claim(
    claim="structured sparsity is faster than irregular at like accuracy",
    paper="5.1× on CPU, about twice the speed-up of irregular sparsity (AlexNet convolutions)",
    source="Wen et al., NeurIPS 2016, abstract",
    measured=f"channels {1 / at_75['channel']['latency']:.1f}×, irregular "
    f"{1 / at_75['fine-grained']['latency']:.1f}× at 75 % sparsity: {faster_than:.1f} times as fast",
    on=machine,
    why="equal sparsity, not equal accuracy: before retraining channels keep "
    f"{at_75['channel']['accuracy']:.0%}, irregular {at_75['fine-grained']['accuracy']:.0%}; theirs "
    "is trained with a group penalty",
)

# %%
plot.claims(
    [
        pruning,
        surgeon_claim,
        structure,
        plot.Claim(
            claim="a DRAM access costs far more than arithmetic",
            paper="640 pJ against 3.7 pJ for an fp32 multiplication, 45 nm",
            source=f"{HAN}, figure 1, after Horowitz, ISSCC 2014",
            why="no energy counter here; section 1 times the same effect",
        ),
        plot.Claim(
            claim="2:4 sparsity doubles matrix throughput",
            paper="2× math throughput, sparse tensor cores",
            source="Mishra et al., arXiv:2104.08378, 2021, abstract",
            why="a CPU has no sparse tensor cores",
        ),
    ]
)

# %% [markdown]
# ## Discussion
#
# 1. A colleague reports "90 % sparse, so 10× faster". Which three questions do you ask first?
# 2. Section 1's bars say that the late layers dominate memory energy, the early ones arithmetic.
#    Which would you prune for a phone that runs from DRAM, and which for a microcontroller whose
#    weights sit beside the core?
# 3. Why can the sum of OBD saliencies *under*estimate the loss of removing two weights, and when
#    does it overestimate? Construct a 2×2 Hessian for each.
# 4. Batch normalization makes filter norms meaningless between layers. Does it within one layer,
#    too? What did the rank correlations above say?
# 5. The regression criterion looks at one layer's output, Taylor at the loss. Give a case in which
#    each is misled.
#
# ## Further reading
#
# - Y. LeCun, J. Denker, S. Solla, "Optimal Brain Damage", NeurIPS 1989.
# - B. Hassibi, D. Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon",
#   NeurIPS 1992.
# - S. Han, J. Pool, J. Tran, W. Dally, "Learning both weights and connections for efficient neural
#   networks", NeurIPS 2015.
# - H. Li et al., "Pruning filters for efficient ConvNets", ICLR 2017: the L1 norm of filters.
# - H. Mao et al., "Exploring the granularity of sparsity in convolutional neural networks", 2017.
# - Y. He, X. Zhang, J. Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017.
# - P. Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019.
# - T. Hoefler et al., "Sparsity in deep learning", JMLR 2021: the survey.
# - M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.
#
# **Next:** Lab 1 prunes this network for good. Lecture 4 gives every layer its own ratio.
