"""N-gram models of tokens or bytes with modified Kneser-Ney smoothing: what counting alone can do.

Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section
3: interpolated, three discounts for each order, lower orders count in how many contexts a token
stands. An n-gram is one integer of 64 bits, so orders go up to 8 bytes or 6 tokens of 10 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class _Order:
    """Counts of the n-grams of one length, and what the contexts before their last token share."""

    grams: np.ndarray  # sorted
    counts: np.ndarray
    contexts: np.ndarray  # sorted
    totals: np.ndarray
    followers: np.ndarray  # [3, contexts]: tokens that follow once, twice, more often
    discounts: np.ndarray  # [4], by count: 0, 1, 2, more


class NGram:
    """The model of a text; ``order`` tokens are seen together, the last one is predicted.

    Args:
        tokens: numbers in 0..vocabulary - 1, ``[T]``.
        order: 1 or more.

    Raises:
        ValueError: n-grams that do not fit into 64 bits, or a text shorter than one.
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        self.bits = max(1, math.ceil(math.log2(vocabulary)))
        if not 1 <= order <= 64 // self.bits or len(tokens) < order:
            raise ValueError(
                f"got order {order}, {len(tokens)} tokens of {self.bits} bits; "
                f"allowed: 1 to {64 // self.bits}, no more than tokens"
            )
        self.orders: list[_Order] = []
        longer, counts = np.unique(self._windows(tokens, order), return_counts=True)
        for length in range(order, 0, -1):
            self.orders.insert(0, self._count(longer, counts))
            suffixes = longer & self._mask(length - 1)
            longer, counts = np.unique(suffixes, return_counts=True)

    def _mask(self, length: int) -> np.uint64:
        return np.uint64((1 << (self.bits * length)) - 1)

    def _windows(self, tokens: np.ndarray, length: int) -> np.ndarray:
        """Every window of ``length`` tokens as one number, the last token in the lowest bits."""
        wide, count = tokens.astype(np.uint64), len(tokens) - length + 1
        packed = np.zeros(count, np.uint64)
        for i in range(length):
            packed = (packed << np.uint64(self.bits)) | wide[i : i + count]
        return packed

    def _count(self, grams: np.ndarray, counts: np.ndarray) -> _Order:
        n1, n2, n3, n4 = (max(1, int((counts == n).sum())) for n in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        discounts = discounts.clip(0, [0, 0.95, 1.95, 2.95])  # counts of few n-grams are rough
        before = grams >> np.uint64(self.bits)
        contexts, at = np.unique(before, return_inverse=True)
        totals = np.bincount(at, counts, len(contexts))
        kinds = [counts == 1, counts == 2, counts > 2]
        followers = np.stack([np.bincount(at[kind], minlength=len(contexts)) for kind in kinds])
        return _Order(grams, counts, contexts, totals, followers, discounts)

    def _seen(self, context: np.ndarray, token: np.ndarray, length: int) -> np.ndarray:
        """Probability of ``token`` after the last ``length`` tokens of packed ``context``."""
        if length < 0:
            return np.full(token.shape, 1 / self.vocabulary)
        lower = self._seen(context, token, length - 1)
        known = self.orders[length]
        short = context & self._mask(length)
        place, found = _find(known.contexts, short)
        at, there = _find(known.grams, (short << np.uint64(self.bits)) | token)
        count = np.where(there, known.counts[at], 0)
        kept = count - known.discounts[count.clip(max=3)]
        freed = known.discounts[1:] @ known.followers[:, place.ravel()]
        mixed = (kept + freed.reshape(place.shape) * lower) / known.totals[place]
        return np.where(found, mixed, lower)

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Of each token from number ``order - 1`` on, given those before: ``[T - order + 1]``."""
        grams = self._windows(tokens, self.order)
        mask = np.uint64((1 << self.bits) - 1)
        return self._seen(grams >> np.uint64(self.bits), grams & mask, self.order - 1)

    def next(self, tokens: np.ndarray) -> np.ndarray:
        """Probabilities of all tokens after ``tokens``, ``[vocabulary]``."""
        latest = tokens[max(0, len(tokens) - self.order + 1) :]
        context = self._windows(latest, len(latest)) if len(latest) else np.zeros(1, np.uint64)
        return self._seen(context, np.arange(self.vocabulary, dtype=np.uint64), len(latest))


def _find(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value stands in a sorted array, and whether it does."""
    at = np.searchsorted(ordered, wanted).clip(max=len(ordered) - 1)
    return at, ordered[at] == wanted
