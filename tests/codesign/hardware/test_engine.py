"""Firmware against the integer executor, bit by bit; its cost, its memory, and what it refuses."""

from __future__ import annotations

import re
import time
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import built, configs, pictures, stages

from benchmarks.cortex_m_kernels import single
from codesign import checkpoints, datasets, models
from codesign.hardware import engine
from codesign.hardware.board import Board
from codesign.hardware.cortex_m import Firmware, FirmwareError
from codesign.hardware.emit import Emitter, interleaved
from codesign.hardware.layout import Layout
from codesign.hardware.memory_planner import lower_bound, peak, plan
from codesign.int8 import Network
from codesign.post_training import quantize

VARIANTS = [
    {"kernels": "naive"},
    {"kernels": "simd", "in_place": False},
    {"kernels": "simd", "in_place": True},
]
REFERENCE = {"architecture": "mobile", "stem": 4, "blocks": [(2, 4, 1), (2, 8, 2, 5)], "head": 12}


def network_of(config, height=9, width=7, seed=0):
    return quantize(built(config, seed), pictures(4, height, width))


@st.composite
def variants(draw, network):
    """Arguments of ``deploy``: kernels, in place or not, patches or none."""
    chosen = dict(draw(st.sampled_from(VARIANTS)))
    count = draw(st.sampled_from([None, *stages(network)]))
    if count is not None:
        height, width, _ = network.tensors[network.operators[count - 1].output].shape
        grid = [draw(st.integers(1, min(n, 5))) for n in (height, width)]
        chosen["patches"] = (*grid, count)
    return chosen


# --- the same bits ------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    configs(), st.integers(1, 19), st.integers(1, 19), st.integers(0, 99), st.booleans(), st.data()
)
@settings(max_examples=15, deadline=None)
def test_firmware_is_the_network(config, height, width, seed, tiny, data):
    network = quantize(built(config, seed, tiny), pictures(4, height, width))
    deployed = engine.deploy(network, **data.draw(variants(network)))
    images = pictures(2, height, width, seed=1)
    assert torch.equal(deployed.logits(images), network.logits(images))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        # An odd row in place: the compiler once exchanged halfwords written and words read.
        (
            {"architecture": "mobile", "stem": 4, "blocks": [(4, 16, 2, 7), (3, 20, 1, 3)]},
            5,
            10,
        ),
        ({"architecture": "mobile", "stem": 8, "blocks": [(1, 8, 1, 7), (2, 4, 2, 7)]}, 2, 3),
        ({"architecture": "resnet8", "widths": [4, 8, 12]}, 1, 1),
        ({"architecture": "resnet8", "widths": [8, 4, 16], "num_classes": 3}, 7, 9),
    ],
    ids=["odd row", "kernel larger than the image", "one pixel", "7x9"],
)
def test_shapes_at_the_edge(config, height, width, variant):
    network = network_of(config, height, width)
    images = pictures(3, height, width, seed=1)
    assert torch.equal(engine.deploy(network, **variant).logits(images), network.logits(images))


def guarded(network, kernels, in_place, patches):
    """The generated program with every buffer an argument of its own, so that each is guarded."""
    layout = Layout(network, kernels, in_place, patches)
    buffers = layout.buffers()
    offsets = {buffer.name: 2**20 * i for i, buffer in enumerate(buffers)}
    text = Emitter(layout, offsets).text(4)
    text, places = re.subn(r"arena \+ (\d+)", lambda at: f"p{int(at[1]) // 2**20}", text)
    assert places
    numbers = range(len(buffers))
    head = "".join(f"static signed char *p{i};\n" for i in numbers)
    text = text.replace("static int8_t arena", head + "static int8_t arena", 1)
    parameters = "".join(f", int8_t *a{i}" for i in numbers)
    body = " ".join(f"p{i} = a{i};" for i in numbers)
    text += f"void guarded(const int8_t *image, int32_t *logits{parameters})"
    text += f"{{ {body} infer(image, logits); }}"
    arrays = [np.zeros(buffer.nbytes, np.int8) for buffer in buffers]
    return Firmware(text, "m4", keep=["guarded"]), arrays


