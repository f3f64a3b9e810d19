"""Training and evaluation: seeded, resumable, with a progress bar.

One optimizer (SGD, Nesterov momentum, one-cycle cosine schedule) and one augmentation (random
crop, optionally flip). Every epoch draws from its own generator, so a run that was cut resumes to
the same weights. Leaves out mixed precision and several devices. Used from Lecture 3 on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from codesign import checkpoints, datasets, models
from codesign.datasets import ImageSet, normalize

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``model(x)`` ``[N, classes]`` against labels ``y`` ``[N]``."""
    return functional.cross_entropy(model(x), y)


@torch.inference_mode()
def evaluate(model: nn.Module, data: ImageSet, batch_size: int = 500) -> float:
    """Top-1 accuracy of ``model`` on ``data``, in 0..1. Leaves the training mode as it was."""
    was_training = model.training
    model.eval()
    correct = 0
    for start in range(0, len(data), batch_size):
        logits = model(normalize(data.images[start : start + batch_size]))
        correct += int((logits.argmax(1) == data.labels[start : start + batch_size]).sum())
    model.train(was_training)
    return correct / len(data)


@dataclass
class History:
    """What a run measured: mean loss of each epoch, and validation accuracy where asked for."""

    loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


def fit(
    model: nn.Module,
    train: ImageSet,
    *,
    epochs: float,
    lr: float = 0.05,
    batch_size: int = 64,
    weight_decay: float = 5e-4,
    seed: int = 0,
    crop: int = 4,
    flip: bool | None = None,
    small_epochs: int = 0,
    loss: Loss = cross_entropy,
    after_step: Callable[[nn.Module], None] | None = None,
    val: ImageSet | None = None,
    resume: Path | None = None,
    desc: str = "training",
) -> History:
    """Train ``model`` in place and return the history.

    Args:
        epochs: passes over ``train``; a fraction trains on that share of the last pass.
        lr: peak learning rate; it rises over the first 15 % of the steps and falls to 0.
        flip: mirror images at random; None: only where a mirrored class is the same class.
        small_epochs: first epochs at 24x24 pixels, which cost about half.
        loss: ``loss(model, x, y)``, a scalar; the place for distillation or regularizers.
        after_step: called after every update, for instance to apply masks again.
        resume: file stem; state is stored there after each epoch and taken up when it exists.

    Raises:
        ValueError: non-positive epochs, or stored state of a run with other settings.
        FloatingPointError: the loss became NaN or infinite.
    """
    if not epochs > 0 or len(train) < 2:
        raise ValueError(f"got {epochs} epochs of {len(train)} images; allowed: > 0 of at least 2")
    if flip is None:
        flip = train.card.name == "cifar10"  # a mirrored ship is a ship; a mirrored R is not an R
    per_epoch = math.ceil(len(train) / batch_size)
    total = max(1, round(epochs * per_epoch))
    settings = dict(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        weight_decay=weight_decay,
        seed=seed,
        crop=crop,
        flip=flip,
        small_epochs=small_epochs,
        images=len(train),
        dataset=train.card.name,
    )
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    history = History()
    step = _take_up(resume, settings, model, optimizer, history) if resume else 0
    bar = tqdm(total=total, initial=step, desc=desc, unit="step", leave=False)
    while step < total:
        epoch = step // per_epoch
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        order = torch.randperm(len(train), generator=generator)
        losses = []
        for index in order.split(batch_size)[: total - step]:
            for group in optimizer.param_groups:
                group["lr"] = lr * one_cycle(step / total)
            x = augment(train.images[index], generator, crop, flip)
            x = x[:, :, 4:28, 4:28] if epoch < small_epochs else x
            value = loss(model, normalize(x), train.labels[index])
            if not torch.isfinite(value):
                raise FloatingPointError(f"loss is {value.item()} at step {step}; lower lr={lr}")
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if after_step:
                after_step(model)
            losses.append(value.detach())
            step += 1
            bar.update()
        history.loss.append(float(torch.stack(losses).mean()))
        if val is not None:
            history.val_accuracy.append(evaluate(model, val))
            bar.set_postfix(loss=history.loss[-1], val=history.val_accuracy[-1])
        if resume:
            _store(resume, settings, step, model, optimizer, history)
    bar.close()
    model.eval()
    return history


