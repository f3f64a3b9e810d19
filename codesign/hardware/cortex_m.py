"""A Cortex-M microcontroller that anybody has: C is compiled, linked and executed in an emulator.

``ziglang`` compiles for the core and links against the flash and SRAM of a board; ``unicorn``
executes; every executed basic block is decoded once by ``capstone`` and its instructions are
counted with the cycles that the core's technical reference manual gives them. The same source gives
the same figures on every machine. Left out: wait states and caches of the flash, the bus, the M7's
second issue slot, and all that depends on data or alignment, where a fixed value stands (see
``hardware.board``). Taught in Lectures 10 and 11.
"""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import unicorn
from unicorn import arm_const as arm

from codesign import native
from codesign.hardware import elf
from codesign.hardware.board import BOARDS, CORES, Board, decoded

KERNELS = Path(native.__file__).with_name("kernels") / "cortex_m"
FLAGS = (
    "-O2",
    "-std=c17",
    "-munaligned-access",
    "-ffunction-sections",
    "-fno-sanitize=all",
    "-fomit-frame-pointer",
)
PAINT = 0xA5
STACK_LEAST = 64  # bytes that data and arguments must leave
BUDGET = 2_000_000_000  # instructions
SECONDS = 60.0
ELEMENTS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32)


class FirmwareError(ValueError):
    """The firmware does not fit, or stopped; the message says where."""


@dataclass(frozen=True)
class Run:
    """What one call did.

    Args:
        value: what the function returned in r0, as a signed number.
        outputs: the arrays in SRAM, in the order of the arguments, as they are afterwards.
        instructions, cycles, mix: executed, in all and by mnemonic; 0 and empty when not counted.
        stack_bytes: deepest use of the stack.
        sram_bytes: data, arguments and stack together.
    """

    value: int
    outputs: tuple[np.ndarray, ...]
    instructions: int
    cycles: int
    mix: Mapping[str, int]
    stack_bytes: int
    sram_bytes: int


@dataclass(frozen=True)
class InFlash:
    """An argument that lies in flash: constant, like weights."""

    array: np.ndarray


class Firmware:
    """C source texts, compiled and linked for a board.

    Args:
        sources: text, or texts by file name.
        board: one of ``BOARDS`` by name, or any :class:`Board`.
        keep: functions that will be run; what none of them needs is left out.

    Raises:
        CompileError: the compiler's message and line.
        FirmwareError: a region of the board's memory is too small; says by how much.
        ValueError: unknown board.
    """

    def __init__(
        self,
        sources: str | Mapping[str, str],
        board: str | Board = "m4",
        keep: Sequence[str] = (),
    ) -> None:
        if isinstance(board, str) and board not in BOARDS:
            raise ValueError(f"got board {board!r}; allowed: {sorted(BOARDS)}")
        self.board = BOARDS[board] if isinstance(board, str) else board
        self.core = CORES[self.board.core]
        texts = {"kernel.c": sources} if isinstance(sources, str) else dict(sources)
        with tempfile.TemporaryDirectory(prefix="codesign-firmware-") as folder:
            self.elf = self._build(Path(folder), texts, keep)
        self.segments, self.symbols = elf.read(self.elf)

    def _build(self, folder: Path, texts: Mapping[str, str], keep: Sequence[str]) -> bytes:
        texts = {**texts, "runtime.c": (KERNELS / "runtime.c").read_text()}
        (folder / "string.h").write_text((KERNELS / "string.h").read_text())
        script = (KERNELS / "link.ld").read_text()
        for name in ("FLASH_AT", "FLASH_BYTES", "SRAM_AT", "SRAM_BYTES"):
            script = script.replace(name, str(getattr(self.board, name.lower())))
        (folder / "link.ld").write_text(script)
        abi = "eabihf" if self.core.fpu else "eabi"
        target = ("-target", f"thumb-freestanding-{abi}", f"-mcpu={self.core.cpu}")
        flags = [
            flag for flag in FLAGS if self.core.name != "cortex-m0+" or "unaligned" not in flag
        ]
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
            native.zig("-c", *target, *flags, "-I.", name, "-o", f"{name}.o", folder=folder)
        wanted = [f"-Wl,-u,{name}" for name in keep] + [f"-Wl,-e,{keep[0]}" if keep else "-Wl,-e,0"]
        collect = ["-Wl,--gc-sections"] if keep else []
        try:
            native.zig(
                *target, "-nostdlib", "-Wl,-T,link.ld", *collect, *wanted,
                *(f"{name}.o" for name in texts), "-o", "firmware.elf", folder=folder,
            )  # fmt: skip
        except native.CompileError as error:
            raise FirmwareError(f"does not link: {error}") from None
        return (folder / "firmware.elf").read_bytes()

    @property
    def flash_bytes(self) -> int:
        """Code, constants and the initial values of variables."""
        return sum(len(data) for _, data, _ in self.segments)

    @property
    def data_bytes(self) -> int:
        """Variables in SRAM, without stack and arguments."""
        low, high = self.board.sram_at, self.board.sram_at + self.board.sram_bytes
        ends = [at + size for at, _, size in self.segments if low <= at < high]
        return max(ends, default=low) - low

    def seconds(self, cycles: float) -> float:
        """Time of ``cycles`` at the board's clock."""
        return cycles / self.board.clock_hz

    def run(
        self,
        function: str,
        *arguments: np.ndarray | InFlash | int,
        counted: bool = True,
        budget: int = BUDGET,
        seconds: float = SECONDS,
    ) -> Run:
        """Call ``function`` from the state after reset.

        Args:
            arguments: integers, arrays that are put into SRAM behind the variables, and arrays
                :class:`InFlash`, behind the code.
            counted: count instructions; about ten times slower.
            budget: instructions after which it is stopped, when counted.
            seconds: of this machine's time after which it is stopped, when not counted.

        Raises:
            FirmwareError: no such function, arguments that do not fit, an access outside of the
                memories, an instruction that the core lacks, or the budget.
        """
        if function not in self.symbols:
            known = sorted(name for name in self.symbols if not name.startswith(("$", "__")))
            raise FirmwareError(f"got function {function!r}; the firmware has {known[:30]}")
        limit = 0.0 if counted else seconds
        return _Machine(self, budget, limit).call(function, arguments, counted)

    def nearest(self, address: int) -> str:
        """``function+offset`` or ``variable+offset`` for people."""
        below = [(at, name) for name, (at, _) in self.symbols.items() if at <= address]
        if not below:
            return f"0x{address:08x}"
        at, name = max(below)
        return f"{name}+{address - at}" if address - at < 2**16 else f"0x{address:08x}"


