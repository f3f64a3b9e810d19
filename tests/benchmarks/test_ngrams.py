"""N-gram models beside the smoothing's formula on dictionaries, and as distributions."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ngrams import NGram

TEXT = np.random.default_rng(0).choice(6, 300, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])


def by_hand(tokens: list[int], vocabulary: int, order: int, context: list[int], token: int):
    """Chen and Goodman's interpolated modified Kneser-Ney, n-grams kept as tuples."""
    grams = Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
    lower = 1 / vocabulary
    levels = {order: grams}
    for length in range(order - 1, 0, -1):  # in how many contexts: distinct n-grams one longer
        levels[length] = Counter(gram[1:] for gram in levels[length + 1])
    for length in range(1, order + 1):
        counts = levels[length]
        n = [0] + [max(1, sum(c == k for c in counts.values())) for k in (1, 2, 3, 4)]
        y = n[1] / (n[1] + 2 * n[2])
        rough = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        discounts = [min(max(d, 0), k - 0.05) for k, d in enumerate(rough, 1)]
        followers = defaultdict(list)
        for gram, count in counts.items():
            followers[gram[:-1]].append(count)
        before = tuple(context[len(context) - length + 1 :])
        if before in followers:
            seen = followers[before]
            freed = sum(discounts[min(c, 3) - 1] for c in seen)
            count = counts[(*before, token)]
            kept = count - discounts[min(count, 3) - 1] if count else 0
            lower = (kept + freed * lower) / sum(seen)
    return lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_the_formula(order):
    model, held_out = NGram(TEXT, 6, order), np.array([0, 1, 0, 5, 5, 2, 0, 0, 4, 1])
    got = model.probabilities(held_out)
    expected = [
        by_hand(TEXT.tolist(), 6, order, held_out[:i].tolist(), int(held_out[i]))
        for i in range(order - 1, len(held_out))
    ]
    assert np.allclose(got, expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=7), st.integers(1, 4))
def test_after_every_text_they_are_a_distribution(tokens, order):
    model = NGram(TEXT, 6, order)
    chances = model.next(np.array(tokens, dtype=np.int64))
    assert chances.shape == (6,)
    assert (chances > 0).all()
    assert chances.sum() == pytest.approx(1)
    if len(tokens) >= order:
        last = model.probabilities(np.array(tokens))[-1]
        assert model.next(np.array(tokens[:-1], dtype=np.int64))[tokens[-1]] == pytest.approx(last)


def test_what_repeats_is_foreseen():
    model = NGram(np.tile(np.arange(5), 40), 5, 3)
    assert model.next(np.array([2, 3]))[4] > 0.9


def test_orders_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="got order 9, 300 tokens of 8 bits; allowed: 1 to 8"):
        NGram(TEXT, 256, 9)
    with pytest.raises(ValueError, match="got order 0"):
        NGram(TEXT, 6, 0)
    with pytest.raises(ValueError, match="got order 3, 2 tokens"):
        NGram(TEXT[:2], 6, 3)
    assert NGram(TEXT, 256, 8).next(TEXT[:7]).sum() == pytest.approx(1)
