"""Write arrays of numbers as C text: initializers in lines of a few, little-endian words.

Used by :mod:`codesign.hardware.emit` and :mod:`codesign.hardware.operator_tables`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def array_lines(items: Iterable[str], each: int = 8) -> str:
    """Elements of an initializer, ``each`` of them a line, and a comma behind every one."""
    listed = list(items)
    return "".join(f"{', '.join(listed[i : i + each])},\n" for i in range(0, len(listed), each))


def words(name: str, values: np.ndarray, kind: str) -> str:
    """A constant array of C type ``kind``."""
    numbers = array_lines(str(v) for v in values.tolist())
    return f"static const {kind} {name}[] = {{\n{numbers}}};\n"


def packed(name: str, values: np.ndarray) -> str:
    """Any integers as a constant array of little-endian words, in C order, filled up with zeros."""
    data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    return words(name, np.frombuffer(data + bytes(-len(data) % 4), "<u4"), "uint32_t")
