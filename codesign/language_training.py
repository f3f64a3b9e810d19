"""Train language models: seeded, resumable, with a progress bar.

Muon with a linear warm-up and a cosine to zero, gradients clipped, products in bfloat16 and sums in
float32. An epoch cuts the text into windows at a random offset and takes each once, in random
order; a run that was cut resumes to the same weights. Leaves out several devices and dropout. The
recipes of the shipped models; Lecture 12.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from codesign import checkpoints, datasets, perplexity, places, resumable, tokenizer
from codesign.models.llama import Llama
from codesign.muon import Muon
from codesign.text import TextSet
from codesign.tokenizer import Tokenizer

STORE_S = 60.0  # between two stored states
RECORD_STEPS = 100  # between two entries of the history


@dataclass
class History:
    """What a run measured every ``RECORD_STEPS`` steps: loss and validation loss, nats a token."""

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    wall_s: float = 0.0


def cosine(progress: float, warm_up: float = 0.05) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1: linear up, cosine down to 0."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def fit(
    model: Llama,
    tokens: torch.Tensor,
    *,
    steps: int,
    lr: float,
    batch_size: int = 16,
    context: int = 256,
    weight_decay: float = 0.1,
    seed: int = 0,
    val: torch.Tensor | None = None,
    resume: Path | None = None,
    desc: str = "training",
) -> History:
    """Train ``model`` in place on the CPU and return the history.

    Args:
        model: takes tokens ``[N, T]``, gives logits ``[N, T, vocabulary]``; is left in evaluation
            mode.
        tokens: the text, int64 ``[tokens]``.
        steps: updates, each on ``batch_size`` windows of ``context`` tokens.
        lr: peak learning rate.
        weight_decay: of the matrices in the blocks.
        seed: of the windows and their order; the weights are the caller's.
        val: tokens whose loss is measured every ``RECORD_STEPS`` steps.
        resume: file stem; state is stored there every minute and at the end, and taken up when it
            exists, also that of a finished run. It does not know the weights at the start: give
            every run a stem of its own.

    Raises:
        ValueError: settings out of range, or stored state that is damaged or of another run.
        FloatingPointError: the loss became NaN or infinite.
    """
    per_epoch = (len(tokens) - 1 - context) // max(context * batch_size, 1)
    if min(steps, batch_size, context) < 1 or per_epoch < 1 or not lr > 0:
        raise ValueError(
            f"got {steps} steps of {batch_size} windows of {context} tokens, lr={lr}, "
            f"{len(tokens)} tokens; allowed: above 0, and enough tokens for a batch and a window"
        )
    settings = dict(steps=steps, lr=lr, batch_size=batch_size, context=context, seed=seed)
    settings |= {"weight_decay": weight_decay, "tokens": len(tokens)}
    optimizer = _optimizer(model.train(), lr, weight_decay)
    history, step, losses = History(), 0, list[float]()
    if resume:
        step, losses = resumable.restore_state(resume, settings, model, optimizer, history)
    stored_s = started_s = time.monotonic() - history.wall_s
    with tqdm(total=steps, initial=step, desc=desc, unit="step", leave=False) as bar:
        while step < steps:
            epoch, index = divmod(step, per_epoch)
            windows = _windows(len(tokens), context, seed * 100_003 + epoch)
            for starts in windows.split(batch_size)[index : min(per_epoch, index + steps - step)]:
                for group in optimizer.param_groups:
                    group["lr"] = lr * cosine((step + 1) / steps)
                losses.append(_update(model, optimizer, tokens, starts, context))
                step += 1
                bar.update()
                if step % RECORD_STEPS == 0 or step == steps:
                    history.loss.append(float(torch.tensor(losses).mean()))
                    losses = []
                    if val is not None:
                        history.val_loss.append(perplexity.loss(model, val, context))
                        bar.set_postfix(loss=history.loss[-1], val=history.val_loss[-1])
                now_s = time.monotonic()
                if resume and (step == steps or now_s - stored_s >= STORE_S):
                    history.wall_s, stored_s = now_s - started_s, now_s
                    resumable.save_state(
                        resume, settings, step, model, optimizer, history, losses=losses
                    )
    model.eval()
    return history


def _optimizer(model: Llama, lr: float, weight_decay: float) -> Muon:
    """Muon for the matrices of the blocks, AdamW for embedding, head and the gains of the norms."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in f".{name}"]
    known = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in known]
    return Muon(hidden, others, lr, weight_decay)


