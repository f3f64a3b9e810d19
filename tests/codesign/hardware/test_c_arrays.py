"""Arrays as C text, read back; and headers of kernels without what a single file cannot include."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hardware.c_arrays import array_lines, packed, words
from codesign.hardware.emit import header


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text.split("{")[1])]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), st.integers(1, 16))
def test_lines_hold_all_elements_in_their_order(values, each):
    text = array_lines(map(str, values), each)
    assert [int(word) for word in text.replace("\n", " ").split(",")[:-1]] == values
    lengths = [line.count(",") for line in text.splitlines()]
    assert lengths == [each] * (len(values) // each) + [len(values) % each] * (
        len(values) % each > 0
    )


@given(st.lists(st.integers(-128, 127), max_size=19))
def test_packed_bytes_are_read_back_as_a_core_reads_them(values):
    text = packed("w", np.array(values, np.int8))
    assert text.startswith("static const uint32_t w[] = {\n")
    data = b"".join(word.to_bytes(4, "little") for word in numbers(text))
    assert np.frombuffer(data, np.int8)[: len(values)].tolist() == values
    assert not any(data[len(values) :])
    assert len(data) < len(values) + 4


def test_words_keep_their_sign():
    text = words("b", np.array([-1, 2], np.int64), "int32_t")
    assert text == "static const int32_t b[] = {\n-1, 2,\n};\n"


@pytest.mark.parametrize("name", ["int8_naive.h", "int8_simd.h"])
def test_a_header_needs_no_file_of_ours(name):
    text = header(name)
    assert '#include "' not in text
    for function in ("requantized", "add", "mean", "conv", "depthwise", "linear"):
        assert len(re.findall(rf"^INLINE \w+ {function}\(", text, re.M)) == 1
