"""Data of Cortex-M cores (cycles of each instruction) and boards (flash, SRAM, clock).

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

from codesign.extras import needed

with needed("board"):
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
            name="cortex-m0+",
            cpu="cortex_m0plus",
            model=arm.UC_CPU_ARM_CORTEX_M0,
            fpu=False,
            refill=1,
            load=2,
            load_next=2,
            cycles={"bl": 2},  # 3 with the refill
            source="ARM DDI 0484C, table 3-1; with the single-cycle multiplier",
        ),
        Core(
            name="cortex-m3",
            cpu="cortex_m3",
            model=arm.UC_CPU_ARM_CORTEX_M3,
            fpu=False,
            refill=2,
            load=2,
            load_next=1,
            cycles={**_DIVIDE, "mla": 2, "mls": 2, "smull": 4, "umull": 4, "smlal": 5, "umlal": 5},
            source="ARM DDI 0337I, table 3-1; P = 2 of 1 to 3, long products 4 of 3 to 5, "
            "5 of 4 to 7",
        ),
        Core(
            name="cortex-m4",
            cpu="cortex_m4+vfp4d16sp",
            model=arm.UC_CPU_ARM_CORTEX_M4,
            fpu=True,
            refill=2,
            load=2,
            load_next=1,
            cycles={**_DIVIDE, **_FLOAT},
            source="ARM DDI 0439D, tables 3-1 and 7-1; P = 2 of 1 to 3",
        ),
        Core(
            name="cortex-m7",
            cpu="cortex_m7+fp_armv8d16sp",
            model=arm.UC_CPU_ARM_CORTEX_M7,
            fpu=True,
            refill=2,
            load=2,
            load_next=1,
            cycles={**_DIVIDE, **_FLOAT},
            source="no table is published; counted like a Cortex-M4, without the second issue slot",
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
        Board(
            name="m4",
            core="cortex-m4",
            flash_bytes=1024 * KIB,
            sram_bytes=256 * KIB,
            clock_hz=100e6,
            source="the course's default",
        ),
        Board(
            name="stm32f407",
            core="cortex-m4",
            flash_bytes=1024 * KIB,
            sram_bytes=128 * KIB,
            clock_hz=168e6,
            source="ST DS8626, STM32F407xG; the 64 KiB of core-coupled memory left out",
        ),
        Board(
            name="stm32f746",
            core="cortex-m7",
            flash_bytes=1024 * KIB,
            sram_bytes=320 * KIB,
            clock_hz=216e6,
            source="ST DS10916, STM32F746xG",
        ),
        Board(
            name="small",
            core="cortex-m0+",
            flash_bytes=256 * KIB,
            sram_bytes=32 * KIB,
            clock_hz=48e6,
            source="a small one, no product's",
        ),
    )
}


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


def listed(code: bytes) -> str:
    """Thumb code as text: offset in bytes, mnemonic and operands; constants between as ``.short``.

    Jumps go to offsets, too.
    """
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.skipdata = True
    decoder.skipdata_setup = (".short", None, None)
    return "\n".join(f"{i.address:#6x}  {i.mnemonic} {i.op_str}" for i in decoder.disasm(code, 0))


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
