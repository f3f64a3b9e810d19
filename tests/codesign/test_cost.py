"""Counted cost against hand counts, torch's FLOP counter, and encoders that really encode."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codesign import cost, models

NETWORKS = [
    {"architecture": "vgg"},
    {"architecture": "resnet8"},
    {"architecture": "vgg", "channels": [5, "M", 7, 3, "M", 9]},
    {"architecture": "resnet8", "widths": [3, 8, 5]},
]


def torch_macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """The oracle: torch counts two FLOPs for each MAC of a convolution or matrix product."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(shape))
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@st.composite
def convolutions(draw) -> tuple[nn.Conv2d, tuple[int, ...]]:
    groups = draw(st.integers(1, 4))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )
    sides = draw(st.tuples(st.integers(7, 12), st.integers(7, 12)))
    return layer, (1, layer.in_channels, *sides)


# --- MACs and parameters -------------------------------------------------------------------------


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_macs_of_networks_agree_with_torch(config):
    model = models.build(config)
    assert cost.macs(model) == torch_macs(model, cost.INPUT_SHAPE)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_macs_of_any_convolution_agree_with_torch(case):
    layer, shape = case
    assert cost.macs(layer, shape) == torch_macs(layer, shape)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_macs_of_a_linear_layer_count_every_row(inputs, outputs, rows):
    layer = nn.Linear(inputs, outputs)
    assert cost.macs(layer, (rows, inputs)) == rows * inputs * outputs
    assert cost.macs(layer, (rows, inputs)) == torch_macs(layer, (rows, inputs))


def test_layers_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4, bias=False)
    )
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias.fill_(1)
    first, second = cost.layers(model, (1, 3, 16, 16))
    assert first == cost.LayerCost(
        "0", 8 * 27 + 8, 7 * 27 + 8, 8 * 8 * 8 * 27, (1, 3, 16, 16), (1, 8, 8, 8)
    )
    assert second == cost.LayerCost(
        "2", 8 * 2 * 9, 8 * 2 * 9, 8 * 6 * 6 * 2 * 9, (1, 8, 8, 8), (1, 8, 6, 6)
    )
    assert first.sparsity == pytest.approx(27 / (8 * 27 + 8))


def test_layers_are_listed_in_the_order_in_which_they_run():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.unused = nn.Linear(2, 3), nn.Linear(4, 2), nn.Linear(9, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    assert [layer.name for layer in cost.layers(Backwards(), (1, 4))] == ["first", "last"]


def test_resnet8_macs_by_hand():
    stem = 32 * 32 * 16 * 27
    stacks = 2 * 32 * 32 * 16 * 16 * 9
    stacks += 16 * 16 * 32 * (16 * 9 + 32 * 9 + 16) + 8 * 8 * 64 * (32 * 9 + 64 * 9 + 32)
    assert cost.macs(models.build({"architecture": "resnet8"})) == stem + stacks + 64 * 10


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_model_as_it_was(training):
    model = models.build({"architecture": "resnet8", "widths": [4, 4, 4]}).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost.macs(model)
    cost.activation_peak(model)
    assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("count", [cost.macs, cost.activation_peak])
def test_a_failing_model_is_left_as_it_was(count):
    model = models.build({"architecture": "vgg", "channels": [4]}).train()
    with pytest.raises(RuntimeError):
        count(model, (1, 5, 32, 32))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_only_convolutions_and_linear_layers_have_macs():
    with pytest.raises(ValueError, match="BatchNorm2d; allowed: Conv2d, Linear"):
        cost.layer_macs(nn.BatchNorm2d(3), torch.zeros(1))


# --- sparsity ------------------------------------------------------------------------------------


def test_only_exact_zeros_count():
    weight = torch.tensor([0.0, -0.0, 1e-45, -1e-30, 1.0])
    assert cost.nonzeros(weight) == 3
    assert cost.sparsity(weight) == pytest.approx(0.4)


@given(st.lists(st.sampled_from([0.0, 1e-40, -2.0]), min_size=1, max_size=40))
def test_sparsity_is_zeros_by_size(values):
    assert cost.sparsity(torch.tensor(values)) == pytest.approx(values.count(0.0) / len(values))


def test_sparsity_of_a_model_is_over_its_weights():
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=True), nn.BatchNorm2d(4), nn.Linear(4, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
        model[0].bias.zero_()
        model[1].weight.zero_()
        model[2].weight[0].zero_()
    assert cost.sparsity(model) == pytest.approx(4 / 20)
    assert cost.nonzeros(model) == 4 + 0 + 0 + 4 + 12 + 4
    assert cost.parameters(model) == 4 + 4 + 4 + 4 + 16 + 4


@pytest.mark.parametrize("nothing", [torch.zeros(0), nn.ReLU()], ids=["tensor", "model"])
def test_the_sparsity_of_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="no weights"):
        cost.sparsity(nothing)


