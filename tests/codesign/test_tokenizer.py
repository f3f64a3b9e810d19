"""The byte-level BPE: every byte string comes back, and the merges are the frequent pairs."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import tokenizer

TEXT = "def low(lower, lowest):\n    return lower or lowest\n" * 3


@pytest.fixture(scope="module")
def learned() -> tokenizer.Tokenizer:
    return tokenizer.train([TEXT], 270)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_every_byte_string_comes_back(learned, content):
    tokens = learned.encode(content)
    assert tokens.dtype == torch.int64
    assert tokens.ndim == 1
    assert learned.decode_bytes(tokens) == content


@settings(deadline=None)
@given(st.text(max_size=60))
def test_every_text_comes_back(learned, content):
    assert learned.decode(learned.encode(content)) == content


def test_the_marks_letters_in_a_text_are_only_letters(learned):
    tokens = learned.encode(tokenizer.START)
    assert learned.start not in tokens
    assert len(tokens) > 1
    assert learned.decode(tokens) == tokenizer.START == learned.decode([learned.start])


def test_the_first_merge_is_the_most_frequent_pair(learned):
    """Counted here: pairs of neighbouring bytes within a word and the space before it."""
    words = TEXT.replace("(", " ( ").replace(",", " , ").replace(")", " ) ").split()
    pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
    most = max(pairs.values())
    first = learned.decode([tokenizer.BYTES + 1])
    assert pairs[first[0], first[1]] == most


def test_merges_make_a_text_shorter_and_all_bytes_are_tokens(learned):
    assert len(learned.encode(TEXT)) < 0.5 * len(TEXT.encode())
    assert len(learned) == 270
    singles = {learned.decode_bytes([number]) for number in range(1, 257)}
    assert singles == {bytes([byte]) for byte in range(256)}


def test_half_a_letter_is_marked(learned):
    assert learned.decode(learned.encode("é".encode()[:1])) == "\ufffd"


def test_a_saved_one_is_the_same(learned, tmp_path):
    path = tmp_path / "deep/tokenizer.json"
    learned.save(path)
    again = tokenizer.load(path)
    assert torch.equal(again.encode(TEXT), learned.encode(TEXT))
    assert (len(again), again.start) == (len(learned), learned.start)
    assert tokenizer.train([TEXT], 270).inner.to_str() == learned.inner.to_str()


def test_what_is_no_tokenizer_is_refused(learned, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is not a byte-level tokenizer.json"):
        tokenizer.load(path)
    words = json.loads(learned.inner.to_str())
    words["model"] = {"type": "WordLevel", "vocab": {"wörter ": 0}, "unk_token": "?"}
    path.write_text(json.dumps(words))
    with pytest.raises(ValueError, match=r"is not a byte-level tokenizer.json"):
        tokenizer.load(path)
    with pytest.raises(FileNotFoundError):
        tokenizer.load(tmp_path / "none.json")


def test_numbers_out_of_range_are_refused(learned):
    for number in (-1, 270):
        with pytest.raises(ValueError, match=f"got token {number}; allowed: 0 to 269"):
            learned.decode([number])
    with pytest.raises(ValueError, match="got a vocabulary of 256; allowed: 257 or more"):
        tokenizer.train([TEXT], 256)