@pytest.mark.slow
@given(configs(), st.integers(1, 11), st.integers(1, 11), st.data())
@settings(max_examples=10, deadline=None)
def test_nothing_beside_a_buffer_is_touched(config, height, width, data):
    network = network_of(config, height, width)
    chosen = {"in_place": False, "patches": None} | data.draw(variants(network))
    firmware, arrays = guarded(network, **chosen)
    images = pictures(1, height, width, seed=1)
    logits = np.zeros(network.output.shape[2], np.int32)
    codes = network.codes(images)[0]
    run = firmware.run("guarded", codes, logits, *arrays, guarded=True)
    assert run.outputs[1].tolist() == network.logits(images)[0].tolist()
    assert (run.outputs[0] == codes).all(), "the image is only read"


def test_guards_would_see_it():
    """The same with a scratch buffer that is one word short: the second pixel of an odd row."""
    network = network_of(REFERENCE)
    firmware, arrays = guarded(network, "simd", True, None)
    codes, logits = network.codes(pictures(1, 9, 7))[0], np.zeros(10, np.int32)
    names = [buffer.name for buffer in Layout(network, "simd", True, None).buffers()]
    scratch = names.index("scratch 0")
    arrays[scratch] = arrays[scratch][:-4]
    with pytest.raises(FirmwareError, match=rf"past the array of argument {scratch + 2}"):
        firmware.run("guarded", codes, logits, *arrays, guarded=True)


@pytest.mark.parametrize("board", ["stm32f407", "stm32f746"])
def test_other_boards_give_the_same(board):
    network, images = network_of(REFERENCE), pictures(2, 9, 7)
    assert torch.equal(engine.deploy(network, board).logits(images), network.logits(images))


def test_a_core_without_the_instructions_runs_the_naive_kernels():
    network, images = network_of(REFERENCE), pictures(2, 9, 7)
    deployed = engine.deploy(network, "small", kernels="naive")
    assert torch.equal(deployed.logits(images), network.logits(images))
    with pytest.raises(ValueError, match=r"got simd kernels for a cortex-m0\+; allowed: cortex-m4"):
        engine.deploy(network, "small")


def test_channels_in_odd_numbers_are_for_the_naive_kernels():
    config = {"architecture": "mobile", "stem": 5, "blocks": [(3, 5, 1), (1, 7, 2, 5)], "head": 9}
    network, images = network_of(config), pictures(2, 9, 7)
    assert torch.equal(
        engine.deploy(network, kernels="naive").logits(images), network.logits(images)
    )
    said = r"got 5 channels into blocks.0.expand; allowed with simd kernels: 3 and multiples of 4"
    with pytest.raises(ValueError, match=said):
        engine.deploy(network)


@pytest.mark.parametrize(
    ("channels", "size", "stride", "fits"),
    [
        (508, 1, 2, True),
        (512, 1, 1, False),
        (252, 3, 2, True),
        (256, 3, 2, False),
        (3, 9, 1, False),
    ],
)
def test_the_reach_of_the_fast_kernels(channels, size, stride, fits):
    network = single("conv", channels, 2, size, 4, 4, stride=stride)
    if not fits:
        with pytest.raises(ValueError, match=r"got (\d+ channels|a kernel of 9) into y; allowed"):
            engine.deploy(network)
        return
    found = [measured(network, kernels)[1] for kernels in ("naive", "simd")]
    assert (found[0] == found[1]).all()


def test_the_order_of_the_weights():
    weight = np.arange(3 * 6).reshape(3, 1, 1, 6)
    filled = [
        [0, 1, 2, 3], [6, 7, 8, 9], [4, 5, 0, 0], [10, 11, 0, 0],
        [12, 13, 14, 15], [0] * 4, [16, 17, 0, 0], [0] * 4,
    ]  # fmt: skip
    assert interleaved(weight).reshape(-1, 4).tolist() == filled


