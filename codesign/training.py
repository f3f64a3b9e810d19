"""Train and evaluate image classifiers: seeded, resumable, with a progress bar.

One optimizer (SGD, Nesterov momentum, one-cycle cosine schedule) and one augmentation (random
crop, optionally flip). Every epoch draws from its own generator, so a run that was cut resumes to
the same weights. Takes a GPU where there is one; accuracy is measured on the CPU. Leaves out mixed
precision and several devices. Used by Labs 1 and 2.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from codesign import checkpoints, datasets, malloc, models
from codesign.datasets import ImageSet, normalize
from codesign.resumable import (
    History,
    final_model,
    restore_state,
    save_state,
    state_file,
)

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
STORE_S = 10.0  # between two stored states within an epoch


def cross_entropy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``model(x)`` ``[N, classes]`` against labels ``y`` ``[N]``."""
    return functional.cross_entropy(model(x), y)


def distillation(teachers: Sequence[nn.Module], temperature: float = 2.0) -> Loss:
    """A loss for :func:`fit`: half cross-entropy, half KL divergence from the teachers' mean.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2: soft
    targets at ``temperature`` τ, scaled by τ². The teachers are only read; where the training runs
    on another device than the CPU, copies of them go there.
    """
    at = {torch.device("cpu"): list(teachers)}

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if x.device not in at:
            at[x.device] = [copy.deepcopy(teacher).to(x.device) for teacher in teachers]
        with torch.no_grad():
            soft = [(teacher(x) / temperature).softmax(1) for teacher in at[x.device]]
            target = torch.stack(soft).mean(0)
        logits = model(x)
        student = (logits / temperature).log_softmax(1)
        kl = functional.kl_div(student, target, reduction="batchmean") * temperature**2
        return 0.5 * functional.cross_entropy(logits, y) + 0.5 * kl

    return loss


@torch.inference_mode()
def evaluate(model: nn.Module, data: ImageSet, batch_size: int = 100) -> float:
    """Top-1 accuracy of ``model`` on ``data``, in 0..1. Leaves the training mode as it was."""
    malloc.keep_pages()
    was_training = model.training
    model.eval()
    correct = 0
    for start in range(0, len(data), batch_size):
        logits = model(normalize(data.images[start : start + batch_size]))
        correct += int((logits.argmax(1) == data.labels[start : start + batch_size]).sum())
    model.train(was_training)
    return correct / len(data)


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
    device: str | torch.device | None = None,
    desc: str = "training",
) -> History:
    """Train ``model`` in place and return the history.

    Args:
        model: takes normalized images ``[N, 3, H, W]``; is left on the CPU, in evaluation mode.
        epochs: passes over ``train``; a fraction trains on that share of the last pass.
        lr: peak learning rate; it rises over the first 15 % of the steps and falls to 0.
        seed: of the order and the augmentation; the weights are the caller's.
        crop: shift images by up to so many pixels.
        flip: mirror images at random; None: only where a mirrored class is the same class.
        small_epochs: first epochs at 24x24 pixels, which cost about half.
        loss: ``loss(model, x, y)``, a scalar, on ``device``; the place for distillation or
            regularizers.
        after_step: called after every update, for instance to apply masks again; sees the model on
            the CPU.
        val: measure accuracy on these images after each epoch, on the CPU.
        resume: file stem; state is stored there after each epoch and every ten seconds, and taken
            up when it exists, also that of a finished run. It holds the settings above but knows
            neither ``loss`` nor ``after_step`` nor the weights at the start: give every run a stem
            of its own. Elsewhere than on the CPU the last digits of the weights may differ.
        device: where steps are computed; None: CUDA where there is a device, else the CPU.

    Raises:
        ValueError: settings out of range, or stored state that is damaged or of another run.
        FloatingPointError: the loss became NaN or infinite.
    """
    if not 0 < epochs < math.inf or len(train) < 2:
        raise ValueError(f"got {epochs} epochs of {len(train)} images; allowed: > 0 of at least 2")
    if batch_size < 1 or not 0 <= crop < train.images.shape[-1]:
        raise ValueError(f"got batch_size={batch_size}, crop={crop}; allowed: >= 1, 0 to side - 1")
    if flip is None:
        flip = train.card.name == "cifar10"  # a mirrored ship is a ship; a mirrored R is not an R
    per_epoch = math.ceil(len(train) / batch_size)
    total = max(1, round(epochs * per_epoch))
    settings: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    settings |= dict(weight_decay=weight_decay, crop=crop, flip=flip, small_epochs=small_epochs)
    settings |= {"images": len(train), "dataset": train.card.name}
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    malloc.keep_pages()
    _channels_last(model.to(place)).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    history, step, losses = History(), 0, list[float]()
    try:
        if resume:
            step, losses = restore_state(resume, settings, model, optimizer, history)
        with tqdm(total=total, initial=step, desc=desc, unit="step", leave=False) as bar:
            while step < total:
                epoch, done = divmod(step, per_epoch)
                generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
                batches = _batches(train, generator, batch_size, crop, flip)
                stored_s = time.monotonic()
                for x, y in islice(batches, done, done + total - step):
                    for group in optimizer.param_groups:
                        group["lr"] = lr * one_cycle(step / total)
                    x = x[:, :, 4:28, 4:28] if epoch < small_epochs else x
                    value = loss(model, normalize(x.to(place)), y.to(place))
                    if not torch.isfinite(value):
                        raise FloatingPointError(f"loss is {value} at step {step}; lower {lr=}")
                    optimizer.zero_grad(set_to_none=True)
                    value.backward()
                    optimizer.step()
                    if after_step:
                        after_step(model.cpu())
                        model.to(place)
                    losses.append(float(value.detach()))
                    step += 1
                    bar.update()
                    between = step % per_epoch and step < total
                    if resume and between and time.monotonic() - stored_s >= STORE_S:
                        save_state(resume, settings, step, model, optimizer, history, losses=losses)
                        stored_s = time.monotonic()
                history.loss.append(float(torch.tensor(losses).mean()))
                losses = []
                if val is not None:
                    history.val_accuracy.append(evaluate(model.cpu(), val))
                    model.to(place)
                    bar.set_postfix(loss=history.loss[-1], val=history.val_accuracy[-1])
                if resume:
                    save_state(resume, settings, step, model, optimizer, history, losses=losses)
    finally:
        model.cpu()
    model.eval()
    return history


