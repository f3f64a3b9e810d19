"""Byte-level byte-pair encoding: text to token numbers and back, learned from a text.

Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016); on
bytes as in GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019),
section 2.2. The first token marks where a text begins, the next 256 are the bytes, so that nothing
is unknown; the others are merges, most frequent pair first, within words that GPT-2's rule cuts.
The package ``tokenizers`` does the work; its ``tokenizer.json`` is read elsewhere too. Lecture 12.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from codesign.extras import needed

with needed("llm"):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

START = "<|endoftext|>"
BYTES = 256


class Tokenizer:
    """A byte-level BPE.

    ``len`` is its vocabulary, ``start`` the number of the mark at a start, None without one.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.encode_special_tokens = True  # the mark's letters in a text are only letters
        self.inner = inner
        self.start: int | None = inner.token_to_id(START)
        numbers = {chr(code): byte for byte, code in _printable().items()}
        marks = inner.get_added_tokens_decoder()
        self._bytes = {
            number: token.encode() if number in marks else bytes(numbers[c] for c in token)
            for token, number in inner.get_vocab().items()
        }
        self._of_byte = {value[0]: n for n, value in self._bytes.items() if len(value) == 1}

    def __len__(self) -> int:
        return self.inner.get_vocab_size()

    def encode(self, text: str | bytes) -> torch.Tensor:
        """Token numbers of a text, int64 ``[T]``, without a mark; bytes need not be UTF-8."""
        rest, numbers = text.encode("utf-8") if isinstance(text, str) else text, list[int]()
        while rest:
            try:
                good, wrong, rest = rest.decode("utf-8"), b"", b""
            except UnicodeDecodeError as error:
                good = rest[: error.start].decode("utf-8")
                wrong, rest = rest[error.start : error.end], rest[error.end :]
            numbers += self.inner.encode(good).ids + [self._of_byte[byte] for byte in wrong]
        return torch.tensor(numbers, dtype=torch.int64)

    def decode_bytes(self, tokens: Iterable[int] | torch.Tensor) -> bytes:
        """The bytes that these tokens stand for.

        Raises:
            ValueError: a number that is not in the vocabulary.
        """
        numbers = tokens.tolist() if isinstance(tokens, torch.Tensor) else list(tokens)
        unknown = [number for number in numbers if number not in self._bytes]
        if unknown:
            raise ValueError(f"got token {unknown[0]}; allowed: 0 to {len(self) - 1}")
        return b"".join(self._bytes[number] for number in numbers)

    def decode(self, tokens: Iterable[int] | torch.Tensor) -> str:
        """The text of these tokens; what is not UTF-8, as half a letter at an end, becomes U+FFFD.

        Raises:
            As :meth:`decode_bytes`.
        """
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json``."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.inner.save(str(path))


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn merges from texts until there are ``vocabulary`` tokens, or no pair occurs twice.

    Raises:
        ValueError: a vocabulary that has no room for the bytes and the mark.
    """
    if vocabulary <= BYTES:
        raise ValueError(f"got a vocabulary of {vocabulary}; allowed: {BYTES + 1} or more")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


def load(path: str | Path) -> Tokenizer:
    """Read the ``tokenizer.json`` of a byte-level BPE.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or another kind of tokenizer.
    """
    content = Path(path).read_bytes()
    try:
        inner = tokenizers.Tokenizer.from_buffer(content)
        return Tokenizer(inner)
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"{path} is not a byte-level tokenizer.json: {error!r}") from None


def _printable() -> dict[int, int]:
    """The code point that stands for each byte in ``tokenizer.json``, as in GPT-2's encoder.py.

    Printable bytes stand for themselves, the others for the code points from 256 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {b: b for b in plain} | {byte: 256 + i for i, byte in enumerate(others)}
