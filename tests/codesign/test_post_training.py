"""From floats to integers: folding, scales, fixed-point numbers, and what is refused."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import built, configs, pictures, randomized
from torch import nn

from codesign import checkpoints, datasets, models
from codesign.datasets import normalize
from codesign.int8 import Network, Operator
from codesign.post_training import (
    LEAST_MULTIPLIER,
    LEAST_SHIFT,
    MOST_SHIFT,
    fixed_point,
    quantize,
)


class Layers(nn.Module):
    """Layers one after the other, the mean, a linear layer."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        channels = [m.out_channels for m in layers if isinstance(m, nn.Conv2d)][-1]
        self.classifier = nn.Linear(channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))


def channel_scales(network: Network, operator: Operator) -> np.ndarray:
    """Of the weights: multiplier · S_out / S_in."""
    multiplier = operator.mantissa / 2.0 ** operator.shift.astype(float)
    tensors = network.tensors
    return multiplier * tensors[operator.output].scale / tensors[operator.inputs[0]].scale


# --- folding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_codes_are_the_folded_layer(depthwise, bias, norm):
    """Weights within half a step, and with them what torch computes in evaluation."""
    layer = nn.Conv2d(3, 3 if depthwise else 5, 3, 2, 1, groups=3 if depthwise else 1, bias=bias)
    after = [nn.BatchNorm2d(layer.out_channels)] if norm else []
    model = randomized(Layers(layer, *after, nn.ReLU()), 1)
    network = quantize(model, pictures(8, 9, 7))
    operator = network.operators[0]
    assert operator.kind == ("depthwise" if depthwise else "conv")
    scale = torch.from_numpy(channel_scales(network, operator))
    codes = torch.from_numpy(operator.weight).double()
    codes = codes.permute(2, 0, 1)[:, None] if depthwise else codes.permute(0, 3, 1, 2)
    assert codes.abs().amax((1, 2, 3)).tolist() == [127] * len(codes)
    source = network.input.scale
    x = normalize(pictures(2, 9, 7, seed=5)).double()
    with torch.inference_mode():
        expected = model.layers[: 1 + norm].double()(x)
    found = nn.functional.conv2d(
        x, codes * scale[:, None, None, None], torch.from_numpy(operator.bias) * source * scale,
        stride=2, padding=1, groups=layer.groups,
    )  # fmt: skip
    products = layer.weight[0].numel()
    reach = (products * float(x.abs().max()) + source) * scale / 2 + 1e-6
    assert ((found - expected).abs() <= reach[:, None, None]).all()
    assert (found - expected).abs().max() > 0


@given(configs(), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_config_becomes_integers_that_fit(config, seed, tiny):
    """No sum leaves int32, whatever the image; every shift is one that the kernels serve."""
    network = quantize(built(config, seed, tiny), pictures(4, 9, 7))
    for operator in network.operators:
        zeros = [network.tensors[name].zero_point for name in operator.inputs]
        if operator.kind == "add":
            reach = sum(m * 256 for m in operator.mantissa.tolist())
            zero_out = network.tensors[operator.output].zero_point
            shift = int(operator.shift[0])
            offset = (zero_out << shift) + (1 << (shift - 1)) - sum(
                z * m for z, m in zip(zeros, operator.mantissa.tolist(), strict=True)
            )  # fmt: skip
            assert 1 <= shift <= 22
            assert abs(offset) + reach / 2 < 2**31
            continue
        if operator.mantissa.size:
            assert LEAST_SHIFT <= operator.shift.min() <= operator.shift.max() <= 55
            assert operator.mantissa.min() >= 2**30
        if operator.weight.size:
            channel = operator.weight.ndim - 1 if operator.kind == "depthwise" else 0
            others = tuple(axis for axis in range(operator.weight.ndim) if axis != channel)
            products = np.abs(operator.weight.astype(np.int64)).sum(others)
            folded = operator.bias - zeros[0] * operator.weight.astype(np.int64).sum(others)
            assert (np.abs(operator.bias.astype(np.int64)) + 255 * products < 2**31).all()
            assert (np.abs(folded) + 128 * products < 2**31).all()


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet8", "widths": [8, 12, 16]},
        {"architecture": "mobile", "stem": 8, "blocks": [(1, 8, 1), (3, 12, 2), (3, 12, 1, 5)]},
    ],
    ids=lambda config: config["architecture"],
)
def test_logits_are_close_to_the_networks(config):
    """With random weights the errors of 8 bits add up to some per cent of the logits."""
    errors = []
    for seed in range(12):
        model, images = built(config, seed), pictures(16, 9, 7)
        network, others = quantize(model, images), pictures(16, 9, 7, seed=9)
        with torch.inference_mode():
            expected = model(normalize(others))
        found = network.logits(others) * network.output.scale
        errors.append(float((found - expected).norm() / expected.norm()))
    assert 0.001 < statistics.median(errors) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8", "mobile"])
