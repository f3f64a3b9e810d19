"""The inference engine on the emulated Cortex-M4: its kernels, whole networks, published figures.

``python benchmarks/microcontroller.py [--dataset glyphs] [--images 25]`` prints two tables. Counts
are those of the emulator, so they are the same on every machine; each kernel's outputs are compared
with the naive one's, each network's with the integer executor's. Published figures were measured on
boards, whose flash has wait states; the emulator counts none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from codesign import checkpoints, datasets
from codesign.hardware import engine
from codesign.hardware.emulator import Run
from codesign.int8 import Kind, Network, Operator, Tensor
from codesign.post_training import quantize

CALIBRATION = 256  # training images
SHAPES: list[
    tuple[Kind, int, int, int, int, int]
] = [  # kind, inputs, outputs, kernel, side, stride
    ("conv", 3, 16, 3, 32, 1),
    ("conv", 16, 16, 3, 32, 1),
    ("conv", 16, 32, 3, 32, 2),
    ("conv", 32, 32, 3, 16, 1),
    ("conv", 64, 64, 3, 8, 1),
    ("conv", 16, 96, 1, 32, 1),
    ("conv", 24, 96, 1, 16, 1),
    ("conv", 96, 24, 1, 16, 1),
    ("conv", 256, 64, 1, 4, 1),
    ("depthwise", 96, 96, 3, 16, 1),
    ("depthwise", 96, 96, 3, 32, 2),
    ("depthwise", 96, 96, 5, 16, 1),
]
VARIANTS: dict[str, dict[str, object]] = {
    "naive": {"kernels": "naive"},
    "simd": {"in_place": False},
    "simd, in place": {},
}
PATCHES = {"resnet8": (4, 4, 4), "mobile": (4, 4, 7)}  # rows, columns, operators
RESNET8, VWW = 12_501_632, 11_600_000  # MACs; the second as its authors print it, 11.6M


@dataclass(frozen=True)
class Published:
    """What others measured; ``sram`` and ``flash`` in kB where they are given."""

    engine: str
    network: str
    macs: int
    board: str
    clock_hz: float
    seconds: float
    source: str
    sram: int | None = None
    flash: int | None = None

    @property
    def cycles(self) -> float:
        return self.seconds * self.clock_hz


def mlperf(engine: str, per_second: float, source: str) -> Published:
    """A result of MLPerf Tiny, closed division, image classification: ResNet-8 in int8."""
    board = "NUCLEO-L4R5ZI, Cortex-M4"
    return Published(engine, "resnet8", RESNET8, board, 120e6, 1 / per_second, f"tiny_{source}")


def h743(engine: str, milliseconds: int, sram: int, flash: int) -> Published:
    """mcunet-vww1 (MobileNet blocks, 80x80) on a Cortex-M7, by TinyEngine's authors, 12/2022."""
    return Published(
        engine, "mcunet-vww1", VWW, "STM32H743, Cortex-M7", 480e6, milliseconds / 1e3,
        "README of mit-han-lab/tinyengine", sram, flash,
    )  # fmt: skip


# Looked up in November 2026: performance/results.txt of each submission ("Median throughput"), its
# systems/*.json (engine, clock); MACs of mcunet-vww1: README of mit-han-lab/mcunet; 480 MHz: Lin
# et al., IEEE Circuits and Systems Magazine 23(3), 2023, table 3, of the same measurements.
PUBLISHED = [
    mlperf("TFLite Micro 2.3.1", 1.420, "results_v0.5, reference"),
    mlperf("microTVM + CMSIS-NN", 2.567, "results_v1.0, OctoML"),
    mlperf("X-CUBE-AI 7.3", 4.407, "results_v1.0, STMicroelectronics"),
    mlperf("Plumerai", 5.775, "results_v1.0, Plumerai"),
    mlperf("X-CUBE-AI 9.0", 6.056, "results_v1.2, STMicroelectronics"),
    Published(
        "Plumerai", "resnet8", RESNET8, "STM32F746, Cortex-M7", 216e6, 1 / 15.440,
        "tiny_results_v1.0, Plumerai",
    ),
    h743("TFLite Micro @713b6ed", 1120, 220, 718),
    h743("CMSIS-NN @011bf32", 97, 220, 736),
    h743("X-CUBE-AI 7.3", 57, 113, 534),
    h743("TinyEngine @0363956", 51, 92, 521),
]  # fmt: skip


