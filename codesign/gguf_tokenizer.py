"""Carry a byte-level BPE tokenizer in the metadata of a GGUF file, and out of it again.

GGUF stores the vocabulary, the merges, a type for each token, and the *name* of the rule that cuts
text before merging; a ``tokenizer.json`` spells that rule out. Kept are three rules and what is
needed to encode and decode; refused are other kinds of tokenizer (SentencePiece, WordPiece) and
rules without a name in llama.cpp. Byte-level BPE: Radford et al., "Language Models are Unsupervised
Multitask Learners" (2019), section 2.2. Lecture 12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign.extras import needed
from codesign.tokenizer import Tokenizer

with needed("llm"):
    import tokenizers
    from gguf import GGUFWriter, TokenType
    from tokenizers import AddedToken, decoders, models, processors

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


# llama.cpp's name of a rule, and its steps as tokenizer.json has them.
RULES: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_bytes(True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _bytes(True)],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False},
        _bytes(False),
    ],
}
WHOLE_WORDS = ("llama-bpe",)  # a word of the vocabulary is one token, whatever the merges say
# What ends an answer or a text, in the order in which a file that has room for one takes them.
ENDS = ("<|im_end|>", "<|eot_id|>", "</s>", "<|end_of_text|>", "<|endoftext|>")


def ends(tokenizer: Tokenizer) -> list[int]:
    """Numbers of the tokens that end an answer or a text, the likeliest first."""
    found = (tokenizer.inner.token_to_id(token) for token in ENDS)
    return [number for number in found if number is not None]


def from_metadata(metadata: Mapping[str, Any], vocabulary: int) -> Tokenizer | None:
    """The tokenizer that a GGUF file carries; None where it has none.

    Raises:
        ValueError: another kind, an unknown rule, or tokens that are not ``vocabulary`` in number,
            each once, with merges of them.
    """
    kind, rule = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind in (None, "none", "no_vocab"):
        return None
    if kind != "gpt2" or rule not in RULES:
        raise ValueError(f"got tokenizer {kind!r}, {rule!r}; allowed: 'gpt2' with {[*RULES]}")
    tokens, merges = (metadata.get(f"tokenizer.ggml.{part}", []) for part in ("tokens", "merges"))
    if not isinstance(tokens, list) or not isinstance(merges, list):
        raise ValueError("got tokens or merges that are no texts; allowed: lists of texts")
    types = metadata.get("tokenizer.ggml.token_type", np.full(len(tokens), TokenType.NORMAL))
    types = types.tolist() if isinstance(types, np.ndarray) else []
    if not len(tokens) == len(types) == vocabulary or len({*tokens}) < vocabulary:
        raise ValueError(
            f"got {len(tokens)} tokens, {len({*tokens})} different, with {len(types)} types; "
            f"allowed: {vocabulary}, as many as the model knows"
        )
    kept = [i for i in range(vocabulary) if types[i] != TokenType.UNUSED]
    inner = _assembled({tokens[i]: i for i in kept}, [_pair(merge) for merge in merges], rule)
    added = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}
    inner.add_tokens(
        [
            AddedToken(tokens[i], special=added[types[i]], normalized=False)
            for i in kept
            if types[i] in added
        ]
    )
    if metadata.get("tokenizer.ggml.add_bos_token"):
        first = metadata.get("tokenizer.ggml.bos_token_id", vocabulary)
        if first not in kept:
            raise ValueError(f"got first token {first}; allowed: one of {len(kept)} tokens")
        pair = (tokens[first], first)
        inner.post_processor = processors.TemplateProcessing(
            single=[tokens[first], "$A"], special_tokens=[pair]
        )
    try:
        return Tokenizer(inner)
    except KeyError as error:
        raise ValueError(f"got a token with {error}; allowed: letters for bytes") from None


def _pair(merge: str) -> tuple[str, str]:
    left, gap, right = merge.partition(" ")
    if not (left and gap and right) or " " in right:
        raise ValueError(f"got merge {merge!r}; allowed: two tokens and a space between them")
    return left, right


def _assembled(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], rule: str
) -> tokenizers.Tokenizer:
    """The byte-level BPE of these tokens that cuts by a rule of ``RULES``."""
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=rule in WHOLE_WORDS)
    except Exception as error:  # the library raises the base class itself
        raise ValueError(f"got merges that do not fit the tokens: {error}") from None
    whole = json.loads(tokenizers.Tokenizer(model).to_str())
    steps = [{"trim_offsets": True, **step} for step in RULES[rule]]
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    inner = tokenizers.Tokenizer.from_str(json.dumps(whole))
    inner.decoder = decoders.ByteLevel()
    return inner


def to_metadata(writer: GGUFWriter, tokenizer: Tokenizer, vocabulary: int) -> None:
    """Write a tokenizer into the metadata of a GGUF file.

    Args:
        vocabulary: of the model; token numbers that the tokenizer leaves out are marked unused.

    Raises:
        ValueError: no byte-level BPE, a rule that llama.cpp has no name for, or more tokens than
            ``vocabulary``.
    """
    whole = json.loads(tokenizer.inner.to_str())
    rule = _rule(whole)
    types = [int(TokenType.UNUSED)] * vocabulary
    tokens = [f"[unused {i}]" for i in range(vocabulary)]
    named = tokenizer.inner.get_vocab(with_added_tokens=True)
    if max(named.values(), default=-1) >= vocabulary:
        raise ValueError(f"got token {max(named.values())}; allowed: 0 to {vocabulary - 1}")
    for token, i in named.items():
        tokens[i], types[i] = token, int(TokenType.NORMAL)
    for added in whole["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        types[added["id"]] = int(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in whole["model"]["merges"]])
    before = tokenizer.inner.encode("").ids  # what the tokenizer puts before every text
    writer.add_add_bos_token(bool(before))
    if (first := before[0] if before else tokenizer.start) is not None:
        writer.add_bos_token_id(first)
    if last := ends(tokenizer):
        writer.add_eos_token_id(last[0])


def _rule(whole: dict[str, Any]) -> str:
    """llama.cpp's name of the rule by which a ``tokenizer.json`` cuts text."""
    cut = whole["pre_tokenizer"] or {}
    steps = cut.get("pretokenizers", [cut])
    seen = [{k: v for k, v in step.items() if k != "trim_offsets"} for step in steps]
    rule = next((name for name, known in RULES.items() if known == seen), None)
    plain = whole["model"]["type"] == "BPE" and whole["normalizer"] is None
    if not plain or rule is None:
        raise ValueError(
            f"got a tokenizer of {whole['model']['type']} that cuts by {seen} after the normalizer "
            f"{whole['normalizer']}; allowed: byte-level BPE that cuts like {[*RULES]}"
        )
    return rule
