"""Run whole networks on the emulated Cortex-M4, beside what other engines published.

``python benchmarks/microcontroller.py [--dataset glyphs] [--images 25]`` prints a table. Counts are
those of the emulator, so they are the same on every machine; each network's outputs are compared
with the integer executor's. Published figures were measured on boards, whose flash has wait states;
the emulator counts none. Single kernels: ``benchmarks/cortex_m_kernels.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import typer
from rich.console import Console
from rich.table import Table

from codesign import checkpoints, datasets
from codesign.hardware import engine
from codesign.int8 import Network
from codesign.post_training import quantize

CALIBRATION = 256  # training images
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
    return Published(
        engine=engine,
        network="resnet8",
        macs=RESNET8,
        board="NUCLEO-L4R5ZI, Cortex-M4",
        clock_hz=120e6,
        seconds=1 / per_second,
        source=f"tiny_{source}",
    )


def h743(engine: str, milliseconds: int, sram: int, flash: int) -> Published:
    """mcunet-vww1 (MobileNet blocks, 80x80) on a Cortex-M7, by TinyEngine's authors, 12/2022."""
    return Published(
        engine=engine,
        network="mcunet-vww1",
        macs=VWW,
        board="STM32H743, Cortex-M7",
        clock_hz=480e6,
        seconds=milliseconds / 1e3,
        source="README of mit-han-lab/tinyengine",
        sram=sram,
        flash=flash,
    )


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
        engine="Plumerai",
        network="resnet8",
        macs=RESNET8,
        board="STM32F746, Cortex-M7",
        clock_hz=216e6,
        seconds=1 / 15.440,
        source="tiny_results_v1.0, Plumerai",
    ),
    h743("TFLite Micro @713b6ed", 1120, 220, 718),
    h743("CMSIS-NN @011bf32", 97, 220, 736),
    h743("X-CUBE-AI 7.3", 57, 113, 534),
    h743("TinyEngine @0363956", 51, 92, 521),
]


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
    """Print the table."""
    torch.set_num_threads(1)
    chosen = datasets.choose(dataset or None)[0]
    show_networks(Console(width=150), chosen, images)


if __name__ == "__main__":
    typer.run(main)
