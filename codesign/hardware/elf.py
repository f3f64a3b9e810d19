"""Read segments and symbols of a linked firmware from its 32-bit little-endian ELF file."""

from __future__ import annotations

import struct
from typing import Protocol

from codesign.hardware.board import Board, Core

Segment = tuple[int, bytes, int]  # address, content, size in memory
Symbols = dict[str, tuple[int, int]]  # address, size


class LinkedProgram(Protocol):
    """What the emulator needs to know of a program; addresses are the board's.

    Args:
        segments: address, bytes and size in memory of each; what the bytes do not fill is zero.
        symbols: address and size of functions and variables by name.
        functions: those of ``symbols`` that are code.
        flash_bytes, data_bytes: what it occupies of the two memories.
    """

    board: Board
    core: Core
    segments: list[Segment]
    symbols: Symbols
    functions: Symbols

    @property
    def flash_bytes(self) -> int: ...

    @property
    def data_bytes(self) -> int: ...

    def nearest(self, address: int) -> str:
        """``name+offset`` of the symbol before an address, for messages."""


def read(elf: bytes) -> tuple[list[Segment], Symbols, Symbols]:
    """Loaded segments, variables with functions, and functions alone, of a 32-bit ELF file."""
    program_at, section_at = struct.unpack_from("<II", elf, 28)
    (programs,) = struct.unpack_from("<H", elf, 44)
    (sections,) = struct.unpack_from("<H", elf, 48)
    segments = []
    for index in range(programs):
        kind, offset, at, _, stored, size = struct.unpack_from("<6I", elf, program_at + 32 * index)
        if kind == 1 and size:
            segments.append((at, elf[offset : offset + stored], size))
    headers = [struct.unpack_from("<10I", elf, section_at + 40 * i) for i in range(sections)]
    symbols, functions = {}, {}
    for header in headers:
        if header[1] != 2:  # the symbol table
            continue
        names_at = headers[header[6]][4]
        for place in range(header[4], header[4] + header[5], 16):
            name, value, size, info = struct.unpack_from("<IIIB", elf, place)
            if info & 15 in (1, 2) and value:  # variables and functions
                end = elf.index(b"\0", names_at + name)
                text = elf[names_at + name : end].decode()
                symbols[text] = (value & ~1, size)
                if info & 15 == 2:
                    functions[text] = symbols[text]
    return segments, symbols, functions
