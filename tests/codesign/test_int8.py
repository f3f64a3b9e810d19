"""The integer executor against plain integers of Python, and where floating point must not do."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import int8
from codesign.datasets import DatasetCard, ImageSet
from codesign.int8 import Network, Operator, Tensor, execute

NONE = np.empty(0, np.int8)
MOST = 2**31 - 1
codes = st.integers(-128, 127)


def plain(operator, inputs, zeros, zero_out):
    """One image's output ``[H][W][C]`` of inputs ``[H][W][C]``, by loops over Python's integers."""

    def scaled(total, mantissas, shift):
        total = sum(m * t for m, t in zip(mantissas, total, strict=True))
        return min(max((total + 2 ** (shift - 1)) // 2**shift + zero_out, -128), 127)

    x, zero = inputs[0], zeros[0]
    mantissa, shift = operator.mantissa.tolist(), operator.shift.tolist()
    height, width, channels = len(x), len(x[0]), len(x[0][0])
    places = list(itertools.product(range(height), range(width)))
    if operator.kind == "add":

        def added(*place):
            pairs = zip(inputs, zeros, strict=True)
            return scaled(
                [v[place[0]][place[1]][place[2]] - z for v, z in pairs], mantissa, shift[0]
            )

        spans = (range(height), range(width), range(channels))
        return [[[added(i, j, c) for c in spans[2]] for j in spans[1]] for i in spans[0]]
    if operator.kind == "mean":
        sums = [sum(x[i][j][c] - zero for i, j in places) for c in range(channels)]
        return [[[scaled([s], mantissa, shift[0]) for s in sums]]]
    weight, bias, step = operator.weight.tolist(), operator.bias.tolist(), operator.stride
    size = 1 if operator.kind == "linear" else operator.weight.shape[1]
    high, wide = ((n + 2 * operator.padding - size) // step + 1 for n in (height, width))
    out = [[[0] * len(bias) for _ in range(wide)] for _ in range(high)]
    for i, j, o in itertools.product(range(high), range(wide), range(len(bias))):
        total = bias[o]
        for k, m, c in itertools.product(range(size), range(size), range(channels)):
            row, column = i * step + k - operator.padding, j * step + m - operator.padding
            if not (0 <= row < height and 0 <= column < width):
                continue
            value = x[row][column][c] - zero
            if operator.kind == "linear":
                total += value * weight[o][c]
            elif operator.kind == "conv":
                total += value * weight[o][k][m][c]
            elif c == o:
                total += value * weight[k][m][c]
        out[i][j][o] = scaled([total], [mantissa[o]], shift[o]) if mantissa else total
    return out


def array(draw, shape, low, high, dtype):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.integers(low, high, shape, endpoint=True)
    if draw(st.booleans()):  # only the ends
        values = np.where(values > (low + high) // 2, high, low)
    return values.astype(dtype)


@st.composite
def operators(draw):
    """An operator of any kind, and the shape ``(H, W, C)`` of its inputs."""
    kind = draw(st.sampled_from(["conv", "depthwise", "add", "mean", "linear"]))
    height, width, channels = (draw(st.integers(1, most)) for most in (6, 6, 4))
    mantissas = (2**30, MOST, np.int32)
    if kind == "add":
        shift = draw(st.integers(10, 22))
        mantissa = array(draw, 2, 0, 2**21, np.int32)
        operator = Operator(
            kind="add",
            inputs=("a", "b"),
            output="y",
            weight=NONE,
            bias=NONE,
            mantissa=mantissa,
            shift=np.array([shift]),
        )
        return operator, (height, width, channels)
    if kind == "mean":
        mantissa, shift = array(draw, 1, *mantissas), array(draw, 1, 33, 42, np.int8)
        operator = Operator(
            kind="mean",
            inputs=("a",),
            output="y",
            weight=NONE,
            bias=NONE,
            mantissa=mantissa,
            shift=shift,
        )
        return operator, (height, width, channels)
    outputs = channels if kind == "depthwise" else draw(st.integers(1, 3))
    size = 1 if kind == "linear" else draw(st.sampled_from([1, 2, 3, 5]))
    padding = draw(st.integers(max(0, -((min(height, width) - size) // 2)), max(size // 2, 2)))
    shape = {
        "conv": (outputs, size, size, channels),
        "depthwise": (size, size, channels),
        "linear": (outputs, channels),
    }[kind]
    weight = array(draw, shape, -127, 127, np.int8)
    most = draw(st.sampled_from([0, 1_000, MOST - 255 * 127 * weight.size]))
    bias = array(draw, outputs, -most, most, np.int32)
    if kind == "linear":
        none = np.empty(0, np.int32)
        return Operator(
            kind="linear",
            inputs=("a",),
            output="y",
            weight=weight,
            bias=bias,
            mantissa=none,
            shift=NONE,
        ), (1, 1, channels)
    top = draw(st.sampled_from([40, 45, 62]))
    mantissa, shift = array(draw, outputs, *mantissas), array(draw, outputs, 33, top, np.int8)
    stride = draw(st.integers(1, 3))
    operator = Operator(
        kind=kind,
        inputs=("a",),
        output="y",
        weight=weight,
        bias=bias,
        mantissa=mantissa,
        shift=shift,
        stride=stride,
        padding=padding,
    )
    return operator, (height, width, channels)


@given(operators(), st.data())
@settings(max_examples=300, deadline=None)
def test_every_operator_is_that_of_plain_integers(drawn, data):
    operator, shape = drawn
    images = data.draw(st.integers(1, 2))
    inputs = [array(data.draw, (images, *shape), -128, 127, np.int64) for _ in operator.inputs]
    zeros = [data.draw(codes) for _ in operator.inputs]
    zero_out = data.draw(codes)
    tensors = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in inputs]
    got = execute(operator, tensors, zeros, zero_out).permute(0, 2, 3, 1)
    for image in range(images):
        expected = plain(operator, [x[image].tolist() for x in inputs], zeros, zero_out)
        assert got[image].tolist() == expected


# --- floating point only where it is exact --------------------------------------------------------


def convolution(inputs, outputs, size, weight):
    weights = np.full((outputs, size, size, inputs), weight, np.int8)
    one = np.full(outputs, 2**30, np.int32)
    shift = np.full(outputs, 33, np.int8)
    zero = np.zeros(outputs, np.int32)
    return Operator(
        kind="conv",
        inputs=("a",),
        output="y",
        weight=weights,
        bias=zero,
        mantissa=one,
        shift=shift,
        stride=1,
        padding=size // 2,
    )


@pytest.mark.parametrize("inputs", [517, 518, 519, 1_037, 4_001])
def test_sums_beyond_what_float32_holds(inputs):
    """255 · 127 is odd: an odd number of them beyond 2^24 lies between two float32."""
    operator = convolution(inputs, 1, 1, 127)
    x = torch.full((1, inputs, 1, 1), 127)
    assert int(int8._sums(operator, x, -128)) == inputs * 255 * 127
    assert 255 * 127 * 518 < 2**24 < 255 * 127 * 519


@pytest.fixture
def seen(monkeypatch):
    """Types of the numbers that went into torch's convolution."""
    found, real = [], torch.nn.functional.conv2d

    def spied(x, weight, **others):
        found.append((x.dtype, weight.dtype))
        return real(x, weight, **others)

    monkeypatch.setattr(int8.functional, "conv2d", spied)
    return found


