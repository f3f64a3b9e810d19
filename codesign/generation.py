"""Continue a text with a language model: one prefill, then one decoding step a token.

Greedy or drawn at a temperature, from the model's own distribution: leaves out top-k, top-p, beams
and several texts at once. Lecture 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from codesign.models.llama import KVCache, Llama


@torch.inference_mode()
def generate(
    model: Llama,
    tokens: torch.Tensor,
    count: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Callable[[torch.Tensor], bool] | None = None,
) -> torch.Tensor:
    """Continue one text, token by token.

    Args:
        tokens: the text so far, int64 ``[T]``, at least one.
        count: how many tokens to add; fewer where the context is full.
        temperature: 0 takes the likeliest token; else logits are divided by it and one is drawn.
        seed: of the draws.
        stop: called with the new tokens so far; True ends the text.

    Returns:
        The new tokens, int64 ``[count]`` or fewer.

    Raises:
        ValueError: no token, a text that fills the context, or a temperature below 0.
    """
    room = model.config["context"] - len(tokens)
    if len(tokens) < 1 or room < 1:
        allowed = f"1 to {model.config['context'] - 1}"
        raise ValueError(f"got a text of {len(tokens)} tokens; allowed: {allowed}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"got temperature {temperature}; allowed: 0 or more")
    draws = torch.Generator().manual_seed(seed)
    cache, new = KVCache(model, batch=1), tokens[:0]
    latest = tokens
    while len(new) < min(count, room) and not (stop and len(new) and stop(new)):
        scores = model(latest[None], cache)[0, -1]
        if temperature == 0:
            latest = scores.argmax()[None]
        else:
            chances = (scores.float() / temperature).softmax(0).cpu()
            latest = torch.multinomial(chances, 1, generator=draws).to(tokens.device)
        new = torch.cat([new, latest])
    return new