def _batches(
    train: ImageSet, generator: torch.Generator, batch_size: int, crop: int, flip: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One shuffled, augmented pass: uint8 images ``[N, 3, 32, 32]`` and labels ``[N]``."""
    for index in torch.randperm(len(train), generator=generator).split(batch_size):
        yield augment(train.images[index], generator, crop, flip), train.labels[index]


def one_cycle(progress: float, warm_up: float = 0.15) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1: linear up, cosine down."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def augment(
    images: torch.Tensor, generator: torch.Generator, crop: int, flip: bool
) -> torch.Tensor:
    """Shift each image by up to ``crop`` pixels (reflected edges), mirror half of them if asked.

    Shapes: uint8 ``[N, C, H, W]`` in and out.
    """
    n, _, height, width = images.shape
    padded = functional.pad(images.float(), [crop] * 4, mode="reflect").to(images.dtype)
    dy, dx = torch.randint(0, 2 * crop + 1, (2, n, 1), generator=generator)
    rows, columns = dy + torch.arange(height), dx + torch.arange(width)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(n)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it


# --- recipes of the shipped checkpoints ----------------------------------------------------------

# Each is a list of cycles: calls of `fit`, from the weights of the last one; teachers: Lecture 9.
RECIPES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("vgg", "cifar10"): [
        {"epochs": 26, "lr": 0.08, "small_epochs": 8},
        {"epochs": 22, "lr": 0.06},
        {"epochs": 8, "lr": 0.05, "teachers": [0, 1]},
    ],
    ("resnet8", "cifar10"): [
        {"epochs": 32, "lr": 0.1, "small_epochs": 8, "weight_decay": 2e-4},
        {"epochs": 20, "lr": 0.08, "weight_decay": 2e-4, "teachers": ["vgg"]},
        {"epochs": 16, "lr": 0.08, "weight_decay": 1e-4, "teachers": ["vgg"]},
    ],
    ("mobile", "cifar10"): [
        {"epochs": 24, "lr": 0.1, "small_epochs": 8, "weight_decay": 1e-4, "teachers": ["vgg"]}
    ],
    ("mobile", "glyphs"): [{"epochs": 12, "lr": 0.08, "weight_decay": 1e-4}],
    ("vgg", "glyphs"): [{"epochs": 9, "lr": 0.06}],
    ("resnet8", "glyphs"): [{"epochs": 12, "lr": 0.08, "weight_decay": 2e-4}],
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
    cycles = [stem.with_name(f"{stem.name}-cycle{i}") for i in range(len(RECIPES[name, dataset]))]
    for i, (cycle, chosen) in enumerate(zip(cycles, RECIPES[name, dataset], strict=True)):
        settings = dict(chosen)
        teachers = [
            _channels_last(final_model(cycles[teacher], model))
            if isinstance(teacher, int)
            else checkpoints.load(checkpoints.shipped(teacher, dataset))
            for teacher in settings.pop("teachers", [])
        ]
        loss = distillation(teachers) if teachers else cross_entropy
        order = seed + 7_919 * i  # another order of the images in each cycle
        fit(model, train, val=val, seed=order, resume=cycle, desc=str(cycle), loss=loss, **settings)
    command = f"python -m codesign.training recipe {name} --dataset {dataset} --seed {seed}"
    command += f" --threads {threads}"
    checkpoints.save(
        stem,
        model,
        dataset=dataset,
        seed=seed,
        command=command,
        cycles=RECIPES[name, dataset],
        val_accuracy=round(evaluate(model, val), 4),
        test_accuracy=round(evaluate(model, test), 4),
    )
    for cycle in cycles:
        state_file(cycle).unlink()
    print(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    app()
