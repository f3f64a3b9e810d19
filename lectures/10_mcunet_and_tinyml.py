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
# # Lecture 10: MCUNet and TinyML
# <!-- badge -->
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ml-codesign/course/blob/v0.1.0/lectures/10_mcunet_and_tinyml.ipynb)
#
# **The question: which network fits into a microcontroller, and what does it cost to make it fit?**
#
# A microcontroller has no DRAM. Weights lie in flash, activations in a few hundred KiB of SRAM, and
# what does not fit does not run slowly, it does not run at all. This lecture counts activations
# operator by operator, finds one place where nearly all of them are, cuts that place into patches,
# searches for networks under the constraint (TinyNAS), and ends with firmware that is compiled,
# linked and executed on an emulated Cortex-M.

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

# %% tags=["parameters"] short={"REPORT_IMAGES": 100, "CALIBRATION_IMAGES": 64, "EXACT_IMAGES": 5, "SAMPLES": 40, "BRIEF_IMAGES": 256, "TRAINED": 1, "GENERATIONS": 3, "CHILDREN": 4, "EMULATED_IMAGES": 1}
REPORT_IMAGES = 1000  # validation images behind every reported accuracy
CALIBRATION_IMAGES = 128  # training images whose activations set the scales
EXACT_IMAGES = 20  # on which patches and whole images are compared, code by code
SAMPLES = 200  # networks drawn from each search space
BRIEF_IMAGES, BRIEF_BATCH = 8000, 32  # of the trainings, one epoch each, that check the search
TRAINED = 2  # networks of each space that are trained
GENERATIONS, CHILDREN = 15, 12  # of the evolutionary search
EMULATED_IMAGES = 10  # that the emulated board classifies

# %%
import dataclasses
import itertools
import random
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn import functional as F

from codesign import checkpoints, cost, datasets, int8, models, plot, training
from codesign.hardware import device, engine
from codesign.hardware.board import BOARDS, CORES, Board
from codesign.hardware.cortex_m import FirmwareError
from codesign.post_training import quantize

plot.theme()
_ = torch.manual_seed(0)
KIB, MIB = 2**10, 2**20

# %% [markdown]
# ## 1. Two memories, both small
#
# A phone or a GPU has one large memory for weights and activations alike. A microcontroller has
# two:
#
# - **flash**, which keeps its content without power and is practically never written while the
#   program runs: code and **weights** lie here;
# - **SRAM**, which is read and written in a cycle or two: **activations**, variables and stack.
#
# Sizes and sources: `codesign.hardware.board` and `device`.

# %%
from torchvision.models import mobilenet_v2  # after codesign, which mends some CPU builds of it

sizes = {}
for name, board in BOARDS.items():
    sizes[f"{name} ({board.core})"] = (board.sram_bytes, board.flash_bytes)
for name in ("Raspberry Pi 5", "Snapdragon 888", "H100"):
    sizes[device.get(name).name] = (device.get(name).memory_bytes,)
widest = mobilenet_v2(weights=None)
needs = {
    "activations": cost.activation_peak(widest, (1, 3, 224, 224)),
    "weights": cost.parameters(widest) * 4,
}

# %%
fig, ax = plt.subplots(figsize=(7, 3.3))
for i, values in enumerate(sizes.values()):
    colours = ("memory", "baseline") if len(values) == 2 else ("compute",)
    for value, colour, by in zip(values, colours, (-0.18, 0.18), strict=False):
        at, thick = (i + by, 0.34) if len(values) == 2 else (i, 0.6)
        ax.barh(at, value, thick, color=plot.COLOURS[colour])
for (name, value), side in zip(needs.items(), ("right", "left"), strict=True):
    ax.axvline(value, color=plot.COLOURS["measured"], ls=":", lw=1)
    ax.text(value, -0.62, f" {name} ", ha=side, fontsize=7)
for name, colour in (("SRAM", "memory"), ("flash", "baseline"), ("DRAM", "compute")):
    ax.bar(1, 0, color=plot.COLOURS[colour], label=name)
ax.set_yticks(range(len(sizes)), sizes)
ax.set(xscale="log", xlabel="bytes", xlim=(1e4, 3e11), ylim=(len(sizes) - 0.4, -1))
ax.grid(axis="y", visible=False)
ax.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
plt.show()

# %% [markdown]
# *Logarithmic. Dotted: what MobileNetV2 needs in fp32 for one image of 224×224, counted. A phone
# holds it hundreds of times over; no microcontroller here holds either part of it.*

# %%
phone, chip = device.get("Snapdragon 888"), BOARDS["stm32f746"]
print(f"phone / {chip.name}: ×{phone.memory_bytes / chip.sram_bytes:,.0f} memory for activations")
print(*(f"{name}: {value / MIB:.1f} MiB in fp32" for name, value in needs.items()), sep="\n")

# %% [markdown]
# What such boards are asked to do, from the industry's benchmark, MLPerf Tiny (Banbury et al.,
# "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021, table 1):
#
# | task | data | reference network | quality target |
# | --- | --- | --- | --- |
# | keyword spotting | Speech Commands | DS-CNN | 90 % top-1 |
# | visual wake words | Visual Wake Words (COCO) | MobileNetV1 | 80 % top-1 |
# | image classification | CIFAR-10 | ResNet-8 | 85 % top-1 |
# | anomaly detection | ToyADMOS | fully connected autoencoder | 0.85 AUC |
#
# The course ships a ResNet-8 trained from scratch, and a MobileNetV2-like network of similar cost.

# %%
dataset, _ = datasets.choose()
train = datasets.load(dataset, "train")
val = datasets.load(dataset, "val")
report = val.head(REPORT_IMAGES)
NETS = {
    name: checkpoints.load(checkpoints.shipped(name, dataset)) for name in ("resnet8", "mobile")
}
ACCURACY = {name: training.evaluate(model, report) for name, model in NETS.items()}
for name, model in NETS.items():
    size = f"{cost.parameters(model):,} parameters, {cost.macs(model):,} MACs"
    print(f"{name:8} {size}, {ACCURACY[name]:.1%} right")

# %% [markdown]
# ## 2. Peak memory, operator by operator
#
# An operator needs, while it runs, its inputs, its output, and every other tensor that somebody
# will read later. With $b_t$ the operator that writes tensor $t$ and $e_t$ the last that reads it,
#
# $$M_i = \sum_{t:\; b_t \le i \le e_t} \text{bytes}(t),\qquad M = \max_i M_i.$$
#
# **Smallest example**, by hand: an int8 image of 8×8×3, a convolution to 16 channels, one with
# stride 2 to 32. While the first runs, $8\cdot 8\cdot 3 + 8\cdot 8\cdot 16 = 1216$ bytes are
# alive; then the image is dead, and $8\cdot 8\cdot 16 + 4\cdot 4\cdot 32 = 1536$ are. Neither
# weights nor MACs appear in the formula. And $M$ is a lower bound: tensors still need addresses
# that do not overlap, which Lecture 11 plans.
#
# In code a network is a list of operators and the shape of every tensor.


# %%
@dataclass(frozen=True)
class Op:
    """One operator: the tensors it reads, the one it writes, and its window."""

    kind: str  # conv, depthwise, add, mean, linear
    inputs: tuple
    output: str
    kernel: int = 1
    stride: int = 1