def _windows(tokens: int, context: int, seed: int) -> torch.Tensor:
    """Where the windows of one epoch start: side by side from a random offset, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    offset = int(torch.randint(context, (1,), generator=generator))
    count = (tokens - 1 - offset) // context
    return offset + context * torch.randperm(count, generator=generator)


def _update(
    model: Llama,
    optimizer: torch.optim.Optimizer,
    tokens: torch.Tensor,
    starts: torch.Tensor,
    context: int,
) -> float:
    """One step on the windows that start at ``starts``; their loss before it."""
    window = tokens[starts[:, None] + torch.arange(context + 1)]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(window[:, :-1])
    loss = functional.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
    if not torch.isfinite(loss):
        raise FloatingPointError(f"loss is {loss}; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


# --- recipes of the shipped checkpoints ----------------------------------------------------------

VOCABULARY = 1024
VAL_TOKENS = 16_384  # of the held-out text, looked at during the training
# Each a config and cycles: calls of `fit`, each a whole schedule from the weights of the last one.
RECIPES: dict[str, dict[str, Any]] = {
    "llama": {
        "config": {
            "vocabulary": VOCABULARY, "width": 256, "hidden": 512,
            "layers": 4, "heads": 8, "kv_heads": 4, "context": 512,
        },
        "cycles": [
            {"steps": 7_000, "lr": 6e-3, "batch_size": 16, "context": 256},
            {"steps": 600, "lr": 2e-3, "batch_size": 8, "context": 512},
        ],
    },
    "llama-draft": {
        "config": {
            "vocabulary": VOCABULARY, "width": 128, "hidden": 384,
            "layers": 1, "heads": 4, "kv_heads": 2, "context": 512,
        },
        "cycles": [
            {"steps": 5_000, "lr": 8e-3, "batch_size": 16, "context": 256},
            {"steps": 500, "lr": 2e-3, "batch_size": 8, "context": 512},
        ],
    },
}  # fmt: skip

app = typer.Typer(help="Recreate the shipped language models.", add_completion=False)


@app.callback()
def _group() -> None:
    """Keep ``recipe`` a subcommand."""


@app.command()
def recipe(
    name: str,
    seed: int = 0,
    out: Path = Path("data/checkpoints"),
    threads: int = typer.Option(1, help="torch threads; the last digits depend on them"),
) -> None:
    """Train language model NAME on the standard library and store it below OUT.

    Takes up a run that was cut, and goes on from a stored model whose cycles are the recipe's
    first ones. The tokenizer is trained where there is none.
    """
    if name not in RECIPES:
        raise typer.BadParameter(f"got {name!r}; allowed: {sorted(RECIPES)}")
    torch.set_num_threads(threads)
    folder = out / places.TEXT
    stem = folder / (name if seed == 0 else f"{name}-seed{seed}")
    train, val, test = (datasets.load_text(places.TEXT, split) for split in places.SPLITS)
    using = shared_tokenizer(folder / "tokenizer.json", train)
    torch.manual_seed(seed)
    model, before = _begun(stem, RECIPES[name])
    history = _cycles(
        stem, model, cycles=RECIPES[name]["cycles"], seed=seed, before=before,
        train=train, val=val, using=using,
    )  # fmt: skip
    wall_s = before.get("wall_s", 0) + round(sum(h.wall_s for h in history))
    command = f"python -m codesign.language_training recipe {name} --seed {seed}"
    record = dict(dataset=places.TEXT, seed=seed, command=f"{command} --threads {threads}")
    record |= {"cycles": RECIPES[name]["cycles"], "wall_s": wall_s, "python": train.card.python}
    record |= {"tokenizer_sha256": checkpoints.sha256(folder / "tokenizer.json")}
    rounded = _rounded(model)
    for split, text in {"val": val, "test": test}.items():
        record[f"{split}_bits_per_byte"] = round(perplexity.bits_per_byte(rounded, text, using), 4)
    checkpoints.save(stem, model, half=True, **record)
    for i in range(len(RECIPES[name]["cycles"])):
        resumable.state_file(_cycle(stem, i)).unlink(missing_ok=True)
    print(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))


def shared_tokenizer(path: Path, train: TextSet) -> Tokenizer:
    """The tokenizer at ``path``; trained on ``train`` and stored where there is none."""
    if not path.exists():
        files = (file.decode("utf-8") for file in train.files().values())
        tokenizer.train(files, VOCABULARY).save(path)
    return tokenizer.load(path)


def _begun(stem: Path, chosen: dict[str, Any]) -> tuple[Llama, dict[str, Any]]:
    """The model to go on with and its record: a stored one, if it is of this recipe's beginning."""
    fresh = Llama(**chosen["config"])
    if stem.with_name(f"{stem.name}.json").exists():
        record = checkpoints.info(stem)
        done = record.get("cycles", [])
        if record["config"] == fresh.config and done == chosen["cycles"][: len(done)]:
            fresh.load_state_dict(checkpoints.load(stem).state_dict())
            return fresh, record
    return fresh, {}


def _cycle(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}-cycle{number}")


def _cycles(
    stem: Path,
    model: Llama,
    *,
    cycles: list[dict[str, Any]],
    seed: int,
    before: dict[str, Any],
    train: TextSet,
    val: TextSet,
    using: Tokenizer,
) -> list[History]:
    """Run what is left of the cycles, each with another order of the text."""
    tokens, held_out = (
        perplexity.tokens_of(train, using),
        perplexity.tokens_of(val, using)[:VAL_TOKENS],
    )
    left = list(enumerate(cycles))[len(before.get("cycles", [])) :]
    return [
        fit(
            model, tokens, val=held_out, seed=seed + 7_919 * i, resume=_cycle(stem, i),
            desc=f"{stem.name}, cycle {i}", **chosen,
        )
        for i, chosen in left
    ]  # fmt: skip


def _rounded(model: Llama) -> Llama:
    """A copy as it is stored: weights rounded to float16."""
    return copy.deepcopy(model).half().float().eval()


if __name__ == "__main__":
    app()
