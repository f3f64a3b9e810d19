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
# # Lab 2 · Quantization
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/labs/lab2_quantization/lab2_quantization.ipynb)
#
# Read Lectures 5 and 6 first. About 3 hours of work; the computing takes less than 10 minutes on
# two CPU cores, and what has been computed once is kept in `outputs/`.
#
# **The question:** a weight of 32 bits carries a few bits of information. *What do fewer bits buy:*
# a smaller file, less arithmetic, a faster kernel, and what has to be true of the machine for each?
#
# You write small functions, which leave their arguments as they are unless the text says otherwise;
# `lab.check("name")` tests them and shows the points. A shape `[N, ...]` is N and any further
# dimensions; no size is 0 unless the text says so. Three networks and a C kernel come out of it and
# are measured, here on validation images and in grading on others: a network of 8-bit integers that
# the judge runs with integers alone, one with 4-bit weights that were rounded well, one with 4 bits
# everywhere that was trained, and a matrix product.
#
# Cells with `YOUR CODE HERE` are yours. **In grading** cells of your own, and imports that you add
# to given cells, run where they stand; given cells otherwise have their released text. A cell has 60
# seconds and 2 MB of output then, all cells of your own together 120 seconds, the whole notebook 10
# minutes. Trainings are not run: `lab.produce` loads what you handed in.
#
# No GPU is needed. One may be used: training takes it where there is one; measuring and judging
# stay on the CPU. Interrupted work goes on where it was: run the cell again. Where you have changed
# your code in between, it says so and starts anew. What is *finished* is loaded, also after you have
# changed your code: add `fresh=True` to that `lab.produce` once, to run it again.

# %% tags=["setup"]
# Colab installs here what this notebook needs; what is installed already stays as it is.
import importlib.util
import os
import subprocess
import sys

course = os.environ.get("CODESIGN_REPO") or "git+https://github.com/ml-codesign/course@v0.1.0"
packages = {
    "codesign": course,
    "ziglang": "ziglang>=0.13",
}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()

# %%
import zlib

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional

from autograder import Lab
from codesign import checkpoints, cost, measure, native, plot, resumable
from codesign.colab import keep_in_drive
from codesign.datasets import ImageSet, normalize
from codesign.training import distillation, evaluate, fit

plot.theme()

# %%
KEEP_IN_DRIVE = False  # in Colab: True keeps outputs/ in your Drive, where they outlive the session
folder = keep_in_drive("lab2_quantization") if KEEP_IN_DRIVE else None
lab = Lab("lab2_quantization", folder=folder or ".")

# %% tags=["parameters"]
CALIBRATION_IMAGES = 256  # training images behind every range and rounding
REPORT_IMAGES = 2_000  # validation images of every accuracy shown
ROUNDING_STEPS = 200  # updates of AdaRound, each layer
QAT_IMAGES = 12_000  # training images of quantization-aware training, one pass
CODEBOOK_IMAGES = 4_000  # training images of codebook fine-tuning, one pass
PRUNING_IMAGES = 6_000  # training images after pruning, where Lab 1's network is not at hand
SEED = lab.seed  # of every training

# %% [markdown]
# The network is the course's reference CNN, a small VGG: seven 3×3 convolutions, each with batch
# norm and ReLU, max pools between some of them, the mean over all positions of each channel, then
# one linear layer.

# %%
torch.manual_seed(SEED)
train = lab.train
report = lab.val.head(REPORT_IMAGES)
dense = lab.dense()
order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))
calibration = train.images[order[:CALIBRATION_IMAGES]]
dense_accuracy = lab.produce("dense_accuracy", evaluate, dense, report)

print(f"{cost.parameters(dense):,} parameters, {cost.macs(dense):,} MACs", end=", ")
print(f"{cost.model_bytes(dense) / 1e6:.2f} MB in fp32, validation accuracy {dense_accuracy:.1%}")

# %% [markdown]
# ## 1 · A codebook: k-means
#
# The weights of a layer are replaced by $2^b$ shared values, the *codebook* $C$, and each weight by
# the number of its value, its *code*: $w_i \approx C[k_i]$. Lloyd's algorithm lowers the squared
# error $\sum_i (w_i - C[k_i])^2$ in two steps that repeat: every weight takes the nearest value,
# and every value becomes the mean of its weights. A value that no weight takes stays where it is.