class _Machine:
    """One emulated board, for one call."""

    def __init__(self, firmware: Firmware, budget: int, seconds: float) -> None:
        self.firmware, self.board = firmware, firmware.board
        self.budget, self.seconds = budget, seconds
        self.emulator = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        self.emulator.ctl_set_cpu_model(firmware.core.model)
        board = self.board
        # What lies behind the flash is where calls return to.
        self.returns = board.flash_at + _pages(board.flash_bytes)
        self.emulator.mem_map(board.flash_at, _pages(board.flash_bytes) + 0x1000, 5)
        self.emulator.mem_map(board.sram_at, _pages(board.sram_bytes), 3)
        self.emulator.mem_write(board.sram_at, bytes([PAINT]) * board.sram_bytes)
        for at, data, size in firmware.segments:
            self.emulator.mem_write(at, data + bytes(size - len(data)))
        self.sram_end = board.sram_at + firmware.data_bytes
        self.flash_end = board.flash_at + firmware.flash_bytes
        self.blocks: Counter[tuple[int, int]] = Counter()
        self.taken: Counter[tuple[int, int]] = Counter()
        self.last = (0, 0)
        self.executed = 0
        self.fault = ""

    def call(self, function: str, arguments: Sequence[Any], counted: bool) -> Run:
        placed = [self._place(i, argument) for i, argument in enumerate(arguments)]
        words = [at for at, _ in placed]
        top = self.board.sram_at + self.board.sram_bytes
        stack = top - 8 * -(-max(0, len(words) - 4) // 2)
        if stack - self.sram_end < STACK_LEAST:
            raise FirmwareError(
                f"variables and arguments take {self.sram_end - self.board.sram_at:,} of "
                f"{self.board.sram_bytes:,} bytes of SRAM; nothing is left for the stack"
            )
        for index, word in enumerate(words):
            if index < 4:
                self.emulator.reg_write(arm.UC_ARM_REG_R0 + index, word & 0xFFFF_FFFF)
            else:
                packed = struct.pack("<I", word & 0xFFFF_FFFF)
                self.emulator.mem_write(stack + 4 * (index - 4), packed)
        self.emulator.reg_write(arm.UC_ARM_REG_SP, stack)
        self.emulator.reg_write(arm.UC_ARM_REG_LR, self.returns | 1)
        if self.firmware.core.fpu:  # switched on, as startup code does
            self.emulator.reg_write(arm.UC_ARM_REG_FPEXC, 1 << 30)
        self._execute(self.firmware.symbols[function][0], counted)
        return self._result(placed, stack)

    def _place(self, index: int, argument: Any) -> tuple[int, np.ndarray | None]:
        """The word that is passed, and the array if it lies in SRAM."""
        if isinstance(argument, (int, np.integer)) and not isinstance(argument, bool):
            if not -(2**31) <= argument < 2**32:
                raise FirmwareError(f"argument {index}: got {argument}, which no register holds")
            return int(argument), None
        in_flash = isinstance(argument, InFlash)
        array = argument.array if isinstance(argument, InFlash) else argument
        if not isinstance(array, np.ndarray) or array.dtype.type not in ELEMENTS:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            names = [element.__name__ for element in ELEMENTS]
            raise FirmwareError(f"argument {index}: got {kind}; allowed: int, arrays of {names}")
        at = -(-(self.flash_end if in_flash else self.sram_end) // 4) * 4
        start, size = (
            (self.board.flash_at, self.board.flash_bytes)
            if in_flash
            else (self.board.sram_at, self.board.sram_bytes)
        )
        if at + array.nbytes > start + size:
            raise FirmwareError(
                f"argument {index}: {array.nbytes:,} bytes do not fit into "
                f"{'flash' if in_flash else 'SRAM'}, {start + size - at:,} bytes are left"
            )
        self.emulator.mem_write(at, np.ascontiguousarray(array).tobytes())
        if in_flash:
            self.flash_end = at + array.nbytes
            return at, None
        self.sram_end = at + array.nbytes
        return at, array

    def _execute(self, address: int, counted: bool) -> None:
        self.emulator.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid)
        if counted:
            self.emulator.hook_add(unicorn.UC_HOOK_BLOCK, self._block)
        try:
            self.emulator.emu_start(address | 1, self.returns, timeout=int(self.seconds * 1e6))
        except unicorn.UcError as error:
            if not self.fault:
                self.fault = f"{error}: an instruction that a {self.firmware.core.name} lacks?"
        pc = self.emulator.reg_read(arm.UC_ARM_REG_PC)
        if pc & ~1 != self.returns and not self.fault:
            self.fault = f"it was not done within {self.seconds:g} s"
        if self.fault:
            raise FirmwareError(f"stopped at {self.firmware.nearest(pc)}: {self.fault}")

    def _invalid(self, _: Any, kind: int, address: int, size: int, value: int, __: Any) -> bool:
        writes = kind in (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT)
        fetches = kind in (unicorn.UC_MEM_FETCH_UNMAPPED, unicorn.UC_MEM_FETCH_PROT)
        verb = "jumped to" if fetches else "wrote to" if writes else "read from"
        if 0 < self.board.sram_at - address < 0x1_0000:
            self.fault = "the stack grew out of SRAM"
            return False
        where = self.firmware.nearest(address)
        self.fault = f"it {verb} 0x{address:08x} ({size} bytes, near {where}), which it may not"
        return False

    def _block(self, _: Any, address: int, size: int, __: Any) -> None:
        key = (address, size)
        self.blocks[key] += 1
        if address != self.last[0] + self.last[1]:
            self.taken[self.last] += 1
        self.last = key
        self.executed += size  # bytes: at least two an instruction
        if self.executed > 4 * self.budget:
            self.fault = f"it executed more than {self.budget:,} instructions"
            self.emulator.emu_stop()

    def _result(self, placed: list[tuple[int, np.ndarray | None]], stack: int) -> Run:
        outputs = []
        for at, array in placed:
            if array is not None:
                data = bytes(self.emulator.mem_read(at, array.nbytes))
                outputs.append(np.frombuffer(data, array.dtype).reshape(array.shape).copy())
        free = bytes(self.emulator.mem_read(self.sram_end, stack - self.sram_end))
        unused = len(free) - len(free.lstrip(bytes([PAINT])))
        if unused < 4:
            raise FirmwareError(f"the stack met the data: it needs more than {len(free):,} bytes")
        used = self.board.sram_at + self.board.sram_bytes - self.sram_end - unused
        instructions, cycles, mix = self._counts()
        value = self.emulator.reg_read(arm.UC_ARM_REG_R0)
        return Run(
            value - 2**32 if value >= 2**31 else value,
            tuple(outputs),
            instructions,
            cycles,
            mix,
            used,
            self.sram_end - self.board.sram_at + used,
        )

    def _counts(self) -> tuple[int, int, dict[str, int]]:
        instructions = cycles = 0
        mix: Counter[str] = Counter()
        for (address, size), times in self.blocks.items():
            code = bytes(self.emulator.mem_read(address, size))
            names, cost = decoded(self.firmware.core.name, code)
            instructions += times * len(names)
            cycles += times * cost
            for name in names:
                mix[name] += times
        self.taken.pop((0, 0), None)
        returns = bool(self.blocks)  # where it returns to, nothing is executed
        cycles += self.firmware.core.refill * (sum(self.taken.values()) + returns)
        return instructions, cycles, dict(mix.most_common())


def _pages(size: int) -> int:
    return -(-size // 0x1000) * 0x1000
