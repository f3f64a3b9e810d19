"""Small random Llamas that attend to something, and a tokenizer for them: of the interchange."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from codesign import models, tokenizer
from codesign.models.llama import Llama
from codesign.tokenizer import Tokenizer

VOCABULARY = 320
PLAIN: dict[str, Any] = {
    "architecture": "llama", "vocabulary": VOCABULARY, "width": 64, "hidden": 96, "layers": 2,
    "heads": 4, "kv_heads": 2, "context": 64, "rope_base": 10_000.0, "rope_scaling": None,
    "eps": 1e-5, "tied": True,
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "grouped queries, tied": PLAIN,
    "untied": {**PLAIN, "tied": False},
    "one head of keys": {**PLAIN, "kv_heads": 1},
    "as many heads of keys, another base and eps": {
        **PLAIN, "kv_heads": 4, "rope_base": 500_000.0, "eps": 1e-6,
    },
    "linear scaling": {**PLAIN, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3 scaling": {**PLAIN, "rope_scaling": LLAMA_3, "tied": False},
}  # fmt: skip
TEXT = "A scale of 12 345 bits, and\n\n  two  rows: naïve 日本 🙂 don't; "


def built(config: dict[str, Any] = PLAIN, seed: int = 0) -> Llama:
    """A model whose weights are large enough for positions and heads to matter."""
    model = models.build(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.1, generator=generator)
            else:
                weight.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


@cache
def tokens() -> Tokenizer:
    """A tokenizer with fewer tokens than the models have."""
    return tokenizer.train([TEXT * 3 + "scales and bits of rows " * 9], VOCABULARY - 20)


def prompt(length: int = 40) -> torch.Tensor:
    """Token numbers, ``[1, length]``."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(VOCABULARY, (1, length), generator=generator)


@torch.no_grad()
def logits(model: torch.nn.Module, text: torch.Tensor | None = None) -> torch.Tensor:
    """Scores of ours or of transformers."""
    found = model(prompt() if text is None else text)
    return found if isinstance(found, torch.Tensor) else found.logits
