"""What a decoder costs, against closed forms: attention counts, a tied embedding counts once."""

from __future__ import annotations

import pytest
import torch

from codesign import cost, models
from codesign.models.llama import KVCache

VOCABULARY, WIDTH, HIDDEN, LAYERS, HEADS = 50, 24, 40, 3, 6


def built(kv_heads: int = 2, tied: bool = True) -> torch.nn.Module:
    return models.build(
        {
            "architecture": "llama", "vocabulary": VOCABULARY, "width": WIDTH, "hidden": HIDDEN,
            "layers": LAYERS, "heads": HEADS, "kv_heads": kv_heads, "context": 64, "tied": tied,
        }
    )  # fmt: skip


def weights_of_layers(kv_heads: int) -> int:
    """q and o; k and v, narrower by the heads that share them; gate, up and down."""
    return LAYERS * (2 * WIDTH**2 + 2 * WIDTH**2 * kv_heads // HEADS + 3 * WIDTH * HIDDEN)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("tokens", [1, 2, 17])
@pytest.mark.parametrize("tied", [True, False])
def test_macs(kv_heads, tokens, tied):
    """Scores and mixture: T²·width each a layer, the half that the mask hides included."""
    products = tokens * (weights_of_layers(kv_heads) + WIDTH * VOCABULARY)
    attention = LAYERS * 2 * tokens**2 * WIDTH
    text = torch.zeros(1, tokens, dtype=torch.long)
    assert cost.macs(built(kv_heads, tied), text) == products + attention


@pytest.mark.parametrize("new", [1, 3])
def test_macs_behind_a_cache(new):
    """Each new token meets all that came before: 2 · new · (old + new) · width a layer."""
    model, old = built().eval(), 11
    cache = KVCache(model, 1)
    with torch.no_grad():
        model(torch.zeros(1, old, dtype=torch.long), cache)
    model.forward = lambda tokens, inner=model.forward: inner(tokens, cache)
    counted = cost.macs(model, torch.zeros(1, new, dtype=torch.long))
    products = new * (weights_of_layers(2) + WIDTH * VOCABULARY)
    assert counted == products + LAYERS * 2 * new * (old + new) * WIDTH


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_embedding_counts_once(tied):
    model = built(2, tied)
    count = weights_of_layers(2) + (2 * LAYERS + 1) * WIDTH + VOCABULARY * WIDTH * (2 - tied)
    assert cost.parameters(model) == count
    assert cost.model_bytes(model, 16) == 2 * count
