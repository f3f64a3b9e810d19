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
# # Further reading to Lecture 3: second order and regression
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/further/03_second_order.ipynb)
#
# **The question: what is gained when the weights that stay make up for those that go?**
#
# Lecture 3 removes one weight by Optimal Brain Surgeon. Here many go, one after the other, and whole
# channels by regression on the next layer's output.

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

# %% tags=["parameters"] short={"VAL_IMAGES": 100, "REGRESSION_IMAGES": 500}
VAL_IMAGES = 1000  # images of the validation split behind every accuracy
REGRESSION_IMAGES = 2000  # training images behind the regression

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from codesign import checkpoints, datasets, diagram, plot, training
from codesign.claims import claims

plot.theme()
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1. Which weights of one filter should go?
#
# One filter of `conv0`: 27 weights, its inputs the 3×3×3 patches of images, its target its own
# output. Half the mean squared error has the Hessian $H = P^\top P / N$ of the patches $P$, and
# removing weight $q$ while all others adapt costs $w_q^2 / 2[H^{-1}]_{qq}$ (Lecture 3, section 4.3).

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val").head(VAL_IMAGES)
dense = checkpoints.load(checkpoints.shipped("vgg", dataset))
patches = F.unfold(datasets.normalize(train.images[:100]), 3).transpose(1, 2).reshape(-1, 27)
P = patches[torch.randperm(len(patches))[:2000]].double()
w0 = dense.features.conv0.weight[0].detach().flatten().double()
H = P.T @ P / len(P)


# %%
def filter_loss(v):
    """Half the mean squared error of the filter ``v [27]``."""
    return (P @ (v - w0)).pow(2).mean() / 2


# %%
def refit(kept):
    """The best filter whose nonzeros are ``kept``, by least squares on the data."""
    v = torch.zeros(27, dtype=torch.float64)
    v[kept] = torch.linalg.lstsq(P[:, kept], P @ w0[:, None]).solution[:, 0]
    return v


# %% [markdown]
# OBS updates $w$ and $H^{-1}$ after each removal; the matrix grows no larger, it forgets a row:

# %%
_, ax = diagram.blank(19, 5)
for number, left in enumerate((0.2, 7.2, 14.2)):
    gone = [[0 if min(a, b) < number else "•" for b in range(4)] for a in range(4)]
    diagram.cells(ax, (left, 4.2), gone)
    if number < 2:
        diagram.arrow(ax, (left + 4.3, 2.2), (left + 6.7, 2.2), "remove")
plot.show("The inverse Hessian of four weights, then with one and with two rows and columns empty")

# %% [markdown]
# *After each removal the row and the column of the removed weight are zero, and what is left is the
# inverse Hessian of the others: no second inversion is needed.*


# %%
def surgeon_step(w, inverse, q):
    """OBS: remove weight ``q`` and let all others make up for it."""
    return w - w[q] / inverse[q, q] * inverse[q]


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


# %% [markdown]
# The oracle tries every weight at every step, and refits from the data each time:

# %%
greedy, gone = w0, []
for _ in range(4):
    rest = [q for q in range(27) if q not in gone]
    trials = {q: refit([i for i in rest if i != q]) for q in rest}
    gone.append(min(trials, key=lambda q: filter_loss(trials[q])))
    greedy = trials[gone[-1]]
torch.testing.assert_close(surgeon(w0, H, 4), greedy, rtol=1e-4, atol=1e-8)


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
    "OBD + refit": lambda w, H, n: lowest(w, H, H.diagonal() * w**2, n, adapt=True),
    "OBS": surgeon,
}

# %% [markdown]
# For weights that go together, the oracle is the refit on the data; and the loss is the measured one.

# %%
v = lowest(w0, H, w0.abs(), 9, adapt=True)
small_ones = w0.abs().argsort()[:9]
assert (v[small_ones] == 0).all()
torch.testing.assert_close(v, refit(v.nonzero()[:, 0].tolist()), rtol=1e-4, atol=1e-8)
torch.testing.assert_close(lowest(w0, H, w0.abs(), 9, adapt=False)[v != 0], w0[v != 0])
assert math.isclose(error(v, w0, H), filter_loss(v) / filter_loss(0 * v), rel_tol=1e-6)

# %%
_, ax = plt.subplots()
looks = [("baseline", "--"), ("compute", "--"), ("baseline", "-"), ("compute", "-"), ("ours", "-")]
for (name, prune), (colour, style) in zip(METHODS.items(), looks, strict=True):
    curve = [error(prune(w0, H, n), w0, H) for n in range(1, 25)]
    ax.semilogy(range(1, 25), curve, style, color=plot.COLOURS[colour], label=name)
