"""The judge's integer executor against plain integers of Python, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from autograder.labs.lab2_quantization.integer_vgg import IntegerVGG, _sums
from codesign.datasets import DatasetCard, ImageSet, normalize

CHANNELS = [3, "M", 4]


def tensors(bits: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random network; weights packed at 4 bits."""
    generator = torch.Generator().manual_seed(seed)
    top = 2 ** (bits - 1)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    stored = {"input.scale": torch.tensor([0.02]), "input.zero_point": torch.tensor([-7]).int()}
    for name, shape in (("conv0", (3, 3, 3, 3)), ("conv1", (4, 3, 3, 3)), ("classifier", (10, 4))):
        codes = integers(1 - top, top, *shape)
        if bits == 4:
            flat = functional.pad(codes.flatten() & 15, (0, codes.numel() % 2))
            stored[f"{name}.weight"] = (flat[::2] | (flat[1::2] << 4)).to(torch.uint8)
        else:
            stored[f"{name}.weight"] = codes.to(torch.int8)
        stored[f"{name}.bias"] = integers(-3 * top, 3 * top, shape[0]).int()
        if name != "classifier":
            stored[f"{name}.mantissa"] = integers(2**30, 2**31, shape[0]).int()
            shift = {("conv0", 8): 40, ("conv1", 8): 38, ("conv0", 4): 38, ("conv1", 4): 35}[
                name, bits
            ]
            stored[f"{name}.shift"] = torch.full((shape[0],), shift, dtype=torch.int8)
            stored[f"{name}.zero_point"] = integers(-top, -top + 3, 1).int()
    return stored


