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
# # Lecture 4: Pruning and sparsity, part 2
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/04_pruning_and_sparsity_2.ipynb)
#
# **The question: how much of each layer may go, and what does it take to turn the zeros into
# time?**
#
# Lecture 3 pruned every layer alike and stopped after one pass of retraining. This lecture gives
# each layer its own ratio: by rules of one number, by an agent (AMC), by a device in the loop
# (NetAdapt), all on one accuracy–latency plane. Then it asks what fine-tuning really restores, and
# ends in hardware that was built for zeros: EIE, 2:4, blocks, and the CPU's own CSR.

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

# %% tags=["parameters"] short={"SEEDS": 2, "SEARCH_IMAGES": 32, "REPORT_IMAGES": 100, "STATISTICS_IMAGES": 64, "ROUNDS": 3, "BUDGET": 0.75, "EPISODES": 8, "EXPLORING": 4, "SHORT_IMAGES": 64, "FINETUNE_IMAGES": 128, "SMALL_IMAGES": 2000, "SMALL_STEPS": 40}
SEEDS = 3  # of every comparison
SEARCH_IMAGES = 300  # validation images that rules and searches may look at
REPORT_IMAGES = 1000  # other validation images, behind every reported accuracy
STATISTICS_IMAGES = 256  # training images behind importances and batch-norm statistics
ROUNDS, TABLE_ROUNDS = 20, 7  # of latency measurements: whole networks, entries of the table
BUDGET = 0.6  # predicted latency of each searched network / dense
EPISODES, EXPLORING = 72, 24  # of AMC, and how many of them act at random
SHORT_IMAGES = 320  # training images of each NetAdapt proposal
FINETUNE_IMAGES = 2000  # training images of every network on the plane, and of the EIE network
SMALL_IMAGES, SMALL_STEPS = 8000, 300  # of each training of the small networks in section 6

# %%
import copy
import itertools
import math
import warnings
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from codesign import checkpoints, cost, datasets, measure, models, plot, training
from codesign.hardware import eie, energy

plot.theme()
torch.manual_seed(0)
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
warnings.filterwarnings("ignore", message="Sparse BSR tensor support is in beta")

# %% [markdown]
# ## 1. Which ratio for which layer
#
# Layer $l$ of the network keeps $n_l$ of its $N_l$ channels. With accuracy $A$ and latency $T$,
#
# $$\max_{n_1,\dots,n_L} A(n_1,\dots,n_L)\quad\text{subject to}\quad T(n_1,\dots,n_L)\le B\,T_\text{dense}.$$
#
# To ask only *how many*, fix *which*: sort every layer's channels by importance once, and let $n_l$
# mean the first $n_l$. Layers can only be compared by a score in one unit, so take the loss: the
# Fisher score of Lecture 3, half the mean squared gradient with respect to a gate on the channel.

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val")
search, report = val.parts(SEARCH_IMAGES, REPORT_IMAGES)
original = checkpoints.load(checkpoints.shipped("vgg", dataset))
print(f"{cost.macs(original):,} MACs, {training.evaluate(original, report):.1%} right")


# %%
def gate_gradients(model, images, labels):
    """Gradient of each image's loss by a gate on each channel: ``[N, C]`` a convolution."""
    outputs = []
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    hooks = [relu.register_forward_hook(lambda m, x, y: outputs.append(y)) for relu in relus]
    loss = F.cross_entropy(model(datasets.normalize(images)), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, outputs)
    for hook in hooks:
        hook.remove()
    return [(y.detach() * g).sum((2, 3)) for y, g in zip(outputs, gradients, strict=True)]


# %%
sample = train.head(STATISTICS_IMAGES)
fisher = [g.pow(2).mean(0) / 2 for g in gate_gradients(original, sample.images, sample.labels)]


# %%
@torch.no_grad()
def sorted_channels(model, scores):
    """The same function, each layer's channels from the most to the least important."""
    model, reads = copy.deepcopy(model), torch.arange(3)
    for i, score in enumerate(scores):
        conv, bn = model.features.get_submodule(f"conv{i}"), model.features.get_submodule(f"bn{i}")
        order = score.argsort(descending=True)
        for tensor in (conv.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var):
            tensor.copy_(tensor[order])
        conv.weight.copy_(conv.weight[:, reads])
        reads = order
    model.classifier.weight.copy_(model.classifier.weight[:, reads])
    return model


# %% [markdown]
# Two oracles: sorting changes no output, and the gradient by a gate agrees with a finite difference
# (scaling a channel's batch norm by $z>0$ scales what leaves its ReLU by $z$).

# %%
dense = sorted_channels(original, fisher)
few = datasets.normalize(sample.images[:16])
with torch.no_grad():
    torch.testing.assert_close(dense(few), original(few), rtol=1e-3, atol=1e-3)


# %%
@torch.no_grad()
def gated_loss(z, layer="bn3"):
    """Summed loss of 16 images with the first channel of a layer scaled by ``z``."""
    gated = copy.deepcopy(dense).double()
    bn = gated.features.get_submodule(layer)
    bn.weight[0] *= z
    bn.bias[0] *= z
    return F.cross_entropy(gated(few.double()), sample.labels[:16], reduction="sum")


# %%
slope = (gated_loss(1.001) - gated_loss(0.999)) / 0.002
own = gate_gradients(dense, sample.images[:16], sample.labels[:16])[3][:, 0].sum()
torch.testing.assert_close(own.double(), slope, rtol=0.02, atol=1e-3)

# %% [markdown]
# A list of widths is now a network: the leading corner of every tensor. Batch-norm statistics are
# measured anew, because a narrower input has other means and variances.

