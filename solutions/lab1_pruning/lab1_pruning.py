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
# # Lab 1 · Pruning
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/labs/lab1_pruning/lab1_pruning.ipynb)
#
# Read Lectures 3 and 4 first. About 3 hours of work; the computing takes about 10 minutes on two
# CPU cores, and what has been computed once is kept in `outputs/`.
#
# **The question:** a network still works when most of its weights are gone. *What does removing
# them buy on the machine that runs it:* fewer bytes, less time, both, or neither?
#
# You write small functions, which leave their arguments as they are unless the text says otherwise;
# `lab.check("name")` tests them and shows the points. Three
# networks come out of it and are measured, here on validation images and in grading on others:
# a sparse one, a fast one, and a compressed file.
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
}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()

# %%
import copy
import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from autograder import Lab
from codesign import cost, huffman, measure, plot, resumable
from codesign.checkpoints import rebuild
from codesign.colab import keep_in_drive
from codesign.datasets import ImageSet, normalize
from codesign.training import distillation, evaluate, fit

plot.theme()

# %%
KEEP_IN_DRIVE = False  # in Colab: True keeps outputs/ in your Drive, where they outlive the session
folder = keep_in_drive("lab1_pruning") if KEEP_IN_DRIVE else None
lab = Lab("lab1_pruning", folder=folder or ".")

# %% tags=["parameters"]
TRAIN_IMAGES = 45_000  # or as many as there are
SCAN_IMAGES = 500  # validation images of the scans
SPARSE_EPOCHS = 3.0  # fine-tuning of the sparse network
FAST_EPOCHS = 6.0  # fine-tuning of the narrow network
SHORT_STEPS = 15  # updates of each NetAdapt proposal
SEARCH_IMAGES = 2_000  # validation images that score a proposal
TABLE_ROUNDS = 15  # samples of each latency in the lookup table
SEED = lab.seed  # of every training

# %% [markdown]
# The network is the course's reference CNN, a small VGG: seven 3×3 convolutions, each with batch
# norm and ReLU, max pools between some of them, the mean over all positions of each channel, then
# one linear layer. Its weights are trained already. One MAC is one multiply
# and one add.

# %%
train = lab.train.head(TRAIN_IMAGES)
few = lab.val.head(SCAN_IMAGES)
dense = lab.dense()
dense_accuracy = lab.produce("dense_accuracy", evaluate, dense, lab.val)

print(f"{cost.parameters(dense):,} parameters, {cost.macs(dense):,} MACs", end=", ")
print(f"{cost.model_bytes(dense) / 1e6:.2f} MB in fp32, validation accuracy {dense_accuracy:.1%}")
for layer in cost.layers(dense):
    print(f"{layer.name:18s} {layer.params:8,d} parameters {layer.macs:11,d} MACs")


# %%
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1 accuracy in 0..1 of ``model`` on images ``[N, 3, 32, 32]`` uint8, labels ``[N]``."""
    return evaluate(model, ImageSet(images, labels, lab.val.card))


# %% [markdown]
# ## 1 · Fine-grained pruning
#
# Pruning multiplies a weight tensor $W$ by a binary mask $M$ of the same shape:
#
# $$ W' = M \odot W, \qquad s = \frac{\text{zeros in } M}{\text{size of } M}. $$
#
# The simplest criterion keeps the weights of largest magnitude $|w|$. The mask must have *exactly*
# $\mathrm{round}(s \cdot \text{size})$ zeros, also where several weights are equal: a threshold
# alone does not give that.


# %% nbgrader={"grade": false, "grade_id": "solution_fine_grained_prune", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fine_grained_prune(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Mask that removes the weights of smallest magnitude.

    Args:
        weight: float32 of any shape.
        sparsity: share of weights to remove, from 0 to 1, both included.

    Returns:
        bool, the shape of ``weight``, with exactly ``round(sparsity * weight.numel())`` False.
    """
    ### BEGIN SOLUTION
    zeros = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[weight.abs().flatten().argsort()[:zeros]] = False
    return mask.reshape(weight.shape)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "fine_grained_prune", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("fine_grained_prune")  # 8 points

# %% [markdown]
# **Predict.** Every layer loses 80 % of its weights, the smallest ones, and nothing is trained
# afterwards. What is the validation accuracy, in percent? Write your number before you run the
# measurement; you will explain the difference at the end.

# %% nbgrader={"grade": false, "grade_id": "predict_one_shot", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_one_shot = ...  validation accuracy in percent
### BEGIN SOLUTION
predicted_one_shot = 60.0
### END SOLUTION


# %%
def one_shot(sparsities: list[float]) -> dict:
    """Accuracy of the dense network after pruning every layer to each sparsity, untrained."""
    found = []
    for sparsity in sparsities:
        model = lab.dense()
        with torch.no_grad():
            for layer in cost.weighted_layers(model).values():
                layer.weight.mul_(fine_grained_prune(layer.weight.detach(), sparsity))
        found.append(evaluate(model, few))
    return {"sparsity": sparsities, "accuracy": found}


