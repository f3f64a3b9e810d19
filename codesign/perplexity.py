"""How well a language model predicts a text: loss a token, perplexity, bits a byte.

Perplexities compare models that share a tokenizer; bits per byte compare any two, and a compressor
with them (Shannon, "Prediction and Entropy of Printed English", 1951). Lecture 12.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from codesign.models.llama import Llama
from codesign.text import TextSet
from codesign.tokenizer import Tokenizer


@torch.inference_mode()
def loss(model: Llama, tokens: torch.Tensor, context: int, *, fresh: int | None = None) -> float:
    """Mean loss of each next token in nats, the text taken in windows of ``context``.

    Args:
        fresh: tokens by which a window moves on, the only ones that count in it: all others are
            what it has seen before. None: the whole window, which is quick and a little too high.

    Raises:
        ValueError: fewer than two tokens, or ``fresh`` that is not 1 to ``context``.
    """
    fresh = context if fresh is None else fresh
    if len(tokens) < 2 or not 1 <= fresh <= context:
        raise ValueError(
            f"got {len(tokens)} tokens, fresh={fresh}; allowed: 2 or more, 1 to {context}"
        )
    total, done, targets = 0.0, 0, len(tokens) - 1
    while done < targets:
        end = min(targets, done + (fresh if done else context))
        start = max(0, end - context)
        logits = model(tokens[None, start:end])[0, done - start :]
        wanted = tokens[done + 1 : end + 1]
        total += float(functional.cross_entropy(logits.float(), wanted, reduction="sum"))
        done = end
    return total / targets


def tokens_of(text: TextSet, using: Tokenizer) -> torch.Tensor:
    """All files of a text as tokens, int64 ``[T]``, each behind the mark of a start."""
    start = torch.tensor([using.start])
    return torch.cat(
        [part for file in text.files().values() for part in (start, using.encode(file))]
    )


def bits_per_byte(model: Llama, text: TextSet, using: Tokenizer) -> float:
    """Bits that the model needs for each byte of a text: its loss, whatever the tokens are.

    Every token but the first mark counts, and is seen with half a context or more before it.
    """
    tokens, context = tokens_of(text, using), model.config["context"]
    nats = loss(model, tokens, context, fresh=context // 2) * (len(tokens) - 1)
    return nats / math.log(2) / len(text)