# --- activations ---------------------------------------------------------------------------------


class Residual(nn.Module):
    """relu(conv(x) + x), where x is a convolution's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.shortcut = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        z = self.shortcut(y)
        return torch.relu(self.conv(y) + z)


class Wide(nn.Module):
    """Three branches of one input, all alive until they are added."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (branch(x) for branch in self.branches)
        return a + b + c


class KeepsInput(nn.Module):
    """x + relu(x): the ReLU may not overwrite x, which is read again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(x)


class Scaled(nn.Module):
    """Own parameters are weights, not activations."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.sum()


class Flat(nn.Module):
    """Views of its input, as a function and as a method."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x, 2).flatten(1)


@pytest.mark.parametrize(
    ("model", "shape", "elements"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 10), 300 + 800),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), (1, 3, 4, 4), 48 + 128),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 1)), (1, 1, 2, 2), 16 + 32),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.MaxPool2d(2)), (1, 1, 8, 8), 64 + 256),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (1, 3, 2, 2), 12 + 5),
        (nn.ReLU(), (1, 3, 4, 4), 48),
        (Flat(), (1, 3, 4, 4), 48),
        (Residual(), (1, 1, 3, 3), 36 + 36),
        (Wide(), (1, 2, 3, 3), 18 * 4),
        (KeepsInput(), (1, 7), 14),
        (Scaled(), (1, 7), 7 + 1 + 7),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_activation_peak_by_hand(model, shape, elements):
    assert cost.activation_peak(model, shape) == 4 * elements
    assert cost.activation_peak(model, shape, bits=8) == elements


def test_the_networks_peak_where_their_two_largest_tensors_meet():
    vgg = models.build({"architecture": "vgg"})
    assert cost.activation_peak(vgg, bits=8) == 32 * 32 * (32 + 32)
    resnet = models.build({"architecture": "resnet8"})
    assert cost.activation_peak(resnet, bits=8) == 32 * 32 * (16 + 16 + 16)


def test_partial_bytes_are_rounded_up():
    assert cost.activation_peak(nn.ReLU(), (1, 3), bits=4) == 2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 9), st.just("M")), min_size=1, max_size=6))
def test_the_peak_of_a_chain_is_its_largest_neighbouring_pair(tail):
    channels = [3, *(c for c in tail if tail.count("M") < 5 or c != "M")]
    sizes, side, width = [3 * 32 * 32], 32, 3
    for item in channels:
        side, width = (side // 2, width) if item == "M" else (side, item)
        sizes.append(width * side * side)
    sizes += [width, 10]
    expected = max(a + b for a, b in itertools.pairwise(sizes))
    model = models.build({"architecture": "vgg", "channels": channels})
    assert cost.activation_peak(model, bits=8) == expected


# --- bytes ---------------------------------------------------------------------------------------

sparse_weights = st.lists(st.sampled_from([0.0] * 6 + [1.0, -2.0]), min_size=1, max_size=120).map(
    torch.tensor
)


def bits_to_bytes(bits: int) -> int:
    return math.ceil(bits / 8)


def relative_entries(weight: torch.Tensor, index_bits: int) -> list[tuple[int, float]]:
    """The encoder of Deep Compression, one step at a time: (zeros before, value)."""
    entries, run = [], 0
    for value in weight.flatten().tolist():
        if value != 0 or run == 2**index_bits - 1:
            entries.append((run, value))
            run = 0
        else:
            run += 1
    while entries and entries[-1][1] == 0:
        entries.pop()  # zeros at the end follow from the size
    return entries


def relative_decoded(entries: list[tuple[int, float]], size: int) -> torch.Tensor:
    values = [v for run, value in entries for v in [0.0] * run + [value]]
    return torch.tensor(values + [0.0] * (size - len(values)))


@given(sparse_weights, st.integers(1, 5), st.integers(1, 32))
def test_relative_index_bytes_against_an_encoder(weight, index_bits, value_bits):
    entries = relative_entries(weight, index_bits)
    assert torch.equal(relative_decoded(entries, weight.numel()), weight)
    assert all(run < 2**index_bits for run, _ in entries)
    expected = bits_to_bytes(len(entries) * (index_bits + value_bits))
    assert cost.relative_index_bytes(weight, value_bits, index_bits) == expected


def test_relative_index_of_the_papers_example():
    """Han et al. 2016, figure 2: nonzeros at 1, 4, 15 with 3 bits need one filler, at 12."""
    weight = torch.zeros(16)
    weight[[1, 4, 15]] = torch.tensor([3.4, 0.9, 1.7])
    assert cost.relative_index_bytes(weight, value_bits=29, index_bits=3) == 4 * 32 // 8


@given(st.integers(1, 6), st.integers(1, 9), st.data())
def test_csr_bytes_against_torch(rows, columns, data):
    values = st.lists(
        st.sampled_from([0.0, 0.0, 1.5]), min_size=rows * columns, max_size=rows * columns
    )
    weight = torch.tensor(data.draw(values)).reshape(rows, columns)
    indices, starts, kept = [], [0], []
    for row in weight.tolist():
        indices += [i for i, v in enumerate(row) if v != 0]
        kept += [v for v in row if v != 0]
        starts.append(len(kept))
    stored = 32 * len(kept) + 32 * len(indices) + 32 * len(starts)
    assert cost.csr_bytes(weight) == bits_to_bytes(stored)
    assert cost.csr_bytes(weight, 8, 16) == bits_to_bytes(
        8 * len(kept) + 16 * len(indices) + 16 * len(starts)
    )


def test_csr_flattens_a_convolution_to_one_row_per_output():
    weight = torch.ones(4, 3, 2, 2)
    assert cost.csr_bytes(weight) == 4 * (48 + 48 + 5)


@given(st.integers(1, 8), st.integers(0, 3), st.integers(1, 20), st.integers(1, 32))
def test_nm_bytes_against_an_encoder(n, more, groups, value_bits):
    m = n + more
    weight = torch.zeros(groups, m)
    weight[:, :n] = 1
    index_bits = math.ceil(math.log2(m))
    bits = sum(value_bits + index_bits for group in weight.tolist() for v in group if v != 0)
    assert cost.nm_bytes(weight, n, m, value_bits) == bits_to_bytes(bits)


def test_two_of_four_by_hand_and_what_it_cannot_hold():
    weight = torch.eye(4).repeat(4, 4)
    assert cost.nm_bytes(weight) == 128 * (32 + 2) // 8, "two values of every four, used or not"
    with pytest.raises(ValueError, match="256 nonzeros; 2:4 holds at most 128"):
        cost.nm_bytes(torch.ones(16, 16))


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (2, 3)])
def test_an_impossible_pattern_is_refused(n, m):
    with pytest.raises(ValueError, match="allowed: 1 <= n <= m, a multiple of m"):
        cost.nm_bytes(torch.zeros(16), n, m)


def test_model_bytes_count_what_inference_loads():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    values = 3 * 4 * 9 + 4 * 4  # batch norm: scale, shift, mean, variance; its counter is not read
    assert cost.model_bytes(model) == 4 * values
    assert cost.model_bytes(model, bits=4) == values // 2
    assert cost.model_bytes(nn.Linear(1, 2), bits=3) == 2, "12 bits"
