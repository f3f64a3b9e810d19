"""How good the shipped language models are: code below held-out headers, and bits for each byte.

``python benchmarks/language_models.py`` prints two tables for the held-out modules of the standard
library. Completions (``benchmarks/completions.py``) of the trained network stand beside those of
the same network untrained and of an n-gram model; bits per byte beside the best of several n-gram
models, the order chosen on the validation modules, and xz with the training text as dictionary.
Last the longest run of bytes that the trained network copied from the training text.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from benchmarks import completions
from benchmarks.ngrams import NGram
from codesign import checkpoints, datasets, perplexity, places, tokenizer
from codesign.generation import generate
from codesign.models.llama import Llama
from codesign.text import TextSet
from codesign.tokenizer import Tokenizer

TEMPERATURES = (0.0, 0.7)
TOKEN_ORDERS, BYTE_ORDERS = (3, 4, 5, 6), (5, 6, 7, 8)
# Tokens of the file before a header that the writer sees; 0: two line ends.
PROMPTS = {"header alone": 0, "in its file": 200}
# Of a body: the function, the tokens before its header, temperature, seed.
Writer = Callable[[completions.Function, int, float, int], str]


def prompt(function: completions.Function, before: int, using: Tokenizer) -> torch.Tensor:
    """What a writer sees: the header behind so many tokens of its file, or behind line ends."""
    if not before:
        return using.encode(f"\n\n{function.header}")
    count = len(using.encode(function.header)) + before
    return using.encode(function.before + function.header)[-count:]


def by_network(model: Llama, using: Tokenizer) -> Writer:
    """Write with a network, token by token, until the body ends."""

    def write(function: completions.Function, before: int, temperature: float, seed: int) -> str:
        def stop(new: torch.Tensor) -> bool:
            return completions.ended(function.header, using.decode(new)) is not None

        new = generate(
            model,
            prompt(function, before, using),
            completions.MOST,
            temperature=temperature,
            seed=seed,
            stop=stop,
        )
        return using.decode(new)

    return write


def by_counting(model: NGram, using: Tokenizer) -> Writer:
    """Write with an n-gram model of tokens, likewise."""

    def write(function: completions.Function, before: int, temperature: float, seed: int) -> str:
        draws = np.random.default_rng(seed)
        start, new = prompt(function, before, using).tolist(), list[int]()
        while len(new) < completions.MOST and (
            completions.ended(function.header, using.decode(new)) is None
        ):
            chances = model.next(np.array((start + new)[-model.order :]))
            if temperature:
                chances = chances ** (1 / temperature)
                new.append(int(draws.choice(len(chances), p=chances / chances.sum())))
            else:
                new.append(int(chances.argmax()))
        return using.decode(new)

    return write


def best_ngram(
    train: np.ndarray, val: np.ndarray, vocabulary: int, orders: tuple[int, ...]
) -> NGram:
    """The model whose order predicts ``val`` best."""
    models = (NGram(train, vocabulary, order) for order in orders)
    return max(models, key=lambda model: np.log(model.probabilities(val)).sum())


def xz_bits(text: bytes, dictionary: bytes = b"") -> float:
    """Bits for each byte of ``text`` as xz packs it behind ``dictionary``, which costs nothing."""
    settings = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}

    def packed(content: bytes) -> int:
        return len(lzma.compress(content, lzma.FORMAT_RAW, filters=[settings]))

    return 8 * (packed(dictionary + text) - packed(dictionary)) / len(text)


def completion_table(
    writers: dict[str, Writer],
    chosen: list[completions.Function],
    every: list[completions.Function],
) -> tuple[Table, dict[tuple[str, str, float], list[str]]]:
    """Shares of good bodies for each writer, prompt and temperature; and the bodies.

    Above them what the authors wrote, below the chosen headers and below every one.
    """
    table = Table(title=f"Bodies below {len(chosen)} held-out headers")
    names = ("parses", "2 statements", "uses a parameter", "all three", "and beside self")
    for column in ("writer", "prompt", "temperature", *names):
        table.add_column(column, justify="left" if column in ("writer", "prompt") else "right")
    for found in (every, chosen):
        table.add_row("their authors", f"{len(found)} headers", "", *_shares(found))
    bodies = {}
    for writer, write in writers.items():
        for kind, before in PROMPTS.items():
            for heat in TEMPERATURES:
                rows = tqdm(enumerate(chosen), f"{writer}, {kind}, {heat}", len(chosen), False)
                texts = [write(function, before, heat, seed) for seed, function in rows]
                done = [f._replace(body=text) for f, text in zip(chosen, texts, strict=True)]
                table.add_row(writer, kind, f"{heat}", *_shares(done))
                bodies[writer, kind, heat] = [completions.body(f.header, f.body) for f in done]
    return table, bodies


def _shares(done: list[completions.Function]) -> list[str]:
    verdicts = [completions.verdict(function.header, function.body) for function in done]
    counts = [
        [v.parses for v in verdicts],
        [v.statements >= 2 for v in verdicts],
        [v.uses for v in verdicts],
        [v.good for v in verdicts],
        [v.good and v.others for v in verdicts],
    ]
    return [f"{100 * sum(row) / len(row):.1f} %" for row in counts]


def bits_table(
    networks: dict[str, Llama], ngrams: dict[str, float], train: TextSet, test: TextSet,
    using: Tokenizer,
) -> Table:  # fmt: skip
    """Bits for each byte of the held-out modules."""
    table = Table(title=f"Bits for each byte of {len(test):,} held-out bytes")
    table.add_column("model")
    table.add_column("bits/byte", justify="right")
    text, known = (part.data.numpy().tobytes() for part in (test, train))
    rows = {name: perplexity.bits_per_byte(m, test, using) for name, m in networks.items()}
    rows |= ngrams | {"xz": xz_bits(text), "xz, training text known": xz_bits(text, known)}
    for name, bits in rows.items():
        table.add_row(name, f"{bits:.3f}")
    return table


def main(
    name: Annotated[str, typer.Argument(help="a checkpoint of the folder")] = "llama",
    folder: Annotated[Path | None, typer.Option(help="default: the shipped checkpoints")] = None,
    count: Annotated[int, typer.Option(help="headers")] = 300,
) -> None:
    """Print both tables and the longest copy; without a checkpoint, the command that makes it."""
    torch.set_num_threads(1)
    try:
        stem = folder / name if folder else checkpoints.shipped(name, places.TEXT)
    except FileNotFoundError as error:
        print(error)  # a model is trained in hours; until then there is nothing to measure
        return
    using = tokenizer.load(stem.with_name("tokenizer.json"))
    trained = checkpoints.load(stem)
    assert isinstance(trained, Llama)
    torch.manual_seed(0)
    untrained = Llama(**{k: v for k, v in trained.config.items() if k != "architecture"}).eval()
    train, val, test = (datasets.load_text(places.TEXT, split) for split in places.SPLITS)

    tokens = [perplexity.tokens_of(text, using).numpy() for text in (train, val, test)]
    numbers = [text.data.numpy() for text in (train, val, test)]
    counted = {
        "tokens": best_ngram(tokens[0], tokens[1], len(using), TOKEN_ORDERS),
        "bytes": best_ngram(numbers[0], numbers[1], 256, BYTE_ORDERS),
    }
    ngrams = {
        f"{model.order}-gram of {kind}": float(-np.log2(model.probabilities(held_out)).sum())
        / len(test)
        for (kind, model), held_out in zip(counted.items(), (tokens[2], numbers[2]), strict=True)
    }
    console = Console(width=130)
    networks = {name: trained, "untrained": untrained}
    console.print(bits_table(networks, ngrams, train, test, using))

    writers = {name: by_network(trained, using), "untrained": by_network(untrained, using)}
    writers[f"{counted['tokens'].order}-gram"] = by_counting(counted["tokens"], using)
    every = completions.functions(test.files())
    passing = [f for f in every if completions.verdict(f.header, f.body).good]
    table, bodies = completion_table(writers, completions.sample(passing, count), every)
    console.print(table)
    own = [text.encode() for key, texts in bodies.items() if key[0] == name for text in texts]
    copied = completions.longest_copy(own, numbers[0].tobytes())
    console.print(f"longest run copied from the training text: {len(copied)} bytes")
    console.print(copied.decode(errors="replace"), markup=False)


if __name__ == "__main__":
    typer.run(main)
