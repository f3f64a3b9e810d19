"""Compile and link C for a Cortex-M microcontroller, and run it in an emulator that counts cycles.

``ziglang`` compiles for the core and links against the flash and SRAM of a board; ``unicorn``
executes; every executed basic block is decoded once by ``capstone`` and its instructions are
counted with the cycles that the core's technical reference manual gives them. The same source gives
the same figures on every machine; where QEMU is installed, tests hold outputs and counts of
instructions against it. Left out: wait states and caches of the flash, the bus, the M7's second
issue slot, and all that depends on data or alignment, where a fixed value stands (see
``hardware.board``). Taught in Lectures 10 and 11.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from codesign import native
from codesign.hardware import elf
from codesign.hardware.board import BOARDS, CORES, Board, listed
from codesign.hardware.emulator import FirmwareError, InFlash, Machine, Run

KERNELS = Path(native.__file__).with_name("kernels") / "cortex_m"
FLAGS = (
    "-O2",
    "-std=gnu17",  # `asm` and `typeof`, too
    "-munaligned-access",
    "-ffunction-sections",
    "-fno-sanitize=all",
    "-fno-strict-aliasing",  # kernels read halfwords that they wrote as words
    "-fomit-frame-pointer",
)
BUDGET = 2_000_000_000  # instructions
SECONDS = 60.0


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
        self.segments, self.symbols, self.functions = elf.read(self.elf)

    def _build(self, folder: Path, texts: Mapping[str, str], keep: Sequence[str]) -> bytes:
        names = self._write(folder, texts)
        abi = "eabihf" if self.core.fpu else "eabi"
        target = ("-target", f"thumb-freestanding-{abi}", f"-mcpu={self.core.cpu}")
        flags = [
            flag for flag in FLAGS if self.core.name != "cortex-m0+" or "unaligned" not in flag
        ]
        for name in names:
            native.zig("-c", *target, *flags, "-I.", name, "-o", f"{name}.o", folder=folder)
        wanted = [f"-Wl,-u,{name}" for name in keep] + [f"-Wl,-e,{keep[0]}" if keep else "-Wl,-e,0"]
        collect = ["-Wl,--gc-sections"] if keep else []
        try:
            native.zig(
                *target, "-nostdlib", "-Wl,-T,link.ld", *collect, *wanted,
                *(f"{name}.o" for name in names), "-o", "firmware.elf", folder=folder,
            )  # fmt: skip
        except native.CompileError as error:
            raise FirmwareError(f"does not link: {error}") from None
        return (folder / "firmware.elf").read_bytes()

    def _write(self, folder: Path, texts: Mapping[str, str]) -> list[str]:
        """What is compiled and linked, into ``folder``; names of the C files."""
        texts = {**texts, "runtime.c": (KERNELS / "runtime.c").read_text()}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
        (folder / "string.h").write_text((KERNELS / "string.h").read_text())
        script = (KERNELS / "link.ld").read_text()
        for name in ("FLASH_AT", "FLASH_BYTES", "SRAM_AT", "SRAM_BYTES"):
            script = script.replace(name, str(getattr(self.board, name.lower())))
        (folder / "link.ld").write_text(script)
        return list(texts)

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
        guarded: bool = False,
        seed: int | None = None,
        names: Sequence[str] = (),
        before: Sequence[Sequence[np.ndarray | InFlash | int]] = (),
    ) -> Run:
        """Call ``function`` from the state after reset.

        Args:
            arguments: integers, arrays that are put into SRAM behind the variables, and arrays
                :class:`InFlash`, behind the code.
            counted: count instructions; about ten times slower.
            budget: instructions after which it is stopped, when counted.
            seconds: of this machine's time after which it is stopped, when not counted.
            guarded: stop when it touches the bytes around an array, and at LDRD, LDM and VLDR that
                are not aligned, which the emulator lets pass and a core does not; slower.
            seed: of what SRAM holds before, so that nobody can restore what he has used.
            names: of the arguments, for messages of ``guarded``.
            before: arguments of calls that come first, uncounted, without a reset in between. An
                array that is also one of ``arguments`` lies at one place, as the calls left it.

        Raises:
            FirmwareError: no such function, arguments that do not fit, an access outside of the
                memories, an instruction that the core lacks, or the budget.
        """
        if function not in self.symbols:
            known = sorted(name for name in self.symbols if not name.startswith(("$", "__")))
            raise FirmwareError(f"got function {function!r}; the firmware has {known[:30]}")
        limit = 0.0 if counted else seconds
        machine = Machine(self, budget, limit, guarded, seed, names)
        return machine.call(function, arguments, counted, before)

    def assembly(self, function: str) -> str:
        """The instructions of ``function``, one a line, with their offset in bytes.

        Raises:
            FirmwareError: no such function.
        """
        if function not in self.functions:
            raise FirmwareError(
                f"got function {function!r}; the firmware has {sorted(self.functions)}"
            )
        at, size = self.functions[function]
        segment, data, _ = next(one for one in self.segments if 0 <= at - one[0] < len(one[1]))
        return listed(data[at - segment : at - segment + size])

    def nearest(self, address: int) -> str:
        """``function+offset`` or ``variable+offset`` for people."""
        below = [(at, name) for name, (at, _) in self.symbols.items() if at <= address]
        if not below:
            return f"0x{address:08x}"
        at, name = max(below)
        return f"{name}+{address - at}" if address - at < 2**16 else f"0x{address:08x}"


__all__ = ["Firmware", "FirmwareError", "InFlash", "Run"]