def one_cycle(progress: float, warm_up: float = 0.15) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1: linear up, cosine down."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def augment(
    images: torch.Tensor, generator: torch.Generator, crop: int, flip: bool
) -> torch.Tensor:
    """Shift each image by up to ``crop`` pixels (reflected edges), mirror half of them if asked."""
    n, _, height, width = images.shape
    padded = functional.pad(images.float(), [crop] * 4, mode="reflect").to(images.dtype)
    dy, dx = torch.randint(0, 2 * crop + 1, (2, n, 1), generator=generator)
    rows, columns = dy + torch.arange(height), dx + torch.arange(width)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(n)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


# --- state of an unfinished run ------------------------------------------------------------------


def _store(stem: Path, settings: dict, step: int, model, optimizer, history: History) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for i, parameter in enumerate(model.parameters()):
        tensors[f"momentum.{i}"] = optimizer.state[parameter]["momentum_buffer"].contiguous()
    record = json.dumps({"settings": settings, "step": step, "history": vars(history)})
    part = stem.with_suffix(".part")
    save_file(tensors, part, metadata={"run": record})  # one file: weights and step stay together
    part.replace(stem.with_suffix(".state"))


def _take_up(stem: Path, settings: dict, model, optimizer, history: History) -> int:
    path = stem.with_suffix(".state")
    if not path.exists():
        return 0
    record = json.loads(checkpoints.metadata(path)["run"])
    if record["settings"] != settings:
        raise ValueError(
            f"{path} belongs to a run with {record['settings']}, this one has {settings}; "
            "delete the file to start again"
        )
    tensors = load_file(path)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    model.to(memory_format=torch.channels_last)
    for i, parameter in enumerate(model.parameters()):
        buffer = tensors[f"momentum.{i}"].clone(memory_format=torch.preserve_format)
        optimizer.state[parameter]["momentum_buffer"] = buffer
    history.loss, history.val_accuracy = record["history"].values()
    return int(record["step"])


# --- recipes of the shipped checkpoints ----------------------------------------------------------

RECIPES: dict[tuple[str, str], dict] = {
    ("vgg", "cifar10"): dict(epochs=26, lr=0.08, small_epochs=8),
    ("resnet8", "cifar10"): dict(epochs=32, lr=0.1, small_epochs=8, weight_decay=2e-4),
    ("vgg", "glyphs"): dict(epochs=12, lr=0.08, small_epochs=0),
    ("resnet8", "glyphs"): dict(epochs=14, lr=0.1, small_epochs=0, weight_decay=2e-4),
}

app = typer.Typer(help="Recreate the shipped checkpoints.", add_completion=False)


@app.callback()
def _group() -> None:
    """Keep ``recipe`` a subcommand."""


@app.command()
def recipe(
    name: str,
    dataset: str = typer.Option(..., help="cifar10 or glyphs"),
    seed: int = 0,
    out: Path = Path("data/checkpoints"),
    threads: int = typer.Option(2, help="torch threads; the last digits depend on them"),
) -> None:
    """Train checkpoint NAME on DATASET, resuming a run that was cut, and store it under OUT."""
    if (name, dataset) not in RECIPES:
        raise typer.BadParameter(f"got {name!r}, {dataset!r}; allowed: {sorted(RECIPES)}")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = models.build({"architecture": name})
    train, val, test = (datasets.load(dataset, split) for split in datasets.SPLITS)
    stem = out / dataset / (name if seed == 0 else f"{name}-seed{seed}")
    settings = RECIPES[name, dataset]
    history = fit(model, train, val=val, seed=seed, resume=stem, desc=str(stem), **settings)
    command = f"python -m codesign.training recipe {name} --dataset {dataset} --seed {seed}"
    checkpoints.save(
        stem,
        model,
        dataset=dataset,
        seed=seed,
        command=command,
        settings=settings,
        val_accuracy=round(history.val_accuracy[-1], 4),
        test_accuracy=round(evaluate(model, test), 4),
    )
    stem.with_suffix(".state").unlink()
    print(stem.with_suffix(".json").read_text())


if __name__ == "__main__":
    app()
