"""The networks: what a config may be, what it builds, and how many parameters that has."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import cost, models
from codesign.models.mobile import KERNELS, MAX_BLOCKS, REFERENCE_BLOCKS, InvertedResidual
from codesign.models.vgg import MAX_CHANNELS, MAX_POOLS, REFERENCE_CHANNELS

widths = st.integers(1, 12)
mobile_blocks = st.builds(
    lambda *numbers, kernel: [*numbers, *kernel],
    st.integers(1, 8),
    widths,
    st.integers(1, 2),
    kernel=st.lists(st.sampled_from(KERNELS), max_size=1),
)


@st.composite
def vgg_channels(draw) -> list[int | str]:
    entries = draw(st.lists(st.one_of(widths, st.just("M")), min_size=1, max_size=8))
    channels: list[int | str] = [draw(widths)]
    for entry in entries:
        if entry != "M" or channels.count("M") < MAX_POOLS:
            channels.append(entry)
    return channels


configs = st.one_of(
    st.builds(
        lambda channels, classes: {
            "architecture": "vgg",
            "channels": channels,
            "num_classes": classes,
        },
        vgg_channels(),
        st.integers(1, 20),
    ),
    st.builds(
        lambda a, b, c, classes: {
            "architecture": "resnet8",
            "widths": [a, b, c],
            "num_classes": classes,
        },
        *[widths] * 3,
        st.integers(1, 20),
    ),
    st.builds(
        lambda stem, blocks, head, classes: {
            "architecture": "mobile",
            "stem": stem,
            "blocks": blocks,
            "head": head,
            "num_classes": classes,
        },
        widths,
        st.lists(mobile_blocks, min_size=1, max_size=6),
        widths,
        st.integers(1, 20),
    ),
)


@settings(max_examples=40, deadline=None)
@given(config=configs)
def test_a_config_survives_json_and_rebuilds_the_same_architecture(config):
    model = models.build(config)
    assert model.config == config
    again = models.build(json.loads(json.dumps(model.config)))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in again.state_dict().items()}
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model.eval()
    again.eval()
    with torch.inference_mode():
        assert torch.equal(model(x), again(x))
        assert model(x).shape == (2, config["num_classes"])


def test_defaults_are_the_reference_networks():
    assert models.build({"architecture": "vgg"}).config["channels"] == list(REFERENCE_CHANNELS)
    assert models.build({"architecture": "resnet8"}).config["widths"] == [16, 32, 64]
    mobile = models.build({"architecture": "mobile"})
    assert mobile.config["blocks"] == [list(block) for block in REFERENCE_BLOCKS]


def test_building_does_not_change_or_keep_the_config():
    config = {"architecture": "vgg", "channels": [4, "M", 8], "num_classes": 3}
    model = models.build(config)
    config["channels"].append(5)
    assert model.config["channels"] == [4, "M", 8]
    assert config["architecture"] == "vgg"


def test_vgg_parameters_by_hand():
    model = models.build({"architecture": "vgg", "channels": [4, "M", 6], "num_classes": 5})
    convolutions = 3 * 4 * 9 + 4 * 6 * 9
    assert cost.parameters(model) == convolutions + 2 * (4 + 6) + (6 * 5 + 5)


def test_the_reference_vgg_has_the_documented_size():
    model = models.build({"architecture": "vgg"})
    pairs = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 128)]
    by_hand = sum(9 * a * b + 2 * b for a, b in pairs) + 128 * 10 + 10
    assert cost.parameters(model) == by_hand
    assert round(by_hand / 1e6, 2) == 0.44
    assert round(cost.macs(model) / 1e6) == 41


def test_resnet8_has_the_published_size():
    """MLPerf Tiny's training log (mlcommons/tiny) counts 78,186 trainable parameters, with biases.

    Its seven 3x3 convolutions carry a bias each, which batch norm makes redundant: 16 + 2·16 +
    2·32 + 2·64 = 240 of them are not in ours.
    """
    model = models.build({"architecture": "resnet8"})
    assert cost.parameters(model) + 240 == 78_186
    assert round(cost.macs(model) / 1e6, 1) == 12.5


def test_resnet8_adds_its_shortcut():
    model = models.build({"architecture": "resnet8", "widths": [2, 3, 4]}).eval()
    stack = model.stacks[0]
    torch.nn.init.zeros_(stack.conv1.weight)
    x = torch.rand(1, 2, 8, 8)
    with torch.inference_mode():
        assert torch.equal(stack(x), x), "identity where the convolutions give nothing"
        assert model.stacks[1](x).shape == (1, 3, 4, 4)


def test_the_mobile_network_by_hand():
    """A convolution of K x K x C_in x C_out weights, at H x W places; batch norm has 2 C_out."""
    model = models.build({"architecture": "mobile"})
    side, width = 32, 16
    layers = [(9 * 3 * 16, 16, 32)]  # weights, outputs, side of the output
    for expansion, out, stride in REFERENCE_BLOCKS:
        inner = width * expansion
        layers += [(width * inner, inner, side)] * (expansion > 1)
        side //= stride
        layers += [(9 * inner, inner, side), (inner * out, out, side)]
        width = out
    layers += [(64 * 128, 128, 4)]
    parameters = sum(weights + 2 * outputs for weights, outputs, _ in layers) + 128 * 10 + 10
    macs = sum(weights * side**2 for weights, _, side in layers) + 128 * 10
    assert cost.parameters(model) == parameters == 120_074
    assert cost.macs(model) == macs == 10_041_088


def test_an_inverted_residual_adds_its_input_where_the_shapes_allow_it():
    for stride, out, adds in ((1, 4, True), (2, 4, False), (1, 5, False)):
        block = InvertedResidual(4, 2, out, stride).eval()
        torch.nn.init.zeros_(block.project.weight)
        x = torch.rand(1, 4, 7, 9)
        with torch.inference_mode():
            y = block(x)
        assert y.shape == (1, out, -(-7 // stride), -(-9 // stride))
        assert torch.equal(y, x if adds else torch.zeros_like(y)), (stride, out)


def test_an_inverted_residual_filters_each_channel_on_its_own_and_ends_linear():
    block = InvertedResidual(3, 2, 4, 1, kernel=5).eval()
    assert block.depthwise.weight.shape == (6, 1, 5, 5)
    with torch.inference_mode():
        assert block(torch.randn(4, 3, 9, 9)).min() < 0, "no ReLU after the projection"
    assert not InvertedResidual(3, 1, 4, 1).expands


BAD_BLOCKS = [
    None,
    8,
    "abc",
    {"a": 1},
    [],
    [4],
    [[]],
    ["123"],
    [[4, 8]],
    [[4, 8, 1, 3, 1]],
    [[0, 8, 1]],
    [[9, 8, 1]],
    [[4, 0, 1]],
    [[4, MAX_CHANNELS + 1, 1]],
    [[4, 8, 0]],
    [[4, 8, 3]],
    [[4, 8, 1, 4]],
    [[4, 8, 1, 9]],
    [[True, 8, 1]],
    [[4, 8.0, 1]],
    [[4, 8, "1"]],
    [[4, 8, None]],
    [[4, 8, 1]] * (MAX_BLOCKS + 1),
]
BAD_CONFIGS = [
    None,
    "vgg",
    [("architecture", "vgg")],
    {},
    {"architecture": None},
    {"architecture": ["vgg"]},
    {"architecture": "vgg16"},
    {"architecture": "vgg", "depth": 3},
    {"architecture": "resnet8", "channels": [4]},
    {"architecture": "vgg", 1: 2},
    *[
        {"architecture": "vgg", "channels": channels}
        for channels in (
            None,
            8,
            "MMM",
            {"a": 1},
            [],
            ["M"],
            ["M", 8],
            [8, "m"],
            [8, "P"],
            [8, ""],
            [0],
            [-1],
            [True],
            [8.0],
            ["8"],
            [None],
            [[8]],
            [MAX_CHANNELS + 1],
            [10**30],
            [float("nan")],
            [8] * 65,
            [8, *["M"] * (MAX_POOLS + 1)],
        )
    ],
    *[
        {"architecture": "resnet8", "widths": widths}
        for widths in (
            None,
            8,
            "abc",
            [],
            [8, 8],
            [8] * 4,
            [8, 8, 0],
            [8, -8, 8],
            [8, 8, True],
            [8, 8, 8.0],
            [8, 8, "8"],
            [8, [8], 8],
            [MAX_CHANNELS + 1, 8, 8],
        )
    ],
    *[
        {"architecture": name, "num_classes": classes}
        for name in ("vgg", "resnet8", "mobile")
        for classes in (0, -1, 2.0, "10", None, True, 10**9)
    ],
    *[{"architecture": "mobile", "blocks": blocks} for blocks in BAD_BLOCKS],
    *[
        {"architecture": "mobile", name: width}
        for name in ("stem", "head")
        for width in (0, -1, 8.0, "8", None, True, MAX_CHANNELS + 1)
    ],
]


@pytest.mark.parametrize("config", BAD_CONFIGS, ids=lambda c: repr(c)[:60])
def test_a_bad_config_is_refused_with_what_was_got(config):
    with pytest.raises(ValueError, match=r"got|config does not fit"):
        models.build(config)


@pytest.mark.parametrize("width", [True, 8.0, "8", None, 0, 1025], ids=repr)
def test_a_bad_width_is_named_by_the_class_itself(width):
    for call in (lambda: models.VGG([8], num_classes=width), lambda: models.ResNet8([8, width, 8])):
        with pytest.raises(ValueError, match=rf"got width.*{width!r}"):
            call()


@pytest.mark.parametrize("blocks", BAD_BLOCKS, ids=lambda b: repr(b)[:40])
def test_a_bad_block_is_named_with_what_is_allowed(blocks):
    with pytest.raises(ValueError, match=r"got blocks? .*; allowed: (a list|\(expansion 1 to 8)"):
        models.MobileNet(blocks=blocks)


def test_as_many_pools_as_an_image_has_halvings():
    channels = [2, *["M"] * MAX_POOLS]
    model = models.build({"architecture": "vgg", "channels": channels}).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