uniform = lab.produce("one_shot", one_shot, [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
measured_one_shot = 100 * uniform["accuracy"][uniform["sparsity"].index(0.8)]
print(f"80 % pruned: predicted {predicted_one_shot:.1f} %, measured {measured_one_shot:.1f} %")

# %% [markdown]
# ## 2 · Which layer can spare its weights?
#
# Layers differ. A *sensitivity scan* prunes one layer at a time, measures the accuracy, and puts
# the weights back before it goes on. Your function gets the masks ready-made, a list for each
# layer, and returns one accuracy for each mask.


# %% nbgrader={"grade": false, "grade_id": "solution_sensitivity_scan", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sensitivity_scan(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    masks: dict[str, list[torch.Tensor]],
) -> dict[str, list[float]]:
    """Accuracy of ``model`` with one mask on one layer, for each mask of each layer.

    Args:
        images, labels: uint8 ``[N, 3, 32, 32]`` and int64 ``[N]``; give them to ``accuracy``.
        masks: layer name (as in ``cost.weighted_layers(model)``) to one or more bool masks of its
            weight. Layers may be missing.

    Returns:
        layer name to accuracies in 0..1, in the order of its masks. The model is left as it was:
        weights, training mode, ``requires_grad``.
    """
    ### BEGIN SOLUTION
    layers, found = cost.weighted_layers(model), {}
    for name, listed in masks.items():
        weight = layers[name].weight.data
        original, found[name] = weight.clone(), []
        for mask in listed:
            weight.copy_(original * mask)
            found[name].append(accuracy(model, images, labels))
        weight.copy_(original)
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "sensitivity_scan", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("sensitivity_scan")  # 8 points


# %%
def scan(sparsities: list[float]) -> dict:
    """Run ``sensitivity_scan`` on the dense network with magnitude masks."""
    layers = cost.weighted_layers(dense)
    masks = {
        name: [fine_grained_prune(layer.weight.detach(), s) for s in sparsities]
        for name, layer in layers.items()
    }
    found = sensitivity_scan(dense, few.images, few.labels, masks)
    return {"sparsity": sparsities, "accuracy": found, "dense": evaluate(dense, few)}


sensitivity = lab.produce("sensitivity", scan, [0.4, 0.6, 0.7, 0.8, 0.9, 0.95])

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
for name, values in sensitivity["accuracy"].items():
    axis.plot(sensitivity["sparsity"], values, "o-", label=name.removeprefix("features."))
axis.axhline(sensitivity["dense"], color="gray", linestyle=":", label="dense")
axis.set(xlabel="sparsity of this layer alone", ylabel="validation accuracy")
axis.legend(fontsize=8, ncols=2)
plt.show()

# %% [markdown]
# *Each curve prunes one layer and leaves the others dense. Where a curve bends down early, weights
# are needed; a curve that stays flat marks weights to spare.*
#
# ## 3 · A better criterion than magnitude: the second derivative
#
# Magnitude ignores what a weight is multiplied by. *Optimal Brain Damage* (LeCun, Denker, Solla
# 1990) expands the loss around its minimum, where the gradient is zero, and keeps the diagonal of
# the Hessian $H$: removing weight $w$ costs about $\frac12 H_{ww} w^2$.
#
# For the last linear layer with softmax cross-entropy the diagonal is known in closed form. With
# inputs $x_n$ (features), logits $z_n = W x_n + b$ and $p_n = \mathrm{softmax}(z_n)$,
#
# $$ \frac{\partial^2 L}{\partial w_{jk}^2} = \frac1N \sum_n p_{nj}\,(1 - p_{nj})\,x_{nk}^2,
# \qquad \text{score}_{jk} = \frac12 \frac{\partial^2 L}{\partial w_{jk}^2}\, w_{jk}^2 . $$


# %% nbgrader={"grade": false, "grade_id": "solution_second_order_scores", "locked": false, "schema_version": 3, "solution": true, "task": false}
def second_order_scores(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Estimated increase of the mean cross-entropy when each weight alone is set to zero.

    Args:
        features: float32 ``[N, K]``, the inputs of the linear layer.
        weight, bias: float32 ``[C, K]`` and ``[C]`` of the linear layer.

    Returns:
        float32 ``[C, K]``: 1/2 · mean_n p_nj (1 - p_nj) x_nk² · w_jk².
    """
    ### BEGIN SOLUTION
    p = (features @ weight.T + bias).softmax(1)
    hessian = (p * (1 - p)).T @ features.square() / len(features)
    return 0.5 * hessian * weight.square()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "second_order_scores", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("second_order_scores")  # 10 points


# %%
@torch.no_grad()
def compare_criteria(sparsities: list[float]) -> dict:
    """Loss after pruning the classifier alone, by magnitude and by the second-order score."""
    sample, layer = train.head(2_000), dense.classifier
    features = torch.cat(
        [dense.features(normalize(x)).mean((2, 3)) for x in sample.images.split(500)]
    )
    weight, bias = layer.weight.detach(), layer.bias.detach()
    scores = second_order_scores(features, weight, bias)
    found: dict = {"sparsity": sparsities}
    for name, score in {"magnitude": weight.abs(), "second order": scores}.items():
        masks = [fine_grained_prune(score, s) for s in sparsities]
        logits = [features @ (weight * mask).T + bias for mask in masks]
        found[name] = [float(functional.cross_entropy(z, sample.labels)) for z in logits]
    return found


criteria = lab.produce("criteria", compare_criteria, [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
figure, axis = plt.subplots(figsize=(6, 3.2))
for name in ("magnitude", "second order"):
    axis.plot(criteria["sparsity"], criteria[name], "o-", label=name)
axis.set(xlabel="sparsity of the classifier", ylabel="cross-entropy, 2,000 training images")
axis.legend()
plt.show()

# %% [markdown]
# *The same number of weights removed from the last layer, chosen in two ways; the lower curve chose
# better. Nothing was trained after the removal.*
#
# ## 4 · The sparse network
#
# Pruned networks recover when they are trained on, as long as the removed weights stay away. So:
# multiply by the given masks, then fine-tune with `fit`, and multiply by the masks again **after
# every update** (momentum and weight decay move zeros, too). The dense network may help:
# `distillation([teacher])`, a loss of `codesign.training`, also asks for the teacher's answers.
#
# The sparsity of each layer comes from your scan: `allocate` allows every layer the same loss of
# accuracy and looks for the loss at which the whole network reaches the target.
#
# **Points.** Full points for a sparsity of 80 % (none at 50 %) and a loss of accuracy of at most 1 %
# (glyphs: 2 %; none at 6 %). The points for accuracy count in proportion to those for sparsity, and
# sparsity counts only while accuracy earns something. The architecture stays. The check also calls
# your function on a tiny network of other widths, once with 1 and once with 4 epochs: the second has
# to make four times as many updates.


# %%
def allocate(scan: dict, sizes: dict[str, int], target: float) -> dict[str, float]:
    """Sparsity of each layer, so that together they reach ``target``: one bound on the drop."""
    points = np.array([0.0, *scan["sparsity"], 0.99])
    low, high = 0.0, 1.0
    for _ in range(40):
        bound, chosen = (low + high) / 2, {}
        for name, values in scan["accuracy"].items():
            drops = np.maximum.accumulate([0.0, *(scan["dense"] - np.array(values)), 1.0])
            chosen[name] = float(np.interp(bound, drops + 1e-9 * np.arange(len(drops)), points))
        reached = sum(chosen[n] * sizes[n] for n in sizes) / sum(sizes.values())
        low, high = (bound, high) if reached < target else (low, bound)
    return chosen


sizes = {name: layer.weight.numel() for name, layer in cost.weighted_layers(dense).items()}
sparsities = allocate(sensitivity, sizes, target=0.805)
for name, value in sparsities.items():
    print(f"{name:18s} {value:6.1%} of {sizes[name]:7,d}")


# %% nbgrader={"grade": false, "grade_id": "solution_sparse_model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def prune_and_finetune(
    model: nn.Module,
    masks: dict[str, torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    epochs: float,
    resume: Path | None = None,
) -> nn.Module:
    """Prune ``model`` by its masks, fine-tune it under them, return it (``model`` itself).

    Use ``fit(model, data, epochs=..., lr=..., after_step=function_of_the_model)``; a peak learning
    rate of 0.01 to 0.05 suits, and ``loss=distillation([teacher])`` recovers faster than the labels
    alone: a copy of ``model`` from before the pruning is a teacher.

    Args:
        masks: layer name to bool mask of its weight. In the end exactly the weights where it is
            False are zeros.
        images, labels: uint8 ``[N, 3, 32, 32]`` and int64 ``[N]``, labels 0 to 9; for ``fit``,
            ``ImageSet(images, labels, lab.val.card)``.
        epochs: passes over the images.
        resume: give it to ``fit``: an interrupted training then goes on where it was.
    """
    ### BEGIN SOLUTION
    layers, teacher = cost.weighted_layers(model), copy.deepcopy(model)

    @torch.no_grad()
    def apply_masks(_: nn.Module) -> None:
        for name, layer in layers.items():
            layer.weight.mul_(masks[name])

    apply_masks(model)
    options = {"lr": 0.04, "seed": SEED, "loss": distillation([teacher]), "resume": resume}
    data = ImageSet(images, labels, lab.val.card)
    fit(model, data, epochs=epochs, after_step=apply_masks, desc="sparse network", **options)
    return model
    ### END SOLUTION


# %%
def sparse(sparsities: dict[str, float], epochs: float) -> nn.Module:
    """The dense network pruned to the sparsity of each layer, by magnitude, and fine-tuned."""
    model, resume = lab.dense(), lab.unfinished("sparse_model")
    masks = {
        name: fine_grained_prune(layer.weight.detach(), sparsities[name])
        for name, layer in cost.weighted_layers(model).items()
    }
    return prune_and_finetune(model, masks, train.images, train.labels, epochs, resume)


sparse_model = lab.produce("sparse_model", sparse, sparsities, SPARSE_EPOCHS)

# %% nbgrader={"grade": true, "grade_id": "sparse_model", "locked": true, "points": 14, "schema_version": 3, "solution": false, "task": false}
lab.check("sparse_model")  # 14 points

# %% [markdown]
# **Predict.** The sparse network has a fifth of the weights. How long does it take for one image
# on this CPU, in percent of the dense network's time?

# %% nbgrader={"grade": false, "grade_id": "predict_sparse_latency", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_sparse_latency = ...  percent of the dense network's latency
### BEGIN SOLUTION
predicted_sparse_latency = 100.0
### END SOLUTION


# %%
def latency_ratio(model: nn.Module) -> dict:
    """Latency of ``model`` / dense at batch 1, paired and interleaved: median and its spread."""
    candidates = {"dense": measure.inference(lab.dense()), "model": measure.inference(model)}
    ratio = measure.latency(candidates, rounds=60, sample_s=0.008).ratio("model", "dense")
    return {"median": ratio.median, "iqr": ratio.iqr, "n": ratio.n, "machine": ratio.machine}


sparse_latency = lab.produce("sparse_latency", latency_ratio, sparse_model)
print(
    f"predicted {predicted_sparse_latency:.0f} %, measured {sparse_latency['median']:.0%} ", end=""
)
print(f"(IQR {sparse_latency['iqr']:.0%}, n={sparse_latency['n']}) on {sparse_latency['machine']}")

# %% [markdown]
# The kernels behind `nn.Conv2d` multiply zeros like any other number. To save time, remove what
# the kernel loops over.
#
# ## 5 · Channel pruning
#
# Removing output channel $j$ of a convolution leaves smaller *dense* tensors: a row of its weight,
# the channel's batch-norm parameters **and running statistics**, and an input channel of
# the next convolution or, of the last one, column $j$ of the classifier. No zero is stored and none
# multiplied.
#
# A common importance of channel $j$ is the L2 norm of its weights,
# $\lVert W_j \rVert_2 = \sqrt{\sum_{c,u,v} W_{jcuv}^2}$.


# %% nbgrader={"grade": false, "grade_id": "solution_channel_importance", "locked": false, "schema_version": 3, "solution": true, "task": false}
def channel_importance(weight: torch.Tensor) -> torch.Tensor:
    """L2 norm of each output channel: float32 ``[C_out, C_in, k, k]`` to ``[C_out]``."""
    ### BEGIN SOLUTION
    return weight.flatten(1).norm(dim=1)
    ### END SOLUTION


# %% [markdown]
# A course model is rebuilt from its config and a `state_dict`: `rebuild(config, state)`. In
# `model.config["channels"]`, `"M"` stands for a pool and counts as no convolution. The tensors of
# convolution 3 are `features.conv3.weight` and `features.bn3.weight`, `.bias`, `.running_mean`,
# `.running_var`, and `features.bn3.num_batches_tracked`, one number that stays as it is; the last
# layer is `classifier`. `rebuild` wants every name of `model.state_dict()`, and a config whose
# `"channels"` have the new width. The check is of both functions, the importance and the pruning.

# %%
print(dense.config["channels"])
print([name for name in dense.state_dict() if "3" in name or "classifier" in name])


# %% nbgrader={"grade": false, "grade_id": "solution_channel_prune", "locked": false, "schema_version": 3, "solution": true, "task": false}
def channel_prune(model: nn.Module, layer: int, keep: torch.Tensor) -> nn.Module:
    """A smaller copy of a VGG: ``conv<layer>`` has only the output channels ``keep``.

    Args:
        model: a VGG of any widths, pools and classes; left unchanged.
        layer: number of the convolution, counted from 0 without pools; it may be the last one.
        keep: int64 ``[kept]``, ascending, at least one: the channels that stay.

    Returns:
        a new VGG that computes what ``model`` computes with the other channels zero after ReLU.
    """
    ### BEGIN SOLUTION
    state, channels = dict(model.state_dict()), list(model.config["channels"])
    places = [i for i, item in enumerate(channels) if item != "M"]
    channels[places[layer]] = len(keep)
    own = [f"bn{layer}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    for name in (f"conv{layer}.weight", *own):
        state[f"features.{name}"] = state[f"features.{name}"][keep]
    last = layer == len(places) - 1
    following = "classifier.weight" if last else f"features.conv{layer + 1}.weight"
    state[following] = state[following][:, keep]
    return rebuild({**model.config, "channels": channels}, state)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "channel_prune", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("channel_prune")  # 10 points

# %% [markdown]
# **Predict.** Half of the channels of *every* convolution are removed. One image then takes what
# share of the dense network's time, in percent? (Count the MACs first.)

# %% nbgrader={"grade": false, "grade_id": "predict_half_latency", "locked": false, "schema_version": 3, "solution": true, "task": false}
# predicted_half_latency = ...  percent of the dense network's latency
### BEGIN SOLUTION
predicted_half_latency = 26.0
### END SOLUTION


# %%
def shrink(model: nn.Module, layer: int, width: int) -> nn.Module:
    """``model`` with the ``width`` most important channels of ``conv<layer>``."""
    weight = model.features.get_submodule(f"conv{layer}").weight.detach()
    keep = channel_importance(weight).topk(width).indices.sort().values
    return channel_prune(model, layer, keep)


def widths_of(model: nn.Module) -> list[int]:
    """Output channels of each convolution."""
    return [item for item in model.config["channels"] if item != "M"]


def halve() -> dict:
    """MACs and latency of the dense network with half of its channels, relative to it."""
    model = lab.dense()
    for layer, width in enumerate(widths_of(model)):
        model = shrink(model, layer, width // 2)
    return {"macs": cost.macs(model) / cost.macs(dense), **latency_ratio(model)}


half = lab.produce("half", halve)
print(f"MACs {half['macs']:.0%}; latency predicted {predicted_half_latency:.0f} %, ", end="")
print(f"measured {half['median']:.0%} (IQR {half['iqr']:.0%}, n={half['n']})")

# %% [markdown]
# ## 6 · Repair without training: least squares
#
# After channels are removed, the next layer still has the weights that suited the full input. The
# best linear repair (He, Zhang, Sun 2017) chooses them anew, so that on sample inputs the layer's
# outputs $Y$ `[N, C]` come out of the remaining inputs $X$ `[N, K]`:
#
# $$ \hat W = \arg\min_W \lVert X W^{\top} - Y \rVert_2^2, \qquad W \in \mathbb{R}^{C \times K}. $$
#
# Dead channels make columns of $X$ zero or dependent; the answer must be finite then, too. Name a
# driver that is made for it, `gelsd` or `gelss`: the default of `torch.linalg.lstsq` on a CPU,
# `gelsy`, can fail where a column is zero.


# %% nbgrader={"grade": false, "grade_id": "solution_reconstruct", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reconstruct(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Weights of a linear layer that map ``inputs`` to ``outputs`` with the least squared error.

    Args:
        inputs, outputs: float32 ``[N, K]`` and ``[N, C]``, N ≥ K.

    Returns:
        float32 ``[C, K]``; any of the best where columns of ``inputs`` are linearly dependent, and
        finite where one is zero.
    """
    ### BEGIN SOLUTION
    return torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution.T
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "reconstruct", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("reconstruct")  # 8 points

# %% [markdown]
# A convolution is a linear layer on 3×3 patches. `patches` collects the inputs of one convolution
# as rows; with them the repair is three lines.


# %%
@torch.no_grad()
def patches(model: nn.Module, layer: int, images: torch.Tensor) -> torch.Tensor:
    """Inputs of ``conv<layer>`` as rows ``[N, C_in · 9]``, one for each image and pixel."""
    x = normalize(images)
    for name, module in model.features.named_children():
        if name == f"conv{layer}":
            break
        x = module(x)
    return functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def repair(layer: int, width: int) -> dict:
    """Accuracy with ``conv<layer>`` narrowed: as it is, and with the next layer reconstructed."""
    narrow, images = shrink(dense, layer, width), train.head(300).images
    following = narrow.features.get_submodule(f"conv{layer + 1}")
    wanted = dense.features.get_submodule(f"conv{layer + 1}").weight.flatten(1)
    before = evaluate(narrow, few)
    outputs = patches(dense, layer + 1, images) @ wanted.T
    weight = reconstruct(patches(narrow, layer + 1, images), outputs)
    following.weight.copy_(weight.view_as(following.weight))
    return {"dense": evaluate(dense, few), "pruned": before, "repaired": evaluate(narrow, few)}


for name, value in lab.produce("repair", repair, 3, 32).items():
    print(f"{name:9s} {value:.1%}")

# %% [markdown]
# ## 7 · NetAdapt: to a latency budget
#
# Which layers to narrow, and how far? *NetAdapt* (Yang et al. 2018) asks the device. A lookup table
# holds the **measured** seconds of every layer at every width; the latency of a network is the sum.
# In each round the budget falls a little, and each layer makes one proposal: its own widest width
# that alone brings the network within the budget. Every proposal is narrowed, trained briefly and
# evaluated; the most accurate one goes into the next round.
#
# First the table: `table[l, i, j]` is the time of block $l$ (convolution, batch norm, ReLU, pool if
# there is one) with $(i+1) \cdot \text{STEP}$ input and $(j+1) \cdot \text{STEP}$ output channels.
# Block 0 reads the image, so its $i$ is 0.
#
# **Points.** Full points for a measured latency of 0.50 of the dense network's (none at 0.90) and a
# loss of at most 5 % (none at 10 %; glyphs: 2.5 % and 8 %), jointly as in section 4. Layers may be
# narrower, nothing else may differ.

# %%
STEP = 8


def blocks(channels: list) -> list[tuple[int, int, int, bool]]:
    """(c_in, c_out, image size, followed by a pool) of each convolution."""
    found, c_in, size = [], 3, 32
    for item, following in zip(channels, [*channels[1:], None], strict=True):
        if item == "M":
            size //= 2
        else:
            found.append((c_in, item, size, following == "M"))
            c_in = item
    return found


def block(c_in: int, c_out: int, pool: bool) -> nn.Sequential:
    """What one convolution of the VGG brings with it."""
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    end = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True), *end)