# %%
class Net:
    """Operators in the order in which they run, and (height, width, channels) of each tensor."""

    def __init__(self, side):
        self.shapes, self.ops = {"image": (side, side, 3)}, []

    def add(self, kind, *inputs, channels=None, kernel=1, stride=1):
        """Append an operator and return the name of its output."""
        h, w, c = self.shapes[inputs[0]]
        h, w = (1, 1) if kind == "mean" else (-(-h // stride), -(-w // stride))
        name = f"{kind}{len(self.ops)}"
        self.shapes[name] = (h, w, channels or c)
        self.ops.append(Op(kind, inputs, name, kernel, stride))
        return name


# %%
def lifetimes(net):
    """First and last operator of every tensor: (b, e)."""
    born = {"image": 0} | {op.output: i for i, op in enumerate(net.ops)}
    last = {x: i for i, op in enumerate(net.ops) for x in op.inputs}
    return {x: (b, last.get(x, b)) for x, b in born.items()}


# %%
def alive(sizes, life, i, op, in_place=()):
    """Bytes alive while operator ``i`` runs; one of a kind ``in_place`` writes over its input."""
    total = sum(size for x, size in sizes.items() if life[x][0] <= i <= life[x][1])
    dying = [x for x in op.inputs if life[x][1] == i and sizes[x] >= sizes[op.output]]
    return total - (sizes[op.output] if op.kind in in_place and dying else 0)


# %%
IN_PLACE = ("add", "depthwise")


# %%
def profile(net, in_place=IN_PLACE):
    """Bytes alive at every operator, int8."""
    sizes, life = {x: int(np.prod(shape)) for x, shape in net.shapes.items()}, lifetimes(net)
    return [alive(sizes, life, i, op, in_place) for i, op in enumerate(net.ops)]


# %%
tiny = Net(8)
tiny.add("conv", tiny.add("conv", "image", channels=16, kernel=3), channels=32, kernel=3, stride=2)
assert profile(tiny) == [1216, 1536]

# %% [markdown]
# An addition may write over either of its inputs. A depthwise convolution may, too: output channel
# $c$ reads only input channel $c$, so a buffer of a single channel suffices on top (Lecture 11
# writes that kernel).
#
# MACs and weights come from the same list; so does flash. In int8 each output channel brings,
# besides its weights, a bias and a multiplier of four bytes each and a shift of one (Lecture 5).


# %%
def weights(net, op):
    c_in, c_out = net.shapes[op.inputs[0]][2], net.shapes[op.output][2]
    return {"conv": c_in, "linear": c_in, "depthwise": 1}.get(op.kind, 0) * c_out * op.kernel**2


# %%
def macs(net, op):
    h, w, _ = net.shapes[op.output]
    return h * w * weights(net, op)


# %%
def total(net, count=macs):
    return sum(count(net, op) for op in net.ops)


# %%
def flash(net, value=1, channel=9):
    """Bytes of weights (``value`` each) and of what each output channel brings (``channel``)."""
    own = [(weights(net, op), net.shapes[op.output][2]) for op in net.ops]
    return sum(value * n + channel * c for n, c in own if n)


# %% [markdown]
# The two families of this lecture:


# %%
def inverted_residual(net, x, expansion, channels, stride, kernel=3):
    """MobileNetV2's block: expand, filter each channel, project, add where shapes allow it."""
    c = net.shapes[x][2]
    y = net.add("conv", x, channels=c * expansion) if expansion > 1 else x
    y = net.add("depthwise", y, kernel=kernel, stride=stride)
    y = net.add("conv", y, channels=channels)
    return net.add("add", y, x) if stride == 1 and c == channels else y


# %%
def mobile(side, stem, blocks, head, classes=10, stem_stride=1):
    net = Net(side)
    x = net.add("conv", "image", channels=stem, kernel=3, stride=stem_stride)
    for block in blocks:
        x = inverted_residual(net, x, *block)
    x = net.add("mean", net.add("conv", x, channels=head))
    net.add("linear", x, channels=classes)
    return net


# %%
def resnet8(side, widths=(16, 32, 64)):
    net = Net(side)
    x = net.add("conv", "image", channels=widths[0], kernel=3)
    for stride, c in zip((1, 2, 2), widths, strict=True):
        y = net.add("conv", x, channels=c, kernel=3, stride=stride)
        y = net.add("conv", y, channels=c, kernel=3)
        x = net.add("add", y, net.add("conv", x, channels=c, stride=2) if stride > 1 else x)
    net.add("linear", net.add("mean", x), channels=10)
    return net


# %%
V2_BLOCKS = [(1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2)]
V2_BLOCKS += [(6, 64, 1)] * 3 + [(6, 96, 1)] * 3 + [(6, 160, 2)] + [(6, 160, 1)] * 2 + [(6, 320, 1)]
SPEC = {key: NETS["mobile"].config[key] for key in ("stem", "blocks", "head")}
COUNTED = {
    "ResNet-8, 32×32": resnet8(32),
    "mobile, 32×32": mobile(32, **SPEC),
    "MobileNetV2, 224×224": mobile(224, 32, V2_BLOCKS, 1280, 1000, stem_stride=2),
}

# %% [markdown]
# **Oracles.** MACs must be those of the real modules, and the peak (with additions in place, and
# depthwise not) that of the library's own tracer, which knows nothing of this list.

# %%
modules = dict(
    zip(COUNTED, ((NETS["resnet8"], 32), (NETS["mobile"], 32), (widest, 224)), strict=True)
)
for name, (model, side) in modules.items():
    net, shape = COUNTED[name], (1, 3, side, side)
    assert total(net) == cost.macs(model, shape)
    assert max(profile(net, ("add",))) == cost.activation_peak(model, shape, bits=8)
    print(f"{name:21} {total(net):11,} MACs, peak {max(profile(net)) / KIB:6.1f} KiB in int8")

# %%
KINDS = {"conv": "compute", "depthwise": "memory", "add": "ours"}
fig, axes = plt.subplots(3, 1, figsize=(7, 5.4))
for ax, (name, net) in zip(axes, COUNTED.items(), strict=True):
    for i, (op, value) in enumerate(zip(net.ops, profile(net), strict=True)):
        ax.bar(i, value / KIB, 0.8, color=plot.COLOURS[KINDS.get(op.kind, "baseline")])
    ax.axhline(np.median(profile(net)) / KIB, color=plot.COLOURS["measured"], lw=0.8)
    ax.set(title=name, ylabel="KiB alive", xlim=(-0.7, len(net.ops) - 0.3))
    ax.grid(axis="x", visible=False)
for kind, colour in KINDS.items():
    axes[0].bar(0, 0, color=plot.COLOURS[colour], label=kind)
axes[0].legend(ncols=3)
axes[-1].set_xlabel("operator")
plt.show()

# %% [markdown]
# *Activations alive at each operator, int8, depthwise convolutions and additions in place. Black:
# the median operator. The MobileNets pay for a few operators at the beginning, where the image is
# large and a block expands its channels; everything behind would fit into a fraction of it.*

# %%
for name, net in COUNTED.items():
    values = np.array(profile(net))
    above = int((values > values.max() / 3).sum())
    print(
        f"{name:21} peak / median operator ×{values.max() / np.median(values):.1f}, "
        f"{above} of {len(values)} operators need more than a third of the peak"
    )

# %%
for name, net in COUNTED.items():
    work, held = ([count(net, op) for op in net.ops] for count in (macs, weights))
    most = {"memory": profile(net), "MACs": work, "weights": held}
    print(f"{name:21}", *(f"most {k}: operator {np.argmax(v)};" for k, v in most.items()))

# %% [markdown]
# **int8 against fp32.** Four bytes become one in both memories; what is added is the channels' nine
# bytes. A tick is a board whose SRAM holds the activations and whose flash holds the weights, with
# nothing left for code and stack.


# %%
def needed(net, number):
    """(SRAM, flash) bytes of a network."""
    width, channel = {"int8": (1, 9), "fp32": (4, 4)}[number]
    return width * max(profile(net)), flash(net, width, channel)


# %%
print(f"{'':21} {'':5} {'SRAM':>9} {'flash':>10}  " + "  ".join(BOARDS))
for name, net in COUNTED.items():
    for number in ("fp32", "int8"):
        sram, stored = needed(net, number)
        fits = [sram <= b.sram_bytes and stored <= b.flash_bytes for b in BOARDS.values()]
        marks = "  ".join(
            f"{'✓' if ok else '–':>{len(b)}}" for ok, b in zip(fits, BOARDS, strict=True)
        )
        print(f"{name:21} {number:5} {sram / KIB:5.0f} KiB {stored / KIB:6.0f} KiB  {marks}")

# %% [markdown]
# Eight bits decide whether `mobile` runs on any of these boards, and let ResNet-8 move to a smaller
# one. For MobileNetV2 they are not enough, in either memory.
#
# ## 3. Patch by patch
#
# The peak lies in the first operators, and convolutions are *local*: a pixel of their output
# depends on a few pixels of the input. So compute one patch of the output of the first $n$
# operators completely, then the next. Only the patch's intermediate tensors are alive, and the
# finished output.
#
# ### Which pixels does a patch need?
#
# Output rows $[l, h)$ of a convolution with window $K$, stride $s$ and padding $p$ read the input
# rows
#
# $$\big[\,l\,s - p,\;\; (h-1)\,s - p + K\,\big),$$
#
# and what lies outside of the image is padding. Going backwards from the patch, operator by
# operator, the range grows: its margin is the **halo**. A tensor that several operators read (the
# input of a residual block) has to cover all of their ranges.


# %%
def window(span, op):
    """Input rows that output rows ``span = (l, h)`` read, also outside of the image."""
    low, high = span
    first = low * op.stride - op.kernel // 2
    return first, first + (high - 1 - low) * op.stride + op.kernel


# %%
def inside(span, limit):
    return max(0, span[0]), min(limit, span[1])


# %%
def regions(net, depth, patch, clip=inside):
    """Rows and columns of every tensor that the ``patch`` of operator ``depth - 1`` needs."""
    needed = {net.ops[depth - 1].output: patch}
    for op in reversed(net.ops[:depth]):
        for x in op.inputs:
            pairs = zip(needed[op.output], net.shapes[x], strict=False)
            own = [clip(window(span, op), limit) for span, limit in pairs]
            both = zip(own, needed.get(x, own), strict=True)
            needed[x] = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in both)
    return needed


# %% [markdown]
# **Smallest example.** Two 3×3 convolutions, the second with stride 2, as above: output row 1 alone
# reads rows 1 to 3 of the tensor between, and those read rows 0 to 4 of the image.

# %%
small = regions(tiny, 2, ((1, 2), (1, 2)))
assert small["conv0"][0] == (1, 4)
assert small["image"][0] == (0, 5)


# %%
def grid(net, depth, rows, columns):
    """The output of operator ``depth - 1`` in ``rows`` × ``columns`` patches."""
    sides = zip(net.shapes[net.ops[depth - 1].output], (rows, columns), strict=False)
    spans = [[(i * side // n, (i + 1) * side // n) for i in range(n)] for side, n in sides]
    return list(itertools.product(*spans))


# %% [markdown]
# Where may the patches end? At an operator behind which nobody reads anything older than its
# output.


# %%
def cuts(net):
    """Numbers of operators after which one tensor holds all that the rest needs."""
    life = lifetimes(net)
    held = {d: sum(b < d <= e for b, e in life.values()) for d in range(1, len(net.ops))}
    spatial = {d for d in held if net.shapes[net.ops[d - 1].output][0] > 1}
    return [d for d in sorted(spatial) if held[d] == 1 and life["image"][1] < d]


# %%
ours = COUNTED["mobile, 32×32"]
ENDS = [d for d in cuts(ours) if ours.ops[d].kernel == 1 and ours.ops[d - 1].kind != "depthwise"]
ENDS = [1, *[d for d in ENDS if d > 1]][:6]  # the stem, and the first blocks
print("operators in the patch stage:", ENDS)

# %%
fig, axes = plt.subplots(1, len(ENDS) - 1, figsize=(8, 1.9))
for ax, depth in zip(axes, ENDS[1:], strict=True):
    for patch in grid(ours, depth, 2, 2)[:2]:
        (y0, y1), (x0, x1) = regions(ours, depth, patch)["image"]
        ax.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, alpha=0.35, color="#0072B2"))
    ax.set(xlim=(0, 32), ylim=(32, 0), aspect="equal", title=f"{depth} operators")
    ax.set_xticks([0, 16, 32])
    ax.set_yticks([0, 16, 32])
plt.show()

# %% [markdown]
# *Pixels of the image that the two upper of 2×2 patches read, for patch stages of more and more
# operators. The darker overlap is read, and computed on, twice; the deeper the stage, the larger.*
#
# ### Built, on integers
#
# Post-training quantization by the scheme of Lectures 5 and 6, packed into `codesign.int8`: a list
# of operators with codes, multipliers and shifts, and `int8.execute`, which runs one of them on
# integers. First: is its list the one that was counted?

# %%
calibration = train.images[:CALIBRATION_IMAGES]
INT8 = {name: quantize(model, calibration) for name, model in NETS.items()}


# %%
def window_of(operator):
    """The side of an integer operator's kernel."""
    return operator.weight.shape[1] if operator.kind == "conv" else operator.weight.shape[0]


# %%
def as_net(network):
    """The integer network as the list that section 2 counts."""
    net = Net(32)
    net.shapes = {name: tensor.shape for name, tensor in network.tensors.items()}
    for op in network.operators:
        kernel = window_of(op) if op.kind in ("conv", "depthwise") else 1
        net.ops.append(Op(op.kind, op.inputs, op.output, kernel, op.stride))
    return net


# %%
IN_INT8 = {}
for name, key in (("resnet8", "ResNet-8, 32×32"), ("mobile", "mobile, 32×32")):
    net, stored = as_net(INT8[name]), sum(op.weight_bytes for op in INT8[name].operators)
    assert total(net) == total(COUNTED[key])
    assert [op.kind for op in net.ops] == [op.kind for op in COUNTED[key].ops]
    assert profile(net)[:-1] == profile(COUNTED[key])[:-1]  # logits are int32
    IN_INT8[name] = INT8[name].accuracy(report)
    right = f"{IN_INT8[name]:.1%} in integers, {ACCURACY[name]:.1%} in fp32"
    print(f"{name:8} {right}; constants {stored:,} bytes, counted {flash(COUNTED[key]):,}")

# %% [markdown]
# A patch stores each tensor as the piece that it needs, with the place of its corner. An operator
# cuts its window out of the piece; where the window leaves the *image*, and only there, the
# zero point is padded.


# %%
def cut_out(piece, corner, spans, shape, zero):
    """The ``spans`` of a tensor from a ``piece`` of it at ``corner``, padded outside ``shape``."""
    pads = []
    for axis in (1, 0):  # F.pad begins with the last axis
        low, high = spans[axis]
        pads += [max(0, -low), max(0, high - shape[axis])]
    (y0, y1), (x0, x1) = (inside(spans[axis], shape[axis]) for axis in (0, 1))
    rows, columns = slice(y0 - corner[0], y1 - corner[0]), slice(x0 - corner[1], x1 - corner[1])
    return F.pad(piece[:, :, rows, columns], pads, value=zero)


# %%
def run_patch(network, net, depth, patch, image):
    """Codes int64 of one patch, from the codes of whole images ``[N, 3, H, W]``."""
    need, name = regions(net, depth, patch), net.ops[0].inputs[0]
    pieces, corners = {name: image}, {name: (0, 0)}
    for op, operator in zip(net.ops[:depth], network.operators, strict=False):
        spans, inputs = need[op.output], []
        wanted = [window(span, op) for span in spans]
        zeros = [network.tensors[x].zero_point for x in op.inputs]
        for x, zero in zip(op.inputs, zeros, strict=True):
            inputs.append(cut_out(pieces[x], corners[x], wanted, net.shapes[x], zero))
        valid = dataclasses.replace(operator, padding=0)
        zero_out = network.tensors[op.output].zero_point
        pieces[op.output] = int8.execute(valid, inputs, zeros, zero_out)
        corners[op.output] = (spans[0][0], spans[1][0])
    return pieces[op.output]


# %%
def run_patches(network, net, depth, rows, columns, image):
    """The whole output of operator ``depth - 1``, patch by patch."""
    h, w, c = net.shapes[net.ops[depth - 1].output]
    output = torch.empty(len(image), c, h, w, dtype=torch.int64)
    for patch in grid(net, depth, rows, columns):
        (y0, y1), (x0, x1) = patch
        output[:, :, y0:y1, x0:x1] = run_patch(network, net, depth, patch, image)
    return output


# %% [markdown]
# **The oracle is the whole image**: every code of every stage, for every grid and depth, in both
# networks.

# %%
exact = val.images[:EXACT_IMAGES]
checked = 0
for network in INT8.values():
    net, truth = as_net(network), network.values(exact)
    image = torch.from_numpy(network.codes(exact)).long().permute(0, 3, 1, 2)
    for depth, (rows, columns) in itertools.product(
        cuts(net)[:8], ((1, 1), (2, 2), (3, 3), (2, 4))
    ):
        ours_out = run_patches(network, net, depth, rows, columns, image)
        assert torch.equal(ours_out, truth[net.ops[depth - 1].output])
        checked += ours_out.numel()
print(f"{checked:,} codes equal")

# %% [markdown]
# **What if the halo is left out** and every patch is padded at its own borders, as if it were an
# image? That needs no recomputation, and computes another function:

# %%
network = INT8["mobile"]
net, truth = as_net(network), network.values(exact)
image = torch.from_numpy(network.codes(exact)).long().permute(0, 3, 1, 2)
depth = ENDS[2]


# %%
def without_halo(n):
    """The stage's output if each of n×n patches pads itself."""
    side, patches = 32 // n, []
    for y, x in itertools.product(range(n), range(n)):
        found = {"image": image[:, :, y * side :, x * side :][:, :, :side, :side]}
        for op in network.operators[:depth]:
            zeros = [network.tensors[name].zero_point for name in op.inputs]
            inputs, zero_out = (
                [found[name] for name in op.inputs],
                network.tensors[op.output].zero_point,
            )
            found[op.output] = int8.execute(op, inputs, zeros, zero_out)
        patches.append(found[op.output])
    rows = [torch.cat(patches[i : i + n], 3) for i in range(0, n * n, n)]
    return torch.cat(rows, 2)


# %%
for n in (2, 4):
    wrong = (without_halo(n) != truth[net.ops[depth - 1].output]).double().mean()
    print(f"{n}×{n} patches without halo: {wrong:.1%} of the codes differ")

# %% [markdown]
# ### What it saves and what it costs
#
# During the stage are alive: the image, the finished output, and the pieces of one patch. Behind
# it, the network as before. What the overlaps cost is counted in MACs.


# %%
def patched(net, depth, rows, columns, image=True, clip=inside):
    """Bytes of the patch stage and of the rest, and the MACs of the stage, in patches."""
    life, work, peak = lifetimes(net), 0, 0
    first, final = net.ops[0].inputs[0], net.ops[depth - 1].output
    for patch in grid(net, depth, rows, columns):
        area = {
            x: (y[1] - y[0]) * (z[1] - z[0])
            for x, (y, z) in regions(net, depth, patch, clip).items()
        }
        sizes = {x: n * net.shapes[x][2] for x, n in area.items()} | {first: 0, final: 0}
        for i, op in enumerate(net.ops[:depth]):
            work += area[op.output] * weights(net, op)
            peak = max(peak, alive(sizes, life, i, op, IN_PLACE))
    held = int(np.prod(net.shapes[final])) + image * int(np.prod(net.shapes[first]))
    return peak + held, max(profile(net)[depth:]), work


# %%
def overhead(net, depth, work):
    """MACs on top, as a share of the stage's and of the network's."""
    whole = sum(macs(net, op) for op in net.ops[:depth])
    return work / whole - 1, (work - whole) / total(net)


# %%
SPLITS = (1, 2, 3, 4)
TABLE = {(n, d): patched(ours, d, n, n) for n in SPLITS for d in ENDS}
EXTRA = {(n, d): overhead(ours, d, TABLE[n, d][2])[1] for n, d in TABLE}


# %% tags=["widget"]
def draw_patches(ax, patches):
    """SRAM by the depth of the patch stage; the numbers are the MACs on top."""
    stage, rest = ([TABLE[patches, d][i] / KIB for d in ENDS] for i in (0, 1))
    at = range(len(ENDS))
    ax.plot(at, rest, "s--", color=plot.COLOURS["baseline"], label="rest of the network")
    ax.plot(at, stage, "o-", color=plot.COLOURS["ours"], label="patch stage")
    peak = [max(pair) for pair in zip(stage, rest, strict=True)]
    best = peak.index(min(peak))
    ax.plot(best, peak[best], "o", ms=11, mfc="none", color=plot.COLOURS["measured"])
    for i, d in enumerate(ENDS):
        text = f"+{EXTRA[patches, d]:.0%}"
        ax.annotate(text, (i, peak[i]), (0, 9), textcoords="offset points", fontsize=7, ha="center")
    ax.set(xlabel="operators in the patch stage", ylabel="peak SRAM, KiB", ylim=(0, 175))
    ax.set_xticks(at, ENDS)
    ax.set_xlim(-0.5, len(ENDS) - 0.5)
    ax.legend(fontsize=7, loc="upper right")


# %% tags=["widget"]
plot.explore(draw_patches, columns=2, patches=SPLITS)

# %% [markdown]
# *`mobile`, n×n patches. The peak is the higher of the two lines; above it, MACs on top of the
# network's; the circle is the least peak. A stage that ends too early leaves the large operators
# to the rest; one that goes too deep drags a halo over the whole image. More patches lower the
# green line and raise the price.*
#
# All grids and depths at once: which choices does no other beat in both memory and work?

# %%
plans = {
    (rows, columns, d): patched(ours, d, rows, columns)
    for rows, columns, d in itertools.product(range(1, 7), range(1, 7), cuts(ours)[:12])
}
points = {}
for plan, (stage, rest, work) in plans.items():
    points[plan] = (max(stage, rest) / KIB, 100 * overhead(ours, plan[2], work)[1])
PLAN = min((plan for plan in points if points[plan][1] <= 5), key=points.get)
rows, columns, depth = PLAN
print(f"plan: {rows}×{columns} patches over {depth} operators")
print(f"{max(profile(ours)) / KIB:.1f} → {points[PLAN][0]:.1f} KiB, {points[PLAN][1]:+.1f} % MACs")

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.4))
best = plot.pareto(
    ax, *zip(*points.values(), strict=True), minimize=(True, True), label="best choices"
)
ax.axvline(max(profile(ours)) / KIB, color=plot.COLOURS["baseline"], ls="--", label="no patches")
last = max(profile(ours)) / KIB
for i in best[::-1]:
    plan, point = list(points.items())[i]
    if last - point[0] > 6:
        text, last = "{}×{}, {}".format(*plan), point[0]
        ax.annotate(text, point, (5, 7), textcoords="offset points", fontsize=7)
