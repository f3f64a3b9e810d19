"""The same firmware in QEMU: an oracle for what the emulated Cortex-M computes and counts.

An image is a ``job(uint8_t *out)`` with its data, linked by :class:`Firmware` with startup code
(startup.c) for the memories of a machine that QEMU has. QEMU runs it from reset; unicorn calls
``job`` in the same ELF file. With ``-icount`` every instruction takes the same virtual time, so the
machine's timer counts instructions. GCC stands beside zig as a second compiler.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from codesign.hardware.board import KIB, Board
from codesign.hardware.cortex_m import FLAGS, Firmware

GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
SECONDS = 120
MISSING = [name for name in (GCC, QEMU) if not shutil.which(name)]
# Where they have to be there, as .ci/run says, their tests fail without them.
REQUIRED = os.environ.get("CODESIGN_REQUIRE_QEMU") == "1"
needed = pytest.mark.skipif(
    bool(MISSING) and not REQUIRED,
    reason=f"no {' and no '.join(MISSING)} (Debian: gcc-arm-none-eabi, qemu-system-arm)",
)
GCC_CPU = {
    "cortex-m0+": ("-mcpu=cortex-m0plus",),
    "cortex-m3": ("-mcpu=cortex-m3",),
    "cortex-m4": ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
}


@dataclass(frozen=True)
class Machine:
    """One of QEMU's: a part of its memories, and the clock that its SysTick counts."""

    name: str
    board: Board


def _board(name: str, core: str, flash_kib: int, sram_kib: int, clock_hz: float) -> Board:
    return Board(name, core, flash_kib * KIB, sram_kib * KIB, clock_hz=clock_hz, flash_at=0)


MACHINES = {
    machine.board.core: machine
    for machine in (
        Machine("microbit", _board("microbit", "cortex-m0+", 256, 16, 16e6)),
        Machine("mps2-an385", _board("an385", "cortex-m3", 2048, 512, 25e6)),
        Machine("mps2-an386", _board("an386", "cortex-m4", 2048, 512, 25e6)),
        Machine("mps2-an500", _board("an500", "cortex-m7", 2048, 512, 25e6)),
    )
}


class GccFirmware(Firmware):
    """Compiled and linked by arm-none-eabi-gcc, with its libgcc."""

    def _build(self, folder: Path, texts: Mapping[str, str], keep: Sequence[str]) -> bytes:
        names = self._write(folder, texts)
        flags = [flag for flag in FLAGS if "unaligned" not in flag]
        wanted = [f"-Wl,-u,{name}" for name in keep]
        done = subprocess.run(
            [
                GCC, *GCC_CPU[self.core.name], "-mthumb", "-masm-syntax-unified", *flags,
                "-ffreestanding", "-I.", "-nostdlib", "-Wl,-T,link.ld", "-Wl,--gc-sections",
                f"-Wl,-e,{keep[0]}", "-Wl,--no-warn-rwx-segments", *wanted, *names, "-lgcc",
                "-Wl,--allow-multiple-definition", "-o", "firmware.elf",  # runtime.c divides too
            ],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return (folder / "firmware.elf").read_bytes()


COMPILERS = {"zig": Firmware, "gcc": GccFirmware}


@dataclass(frozen=True)
class Outcome:
    """What ``job`` returned and wrote, and the instructions from its first to its return."""

    value: int
    out: bytes
    instructions: int


@dataclass(frozen=True)
class Image:
    """An ELF file that runs from reset."""

    firmware: Firmware
    machine: Machine
    out_bytes: int

    def in_unicorn(self, guarded: bool = False) -> Outcome:
        run = self.firmware.run("job", np.zeros(self.out_bytes, np.uint8), guarded=guarded)
        return Outcome(run.value, run.outputs[0].tobytes(), run.instructions)

    def in_qemu(self, shift: int = 8) -> Outcome:
        """``2^shift`` ns an instruction: a timer of 24 bits holds 2.6 million at 8."""
        with tempfile.NamedTemporaryFile(suffix=".elf") as file:
            file.write(self.firmware.elf)
            file.flush()
            done = subprocess.run(
                [
                    QEMU, "-machine", self.machine.name, "-kernel", file.name, "-display", "none",
                    "-monitor", "none", "-serial", "none", "-icount", f"shift={shift},sleep=off",
                    "-semihosting-config", "enable=on,target=native",
                ],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
            )  # fmt: skip
        if done.returncode:
            said = done.stderr.decode() or "the core faulted"
            raise RuntimeError(f"QEMU ended with {done.returncode}: {said}")
        assert len(done.stdout) == 8 + self.out_bytes, done.stdout[:200]
        ticks, value = struct.unpack_from("<Ii", done.stdout)
        spent_ns = (ticks & 0xFFFFFF) * 1e9 / self.machine.board.clock_hz
        # BLX and LDR lie between the two readings as well (startup.c).
        return Outcome(value, done.stdout[8:], round(spent_ns / 2**shift) - 2)


def image(
    source: str | Mapping[str, str], core: str, out_bytes: int, compiler: str = "zig"
) -> Image:
    """``source`` defines ``int job(uint8_t *out)``, which writes ``out_bytes``."""
    machine = MACHINES[core]
    board = machine.board
    texts = {"kernel.c": source} if isinstance(source, str) else dict(source)
    startup = Path(__file__).with_name("startup.c").read_text()
    startup = startup.replace("SRAM_END", str(board.sram_at + board.sram_bytes))
    startup = startup.replace("OUT_BYTES", str(out_bytes))
    keep = ("vectors", "reset", "failed", "job")
    firmware = COMPILERS[compiler]({"startup.c": startup, **texts}, board, keep)
    return Image(firmware, machine, out_bytes)


def constant(name: str, array: np.ndarray) -> str:
    """An array as a C constant, as integers of its width; floats by their bits."""
    bits = array if array.dtype.kind in "iu" else array.view(np.uint32)
    words = ", ".join(str(value) for value in bits.ravel().tolist())
    kind = f"{'u' if bits.dtype.kind == 'u' else ''}int{8 * bits.itemsize}_t"
    return f"const {kind} {name}[] __attribute__((aligned(4))) = {{{words}}};\n"