def test_shipped_networks_keep_their_accuracy(name):
    model = checkpoints.load(checkpoints.shipped(name, "glyphs"))
    images = datasets.load("glyphs", "train", quiet=True).head(64).images
    data = datasets.load("glyphs", "val", quiet=True).head(300)
    network = quantize(model, images)
    with torch.inference_mode():
        answers = model.eval()(normalize(data.images)).argmax(1)
    assert (network.logits(data.images).argmax(1) == answers).double().mean() > 0.97
    assert abs(network.accuracy(data) - float((answers == data.labels).double().mean())) < 0.02


# --- ranges and scales ----------------------------------------------------------------------------


def test_scales_cover_what_was_seen():
    model, images = built({"architecture": "mobile", "blocks": [(2, 8, 1)]}, 3), pictures(8, 9, 7)
    network = quantize(model, images)
    seen = {}

    def record(module, inputs, output):
        seen[module] = output

    for module in (model.bn_stem, model.blocks[0].bn_project):
        module.register_forward_hook(record)
    with torch.inference_mode():
        model(normalize(images))
    stem = network.tensors["stem"]
    assert (stem.zero_point, stem.shape) == (-128, (9, 7, 16))  # a ReLU: the least code is 0
    assert stem.scale * 255 == pytest.approx(float(seen[model.bn_stem].max()), rel=1e-6)
    project, values = network.tensors["blocks.0.project"], seen[model.blocks[0].bn_project]
    assert project.scale * 255 == pytest.approx(float(values.max() - values.min()), rel=1e-6)
    low = (-128 - project.zero_point) * project.scale
    assert low == pytest.approx(float(values.min()), abs=project.scale)
    image = network.input
    assert (image.scale * 255, image.zero_point) == (pytest.approx(4.0), 0)


def test_a_range_covers_all_but_the_rarest_values():
    """One in 20,000 on either side is given up; zero always has a code."""
    layer = nn.Conv2d(3, 1, 1, bias=False)
    model = Layers(layer).eval()
    nn.init.constant_(layer.weight, 1 / 3)
    images = torch.full((1, 3, 300, 300), 128, dtype=torch.uint8)
    images[0, :, 0, :3] = 255  # 3 of 90,000
    high = float(normalize(images)[0, 0, 1, 1])
    tensor = quantize(model, images).tensors["layers.0"]
    assert tensor.scale * 255 == pytest.approx(high, rel=1e-3)
    images[0, :, 0, :30] = 255
    tensor = quantize(model, images).tensors["layers.0"]
    assert tensor.scale * 255 == pytest.approx(2, rel=1e-3)
    assert tensor.zero_point == -128  # nothing below 0 was seen, but 0 has a code


def test_a_channel_without_weights_is_its_bias():
    """Gains of nothing or nearly so, as pruning and weight decay leave them."""
    layer, norm = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
    model = randomized(Layers(layer, norm), 2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 0.0, 1e-30, 1e-9]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -0.7, 0.3]))
    images = pictures(4, 8, 8)
    network = quantize(model, images)
    tensor = network.tensors["layers.0"]
    values = (network.values(images)["layers.0"] - tensor.zero_point) * tensor.scale
    for channel, expected in ((1, 1.0), (2, -0.7), (3, 0.3)):
        assert (values[:, channel] - expected).abs().max() <= 0.51 * tensor.scale
    operator = network.operators[0]
    assert not operator.weight[1:3].any()
    assert channel_scales(network, operator).min() * network.input.scale == pytest.approx(
        LEAST_MULTIPLIER * tensor.scale, rel=1e-6
    )


def test_a_bias_far_below_zero_leaves_room_for_the_products():
    layer = nn.Conv2d(3, 2, 3, 1, 1)
    model = randomized(Layers(layer, nn.ReLU()), 2)
    with torch.no_grad():
        layer.weight[0] *= 2.0**-10
        layer.bias.copy_(torch.tensor([-1e7, 1.0]))
    network = quantize(model, pictures(4, 8, 8))
    operator = network.operators[0]
    products = 255 * np.abs(operator.weight[0].astype(np.int64)).sum()
    assert products > 2**16
    assert abs(int(operator.bias[0])) + products < 2**31
    assert (network.values(pictures(4, 8, 8))["layers.0"][:, 0] == -128).all()