# %%
def lookup_table() -> dict[str, torch.Tensor]:
    """Measured seconds ``[layer, c_in index, c_out index]`` at batch 1; 0 where there is no block."""
    calls = {}
    for i, (c_in, c_out, size, pool) in enumerate(blocks(dense.config["channels"])):
        for a in [3] if i == 0 else range(STEP, c_in + 1, STEP):
            for b in range(STEP, c_out + 1, STEP):
                call = measure.inference(block(a, b, pool), (1, a, size, size))
                calls[i, 0 if i == 0 else a // STEP - 1, b // STEP - 1] = call
    found = measure.latency(calls, rounds=TABLE_ROUNDS, warm_up=1, sample_s=1e-3)
    table = torch.zeros(len(widths_of(dense)), 16, 16, dtype=torch.float64)
    for place in calls:
        table[place] = found[place].median
    return {"seconds": table}


table = lab.produce("latency_table", lookup_table)["seconds"]


# %%
def predicted_s(model: nn.Module) -> float:
    """Latency of ``model`` by the table."""
    index = [0, *(width // STEP - 1 for width in widths_of(model))]
    return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(index) - 1))


def dense_latency() -> dict:
    """Measured latency of the dense network."""
    found = measure.latency({"dense": measure.inference(lab.dense())}, sample_s=0.008)["dense"]
    return {"median": found.median, "iqr": found.iqr, "n": found.n}


dense_s = lab.produce("dense_latency", dense_latency)["median"]
print(f"dense: table {predicted_s(dense) * 1e3:.2f} ms, measured {dense_s * 1e3:.2f} ms")

figure, axis = plt.subplots(figsize=(6, 3.2))
widths = range(STEP, 129, STEP)
for c_in in (32, 64, 128):
    axis.plot(widths, 1e3 * table[5, c_in // STEP - 1], "o-", label=f"{c_in} input channels")
axis.set(xlabel="output channels of conv5", ylabel="latency in ms")
axis.legend()
plt.show()

# %% [markdown]
# *Measured latency of one layer against its width. Straight lines through the origin would mean
# that time is MACs; steps and offsets are what the kernel and the caches make of them.*


# %% nbgrader={"grade": false, "grade_id": "solution_netadapt_proposals", "locked": false, "schema_version": 3, "solution": true, "task": false}
def netadapt_proposals(
    widths: list[int], table: torch.Tensor, target_s: float, step: int
) -> list[int | None]:
    """For each layer, the widest width that alone brings the network to ``target_s``.

    Args:
        widths: output channels of each layer, multiples of ``step``. Layer l reads ``widths[l-1]``.
        table: seconds, float64 ``[layer, c_in index, c_out index]``; index i means ``(i + 1) *
            step`` channels, and c_in index 0 for layer 0. Wider need not be slower.
        target_s: the sum over layers must not exceed it.

    Returns:
        one entry a layer: the widest of ``step``, ``2 * step``, ... below its present width that is
        enough while the other layers keep theirs, also where the budget is met already; None where
        there is none (a layer of width ``step`` has no narrower one).
    """

    ### BEGIN SOLUTION
    def network_s(widths: list[int]) -> float:
        index = [0, *(width // step - 1 for width in widths)]
        return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))

    def widest(layer: int) -> int | None:
        for width in range(widths[layer] - step, 0, -step):
            if network_s([*widths[:layer], width, *widths[layer + 1 :]]) <= target_s:
                return width
        return None

    return [widest(layer) for layer in range(len(widths))]
    ### END SOLUTION


# %% [markdown]
# Now one round. Every proposal becomes a candidate: a network that is narrowed and trained for a
# few updates. The most accurate one is what the round gives. How a candidate is made and scored are
# functions that your function is given: here those below, in `lab.check` others that only count.
# The check is of both, the proposals and the round.


# %%
def short_finetune(model: nn.Module) -> nn.Module:
    """Train ``model`` for ``SHORT_STEPS`` updates, return it."""
    epochs = SHORT_STEPS * 64 / len(train)
    fit(model, train, epochs=epochs, lr=0.01, seed=SEED, desc="proposal")
    return model


def score(model: nn.Module) -> float:
    """Accuracy of a proposal."""
    return evaluate(model, lab.val.head(SEARCH_IMAGES))


# %% nbgrader={"grade": false, "grade_id": "solution_netadapt_round", "locked": false, "schema_version": 3, "solution": true, "task": false}
def netadapt_round(
    widths: list[int],
    table: torch.Tensor,
    target_s: float,
    step: int,
    candidate: Callable[[int, int], Any],
    score: Callable[[Any], float],
) -> Any:
    """One round: the most accurate candidate among the proposals for ``target_s``.

    Args:
        widths, table, target_s, step: as in ``netadapt_proposals``: float64 ``[layer, c_in index,
            c_out index]``.
        candidate: ``candidate(layer, width)`` narrows one layer and trains briefly: a network. It
            is called once for each proposal.
        score: ``score(network)`` is its accuracy.

    Returns:
        the candidate with the highest score, None where there is no proposal.
    """
    ### BEGIN SOLUTION
    proposals = netadapt_proposals(widths, table, target_s, step)
    candidates = [
        candidate(layer, width) for layer, width in enumerate(proposals) if width is not None
    ]
    return max(candidates, key=score, default=None)
    ### END SOLUTION


# %%
def rehearsed_round(
    widths: list[int], table: torch.Tensor, target_s: float, step: int, scores: torch.Tensor
) -> tuple[Any, list]:
    """A round on pairs (layer, width) instead of networks, for ``lab.check``.

    Args:
        scores: of each pair, ``[layer, c_out index]``.

    Returns:
        the pair that was chosen, and all that were "trained".
    """
    trained: list[tuple[int, int]] = []

    def candidate(layer: int, width: int) -> tuple[int, int]:
        trained.append((layer, width))
        return layer, width

    def looked_up(pair: tuple[int, int]) -> float:
        return float(scores[pair[0], pair[1] // step - 1])

    return netadapt_round(widths, table, target_s, step, candidate, looked_up), trained


# %% nbgrader={"grade": true, "grade_id": "netadapt", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
lab.check("netadapt")  # 6 points

# %% [markdown]
# The sum over the table leaves out what happens between layers, so it has the word while the search
# goes on, and the stopwatch has the last one: rounds follow one another until the *measured* ratio
# is small enough.


# %%
def narrower(model: nn.Module, target_s: float) -> nn.Module | None:
    """One round of NetAdapt from ``model``; None where no layer alone brings it to ``target_s``."""

    def candidate(layer: int, width: int) -> nn.Module:
        return short_finetune(shrink(model, layer, width))

    return netadapt_round(widths_of(model), table, target_s, STEP, candidate, score)


def fast(ratio: float, epochs: float) -> nn.Module:
    """NetAdapt in small steps down to a measured latency ratio, then a long fine-tuning.

    What each round has found is kept, so that an interrupted search goes on with the next round.
    """
    rounds = lab.unfinished("fast_model", "rounds")
    model, history = resumable.kept(rounds) or (lab.dense(), [[1.0, widths_of(dense)]])
    for measured, widths in history:
        print(f"latency {measured:.0%} of dense, widths {widths}")
    while history[-1][0] > ratio and len(history) <= 40:
        found = narrower(model, 0.95 * predicted_s(model))
        if found is None:
            break
        model = found
        history.append([latency_ratio(model)["median"], widths_of(model)])
        print(f"latency {history[-1][0]:.0%} of dense, widths {history[-1][1]}")
        resumable.keep(rounds, model, history)
    resume, loss = lab.unfinished("fast_model"), distillation([dense])
    fit(model, train, epochs=epochs, lr=0.05, seed=SEED, loss=loss, resume=resume, desc="fast")
    return model


fast_model = lab.produce("fast_model", fast, 0.48, FAST_EPOCHS)
print(widths_of(dense), "became", widths_of(fast_model))

# %% nbgrader={"grade": true, "grade_id": "fast_model", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
lab.check("fast_model")  # 10 points

# %% [markdown]
# ## 8 · Between the two: N:M sparsity
#
# Some hardware does skip fine-grained zeros, if they follow a pattern. *2:4 sparsity* keeps two of
# every four consecutive weights, so a group of four needs two values and two 2-bit positions; the
# sparse tensor cores of NVIDIA's Ampere use them to pick the two inputs that matter (Mishra et al.
# 2021).
#
# `nm_pack` stores positions as a device would read them: ascending within each group, 2 bits each,
# four positions to a byte, the first one in the lowest two bits. So a byte serves two groups, and
# positions $q_0 \dots q_3$, each from 0 to 3 within its own group, make the byte
# $q_0 + 4 q_1 + 16 q_2 + 64 q_3$. The check is of both, the mask and the packing.


# %% nbgrader={"grade": false, "grade_id": "solution_nm_prune", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nm_prune(weight: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask that keeps the ``n`` largest magnitudes of every ``m`` consecutive weights.

    Args:
        weight: float32 ``[..., K]``, K a multiple of ``m``; groups lie along the last dimension.
        n, m: 1 ≤ n ≤ m.

    Returns:
        bool ``[..., K]``, exactly ``n`` True in each group, also where magnitudes are equal.
    """
    ### BEGIN SOLUTION
    groups = weight.abs().reshape(-1, m)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter(1, groups.topk(n, dim=1).indices, True).reshape(weight.shape)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "solution_nm_pack", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nm_pack(weight: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack a 2:4 sparse tensor.

    Args:
        weight, mask: float32 and bool ``[..., K]``, K a multiple of 8, two True in each four. What
            is kept may be 0.

    Returns:
        values float32 ``[..., K/2]`` in their order, and positions as uint8 ``[..., K/8]``.
    """
    ### BEGIN SOLUTION
    lead = weight.shape[:-1]
    values = weight[mask].reshape(*lead, -1)
    positions = mask.reshape(-1, 4).nonzero()[:, 1].reshape(*lead, -1, 4)
    metadata = (positions * torch.tensor([1, 4, 16, 64])).sum(-1)
    return values, metadata.to(torch.uint8)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "nm_prune", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
lab.check("nm_prune")  # 8 points

# %% [markdown]
# What does the pattern cost? The share of the squared weights that survives when half of conv5 is
# removed in three ways, and the bytes of what is left:

# %%
kernels = dense.features.conv5.weight.detach()
weight = kernels.flatten(1)
channels = channel_importance(kernels).argsort()[: len(weight) // 2]
half_masks = {
    "fine-grained": fine_grained_prune(weight, 0.5),
    "2:4": nm_prune(weight, 2, 4),
    "channels": torch.ones_like(weight, dtype=torch.bool).index_fill(0, channels, False),
}
values, metadata = nm_pack(weight, half_masks["2:4"])
stored_bytes = {
    "fine-grained": cost.relative_index_bytes(weight * half_masks["fine-grained"]),
    "2:4": values.nbytes + metadata.nbytes,
    "channels": weight.nbytes // 2,
}
for name, mask in half_masks.items():
    kept = float((weight * mask).square().sum() / weight.square().sum())
    share = stored_bytes[name] / weight.nbytes
    print(f"{name:13s} keeps {kept:.1%} of the squared weights in {share:.1%} of the bytes")

# %% [markdown]
# ## 9 · The file: Deep Compression's coding
#
# Sparse weights save bytes only if the zeros are left out *and can be put back*. Deep Compression
# (Han, Mao, Dally 2016) stores each nonzero weight as a small code beside the number of zeros
# before it, and gives frequent symbols short codewords (Huffman). `quantize` replaces weights by
# codes into a codebook of evenly spaced levels; code 0 is the weight 0. Choosing levels well is the
# subject of Lab 2.
#
# **Points.** Full points for a file 15 times smaller than fp32 (none at 4) and a loss of at most
# 1.5 % (glyphs: 2.5 %; none at 6.5 %), jointly as in section 4.


# %%
def quantize(weight: torch.Tensor, levels: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes int64 (shape of ``weight``) and codebook ``[2 · levels + 1]``, nearest entry.

    The spacing is the one with the least squared error of a few; entry 0 is 0.
    """
    steps = torch.arange(1, levels + 1).repeat_interleave(2) * torch.tensor([1.0, -1.0]).repeat(
        levels
    )
    unit = torch.cat([torch.zeros(1), steps]) * weight.abs().max() / levels
    best = None
    for share in torch.linspace(0.3, 1, 15):
        codes = (weight.flatten()[:, None] - unit * share).abs().argmin(1)
        error = float(((unit * share)[codes] - weight.flatten()).square().sum())
        if best is None or error < best[0]:
            best = error, codes.view_as(weight), unit * share
    return best[1], best[2]


codes, codebook = quantize(sparse_model.features.conv5.weight.detach())
print(f"{float((codes == 0).float().mean()):.1%} of the codes are 0, {len(codebook)} levels")

# %% [markdown]
# **Relative index.** Each entry is a pair (gap, value): `gap` zeros, then the code `value`. A gap
# has 4 bits, so it reaches 15. In a longer run a *padding* entry (15, 0) stands for sixteen zeros:
# fifteen in its gap and one as its value. With gaps of $b$ bits it is $(2^b - 1, 0)$, for $2^b$
# zeros, and comes before the rest of its run. After the last nonzero code there is no entry; where
# all codes are 0 there is none at all (E is 0, and the type stays int64). The check `encode` is of
# all three functions of this section.


# %% nbgrader={"grade": false, "grade_id": "solution_relative_index", "locked": false, "schema_version": 3, "solution": true, "task": false}
def relative_index(codes: torch.Tensor, bits: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaps and values, int64 ``[E]`` each, of ``codes`` int64 ``[n]``, each from 0 to 255.

    Gaps are at most ``2**bits - 1``, ``bits`` is 1 to 8; longer runs of zeros are cut by entries
    with value 0. For example ``[0, 0, 7, 5]`` gives gaps ``[2, 0]`` and values ``[7, 5]``.
    """
    ### BEGIN SOLUTION
    gaps, values, gap = [], [], 0
    end = int(codes.nonzero().max()) + 1 if codes.any() else 0
    for code in codes[:end].tolist():
        if code == 0 and gap < 2**bits - 1:
            gap += 1
        else:
            gaps.append(gap)
            values.append(code)
            gap = 0
    return torch.tensor(gaps, dtype=torch.int64), torch.tensor(values, dtype=torch.int64)
    ### END SOLUTION


# %% [markdown]
# **Huffman.** Repeatedly merge the two rarest subtrees; each merge makes the codewords of all
# symbols below it one bit longer. The lengths are enough: `huffman.canonical_codes(lengths)` gives
# the codewords that belong to them, and a file need not store a tree.


# %% nbgrader={"grade": false, "grade_id": "solution_huffman_lengths", "locked": false, "schema_version": 3, "solution": true, "task": false}
def huffman_lengths(counts: torch.Tensor) -> torch.Tensor:
    """Codeword lengths of a Huffman code: ``counts`` int64 ``[S]`` to int64 ``[S]``.

    0 for a symbol that never occurs; 1 for a symbol that occurs alone.
    """
    ### BEGIN SOLUTION
    lengths = torch.zeros(len(counts), dtype=torch.int64)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts.tolist()) if count]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        a, first, left = heapq.heappop(heap)
        b, _, right = heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, first, left + right))
    return lengths
    ### END SOLUTION


# %% [markdown]
# **The stream.** Entry by entry, the codeword of the gap, then that of the value. Gaps and values
# have a code each. `huffman.write_bits(codewords, lengths)` packs codewords into bytes;
# `codesign/huffman.py` shows how it is read back.


# %% nbgrader={"grade": false, "grade_id": "solution_encode", "locked": false, "schema_version": 3, "solution": true, "task": false}
def encode(codes: torch.Tensor, bits: int = 4) -> dict[str, torch.Tensor]:
    """Everything that is needed to get ``codes`` int64 ``[n]`` back, as small as Huffman allows.

    ``codes`` are from 0 to 255, ``bits`` is 1 to 8.

    Returns:
        ``stream`` uint8 (gap, value, gap, value, …), ``entries`` int32 ``[1]``: their number,
        ``gap_lengths`` uint8 ``[2**bits]``, ``value_lengths`` uint8 ``[largest code + 1]``.
    """
    ### BEGIN SOLUTION
    gaps, values = relative_index(codes, bits)
    stored = {"entries": torch.tensor([len(gaps)], dtype=torch.int32)}
    words, sizes = [], []
    for name, symbols, count in (("gap", gaps, 2**bits), ("value", values, int(codes.max()) + 1)):
        lengths = huffman_lengths(torch.bincount(symbols, minlength=count))
        stored[f"{name}_lengths"] = lengths.to(torch.uint8)
        words.append(huffman.canonical_codes(lengths)[symbols])
        sizes.append(lengths[symbols])
    interleaved = (torch.stack(pair, 1).flatten() for pair in (words, sizes))
    return {**stored, "stream": huffman.write_bits(*interleaved)}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "encode", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab.check("encode")  # 4 points


# %% [markdown]
# The file holds the coded weights of every layer with their codebooks, and all other tensors (batch
# norm, bias) in fp16. Its size is counted as it lies on the disk, with names and headers.


# %%
def compress(model: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of the compressed file."""
    stored, layers = {}, cost.weighted_layers(model)
    for name, layer in layers.items():
        codes, codebook = quantize(layer.weight.detach())
        parts = {**encode(codes.flatten()), "codebook": codebook}
        stored |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    for name, value in model.state_dict().items():
        if value.is_floating_point() and name.removesuffix(".weight") not in layers:
            stored[name] = value.half()
    return stored


compressed = lab.produce("compressed", compress, sparse_model)
payload = sum(tensor.nbytes for tensor in compressed.values())
streams = sum(t.nbytes for name, t in compressed.items() if name.endswith("stream"))
print(f"fp32 {cost.model_bytes(dense):,} bytes; file payload {payload:,}, streams {streams:,}")

# %% nbgrader={"grade": true, "grade_id": "compressed", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab.check("compressed")  # 4 points

# %% [markdown]
# ## 10 · What the hardware cashed in


# %%
def summary() -> dict:
    """Accuracy, MACs, stored bytes and latency of the networks of this lab."""
    rows = {}
    for name, model in {"dense": dense, "sparse": sparse_model, "fast": fast_model}.items():
        rows[name] = {
            "accuracy": evaluate(model, lab.val),
            "nonzeros": cost.nonzeros(model),
            "macs": cost.macs(model),
            "latency": latency_ratio(model)["median"],
        }
    return rows


results = lab.produce("summary", summary)
for name, row in results.items():
    print(
        f"{name:7s} accuracy {row['accuracy']:.1%}, {row['nonzeros']:8,d} nonzeros, "
        f"{row['macs'] / 1e6:5.1f} M MACs, latency {row['latency']:.0%} of dense"
    )

# %%
figure, axis = plt.subplots(figsize=(5, 3.4))
for name, row in results.items():
    axis.plot(100 * row["latency"], 100 * row["accuracy"], "o", markersize=8, label=name)
axis.set(xlabel="latency in % of dense", ylabel="validation accuracy in %", xlim=(0, 120))
axis.legend()
plt.show()

# %% [markdown]
# *Accuracy against measured latency at batch 1 on this machine. Weights removed one by one move a
# network in neither direction here; channels removed move it to the left.*
#
# ### Reflection
# Answer in a few sentences each, with numbers that you measured. These are graded by a person.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_predictions", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Predicted against measured (4 points).** Which of your three predictions was furthest off? Explain
# the difference by what the kernel does with the weights, not only by what the mathematics says.
#
# ### BEGIN SOLUTION
# A full answer compares all three pairs of numbers and gives a mechanism for each. Accuracy without
# fine-tuning falls much faster under uniform sparsity than the share of small weights suggests,
# because errors of all layers add up and the first layers and the classifier are sensitive. The
# sparse network is not faster: the dense kernel multiplies zeros and loads them as well. Halving all
# widths leaves about a quarter of the MACs but more than a quarter of the time: the first layer keeps
# its three inputs, narrow layers fill vector registers and threads less well, and the cost of
# starting an operator stays.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_bottleneck", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **The bottleneck (3 points).** Which layers did NetAdapt narrow first, and which did it leave alone?
# Compare with each layer's share of the MACs, of the parameters, and of the measured time.
#
# ### BEGIN SOLUTION
# A full answer names the layers from the printed rounds, notes that layers with the largest share of
# measured time (early ones, on large images) need not be those with the most parameters (late ones),
# and relates the choice to the sensitivity scan: NetAdapt picks where accuracy per saved second is
# best.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection_device", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Another device (3 points).** Take a microcontroller without caches or vector units, or a GPU with
# 2:4 tensor cores. Which of the sparse, the fast and the compressed network would you deploy there,
# what would you have to change in it first, and what would you have to measure again?
#
# ### BEGIN SOLUTION
# A full answer picks one device and argues from its bottleneck. Microcontroller: flash and SRAM
# bound, so the compressed file may be decisive for flash, channel pruning for time and SRAM; the
# latency table must be measured again because a scalar core has no width steps. GPU: at batch 1 the
# network is bound by launches, 2:4 pays for large matrices and needs the pattern; fine-grained
# zeros pay nothing.
# ### END SOLUTION

# %% [markdown]
# Hand in the notebook with its outputs: save it, then run the next line.

# %%
# lab.package()