ax.plot(*points[PLAN], "o", ms=11, mfc="none", color=plot.COLOURS["measured"])
ax.set(xlabel="peak SRAM, KiB", ylabel="MACs on top, %", ylim=(-1, 25), xlim=(25, 125))
ax.legend()
plt.show()

# %% [markdown]
# *Each point: a grid of patches and a depth (labels: rows × columns, operators in the stage). The
# first halving of the memory costs next to nothing, the last KiB dearly. Circled: the plan above,
# the least memory for at most 5 % more MACs.*
#
# ### The paper's own network
#
# MCUNetV2 (Lin et al., NeurIPS 2021, table 1) gives for MobileNetV2 at 224×224 in 4×4 patches:
# input patches of 75×75, 42 % more MACs in the stage and 10 % overall, and a peak of 1372 → 172
# kB. The stage is not spelled out; a patch of 75 pixels fits the stem and four blocks. The image
# is left out there, because it can be decoded piece by piece. Two ways to count the MACs: as built
# above, where border patches are smaller, and with every patch of full size.

# %%
v2, STAGE = COUNTED["MobileNetV2, 224×224"], 13


# %%
def whole_window(span, limit):
    return span


# %%
def table_1(net, depth):
    """Side of an inner patch on the image, (stage, overall) overhead both ways, and the peaks."""
    low, high = regions(net, depth, grid(net, depth, 4, 4)[5])["image"][0]
    stage, rest, work = patched(net, depth, 4, 4, image=False)
    full = patched(net, depth, 4, 4, image=False, clip=whole_window)[2]
    return high - low, overhead(net, depth, work), overhead(net, depth, full), stage, rest


