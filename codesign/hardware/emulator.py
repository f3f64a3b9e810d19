"""Execute one call of a linked program on an emulated board and count its instructions and cycles.

``unicorn`` executes; a hook on every basic block counts it, ``capstone`` decodes each block once.
Used through :class:`codesign.hardware.cortex_m.Firmware`, which says what is left out.
"""

from __future__ import annotations

import gc
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.extras import needed
from codesign.hardware.board import decoded
from codesign.hardware.elf import LinkedProgram
from codesign.hardware.guards import GUARD, Guards

with needed("board"):
    import unicorn
    from unicorn import arm_const as arm

PAINT = 0xA5
STACK_LEAST = 64  # bytes that data and arguments must leave
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


class Machine:
    """One emulated board, for one call."""

    def __init__(
        self,
        firmware: LinkedProgram,
        budget: int,
        seconds: float,
        guarded: bool,
        seed: int | None,
        names: Sequence[str] = (),
    ) -> None:
        self.firmware, self.board = firmware, firmware.board
        self.budget, self.seconds = budget, seconds
        self.paint = (
            bytes([PAINT]) * self.board.sram_bytes
            if seed is None
            else np.random.default_rng(seed).bytes(self.board.sram_bytes)
        )
        # Not UC_MODE_MCLASS, with which every model becomes a Cortex-M33.
        self.emulator = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        self.emulator.ctl_set_cpu_model(firmware.core.model)
        board = self.board
        # What lies behind the flash is where calls return to.
        self.returns = board.flash_at + _pages(board.flash_bytes)
        self.emulator.mem_map(board.flash_at, _pages(board.flash_bytes) + 0x1000, 5)
        self.emulator.mem_map(board.sram_at, _pages(board.sram_bytes), 3)
        self.emulator.mem_write(board.sram_at, self.paint)
        for at, data, size in firmware.segments:
            self.emulator.mem_write(at, data + bytes(size - len(data)))
        self.sram_end = board.sram_at + firmware.data_bytes
        self.flash_end = board.flash_at + firmware.flash_bytes
        self.blocks: Counter[tuple[int, int]] = Counter()
        self.taken: Counter[tuple[int, int]] = Counter()
        self.last = (0, 0)
        self.guards = Guards(self.emulator, self._stop, names) if guarded else None
        self.before: list[tuple[int, np.ndarray | None]] = []  # what earlier calls were given
        self.executed = 0
        self.fault = ""

    def call(
        self,
        function: str,
        arguments: Sequence[Any],
        counted: bool,
        before: Sequence[Sequence[Any]] = (),
    ) -> Run:
        """Place the arguments, run ``function``, and give the emulator's memory back.

        Args:
            before: arguments of calls that come first, without a reset in between.
        """
        try:
            for earlier in before:
                self._called(function, earlier, counted=False)
            return self._called(function, arguments, counted)
        finally:
            # Each emulator reserves a gigabyte of addresses, and its hooks refer to it in circles:
            # of young objects the collector finds them at once.
            del self.emulator, self.guards
            gc.collect(1)

    def _called(self, function: str, arguments: Sequence[Any], counted: bool) -> Run:
        placed = [self._place(i, argument) for i, argument in enumerate(arguments)]
        self.before += placed
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
        if at_before := [at for at, one in self.before if one is array]:
            return at_before[0], array  # where it lay, as the earlier call left it
        guard = GUARD if self.guards else 0
        at = -(-(self.flash_end if in_flash else self.sram_end) // 4) * 4 + guard
        start, size = (
            (self.board.flash_at, self.board.flash_bytes)
            if in_flash
            else (self.board.sram_at, self.board.sram_bytes)
        )
        if at + array.nbytes + guard > start + size:
            raise FirmwareError(
                f"argument {index}: {array.nbytes:,} bytes do not fit into "
                f"{'flash' if in_flash else 'SRAM'}, {start + size - at:,} bytes are left"
            )
        self.emulator.mem_write(at, np.ascontiguousarray(array).tobytes())
        if self.guards:
            self.guards.around(index, at, array.nbytes)
        if in_flash:
            self.flash_end = at + array.nbytes + guard
            return at, None
        self.sram_end = at + array.nbytes + guard
        return at, array

    def _execute(self, address: int, counted: bool) -> None:
        self.emulator.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid)
        if counted:
            self.emulator.hook_add(unicorn.UC_HOOK_BLOCK, self._block)
        if self.guards:
            self.guards.align(self.firmware.functions)
        try:
            self.emulator.emu_start(address | 1, self.returns, timeout=int(self.seconds * 1e6))
        except unicorn.UcError as error:
            if not self.fault:
                core = self.firmware.core.name
                self.fault = f"{error}: an instruction that a {core} lacks, or unaligned access?"
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

    def _stop(self, fault: str) -> None:
        if not self.fault:
            self.fault = fault
            self.emulator.emu_stop()

    def _block(self, _: Any, address: int, size: int, __: Any) -> None:
        key = (address, size)
        self.blocks[key] += 1
        if address != self.last[0] + self.last[1]:
            self.taken[self.last] += 1
        self.last = key
        self.executed += size  # bytes: at least two an instruction
        if self.executed > 4 * self.budget:
            self._stop(f"it executed more than {self.budget:,} instructions")

    def _result(self, placed: list[tuple[int, np.ndarray | None]], stack: int) -> Run:
        if self.guards and (name := self.guards.overrun()) is not None:
            raise FirmwareError(f"it wrote past the array of {name}")
        outputs = []
        for at, array in placed:
            if array is not None:
                data = bytes(self.emulator.mem_read(at, array.nbytes))
                outputs.append(np.frombuffer(data, array.dtype).reshape(array.shape).copy())
        unused = self._untouched(stack)
        if unused < 4:
            room = stack - self.sram_end
            raise FirmwareError(f"the stack met the data: it needs more than {room:,} bytes")
        low = -(-self.sram_end // 4) * 4
        used = self.board.sram_at + self.board.sram_bytes - low - unused
        instructions, cycles, mix = self._counts()
        value = self.emulator.reg_read(arm.UC_ARM_REG_R0)
        return Run(
            value=value - 2**32 if value >= 2**31 else value,
            outputs=tuple(outputs),
            instructions=instructions,
            cycles=cycles,
            mix=mix,
            stack_bytes=used,
            sram_bytes=self.sram_end - self.board.sram_at + used,
        )

    def _untouched(self, stack: int) -> int:
        """Bytes of SRAM behind data and arguments that still carry the paint, in whole words."""
        low = -(-self.sram_end // 4) * 4
        now = np.frombuffer(bytes(self.emulator.mem_read(low, stack - low)), "<u4")
        start = low - self.board.sram_at
        painted = np.frombuffer(self.paint[start : start + 4 * len(now)], "<u4")
        changed = np.flatnonzero(now != painted)
        return 4 * int(changed[0] if changed.size else len(now))

    def _counts(self) -> tuple[int, int, dict[str, int]]:
        instructions = cycles = 0
        mix: Counter[str] = Counter()
        for (address, size), times in self.blocks.items():
            code = bytes(self.emulator.mem_read(address, size))
            names, cost, decoded_bytes = decoded(self.firmware.core.name, code)
            if decoded_bytes != size:  # it was executed, but could not be counted
                where = self.firmware.nearest(address + decoded_bytes)
                raise FirmwareError(f"an instruction at {where} is in no table of cycles")
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
