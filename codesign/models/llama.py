"""A Llama-architecture decoder: what Llama 2 and 3, Mistral 7B, TinyLlama and SmolLM2 are made of.

Token embedding; blocks of causal self-attention and a gated feed-forward network, each behind an
RMSNorm and added to the residual stream; a last norm and the head. Touvron et al., "LLaMA" (2023),
section 2.2; RoPE, grouped-query attention, SwiGLU and RMSNorm with their papers below. Modules
carry the names of Hugging Face's Llama, so its checkpoints are state dicts of ours
(:mod:`codesign.llama_files`). Leaves out dropout, padding and biases;
:mod:`codesign.generation` continues texts. The text that Lecture 12 explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codesign.models import llama_limits


class KVCache:
    """Keys and values of the tokens so far, for each layer, in memory taken once.

    Shapes: ``keys`` and ``values`` ``[layers, N, kv_heads, context, head_width]``; the first
    ``length`` positions are filled.
    """

    def __init__(self, model: Llama, batch: int, context: int | None = None) -> None:
        head_width = model.config["width"] // model.config["heads"]
        context = context or model.config["context"]
        shape = (model.config["layers"], batch, model.config["kv_heads"], context, head_width)
        weight = model.embed_tokens.weight
        self.keys = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def extend(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new ``keys`` and ``values`` behind those of ``layer``; return views of all.

        Raises:
            ValueError: more tokens than the cache has room for.
        """
        end = self.length + keys.shape[2]
        room = self.keys.shape[3]
        if end > room:
            raise ValueError(f"got {end} tokens; allowed: {room}, the room of this cache")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last dimension, times a learned gain.

    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        exact = x.float()
        mean_square = exact.square().mean(-1, keepdim=True)
        return self.weight * (exact * (mean_square + self.eps).rsqrt()).to(x.dtype)


def rope_frequencies(
    head_width: int, base: float, scaling: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """Angle in radians by which each pair of numbers turns from one position to the next.

    Su et al., "RoFormer" (2021), section 3.2.2. ``scaling`` stretches them to longer contexts:
    ``linear`` divides all by ``factor`` (Chen et al., "Extending Context Window …", 2023);
    ``llama3`` those of long wavelengths alone, with a ramp between (Llama 3.1).

    Returns:
        float32 ``[head_width / 2]``, the fastest first.
    """
    frequencies = base ** -(torch.arange(0, head_width, 2).float() / head_width)
    if scaling is None:
        return frequencies
    if scaling["rope_type"] == "linear":
        return frequencies / scaling["factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # 1: as it is; 0: divided by the factor
    return frequencies * (kept + (1 - kept) / scaling["factor"])


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn the pair (``x[i]``, ``x[i + width / 2]``) of each position by its angle: RoPE.

    Halves are paired, as Hugging Face's files want it; GGUF and Meta's pair neighbours, and their
    rows of ``q_proj`` and ``k_proj`` stand in another order.

    Args:
        x: ``[N, heads, T, head_width]``.
        angles: ``[T, head_width / 2]``, position times frequency.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention in which several query heads share a key and a value head.

    Vaswani et al., "Attention Is All You Need" (2017), section 3.2; grouped queries: Ainslie et
    al., "GQA" (2023). ``kv_heads = heads`` is multi-head, ``kv_heads = 1`` multi-query attention.
    """

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: torch.Tensor, angles: torch.Tensor, cache: KVCache | None, layer: int
    ) -> torch.Tensor:
        queries = rotate(self._split(self.q_proj(x), self.heads), angles)
        keys = rotate(self._split(self.k_proj(x), self.kv_heads), angles)
        values = self._split(self.v_proj(x), self.kv_heads)
        if cache is not None:
            keys, values = cache.extend(layer, keys, values)
        shared = self.heads // self.kv_heads
        keys, values = (part.repeat_interleave(shared, dim=1) for part in (keys, values))
        seen, new = keys.shape[2], x.shape[1]
        if new == 1 or new == seen:  # all that is there, or a triangle
            mixed = functional.scaled_dot_product_attention(
                queries, keys, values, is_causal=new > 1
            )
        else:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
            mixed = functional.scaled_dot_product_attention(queries, keys, values, mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """``[N, T, heads · head_width]`` to ``[N, heads, T, head_width]``."""
        return x.unflatten(2, (heads, self.head_width)).transpose(1, 2)


class MLP(nn.Module):
    """The gated feed-forward network SwiGLU; Shazeer, "GLU Variants …" (2020), equation 6."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention, then the feed-forward network, each added to what came in."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = Attention(width, heads, kv_heads)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.mlp = MLP(width, hidden)

    def forward(
        self, x: torch.Tensor, angles: torch.Tensor, cache: KVCache | None, layer: int
    ) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The decoder: token numbers in, a score for each next token out.

    Shapes: tokens int64 ``[N, T]``; logits float ``[N, T, vocabulary]``.

    Args:
        vocabulary: tokens.
        width: of the residual stream; a multiple of ``2 · heads``.
        hidden: of the feed-forward networks.
        layers, heads: blocks, and query heads of each.
        kv_heads: key and value heads; divides ``heads``.
        context: tokens that one text may have.
        rope_base: base of the geometric series of wavelengths.
        rope_scaling: as in Hugging Face's ``config.json``, ``rope_type`` linear or llama3.
        eps: of the norms.
        tied: the head is the embedding, stored and counted once.

    Raises:
        ValueError: a number out of range; says which are allowed.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        hidden: int,
        layers: int,
        heads: int,
        kv_heads: int,
        context: int,
        rope_base: float = 10_000.0,
        rope_scaling: Mapping[str, Any] | None = None,
        eps: float = 1e-5,
        tied: bool = True,
    ) -> None:
        super().__init__()
        config = {
            "vocabulary": vocabulary, "width": width, "hidden": hidden, "layers": layers,
            "heads": heads, "kv_heads": kv_heads, "context": context, "rope_base": rope_base,
            "rope_scaling": None if rope_scaling is None else dict(rope_scaling),
            "eps": eps, "tied": tied,
        }  # fmt: skip
        llama_limits.check(config)
        self.config: dict[str, Any] = {"architecture": "llama", **config}
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(
            Block(width, heads, kv_heads, hidden, eps) for _ in range(layers)
        )
        self.norm = RMSNorm(width, eps)
        if not tied:
            self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Normal weights; those that add to the residual stream smaller, by the number of adds."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(self.layers)) ** adds)

    @property
    def head(self) -> torch.Tensor:
        """Weight of the head, ``[vocabulary, width]``."""
        return self.embed_tokens.weight if self.config["tied"] else self.lm_head.weight

    def forward(self, tokens: torch.Tensor, cache: KVCache | None = None) -> torch.Tensor:
        """Scores for the token after each of ``tokens``.

        Args:
            cache: the tokens before these; takes in these.

        Raises:
            ValueError: more tokens than the model's context, the cached ones included.
        """
        start = 0 if cache is None else cache.length
        end, most = start + tokens.shape[1], self.config["context"]
        if end > most:
            raise ValueError(f"got {end} tokens; allowed: {most}, the context of this model")
        x = self.embed_tokens(tokens)
        positions = torch.arange(start, end, device=x.device).float()
        frequencies = rope_frequencies(
            self.config["width"] // self.config["heads"],
            self.config["rope_base"],
            self.config["rope_scaling"],
        )
        angles = positions[:, None] * frequencies.to(x.device)
        for layer, block in enumerate(self.layers):
            x = block(x, angles, cache, layer)
        if cache is not None:
            cache.length = end
        return functional.linear(self.norm(x), self.head)