# %%
side, clipped, full, stage_v2, rest_v2 = table_1(v2, STAGE)
before = max(profile(v2))
no_shortcut = max(
    int(np.prod(v2.shapes[op.inputs[0]])) + int(np.prod(v2.shapes[op.output])) * (op.kind == "conv")
    for op in v2.ops[STAGE:]
)
print(f"input patch {side}×{side}")
for name, (first, overall) in {"clipped": clipped, "full": full}.items():
    print(f"{name} patches: MACs on top {first:.0%} in the stage, {overall:.1%} overall")
print(f"peak {before / KIB:.1f} KiB → stage {stage_v2 / KIB:.1f}, rest {rest_v2 / KIB:.1f}")
print(f"the rest if a shortcut that waits were not counted: {no_shortcut / KIB:.1f} KiB")

# %% [markdown]
# The patch side and the memory before are the paper's to the KiB, and so are the stage's MACs with
# full patches; overall, our two ways lie on both sides of its 10 %. Its memory afterwards is ours
# without the waiting input of a residual block; here that input counts, since somebody has to keep
# it.
#
# ## 4. Redistributing the receptive field
#
# The halo comes from the windows *inside the stage*. So take them out of the stage and put them
# behind it, where recomputation costs nothing: smaller kernels and fewer blocks first, more blocks
# later (MCUNetV2, section 3.2). A receptive field counts the pixels of the image that one output
# sees:
#
# $$R_n = 1 + \sum_{i\le n} (K_i - 1)\prod_{j<i} s_j.$$