@pytest.mark.parametrize("outputs", [4, 5])
def test_constants_hold_what_two_outputs_at_a_time_read(outputs):
    """Of an odd number the last pair is read whole: a row and weights more, in flash."""
    text = engine.generate(single("conv", 8, outputs, 3, 4, 4)).sources["network.c"]
    [table] = re.findall(r"Output o0\[\] = \{(.*?)\};", text, re.S)
    [words] = re.findall(r"uint32_t w0\[\] = \{(.*?)\};", text, re.S)
    pairs = -(-outputs // 2)
    assert table.count("{") == 2 * pairs
    assert words.count(",") == 2 * pairs * 9 * 8 // 4


def test_a_program_is_the_same_every_time():
    network = network_of(REFERENCE)
    one, other = (engine.generate(network, patches=(2, 2, 5)) for _ in range(2))
    assert one.sources == other.sources
    assert one.offsets == other.offsets
    assert list(one.sources) == ["network.c"]


# --- the shipped networks ----------------------------------------------------------------------


@cache
def shipped(name, dataset):
    """The integer network and images to judge it by."""
    try:
        record = checkpoints.shipped(name, dataset)
        data = [datasets.load(dataset, split, quiet=True) for split in ("train", "val")]
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(str(error))
    return quantize(checkpoints.load(record), data[0].head(64).images), data[1]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", datasets.DATASETS)
@pytest.mark.parametrize("name", ["resnet8", "mobile"])
def test_shipped_networks_bit_by_bit(name, dataset):
    """Bit by bit on some images; what the integers are worth, their fast executor says."""
    network, data = shipped(name, dataset)
    images = data.head(24).images
    assert torch.equal(engine.deploy(network).logits(images), network.logits(images))
    assert network.accuracy(data.head(200)) > 0.75


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("resnet8", {"kernels": "naive"}),
        ("resnet8", {"patches": (4, 4, 4)}),
        ("mobile", {"kernels": "naive"}),
        ("mobile", {"in_place": False}),
        ("mobile", {"patches": (4, 4, 7)}),
        ("mobile", {"patches": (3, 2, 17)}),
        ("mobile", {"kernels": "naive", "patches": (3, 3, 11)}),
    ],
    ids=str,
)
def test_shipped_networks_in_other_ways(name, variant):
    network, data = shipped(name, "glyphs")
    images = data.head(2).images
    assert torch.equal(engine.deploy(network, **variant).logits(images), network.logits(images))


@pytest.mark.parametrize("name", ["resnet8", "mobile"])
def test_every_arena_is_almost_as_small_as_it_can_be(name):
    network, _ = shipped(name, "glyphs")
    ways = [(kernels, in_place, None) for kernels, in_place in
            (("naive", False), ("simd", False), ("simd", True))]  # fmt: skip
    for count in stages(network):
        side = network.tensors[network.operators[count - 1].output].shape[0]
        ways += [("simd", True, (n, n, count)) for n in (2, 3, 4) if n <= side]
    for way in ways:
        buffers = Layout(network, *way).buffers()
        assert peak(buffers, plan(buffers)) <= 1.05 * lower_bound(buffers), way


# --- cost -----------------------------------------------------------------------------------------


def measured(network: Network, kernels: str):
    """Instructions for each MAC of a network of one operator, and its output."""
    program = engine.generate(network, kernels)
    firmware = Firmware(program.sources, "m4", keep=["infer"])
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape, dtype=np.int8)
    run = firmware.run("infer", x, np.zeros(network.output.shape, np.int8))
    return run.instructions / network.macs(network.operators[0]), run.outputs[1]


@pytest.mark.parametrize(
    ("size", "channels", "outputs", "side"),
    [
        (3, 16, 16, 32), (3, 32, 32, 16), (3, 64, 64, 8),
        (1, 24, 96, 16), (1, 32, 32, 16), (1, 64, 64, 8), (1, 96, 24, 16), (1, 256, 64, 4),
    ],
)  # fmt: skip
def test_a_fast_convolution_takes_less_than_one_and_a_half_instructions_a_product(
    size, channels, outputs, side
):
    network = single("conv", channels, outputs, size, side, side)
    (naive, expected), (fast, found) = (measured(network, k) for k in ("naive", "simd"))
    assert (found == expected).all()
    assert 15 / 16 < fast <= 1.5  # 15 instructions for 16 products, and what is around them
    assert naive > 2 * fast