# %%
FULL = tuple(c for c in dense.config["channels"] if c != "M")
LAYERS = [f"conv{i}" for i in range(len(FULL))]
GRID = [[full * k // 8 for k in range(1, 9)] for full in FULL]  # the widths to choose from


# %%
def corner(model, widths):
    """The network of the first ``widths[i]`` channels of each convolution."""
    own = iter(widths)
    channels = [c if c == "M" else next(own) for c in model.config["channels"]]
    small = models.build({**model.config, "channels": channels})
    shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    cut = {name: [slice(n) for n in shape] for name, shape in shapes.items()}
    small.load_state_dict({name: t[tuple(cut[name])] for name, t in model.state_dict().items()})
    return small


# %%
@torch.no_grad()
def settled(model):
    """``model`` with the batch-norm statistics of ``STATISTICS_IMAGES`` training images."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # one batch, all of it
    model.train()(datasets.normalize(sample.images))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


# %%
@cache
def accuracy_untrained(widths):
    """Accuracy on the search images of a network that was cut and not fine-tuned."""
    return training.evaluate(settled(corner(dense, widths)), search)


# %% [markdown]
# **Smallest example.** Only two layers may shrink, `conv0` and `conv3`, to a quarter, a half, three
# quarters, or not at all: 16 networks, all tried.

# %%
SHARES = (2, 4, 6, 8)  # eighths


# %%
def two_layers(a, b):
    """Widths with a/8 of conv0 and b/8 of conv3."""
    return (GRID[0][a - 1], *FULL[1:3], GRID[3][b - 1], *FULL[4:])


# %%
pairs = list(itertools.product(SHARES, SHARES))
tried = [accuracy_untrained(two_layers(a, b)) for a, b in pairs]
macs = [cost.macs(corner(dense, two_layers(a, b))) / 1e6 for a, b in pairs]

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.2))
percent = [100 * a for a in tried]
plot.pareto(ax, macs, percent, label="best at its cost")
alike = [i for i, (a, b) in enumerate(pairs) if a == b]
line = [[values[i] for i in alike] for values in (macs, percent)]
ax.plot(*line, "s--", color=plot.COLOURS["baseline"], label="both layers alike")
for (a, b), x, y in zip(pairs, macs, percent, strict=True):
    ax.annotate(f"{a},{b}", (x, y), (3, -9), textcoords="offset points", fontsize=7)
ax.set(xlabel="million MACs", ylabel="accuracy, %", title="eighths kept of conv0, conv3")
ax.legend()
plt.show()

# %% [markdown]
# *Each point is one network, labelled with its two ratios. Where a green point stands above the
# grey line, treating both layers alike wastes accuracy at that cost.*
#
# With seven layers and eight widths nobody tries them all:

# %%
print(f"{len(GRID[0]) ** len(GRID):,} networks")

# %% [markdown]
# ### The sensitivity scan
#
# So ask each layer alone: narrow it, leave the others as they are, measure. $a_l(n)$ is the
# accuracy with $n$ channels left in layer $l$.


# %%
def only(i, width):
    """The full widths, but ``width`` in layer ``i``."""
    return (*FULL[:i], width, *FULL[i + 1 :])


# %%
dense_search = accuracy_untrained(FULL)
alone = [[accuracy_untrained(only(i, w)) for w in row] for i, row in enumerate(GRID)]
eighths = range(1, 9)
fig, ax = plt.subplots()
for name, curve, colour in zip(LAYERS, alone, plot.CYCLE, strict=True):
    ax.plot([k / 8 for k in eighths], [100 * a for a in curve], "o-", color=colour, label=name)
ax.set(xlabel="share of this layer's channels kept", ylabel="accuracy, %")
ax.invert_xaxis()
ax.legend(ncols=2)
plt.show()

# %% [markdown]
# *One layer narrowed, the others whole, nothing fine-tuned. A curve that bends down early marks a
# layer to leave alone; a flat one has channels to spare. What the scan cannot see is how two
# narrowed layers add up.*
#
# ### Three rules of one number
#
# Each rule turns one number $\theta$ into all widths; $\theta$ is then turned until the budget is met.
#
# $$\text{uniform: } n_l = \theta N_l,\qquad
# \text{sensitivity: } n_l = \min\{n : a_l(n)\ge a - \theta\},\qquad
# \text{global: } n_l = \#\{c : s_{lc} > \theta\}.$$
#
# Sensitivity allows every layer the same drop. Global puts all channels of all layers in one list
# and cuts it at one score; without a unit common to all layers it means nothing, with Fisher's it is
# a loss.


# %%
def uniform(k):
    return tuple(row[k - 1] for row in GRID)


# %%
def same_drop(bound):
    enough = [[a >= dense_search - bound for a in curve] for curve in alone]
    return tuple(min(itertools.compress(*pair)) for pair in zip(GRID, enough, strict=True))


# %%
def one_threshold(level):
    alive = [int((score > level).sum()) for score in fisher]
    return tuple(min(w for w in row if w >= n) for row, n in zip(GRID, alive, strict=True))


# %%
drops = sorted({dense_search - a for curve in alone for a in curve if a <= dense_search})
RULES = {
    "uniform": (uniform, range(8, 0, -1)),
    "sensitivity": (same_drop, drops),
    "global": (one_threshold, torch.cat(fisher).sort().values.tolist()),
}

# %% [markdown]
# ## 2. The budget is time: a table of measured latencies
#
# MACs are counted in a moment, but time is what the user waits for. NetAdapt measures each layer at
# each width *once*, and adds up:
#
# $$\hat T(n_1,\dots,n_L) = \sum_l t_l[n_{l-1}, n_l].$$
#
# An entry is the piece of a network from one convolution to the next (batch norm, ReLU and pool
# belong to it), timed alone.

# %%
SIDES = [layer.input_shape[-1] for layer in cost.layers(dense) if "conv" in layer.name]


# %%
def piece(i, c_in, c_out):
    """Everything from ``conv<i>`` to the next convolution, and the shape of its input."""
    widths = [*(row[0] for row in GRID)]
    widths[max(i - 1, 0)] = c_in  # conv0 reads the image, its input is not free
    widths[i] = c_out
    parts = corner(dense, widths).features
    names = [name for name, _ in parts.named_children()]
    start = names.index(f"conv{i}")
    stop = names.index(f"conv{i + 1}") if i + 1 < len(FULL) else len(names)
    return parts[start:stop], (1, parts[start].in_channels, SIDES[i], SIDES[i])


# %%
calls = {}
for i, row in enumerate(GRID):
    for c_in, c_out in itertools.product(GRID[i - 1] if i else [3], row):
        calls[i, c_in, c_out] = measure.inference(*piece(i, c_in, c_out))
found = measure.latency(calls, rounds=TABLE_ROUNDS, warm_up=2, sample_s=5e-4)
table = {key: found[key].median for key in calls}
print(f"{len(table)} entries on {found.machine}")


# %%
def seconds(widths):
    """Predicted seconds of each piece of a network."""
    return [table[i, c_in, c] for i, (c_in, c) in enumerate(itertools.pairwise([3, *widths]))]


# %%
def predicted(widths):
    return sum(seconds(widths))


# %% [markdown]
# **Estimate beside measurement.** Twelve networks of random widths, timed whole, against two
# estimates: the table, and the dense network's time scaled by MACs. Neither has seen them.

# %%
pick = torch.Generator().manual_seed(0)
draws = torch.randint(8, (12, len(FULL)), generator=pick).tolist()
probes = [FULL, *(tuple(row[k] for row, k in zip(GRID, d, strict=True)) for d in draws)]
calls = {widths: measure.inference(corner(dense, widths)) for widths in probes}
times = measure.latency(calls, rounds=ROUNDS)
dense_time, dense_macs = times[FULL], cost.macs(dense)
by_table = [predicted(widths) for widths in probes]
counts = [cost.macs(corner(dense, widths)) for widths in probes]
by_macs = [dense_time.median * n / dense_macs for n in counts]

# %%
for name, guess in (("table", by_table), ("MACs", by_macs)):
    off = [g / times[w].median - 1 for g, w in zip(guess[1:], probes[1:], strict=True)]
    worst = max(off, key=abs)
    print(f"{name:5} median error {sorted(map(abs, off))[6]:.0%}, worst {worst:+.0%}")
print(f"dense: table {predicted(FULL) * 1e3:.2f} ms, measured {dense_time}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
for c_in, colour in zip((32, 64, 128), plot.CYCLE, strict=False):
    row = [table[5, c_in, w] * 1e3 for w in GRID[5]]
    left.plot(GRID[5], row, "o-", color=colour, label=f"{c_in} channels in")
left.set(xlabel="channels out of conv5", ylabel="measured latency, ms", ylim=(0, None))
left.legend()
ends = [0, dense_time.median * 1.15e3]
right.plot(ends, ends, color=plot.COLOURS["measured"], lw=0.8)
measured = [times[w].median * 1e3 for w in probes]
right.plot([t * 1e3 for t in by_macs], measured, "s", color=plot.COLOURS["compute"], label="MACs")
right.plot([t * 1e3 for t in by_table], measured, "o", color=plot.COLOURS["ours"], label="table")
right.set(xlabel="estimated latency, ms", ylabel="measured latency, ms")
right.legend()
plt.show()

# %% [markdown]
# *Left: one layer's row of the table; lines through the origin would mean that time is MACs. Right:
# whole networks; on the black line the estimate is exact. Points above it took longer than
# estimated.*
#
# What the hardware does with it: a vector register holds a fixed number of channels, a thin layer
# leaves part of it empty, and every layer has costs that no channel shares. The table knows this
# because it was measured; a MAC counter does not. The searches below use the table and are judged
# by the clock.

# %%
budget_s = BUDGET * predicted(FULL)
assert predicted(uniform(1)) <= budget_s  # else no search could succeed


# %%
def within_budget(rule, values):
    """The widths of the first value of the rule's number that meets the budget."""
    return next(w for w in map(rule, values) if predicted(w) <= budget_s)


# %%
chosen = {name: [within_budget(*rule)] * SEEDS for name, rule in RULES.items()}
for name, (widths, *_) in chosen.items():
    share = predicted(widths) / predicted(FULL)
    print(f"{name:11} table ×{share:.2f}, untrained {accuracy_untrained(widths):.1%}, {widths}")

# %% [markdown]
# ## 3. AMC: an agent walks through the layers
#
# AMC (He et al., ECCV 2018) makes the choice a game. Before layer $t$ the agent sees a **state**: where
# it is, how large the layer is, how much cost has been *reduced* and how much is left in the *rest*,
# and its last action. Its **action** is the share of layer $t$ to keep. The **reward** comes at the
# end: the accuracy of the pruned network, without fine-tuning.
#
# The paper's state has eleven entries. Stride and kernel size are the same in all our layers and
# left out; MACs become seconds of the table.

# %%
full_s = seconds(FULL)


# %%
def state(i, widths, last):
    """What the agent knows before it acts on layer ``i``, ``[8]``, each about 0 to 1."""
    spent = seconds(widths)
    reduced, rest = sum(full_s[:i]) - sum(spent[:i]), sum(spent[i + 1 :])
    c_in = widths[i - 1] if i else 3
    size = [i / len(FULL), FULL[i] / 128, c_in / 128, SIDES[i] / 32]
    return torch.tensor([*size, *(t / sum(full_s) for t in (spent[i], reduced, rest)), last])


# %% [markdown]
# The action is bounded so that the budget can always be met: only widths are allowed with which the
# network would fit if all later layers were as thin as can be (the paper's algorithm 1). Then the
# reward needs no term for the cost.


# %%
def bounded(i, widths, action):
    """The allowed width of layer ``i`` that is nearest to ``action``, a share from 0 to 1."""
    thin = [row[0] for row in GRID[i + 1 :]]
    allowed = [w for w in GRID[i] if predicted([*widths[:i], w, *thin]) <= budget_s]
    return min(allowed, key=lambda w: abs(w - action * FULL[i]))


# %%
def episode(act):
    """One walk: states ``[7, 8]``, actions ``[7]`` as carried out, and the widths reached."""
    widths, states, actions, last = list(FULL), [], [], 1.0
    for i, full in enumerate(FULL):
        states.append(state(i, widths, last))
        widths[i] = bounded(i, widths, act(states[-1]))
        last = widths[i] / full
        actions.append(last)
    return torch.stack(states), torch.tensor(actions), tuple(widths)


# %%
pick = torch.Generator().manual_seed(1)
walks = [episode(lambda s: torch.rand(1, generator=pick).item())[2] for _ in range(50)]
assert max(map(predicted, walks)) <= budget_s  # whatever the agent does
assert predicted(episode(lambda s: 1.0)[2]) <= budget_s

# %% [markdown]
# The agent has an actor $\mu(s)$ and a critic $Q(s,a)$, as in DDPG. All steps of a walk share its
# reward $R$; the critic learns to predict it, the actor to act as the critic likes:
#
# $$\min_Q\; \big(R - b - Q(s,a)\big)^2,\qquad \max_\mu\; Q\big(s,\mu(s)\big).$$
#
# Like the paper's, it acts at random first and then adds noise that decays from walk to walk.
# Smaller than in the paper: the networks (two layers of 64 units, not 300), the noise (0.3 at first,
# not 0.5), the number of walks (400 there), and the critic's target, which is the walk's own reward,
# not one bootstrapped from the next state with target networks.


# %%
def mlp(inputs, *end):
    hidden = [nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(64, 1), *end)


# %%
def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# %%
def learn(actor, critic, optimizers, memory, updates=20):
    """Improve both on all walks so far; ``memory`` holds (states, actions, rewards) of each."""
    s, a, r = (torch.cat(part) for part in zip(*memory, strict=True))
    r = (r - r.mean()) / r.std().clamp(min=1e-6)  # the baseline b, and a scale
    for _ in range(updates):
        i = torch.randint(len(s), (64,))
        guess = critic(torch.cat([s[i], a[i, None]], 1))[:, 0]
        descend(optimizers[1], (guess - r[i]).pow(2).mean())
        descend(optimizers[0], -critic(torch.cat([s[i], actor(s[i])], 1)).mean())


# %%
def at_random(s):
    return torch.rand(1).item()


# %%
def noisy(actor, noise):
    """The actor's action with Gaussian noise; ``bounded`` brings it back into range."""
    return lambda s: actor(s).item() + noise * torch.randn(1).item()


# %%
def amc(seed):
    """Reward and widths of each of ``EPISODES`` walks of one agent."""
    torch.manual_seed(seed)
    actor, critic = mlp(8, nn.Sigmoid()), mlp(9)
    rates = ((actor, 3e-4), (critic, 3e-3))  # a slow actor: a sigmoid driven to 0 or 1 stays there
    optimizers = [torch.optim.Adam(net.parameters(), lr=lr) for net, lr in rates]
    memory, seen = [], []
    for walk in range(EPISODES):
        acting = at_random
        if walk >= EXPLORING:
            learn(actor, critic, optimizers, memory)
            acting = noisy(actor, 0.3 * 0.93 ** (walk - EXPLORING))
        states, actions, widths = episode(acting)
        seen.append((accuracy_untrained(widths), widths))
        memory.append((states, actions, torch.full((len(FULL),), seen[-1][0])))
    return seen


# %%
runs = [amc(seed) for seed in range(SEEDS)]
chosen["AMC"] = [max(run)[1] for run in runs]
for run, widths in zip(runs, chosen["AMC"], strict=True):
    rewards = torch.tensor([reward for reward, _ in run])
    early, late = rewards[:EXPLORING], rewards[EXPLORING:]
    print(
        f"random walks: mean {early.mean():.1%}, best {early.max():.1%}; "
        f"learning: mean {late.mean():.1%}, best {late.max():.1%}, {widths}"
    )

# %%
METHODS = dict(
    zip(["uniform", "sensitivity", "global"], ["#767676", "#56B4E9", "#E69F00"], strict=True)
)
METHODS |= {"AMC": "#CC79A7", "NetAdapt": plot.COLOURS["ours"]}
fig, ax = plt.subplots()
for run in runs:
    rewards = torch.tensor([100 * reward for reward, _ in run])
    ax.plot(rewards, ".", color=METHODS["AMC"], alpha=0.4)
    ax.plot(rewards.cummax(0).values, color=METHODS["AMC"])
for name in RULES:
    level = 100 * accuracy_untrained(chosen[name][0])
    ax.axhline(level, color=METHODS[name], ls="--", label=name)
ax.axvline(EXPLORING - 0.5, color=plot.COLOURS["measured"], lw=0.8)
ax.set(xlabel="walk", ylabel="reward: accuracy untrained, %")
ax.legend(title="rules at the budget", fontsize=7, title_fontsize=7)
plt.show()

# %% [markdown]
# *Each dot is one walk, each solid line the best so far of one agent; right of the black line the
# agent acts itself. Every walk meets the same budget. An agent is worth its price if the dots rise
# after the line, and if the best leaves the dashed rules behind.*
#
# The best of many walks is chosen with the images that scored them, so part of its lead is luck with
# those images. The plane in section 5 uses other images.
#
# ## 4. NetAdapt: the table decides what is possible, short training what is best
#
# NetAdapt (Yang et al., ECCV 2018) goes down in rounds. In each round the budget falls; every layer
# proposes the least it would have to give up for the network to meet it alone; each proposal is
# fine-tuned briefly; the most accurate survives.


# %%
def trained(model, images, seed, lr):
    """A copy of ``model`` after one pass over so many random training images."""
    model = settled(copy.deepcopy(model))
    training.fit(model, train, epochs=images / len(train), lr=lr, seed=seed)
    return model


# %%
def netadapt(seed, fall=0.92):
    """Rounds down to the budget: for each the proposals with accuracies, and the survivor."""
    model, widths, rounds = dense, FULL, []
    while predicted(widths) > budget_s:
        thinner = {
            name: [(*widths[:i], w, *widths[i + 1 :]) for w in GRID[i] if w < widths[i]]
            for i, name in enumerate(LAYERS)
        }
        reach = min(predicted(o) for options in thinner.values() for o in options)
        target = max(budget_s, fall * predicted(widths), reach)
        fits = {name: [o for o in v if predicted(o) <= target] for name, v in thinner.items()}
        widest = {max(options): name for name, options in fits.items() if options}
        tuned = {w: trained(corner(model, w), SHORT_IMAGES, seed, 0.01) for w in widest}
        score = {w: training.evaluate(net, search) for w, net in tuned.items()}
        widths = max(score, key=score.get)
        model = tuned[widths]
        rounds.append((widest[widths], widths, score))
    return rounds


# %%
paths = [netadapt(seed) for seed in range(SEEDS)]
chosen["NetAdapt"] = [path[-1][1] for path in paths]
for path in paths:
    print(" → ".join(best for best, _, _ in path), path[-1][1])

# %%
fig, ax = plt.subplots()
for _, _, proposals in paths[0]:
    x = [predicted(w) / predicted(FULL) for w in proposals]
    ax.plot(x, [100 * a for a in proposals.values()], "o", color=METHODS["NetAdapt"], alpha=0.35)
points = [(predicted(w) / predicted(FULL), 100 * p[w]) for _, w, p in paths[0]]
start = (1, 100 * dense_search)
ax.plot(*zip(start, *points, strict=True), "o-", color=METHODS["NetAdapt"])
for (best, _, _), point in zip(paths[0], points, strict=True):
    ax.annotate(best, point, (2, 6), textcoords="offset points", fontsize=7)
ax.set(xlabel="latency by the table / dense", ylabel="accuracy after short training, %")
ax.invert_xaxis()
plt.show()

# %% [markdown]
# *One run: each cloud holds the proposals of one round, the line joins the survivors, the labels say
# which layer gave. The height of a cloud is what the choice of the layer is worth in that round.*
#
# ## 5. One plane
#
# Now the comparison. Every network is cut from the same dense weights and fine-tuned on the same
# number of images, so that only the widths differ; NetAdapt's short trainings do not count as
# fine-tuning and are thrown away. Accuracy is on images that no search has seen, latency is measured
# on the whole network. Uniform pruning is shown at several ratios, as the curve to beat.

# %%
LEVELS = (4, 5, 6)  # eighths of the uniform networks


# %%
@cache
def finetuned(widths, seed):
    """Accuracy on the report images after fine-tuning."""
    model = trained(corner(dense, widths), FINETUNE_IMAGES, seed, 0.015)
    return training.evaluate(model, report)


# %%
chosen["uniform"] = [uniform(k) for k in LEVELS]
accuracy = {
    name: [finetuned(widths, seed) for seed, widths in enumerate(nets)]
    for name, nets in chosen.items()
    if name != "uniform"
}
curve = [[finetuned(uniform(k), seed) for seed in range(SEEDS)] for k in LEVELS]
again = [finetuned(FULL, seed) for seed in range(SEEDS)]

# %%
networks = {widths for nets in chosen.values() for widths in nets} | {FULL}
calls = {widths: measure.inference(corner(dense, widths)) for widths in networks}
times = measure.latency(calls, rounds=ROUNDS, sample_s=0.004)
ratio = {widths: times.ratio(widths, FULL).median for widths in networks}
print(f"dense {times[FULL]} on {times.machine}, {training.evaluate(dense, report):.1%}")


# %%
def mean(values):
    return sum(values) / len(values)


# %%
def spread(values):
    """Mean, and how far the least and the greatest lie from it, in percent."""
    middle = mean(values)
    return 100 * middle, [[100 * (middle - min(values))], [100 * (max(values) - middle)]]


# %%
fig, ax = plt.subplots(figsize=(6.4, 4))
x = [ratio[uniform(k)] for k in LEVELS] + [1]
points = [spread(a) for a in [*curve, again]]
ax.plot(x, [y for y, _ in points], "s--", color=METHODS["uniform"], label="uniform")
for at, (y, bar) in zip(x, points, strict=True):
    ax.errorbar(at, y, bar, color=METHODS["uniform"], capsize=2, lw=1)
for (name, values), marker in zip(accuracy.items(), "Dv^o", strict=True):
    own = [ratio[widths] for widths in chosen[name]]
    y, bar = spread(values)
    style = dict(color=METHODS[name], capsize=2, ms=7, elinewidth=1, label=name)
    ax.errorbar(
        mean(own), y, bar, [[mean(own) - min(own)], [max(own) - mean(own)]], marker, **style
    )
ax.axvline(BUDGET, color=plot.COLOURS["measured"], lw=0.8, label="budget of the table")
ax.set(xlabel="measured latency / dense", ylabel="accuracy after fine-tuning, %")
ax.legend()
plt.show()

# %% [markdown]
# *Means over seeds, bars from the least to the greatest; the bars of AMC and NetAdapt contain the
# search, those of the rules only the fine-tuning. A method pays where it stands above the grey
# curve by more than the bars. A coloured marker right of the black line met the budget in the table
# but not on the clock.*
#
# The lead over uniform pruning *at the same measured latency*, by interpolating the grey curve:

# %%
lead = {}
for name, values in accuracy.items():
    base = [float(np.interp(ratio[w], x, [y for y, _ in points])) for w in chosen[name]]
    lead[name] = [100 * a - b for a, b in zip(values, base, strict=True)]
    low, high = min(lead[name]), max(lead[name])
    print(
        f"{name:11} ×{mean([ratio[w] for w in chosen[name]]):.2f}, {mean(values):.1%}, "
        f"{mean(lead[name]):+.1f} points over uniform ({low:+.1f} to {high:+.1f})"
    )

# %% [markdown]
# And its price, in images that each search had to look at:

# %%
proposals = mean([sum(len(p) for _, _, p in path) for path in paths])
price = {
    "sensitivity": (len(FULL) * 7 * SEARCH_IMAGES, 0),
    "AMC": (EPISODES * SEARCH_IMAGES, 0),
    "NetAdapt": (proposals * SEARCH_IMAGES, proposals * SHORT_IMAGES),
}
for name, (looked_at, trained_on) in price.items():
    print(f"{name:11} {looked_at:9,.0f} images evaluated, {trained_on:7,.0f} trained on")

# %%
fig, axes = plt.subplots(1, 4, figsize=(8, 2.5), sharey=True)
for ax, name in zip(axes, accuracy, strict=True):
    ax.plot([BUDGET**0.5] * 7, ":", color=METHODS["uniform"])
    for widths in sorted(set(chosen[name])):
        shares = [w / full for w, full in zip(widths, FULL, strict=True)]
        ax.plot(shares, "o-", color=METHODS[name], alpha=0.7)
    ax.set(title=name, ylim=(0, 1.05), xlabel="convolution")
axes[0].set_ylabel("share of channels kept")
plt.show()

# %% [markdown]
# *What each method kept, one line a network (searches differ from seed to seed). The dotted line is
# $\sqrt{B}$, the share that all layers would keep if time were MACs. Compare lines of different
# methods: a layer that all of them spare matters. Lines of one method that differ come from seeds:
# either the accuracy hardly depends on that layer, or the search has seen too little.*
#
# ## 6. What fine-tuning restores
#
# Pruning and retraining interact: prune all at once or little by little? Go on with the trained
# weights, go back to earlier ones, or draw new ones? Choose the mask before training? Such questions
# need dozens of trainings, so the network is small here: a perceptron on grey images of 16×16
# pixels. All seeds train at once, stacked in one more dimension of the weights.


# %%
def grey(images):
    """Images ``[N, 3, 32, 32]`` as rows ``[N, 256]``: the mean of colours and of 2×2 pixels."""
    return F.avg_pool2d(images.float().mean(1, keepdim=True), 2).flatten(1)


# %%
pixels, labels = grey(train.images[:SMALL_IMAGES]), train.labels[:SMALL_IMAGES]
shift, scale = pixels.mean(0), pixels.std(0)
X, X_val = (pixels - shift) / scale, (grey(report.images) - shift) / scale
SHAPES = [(256, 128), (128, 64), (64, 10)]


# %%
def fresh(seed):
    """Weights ``[SEEDS, in, out]`` and biases of one network for each seed, newly drawn."""
    torch.manual_seed(seed)
    weights = [torch.randn(SEEDS, *shape) * (2 / shape[0]) ** 0.5 for shape in SHAPES]
    return weights + [torch.zeros(SEEDS, 1, n) for _, n in SHAPES]


# %%
def logits(net, masks, x):
    """``[SEEDS, N, 10]`` for inputs ``[SEEDS, N, 256]``."""
    for i, mask in enumerate(masks):
        x = torch.baddbmm(net[i + 3], x if i == 0 else x.relu(), net[i] * mask)
    return x


# %%
def fit_small(net, masks, steps=SMALL_STEPS, seed=0, after=None):
    """``net`` after so many steps of Adam under the masks."""
    net = [p.clone().requires_grad_() for p in net]
    adam = torch.optim.Adam(net, lr=2e-3)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        index = torch.randint(len(X), (SEEDS, 128), generator=order)
        z = logits(net, masks, X[index])
        descend(adam, F.cross_entropy(z.flatten(0, 1), labels[index].flatten()) * SEEDS)
        if after:
            after(step, net, masks)
    return [p.detach() for p in net]


# %%
def right(net, masks):
    """Accuracy of each seed on the report images."""
    z = logits(net, masks, X_val.expand(SEEDS, -1, -1))
    return (z.argmax(2) == report.labels).float().mean(1).tolist()


# %% [markdown]
# The oracle: in the stack, each seed computes what it would compute alone.

# %%
ones = [torch.ones(SEEDS, *shape) for shape in SHAPES]
start = fresh(0)
alone_logits = X[:5]
for w, b in zip(start[:3], start[3:], strict=True):
    alone_logits = (alone_logits if w is start[0] else alone_logits.relu()) @ w[1] + b[1]
torch.testing.assert_close(logits(start, ones, X[:5].expand(SEEDS, -1, -1))[1], alone_logits)
whole = fit_small(start, ones)
dense_small = right(whole, ones)
print(f"dense: {mean(dense_small):.1%} ({min(dense_small):.1%} to {max(dense_small):.1%})")

# %% [markdown]
# ### Iterative against one-shot
#
# One-shot: remove everything at once, then train for $K$ steps. Iterative: remove a constant share
# of what is left, train for $K/5$ steps, five times. Same final density, same number of steps.


# %%
def survivors(net, masks, share):
    """Masks of the strongest ``share`` of what is alive, for each seed and layer."""
    thinner = []
    for w, mask in zip(net, masks, strict=False):
        strength = (w * mask).abs().flatten(1)
        kept = share * mask[0].mean()
        level = strength.quantile(1 - kept, dim=1)
        thinner.append((strength > level[:, None]).view_as(mask).float())
    return thinner


# %%
def pruned_in(parts, density):
    """Accuracy of the trained network, pruned and fine-tuned in so many equal parts."""
    net, masks = whole, ones
    for part in range(parts):
        masks = survivors(net, masks, density ** (1 / parts))
        net = fit_small(net, masks, SMALL_STEPS // parts, seed=part + 1)
    return right(net, masks)


# %%
DENSITIES = (0.3, 0.15, 0.07, 0.03, 0.015)
small = {f"in {parts}": [pruned_in(parts, d) for d in DENSITIES] for parts in (1, 5)}

# %% [markdown]
# ### The lottery ticket
#
# Frankle and Carbin (ICLR 2019) throw the trained weights away and keep only the mask: the sparse
# network restarts from *the values that its weights had at the start*, $m\odot\theta_0$. If it then
# trains as well as the dense one, the mask was a winning ticket. The control draws new initial
# values for the same mask. Rewinding (Frankle et al., ICML 2020) restarts from step $k$ of the dense
# training, $m\odot\theta_k$, which larger networks need.

# %%
REWIND = SMALL_STEPS // 10
early = fit_small(start, ones, REWIND)


# %%
def tickets(origin, steps):
    """Masks by iterative pruning, going back to ``origin`` each time: one list for each density."""
    masks, net, found = ones, fit_small(origin, ones, steps), []
    for density, before in zip(DENSITIES, (1, *DENSITIES), strict=False):
        masks = survivors(net, masks, density / before)
        net = fit_small(origin, masks, steps)
        found.append((masks, right(net, masks)))
    return found


# %%
ticket = tickets(start, SMALL_STEPS)
small["ticket"] = [accuracy for _, accuracy in ticket]
small["rewound"] = [a for _, a in tickets(early, SMALL_STEPS - REWIND)]
other = fresh(100)
small["redrawn"] = [right(fit_small(other, m), m) for m, _ in ticket]
at_once = [survivors(whole, ones, d) for d in DENSITIES]
small["one-shot ticket"] = [right(fit_small(start, m), m) for m in at_once]

# %% [markdown]
# ### Sparse from the first step: static masks, ERK, and SET
#
# A mask drawn before training saves the dense training altogether. Which density should each layer
# get? Uniform starves small layers. Erdős–Rényi (SET, Mocanu et al., 2018) and its extension to
# kernels, ERK (Evci et al., ICML 2020), give a layer of shape $n_\text{in}\times n_\text{out}\times
# k\times k$ a density in proportion to
#
# $$\frac{n_\text{in}+n_\text{out}+k+k}{n_\text{in}\,n_\text{out}\,k\,k},\qquad\text{at most }1.$$


# %%
def erk(shapes, density):
    """Density of each layer, by ERK; together they reach ``density``."""
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    full = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        left = density * sum(sizes) - sum(sizes[i] for i in full)
        factor = left / sum(raw[i] * sizes[i] for i in free)
        over = {i for i in free if factor * raw[i] > 1}
        if not over:
            return [1.0 if i in full else factor * raw[i] for i in range(len(sizes))]
        full |= over


# %%
convs = [tuple(m.weight.shape) for name, m in cost.weighted_layers(dense).items()]
by_erk = erk(convs, 0.1)
total = sum(d * math.prod(s) for d, s in zip(by_erk, convs, strict=True))
assert abs(total / sum(map(math.prod, convs)) - 0.1) < 1e-6
assert max(by_erk) <= 1
named = zip([*LAYERS, "classifier"], by_erk, strict=True)
print("ERK at 10 %:", ", ".join(f"{name} {density:.0%}" for name, density in named))

# %% [markdown]
# SET moves the mask *while* training: every few steps each layer drops its weakest connections and
# grows as many new ones at random, which start at zero.


# %%
def drawn(densities):
    """Random masks with exactly these densities."""
    masks = []
    for shape, density in zip(SHAPES, densities, strict=True):
        flat = torch.zeros(SEEDS, math.prod(shape))
        count = max(1, round(density * flat.shape[1]))
        masks.append(flat.scatter_(1, torch.rand_like(flat).topk(count).indices, 1))
    return [m.view(SEEDS, *shape) for m, shape in zip(masks, SHAPES, strict=True)]


# %%
@torch.no_grad()
def evolve(step, net, masks, every=15, moved=0.3):
    """SET: in place, replace the weakest connections of every layer by random new ones."""
    if (step + 1) % every or step > 0.75 * SMALL_STEPS:
        return
    for w, mask in zip(net, masks, strict=False):
        w, mask = w.flatten(1), mask.flatten(1)
        alive = int(mask[0].sum())
        count = min(int(moved * alive), mask.shape[1] - alive)
        weakest = w.abs().where(mask > 0, torch.inf).topk(count, largest=False).indices
        grown = torch.rand_like(mask).where(mask == 0, -1).topk(count).indices
        for chosen_ones, value in ((weakest, 0), (grown, 1)):
            mask.scatter_(1, chosen_ones, value)
            w.scatter_(1, chosen_ones, 0)


# %%
def sparse_from_start(density, allocation, after=None):
    """Accuracy of random masks with one density or ERK's, fixed or moved by ``after``."""
    torch.manual_seed(1)
    layers = erk(SHAPES, density) if allocation == "ERK" else [density] * len(SHAPES)
    masks = drawn(layers)
    alive = [int(m.sum()) for m in masks]
    net = fit_small(start, masks, after=after)
    assert [int(m.sum()) for m in masks] == alive  # connections move, none is added
    return right(net, masks)


# %%
small["static, uniform"] = [sparse_from_start(d, "uniform") for d in DENSITIES]
small["static, ERK"] = [sparse_from_start(d, "ERK") for d in DENSITIES]
small["SET, ERK"] = [sparse_from_start(d, "ERK", evolve) for d in DENSITIES]

# %%
PANELS = {
    "fine-tuned, weights kept": {"in 1": "one-shot", "in 5": "iterative, five parts"},
    "restarted under the final mask": {
        "ticket": "first weights (ticket)",
        "rewound": f"weights of step {REWIND}",
        "redrawn": "new random weights",
        "one-shot ticket": "one-shot mask, first weights",
    },
    "sparse from the first step": {
        name: name for name in ("static, uniform", "static, ERK", "SET, ERK")
    },
}


# %%
def draw_small(ax, lines):
    """Accuracy against density, one line for each name, the dense network as a band."""
    ax.axhspan(100 * min(dense_small), 100 * max(dense_small), color="#dddddd", label="dense")
    for shift, (name, label) in enumerate(lines.items()):
        rows = [spread(values) for values in small[name]]
        x = [d * 1.03**shift for d in DENSITIES]  # side by side, so that bars can be told apart
        bars = [[bar[side][0] for _, bar in rows] for side in (0, 1)]
        colour = plot.CYCLE[shift]
        ax.errorbar(x, [y for y, _ in rows], bars, fmt="o-", color=colour, capsize=2, label=label)
    ax.set(xscale="log", xlabel="density")
    ax.set_xticks(DENSITIES, [f"{100 * d:g} %" for d in DENSITIES])
    ax.minorticks_off()
    ax.invert_xaxis()


# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
for ax, (title, lines) in zip(axes, PANELS.items(), strict=True):
    draw_small(ax, lines)
    ax.set_title(title)
    ax.legend(fontsize=7, loc="lower left")
axes[0].set_ylabel("accuracy, %")
plt.show()

# %% [markdown]
# *Means over seeds, bars from the least to the greatest; density falls to the right. Left: both lines
# took the same number of updates; haste costs where blue lies below orange. Middle: one mask, other
# starting values (blue and orange against green), and another mask for the same values (pink).
# Right: nobody trained a dense network here; the distance from blue to orange is the allocation,
# from orange to green the search for connections.*

# %%
for name, values in small.items():
    print(f"{name:16}", *(f"{mean(v):6.1%}" for v in values))
held = [d for d, v in zip(DENSITIES, small["ticket"], strict=True) if mean(v) >= mean(dense_small)]
held_at = ", ".join(f"{d:.1%}" for d in held) or "none"
print(f"densities at which the mean ticket is as good as the mean dense network: {held_at}")

# %% [markdown]
# What the hardware does with it: nothing yet. These masks are irregular, a dense kernel multiplies
# their zeros. Sparse-from-start training would also need sparse *backward* products to pay.
#
# ## 7. Hardware that skips zeros
#
# ### EIE: work only where both weight and activation are not zero
#
# EIE (Han et al., ISCA 2016) multiplies a compressed matrix with a vector. It walks over the
# *columns* whose activation is not zero and broadcasts each to all processing elements (PEs); PE $p$
# owns the rows $i \equiv p \pmod P$ and works on its nonzeros of that column, one a cycle. A 4-bit
# code stands for the weight, 4 bits more for the zeros before it.
#
# **Smallest example.** Two PEs, a matrix of four rows and two columns:

# %%
codebook = torch.linspace(0, 1.5, 16)
codes = torch.tensor([[1, 0], [0, 0], [2, 3], [0, 4]])
tiny = eie.Matrix(codes, codebook, pes=2)
product = eie.multiply(tiny, torch.tensor([1.0, 2.0]))
torch.testing.assert_close(product.result, tiny.dense @ torch.tensor([1.0, 2.0]))
print(f"entries of each PE in each column: {tiny.entries.tolist()}")
print(f"{product.cycles} cycles, utilization {product.utilization:.0%}")

# %% [markdown]
# PE 0 owns three of the four weights, so PE 1 waits. How bad is that on a real network? Prune the
# reference CNN's convolutions to 80 %, fine-tune, and code each layer in 16 values.

# %%
EIE_LAYERS = LAYERS[1:]


# %%
def conv(model, name):
    return model.features.get_submodule(name)


# %%
def eighty_percent(model):
    """Masks of the convolutions (not the first) without the weakest 80 % of their weights."""
    weights = [conv(model, name).weight.detach().abs() for name in EIE_LAYERS]
    return [(w > w.quantile(0.8)).float() for w in weights]


# %%
masks80 = eighty_percent(original)


# %%
@torch.no_grad()
def apply80(model):
    for name, mask in zip(EIE_LAYERS, masks80, strict=True):
        conv(model, name).weight *= mask


# %%
sparse = copy.deepcopy(original)
budget = train.head(FINETUNE_IMAGES)
_ = training.fit(sparse, budget, epochs=1, lr=0.01, after_step=apply80)


# %%
def coded(weight):
    """Codes ``[rows, cols]`` and codebook: 0 and the medians of 15 equal shares of nonzeros."""
    flat = weight.detach().flatten(1)
    levels = flat[flat != 0].quantile((torch.arange(15) + 0.5) / 15)
    codes = (flat[..., None] - levels).abs().argmin(2) + 1
    return codes * (flat != 0), torch.cat([torch.zeros(1), levels])


# %%
stored = {name: coded(conv(sparse, name).weight) for name in EIE_LAYERS}
before = training.evaluate(sparse, report)
for name, (codes, book) in stored.items():
    conv(sparse, name).weight.data = book[codes].view_as(conv(sparse, name).weight)
after = training.evaluate(sparse, report)
print(f"80 % pruned: {before:.1%}, and in 16 values: {after:.1%}")

# %% [markdown]
# A convolution is a matrix–vector product for each output pixel; its vector is a patch of the real
# input activations. Beside two of our layers stands a random matrix with the rows, weight density
# (9 %) and activation density (35 %) of a layer that EIE was designed for, AlexNet's FC7.


# %%
@torch.no_grad()
def patch(name):
    """The input patch ``[C_in·9]`` of the middle output pixel of ``name``, one image."""
    inputs = []
    hook = conv(sparse, name).register_forward_hook(lambda m, x, y: inputs.append(x[0]))
    sparse(datasets.normalize(report.images[:1]))
    hook.remove()
    columns = F.unfold(inputs[0], 3, padding=1)[0]
    return columns[:, columns.shape[1] // 2 + inputs[0].shape[-1] // 2]


# %%
torch.manual_seed(0)
random_codes = torch.randint(1, 16, (4096, 512)) * (torch.rand(4096, 512) < 0.09)
problems = {name: (*stored[name], patch(name)) for name in ("conv3", "conv5")}
problems["4096 rows"] = (random_codes, codebook, (torch.rand(512) < 0.35).float())

# %%
PES, DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 8)
found = {}
for (name, (codes, book, x)), pes in itertools.product(problems.items(), PES):
    matrix = eie.Matrix(codes, book, pes)
    for depth in DEPTHS:
        found[name, pes, depth] = eie.multiply(matrix, x, depth)
    torch.testing.assert_close(found[name, pes, 1].result, matrix.dense @ x, rtol=1e-4, atol=1e-4)

# %% [markdown]
# **Estimate beside simulation.** With $r$ rows in each PE and density $d$, a PE's share of a column
# is about binomial. If every column waits for the slowest of $P$ PEs (a FIFO of one), the
# utilization is
#
# $$U \approx \frac{r\,d}{\mathbb E\big[\max(1, \max_p K_p)\big]},\qquad K_p \sim \text{Binomial}(r, d).$$


# %%
def lockstep(rows, density, pes):
    """Utilization when every column waits for its slowest PE."""
    r = -(-rows // pes)
    k = torch.arange(r + 1.0)
    log_choose = torch.lgamma(torch.tensor(r + 1.0)) - torch.lgamma(k + 1) - torch.lgamma(r - k + 1)
    pmf = (log_choose + k * math.log(density) + (r - k) * math.log(1 - density)).exp()
    slowest = pmf.cumsum(0).clamp(max=1) ** pes  # P(max <= k)
    return rows / pes * density / float(1 + (1 - slowest[1:]).sum())


# %% tags=["widget"]
def draw_load(ax, depth):
    """Utilization against PEs: simulated (markers), every column in lockstep (lines)."""
    for (name, (codes, _, _)), colour in zip(problems.items(), plot.CYCLE, strict=False):
        rows, density = len(codes), float((codes != 0).float().mean())
        model = [100 * lockstep(rows, density, pes) for pes in PES]
        ax.plot(PES, model, color=colour, lw=1, alpha=0.6)
        own = [100 * found[name, pes, depth].utilization for pes in PES]
        ax.plot(PES, own, "o", color=colour, label=f"{name}, {rows}×{density:.0%}")
    ax.set(xscale="log", ylim=(0, 102), xlabel="PEs", ylabel="utilization, %")
    ax.set_xticks(PES, map(str, PES))
    ax.minorticks_off()
    ax.legend(fontsize=6.5, loc="lower left")


# %% tags=["widget"]
plot.explore(draw_load, FIFO_depth=DEPTHS)

# %% [markdown]
# *Lines: every column waits for its slowest PE. Markers: the simulation with a FIFO of the given
# depth. A deeper FIFO lets fast PEs run ahead, so markers rise above their line; it cannot help a
# layer that has too few rows for so many PEs.*

# %%
for name, (codes, _, _) in problems.items():
    one, eight = found[name, 64, 1], found[name, 64, 8]
    dense_cycles = codes.numel() / 64
    print(
        f"{name:9} 64 PEs: {eight.macs / codes.numel():.1%} of the MACs, "
        f"{dense_cycles / eight.cycles:.1f}× fewer cycles than dense, "
        f"utilization {one.utilization:.0%} (FIFO 1) → {eight.utilization:.0%} (FIFO 8)"
    )

# %% [markdown]
# Where the energy goes, step by step, for the matrix of 4096 rows (an estimate from the table of
# Lecture 3: nothing here has a joule meter):

# %%
n, entries = random_codes.numel(), int(eie.Matrix(random_codes, codebook).entries.sum())
chain = {
    "dense, fp32 weights from DRAM": energy.inference_pj(n, "fp32", 32 * n, "DRAM"),
    "the same from SRAM": energy.inference_pj(n, "fp32", 32 * n, "SRAM"),
    "nonzero weights, 4-bit index": energy.inference_pj(entries, "fp32", 36 * entries, "SRAM"),
    "4-bit codes, fp16 products": energy.inference_pj(entries, "fp16", 8 * entries, "SRAM"),
    "nonzero activations only": found["4096 rows", 64, 8].energy_pj,
}
for (name, pj), before in zip(chain.items(), [None, *chain.values()], strict=False):
    print(f"{name:30} {pj * 1e-6:8.2f} µJ" + (f", {before / pj:.1f}× less" if before else ""))

# %% [markdown]
# ### 2:4: sparsity without load imbalance
#
# If every group of four weights has exactly two nonzeros, every PE has the same work by
# construction. NVIDIA's sparse tensor cores store the two values and, for each, its position in 2
# bits, which select the two matching inputs (Mishra et al., 2021). There are six patterns; the
# metadata of a group is the pattern's two positions.

# %%
PATTERNS = torch.tensor([p for p in itertools.product((0, 1), repeat=4) if sum(p) == 2])
POSITIONS = PATTERNS.nonzero()[:, 1].view(6, 2)
weight = conv(original, "conv5").weight.detach().permute(0, 2, 3, 1).flatten(1)  # [128, 1152]
step = weight.abs().max() / 127
W8 = (weight / step).round().to(torch.int32)  # int8 values, in a type that torch multiplies
groups = W8.view(128, 288, 4)
pattern = (groups.abs() @ PATTERNS.T.to(torch.int32)).argmax(2)  # [128, 288], 0 to 5
values = groups.gather(2, POSITIONS[pattern])  # [128, 288, 2]
print(f"{PATTERNS.tolist()}\npositions {POSITIONS.tolist()}")


# %%
def sparse_matmul(values, pattern, x):
    """What a sparse tensor core does: ``[R, G, 2]`` values, ``[R, G]`` patterns, x ``[4G, N]``."""
    inputs = x.view(-1, 4, x.shape[1])  # the four candidates of each group
    out = torch.zeros(len(values), x.shape[1], dtype=torch.int32)
    for slot in range(2):
        position = POSITIONS[pattern][..., slot]  # 2 bits of metadata a value
        picked = inputs[torch.arange(len(inputs)), position]  # [R, G, N], the multiplexer
        out += (values[..., slot, None] * picked).sum(1, dtype=torch.int32)
    return out


# %% [markdown]
# The oracle: in integers, the compressed product equals the masked dense one exactly.

# %%
x8 = torch.randint(-128, 128, (1152, 64), dtype=torch.int32)
masked = (groups * PATTERNS[pattern].to(torch.int32)).view(128, 1152)
assert torch.equal(sparse_matmul(values, pattern, x8), masked @ x8)
counted = {"dense": (128 * 1152 * 64, 128 * 1152)}
counted["2:4"] = values.numel() * 64, cost.nm_bytes(masked, value_bits=8)
for name, (macs_, size) in counted.items():
    print(f"{name:5} {macs_:,} MACs, {size:,} bytes")
for bits in (8, 16):
    print(f"{bits}-bit values: {(2 * bits + 4) / (4 * bits):.1%} of the dense bytes")

# %% [markdown]
# Half the MACs, but more than half the bytes: the metadata weighs the more, the fewer bits a value
# has. A memory-bound layer therefore gains less than the 2× of the multipliers. This CPU has no such
# multiplexer, and the time of an emulation says nothing about one, so none is reported.
#
# ### Blocks: pay the index once for many weights
#
# A CPU skips a vector register as easily as a number. Prune whole $b\times b$ blocks and store them one
# after the other (BSR); each block brings one index and a small dense product. Here a layer of 1024 ×
# 1024 on 64 columns, and what the blocks cost in norm on `conv5` at the same sparsity.

# %%
BLOCKS, SPARSITIES = (1, 4, 8, 16, 32), (0.5, 0.75, 0.875, 0.9375)
big, columns = torch.randn(1024, 1024), torch.randn(1024, 64)


# %%
def block_norms(w, b):
    return w.unflatten(1, (-1, b)).unflatten(0, (-1, b)).norm(dim=(1, 3))


# %%
def blocked(w, b, sparsity):
    """``w`` without its weakest b×b blocks."""
    norms = block_norms(w, b)
    keep = norms > norms.flatten().kthvalue(max(1, round(sparsity * norms.numel()))).values
    return w * keep.repeat_interleave(b, 0).repeat_interleave(b, 1)


# %%
calls = {("dense", 0): lambda: big @ columns}
for b, s in itertools.product(BLOCKS, SPARSITIES):
    pruned = blocked(big, b, s)
    packed = pruned.to_sparse_csr() if b == 1 else pruned.to_sparse_bsr((b, b))
    torch.testing.assert_close(packed @ columns, pruned @ columns, rtol=1e-3, atol=1e-3)
    calls[b, s] = lambda packed=packed: packed @ columns
block_times = measure.latency(calls, rounds=ROUNDS)
print(f"dense: {block_times['dense', 0]} on {block_times.machine}")

# %%
flat = conv(original, "conv5").weight.detach().flatten(1)
left_over = {
    (b, s): float((blocked(flat, b, s).norm() / flat.norm()) ** 2)
    for b, s in itertools.product(BLOCKS, SPARSITIES)
}

# %%
COST = {(b, s): block_times.ratio((b, s), ("dense", 0)) for b in BLOCKS for s in SPARSITIES}


# %% tags=["widget"]
def draw_blocks(ax, sparsity):
    """Latency of each block size; the numbers are the share of conv5's norm that is left."""
    points = [COST[b, sparsity] for b in BLOCKS]
    plot.measured(ax, range(len(BLOCKS)), points, label="measured")
    for i, (b, point) in enumerate(zip(BLOCKS, points, strict=True)):
        text = f"{left_over[b, sparsity]:.0%}"
        ax.annotate(text, (i, point.median), (4, 4), textcoords="offset points", fontsize=7)
    ax.axhline(1, color=plot.COLOURS["baseline"], label="dense")
    ax.axhline(1 - sparsity, color=plot.COLOURS["compute"], ls=":", label="MACs left")
    ax.set(yscale="log", ylim=(0.02, 30), xlim=(-0.4, len(BLOCKS) - 0.2))
    ax.set(xlabel="block side b", ylabel="latency / dense")
    ax.set_xticks(range(len(BLOCKS)), map(str, BLOCKS))
    ax.minorticks_off()
    ax.legend(fontsize=7, loc="upper right")


# %% tags=["widget"]
plot.explore(draw_blocks, columns=2, sparsity=SPARSITIES)

# %% [markdown]
# *Black: measured, 1 is CSR. Below the grey line a block size beats the dense kernel, the dotted
# line is the share of MACs that is left. The numbers: how much of `conv5`'s squared norm survives at
# this block size and sparsity; larger blocks keep less of it. Look for the block size beyond which
# the time no longer falls: the largest need not be the fastest.*
#
# ### CSR against dense: where is the break-even?
#
# **Estimate.** A matrix–vector product uses every weight once, so suppose that it costs the bytes it
# reads: 4 for a dense weight, 8 for a nonzero and its index, and a pointer for each row,
#
# $$\frac{t_\text{CSR}}{t_\text{dense}} \approx \frac{8(1-s)n^2 + 4(n+1)}{4n^2},\qquad
# s^* = \tfrac12 + \frac{n+1}{2n^2}.$$
#
# Measured at three sizes, from a matrix that fits into a core's cache to one that fits into none.

# %%
SIZES, LEVELS_CSR = (256, 1024, 4096), (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


# %%
def csr(weight):
    """CSR with 32-bit indices."""
    w = weight.to_sparse_csr()
    rows, cols = w.crow_indices().int(), w.col_indices().int()
    return torch.sparse_csr_tensor(rows, cols, w.values(), w.shape, check_invariants=True)


# %%
products, estimate = {}, {}
for n in SIZES:
    w, x, chance = torch.randn(n, n), torch.randn(n), torch.rand(n, n)
    products["dense", n] = lambda w=w, x=x: w @ x
    for s in LEVELS_CSR:
        pruned = w * (chance > s)
        products[s, n] = lambda packed=csr(pruned), x=x: packed @ x  # noqa: B008
        estimate[s, n] = cost.csr_bytes(pruned) / (4 * n * n)
    torch.testing.assert_close(products[s, n](), pruned @ x, rtol=1e-3, atol=1e-3)
csr_times = measure.latency(products, rounds=ROUNDS)
csr_ratio = {(s, n): csr_times.ratio((s, n), ("dense", n)) for s in LEVELS_CSR for n in SIZES}


# %%
def break_even(n):
    """Sparsity at which the measured ratio first falls to 1, between two of those measured."""
    points = [(s, csr_ratio[s, n].median) for s in LEVELS_CSR]
    for (s0, r0), (s1, r1) in itertools.pairwise(points):
        if r0 > 1 >= r1:
            return s0 + (s1 - s0) * (r0 - 1) / (r0 - r1)
    return None


# %%
crossing = {n: break_even(n) for n in SIZES}
for n in SIZES:
    by_bytes = 0.5 + (n + 1) / (2 * n * n)
    first, last = (csr_ratio[s, n].median for s in (LEVELS_CSR[0], LEVELS_CSR[-1]))
    shown = f"{crossing[n]:.2f}" if crossing[n] else f"none (×{first:.2f} to ×{last:.2f})"
    print(
        f"n = {n:4}: {4 * n * n / 2**20:6.2f} MiB, dense {csr_times['dense', n].median * 1e6:7.1f} µs, "
        f"break-even by bytes {by_bytes:.2f}, measured {shown}"
    )

# %%
fig, ax = plt.subplots()
for n, colour in zip(SIZES, (plot.CYCLE[i] for i in (0, 2, 3)), strict=True):
    density = [1 - s for s in LEVELS_CSR]
    points = [csr_ratio[s, n] for s in LEVELS_CSR]
    plot.measured(ax, density, points, color=colour, label=f"n = {n}")
line = [estimate[s, SIZES[-1]] for s in LEVELS_CSR]
ax.plot(density, line, color=plot.COLOURS["memory"], label="bytes read")
ax.axhline(1, color=plot.COLOURS["baseline"], label="dense")
ax.set(xscale="log", yscale="log", xlabel="density 1 − s", ylabel="CSR / dense latency")
ax.set_xticks(density, [f"{d:.2g}" for d in density])
ax.minorticks_off()
ax.invert_xaxis()
ax.legend()
plt.show()

# %% [markdown]
# *Markers: measured; line: the estimate by bytes. Where markers follow the line, CSR is limited by
# memory, as the dense product is; where they lie above it, by what it does for each nonzero (load an
# index, gather one input) or by fixed costs. The sparsity at the grey line is the break-even.*
#
# ## 8. Limits
#
# - Section 5 compares at one budget, with one importance and one short fine-tuning. Longer
#   fine-tuning tends to level such differences: Liu et al. (ICLR 2019) find that the pruned
#   architecture, trained long enough from random weights, often does as well.
# - AMC and NetAdapt saw a few hundred validation images; both search in widths of eighths. The paper's
#   AMC repairs pruned layers by least squares before the reward, here batch-norm statistics are
#   measured anew.
# - The channel order is computed once on the dense network. NetAdapt's authors sort again as they go.
# - The small network of section 6 has three layers and a short schedule. Rewinding was introduced for
#   deeper ones, where plain tickets fail.
# - EIE is a simulation: no pipeline, no pointer reads that miss, no area, no clock. Its energy is a
#   table from 45 nm.
# - BSR and CSR are those of one library. A generated kernel moves the break-even.
#
# ## 9. Claims

# %%
on = f"reference VGG, {dataset}, {len(report)} validation images, {SEEDS} seeds"
gap = [100 * (a - b) for a, b in zip(accuracy["AMC"], accuracy["sensitivity"], strict=True)]
amc_ratio = mean([ratio[w] for w in chosen["AMC"]])
amc_claim = plot.Claim(
    claim="an agent finds better ratios than a handcrafted policy",
    paper="2.7 % better accuracy at 4× fewer FLOPs, VGG-16 on ImageNet",
    source="He et al., ECCV 2018, abstract",
    measured=f"{mean(gap):+.1f} points ({min(gap):+.1f} to {max(gap):+.1f}) over sensitivity-based "
    f"ratios at the same table latency, {mean(lead['AMC']):+.1f} over uniform",
    on=on,
    why=f"seven layers instead of thirteen, {EPISODES} walks instead of 400, and a budget in time; "
    "a small network has less to choose from",
)

# %%
amc_speed = plot.Claim(
    claim="AMC makes MobileNet faster on a phone",
    paper="1.81× on an Android phone (arXiv abstract; the proceedings' abstract has 1.95×)",
    source="He et al., arXiv:1802.03494 and ECCV 2018",
    measured=f"{1 / amc_ratio:.2f}× on this CPU at "
    f"{100 * (mean(accuracy['AMC']) - mean(again)):+.1f} points against the dense network",
    on=f"{on}; {times.machine}",
    why="another network and device, and the budget here was set by hand",
)
adapt_ratio = mean([ratio[w] for w in chosen["NetAdapt"]])
netadapt_claim = plot.Claim(
    claim="NetAdapt is faster at the same or better accuracy",
    paper="up to 1.7× measured speed-up on MobileNets",
    source="Yang et al., ECCV 2018, abstract",
    measured=f"{1 / adapt_ratio:.2f}× at {100 * (mean(accuracy['NetAdapt']) - mean(again)):+.1f} "
    f"points against dense; {mean(lead['NetAdapt']):+.1f} over uniform at the same latency",
    on=f"{on}; {times.machine}",
    why="theirs is against other simplification methods on ImageNet, with long fine-tuning",
)

# %%
on_small = f"perceptron 256-128-64-10, {dataset} in grey, {SEEDS} seeds"
best_ticket = [
    100 * (mean(a) - mean(b)) for a, b in zip(small["ticket"], small["redrawn"], strict=True)
]
lottery = plot.Claim(
    claim="small sub-networks train as well as the whole, from their own initial values",
    paper="winning tickets of less than 10–20 % of the size, MNIST and CIFAR-10",
    source="Frankle & Carbin, ICLR 2019, abstract",
    measured=f"densities as good as dense, of {DENSITIES}: {held_at}; against new random values "
    f"{min(best_ticket):+.1f} to {max(best_ticket):+.1f} points",
    on=on_small,
    why="one small perceptron and a short schedule",
)

# %%
columns_wait = lockstep(4096, 0.09, 64)
load = [
    f"{name} {found[name, 64, 1].utilization:.0%} → {found[name, 64, 8].utilization:.0%}"
    for name in problems
]
balance = plot.Claim(
    claim="a FIFO of 8 activations repairs EIE's load imbalance",
    paper="64 PEs: about half of the cycles idle at depth 1, little gain beyond 8",
    source="Han et al., ISCA 2016, section VI, queue depth, figure 8",
    measured=f"busy at depth 1 → 8: {', '.join(load)}; in lockstep the last is {columns_wait:.0%} busy",
    on="codesign.hardware.eie, 64 PEs",
    why="here depth 1 means one activation besides the one that is worked on, so it already "
    "decouples; our convolutions have one or two rows for each PE, the paper's layers hundreds",
)

# %%
ratios = [a / b for a, b in itertools.pairwise(chain.values())]
joules = plot.Claim(
    claim="EIE's energy is saved in steps",
    paper="120× from DRAM to SRAM, 10× sparsity, 8× weight sharing, 3× zero activations",
    source="Han et al., ISCA 2016, abstract",
    measured=", ".join(f"{r:.1f}×" for r in ratios) + " (estimate)",
    on="4096×512 random codes, 9 % and 35 % dense, energy table at 45 nm",
    why="a table of energies in place of a synthesized chip; here arithmetic is part of each step",
)

# %%
ampere = plot.Claim(
    claim="2:4 sparsity doubles matrix throughput",
    paper="2× math throughput, sparse tensor cores",
    source="Mishra et al., arXiv:2104.08378, 2021, abstract",
    why="a CPU has no sparse tensor cores; section 7 counts half the MACs and "
    f"{counted['2:4'][1] / counted['dense'][1]:.1%} of the bytes in int8",
)
moved = [
    100 * (mean(a) - mean(b)) for a, b in zip(small["SET, ERK"], small["static, ERK"], strict=True)
]
sets = plot.Claim(
    claim="layers that are sparse before training lose no accuracy",
    paper="quadratically fewer parameters, no decrease in accuracy",
    source="Mocanu et al., Nature Communications 2018, abstract",
    measured=f"SET against dense {100 * (mean(small['SET, ERK'][0]) - mean(dense_small)):+.1f} points "
    f"at density {DENSITIES[0]}, {100 * (mean(small['SET, ERK'][-1]) - mean(dense_small)):+.1f} at "
    f"{DENSITIES[-1]}; against static ERK {min(moved):+.1f} to {max(moved):+.1f}",
    on=on_small,
    why="a narrow network has less to spare, and the same number of steps as the dense one",
)

# %%
plot.claims([amc_claim, amc_speed, netadapt_claim, lottery, sets, balance, joules, ampere])

# %% [markdown]
# ## Discussion
#
# 1. The sensitivity scan narrows one layer at a time. Construct two layers that are each dispensable
#    alone and not together. Which of the five methods would notice?
# 2. AMC's reward is the accuracy without fine-tuning. When does the order of two networks flip after
#    fine-tuning, and what would it cost to reward the accuracy after it?
# 3. A table adds up layers timed alone. Which effects of a whole network does it miss, and in which
#    direction do they push the estimate? Compare with your machine's figure in section 2.
# 4. A winning ticket is found by training the dense network several times. What is it good for?
# 5. A 128-row layer on 64 PEs: would you add FIFO, use fewer PEs, or deal out rows differently?
# 6. The bytes estimate puts CSR's break-even at half. With 16-bit weights and 32-bit indices, where
#    is it? With 16-bit indices?
#
# ## Further reading
#
# - Y. He et al., "AMC: AutoML for model compression and acceleration on mobile devices", ECCV 2018.
# - T.-J. Yang et al., "NetAdapt: Platform-aware neural network adaptation for mobile applications",
#   ECCV 2018.
# - J. Frankle, M. Carbin, "The lottery ticket hypothesis: Finding sparse, trainable neural networks",
#   ICLR 2019.
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, "Linear mode connectivity and the lottery ticket
#   hypothesis", ICML 2020: rewinding.
# - Z. Liu et al., "Rethinking the value of network pruning", ICLR 2019.
# - D. C. Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
#   connectivity inspired by network science", Nature Communications 2018: SET.
# - U. Evci et al., "Rigging the lottery: Making all tickets winners", ICML 2020: ERK.
# - S. Han et al., "EIE: Efficient inference engine on compressed deep neural network", ISCA 2016.
# - A. Mishra et al., "Accelerating sparse deep neural networks", arXiv:2104.08378, 2021: 2:4.
# - T. Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016: DDPG.
#
# **Next:** Lab 1 takes a network to a latency budget. Lecture 5 makes each weight smaller.
