"""Microcontroller cores with their cycles, and boards with their memories.

Cycles are those of each core's technical reference manual; where the manual gives a range (the
refill of the pipeline after a branch, divisions, long products) one value stands, named at its
core. Left out: wait states and caches of the flash, the bus, the M7's second issue slot. Taught in
Lectures 10 and 11; ``hardware.cortex_m`` executes on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import capstone
from unicorn import arm_const as arm

KIB = 2**10


@dataclass(frozen=True)
class Core:
    """A processor core and its cycles.

    Args:
        cpu: the compiler's name of it.
        fpu: whether it computes in floating point.
        refill: cycles that a taken branch adds (the manual's P).
        load: of a single load or store; the next one in a row takes ``load_next``.
        cycles: of instructions that take other than one cycle, by the start of their name.
        source: manual and table.
    """

    name: str
    cpu: str
    model: int
    fpu: bool
    refill: int
    load: int
    load_next: int
    cycles: Mapping[str, int]
    source: str = field(repr=False)


_DIVIDE = {"sdiv": 12, "udiv": 12}  # 2 to 12, by the operands: the most
_FLOAT = {"vdiv": 14, "vsqrt": 14, "vmla": 3, "vmls": 3, "vfma": 3, "vfms": 3, "vnmla": 3}
CORES = {
    core.name: core
    for core in (
        Core(
            "cortex-m0+",
            "cortex_m0plus",
            arm.UC_CPU_ARM_CORTEX_M0,
            False,
            1,
            2,
            2,
            {"bl": 2},  # 3 with the refill
            "ARM DDI 0484C, table 3-1; with the single-cycle multiplier",
        ),
        Core(
            "cortex-m3",
            "cortex_m3",
            arm.UC_CPU_ARM_CORTEX_M3,
            False,
            2,
            2,
            1,
            {**_DIVIDE, "mla": 2, "mls": 2, "smull": 4, "umull": 4, "smlal": 5, "umlal": 5},
            "ARM DDI 0337I, table 3-1; P = 2 of 1 to 3, long products 4 of 3 to 5, 5 of 4 to 7",
        ),
        Core(
            "cortex-m4",
            "cortex_m4+vfp4d16sp",
            arm.UC_CPU_ARM_CORTEX_M4,
            True,
            2,
            2,
            1,
            {**_DIVIDE, **_FLOAT},
            "ARM DDI 0439D, tables 3-1 and 7-1; P = 2 of 1 to 3",
        ),
        Core(
            "cortex-m7",
            "cortex_m7+fp_armv8d16sp",
            arm.UC_CPU_ARM_CORTEX_M7,
            True,
            2,
            2,
            1,
            {**_DIVIDE, **_FLOAT},
            "no table is published; counted like a Cortex-M4, without the second issue slot",
        ),
    )
}


@dataclass(frozen=True)
class Board:
    """A core with its memories, in bytes; ``clock_hz`` turns cycles into seconds."""

    name: str
    core: str
    flash_bytes: int
    sram_bytes: int
    clock_hz: float
    source: str = field(default="", repr=False)
    flash_at: int = 0x0800_0000
    sram_at: int = 0x2000_0000

    def __post_init__(self) -> None:
        if self.core not in CORES:
            raise ValueError(f"got core {self.core!r}; allowed: {sorted(CORES)}")
        for name in ("flash_bytes", "sram_bytes"):
            size = getattr(self, name)
            if not KIB <= size <= 64 * KIB**2 or size % KIB:
                raise ValueError(f"got {name} {size}; allowed: whole KiB, 1 KiB to 64 MiB")


BOARDS = {
    board.name: board
    for board in (
        Board("m4", "cortex-m4", 1024 * KIB, 256 * KIB, 100e6, "the course's default"),
        Board(
            "stm32f407", "cortex-m4", 1024 * KIB, 128 * KIB, 168e6,
            "ST DS8626, STM32F407xG; the 64 KiB of core-coupled memory left out",
        ),
        Board(
            "stm32f746", "cortex-m7", 1024 * KIB, 320 * KIB, 216e6, "ST DS10916, STM32F746xG"
        ),
        Board("small", "cortex-m0+", 256 * KIB, 32 * KIB, 48e6, "a small one, no product's"),
    )
}  # fmt: skip


@lru_cache(maxsize=100_000)
def decoded(core_name: str, code: bytes) -> tuple[tuple[str, ...], int, int]:
    """Mnemonics of a block, its cycles without what a taken branch adds, and bytes understood."""
    core = CORES[core_name]
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    names, cycles, understood, after_memory = [], 0, 0, False
    for instruction in decoder.disasm(code, 0):
        name = instruction.mnemonic.split(".")[0]
        names.append(name)
        understood += instruction.size
        single = name.startswith(("ldr", "str", "vldr", "vstr")) and not name.startswith(
            ("ldrd", "strd")
        )
        if single:
            cycles += core.load_next if after_memory else core.load
        elif name.startswith(("ldrd", "strd")):
            cycles += 3
        elif name.startswith(("ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop")):
            cycles += 1 + _registers(instruction)
        else:
            cycles += _cycles(core, name)
        after_memory = single
    return tuple(names), cycles, understood


def _cycles(core: Core, name: str) -> int:
    for start, cycles in core.cycles.items():
        if name == start or (name.startswith(start) and len(start) > 2):
            return cycles
    return 1


def _registers(instruction: Any) -> int:
    """Registers that a multiple load or store moves."""
    count = sum(1 for operand in instruction.operands if operand.type == capstone.arm.ARM_OP_REG)
    lists_base = instruction.mnemonic.startswith(("ldm", "stm", "vldm", "vstm"))
    return count - 1 if lists_base else count
