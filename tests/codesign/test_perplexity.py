"""Losses beside closed forms: a model that knows nothing, and every window on its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from codesign import datasets, perplexity, tokenizer
from codesign.models.llama import Llama


def model(context: int = 8, seed: int = 0) -> Llama:
    torch.manual_seed(seed)
    made = Llama(
        vocabulary=300, width=16, hidden=16, layers=1, heads=2, kv_heads=1, context=context
    ).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_()
    return made


def text(tmp_path, content: str) -> tuple:
    path = tmp_path / "one.txt"
    path.write_text(content)
    return datasets.load_text(path), tokenizer.train([content], 300)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(tmp_path):
    blank = model()
    with torch.no_grad():
        blank.embed_tokens.weight.zero_()
    content = "abc " * 100
    known, using = text(tmp_path, content)
    tokens = perplexity.tokens_of(known, using)
    assert perplexity.loss(blank, tokens, 8) == pytest.approx(math.log(300))
    bits = (len(tokens) - 1) * math.log2(300) / len(known)
    assert perplexity.bits_per_byte(blank, known, using) == pytest.approx(bits)


@pytest.mark.parametrize("count", [2, 7, 8, 9, 10, 12, 13, 30])
@pytest.mark.parametrize("fresh", [None, 1, 3, 8])
def test_every_token_counts_once_with_what_stands_before_it(count, fresh):
    """Beside one window for each token, found by going through all of them."""
    torch.manual_seed(1)
    tokens, made, context = torch.randint(300, (count,)), model(), 8
    losses, end = [], 0
    while end < count - 1:
        begun = end
        end = min(count - 1, end + (context if not begun or fresh is None else fresh))
        start = max(0, end - context)
        for at in range(begun, end):
            logits = made(tokens[None, start : at + 1])[0, -1]
            losses.append(functional.cross_entropy(logits, tokens[at + 1]).item())
    assert len(losses) == count - 1
    got = perplexity.loss(made, tokens, context, fresh=fresh)
    assert got == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_each_file_stands_behind_a_mark(tmp_path):
    _, using = text(tmp_path, "ab" * 50)
    card = datasets.load_text(tmp_path / "one.txt").card
    parts = datasets.text.TextSet(
        torch.tensor(list(b"abba")).byte(), type(card)("two", "train", "", "", (("a", 3), ("b", 1)))
    )
    tokens = perplexity.tokens_of(parts, using)
    assert using.decode(tokens) == "<|endoftext|>abb<|endoftext|>a"


def test_a_text_without_two_tokens_or_a_window_without_new_ones_is_refused():
    with pytest.raises(ValueError, match="got 1 tokens, fresh=8; allowed: 2 or more, 1 to 8"):
        perplexity.loss(model(), torch.tensor([1]), 8)
    with pytest.raises(ValueError, match="fresh=9; allowed"):
        perplexity.loss(model(), torch.arange(20), 8, fresh=9)
