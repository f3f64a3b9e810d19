"""llama.cpp as a wheel without a compiler: what it reads in a GGUF file, and what it computes.

The wheel `xllamacpp` is built for AVX2 and NEON. Where the packages and the fetched model have to
be there, as .ci/run says, their tests fail without them.
"""

from __future__ import annotations

import gc
import json
import os
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from codesign import smollm2

REQUIRED = os.environ.get("CODESIGN_REQUIRE_LLM") == "1"
needed = pytest.mark.skipif(
    find_spec("xllamacpp") is None and not REQUIRED, reason="no xllamacpp: pip install xllamacpp"
)
needs_smollm2 = pytest.mark.skipif(
    not smollm2.is_here() and not REQUIRED, reason=f"no SmolLM2: {smollm2.COMMAND}"
)
CERTAIN = 1e4  # added to a logit


class LlamaCpp:
    """One model in llama.cpp, on one thread, with keys and values in float32."""

    def __init__(self, path: Path, context: int) -> None:
        import xllamacpp

        given = xllamacpp.CommonParams()
        given.model.path, given.n_ctx, given.n_parallel = str(path), context, 1
        given.warmup, given.verbosity = False, 0
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(given)

    def _complete(self, prompt: Sequence[int], **more: Any) -> list[dict[str, Any]]:
        asked = {"prompt": list(prompt), "n_probs": 20, "temperature": 0.0, "cache_prompt": False}
        done = self.server.handle_completions(asked | {"ignore_eos": True} | more)
        return done["choices"][0]["logprobs"]["content"]

    def top(self, prompt: Sequence[int], letter: int) -> dict[int, float]:
        """The 20 largest log-probabilities after ``prompt``, by token.

        Args:
            letter: a token of one ASCII letter: it is what is sampled, because llama.cpp keeps
                probabilities back while a character is incomplete. They are taken before the bias.
        """
        (first,) = self._complete(prompt, n_predict=1, logit_bias=[[letter, CERTAIN]])
        return {each["id"]: each["logprob"] for each in first["top_logprobs"]}

    def greedy(self, prompt: Sequence[int], count: int) -> list[dict[str, Any]]:
        """The most probable tokens, one after the other, each with its ``top_logprobs``."""
        return self._complete(prompt, n_predict=count)

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text; names of special tokens in it are only letters."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        request = urllib.request.Request(
            f"{self.server.listening_address}/tokenize",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["tokens"]


@contextmanager
def running(path: Path, context: int = 128) -> Iterator[LlamaCpp]:
    """A model in llama.cpp that is gone afterwards, its threads, too."""
    server = LlamaCpp(path, context)
    try:
        yield server
    finally:
        server.server = None
        del server
        gc.collect()