# %% nbgrader={"grade": false, "grade_id": "solution_kmeans_quantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kmeans_quantize(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codebook and codes of Lloyd's algorithm, run until no code changes (or 300 rounds).

    Args:
        weight: float32 ``[N, ...]``.
        bits: 1 to 8.

    Returns:
        codebook float32 ``[2**bits]``, which starts evenly spaced from the smallest to the largest
        weight, and codes int64 of the shape of ``weight``: each weight's nearest codebook entry
        (of several that are equally near, any).
    """
    ### BEGIN SOLUTION
    values = weight.flatten().float()
    codebook = torch.linspace(float(values.min()), float(values.max()), 2**bits)
    codes = torch.full_like(values, -1, dtype=torch.int64)
    for _ in range(300):
        nearest = (values[:, None] - codebook).abs().argmin(1)
        if torch.equal(nearest, codes):
            break
        codes = nearest
        count = torch.bincount(codes, minlength=2**bits)
        sums = torch.zeros(2**bits).index_add(0, codes, values)
        codebook = torch.where(count > 0, sums / count.clamp(min=1), codebook)
    return codebook, codes.reshape(weight.shape)
    ### END SOLUTION


# %% [markdown]
# A code of 4 bits saves nothing while it lies in an `int64`. **Packed**, code $i$ takes the bits
# $b\,i$ to $b\,i + b - 1$ of the stream, its lowest bit first; bit $j$ of the stream is bit
# $j \bmod 8$ of byte $\lfloor j / 8 \rfloor$. The last byte is filled up with zeros.


# %% nbgrader={"grade": false, "grade_id": "solution_pack_codes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes int64 ``[N, ...]``, from 0 to 2**bits - 1, packed into uint8 ``[ceil(n·b/8)]``.

    ``n`` is the number of codes in all dimensions, 0 or more, taken row after row without gaps;
    ``bits`` are 1 to 8.
    """
    ### BEGIN SOLUTION
    stream = (codes.reshape(-1, 1) >> torch.arange(bits)) & 1
    stream = functional.pad(stream.flatten(), (0, -codes.numel() * bits % 8))
    return (stream.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    ### END SOLUTION


# %% [markdown]
# What does a layer of $n$ weights cost? Its packed codes, **and the codebook**, $2^b$ values in fp32
# that have to be stored as well.


# %% nbgrader={"grade": false, "grade_id": "solution_codebook_bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def codebook_bytes(count: int, bits: int) -> int:
    """Bytes of ``count`` weights (0 or more) as packed codes and of their codebook in fp32.

    ``bits`` of a code are 1 to 8.
    """
    ### BEGIN SOLUTION
    return -(-count * bits // 8) + 4 * 2**bits
    ### END SOLUTION


# %% [markdown]
# Codebooks can be trained on. All weights with code $k$ share the value $C[k]$, so the chain rule
# sums their gradients: $\partial L / \partial C[k] = \sum_{i:\,k_i = k} \partial L / \partial w_i$.


# %% nbgrader={"grade": false, "grade_id": "solution_codebook_gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def codebook_gradient(gradient: torch.Tensor, codes: torch.Tensor, entries: int) -> torch.Tensor:
    """Gradient of each codebook entry, float ``[entries]``, from that of each weight.

    Args:
        gradient: float32 ``[N, ...]``.
        codes: int64 of the same shape, from 0 to ``entries - 1``.
    """
    ### BEGIN SOLUTION
    zeros = torch.zeros(entries, dtype=gradient.dtype)
    return zeros.index_add(0, codes.flatten(), gradient.flatten())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "kmeans_quantize", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("kmeans_quantize")  # 10 points

# %% [markdown]
# **Predict.** Every layer gets a codebook of $2^b$ values and nothing is trained. What is the
# smallest $b$ that loses less than one point of accuracy? You will explain the difference at the
# end.

# %% nbgrader={"grade": false, "grade_id": "predict_codebook_bits", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_bits = ...  bits of a code
### BEGIN SOLUTION
predicted_bits = 4
### END SOLUTION


# %%
def shared_weights(model: nn.Module, bits: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Quantize every layer of ``model`` in place; codebook and codes of each."""
    found = {}
    for name, layer in cost.weighted_layers(model).items():
        codebook, codes = kmeans_quantize(layer.weight.detach(), bits)
        found[name] = codebook.clone(), codes  # it is trained
        layer.weight.data = codebook[codes]
    return found


def train_codebooks(model: nn.Module, found: dict, lr: float = 1e-3) -> None:
    """One pass over a few images that moves the codebooks alone; weights stay shared."""
    optimizer = torch.optim.Adam([codebook for codebook, _ in found.values()], lr=lr)
    for rows in order[:CODEBOOK_IMAGES].split(64):
        loss = functional.cross_entropy(model(normalize(train.images[rows])), train.labels[rows])
        model.zero_grad()
        loss.backward()
        layers = cost.weighted_layers(model)
        for name, (codebook, codes) in found.items():
            gradient = codebook_gradient(layers[name].weight.grad, codes, len(codebook))
            codebook.grad = gradient.to(codebook.dtype)
        optimizer.step()
        for name, (codebook, codes) in found.items():
            layers[name].weight.data = codebook[codes]


def codebooks(widths: list[int]) -> dict:
    """Accuracy of the reference CNN with codebooks of these bits, before and after training."""
    done = lab.unfinished("codebooks", "widths")  # one after the other, each is kept
    _, rows = resumable.kept(done) or ({}, {"untrained": [], "trained": [], "bytes": []})
    sizes = [layer.weight.numel() for layer in cost.weighted_layers(dense).values()]
    for bits in widths[len(rows["bytes"]) :]:
        model = lab.dense()
        found = shared_weights(model, bits)
        rows["untrained"].append(evaluate(model, report))
        train_codebooks(model.eval(), found)
        rows["trained"].append(evaluate(model, report))
        rows["bytes"].append(sum(codebook_bytes(size, bits) for size in sizes))
        resumable.keep(done, {}, rows)
    return {"bits": widths, **rows}


shared = lab.produce("codebooks", codebooks, [2, 3, 4, 5])
enough = [
    b for b, a in zip(shared["bits"], shared["untrained"], strict=True) if a > dense_accuracy - 0.01
]
print(f"predicted {predicted_bits} bits, measured {min(enough, default='more than 5')}")

# %%
figure, axis = plt.subplots(figsize=(6, 3.2))
for name in ("untrained", "trained"):
    axis.plot(shared["bits"], shared[name], "o-", label=f"codebook {name}")
axis.axhline(dense_accuracy, color="gray", linestyle=":", label="fp32")
axis.set(xlabel="bits of a code", ylabel="validation accuracy", xticks=shared["bits"])
axis.legend()
plt.show()

# %% [markdown]
# *Accuracy of the reference CNN with one codebook for each layer. Moving the shared values by their
# summed gradients repairs part of what rounding broke, without changing a single code.*
#
# ## 2 · Evenly spaced levels
#
# A codebook needs a look-up before the arithmetic. Evenly spaced levels need none: with a scale $S$
# and an integer *zero point* $Z$,
#
# $$ q = \mathrm{clamp}\big(\mathrm{round}(x / S) + Z,\ -2^{b-1},\ 2^{b-1} - 1\big),
# \qquad x \approx S\,(q - Z). $$
#
# **Symmetric** (for weights): $Z = 0$ and $S = \max|x| \,/\, (2^{b-1} - 1)$. **Affine** (for
# activations): the range $[l, h]$ with $l = \min(0, \min x)$ and $h = \max(0, \max x)$, so that 0
# is a level, $S = (h - l) / (2^b - 1)$ and $Z = \mathrm{round}(-2^{b-1} - l / S)$. Where all of $x$
# is 0, also of one slice beside others, $S = 1$; no other $S$ is limited from below. One pair $(S,
# Z)$ may serve the whole tensor, or one each slice along an axis. `round` is `torch.round`: halves
# go to the even neighbour.


# %% nbgrader={"grade": false, "grade_id": "solution_quantization_parameters", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantization_parameters(
    x: torch.Tensor, bits: int, symmetric: bool, axis: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale float32 and zero point int32 that cover ``x``.

    Args:
        x: float32 ``[N, ...]``, of two dimensions or more where an axis is given.
        bits: 2 to 8.
        axis: None: one pair for the tensor, both of shape ``[]``; else one for each index of this
            dimension, counted from 0, both ``[x.shape[axis]]``.
    """
    ### BEGIN SOLUTION
    rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if symmetric:
        scale = torch.maximum(-low, high) / (2 ** (bits - 1) - 1)
    else:
        scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero_point = torch.zeros_like(scale) if symmetric else (-(2 ** (bits - 1)) - low / scale)
    shape = [] if axis is None else [-1]
    return scale.reshape(shape), zero_point.round().int().reshape(shape)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_linear_quantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def linear_quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    bits: int,
    axis: int | None = None,
) -> torch.Tensor:
    """Codes int8 of ``x``, float32 ``[N, ...]``; ``bits`` are 2 to 8.

    Scale float32 and zero point int32 are as ``quantization_parameters`` gives them: ``[]``, or
    ``[x.shape[axis]]`` where there is an axis.
    """
    ### BEGIN SOLUTION
    shape = [-1 if i == axis else 1 for i in range(x.ndim)] if axis is not None else []
    codes = (x / scale.reshape(shape)).round() + zero_point.reshape(shape)
    return codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.int8)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_dequantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dequantize(
    codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int | None = None
) -> torch.Tensor:
    """The real numbers, float32, that ``codes``, int8 ``[N, ...]``, stand for.

    Scale float32 and zero point int32 are ``[]``, or ``[codes.shape[axis]]`` if there is an axis.
    """
    ### BEGIN SOLUTION
    shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if axis is not None else []
    return scale.reshape(shape) * (codes.int() - zero_point.reshape(shape)).float()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "linear_quantize", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("linear_quantize")  # 10 points

# %% [markdown]
# ## 3 · Where to clip
#
# Levels that cover the largest value waste resolution on values that hardly occur. *Calibration*
# chooses a smaller threshold $t$; what lies beyond is clipped to $\pm t$. Three rules:
#
# - **percentile**: $t$ is the $p$-th percentile of $|x|$ (linear interpolation, as in
#   `torch.quantile`);
# - **MSE**: of given candidates, the $t$ with the least mean squared error of symmetric
#   quantization, $S = t / (2^{b-1} - 1)$, codes clamped to $\pm(2^{b-1} - 1)$;
# - **KL**: the threshold that keeps the distribution best. From a histogram of $|x|$ with $B$ bins,
#   keep the first $i$: $P_i$ is these counts with everything beyond added to the last of them. $Q_i$
#   merges the same $i$ bins (without what lies beyond) into $L$ groups, bin $j$ into group
#   $\lfloor j L / i \rfloor$, and spreads the sum of each group evenly over those of its bins that
#   are not empty in the histogram itself. Both are divided by their sums; the $i$ with the least
#   $\sum_j P_i(j) \log \big(P_i(j) / Q_i(j)\big)$ wins. Terms with $P_i(j) = 0$ count 0; where only
#   $Q_i(j) = 0$, the divergence is infinite.


# %% nbgrader={"grade": false, "grade_id": "solution_percentile_threshold", "locked": false, "schema_version": 3, "solution": true, "task": false}
def percentile_threshold(x: torch.Tensor, percent: float) -> float:
    """The ``percent``-th percentile, 0 to 100, of the magnitudes of ``x``, float32 ``[N, ...]``."""
    ### BEGIN SOLUTION
    return float(torch.quantile(x.abs().flatten(), percent / 100))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_mse_threshold", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mse_threshold(x: torch.Tensor, bits: int, candidates: torch.Tensor) -> float:
    """The one of ``candidates`` that quantizes ``x`` with the least MSE.

    Args:
        x: float32 ``[N, ...]``.
        bits: 2 to 9.
        candidates: float32 ``[T]``, positive, in any order.
    """
    ### BEGIN SOLUTION
    top = 2 ** (bits - 1) - 1
    errors = []
    for threshold in candidates:
        scale = threshold / top
        errors.append(((x / scale).round().clamp(-top, top) * scale - x).square().mean())
    return float(candidates[torch.stack(errors).argmin()])
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_kl_threshold", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_threshold(counts: torch.Tensor, levels: int) -> int:
    """How many of the first bins to keep: from ``levels`` to B, the first with the least KL.

    Args:
        counts: histogram of magnitudes, float64 ``[B]``; the first bin is not empty.
        levels: 1 to B.
    """
    ### BEGIN SOLUTION
    best = (float("inf"), len(counts))
    for kept in range(levels, len(counts) + 1):
        inside = counts[:kept]
        p = inside.clone()
        p[-1] += counts[kept:].sum()
        group = torch.arange(kept) * levels // kept
        sums = torch.zeros(levels).double().index_add(0, group, inside)
        filled = torch.zeros(levels).double().index_add(0, group, (inside > 0).double())
        q = torch.where(inside > 0, (sums / filled.clamp(min=1))[group], 0.0)
        p, q = p / p.sum(), q / q.sum()
        divergence = torch.where(p > 0, p * (p / q).log(), 0.0).sum()
        best = min(best, (float(divergence), kept))
    return best[1]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "calibrate", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("calibrate")  # 8 points

# %% [markdown]
# ## 4 · Folding batch norm
#
# In inference, batch norm is one more multiplication and addition of each channel. It can be moved
# into the convolution before it: with the running mean $\mu$ and variance $\sigma^2$,
#
# $$ \gamma\,\frac{(W * x) - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = W' * x + b' . $$


# %% nbgrader={"grade": false, "grade_id": "solution_fold_batchnorm", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fold_batchnorm(
    weight: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight float ``[O, I, k, k]`` and bias float ``[O]`` of convolution and batch norm in one.

    Args:
        weight: float32 ``[O, I, k, k]``.
        gamma, beta, mean, var: float32 ``[O]``; no ``var`` is negative.
        eps: positive.
    """
    ### BEGIN SOLUTION
    factor = gamma / (var + eps).sqrt()
    return weight * factor[:, None, None, None], beta - mean * factor
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "fold_batchnorm", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("fold_batchnorm")  # 6 points


# %%
class Folded(nn.Module):
    """The reference CNN without batch norm; ``hook(name, tensor)`` may change what flows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.plan = [
            name for name, _ in model.features.named_children() if "conv" in name or "pool" in name
        ]
        self.layers = nn.ModuleDict()
        for name in self.plan:
            if name.startswith("conv"):
                conv, bn = (
                    model.features.get_submodule(n) for n in (name, name.replace("conv", "bn"))
                )
                layer = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
                parts = (conv.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var)
                weight, bias = fold_batchnorm(*(part.detach() for part in parts), bn.eps)
                layer.weight.data, layer.bias.data = weight.float().clone(), bias.float().clone()
                self.layers[name] = layer
        self.layers["classifier"] = nn.Linear(*reversed(model.classifier.weight.shape))
        self.layers["classifier"].load_state_dict(model.classifier.state_dict())

    def weight(self, name: str) -> torch.Tensor:
        """The weight that layer ``name`` computes with."""
        return self.layers[name].weight

    def activation(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """What the next layer sees of ``x``, the output of ``name`` after ReLU."""
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.plan:
            if name.startswith("pool"):
                x = functional.max_pool2d(x, 2)
                continue
            x = functional.conv2d(x, self.weight(name), self.layers[name].bias, padding=1)
            x = self.activation(name, functional.relu(x))
        return functional.linear(
            x.mean((2, 3)), self.weight("classifier"), self.layers["classifier"].bias
        )


# %% [markdown]
# ## 5 · Arithmetic in integers alone
#
# With $x \approx S_x (q_x - Z_x)$ and $w \approx S_w q_w$, a sum of products is one of integers,
# times one real number:
#
# $$ \sum_i w_i x_i + b \approx S_w S_x \Big( \sum_i q_{w,i}\,(q_{x,i} - Z_x) + q_b \Big), \qquad
# q_b = \mathrm{round}\big(b / (S_w S_x)\big), $$
#
# and the code of the output is $q_y = Z_y + M a$ with the sum $a$ (the *accumulator*, int32) and
# $M = S_w S_x / S_y$. A machine without floating point multiplies by $M$ in fixed point: it writes
# $M \approx M_0 \cdot 2^{-n}$ with a *mantissa* $M_0$ of 31 bits, $2^{30} \le M_0 < 2^{31}$, and a
# *shift* $n$,
#
# $$ q_y = \mathrm{clamp}\Big(\big\lfloor (a\,M_0 + 2^{n-1}) / 2^n \big\rfloor + Z_y,\ low,\ high\Big), $$
#
# with a product of 64 bits and one shift. Adding half of what is shifted out makes it round to
# nearest, **halves upwards**, also for negative numbers: 2.5 to 3 and −2.5 to −2. (`torch.round`
# sends both to the even neighbour; a shift cannot.)


# %% nbgrader={"grade": false, "grade_id": "solution_fixed_point", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fixed_point(multiplier: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mantissa and shift, both int32, of multipliers, float64 ``[N, ...]``, from 2**-32 to 2**30 - 1.

    The mantissa is rounded to the nearest integer; where that gives 2**31, it is 2**30 and the
    shift is one smaller. (``torch.frexp`` splits a number into a fraction from 0.5 to below 1 and
    an exponent.)
    """
    ### BEGIN SOLUTION
    fraction, exponent = torch.frexp(multiplier.double())
    mantissa = (fraction * 2**31).round().long()
    full = mantissa == 2**31
    return torch.where(full, mantissa // 2, mantissa).int(), (31 - exponent - full.int()).int()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_requantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def requantize(
    sums: torch.Tensor,
    mantissa: torch.Tensor,
    shift: torch.Tensor,
    zero_point: int,
    low: int,
    high: int,
) -> torch.Tensor:
    """Codes int32 from ``low`` to ``high`` of accumulators; integers alone.

    Args:
        sums: int32 ``[N, C, ...]``: any that int32 holds.
        mantissa, shift: int32 ``[C]``, shift from 1 to 62.
        zero_point: from -128 to 127.
        low, high: any that int32 holds.
    """
    ### BEGIN SOLUTION
    shape = [1, -1] + [1] * (sums.ndim - 2)
    mantissa, shift = mantissa.long().reshape(shape), shift.long().reshape(shape)
    half = torch.ones_like(shift) << (shift - 1)
    codes = ((sums.long() * mantissa + half) >> shift) + zero_point
    return codes.clamp(low, high).int()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "requantize", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("requantize")  # 6 points

# %% [markdown]
# The layers themselves return accumulators. A convolution pads with the code that *means* 0, the
# zero point, not with the code 0. PyTorch has no fast convolution for integers, but float64 holds
# integers up to $2^{53}$ exactly: convert the codes, convolve, convert back. (float32 does not: it
# is exact up to $2^{24}$ only, and accumulators reach further.)


# %% nbgrader={"grade": false, "grade_id": "solution_quantized_conv2d", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantized_conv2d(
    codes: torch.Tensor, zero_point: int, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Accumulators int32 ``[N, O, H, W]`` of a 3×3 convolution with padding 1.

    Args:
        codes, zero_point: int8 ``[N, I, H, W]`` and the zero point of the input, -128 to 127.
        weight, bias: int8 ``[O, I, 3, 3]`` from -127 to 127, and int32 ``[O]``. Sums with their
            bias are what int32 holds.
    """
    ### BEGIN SOLUTION
    shifted = codes.double() - zero_point  # the padding is 0 now
    sums = functional.conv2d(shifted, weight.double(), padding=1)
    return sums.int() + bias[:, None, None]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_quantized_linear", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantized_linear(
    codes: torch.Tensor, zero_point: int, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Accumulators int32 ``[N, O]`` of a linear layer; zero points and sums as above.

    Args:
        codes, zero_point: int8 ``[N, K]`` and the zero point of the input, -128 to 127.
        weight, bias: int8 ``[O, K]`` and int32 ``[O]``.
    """
    ### BEGIN SOLUTION
    return ((codes.double() - zero_point) @ weight.double().T).int() + bias
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "quantized_conv2d", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("quantized_conv2d")  # 8 points

# %% [markdown]
# ## 6 · The network in 8 bits
#
# The pieces come together. The judge will run your network with **its own integer executor**, so
# the file holds integers and nothing else, in these names:
#
# | tensor | type and shape | what it is |
# | --- | --- | --- |
# | `input.scale`, `input.zero_point` | float32, int32 `[1]` | codes of the normalized image |
# | `conv0.weight`, … | int8 `[O, I, 3, 3]` | symmetric codes, −127 to 127 (4 bits: −7 to 7) |
# | `conv0.bias` | int32 `[O]` | $q_b$ |
# | `conv0.mantissa`, `conv0.shift` | int32, int8 `[O]` | mantissa $M_0$, shift $n$ of each channel |
# | `conv0.zero_point` | int32 `[1]` | of its output |
# | `classifier.weight`, `.bias` | int8 `[10, K]`, int32 `[10]` | one scale: its sums are compared |
#
# `mantissa` and `shift` have one entry for each channel, also where all channels share one scale. The
# input scale of `conv0` is `input.scale`, that of a later layer the output scale of the layer before;
# compute $M$ in float64. Names beside these are an error.
#
# After ReLU nothing is negative: the range is $[0, t]$, so the output's zero point is $-2^{b-1}$
# (−128 at 8 bits), its scale $t / (2^b - 1)$, and the clamp at the zero point *is* the ReLU. Max
# pooling works on codes. The mean over the last 4×4 positions is taken on codes, rounded halves
# upwards, and keeps their scale.
#
# **Points.** For the network: full points for a file 3.9 times smaller than fp32 (none at 2) and a
# loss of accuracy of at most 0.5 % (none at 4 %). The loss counts in proportion to the compression,
# the compression only while the loss earns something.


# %%
@torch.no_grad()
def activation_samples(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """A sample of what each layer's ReLU lets through, flattened, and of the normalized image."""
    found = {"input": normalize(images).flatten()}

    def remember(name: str, x: torch.Tensor) -> torch.Tensor:
        values = x.flatten()
        found[name] = values[:: max(1, len(values) // 100_000)]
        return x

    model.activation, before = remember, model.activation
    model(normalize(images))
    model.activation = before
    return found


folded = Folded(dense).eval()
samples = activation_samples(folded, calibration)
close = torch.allclose(
    folded(normalize(calibration[:8])), dense(normalize(calibration[:8])), atol=1e-3
)
print(f"folded network equals the dense one: {close}")

# %%
figure, axis = plt.subplots(figsize=(6.5, 3.2))
x = samples["conv3"]
counts = torch.histc(x[x > 0], 2048, 0, float(x.max())).double()
edges = torch.linspace(0, float(x.max()), 2049)
axis.stairs(counts.reshape(128, 16).sum(1), edges[::16], color="gray")
thresholds = {
    "99.9 %": float(percentile_threshold(x, 99.9)),
    "MSE, 8 bits": float(mse_threshold(x, 9, float(x.max()) * torch.linspace(0.1, 1, 46))),
    "MSE, 4 bits": float(mse_threshold(x, 5, float(x.max()) * torch.linspace(0.1, 1, 46))),
    "KL, 256 levels": float(edges[kl_threshold(counts, 256)]),
}
for index, (name, threshold) in enumerate(thresholds.items()):
    axis.axvline(threshold, color=f"C{index}", label=f"{name}: {threshold:.2f}")
axis.set(xlabel="activation after conv3", ylabel="count", yscale="log")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Values behind conv3's ReLU on a log scale, and where each rule clips. The fewer levels there are,
# the more it pays to give up the rare large values.*
#
# `quantize_network` assembles the file. It is used twice, at 8 bits with a scale for each channel of
# the weights, and later at 4 bits with one for each tensor.


# %% nbgrader={"grade": false, "grade_id": "solution_quantize_network", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize_network(
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]],
    image: torch.Tensor,
    thresholds: dict[str, float],
    bits: int,
    axis: int | None,
) -> dict[str, torch.Tensor]:
    """All tensors of the file; at 4 bits weights are still int8 here (they are packed later).

    Args:
        layers: name to weight and bias, both float32, of ``conv0`` … (one or more), then
            ``classifier``, batch norm folded.
        image: values of normalized images, float32 ``[N, ...]``: their range makes ``input``
            (affine, always 8 bits).
        thresholds: name of each convolution to the largest output that is not clipped, positive.
        bits: of weights and of the outputs of convolutions, 8 or 4.
        axis: of the convolutions' weight scales, 0 or None; the classifier has one scale.
    """
    ### BEGIN SOLUTION
    scale, zero_point = quantization_parameters(image, 8, symmetric=False, axis=None)
    stored = {"input.scale": scale.reshape(1), "input.zero_point": zero_point.reshape(1)}
    for name, (weight, bias) in layers.items():
        own_axis = None if name == "classifier" else axis
        w_scale, zero = quantization_parameters(weight, bits, symmetric=True, axis=own_axis)
        stored[f"{name}.weight"] = linear_quantize(weight, w_scale, zero, bits, own_axis)
        sums_scale = scale.double() * w_scale.double().expand(len(bias))
        stored[f"{name}.bias"] = (bias / sums_scale).round().int()
        if name != "classifier":
            scale = torch.tensor(thresholds[name] / (2**bits - 1))
            mantissa, shift = fixed_point(sums_scale / scale.double())
            stored |= {f"{name}.mantissa": mantissa, f"{name}.shift": shift.to(torch.int8)}
            stored[f"{name}.zero_point"] = torch.tensor([-(2 ** (bits - 1))], dtype=torch.int32)
    return stored
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "quantize_network", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab.check("quantize_network")  # 4 points


# %%
def layers_of(model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name to weight and bias of each layer of a folded network."""
    return {name: (m.weight.detach(), m.bias.detach()) for name, m in model.layers.items()}


def int8_network() -> dict[str, torch.Tensor]:
    """The reference CNN in 8 bits, clipped at the largest value that was seen."""
    largest = {name: float(x.max()) for name, x in samples.items() if name != "input"}
    return quantize_network(layers_of(folded), samples["input"], largest, bits=8, axis=0)


int8_model = lab.produce("int8_model", int8_network)


# %%
def run_integers(stored: dict, images: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Logits int32 of images, with your functions."""
    zero = int(stored["input.zero_point"])
    scale, zero_point = stored["input.scale"][0], stored["input.zero_point"][0]
    x = linear_quantize(normalize(images), scale, zero_point, 8)
    for name in folded.plan:
        if name.startswith("pool"):
            x = functional.max_pool2d(x.float(), 2).to(torch.int8)
            continue
        sums = quantized_conv2d(x, zero, stored[f"{name}.weight"], stored[f"{name}.bias"])
        zero = int(stored[f"{name}.zero_point"])
        mantissa, shift = stored[f"{name}.mantissa"], stored[f"{name}.shift"].int()
        x = requantize(sums, mantissa, shift, zero, zero, 2 ** (bits - 1) - 1).to(torch.int8)
    pixels = x.shape[2] * x.shape[3]
    mean = torch.div(2 * x.int().sum((2, 3)) + pixels, 2 * pixels, rounding_mode="floor")
    weight, bias = stored["classifier.weight"], stored["classifier.bias"]
    return quantized_linear(mean.to(torch.int8), zero, weight, bias)


def integer_accuracy(stored: dict, bits: int) -> dict:
    """Accuracy on 500 images, in fp32 and with integers alone."""
    some = report.head(500)
    logits = torch.cat([run_integers(stored, x, bits) for x in some.images.split(100)])
    found = float((logits.argmax(1) == some.labels).float().mean())
    return {"fp32": evaluate(dense, some), "integers": found}


run8 = lab.produce("int8_run", integer_accuracy, int8_model, 8)
print(f"500 images: fp32 {run8['fp32']:.1%}, integers alone {run8['integers']:.1%}")

# %% nbgrader={"grade": true, "grade_id": "int8_model", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("int8_model")  # 8 points

# %% [markdown]
# ## 7 · Rounding well: AdaRound
#
# At 4 bits with *one scale for the whole tensor* (cheapest for the hardware: one multiplier), the
# nearest code is no longer good enough. AdaRound (Nagel et al. 2020) decides for each weight whether
# to round down or up so that the *output* of the layer stays, and lets errors cancel. With
# $\lfloor w/S \rfloor$ fixed, it learns $V$ in
#
# $$ \hat W = S \cdot \mathrm{clamp}\big(\lfloor W/S \rfloor + h(V),\ -7,\ 7\big), \qquad
# h(V) = \mathrm{clamp}\big(1.2\,\sigma(V) - 0.1,\ 0,\ 1\big), $$
#
# by gradient descent on
#
# $$ \frac{\lVert W x - \hat W \hat x \rVert^2}{\lVert W x - \hat W_\text{nearest}\, \hat x \rVert^2}
# + \lambda\; \mathrm{mean}\big(1 - |2 h(V) - 1|^\beta\big). $$
#
# The first term is the error relative to that of nearest rounding; the second, with a $\beta$ that
# falls, drives every $h$ to 0 or 1. $\hat x$ is what the layer sees once the layers before it are
# quantized. In the end a weight is rounded up where $h(V) > 0.5$, else down, and clamped to ±7.
#
# **Points.** The check calls it with 300 to 400 steps, 60 seconds each. It wants at most 0.6 of the
# output error of nearest rounding, at most 0.4 where the target belongs to other inputs, and on tiny
# layers little more than the best of all roundings has. For the network: full points for a mean
# squared error of the logits of 0.30 of nearest rounding's (none at 0.90) and a loss of accuracy of
# at most 1 % (none at 3 %), jointly as in section 6.

# %%
W4_TOP = 7


def apply_layer(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A 3×3 convolution with padding 1 for weights of 4 dimensions, else a linear layer."""
    if weight.ndim == 4:
        return functional.conv2d(x, weight, padding=1)
    return functional.linear(x, weight)


# %% nbgrader={"grade": false, "grade_id": "solution_rounding", "locked": false, "schema_version": 3, "solution": true, "task": false}
def soft_round(v: torch.Tensor) -> torch.Tensor:
    """The rectified sigmoid h(V) of float32 ``[N, ...]``; gradients pass through it."""
    ### BEGIN SOLUTION
    return (1.2 * v.sigmoid() - 0.1).clamp(0, 1)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_adaround", "locked": false, "schema_version": 3, "solution": true, "task": false}
def adaround(
    x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, scale: float, steps: int
) -> torch.Tensor:
    """Codes int8 of ``weight``, each rounded down or up, from -7 to 7.

    Args:
        x: inputs of the layer, float32 ``[N, I, H, W]`` for a convolution or ``[N, K]``.
        target: what ``apply_layer`` should return for them, ``[N, O, H, W]`` or ``[N, O]``. It was
            computed from other inputs than ``x`` where layers before are quantized.
        weight: float32 ``[O, I, 3, 3]`` or ``[O, K]``.
        scale: positive.
        steps: updates. Adam with lr 0.05, 32 random inputs each, λ = 3, β from 4 to 2, and no second
            term in the first tenth do well; start V so that h(V) is what rounding down cuts off.
    """
    ### BEGIN SOLUTION
    floor = (weight / scale).floor()
    share = (weight / scale - floor).clamp(0.01, 0.99)
    v = ((share + 0.1) / (1.1 - share)).log().requires_grad_()
    nearest = (weight / scale).round().clamp(-W4_TOP, W4_TOP) * scale
    unit = (apply_layer(x[:64], nearest) - target[:64]).square().mean() + 1e-12
    optimizer, generator = torch.optim.Adam([v], lr=0.05), torch.Generator().manual_seed(SEED)
    for step in range(steps):
        rows = torch.randint(len(x), (32,), generator=generator)
        soft = (floor + soft_round(v)).clamp(-W4_TOP, W4_TOP) * scale
        loss = (apply_layer(x[rows], soft) - target[rows]).square().mean() / unit
        if step > 0.1 * steps:
            loss = loss + 3 * (1 - (2 * soft_round(v) - 1).abs() ** (4 - 2 * step / steps)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (floor + (soft_round(v) > 0.5)).clamp(-W4_TOP, W4_TOP).detach().to(torch.int8)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "adaround", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("adaround")  # 6 points


# %%
def nearest(x, target, weight, scale, steps):
    """What ``adaround`` is compared with."""
    return (weight / scale).round().clamp(-W4_TOP, W4_TOP).to(torch.int8)


def rounded_network(rounding) -> dict[str, torch.Tensor]:
    """Codes of every layer, one after the other, the later ones seeing the earlier ones' error."""
    seen = exact = normalize(calibration)
    done = lab.unfinished("w4_model", "layers")  # AdaRound's codes, kept layer by layer
    codes, _ = resumable.kept(done) or ({}, None)
    for name in [*folded.plan, "classifier"]:
        if name.startswith("pool"):
            seen, exact = functional.max_pool2d(seen, 2), functional.max_pool2d(exact, 2)
            continue
        weight, bias = layers_of(folded)[name]
        if name == "classifier":
            seen, exact = seen.mean((2, 3)), exact.mean((2, 3))
        target, scale = apply_layer(exact, weight), float(weight.abs().max()) / W4_TOP
        if name not in codes:
            codes[name] = rounding(seen, target, weight, scale, ROUNDING_STEPS)
            resumable.keep(done, codes, None)
        offset = bias[:, None, None] if weight.ndim == 4 else bias
        seen = functional.relu(apply_layer(seen, codes[name].float() * scale) + offset)
        exact = functional.relu(target + offset)
    return codes


# %%
def with_codes(codes: dict[str, torch.Tensor]) -> nn.Module:
    """The folded network with these weights."""
    model = Folded(dense).eval()
    for name, layer in model.layers.items():
        layer.weight.data = codes[name].float() * (layer.weight.detach().abs().max() / W4_TOP)
    return model


def packed(codes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Two codes a byte: what is stored."""
    return {f"{name}.weight": pack_codes(q.long() & 15, 4) for name, q in codes.items()}


def unpacked(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Codes int8 in the shapes of the layers."""
    found = {}
    for name, (weight, _) in layers_of(folded).items():
        halves = stored[f"{name}.weight"].int()
        codes = torch.stack([halves & 15, halves >> 4], 1).flatten()[: weight.numel()]
        found[name] = torch.where(codes > 7, codes - 16, codes).to(torch.int8).reshape(weight.shape)
    return found


w4_model = lab.produce("w4_model", lambda: packed(rounded_network(adaround)))


def roundings() -> dict:
    """Accuracy with 4-bit weights, rounded in two ways."""
    networks = {"nearest": rounded_network(nearest), "AdaRound": unpacked(w4_model)}
    return {name: evaluate(with_codes(codes), report) for name, codes in networks.items()}


rounded = lab.produce("roundings", roundings)
for name, value in {**rounded, "fp32": dense_accuracy}.items():
    print(f"4-bit weights, {name}: {value:.1%}" if name != "fp32" else f"fp32: {value:.1%}")

# %% nbgrader={"grade": true, "grade_id": "w4_model", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("w4_model")  # 6 points

# %% [markdown]
# ## 8 · Four bits everywhere: quantization-aware training
#
# With 4-bit activations the network has to get used to its levels. *Fake quantization* rounds in the
# forward pass and stays in floating point; rounding has no useful derivative, so the backward pass
# pretends it was not there (the *straight-through estimator*): the gradient passes unchanged where
# $low \le x/S \le high$ and is 0 where the value was clipped.
#
# **Points.** For the network: full points for 7.2 times smaller than fp32 (none at 4) and a loss of
# at most 1.5 % (none at 3.5 %; glyphs: 1 % and 1.8 %), jointly as in section 6.


# %% nbgrader={"grade": false, "grade_id": "solution_fake_quantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
class FakeQuantize(torch.autograd.Function):
    """``S · clamp(round(x / S), low, high)`` with the straight-through gradient.

    ``x`` is float32 ``[N, ...]``, ``scale`` float32 ``[]`` and positive, ``low`` and ``high`` are
    integers, low ≤ 0 < high. ``round`` sends halves to the even neighbour; ``low`` and ``high``
    themselves are not clipped.
    """

    @staticmethod
    def forward(ctx, x, scale, low, high):
        ### BEGIN SOLUTION
        ctx.save_for_backward((x / scale >= low) & (x / scale <= high))
        return (x / scale).round().clamp(low, high) * scale
        ### END SOLUTION

    @staticmethod
    def backward(ctx, gradient):
        """Gradient of x, then None for each of the other three arguments."""
        ### BEGIN SOLUTION
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None
        ### END SOLUTION


# %%
def fake_quantize(x: torch.Tensor, scale: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Apply ``FakeQuantize``."""
    return FakeQuantize.apply(x, scale, low, high)


def fake_quantize_gradient(
    x: torch.Tensor, scale: torch.Tensor, low: int, high: int, upstream: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, and gradient of x for this gradient of the value: what the check looks at."""
    x = x.detach().requires_grad_()
    value = fake_quantize(x, scale, low, high)
    (value * upstream).sum().backward()
    return value.detach(), x.grad


# %% nbgrader={"grade": true, "grade_id": "fake_quantize", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab.check("fake_quantize")  # 4 points

# %% [markdown]
# **Predict.** 4-bit weights (one scale a tensor) and 4-bit activations, nothing trained: how many
# points of accuracy are lost?

# %% nbgrader={"grade": false, "grade_id": "predict_w4a4_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_loss = ...  points of accuracy lost
### BEGIN SOLUTION
predicted_loss = 10.0
### END SOLUTION


# %%
class FakeQuantized(Folded):
    """The folded network with 4-bit weights and activations, trainable."""

    def __init__(self, model: nn.Module, thresholds: dict[str, float]) -> None:
        super().__init__(model)
        self.steps = {name: torch.tensor(float(t) / 15) for name, t in thresholds.items()}

    def weight(self, name: str) -> torch.Tensor:
        weight = self.layers[name].weight
        return fake_quantize(weight, weight.detach().abs().max() / W4_TOP, -W4_TOP, W4_TOP)

    def activation(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, self.steps[name], 0, 15)


clipped = {
    name: float(mse_threshold(x, 5, float(x.max()) * torch.linspace(0.1, 1, 46)))
    for name, x in samples.items()
    if name != "input"
}
untrained = lab.produce(
    "w4a4_untrained", lambda: evaluate(FakeQuantized(dense, clipped).eval(), report)
)
print(f"predicted {predicted_loss:.1f} points lost, ", end="")
print(f"measured {100 * (dense_accuracy - untrained):.1f}")


# %% nbgrader={"grade": false, "grade_id": "solution_w4a4_model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_w4a4(model: nn.Module) -> nn.Module:
    """Train a ``FakeQuantized`` network for about a minute and return it (``model`` itself may be).

    Use ``fit(model, train.head(QAT_IMAGES), epochs=1, lr=...)`` with ``weight_decay=0``, on these or
    on as many others of ``train`` (an ``ImageSet``). Without batch norm the peak
    learning rate has to be small, 0.0005 to 0.005; ``loss=distillation([dense])`` helps. With
    ``resume=lab.unfinished("w4a4_model")`` an interrupted training goes on where it was.
    """
    ### BEGIN SOLUTION
    rows = order[:QAT_IMAGES]
    images = ImageSet(train.images[rows], train.labels[rows], train.card)
    loss, resume = distillation([dense]), lab.unfinished("w4a4_model")
    fit(model, images, epochs=1, lr=0.002, weight_decay=0, seed=SEED, loss=loss, resume=resume)
    return model
    ### END SOLUTION


# %%
def w4a4_network() -> dict[str, torch.Tensor]:
    """Trained, then turned into integers by your own functions, weights packed."""
    model = train_w4a4(FakeQuantized(dense, clipped))
    stored = quantize_network(layers_of(model), samples["input"], clipped, bits=4, axis=None)
    codes = {name: stored[f"{name}.weight"] for name in model.layers}
    return {**stored, **packed(codes)}


w4a4_model = lab.produce("w4a4_model", w4a4_network)
weights = {f"{name}.weight": codes for name, codes in unpacked(w4a4_model).items()}
run4 = lab.produce("w4a4_run", integer_accuracy, {**w4a4_model, **weights}, 4)
print(f"500 images: fp32 {run4['fp32']:.1%}, 4 bits in integers alone {run4['integers']:.1%}")

# %% nbgrader={"grade": true, "grade_id": "w4a4_model", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("w4a4_model")  # 6 points

# %% [markdown]
# ## 9 · The kernel
#
# Smaller numbers are faster only if some instruction computes more of them at once. Write
#
# $$ C_{ij} = \sum_p A_{ip} B_{jp}, \qquad A \in \text{int8}^{m \times k},\ B \in
# \text{int8}^{n \times k},\ C \in \text{int32}^{m \times n} $$
#
# in C, compiled for AVX2 (`native.AVX2`) and not for more that this CPU may have; `<immintrin.h>`
# may be included. What $C$ holds before is not known. $m$ and $n$ are multiples of 8, $k$ of 32;
# codes of $A$ use the whole range −128 to 127, those of $B$ −127 to 127. Nothing is promised about
# alignment, nothing may be read or written outside of the arrays, and there is no C library but the
# `mem*` functions. The peers are two fp32 kernels with the same compiler and flags
# (`native.shipped("fp32_gemm")`): a plain loop, which is the baseline, and one with a tile of C in
# registers.
#
# **Points.** Full points at 2.5 times the plain fp32 loop, none at 1.7, linear between; the points
# for exact products count in the same proportion, as the text below is exact, too.
#
# This is where you start. The compiler finds `vpmaddwd` for its inner loop by itself; what it does
# not find is that each loaded number could be used several times:

# %%
START = r"""
#include <stdint.h>

void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum = 0;
            for (int p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
            c[i * n + j] = sum;
        }
}
"""

# %% [markdown]
# **Predict.** How many times faster than the plain fp32 loop is `START`, and how many times will
# yours be?

# %% nbgrader={"grade": false, "grade_id": "predict_speedup", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_start, predicted_mine = ..., ...  times faster
### BEGIN SOLUTION
predicted_start, predicted_mine = 1.0, 4.0
### END SOLUTION

# %% nbgrader={"grade": false, "grade_id": "solution_int8_gemm", "locked": false, "schema_version": 3, "solution": true, "task": false}
# INT8_GEMM = r"""..."""
### BEGIN SOLUTION
INT8_GEMM = r"""
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { ROWS = 2, COLUMNS = 4, STEP = 32 };

static __m256i load(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

static int32_t total(__m256i v) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/* Each load of a row of A serves four columns, each of B two rows. vpmaddubsw wants one operand
   unsigned: |a| times b with a's sign. Its pairs reach 2 * 128 * 127, which int16 holds. */
void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < m; i += ROWS)
        for (int j = 0; j < n; j += COLUMNS) {
            __m256i sum[ROWS][COLUMNS];
            memset(sum, 0, sizeof sum);
            for (int p = 0; p < k; p += STEP)
                for (int u = 0; u < ROWS; u++) {
                    __m256i x = load(a + (i + u) * k + p), size = _mm256_abs_epi8(x);
                    for (int v = 0; v < COLUMNS; v++) {
                        __m256i y = _mm256_sign_epi8(load(b + (j + v) * k + p), x);
                        __m256i pairs = _mm256_maddubs_epi16(size, y);
                        sum[u][v] = _mm256_add_epi32(sum[u][v], _mm256_madd_epi16(pairs, ones));
                    }
                }
            for (int u = 0; u < ROWS; u++)
                for (int v = 0; v < COLUMNS; v++) c[(i + u) * n + j + v] = total(sum[u][v]);
        }
}
"""
### END SOLUTION

# %%
int8_gemm = lab.produce("int8_gemm", str, INT8_GEMM, fresh=True)


def speeds(source: str) -> dict:
    """Speed of the plain fp32 loop = 1: this kernel's, START's and the tiled fp32 kernel's."""
    m, n, k = 384, 192, 1152
    a = torch.randint(-128, 128, (m, k), dtype=torch.int8)
    b = torch.randint(-127, 128, (n, k), dtype=torch.int8)
    c, real, bt = torch.zeros(m, n, dtype=torch.int32), a.float(), b.float().T.contiguous()
    fp32, d = native.build(native.shipped("fp32_gemm"), native.AVX2), torch.zeros(m, n)
    start, mine = native.build(START, native.AVX2), native.build(source, native.AVX2)
    candidates = {
        "fp32, plain loop": lambda: fp32.fp32_gemm(real, bt, d, m, n, k),
        "fp32, tiled": lambda: fp32.fp32_gemm_tiled(real, bt, d, m, n, k),
        "torch, fp32": lambda: torch.mm(real, bt, out=d),
        "int8, START": lambda: start.int8_gemm(a, b, c, m, n, k),
        "int8, yours": lambda: mine.int8_gemm(a, b, c, m, n, k),
    }
    found = measure.latency(candidates, rounds=30, sample_s=0.01)
    return {name: found.ratio("fp32, plain loop", name).median for name in candidates}


kernel_speeds = lab.produce("kernel_speeds", speeds, int8_gemm, fresh=True)
for name, ratio in kernel_speeds.items():
    print(f"{name:17s} {ratio:5.2f}×")
print(f"predicted {predicted_start} and {predicted_mine}")

# %% nbgrader={"grade": true, "grade_id": "int8_gemm", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("int8_gemm")  # 8 points

# %% [markdown]
# ## 10 · All of it: Deep Compression
#
# Pruning and quantization add up, because zeros are the cheapest code of all. The sparse network is
# yours of Lab 1 if that folder lies beside this one; else the dense network is pruned here to 70 %
# and trained briefly. Nothing of this section is graded but your answers below. Its surviving
# weights share a codebook; code 0 is the pruned weight. The codes are written with one Huffman code
# (`zlib` with `Z_HUFFMAN_ONLY`), everything else in fp16.


# %%
def sparse_network() -> nn.Module:
    """Lab 1's network, or a quick one."""
    stem = lab.folder / ".." / "lab1_pruning" / "outputs" / lab.dataset / "sparse_model"
    if stem.with_suffix(".safetensors").exists():
        return checkpoints.rebuild(
            dense.config, checkpoints.tensors(stem.with_suffix(".safetensors"))
        )
    model = lab.dense()
    weights = [layer.weight for layer in cost.weighted_layers(model).values()]
    masks = [w.abs() > w.abs().flatten().quantile(0.7) for w in weights]

    def apply_masks(_: nn.Module) -> None:
        for weight, mask in zip(weights, masks, strict=True):
            weight.data.mul_(mask)

    apply_masks(model)
    fit(
        model,
        train.head(PRUNING_IMAGES),
        epochs=1,
        lr=0.02,
        seed=SEED,
        loss=distillation([dense]),
        after_step=apply_masks,
        resume=lab.unfinished("deep_compressed"),
        desc="pruned network",
    )
    return model


# %%
def deep_compressed(bits: int) -> dict[str, torch.Tensor]:
    """All tensors of the file: Huffman-coded symbols, codebooks and the rest in fp16."""
    model = sparse_network()
    layers, stored = cost.weighted_layers(model), {}
    for name, layer in layers.items():
        weight = layer.weight.detach()
        codebook, codes = kmeans_quantize(weight[weight != 0], bits)
        symbols = torch.zeros(weight.shape, dtype=torch.uint8)
        symbols[weight != 0] = (codes + 1).to(torch.uint8)
        coder = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
        stream = coder.compress(symbols.numpy().tobytes()) + coder.flush()
        stored[f"{name}.stream"] = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
        stored[f"{name}.codebook"] = torch.cat([torch.zeros(1), codebook]).half()
    for name, value in model.state_dict().items():
        if value.is_floating_point() and name.removesuffix(".weight") not in layers:
            stored[name] = value.half()
    return stored


def decompressed(stored: dict[str, torch.Tensor]) -> nn.Module:
    """The network in the file."""
    model = lab.dense()
    state = {name: value.float() for name, value in stored.items()}
    for name, layer in cost.weighted_layers(model).items():
        symbols = zlib.decompress(stored[f"{name}.stream"].numpy().tobytes())
        symbols = torch.frombuffer(bytearray(symbols), dtype=torch.uint8).long()
        state[f"{name}.weight"] = state[f"{name}.codebook"][symbols].view_as(layer.weight)
    model.load_state_dict({name: state.get(name, v) for name, v in model.state_dict().items()})
    return model


# %%
def stored_bytes(name: str) -> int:
    """Bytes of an artifact as it lies on the disk."""
    return sum(path.stat().st_size for path in lab.outputs.glob(f"{name}.*"))


small = lab.produce("deep_compressed", deep_compressed, 4)
restored = decompressed(small)
deep_accuracy = lab.produce("deep_accuracy", evaluate, restored, report)
ratio = cost.model_bytes(dense) / stored_bytes("deep_compressed")
print(f"{cost.sparsity(restored):.1%} of the weights are 0; ", end="")
print(f"fp32 {cost.model_bytes(dense):,} bytes, file {stored_bytes('deep_compressed'):,}: ", end="")
print(f"{ratio:.1f} times smaller, accuracy {dense_accuracy:.1%} to {deep_accuracy:.1%}")

# %% [markdown]
# ## 11 · What the hardware cashed in


# %%
sizes = {"fp32": cost.model_bytes(dense)}
sizes |= {
    name: stored_bytes(name) for name in ("int8_model", "w4_model", "w4a4_model", "deep_compressed")
}
for name, size in sizes.items():
    print(f"{name:11s} {size:9,d} bytes, {sizes['fp32'] / size:4.1f} times smaller")
print(f"int8 kernel {kernel_speeds['int8, yours']:.2f} times the plain fp32 loop, ", end="")
print(f"{kernel_speeds['int8, yours'] / kernel_speeds['torch, fp32']:.2f} times torch's")

# %% [markdown]
# ### Reflection
# Answer in a few sentences each, with numbers that you measured. These are graded by a person.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_predictions", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Predicted against measured (4 points).** Which of your three predictions was furthest off? Explain
# the difference by the distribution of the weights or by what the instructions do.
#
# ### BEGIN SOLUTION
# A full answer compares all pairs of numbers and gives a mechanism for each. Codebooks follow the
# density of the weights, so few bits suffice until the tails and the first layer lose their values.
# W4A4 with one scale a tensor loses points because the largest weight of any channel sets the step
# of all of them; activations lose little once they are clipped. The plain int8 loop is vectorized by
# the compiler while the fp32 sum may not be reordered; a tile of C in registers multiplies each
# loaded value several times, which is where the rest comes from.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_bottleneck", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **The bottleneck (3 points).** Eight bits are a quarter of 32. Your file shrank by how much, your
# kernel gained how much? Name what keeps each of the two from being exactly 4, on this CPU.
#
# ### BEGIN SOLUTION
# A full answer: the file also holds int32 biases, multipliers, shifts and names, so a little less
# than 4 (and batch norm is gone, which gives some back). The kernel: AVX2 multiplies 8 floats an
# instruction and adds them in the same one (FMA); vpmaddubsw multiplies 32 codes, but needs abs and
# sign, a second vpmaddwd and an addition, so four instructions for 32 products against four FMAs;
# what is left comes from bytes moved and from tiling. With VNNI one instruction would do all of it.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_device", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Another device (3 points).** A microcontroller without floating point, or a GPU whose tensor cores
# have an FP8 and an FP4 path. Which of this lab's formats would you deploy there, and what would you
# have to measure again?
#
# ### BEGIN SOLUTION
# A full answer picks one device and argues from it. Microcontroller: int8 with fixed-point
# requantization is the only one that runs at all without emulation; 4-bit weights save flash but
# have to be unpacked before they are multiplied, so cycles must be measured again; per-channel
# multipliers cost a few cycles each output. GPU: rounding and ranges of floating formats differ from
# evenly spaced codes, so thresholds and AdaRound's scales must be found again; batch size decides
# whether bytes or arithmetic are the limit.
# ### END SOLUTION

# %% [markdown]
# Hand in the notebook with its outputs: save it, then run the next line.

# %%
# lab.package()