# %%
def receptive_field(net, depth):
    """Pixels along one axis that one output of operator ``depth - 1`` sees, borders ignored."""
    spans = regions(net, depth, ((0, 1), (0, 1)), clip=whole_window)
    low, high = spans["image"][0]
    return high - low


# %%
RD_BLOCKS = [(1, 16, 1, 1), (6, 24, 2), (6, 32, 2)]  # in the stage: one 1×1 window, one block less
RD_BLOCKS += [(6, 32, 1)] * 2 + [(6, 64, 2)] + [(6, 64, 1)] * 5 + V2_BLOCKS[10:]  # two more later
redistributed = mobile(224, 32, RD_BLOCKS, 1280, 1000, stem_stride=2)
PAIR = {"MobileNetV2": (v2, STAGE), "redistributed": (redistributed, 9)}
for name, (net, depth) in PAIR.items():
    side, clipped, full, *_ = table_1(net, depth)
    early, late = (receptive_field(net, d) for d in (depth, len(net.ops) - 2))
    print(f"{name:14} {total(net) / 1e6:5.1f} M MACs, input patch {side}², on top:", end=" ")
    print(f"{clipped[0]:.0%} in the stage ({full[0]:.0%} full), {clipped[1]:.1%} overall", end="; ")
    print(f"sees {early} pixels after the stage, {late} at the end")

# %% [markdown]
# Fewer pixels seen early, as many or more at the end, about the same work, and most of the
# overhead is gone. The paper reports the same accuracy for its version (72.1 against 72.2 % on
# ImageNet; cited only). Its exact blocks are drawn, not listed; these are chosen so that the input
# patch is 63², as there.
#
# ## 5. TinyNAS: first the space, then the network
#
# Patches bend a given network to the memory. The other way is to search for one that fits. Which
# *space* should be searched? With a width multiplier $w$ and a resolution $r$ the same space of
# blocks becomes many: wide networks on small images, narrow ones on large images. Searching all of
# them is expensive; TinyNAS (Lin et al., NeurIPS 2020, section 3) only *counts*: draw networks
# from each space, keep those that fit, and prefer the space whose networks do more MACs. The
# assumption: within one family, a network that computes more is more accurate.
#
# The target is a board that no shop sells: 32 KiB of SRAM as on `small`, with a Cortex-M4. 8 KiB
# are left for image, stack and the kernels' buffers, and 96 KiB of flash for code.

# %%
TIGHT = Board("tight", "cortex-m4", 256 * KIB, 32 * KIB, 64e6)
SRAM, FLASH = TIGHT.sram_bytes - 8 * KIB, TIGHT.flash_bytes - 96 * KIB
WIDTHS, RESOLUTIONS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5), (16, 20, 24, 28, 32)
print(f"{TIGHT.name}: {SRAM / KIB:.0f} KiB for activations, {FLASH / KIB:.0f} KiB for constants")


# %%
def scaled(channels, w):
    """Channels times the width multiplier, in multiples of 4: a word of int8."""
    return max(4, 4 * round(channels * w / 4))


# %%
def draw(rng, w):
    """A random network of the space ``w``: depth of each stage, expansion and kernel of blocks."""
    blocks = [(1, scaled(16, w), 1, 3)]
    for channels in (24, 40, 64):
        for i in range(rng.choice((1, 2))):
            how = rng.choice((3, 4, 6)), rng.choice((3, 5, 7))
            blocks.append((how[0], scaled(channels, w), 1 if i else 2, how[1]))
    return {"stem": scaled(16, w), "blocks": blocks, "head": scaled(128, max(w, 0.5))}


# %%
def fits(net):
    return max(profile(net)) <= SRAM and flash(net) <= FLASH


# %%
rng = random.Random(0)
SPACES = {}
for w, r in itertools.product(WIDTHS, RESOLUTIONS):
    drawn = [draw(rng, w) for _ in range(SAMPLES)]
    nets = [(spec, mobile(r, **spec)) for spec in drawn]
    SPACES[w, r] = sorted(
        ((total(net), i, spec) for i, (spec, net) in enumerate(nets) if fits(net))
    )
MEAN = {s: np.mean([m for m, *_ in v]) for s, v in SPACES.items() if len(v) >= SAMPLES // 10}

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3))
share = [[len(SPACES[w, r]) / SAMPLES for r in RESOLUTIONS] for w in WIDTHS]
left.imshow(share, cmap="Greys", vmin=0, vmax=1.6, aspect="auto")
for (i, w), (j, r) in itertools.product(enumerate(WIDTHS), enumerate(RESOLUTIONS)):
    text = f"{MEAN[w, r] / 1e6:.1f} M" if (w, r) in MEAN else "–"
    left.text(j, i, f"{text}\n{share[i][j]:.0%}", ha="center", va="center", fontsize=7)