def single(kind: Kind, channels: int, outputs: int, size: int, side: int, stride: int) -> Network:
    """A network of one convolution with random numbers; cycles do not depend on them."""
    pick = np.random.default_rng(0)
    shape = (size, size, channels) if kind == "depthwise" else (outputs, size, size, channels)
    weight = pick.integers(-127, 128, shape).astype(np.int8)
    bias = pick.integers(-1_000, 1_000, outputs).astype(np.int32)
    mantissa = pick.integers(2**30, 2**31, outputs).astype(np.int32)
    shift = np.full(outputs, 41, np.int8)
    places = (side - 1) // stride + 1
    tensors = {
        "x": Tensor("x", (side, side, channels), 0.1, -20),
        "y": Tensor("y", (places, places, outputs), 0.1, 5),
    }
    operator = Operator(kind, ("x",), "y", weight, bias, mantissa, shift, stride, size // 2)
    return Network(tensors, [operator])


def kernel(network: Network, kernels: engine.Kernels) -> tuple[Run, int]:
    """One convolution executed, and the bytes of its code."""
    firmware = engine.deploy(network, kernels=kernels).firmware
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape, dtype=np.int8)
    run = firmware.run("infer", x, np.zeros(network.output.shape, np.int8))
    return run, sum(firmware.symbols[name][1] for name in ("infer", "op0"))


def show_kernels(console: Console) -> None:
    """Instructions and cycles for each MAC, naive and fast, of every shape."""
    table = Table(title="Convolutions on the emulated Cortex-M4, for each MAC")
    table.add_column("shape")
    for kernels in ("naive", "simd"):
        for what in ("instructions", "cycles", "code bytes"):
            table.add_column(f"{kernels} {what}", justify="right")
    for shape in SHAPES:
        kind, channels, outputs, size, side, stride = shape
        network = single(*shape)
        macs = network.macs(network.operators[0])
        cells, found = [], []
        for kernels in ("naive", "simd"):
            run, code = kernel(network, kernels)
            found.append(run.outputs[1])
            cells += [f"{run.instructions / macs:.2f}", f"{run.cycles / macs:.2f}", f"{code:,}"]
        assert np.array_equal(*found), shape
        name = f"{kind} {size}×{size}, {side}×{side}×{channels}→{outputs}"
        table.add_row(name + (f", stride {stride}" if stride > 1 else ""), *cells)
    console.print(table)


def integers(name: str, dataset: str) -> Network:
    """A shipped network, calibrated on training images."""
    images = datasets.load(dataset, "train", quiet=True).head(CALIBRATION).images
    return quantize(checkpoints.load(checkpoints.shipped(name, dataset)), images)


def network_rows(name: str, network: Network, images: torch.Tensor) -> list[list[str]]:
    """Every variant of one network, compared with the integer executor on ``images``."""
    rows, macs = [], sum(map(network.macs, network.operators))
    expected = network.logits(images)
    rows_by, columns, count = patches = PATCHES[name]
    grid = f"simd, in place, {rows_by}×{columns} patches of {count} operators"
    for variant, arguments in (VARIANTS | {grid: {"patches": patches}}).items():
        deployed = engine.deploy(network, **arguments)  # type: ignore[arg-type]
        equal = int((deployed.logits(images) == expected).all(1).sum())
        _, run = deployed.infer(network.codes(images[:1])[0])
        rows.append([
            name, f"this course, {variant}", "emulated Cortex-M4",
            f"{deployed.board.clock_hz / 1e6:.0f}", f"{run.cycles / 1e6:.1f}",
            f"{run.cycles / macs:.2f}", f"{1e3 * deployed.firmware.seconds(run.cycles):.0f}",
            f"{run.sram_bytes / 1e3:.1f}", f"{deployed.firmware.flash_bytes / 1e3:.0f}",
            f"{equal} of {len(images)} images equal",
        ])  # fmt: skip
    return rows


def published_row(found: Published) -> list[str]:
    sizes = ["–" if size is None else str(size) for size in (found.sram, found.flash)]
    return [
        found.network, found.engine, found.board, f"{found.clock_hz / 1e6:.0f}",
        f"{found.cycles / 1e6:.1f}", f"{found.cycles / found.macs:.2f}",
        f"{1e3 * found.seconds:.0f}", *sizes, found.source,
    ]  # fmt: skip


def show_networks(console: Console, dataset: str, count: int) -> None:
    """Whole networks, ours and published."""
    table = Table(title=f"Whole networks, ours on {dataset}; cycles for each MAC of the network")
    columns = ("network", "engine", "core", "MHz", "M cycles", "cycles/MAC", "ms", "SRAM kB",
               "flash kB", "checked, or source")  # fmt: skip
    for column in columns:
        right = column in columns[3:9]
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    images = datasets.load(dataset, "val", quiet=True).head(count).images
    for name in PATCHES:
        for row in network_rows(name, integers(name, dataset), images):
            table.add_row(*row)
        table.add_section()
    for found in PUBLISHED:
        table.add_row(*published_row(found))
    console.print(table)
    console.print(
        "Boards wait for their flash, and a Cortex-M7 issues two instructions at a time; the "
        "emulator counts neither. ResNet-8 has the same shape everywhere; mcunet-vww1 is another "
        "network than mobile, of 11.6 M MACs on 80×80 images. Our SRAM is arena, image, logits and "
        "stack."
    )


def main(dataset: str = "", images: int = 25) -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    console, chosen = Console(width=150), datasets.choose(dataset or None)[0]
    show_kernels(console)
    show_networks(console, chosen, images)


if __name__ == "__main__":
    typer.run(main)