@pytest.mark.parametrize("size", [3, 5])
def test_a_fast_depthwise_convolution_beats_the_naive_one(size):
    network = single("depthwise", 32, 32, size, 16, 16)
    (naive, expected), (fast, found) = (measured(network, k) for k in ("naive", "simd"))
    assert (found == expected).all()
    assert naive > 2 * fast


def test_a_resnet8_is_emulated_in_time():
    network, data = shipped("resnet8", "glyphs")
    deployed, codes = engine.deploy(network), network.codes(data.head(1).images)[0]
    spent = {}
    for counted in (False, True):
        start = time.process_time()
        deployed.infer(codes, counted)
        spent[counted] = time.process_time() - start
    assert spent[False] <= 2
    assert spent[True] <= 20


def test_figures_of_a_deployed_network():
    network = network_of(REFERENCE)
    codes = network.codes(pictures(1, 9, 7))[0]
    deployed = engine.deploy(network)
    logits, run = deployed.infer(codes)
    program, firmware = deployed.program, deployed.firmware
    assert logits.dtype == np.int32
    assert program.macs == sum(map(network.macs, network.operators)) < run.instructions < run.cycles
    assert program.arena_bytes == peak(program.buffers, program.offsets)
    assert program.arena_bytes <= firmware.data_bytes < program.arena_bytes + 16
    assert run.sram_bytes >= program.arena_bytes + codes.nbytes + logits.nbytes + run.stack_bytes
    assert run.sram_bytes < program.arena_bytes + codes.nbytes + logits.nbytes + 1_024
    assert firmware.flash_bytes > sum(operator.weight_bytes for operator in network.operators)
    patched = engine.generate(network, patches=(3, 3, 5))
    assert patched.macs > program.macs
    again, uncounted = deployed.infer(codes, counted=False)
    assert (again == logits).all()
    assert uncounted.cycles == 0


def test_only_the_fast_kernels_work_in_place():
    network = network_of(REFERENCE)
    default, apart = engine.generate(network), engine.generate(network, in_place=False)
    assert default.arena_bytes == engine.generate(network, in_place=True).arena_bytes
    assert len(default.buffers) < len(apart.buffers)
    naive = engine.generate(network, "naive")
    assert not [buffer for buffer in naive.buffers if "scratch" in buffer.name]
    with pytest.raises(ValueError, match="got in_place with naive kernels; allowed: with simd"):
        engine.generate(network, "naive", in_place=True)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"board": "esp32"}, r"got board 'esp32'; allowed: \['m4', "),
        ({"kernels": "avx2"}, "got kernels 'avx2'; allowed: 'simd', 'naive'"),
        ({"patches": (2, 2, 0)}, "got 0 operators; allowed: 1 to 10"),
        ({"patches": (2, 2, 11)}, "got 11 operators; allowed: 1 to 10"),
        ({"patches": (2, 2, 2)}, "stem does not end inside of them"),
        ({"patches": (10, 1, 1)}, "got 10 × 1 patches; allowed: up to 9 × 7"),
        (
            {"board": Board("m3", "cortex-m3", 2**18, 2**16, 72e6)},
            "got simd kernels for a cortex-m3",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_deployed(arguments, said):
    with pytest.raises(ValueError, match=said):
        engine.deploy(network_of(REFERENCE), **arguments)


def test_a_network_that_does_not_fit_says_where_and_by_how_much():
    network = quantize(models.ResNet8(), pictures(2, 32, 32))
    with pytest.raises(FirmwareError, match=r"in region 'SRAM': overflowed by \d{5} bytes"):
        engine.deploy(network, "small", kernels="naive")
    tiny = Board("tiny", "cortex-m4", 64 * 2**10, 256 * 2**10, 1e8)
    with pytest.raises(FirmwareError, match=r"in region 'FLASH': overflowed by \d{5} bytes"):
        engine.deploy(network, tiny)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((9, 7, 4), np.int8), np.zeros((3, 9, 7), np.int8), np.zeros((9, 7, 3), np.uint8)],
    ids=lambda codes: f"{codes.dtype} {codes.shape}",
)
def test_codes_of_another_shape(codes):
    deployed = engine.deploy(network_of(REFERENCE))
    with pytest.raises(ValueError, match=r"got codes .*; allowed: int8 \(9, 7, 3\)"):
        deployed.infer(codes)
