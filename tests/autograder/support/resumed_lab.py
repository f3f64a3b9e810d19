"""The labs' long steps in a shrunk setting, by their own cells, and processes that die at work.

A process ends itself with SIGKILL, in the update of the weights that ``STEPS`` names: no handler
runs, as when a kernel dies.
"""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from solution_cells import definitions

from autograder.lab import Lab
from codesign import cost, datasets, glyphs, training
from codesign.models import VGG

CHANNELS = [24, "M", 24, "M", 32]
IMAGES, PER_EPOCH = 160, 3  # images of training, and steps of 64 images or fewer


@dataclass(frozen=True)
class Step:
    """One artifact that takes long: where its work is killed, and how often it stores there."""

    lab: str
    killed_at: int  # update of the weights, counted from 1
    store_s: float
    produce: Callable[[dict[str, Any]], Any]


def images(count: int, split: str) -> datasets.ImageSet:
    """A few glyphs."""
    pixels, labels = glyphs.generate(split, count=count)
    card = datasets.DatasetCard("glyphs", split, tuple("abcdefghij"), "", "")
    found = torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels).long()
    return datasets.ImageSet(*found, card)


def notebook(name: str, folder: Path) -> dict[str, Any]:
    """What a kernel knows after the first cells of lab ``name``: a small network, few images."""
    found = definitions(name)
    found["__name__"] = "__main__"
    lab = found["lab"] = Lab(name, "glyphs", folder)
    train, val = images(IMAGES, "train"), images(20, "val")
    torch.manual_seed(1)
    dense = VGG(CHANNELS).eval()
    lab.dense = lambda: copy.deepcopy(dense)  # type: ignore[method-assign]
    lab._images = {"train": train, "val": val}
    order = torch.randperm(len(train))
    found |= {"train": train, "dense": dense, "order": order}  # the functions' own globals
    return found


# --- the cells that take long --------------------------------------------------------------------


def sparse_model(cells: dict[str, Any]) -> Any:
    """Lab 1: pruned, and fine-tuned for three epochs."""
    sparsities = {name: 0.5 for name in cost.weighted_layers(cells["dense"])}
    return cells["lab"].produce("sparse_model", cells["sparse"], sparsities, 3.0)


def fast_model(cells: dict[str, Any]) -> Any:
    """Lab 1: NetAdapt to 30 % of the latency, which is that of the MACs, and one epoch."""
    widths, pixels = 8 * torch.arange(1.0, 17.0).double(), torch.tensor([32, 16, 8]).double() ** 2
    cells["table"] = pixels[:, None, None] * widths[:, None] * widths * 1e-9
    cells["table"][0] = pixels[0] * 3 * widths * 1e-9
    dense_macs = cost.macs(cells["dense"])
    cells["latency_ratio"] = lambda model: {"median": cost.macs(model) / dense_macs}
    cells |= {"SHORT_STEPS": 1, "SEARCH_IMAGES": 20}
    return cells["lab"].produce("fast_model", cells["fast"], 0.3, 1.0)


def w4a4_model(cells: dict[str, Any]) -> Any:
    """Lab 2: one epoch of quantization-aware training, then integers."""
    with torch.no_grad():
        folded = cells["Folded"](cells["dense"]).eval()
        samples = cells["activation_samples"](folded, cells["train"].images[:8])
    clipped = {name: float(x.max()) / 2 for name, x in samples.items() if name != "input"}
    cells |= {"samples": samples, "clipped": clipped}
    return cells["lab"].produce("w4a4_model", cells["w4a4_network"])


def codebooks(cells: dict[str, Any]) -> Any:
    """Lab 2: codebooks of two widths, two updates each."""
    cells |= {"CODEBOOK_IMAGES": 128, "report": cells["lab"].val}
    return cells["lab"].produce("codebooks", cells["codebooks"], [2, 3])


def w4_model(cells: dict[str, Any]) -> Any:
    """Lab 2: AdaRound, two updates each of four layers."""
    folded = cells["Folded"](cells["dense"]).eval()
    cells |= {"folded": folded, "calibration": cells["train"].images[:8], "ROUNDING_STEPS": 2}
    packed, network, adaround = (cells[n] for n in ("packed", "rounded_network", "adaround"))
    return cells["lab"].produce("w4_model", lambda: packed(network(adaround)))


STEPS = {
    "sparse_model": Step("lab1_pruning", PER_EPOCH + 2, 1e9, sparse_model),
    "fast_model": Step(
        "lab1_pruning", 3 + 3 + 2, 1e9, fast_model
    ),  # third round of three proposals
    "codebooks": Step("lab2_quantization", 3, 1e9, codebooks),
    "w4_model": Step("lab2_quantization", 4, 1e9, w4_model),
    "w4a4_model": Step("lab2_quantization", 3, 0.0, w4a4_model),
}


def work(artifact: str, folder: Path, *, killed: bool = False) -> tuple[Any, int]:
    """Run the cell of one artifact in a new kernel: what it loads, and updates of weights it made.

    Args:
        killed: die where the step says.
    """
    step, made = STEPS[artifact], 0

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def update(*args: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if killed and made == step.killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **options)

        return update

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STORE_S", step.store_s)
        for optimizer in (torch.optim.SGD, torch.optim.Adam):
            patch.setattr(optimizer, "step", counted(optimizer.step))
        return step.produce(notebook(step.lab, folder)), made


def kill_all(root: Path) -> None:
    """Do each step in a process that dies where the step says; what it stored is in ``root``."""
    torch.set_num_threads(1)
    for artifact in STEPS:
        child = os.fork()
        if child == 0:
            work(artifact, root / artifact, killed=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, artifact
