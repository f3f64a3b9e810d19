"""Roofline model of devices from microcontroller to data-centre GPU: peak rate and bandwidth.

Peak arithmetic rate by number format, memory bandwidth, memory size; every number with its source
and year, dense rates only (a rate "with sparsity" is halved). One multiply–accumulate is two
operations. Leaves out caches, power and everything else that separates a peak from a program. The
reader's machine is measured, not looked up. Taught in Lecture 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from codesign import measure

GB, MB, KIB = 1e9, 1e6, 2**10
TERA = 1e12
FORMATS = ("fp32", "tf32", "fp16", "int8")


@dataclass(frozen=True)
class Device:
    """One chip or board.

    Args:
        kind: microcontroller, board, phone, cpu, gpu or accelerator.
        year: of introduction.
        peak_ops_s: operations per second by number format, dense; fp16 and int8 with the chip's
            matrix unit where it has one. A MAC is 2 operations.
        bandwidth_bytes_s: of the memory that holds the weights.
        memory_bytes: size of that memory.
        source: document, and its year, of every number; ``computed`` where one follows from others.

    Raises:
        ValueError: no rate, an unknown format, a number that is not positive, or no source.
    """

    name: str
    kind: str
    year: int
    peak_ops_s: Mapping[str, float]
    bandwidth_bytes_s: float
    memory_bytes: float
    source: str = field(repr=False)

    def __post_init__(self) -> None:
        numbers = [*self.peak_ops_s.values(), self.bandwidth_bytes_s, self.memory_bytes]
        unknown = set(self.peak_ops_s) - set(FORMATS)
        if unknown or not self.peak_ops_s or min(numbers) <= 0 or not self.source.strip():
            raise ValueError(
                f"got {self!r}; allowed: rates of {', '.join(FORMATS)}, positive, and a source"
            )

    @property
    def best_format(self) -> str:
        """The format with the highest rate."""
        return max(self.peak_ops_s, key=lambda name: self.peak_ops_s[name])

    def ridge(self, number: str = "") -> float:
        """Operations per byte at which memory and arithmetic are equally busy (the ridge point).

        Args:
            number: a format of this device; default: its fastest.

        Raises:
            ValueError: a format that the source gives no rate for.
        """
        return self._peak(number) / self.bandwidth_bytes_s

    def attainable(self, intensity: float, number: str = "") -> float:
        """Roofline: operations per second at ``intensity`` operations per byte moved.

        Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009: min(peak, intensity ·
        bandwidth).

        Raises:
            ValueError: an intensity that is not positive, or an unknown format.
        """
        if not intensity > 0:
            raise ValueError(f"got intensity {intensity}; allowed: above 0")
        return min(self._peak(number), intensity * self.bandwidth_bytes_s)

    def _peak(self, number: str) -> float:
        number = number or self.best_format
        if number not in self.peak_ops_s:
            raise ValueError(f"got {number!r}; allowed: {', '.join(self.peak_ops_s)}")
        return self.peak_ops_s[number]


_LISTED = (
    Device(
        name="STM32F407 (Cortex-M4)",
        kind="microcontroller",
        year=2011,
        # 168 MHz: one VFMA in 3 cycles; one SMLAD, two 16-bit MACs, a cycle, 8-bit data widened
        peak_ops_s={"fp32": 168e6 * 2 / 3, "int8": 168e6 * 4},
        bandwidth_bytes_s=168e6 * 4,  # one 32-bit word a cycle from SRAM
        memory_bytes=192 * KIB,
        source="ST DS8626 rev 9 (2020): clock, SRAM; Arm DDI 0439B (2010), table 3-1 and 7-1: "
        "cycles; rates and bandwidth computed",
    ),
    Device(
        name="STM32F746 (Cortex-M7)",
        kind="microcontroller",
        year=2014,
        # 216 MHz: one VFMA and one SMLAD a cycle, 64-bit AXI bus
        peak_ops_s={"fp32": 216e6 * 2, "int8": 216e6 * 4},
        bandwidth_bytes_s=216e6 * 8,
        memory_bytes=320 * KIB,
        source="ST DS10916 rev 4 (2016): clock, SRAM, AXI bus; Arm Cortex-M7 (2014): one SIMD MAC "
        "a cycle; rates and bandwidth computed",
    ),
    Device(
        name="Raspberry Pi 5 (4 × Cortex-A76)",
        kind="board",
        year=2023,
        # 2.4 GHz, two 128-bit pipes a core: 8 fp32 or 16 fp16 FMA, 32 int8 MAC (SDOT) a cycle
        peak_ops_s={"fp32": 4 * 2.4e9 * 16, "fp16": 4 * 2.4e9 * 32, "int8": 4 * 2.4e9 * 64},
        bandwidth_bytes_s=4267e6 * 4,
        memory_bytes=8 * 2**30,
        source="Raspberry Pi 5 product brief (2023): clock, LPDDR4X-4267, 32 bit; Arm Cortex-A76 "
        "software optimization guide (2018), table 3-15: two pipes; rates and bandwidth computed",
    ),
    Device(
        name="Snapdragon 888",
        kind="phone",
        year=2020,
        peak_ops_s={"int8": 26 * TERA},
        bandwidth_bytes_s=3200e6 * 2 * 8,
        memory_bytes=16 * 2**30,
        source="Qualcomm Snapdragon 888 product brief (2020): 26 TOPS, LPDDR5 at 3200 MHz, up to "
        "16 GB; bandwidth computed for 64 bit",
    ),
    Device(
        name="Jetson Orin Nano 8GB",
        kind="board",
        year=2022,
        peak_ops_s={"fp32": 1.28 * TERA, "int8": 20 * TERA},
        bandwidth_bytes_s=68 * GB,
        memory_bytes=8 * 2**30,
        source="NVIDIA DS-11105-001 (2023): 40 sparse = 20 dense TOPS, 1024 cores at 625 MHz, "
        "68 GB/s; fp32 computed",
    ),
    Device(
        name="TPU v1",
        kind="accelerator",
        year=2015,
        peak_ops_s={"int8": 92 * TERA},
        bandwidth_bytes_s=34 * GB,
        memory_bytes=8 * 2**30,
        source="Jouppi et al., ISCA 2017, table 2",
    ),
    Device(
        name="Tesla K20X",
        kind="gpu",
        year=2012,
        peak_ops_s={"fp32": 2688 * 2 * 732e6},
        bandwidth_bytes_s=250 * GB,
        memory_bytes=6 * 2**30,
        source="NVIDIA BD-06397-001 v07 (2013): 2688 cores, 732 MHz, 250 GB/s; fp32 computed",
    ),
    Device(
        name="Tesla V100 SXM2",
        kind="gpu",
        year=2017,
        peak_ops_s={"fp32": 15.7 * TERA, "fp16": 125 * TERA},
        bandwidth_bytes_s=900 * GB,
        memory_bytes=16 * 2**30,
        source="NVIDIA WP-08608-001 v1.1 (2017), table 1",
    ),
    Device(
        name="A100 SXM 80GB",
        kind="gpu",
        year=2020,
        peak_ops_s={
            "fp32": 19.5 * TERA,
            "tf32": 156 * TERA,
            "fp16": 312 * TERA,
            "int8": 624 * TERA,
        },
        bandwidth_bytes_s=2039 * GB,
        memory_bytes=80 * 2**30,
        source="NVIDIA A100 data sheet 1758950 r4 (2021)",
    ),
    Device(
        name="GeForce RTX 4090",
        kind="gpu",
        year=2022,
        peak_ops_s={
            "fp32": 82.6 * TERA,
            "tf32": 82.6 * TERA,
            "fp16": 165.2 * TERA,
            "int8": 660.6 * TERA,
        },
        bandwidth_bytes_s=1008 * GB,
        memory_bytes=24 * 2**30,
        source="NVIDIA Ada GPU architecture v2.02 (2023), appendix A; fp16 with fp32 accumulation",
    ),
    Device(
        name="H100 SXM",
        kind="gpu",
        year=2022,
        peak_ops_s={
            "fp32": 66.9 * TERA,
            "tf32": 494.7 * TERA,
            "fp16": 989.4 * TERA,
            "int8": 1978.9 * TERA,
        },
        bandwidth_bytes_s=3352 * GB,
        memory_bytes=80 * 2**30,
        source="NVIDIA H100 architecture v1.04 (2023), tables 1 and 2",
    ),
    Device(
        name="H200 SXM",
        kind="gpu",
        year=2023,
        peak_ops_s={
            "fp32": 67 * TERA,
            "tf32": 494.5 * TERA,
            "fp16": 989.5 * TERA,
            "int8": 1979 * TERA,
        },
        bandwidth_bytes_s=4800 * GB,
        memory_bytes=141 * GB,
        source="NVIDIA H200 data sheet (2023); rates with sparsity halved",
    ),
)
DEVICES: Mapping[str, Device] = {device.name: device for device in _LISTED}


def get(name: str) -> Device:
    """The device whose name starts with ``name``.

    Raises:
        ValueError: none or several do.
    """
    found = [device for device in _LISTED if device.name.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"got {name!r}; allowed: one of {', '.join(DEVICES)}")
    return found[0]


def this_machine(
    *, threads: int | None = None, rounds: int = 7, size: int = 1536, megabytes: int = 256
) -> Device:
    """Peak fp32 rate and read bandwidth of the machine that runs this, measured.

    The rate is that of a ``[size, size]`` matrix product, the bandwidth that of a sum over
    ``megabytes`` MB that no cache holds; the median of ``rounds`` interleaved samples each. Both
    are what a good library reaches, so real programs stay below the roof that they span.

    Args:
        threads: torch threads; default: as set.
    """
    square, long = torch.ones(size, size), torch.ones(int(megabytes * MB) // 4)
    calls = {"product": lambda: square @ square, "sum": lambda: long.sum()}
    used = threads or torch.get_num_threads()
    times = measure.latency(calls, rounds=rounds, warm_up=2, threads=used)
    return Device(
        name=f"this machine, {used} thread{'s' if used > 1 else ''}",
        kind="cpu",
        year=2026,
        peak_ops_s={"fp32": 2 * size**3 / times["product"].median},
        bandwidth_bytes_s=4 * len(long) / times["sum"].median,
        memory_bytes=_memory_bytes(),
        source=f"measured: {times.machine}",
    )


def _memory_bytes() -> float:
    import psutil

    return float(psutil.virtual_memory().total)
