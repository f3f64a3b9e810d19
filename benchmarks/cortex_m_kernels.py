"""Count cycles of the engine's convolutions on the emulated Cortex-M4, one shape at a time.

``python benchmarks/cortex_m_kernels.py`` prints instructions and cycles for each MAC, naive and
fast kernels side by side, their outputs compared; ``--store`` writes the counts to
``data/tables/11/cortex_m_kernels.json``. They are the emulator's, so they are the same on every
machine. Whole networks: ``benchmarks/microcontroller.py``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from codesign import measure, tables
from codesign.hardware import engine
from codesign.hardware.emulator import Run
from codesign.int8 import Kind, Network, Operator, Tensor


class Shape(NamedTuple):
    """One convolution on a square image; ``inputs`` and ``outputs`` are channels."""

    kind: Kind
    inputs: int
    outputs: int
    kernel: int
    side: int
    stride: int


KERNELS: tuple[engine.Kernels, ...] = ("naive", "simd")
COUNTS = {"instructions": "", "cycles": "", "code": "bytes"}  # of each kernel, with units
SHAPES = [
    Shape("conv", 3, 16, 3, 32, 1),
    Shape("conv", 16, 16, 3, 32, 1),
    Shape("conv", 16, 32, 3, 32, 2),
    Shape("conv", 32, 32, 3, 16, 1),
    Shape("conv", 64, 64, 3, 8, 1),
    Shape("conv", 16, 96, 1, 32, 1),
    Shape("conv", 24, 96, 1, 16, 1),
    Shape("conv", 96, 24, 1, 16, 1),
    Shape("conv", 256, 64, 1, 4, 1),
    Shape("depthwise", 96, 96, 3, 16, 1),
    Shape("depthwise", 96, 96, 3, 32, 2),
    Shape("depthwise", 96, 96, 5, 16, 1),
]


def single(
    kind: Kind, channels: int, outputs: int, size: int, height: int, width: int, stride: int = 1
) -> Network:
    """One convolution of random numbers on ``[height, width, channels]``, padded to keep the size.

    Cycles do not depend on the numbers.
    """
    pick = np.random.default_rng(0)
    shape = (size, size, channels) if kind == "depthwise" else (outputs, size, size, channels)
    operator = Operator(
        kind=kind,
        inputs=("image",),
        output="y",
        weight=pick.integers(-127, 128, shape).astype(np.int8),
        bias=pick.integers(-1_000, 1_000, outputs).astype(np.int32),
        mantissa=pick.integers(2**30, 2**31, outputs).astype(np.int32),
        shift=np.full(outputs, 41, np.int8),
        stride=stride,
        padding=size // 2,
    )
    out_h, out_w = ((n + 2 * (size // 2) - size) // stride + 1 for n in (height, width))
    image = Tensor("image", (height, width, channels), 0.1, -20)
    return Network({"image": image, "y": Tensor("y", (out_h, out_w, outputs), 0.1, 5)}, [operator])


def kernel(network: Network, kernels: engine.Kernels) -> tuple[Run, int]:
    """One convolution executed, and the bytes of its code."""
    firmware = engine.deploy(network, kernels=kernels).firmware
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape, dtype=np.int8)
    run = firmware.run("infer", x, np.zeros(network.output.shape, np.int8))
    return run, sum(firmware.symbols[name][1] for name in ("infer", "op0"))


def kernel_row(key: Mapping[str, Any], short: bool = False) -> tables.Row:
    """One row of the table of kernels: counts of both kinds of kernel for one shape.

    Args:
        key: the fields of a :class:`Shape`.
        short: changes nothing; the emulator counts the same every time.

    Raises:
        AssertionError: the two kernels compute different outputs.
    """
    shape = Shape(**key)
    network = single(*shape[:4], shape.side, shape.side, shape.stride)
    row = {**key, "macs": network.macs(network.operators[0])}
    outputs = []
    for kernels in KERNELS:
        run, code = kernel(network, kernels)
        counts = (run.instructions, run.cycles, code)
        row |= {f"{kernels}_{what}": n for what, n in zip(COUNTS, counts, strict=True)}
        outputs.append(run.outputs[1])
    assert np.array_equal(outputs[0], outputs[1]), shape
    return row


def kernel_table() -> tables.Table:
    """Every shape of ``SHAPES``, computed now."""
    start = time.perf_counter()
    rows = [kernel_row(shape._asdict()) for shape in SHAPES]
    counted = {f"{kernels}_{what}": unit for kernels in KERNELS for what, unit in COUNTS.items()}
    return tables.Table(
        command="python benchmarks/cortex_m_kernels.py --store",
        recipe="benchmarks.cortex_m_kernels:kernel_row",
        seeds=[0],
        wall_s=round(time.perf_counter() - start, 1),
        machine=measure.machine(),
        columns=dict.fromkeys(Shape._fields, "") | {"macs": ""} | counted,
        key=Shape._fields,
        spread={},
        rows=[list(row.values()) for row in rows],
    )


def show_kernels(console: Console) -> None:
    """Instructions and cycles for each MAC, naive and fast, of every shape."""
    table = Table(title="Convolutions on the emulated Cortex-M4, for each MAC")
    table.add_column("shape")
    for kernels in KERNELS:
        for what, unit in COUNTS.items():
            table.add_column(f"{kernels} {what} {unit}".strip(), justify="right")
    for row in kernel_table():
        macs, cells = row["macs"], []
        for kernels in KERNELS:
            instructions, cycles, code = (row[f"{kernels}_{what}"] for what in COUNTS)
            cells += [f"{instructions / macs:.2f}", f"{cycles / macs:.2f}", f"{code:,}"]
        shape = Shape(*(row[name] for name in Shape._fields))
        name = f"{shape.kind} {shape.kernel}×{shape.kernel}, {shape.side}×{shape.side}×"
        name += f"{shape.inputs}→{shape.outputs}"
        table.add_row(name + (f", stride {shape.stride}" if shape.stride > 1 else ""), *cells)
    console.print(table)


def main(
    store: Annotated[bool, typer.Option("--store", help="Write the counts to data/.")] = False,
) -> None:
    """Print the table, or store it."""
    torch.set_num_threads(1)
    if store:
        print(tables.save(11, "cortex_m_kernels", kernel_table()))
    else:
        show_kernels(Console(width=150))


if __name__ == "__main__":
    typer.run(main)