ax.set(xlabel="weights removed, of 27", ylabel="error / energy of the output")
ax.legend()
plot.show("Error over weights removed: OBS lowest, refits next, without refit far above")

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
rescaled = w0 / units, H * torch.outer(units, units)
for name, prune in METHODS.items():
    same, other = error(prune(w0, H, 14), w0, H), error(prune(*rescaled, 14), *rescaled)
    print(f"{name:18} error at 14 removed: {same:.1e}, in other units {other:.1e}")

# %% [markdown]
# Magnitude chooses other weights in other units; the second-order criteria cannot, because $H$
# carries the scale of the inputs. All filters of `conv0`, half of the weights removed:

# %%
filters = dense.features.conv0.weight.detach().flatten(1).double()
obs_wins = {}
for name, prune in list(METHODS.items())[:-1]:
    own, best = ([error(p(w, H, 14), w, H) for w in filters] for p in (prune, surgeon))
    obs_wins[name] = sum(a > b for a, b in zip(own, best, strict=True))
    median = torch.tensor(own).median()
    print(f"{name:18} median error {median:.1e}, OBS better on {obs_wins[name]} of {len(filters)}")

# %% [markdown]
# ## 2. Can the next layer's output choose?
#
# He, Zhang and Sun (ICCV 2017) ask for few channels that still explain the *next* layer's output
# $Y = \sum_c X_c W_c$, first with a LASSO on channel factors $\beta$, then with least squares on the
# weights that remain:
#
# $$\min_\beta \tfrac1{2N}\Big\lVert Y - \sum_c \beta_c X_c W_c\Big\rVert^2 + \lambda\lVert\beta\rVert_1,
# \qquad \min_{W'} \lVert Y - X_{\beta\ne0}W'\rVert^2 .$$
#
# Here the next layer is the classifier, $X$ the 128 pooled features and $W_c$ the ten weights of
# channel $c$. Multiplied out, the first term is $\tfrac12(1-\beta)^\top G\,(1-\beta)$ with
# $G_{cd} = \tfrac1N X_c^\top X_d\; W_c W_d^\top$: the LASSO needs only $G$ and its row sums.


# %%
@torch.no_grad()
def features(images):
    """Pooled features ``[N, 128]`` of the dense network."""
    parts = images.split(250)
    return torch.cat([dense.features(datasets.normalize(p)).mean((2, 3)) for p in parts])


# %%
X, V = features(train.images[:REGRESSION_IMAGES]), features(val.images)
torch.testing.assert_close(dense.classifier(V[:9]), dense(datasets.normalize(val.images[:9])))
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
assert math.isclose(accuracy(V @ W.T + bias), training.evaluate(dense, val), rel_tol=1e-6)
for name, keep in (("strongest", strong), ("LASSO", on)):
    kept = torch.cat([keep, torch.tensor([True])])
    solved = torch.linalg.lstsq(X_bias[:, kept], X @ W.T + bias).solution
    refitted = V[:, keep] @ solved[:-1] + solved[-1]
    as_is = accuracy(V[:, keep] @ W[:, keep].T + bias)
    print(f"{name:9} weights as they are: {as_is:.1%}, least squares: {accuracy(refitted):.1%}")
print(f"all 128 channels: {accuracy(V @ W.T + bias):.1%}")

# %% [markdown]
# *Strongest*: the channels with the largest weights in the classifier. Least squares gives back most
# of what removal costs; which channels stay matters little more here than one standard error, which
# is about a point. Regression needs no labels and no backward pass, only activations. That is why it
# returns wherever training is out of reach.
#
# ## 3. Claims

# %%
claims(
    "03_second_order",
    surgeon=dict(
        measured=f"lower error than OBD with refit on {obs_wins['OBD + refit']}, than magnitude with "
        f"refit on {obs_wins['magnitude + refit']} of {len(filters)} filters, 14 of 27 weights removed",
        on=f"conv0 as least squares, {dataset}",
        why="another measure: error at equal weights on a quadratic loss, where OBS is exact for "
        "each removal; they count weights at equal training error",
    ),
)

# %% [markdown]
# ## Sources
#
# - B. Hassibi, D. Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon",
#   NeurIPS 1992.
# - Y. He, X. Zhang, J. Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017.
# - A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
#   problems", SIAM Journal on Imaging Sciences 2009: FISTA.