left.set_xticks(range(len(RESOLUTIONS)), RESOLUTIONS)
left.set_yticks(range(len(WIDTHS)), WIDTHS)
left.set(xlabel="resolution r", ylabel="width multiplier w", title="mean MACs, share that fits")
left.grid(visible=False)
ROWS = {r: max((s for s in MEAN if s[1] == r), key=MEAN.get) for r in RESOLUTIONS}
for (w, r), colour in zip(ROWS.values(), plot.CYCLE, strict=False):
    x = [m / 1e6 for m, *_ in SPACES[w, r]]
    right.plot(x, np.linspace(0, 1, len(x)), color=colour, label=f"w = {w:g}, r = {r}")
right.set(xlabel="million MACs", ylabel="share of networks below", title="networks that fit")
right.legend(fontsize=7)
plt.show()

# %% [markdown]
# *Left: each cell a space; the mean MACs of the networks that fit, and how many of those drawn do
# (below a tenth: dash). Right: the distribution for the best width of each resolution; a curve
# further to the right is a space whose networks do more with the same memory.*

# %%
ranked = sorted(ROWS.values(), key=MEAN.get, reverse=True)
print("by mean MACs:", " > ".join(f"w={w:g}, r={r} ({MEAN[w, r] / 1e6:.2f} M)" for w, r in ranked))

# %% [markdown]
# ### Is the assumption true here?
#
# Train and see. From each of these spaces come the networks in the middle of the distribution,
# each trained on the same few thousand images, resized to the space's resolution and not augmented
# (a shift by four pixels is little at 32 and a quarter of the image at 16). Such a training is far
# from convergence, so only clear differences count.


# %%
def resized(data, r):
    """The images at ``r`` × ``r`` pixels."""
    images = F.interpolate(data.images.float(), size=(r, r), mode="bilinear", antialias=True)
    return dataclasses.replace(
        data, images=images.round().clamp(0, 255).to(torch.uint8).contiguous()
    )


# %%
brief = train.head(BRIEF_IMAGES)


# %%
def trained(spec, r, seed):
    """A network of ``spec`` after a brief training at resolution ``r``, and its accuracy."""
    torch.manual_seed(seed)
    blocks = [list(block) for block in spec["blocks"]]
    model = models.build({"architecture": "mobile", **spec, "blocks": blocks})
    how = {"batch_size": BRIEF_BATCH, "lr": 0.05, "weight_decay": 1e-4, "seed": seed, "crop": 0}
    training.fit(model, resized(brief, r), epochs=1, **how)
    return model, training.evaluate(model, resized(report, r))


