"""Read the header of a GGUF file, llama.cpp's format: metadata, and where each tensor lies.

Version 3 and 2, little-endian: magic, counts, key-value pairs, tensor descriptions, padding, data.
The `gguf` library's reader believes what a file says (a count of 2^60 keeps it busy for ever, and
tensors may share bytes), so here every count, length, offset and shape is held against the size of
the file before anything of that size is made. Numbers stay where they are. Specification: ggml's
``docs/gguf.md``. Lecture 12.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from codesign.extras import needed

with needed("llm"):
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

KINDS = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1")
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, where the file says nothing else
# The format's numbers of value types: scalars as struct and numpy write them, then two composed.
SCALARS = dict(enumerate("BbHhIif?..Qqd"))
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Tensor:
    """One tensor in the file: its ``kind`` of ``KINDS``, ``shape`` with rows first, and its bytes.

    A block of ``Q4_0`` holds 32 weights in 18 bytes, one of ``Q4_1`` in 20, of ``Q8_0`` in 34.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


@dataclass(frozen=True)
class Header:
    """``metadata`` by key (a numeric array is a numpy array), and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read(path: str | Path) -> Header:
    """The header of ``path``, after every number in it was held against the file's size.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no GGUF file, a truncated one, or one that says what cannot be.
    """
    path = Path(path)
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise ValueError(f"{path}: got {path.stat().st_size} bytes; allowed: a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Walk(data).header()
            except struct.error:
                raise ValueError(f"{path}: the file ends within its header") from None
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: got a name that is not UTF-8: {error}") from None
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None


class _Walk:
    """A position in the bytes that moves on with what is read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def header(self) -> Header:
        """The whole header, from the first byte on."""
        magic, version = self._take("4sI")
        if magic != b"GGUF" or version not in VERSIONS:
            raise ValueError(f"got {magic!r} version {version}; allowed: GGUF version {VERSIONS}")
        tensors, pairs = self._count("Q", 24), self._count("Q", 13)
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            if key in metadata:
                raise ValueError(f"got the key {key!r} twice; allowed: once")
            metadata[key] = self._value(*self._take("I"))
        found = [self._described() for _ in range(tensors)]
        return Header(metadata, self._placed(found, metadata.get("general.alignment", ALIGNMENT)))

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def _count(self, form: str, least_bytes: int) -> int:
        """A count of things that take ``least_bytes`` each, or more."""
        (count,) = self._take(form)
        room = (len(self.data) - self.at) // least_bytes
        if count > room:
            raise ValueError(f"got a count of {count}; allowed: {room}, what the file has room for")
        return count

    def _string(self) -> str:
        length = self._count("Q", 1)
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array(*self._take("I"))
        return self._take(_scalar(kind))[0]

    def _array(self, kind: int) -> list[str] | np.ndarray:
        if kind == STRING:
            return [self._string() for _ in range(self._count("Q", 8))]
        dtype = np.dtype(_scalar(kind)).newbyteorder("<")
        count = self._count("Q", dtype.itemsize)
        self.at += count * dtype.itemsize
        return np.frombuffer(self.data[self.at - count * dtype.itemsize : self.at], dtype)

    def _described(self) -> tuple[str, Tensor]:
        """A tensor's description; its start counts from where the data begins."""
        name, (dimensions,) = self._string(), self._take("I")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"got {dimensions} dimensions of {name!r}; allowed: 1 to 4")
        *shape, number, start = self._take(f"{dimensions}QIQ")
        kinds = {kind.value: kind for kind in GGMLQuantizationType if kind.name in KINDS}
        if number not in kinds:
            raise ValueError(f"got type {number} of {name!r}; allowed: {KINDS}")
        block, size_bytes = GGML_QUANT_SIZES[kinds[number]]
        if shape[0] % block or not all(shape):
            raise ValueError(f"got {shape} of {name!r}; allowed: rows of a multiple of {block}")
        size_bytes *= prod(shape) // block
        return name, Tensor(kinds[number].name, tuple(reversed(shape)), start, size_bytes)

    def _placed(self, found: list[tuple[str, Tensor]], alignment: Any) -> dict[str, Tensor]:
        """The tensors with their starts in the file: within it, aligned, none over another."""
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"got alignment {alignment!r}; allowed: a power of two")
        base = -(-self.at // alignment) * alignment
        placed, free = {}, base
        for name, tensor in sorted(found, key=lambda each: each[1].start):
            start, end = base + tensor.start, base + tensor.start + tensor.size_bytes
            if start % alignment or start < free or end > len(self.data) or name in placed:
                raise ValueError(
                    f"got {name!r} at bytes {start} to {end}; allowed: {free} to {len(self.data)}, "
                    f"at a multiple of {alignment}, each name once"
                )
            free = end
            placed[name] = Tensor(tensor.kind, tensor.shape, start, tensor.size_bytes)
        return placed


def _scalar(kind: int) -> str:
    form = SCALARS.get(kind, ".")
    if form == ".":
        raise ValueError(f"got value type {kind}; allowed: scalars, strings and arrays of them")
    return form