def plain(stored: dict, image: torch.Tensor, bits: int) -> list[int]:
    """Logits of one image by loops over Python's integers."""
    scale, zero = stored["input.scale"].double(), int(stored["input.zero_point"])
    x = ((normalize(image[None]).double() / scale).round() + zero).clamp(-128, 127)[0].tolist()
    for name, (outputs, inputs) in (("conv0", (3, 3)), ("conv1", (4, 3))):
        side, weight = len(x[0]), weights(stored, name, (outputs, inputs, 3, 3), bits)
        result = []
        own = int(stored[f"{name}.zero_point"])
        for o in range(outputs):
            plane = [[0] * side for _ in range(side)]
            mantissa, shift = (int(stored[f"{name}.{part}"][o]) for part in ("mantissa", "shift"))
            for r, c in itertools.product(range(side), repeat=2):
                total = int(stored[f"{name}.bias"][o])
                for i, u, v in itertools.product(range(inputs), range(3), range(3)):
                    row, column = r + u - 1, c + v - 1
                    if 0 <= row < side and 0 <= column < side:
                        total += int(weight[o, i, u, v]) * (int(x[i][row][column]) - zero)
                code = (total * mantissa + 2 ** (shift - 1)) // 2**shift + own
                plane[r][c] = min(max(code, own), 2 ** (bits - 1) - 1)
            result.append(plane)
        x, zero = result, own
        if name == "conv0":
            x = functional.max_pool2d(torch.tensor(x).double(), 2).long().tolist()
    count = len(x[0]) ** 2
    means = [(2 * sum(map(sum, plane)) + count) // (2 * count) for plane in x]
    weight = weights(stored, "classifier", (10, 4), bits)
    shifted = [mean - zero for mean in means]
    sums = [sum(a * b for a, b in zip(row, shifted, strict=True)) for row in weight.tolist()]
    return [a + b for a, b in zip(sums, stored["classifier.bias"].tolist(), strict=True)]


def weights(stored: dict, name: str, shape: tuple, bits: int) -> torch.Tensor:
    packed = stored[f"{name}.weight"]
    if bits == 8:
        return packed
    halves = [code - 16 * (code > 7) for byte in packed.tolist() for code in (byte & 15, byte >> 4)]
    return torch.tensor(halves[: torch.Size(shape).numel()]).reshape(shape)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_computes_what_integers_give(bits, seed):
    stored = tensors(bits, seed)
    images = torch.randint(0, 256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    images = images.to(torch.uint8)
    got = IntegerVGG(stored, CHANNELS, bits).logits(images)
    expected = [plain(stored, image, bits) for image in images]
    assert got.tolist() == expected
    assert len({tuple(row) for row in expected}) == 2  # the image matters


def test_sums_that_float32_cannot_hold_are_exact():
    stored = tensors()
    stored["conv1.weight"] = torch.full((4, 3, 3, 3), 127, dtype=torch.int8)
    wide, generator = [512, "M", 4], torch.Generator().manual_seed(1)
    stored["conv0.weight"] = torch.ones(512, 3, 3, 3, dtype=torch.int8)
    for name in ("bias", "mantissa", "shift"):
        stored[f"conv0.{name}"] = stored[f"conv0.{name}"][:1].repeat(512)
    stored["conv1.weight"] = torch.full((4, 512, 3, 3), 127, dtype=torch.int8)
    network = IntegerVGG(stored, wide)
    codes = torch.randint(0, 128, (1, 512, 4, 4), generator=generator).float()
    layer = network.plan[-1]
    got = _sums(codes, -128, layer, 255)
    padded = functional.pad(codes.long() + 128, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)
    expected = torch.einsum("nihwuv,oiuv->nohw", patches, layer.weight) + layer.bias[:, None, None]
    assert int(expected.max()) > 2**24
    assert torch.equal(got, expected)


def test_accuracy_counts_the_first_of_equal_logits():
    stored = tensors()
    stored["classifier.weight"].zero_()
    stored["classifier.bias"].zero_()
    images = ImageSet(
        torch.zeros(20, 3, 8, 8, dtype=torch.uint8),
        torch.arange(20) % 10,
        DatasetCard("glyphs", "test", (), "", ""),
    )
    assert IntegerVGG(stored, CHANNELS).accuracy(images) == 0.1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("conv0.weight", torch.zeros(3, 3, 3, 3), "got torch.float32"),
        ("conv0.weight", torch.zeros(3, 3, 3, dtype=torch.int8), r"\(3, 3, 3\), expected"),
        ("conv0.weight", torch.full((3, 3, 3, 3), -128, dtype=torch.int8), "-127 to 127"),
        ("conv0.bias", torch.zeros(3, dtype=torch.int64), "expected torch.int32"),
        ("conv0.bias", torch.full((3,), 2**31 - 1, dtype=torch.int32), "more than an int32"),
        ("conv1.mantissa", torch.full((4,), 2**30 - 1, dtype=torch.int32), "expected 1073741824"),
        ("conv1.shift", torch.full((4,), 63, dtype=torch.int8), "expected 1 to 62"),
        ("conv1.shift", torch.full((4,), 0, dtype=torch.int8), "expected 1 to 62"),
        ("conv1.zero_point", torch.tensor([128], dtype=torch.int32), "expected -128 to 127"),
        ("input.scale", torch.tensor([-1.0]), "positive finite"),
        ("input.scale", torch.tensor([float("inf")]), "positive finite"),
        ("input.scale", torch.tensor([float("nan")]), "positive finite"),
        ("other", torch.zeros(1), "no layer of the network"),
    ],
)
def test_what_is_no_network_is_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        IntegerVGG({**tensors(), name: value}, CHANNELS)


@pytest.mark.parametrize("name", list(tensors()))
def test_a_missing_tensor_is_named(name):
    stored = tensors()
    del stored[name]
    with pytest.raises(ValueError, match=f"{name} is missing"):
        IntegerVGG(stored, CHANNELS)


def test_four_bits_are_packed_and_other_widths_refused():
    with pytest.raises(ValueError, match=r"got torch\.int8"):
        IntegerVGG(tensors(8), CHANNELS, 4)
    with pytest.raises(ValueError, match="got 5 bits"):
        IntegerVGG(tensors(8), CHANNELS, 5)
