"""The bit stream of Deep Compression: known codes, round trips, strict refusal."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import huffman

FOUR = torch.tensor([1, 2, 3, 3])


def test_the_example_of_rfc_1951():
    """Section 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) give 010 … 110, 00, 1110, 1111."""
    codes = huffman.canonical_codes(torch.tensor([3, 3, 3, 3, 3, 2, 4, 4]))
    assert codes.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


def test_bits_by_hand():
    stream = huffman.write_bits(torch.tensor([0b101, 0b1, 0b0001111]), torch.tensor([3, 1, 7]))
    assert stream.tolist() == [0b1011_0001, 0b1110_0000]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_entries_come_back(pairs):
    symbols = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    codes = huffman.canonical_codes(FOUR)
    stream = huffman.write_bits(codes[symbols].flatten(), FOUR[symbols].flatten())
    gaps, values = huffman.read_entries(stream, len(pairs), FOUR, FOUR)
    assert torch.equal(torch.stack([gaps, values], 1), symbols)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80))
def test_place_puts_values_where_they_were(listed):
    codes = torch.tensor(listed)
    places = codes.nonzero().flatten()
    before = torch.cat([torch.tensor([-1]), places[:-1]])[: len(places)]
    assert torch.equal(huffman.place(places - before - 1, codes[places], len(codes)), codes)


@pytest.mark.parametrize(
    "lengths",
    [
        torch.tensor([1, 1, 1]),
        torch.tensor([33]),
        torch.tensor([-1]),
        torch.tensor([1.0]),
        torch.tensor([[1]]),
        torch.ones(257, dtype=torch.int64),
    ],
)
def test_lengths_that_no_code_has(lengths):
    with pytest.raises(ValueError, match="allowed"):
        huffman.canonical_codes(lengths)


@pytest.mark.parametrize(
    ("listed", "entries", "complaint"),
    [
        ([0b0000_0000], 5, "allowed"),  # more entries than bits
        ([0b1110_0000], 4, "ends"),
        ([0b0000_0001], 1, "left"),  # bits set after the end
        ([0, 0], 1, "left"),  # a byte too many
        ([0], -1, "allowed"),
    ],
)
def test_streams_that_do_not_decode(listed, entries, complaint):
    stream = torch.tensor(listed, dtype=torch.uint8)
    with pytest.raises(ValueError, match=complaint):
        huffman.read_entries(stream, entries, FOUR, FOUR)


def test_a_codeword_that_is_not_in_the_table():
    only = torch.tensor([2])
    with pytest.raises(ValueError, match="codeword"):
        huffman.read_entries(torch.full((9,), 255, dtype=torch.uint8), 1, only, only)


def test_an_entry_past_the_end():
    with pytest.raises(ValueError, match="below 3"):
        huffman.place(torch.tensor([2, 0]), torch.tensor([1, 1]), 3)