@pytest.mark.parametrize("part", ["conv", "norm", "classifier", "everything"])
def test_a_network_of_zeros_gives_zeros(part):
    model = models.build({"architecture": "resnet8", "widths": [4, 4, 4]}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part == "everything" or part in name or (part == "norm" and "bn" in name):
                parameter.zero_()
    images = pictures(4, 8, 8)
    network = quantize(model, images)
    found = network.logits(images) * network.output.scale
    with torch.inference_mode():
        expected = model(normalize(images))
    assert torch.allclose(found.double(), expected.double(), atol=0.02)


class Difference(nn.Module):
    """Two branches that cancel almost: the sum needs a far smaller scale than its inputs."""

    def __init__(self, left: float) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(3, 4, 1, bias=False) for _ in range(2))
        self.classifier = nn.Linear(4, 2)
        with torch.no_grad():
            self.b.weight.copy_((left - 1) * self.a.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier((self.a(x) + self.b(x)).mean((2, 3)))


@pytest.mark.parametrize("left", [0.0, 1e-6, 0.01])
def test_branches_that_cancel(left):
    network = quantize(Difference(left).eval(), pictures(4, 8, 8))
    [add] = [operator for operator in network.operators if operator.kind == "add"]
    assert 10 <= add.shift[0] <= 22
    assert 0 < add.mantissa.max() <= 2**21
    network.logits(pictures(2, 8, 8))


# --- fixed-point numbers --------------------------------------------------------------------------


@given(st.lists(st.floats(2.0**-32, 0.249), min_size=1, max_size=8))
def test_a_multiplier_is_mantissa_by_power_of_two(multipliers):
    mantissa, shift = fixed_point(np.array(multipliers))
    assert (mantissa.dtype, shift.dtype) == (np.int32, np.int8)
    assert (mantissa >= 2**30).all()
    assert (shift >= LEAST_SHIFT).all()
    assert (shift <= MOST_SHIFT).all()
    back = mantissa.astype(float) * 2.0 ** -shift.astype(float)
    assert np.allclose(back, multipliers, rtol=2.0**-31, atol=0)


def test_a_mantissa_that_rounds_up_to_the_next_power():
    mantissa, shift = fixed_point(np.array([0.125 - 2.0**-40, 0.125]))
    assert mantissa.tolist() == [2**30, 2**30]
    assert shift.tolist() == [33, 33]
    assert fixed_point(np.empty(0))[0].size == 0


@pytest.mark.parametrize("multiplier", [0.0, 2.0**-33, 0.25, 1.0, 1e9])
def test_multipliers_out_of_range(multiplier):
    with pytest.raises(ValueError, match=r"got multipliers from .* allowed: 2\^-32 to below 1/4"):
        fixed_point(np.array([0.01, multiplier]))


# --- what is refused --------------------------------------------------------------------------


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x.mean((2, 3))))


class Twice(nn.Module):
    def __init__(self, by: float | None) -> None:
        super().__init__()
        self.by, self.classifier = by, nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier((x + (x if self.by is None else self.by)).mean((2, 3)))


class Shared(nn.Module):
    """Read before and after the next layer, which therefore is no part of the convolution."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.conv, self.after, self.classifier = nn.Conv2d(3, 4, 1), after, nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.classifier((self.after(y) + y).mean((2, 3)))


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.mean((1, 2)))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (models.VGG([4, "M", 8]), r"got \S+ \(MaxPool2d\); allowed: Conv2d"),
        (Layers(nn.Conv2d(3, 4, 3), nn.Sigmoid()), r"got layers.1 \(Sigmoid\); allowed"),
        (Layers(nn.Conv2d(3, 4, 3), nn.ReLU6()), r"\(ReLU6\)"),
        (Layers(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), r"\(BatchNorm2d\)"),
        (Layers(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=2)), "got 2 groups of 4 channels"),
        (Layers(nn.Conv2d(3, 6, 3, groups=3)), "got 3 groups of 3 channels into 6"),
        (Layers(nn.Conv2d(3, 4, 3, dilation=2)), "no dilation"),
        (Layers(nn.Conv2d(3, 4, (3, 1))), "square kernels"),
        (Layers(nn.Conv2d(3, 4, 3, (2, 1))), "square kernels and strides"),
        (Layers(nn.Conv2d(3, 4, 3, padding=2)), "up to half of the kernel"),
        (Layers(nn.Conv2d(3, 4, 3, padding=(1, 0))), "up to half of the kernel"),
        (Layers(nn.Conv2d(3, 4, 3, padding="same")), "up to half of the kernel"),
        (Layers(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "zeros around it"),
        (Hidden(), r"got first \(Linear\) inside of the network; allowed: at its end"),
        (Twice(None), "got an addition of .*; allowed: of two tensors of one shape"),
        (Twice(1.0), "got an addition of "),
        (Shared(nn.ReLU()), r"got after \(ReLU\)"),
        (Shared(nn.BatchNorm2d(4)), r"got after \(BatchNorm2d\)"),
        (Rows(), "allowed: the mean of dimensions 2, 3"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value[:30],
)
def test_what_integers_are_not_taught_for(model, said):
    with pytest.raises(ValueError, match=said):
        quantize(model.eval(), pictures(2, 8, 8))


def test_images_have_to_be_bytes():
    with pytest.raises(ValueError, match="uint8"):
        quantize(models.ResNet8([4, 4, 4]), torch.zeros(1, 3, 8, 8))
