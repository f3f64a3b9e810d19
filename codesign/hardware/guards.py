"""Stop emulated code at accesses that a test should catch: beside an array, or not aligned.

An emulator lets both pass: bytes beside an argument are memory like any other, and words that LDRD,
LDM or VLDR read from an odd address arrive, where a Cortex-M faults. Used by
:mod:`codesign.hardware.emulator` when it is asked for guards; slower than without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codesign.extras import needed

with needed("board"):
    import unicorn
    from unicorn import arm_const as arm

GUARD = 256  # bytes on each side of an argument that may not be touched


class Guards:
    """Hooks of one emulator.

    Args:
        stop: called with the reason at the first access that is not allowed.
        names: of the arguments, for messages; one without is called by its number.
    """

    def __init__(
        self, emulator: unicorn.Uc, stop: Callable[[str], None], names: Sequence[str] = ()
    ) -> None:
        self.emulator, self.stop, self.names = emulator, stop, names
        self.behind: dict[int, tuple[int, bytes]] = {}  # by argument: where, and what was there

    def around(self, index: int, at: int, size: int) -> None:
        """Guard both sides of argument ``index``, ``size`` bytes at ``at``."""
        self._watch(index, border=at, low=at - GUARD, high=at)
        end = at + size
        self._watch(index, border=end, low=end, high=end + GUARD)
        self.behind[index] = end, bytes(self.emulator.mem_read(end, GUARD))

    def _watch(self, index: int, border: int, low: int, high: int) -> None:
        """Stop at an access from ``low`` to below ``high``, beside argument ``index``.

        Never one that may go on: after a hook in an IT block unicorn takes what follows for a part
        of that block. A hook is called by the first byte of an access; ``overrun`` sees a write
        that begins in the array and ends behind it, and such a read stays unseen.
        """

        def touched(_: Any, kind: int, address: int, size: int, value: int, __: Any) -> None:
            verb = "wrote" if kind == unicorn.UC_MEM_WRITE else "read"
            if border == high:
                where = f"{border - address} bytes before"
            else:
                where = f"{address + size - border} bytes past"
            self.stop(f"it {verb} {where} the array of {self.name(index)}")

        kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        self.emulator.hook_add(kinds, touched, begin=low, end=high - 1)

    def name(self, index: int) -> str:
        """What messages call argument ``index``."""
        return self.names[index] if index < len(self.names) else f"argument {index}"

    def overrun(self) -> str | None:
        """The first argument behind whose array the bytes are not what they were, or None."""
        for index, (end, before) in self.behind.items():
            if bytes(self.emulator.mem_read(end, GUARD)) != before:
                return self.name(index)
        return None

    def align(self, functions: Mapping[str, tuple[int, int]]) -> None:
        """Stop where LDRD, LDM, VLDR and their like start at no multiple of four.

        Their offsets are multiples of four, so the base register decides. What only looks like one
        of them, within other code, never executes.

        Args:
            functions: address and size of each.
        """

        def checked(_: Any, address: int, size: int, register: int) -> None:
            if self.emulator.reg_read(register) % 4:
                self.stop("a load or store of several words is not aligned to four bytes")

        for at, size in functions.values():
            halves = np.frombuffer(bytes(self.emulator.mem_read(at, size // 2 * 2)), "<u2")
            for index, base in _word_accesses(halves):
                register = arm.UC_ARM_REG_LR if base == 14 else arm.UC_ARM_REG_R0 + base
                here, kind = at + 2 * index, unicorn.UC_HOOK_CODE
                self.emulator.hook_add(kind, checked, register, begin=here, end=here)


def _word_accesses(halves: np.ndarray) -> list[tuple[int, int]]:
    """Index and base register of LDM, LDRD, VLDR, VLDM and their stores (ARM DDI 0403E, A5 and A6).

    Not those with SP, which is aligned, or PC as their base; not the exclusive ones, which the
    emulator checks; and not VMOV between two core registers and a double one, which has the same
    coprocessor but no memory (P, U and W are zero, where a load or store has one of them).
    """
    first, second = halves, np.append(halves[1:], 0)
    multiple = first & 0xFE40 == 0xE800
    double = (first & 0xFE40 == 0xE840) & (first & 0x0120 != 0)
    memory = first & 0x01A0 != 0
    floating = (first & 0xFE00 == 0xEC00) & (second & 0x0E00 == 0x0A00) & memory
    wide = multiple | double | floating
    short = first & 0xF000 == 0xC000
    bases = np.where(short, first >> 8 & 7, first & 15)
    found = np.flatnonzero((wide | short) & (bases != 13) & (bases != 15))
    return list(zip(found.tolist(), bases[found].tolist(), strict=True))
