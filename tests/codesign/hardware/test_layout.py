"""Windows against brute force, and every byte followed through a whole run: who wrote it last?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import built, configs, pictures, stages

from benchmarks.cortex_m_kernels import single
from codesign import models
from codesign.hardware.layout import Layout, Window, needed
from codesign.hardware.memory_planner import peak, plan
from codesign.post_training import quantize

SCRATCH = -2


def inside(window):
    """All places of a window."""
    rows = range(window.top, window.top + window.height)
    return set(itertools.product(rows, range(window.left, window.left + window.width)))


def read_by(operator, places, shape):
    """What one has to read to write ``places``, point by point."""
    if operator.kind == "add":
        return places
    if operator.kind in ("mean", "linear"):
        return set(itertools.product(range(shape[0]), range(shape[1])))
    size, stride, padding = operator.weight.shape[1], operator.stride, operator.padding
    found = {
        (y * stride + k - padding, x * stride + m - padding)
        for y, x in places
        for k, m in itertools.product(range(size), range(size))
    }
    return {(y, x) for y, x in found if 0 <= y < shape[0] and 0 <= x < shape[1]}


@st.composite
def windows(draw, height, width):
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Window(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@given(
    st.sampled_from([1, 3, 5, 7]),
    st.integers(1, 2),
    st.integers(1, 9),
    st.integers(1, 9),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_the_window_that_is_needed(size, stride, height, width, data):
    network = single("conv", 1, 1, size, height, width, stride=stride)
    operator, (high, wide, _) = network.operators[0], network.output.shape
    window = data.draw(windows(high, wide))
    exact = read_by(operator, inside(window), (height, width))
    low, high = ([end(axis) for axis in zip(*exact, strict=True)] for end in (min, max))
    extent = [b - a + 1 for a, b in zip(low, high, strict=True)]
    assert needed(operator, window, (height, width, 1)) == Window(*low, *extent)


def test_the_smallest_window_of_two():
    assert Window(1, 5, 2, 2).union(Window(4, 0, 1, 6)) == Window(1, 0, 4, 7)


class Memory:
    """An arena in which every byte knows whose value it holds."""

    def __init__(self, layout, offsets):
        self.layout, self.offsets = layout, offsets
        self.bytes = np.full(peak(layout.buffers(), offsets), -1, np.int64)
        self.numbers = {name: i for i, name in enumerate(layout.tensors)}

    def addresses(self, name, window, held):
        """Of every value of ``window`` of a tensor of which ``held`` is there."""
        channels = self.layout.tensors[name].shape[2]
        rows = np.arange(window.height)[:, None, None] + window.top - held.top
        columns = np.arange(window.width)[None, :, None] + window.left - held.left
        start = self.offsets[self.layout.homes[name]]
        return start + rows * self.layout.row(name) + columns * channels + np.arange(channels)

    def values(self, name, window):
        """A number for every value of the network."""
        _, width, channels = self.layout.tensors[name].shape
        rows = np.arange(window.height)[:, None, None] + window.top
        columns = np.arange(window.width)[None, :, None] + window.left
        place = (rows * width + columns) * channels + np.arange(channels)
        return self.numbers[name] * 2**32 + place


def follow(layout, offsets):
    """Run the network on names: what is read has to be there, what is written may hurt nobody."""
    memory = Memory(layout, offsets)
    steps = [(i, w) for w in layout.patches for i in range(layout.staged)]
    steps += [(i, layout.whole) for i in range(layout.staged, len(layout.operators))]
    for index, placed in steps:
        operator = layout.operators[index]
        window = placed[operator.output]
        scratch = layout._scratch_bytes(index, operator)
        own = slice(0, 0)
        if scratch:
            own = slice(offsets[f"scratch {index}"], offsets[f"scratch {index}"] + scratch)
            memory.bytes[own] = SCRATCH
        before = {}
        for name in operator.inputs:
            if name not in layout.homes:
                continue  # the image
            read = needed(operator, window, layout.tensors[name].shape)
            held = placed[name] if layout.is_local(name) else layout.whole[name]
            assert inside(read) <= inside(held)
            before[name] = memory.addresses(name, read, held)
            there = memory.bytes[before[name]]
            assert (there == memory.values(name, read)).all(), (index, operator.kind, name)
        if index == len(layout.operators) - 1:
            return
        held = window if layout.is_local(operator.output) else layout.whole[operator.output]
        to = memory.addresses(operator.output, window, held)
        for addresses in before.values():
            if not np.intersect1d(addresses, to).size:
                continue
            assert layout.in_place
            if operator.kind == "add":  # value by value
                assert (addresses == to).all()
                continue
            assert operator.kind == "depthwise"  # channel after channel
            channels = np.arange(to.shape[-1])
            assert ((addresses - to.min()) % len(channels) == channels).all()
            assert ((to - to.min()) % len(channels) == channels).all()
        memory.bytes[to] = memory.values(operator.output, window)
        assert (memory.bytes[own] == SCRATCH).all(), index


@given(configs(), st.integers(1, 12), st.integers(1, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_every_value_is_there_when_it_is_read(config, height, width, data):
    network = quantize(built(config, 0), pictures(2, height, width))
    kernels = data.draw(st.sampled_from(["naive", "simd"]))
    in_place = kernels == "simd" and data.draw(st.booleans())
    layout = Layout(network, kernels, in_place, data.draw(patches(network)))
    follow(layout, plan(layout.buffers()))


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("in_place", [False, True])
def test_every_value_is_there_at_every_end_of_the_stage(rows, in_place):
    network = reference()
    for count in stages(network)[:-1]:
        layout = Layout(network, "simd", in_place, (rows, min(rows, 3), count))
        follow(layout, plan(layout.buffers()))


@st.composite
def patches(draw, network):
    """None, or patches that the network allows."""
    count = draw(st.sampled_from([None, *stages(network)]))
    if count is None:
        return None
    height, width, _ = network.tensors[network.operators[count - 1].output].shape
    return draw(st.integers(1, height)), draw(st.integers(1, width)), count


@given(configs(), st.integers(4, 12), st.integers(4, 12), st.data())
@settings(max_examples=25, deadline=None)
def test_patches_cover_the_output_once_and_count_what_they_repeat(config, height, width, data):
    network = quantize(built(config, 0), pictures(2, height, width))
    chosen = data.draw(patches(network).filter(bool))
    layout = Layout(network, "simd", True, chosen)
    rows, columns, count = chosen
    last = network.operators[count - 1].output
    whole = inside(layout.whole[last])
    written = [inside(windows[last]) for windows in layout.patches]
    assert len(written) == rows * columns
    assert sum(map(len, written)) == len(whole)
    assert set.union(*written) == whole
    products = sum(network.macs(operator) for operator in network.operators[count:])
    for windows in layout.patches:
        reads = {last: inside(windows[last])}
        for operator in reversed(network.operators[:count]):
            shape = network.tensors[operator.output].shape
            each = network.macs(operator) // (shape[0] * shape[1])
            products += each * len(inside(windows[operator.output]))
            for name in operator.inputs:
                more = read_by(
                    operator, inside(windows[operator.output]), network.tensors[name].shape
                )
                reads[name] = reads.get(name, set()) | more
        for name, places in reads.items():
            assert places <= inside(windows[name])
    assert layout.macs() == products
    assert layout.macs() >= sum(map(network.macs, network.operators))


def reference():
    model = models.build({"architecture": "mobile", "stem": 4, "blocks": [(2, 4, 1), (2, 8, 2)]})
    return quantize(model, pictures(2, 8, 8))


def test_a_tensor_that_only_its_operator_reads_is_overwritten():
    network = reference()
    homes = Layout(network, "simd", True, None).homes
    assert homes["blocks.0.depthwise"] == "blocks.0.expand"
    assert homes["blocks.1.depthwise"] == "blocks.1.expand"
    assert homes["add"] == "blocks.0.project"  # the block's input is an output of the stem
    assert homes["blocks.0.expand"] == "blocks.0.expand"
    apart = Layout(network, "simd", False, None).homes
    assert all(name == home for name, home in apart.items())


def test_a_tensor_that_is_read_again_is_not_overwritten():
    model = models.build({"architecture": "mobile", "stem": 4, "blocks": [(1, 4, 1)]})
    layout = Layout(quantize(model, pictures(2, 8, 8)), "simd", True, None)
    assert layout.homes["blocks.0.depthwise"] == "blocks.0.depthwise"  # the stem is added later


def test_stages_end_where_only_the_last_output_is_read_later():
    network = reference()
    kinds = " ".join(operator.kind for operator in network.operators)
    assert kinds == "conv conv depthwise conv add conv depthwise conv conv mean linear"
    assert stages(network) == [1, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ((2, 2, 0), "got 0 operators; allowed: 1 to 10"),
        ((2, 2, 11), "got 11 operators; allowed: 1 to 10"),
        ((2, 2, -1), "got -1 operators"),
        ((2, 2, 2), "got 2 operators; stem does not end inside of them"),
        ((1, 1, 4), "got 4 operators; stem does not end"),
        ((9, 2, 1), "got 9 × 2 patches; allowed: up to 8 × 8, the shape of stem"),
        ((2, 0, 1), "got 2 × 0 patches"),
        ((5, 1, 8), "allowed: up to 4 × 4, the shape of blocks.1.project"),
    ],
)
def test_patches_that_do_not_fit(chosen, said):
    with pytest.raises(ValueError, match=said):
        Layout(reference(), "simd", True, chosen)