# %%
def middle(space, count):
    """Networks of a space around its median number of MACs."""
    found = SPACES[space]
    start = max(0, (len(found) - count) // 2)
    return [spec for *_, spec in found[start : start + count]]


# %%
JUDGED = []
for w, r in ROWS.values():
    for seed, spec in enumerate(middle((w, r), TRAINED)):
        _, right = trained(spec, r, seed)
        JUDGED.append({"space": (w, r), "spec": spec, "accuracy": right})


# %%
def rank_correlation(a, b):
    """Spearman's: the correlation of the ranks."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


# %%
by_space = {s: [j["accuracy"] for j in JUDGED if j["space"] == s] for s in ROWS.values()}
means = {s: float(np.mean(values)) for s, values in by_space.items()}
order = rank_correlation([MEAN[s] for s in means], list(means.values()))
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for (space, values), colour in zip(by_space.items(), plot.CYCLE, strict=False):
    x = MEAN[space] / 1e6
    ax.plot([x] * len(values), [100 * v for v in values], "o", color=colour, alpha=0.5)
    ax.plot(x, 100 * means[space], "_", ms=16, mew=2, color=colour)
    text = f"w = {space[0]:g}\nr = {space[1]}"
    ax.annotate(text, (x, 100 * means[space]), (8, -6), textcoords="offset points", fontsize=7)
ax.set(xlabel="mean MACs of the space, millions", ylabel="accuracy after brief training, %")
ax.margins(x=0.12)
plt.show()
print(f"rank correlation of mean MACs and mean accuracy over {len(means)} spaces: {order:+.2f}")
print("most accurate space: w={:g}, r={}".format(*max(means, key=means.get)))

# %% [markdown]
# *Each dot a network, each bar the mean of its space. Where bars rise from left to right, the
# assumption held here. MACs do not know that an image of 16×16 pixels shows less, and a brief
# training favours what learns fast; both could bend the line.*
#
# So the count is a filter. Which of the spaces at its top is searched should be decided by the
# trainings, where they are affordable and have learned anything: a tenth is right by chance.

# %%
LEARNED = max(means.values()) > 0.15
CHOSEN = max(means, key=means.get) if LEARNED else ranked[0]
W, R = CHOSEN
print("chosen by", "brief trainings" if LEARNED else "MACs; the trainings were too short to say")
print(f"w={W:g}, r={R}; number {ranked.index(CHOSEN) + 1} of {len(ranked)} by mean MACs")

# %% [markdown]
# ### Inside the space: evolution under the constraint
#
# MCUNet trains one supernet that contains all networks of the space and lets evolution ask it for
# accuracies (Lecture 8). That takes far longer than this notebook runs. Two figures take
# milliseconds: the MACs, and how differently a fresh network responds to different images (NASWOT,
# Mellor et al., ICML 2021). For the bits of all ReLUs, $K_{ij}$ counts those in which images $i$
# and $j$ agree; $\log|\det K|$ is large when no two images look alike. Which of the two knows more
# about the networks just trained?

# %%
probe = train.images[:32]


# %%
@torch.no_grad()
def naswot(spec, r):
    """log |det K| of an untrained network of ``spec`` on the probe images."""
    torch.manual_seed(0)
    model = models.build({"architecture": "mobile", **spec, "blocks": [*map(list, spec["blocks"])]})
    bits = []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda m, x, y: bits.append((y > 0).flatten(1).float()))
    images = resized(datasets.ImageSet(probe, probe[:, 0, 0, 0], train.card), r).images
    model.train()(datasets.normalize(images))  # batch norm by the probe images
    kernel = sum(b @ b.T + (1 - b) @ (1 - b).T for b in bits)
    return float(torch.linalg.slogdet(kernel.double()).logabsdet)


# %%
PROXIES = {"NASWOT": naswot, "MACs": lambda spec, r: total(mobile(r, **spec))}
accuracies = [j["accuracy"] for j in JUDGED]
KNOWS = {}
for name, proxy in PROXIES.items():
    KNOWS[name] = rank_correlation([proxy(j["spec"], j["space"][1]) for j in JUDGED], accuracies)
    print(f"{name:6} rank correlation with {len(JUDGED)} accuracies: {KNOWS[name]:+.2f}")
BETTER = max(KNOWS, key=KNOWS.get)
score = PROXIES[BETTER]
print("evolution asks for", BETTER)

# %% [markdown]
# A child takes each stage from one of two parents, or draws it anew. What does not fit dies before
# it is scored.


# %%
def stages(spec):
    """The blocks, cut before every stride of 2."""
    starts = [i for i, block in enumerate(spec["blocks"]) if block[2] == 2]
    bounds = itertools.pairwise([0, *starts, len(spec["blocks"])])
    return [spec["blocks"][a:b] for a, b in bounds]


# %%
def child(rng, one, other):
    parents = [stages(spec) for spec in (one, other, draw(rng, W))]
    picked = [rng.choices(parents, (4, 4, 2))[0][i] for i in range(len(parents[0]))]
    return {**one, "blocks": list(itertools.chain(*picked))}


# %%
def evolve(seed):
    """(score, spec) of the best of every generation."""
    rng, best = random.Random(seed), []
    population = [(score(s, R), i, s) for i, s in enumerate(middle(CHOSEN, CHILDREN))]
    for generation in range(GENERATIONS):
        population = sorted(population, key=lambda p: -p[0])[: CHILDREN // 2]
        best.append((population[0][0], population[0][2]))
        while len(population) < CHILDREN:
            one, other = rng.sample([p[2] for p in population], 2)
            new = child(rng, one, other)
            if fits(mobile(R, **new)):
                population.append((score(new, R), generation, new))
    return best


# %%
path = evolve(0)
FOUND = path[-1][1]
found = mobile(R, **FOUND)
print(f"{BETTER} {path[0][0]:,.1f} → {path[-1][0]:,.1f} in {GENERATIONS} generations of {CHILDREN}")
size = f"{max(profile(found)) / KIB:.1f} KiB of SRAM, {flash(found) / KIB:.0f} KiB of flash"
print(f"found: {total(found):,} MACs, {size}")
print("blocks (expansion, channels, stride, kernel):", *FOUND["blocks"])

# %%
searched, found_right = trained(FOUND, R, 0)
print(f"after the same training: {found_right:.1%}; middle of its space {means[CHOSEN]:.1%}")

# %% [markdown]
# One training of each is one draw of the seed, and the images that chose the space also report its
# accuracy. What the cell above shows is whether the search did harm or good *here*; what is
# certain is that its network fits, and that is executed next.
#
# ## 6. Deployed on an emulated microcontroller
#
# `engine.deploy` writes the integer network as one C file (no interpreter; Lecture 11 takes it
# apart), compiles and links it for a board, and executes it instruction by instruction. SRAM and
# flash are those of the linked ELF, cycles are counted with the core's manual.
#
# **A board that is too small says so**, at link time and in bytes. This cell fails on purpose: a
# common Bluetooth chip, the nRF52832, has 64 KiB of SRAM (Nordic Semiconductor, product
# specification).

# %%
NRF = Board("nrf52832", "cortex-m4", 512 * KIB, 64 * KIB, 64e6)
try:
    engine.deploy(INT8["mobile"], NRF).infer(INT8["mobile"].codes(exact[:1])[0])
except FirmwareError as error:
    print("refused:", str(error).splitlines()[0][:200])

# %% [markdown]
# In patches it goes in. The plan is that of section 3, with the least peak for at most 5 % more
# MACs. All of it, whole and in patches, and the network that was searched:

# %%
small_images = resized(report, R)
INT8["searched"] = quantize(searched, resized(train.head(CALIBRATION_IMAGES), R).images)
JOBS = {
    "resnet8": ("resnet8", "m4", None),
    "resnet8, 2×2 patches": ("resnet8", "m4", (2, 2, 4)),
    "mobile": ("mobile", "m4", None),
    f"mobile, {PLAN[0]}×{PLAN[1]} patches": ("mobile", NRF, PLAN),
    "searched": ("searched", TIGHT, None),
}
DEPLOYED = {
    name: engine.deploy(INT8[key], board, patches=patches)
    for name, (key, board, patches) in JOBS.items()
}

# %% [markdown]
# **The oracle is the integer executor**: each image's ten logits, computed by the emulated core,
# must be its own, to the last bit. The emulated accuracy is that of a handful of images and says
# nothing about the network; that the logits are equal says everything.

# %%
images = {key: val for key in ("resnet8", "mobile")} | {"searched": small_images}
RUNS = {}
for name, deployed in DEPLOYED.items():
    key = JOBS[name][0]
    some = images[key].head(EMULATED_IMAGES)
    logits = deployed.logits(some.images)
    assert torch.equal(logits, INT8[key].logits(some.images))
    RUNS[name] = deployed.infer(INT8[key].codes(some.images[:1])[0])[1]
    right = int((logits.argmax(1) == some.labels).sum())
    print(f"{name:20} logits equal; {right} of {len(some)} images right")

# %%
for name, deployed in DEPLOYED.items():
    run, board = RUNS[name], deployed.board
    print(
        f"{name:20} {board.name:8} SRAM {run.sram_bytes / KIB:5.1f} KiB, "
        f"flash {deployed.firmware.flash_bytes / KIB:5.1f} KiB, {run.cycles / 1e6:5.1f} M cycles, "
        f"{1e3 * deployed.firmware.seconds(run.cycles):3.0f} ms, "
        f"{deployed.program.macs / run.cycles:.2f} MACs/cycle"
    )

# %% [markdown]
# **Estimate beside measurement.** Section 3 counted tensors; the engine also keeps scratch memory
# for its kernels, the image, and a stack.


# %%
def counted_peak(name):
    """Bytes by section 3, of a job as it is deployed."""
    key, _, patches = JOBS[name]
    net = as_net(INT8[key])
    return max(patched(net, patches[2], *patches[:2], image=False)[:2] if patches else profile(net))


# %%
PARTS = {}
for name, deployed in DEPLOYED.items():
    constants = sum(op.weight_bytes for op in deployed.network.operators)
    arena = deployed.program.arena_bytes
    sram, stored = RUNS[name].sram_bytes, deployed.firmware.flash_bytes
    PARTS[name] = (arena, sram - arena), (constants, stored - constants)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
IN_SRAM = {"memory": "arena", "ours": "image and stack"}
IN_FLASH = {"compute": "constants", "baseline": "code"}
for k, (ax, looks) in enumerate(zip(axes, (IN_SRAM, IN_FLASH), strict=True)):
    for at, (colour, label) in enumerate(looks.items()):
        pieces = [part[k][at] / KIB for part in PARTS.values()]
        before_it = [at * part[k][0] / KIB for part in PARTS.values()]
        ax.barh(range(len(PARTS)), pieces, 0.5, before_it, color=plot.COLOURS[colour], label=label)
    ax.legend(fontsize=7, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"{('SRAM', 'flash')[k]} of the linked firmware, KiB")
for i, name in enumerate(PARTS):
    axes[0].plot([counted_peak(name) / KIB] * 2, [i - 0.4, i + 0.4], color=plot.COLOURS["measured"])
axes[0].set_yticks(range(len(PARTS)), PARTS)
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# *Left: black, what section 3 counts; orange, what was linked. Right: weights and what belongs to
# them, and the code that reads them: an engine that generates code pays for it in flash, with every
# operator.*

# %%
PATCHED = next(name for name in JOBS if name.startswith("mobile,"))
whole, parts = DEPLOYED["mobile"], DEPLOYED[PATCHED]
CUT = RUNS["mobile"].sram_bytes / RUNS[PATCHED].sram_bytes
SLOWER = RUNS[PATCHED].cycles / RUNS["mobile"].cycles - 1
MORE = parts.program.macs / whole.program.macs - 1
print(f"patches: SRAM ÷{CUT:.2f}, MACs {MORE:+.1%}, cycles {SLOWER:+.1%}")
mix = RUNS["mobile"].mix
for name in list(mix)[:8]:
    print(f"{name:8} {mix[name] / RUNS['mobile'].instructions:5.1%} of the instructions")

# %% [markdown]
# ### What the hardware does with it
#
# - **SRAM is a wall, cycles are a slope.** The patched network costs more cycles than its MACs say:
#   every piece starts its loops and fills its buffers anew. The whole network costs a bigger chip.
# - **Two MACs an instruction**, `smlad`, at best; loading and widening bytes takes the others.
#   Lecture 11 counts them kernel by kernel.
# - **fp32** needs four times both memories. On this core a fused multiply–add takes three cycles,
#   so even if every load were free:

# %%
fused = CORES["cortex-m4"].cycles["vfma"]
for name in ("resnet8", "mobile"):
    int8_cycles, floor = RUNS[name].cycles, fused * total(as_net(INT8[name]))
    sram = 4 * max(profile(as_net(INT8[name])))
    ok = "fits" if sram <= BOARDS["m4"].sram_bytes else "does not fit"
    print(
        f"{name:8} fp32 at least {floor / int8_cycles:.1f} times the cycles of int8, "
        f"{sram / KIB:.0f} KiB of activations: {ok} into m4"
    )

# %% [markdown]
# ### And training?
#
# Inference forgets an activation as soon as it was read; training keeps all of them, so the tables
# above grow by the depth of the network. MCUNetV3 fits training into the same 256 KiB by updating
# few layers, in int8, with gradients rescaled. Its memory is counted, and the rescaling tried, in
# [Lecture 1, section 5](01_introduction.ipynb).
#
# ## 7. Limits
#
# - The emulator knows no flash wait states, no bus and no cache; a real board is slower, mostly
#   where weights stream from flash. Seconds are cycles divided by the clock.
# - Images of 32×32 pixels make the imbalance smaller than it is at 224×224, where it was only
#   counted: no weights of that network are shipped, so its accuracy is cited.
# - The patch plan minimizes a count of tensors, not the linked arena; scratch memory could change
#   the order of close plans.
# - TinyNAS was checked by trainings of seconds on one image set, with few networks a space.
#   Differences of a point or two are noise. A proxy without training replaced MCUNet's supernet.
# - Redistribution was counted, not trained.
# - No energy: the table of Lecture 3 describes separate memories, not one chip that holds them all.
#
# ## 8. Claims

# %%
ratio = {
    "paper's sum": before / max(stage_v2, no_shortcut),
    "with waiting shortcuts": before / max(stage_v2, rest_v2),
}
v2_claim = plot.Claim(
    claim="patch-based inference cuts the peak memory of existing networks",
    paper="4–8×; MobileNetV2 1372 → 172 kB with 4×4 patches",
    source="Lin et al., NeurIPS 2021, abstract and table 1",
    measured="MobileNetV2, counted: "
    + ", ".join(f"{v:.1f}× ({k})" for k, v in ratio.items())
    + f"; mobile, linked: {CUT:.1f}×, {SLOWER:+.0%} cycles, same logits",
    on=f"int8; mobile on an emulated Cortex-M4, {dataset}",
    why="a residual block's input that waits is counted here; at 32×32 pixels the imbalance is "
    "smaller, and image, scratch memory and stack do not shrink",
)

# %%
sides = {name: table_1(net, d) for name, (net, d) in PAIR.items()}
rd_claim = plot.Claim(
    claim="redistributing the receptive field makes patches nearly free",
    paper="input patch 75² → 63², MACs on top 42 → 18 % in the stage, 10 → 3 % overall",
    source="Lin et al., NeurIPS 2021, table 1",
    measured="; ".join(
        f"{n}: {s[0]}², {s[2][0]:.0%} ({s[1][0]:.0%} without pixels outside the image), "
        f"overall {s[2][1]:.1%} ({s[1][1]:.1%})"
        for n, s in sides.items()
    ),
    on="MobileNetV2 at 224×224, counted",
    why="the paper draws its later blocks and does not list them; accuracy is cited only",
)

# %%
least = DEPLOYED["searched"].firmware.flash_bytes
smaller = (
    f"{RUNS['mobile'].sram_bytes / RUNS['searched'].sram_bytes:.1f}× less SRAM and "
    f"{whole.firmware.flash_bytes / least:.1f}× less flash than mobile"
)
mcunet_claim = plot.Claim(
    claim="a network searched for the device needs less of both memories",
    paper="3.5× less SRAM, 5.7× less flash than quantized MobileNetV2, ResNet-18; > 70 % ImageNet",
    source="Lin et al., NeurIPS 2020, abstract",
    measured=f"{smaller}, but {found_right:.0%} right after one epoch of {BRIEF_IMAGES:,} images, "
    f"where mobile has {ACCURACY['mobile']:.0%} after its full training",
    on=f"linked firmware, {dataset}",
    why="at equal accuracy there; here the searched network was trained for seconds, so this "
    "compares sizes, not networks",
)

# %%
space_claim = plot.Claim(
    claim="the space whose fitting networks do more MACs holds the better ones",
    paper="mean 52.0 M against 46.9 M (FLOPs, its word): 2.3 % better accuracy on ImageNet-100",
    source="Lin et al., IEEE Circuits and Systems Magazine 23(3), 2023, on TinyNAS",
    measured=f"rank correlation {order:+.2f} over {len(means)} spaces of different resolution; "
    f"number {ranked.index(max(means, key=means.get)) + 1} by MACs is the most accurate",
    on=f"{dataset}, {TRAINED} networks a space, {BRIEF_IMAGES:,} training images each",
    why="the paper trains to the end; trainings of seconds favour networks that learn fast",
)

# %%
took_ms = 1e3 * DEPLOYED["resnet8"].firmware.seconds(RUNS["resnet8"].cycles)
mlperf_claim = plot.Claim(
    claim="ResNet-8 on CIFAR-10 within a microcontroller",
    paper="quality target 85 % top-1",
    source="Banbury et al., NeurIPS Datasets and Benchmarks 2021, table 1",
    measured=f"{ACCURACY['resnet8']:.1%} in fp32, {IN_INT8['resnet8']:.1%} in the integers that "
    f"the emulated board computes; {took_ms:.0f} ms at {BOARDS['m4'].clock_hz / 1e6:.0f} MHz",
    on=f"{dataset}, {len(report)} validation images",
    why="the benchmark measures its own test images on real boards; ours is emulated without "
    "flash wait states",
)
plot.claims([v2_claim, rd_claim, mcunet_claim, space_claim, mlperf_claim])

# %% [markdown]
# ## Discussion
#
# 1. ResNet-8 has more MACs than `mobile` and needs less than half of its SRAM. What is it about
#    inverted residual blocks, and what would you change in the first of them?
# 2. The operators after the patch stage set the peak for most grids. Which operator is it, and
#    would a second patch stage help?
# 3. Patches repeat MACs at their borders. Where could the borders be stored instead, and how many
#    bytes would that take for rows of patches?
# 4. In-place depthwise convolution lowers the peak only for some networks. For which of the three,
#    and what decides it?
# 5. TinyNAS prefers MACs at equal memory. Name two networks of equal MACs and memory of which one
#    is clearly worse.
# 6. The code of the generated firmware is not small beside the constants. When would an interpreter
#    be the better engine?
#
# ## Further reading
#
# - J. Lin et al., "MCUNet: Tiny deep learning on IoT devices", NeurIPS 2020.
# - J. Lin et al., "MCUNetV2: Memory-efficient patch-based inference for tiny deep learning",
#   NeurIPS 2021.
# - J. Lin et al., "On-device training under 256KB memory", NeurIPS 2022 (MCUNetV3).
# - J. Lin et al., "Tiny machine learning: progress and futures", IEEE Circuits and Systems Magazine
#   23(3), 2023.
# - C. Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021.
# - M. Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR 2018.
# - M. Alwani et al., "Fused-layer CNN accelerators", MICRO 2016: patches in hardware.
# - J. Mellor et al., "Neural architecture search without training", ICML 2021: NASWOT.
#
# **Next:** Lecture 11 writes the kernels of this engine, one step at a time. Lab 5 puts a network
# on the emulated board.
