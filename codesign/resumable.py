"""Save an unfinished training run to one file, and resume it to the same weights.

The file holds weights, momentum, the step, the history and the settings of the run, which must
agree when it is resumed. Left out: the loss and what is called after each step; they are code.
Used by :func:`codesign.training.fit`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codesign import checkpoints, models


@dataclass
class History:
    """What a run measured: mean loss of each epoch, and validation accuracy (0..1) if asked for."""

    loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


def state_file(stem: str | Path) -> Path:
    """Where a run with this ``resume`` stem keeps its state."""
    stem = Path(stem)
    return stem.with_name(f"{stem.name}.state")  # with_suffix would cut a dotted name


def save_state(
    stem: Path,
    settings: dict[str, Any],
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: History,
) -> None:
    """Write the whole state after ``step`` steps: weights, momentum, settings and history."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for i, parameter in enumerate(model.parameters()):
        tensors[f"momentum.{i}"] = optimizer.state[parameter]["momentum_buffer"].contiguous()
    record = json.dumps({"settings": settings, "step": step, "history": vars(history)})
    # one file: weights and step stay together
    checkpoints.write_tensors(state_file(stem), tensors, {"run": record})


def restore_state(
    stem: Path,
    settings: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: History,
) -> int:
    """Read stored state into model, optimizer and history, and return the step it was left at.

    Raises:
        ValueError: it belongs to a run with other settings or to another network, or is damaged.
    """
    path = state_file(stem)
    if not path.exists():
        return 0
    record = json.loads(checkpoints.metadata(path)["run"])
    if record["settings"] != settings:
        raise ValueError(
            f"{path} belongs to a run with {record['settings']}, this one has {settings}; "
            "delete the file to start again"
        )
    tensors = checkpoints.tensors(path)
    weights = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} belongs to another network: {error}") from None
    for i, parameter in enumerate(model.parameters()):
        buffer = tensors[f"momentum.{i}"].clone(memory_format=torch.preserve_format)
        optimizer.state[parameter]["momentum_buffer"] = buffer
    history.loss = record["history"]["loss"]
    history.val_accuracy = record["history"]["val_accuracy"]
    return int(record["step"])


def final_model(stem: Path, model: nn.Module) -> nn.Module:
    """A copy of ``model`` with the weights that the run ``stem`` ended with."""
    tensors = checkpoints.tensors(state_file(stem))
    copy = models.build(model.config)  # type: ignore[arg-type]
    copy.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    return copy.eval()