@pytest.mark.parametrize("inputs", [518, 519])
def test_float32_below_its_end_and_float64_from_there(inputs, seen):
    int8._sums(convolution(inputs, 1, 1, -127), torch.zeros(1, inputs, 1, 1, dtype=torch.long), 0)
    assert seen == [(torch.float32 if inputs == 518 else torch.float64,) * 2]


def test_a_depthwise_sum_is_that_of_one_channel(seen):
    """9 products each, however many channels: float32 holds them."""
    weight = np.full((3, 3, 600), 127, np.int8)
    each = convolution(1, 600, 1, 0)
    operator = replace(each, kind="depthwise", weight=weight, padding=1)
    sums = int8._sums(operator, torch.full((1, 600, 3, 3), 127), -128)
    assert sums[0, :, 1, 1].unique().tolist() == [9 * 255 * 127]
    assert sums[0, :, 0, 0].unique().tolist() == [4 * 255 * 127]
    assert seen == [(torch.float32, torch.float32)]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_sums_are_exact_where_torch_has_no_onednn(size):
    """There it takes NNPACK for batches, whose transforms round: sums were wrong by up to 6."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("this torch has no NNPACK")
    operator = convolution(32, 32, size, 0)
    pick = np.random.default_rng(0)
    operator.weight[:] = pick.integers(-127, 128, operator.weight.shape)
    x = torch.from_numpy(pick.integers(-128, 128, (32, 32, 16, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting of oneDNN on other processors
        with torch.backends.mkldnn.flags(enabled=False):
            found = int8._sums(operator, x, 5)
    weight = torch.from_numpy(operator.weight).permute(0, 3, 1, 2).double()
    expected = torch.nn.functional.conv2d((x - 5).double(), weight, padding=size // 2)
    assert torch.equal(found, expected.long())


# --- a network ----------------------------------------------------------------------------------


def small(classes: int = 3) -> Network:
    """image 4x4x3 -> conv 2x2x2 (stride 2) -> mean -> linear."""
    pick = np.random.default_rng(1)
    tensors = [
        Tensor("image", (4, 4, 3), 8 / 255, 0),
        Tensor("conv", (2, 2, 2), 0.5, -128),
        Tensor("mean", (1, 1, 2), 0.25, 3),
        Tensor("logits", (1, 1, classes), 0.125, 0, 4),
    ]
    two, none = np.full(2, 2**30, np.int32), np.empty(0, np.int32)
    weight = pick.integers(-127, 128, (2, 3, 3, 3)).astype(np.int8)
    linear = pick.integers(-127, 128, (classes, 2)).astype(np.int8)
    operators = [
        Operator(
            kind="conv",
            inputs=("image",),
            output="conv",
            weight=weight,
            bias=np.array([50, -9], np.int32),
            mantissa=two,
            shift=np.array([38, 39], np.int8),
            stride=2,
            padding=1,
        ),
        Operator(
            kind="mean",
            inputs=("conv",),
            output="mean",
            weight=NONE,
            bias=none,
            mantissa=two[:1],
            shift=np.array([33], np.int8),
        ),
        Operator(
            kind="linear",
            inputs=("mean",),
            output="logits",
            weight=linear,
            bias=np.arange(classes, dtype=np.int32),
            mantissa=none,
            shift=NONE,
        ),
    ]
    return Network({tensor.name: tensor for tensor in tensors}, operators)


def pictures(count, *size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def test_a_network_is_its_operators_in_order(monkeypatch):
    monkeypatch.setattr(int8, "BATCH", 2)
    network, images = small(), pictures(5, 4, 4)
    logits = network.logits(images)
    assert logits.dtype == torch.int32
    for codes_of_one, found in zip(network.codes(images), logits, strict=True):
        x, zero = codes_of_one.tolist(), 0
        for operator in network.operators:
            zero_out = network.tensors[operator.output].zero_point
            x, zero = plain(operator, [x], [zero], zero_out), zero_out
        assert found.tolist() == x[0][0]


def test_codes_are_the_pixels_in_the_order_of_the_device():
    network, images = small(), pictures(2, 4, 4)
    found = network.codes(images)
    assert found.shape == (2, 4, 4, 3)
    assert found.dtype == np.int8
    assert found.flags["C_CONTIGUOUS"]
    for place in itertools.product(range(2), range(4), range(4), range(3)):
        i, y, x, c = place
        assert found[place] == round((int(images[i, c, y, x]) - 127.5) / 2)


def test_accuracy_counts_the_first_of_equal_logits(monkeypatch):
    network, images = small(), pictures(4, 4, 4)
    logits = torch.tensor([[1, 1, 0], [0, 5, 5], [2, 1, 0], [0, 0, 0]])
    monkeypatch.setattr(Network, "logits", lambda self, images: logits)
    data = ImageSet(images, torch.tensor([0, 2, 0, 0]), DatasetCard("x", "val", (), "", ""))
    assert network.accuracy(data) == 0.75


def test_bytes_and_products_by_hand():
    network = small()
    conv, mean, linear = network.operators
    assert (network.input.name, network.output.name) == ("image", "logits")
    assert (network.input.nbytes, network.output.nbytes) == (48, 12)
    assert conv.weight_bytes == 54 + 2 * (4 + 4 + 1)
    assert mean.weight_bytes == 5
    assert linear.weight_bytes == 6 + 12
    assert [network.macs(operator) for operator in network.operators] == [4 * 54, 0, 6]
    depthwise = Operator(
        "depthwise", ("image",), "image", np.zeros((3, 3, 3), np.int8), *[NONE] * 3
    )
    assert network.macs(depthwise) == 16 * 27


def test_images_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        small().logits(torch.zeros(1, 3, 4, 4))
