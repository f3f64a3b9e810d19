"""The figure of the README: ResNet-8 dense, pruned, in int8 and on an emulated microcontroller.

``python benchmarks/front_page.py [--dataset cifar10]`` fine-tunes the shipped network at three
widths (all channels, three quarters, half; the same fine-tuning for each), quantizes each, and
writes ``docs/front_page.json`` and ``docs/front_page.png``. On this machine ONNX Runtime computes
fp32 and int8, one image, one thread, all six alternately; the board computes the same integers,
its time is counted cycles divided by its clock. Fine-tuned networks are kept in ``build/``.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from benchmarks.peers.onnx_networks import float_session, integer_session, pixels, session_accuracy
from codesign import checkpoints, cost, datasets, measure, plot, training
from codesign.datasets import ImageSet
from codesign.hardware import engine
from codesign.models import ResNet8
from codesign.post_training import quantize

ROOT = Path(__file__).parents[1]
NETWORK, BOARD = "resnet8", "stm32f407"
SHARES = {"all channels": 1.0, "three quarters": 0.75, "half": 0.5}
EPOCHS, LR = 2.0, 0.04
CALIBRATION = 256  # training images
EMULATED = 10  # test images on the emulator, compared with the integer executor
ROUNDS = 300  # short samples, so that few of them meet other work of the machine
FP32, INT8, MICRO = "fp32, this machine", "int8, this machine", "int8, emulated board"


# --- pruning -------------------------------------------------------------------------------------


def narrowed(dense: nn.Module, share: float) -> nn.Module:
    """The ResNet-8 that keeps ``share`` of each stack's channels, those of the largest filters.

    Channels that an addition ties together stay or go together; importance is the sum of the L2
    norms of the filters that write them (Li et al., "Pruning Filters", ICLR 2017).
    """
    assert isinstance(dense, ResNet8)
    state = dense.state_dict()
    widths = [int(width * share) for width in dense.config["widths"]]
    taken: dict[str, torch.Tensor] = {}
    outer = _largest(state, ["conv", "stacks.0.conv1"], widths[0])
    _take(state, taken, "conv", "bn", outer, torch.arange(3))
    for i, width in enumerate(widths):
        stack, before = f"stacks.{i}", outer
        inner = _largest(state, [f"{stack}.conv0"], width)
        shortcut = [f"{stack}.shortcut"] if f"{stack}.shortcut.weight" in state else []
        outer = _largest(state, [f"{stack}.conv1", *shortcut], width) if shortcut else outer
        _take(state, taken, f"{stack}.conv0", f"{stack}.bn0", inner, before)
        _take(state, taken, f"{stack}.conv1", f"{stack}.bn1", outer, inner)
        for name in shortcut:
            taken[f"{name}.weight"] = state[f"{name}.weight"][outer][:, before]
            taken[f"{name}.bias"] = state[f"{name}.bias"][outer]
    taken["classifier.weight"] = state["classifier.weight"][:, outer]
    taken["classifier.bias"] = state["classifier.bias"]
    return checkpoints.rebuild({**dense.config, "widths": widths}, taken)


def _largest(state: dict[str, torch.Tensor], convs: Sequence[str], count: int) -> torch.Tensor:
    norms = torch.stack([state[f"{name}.weight"].flatten(1).norm(dim=1) for name in convs])
    return norms.sum(0).topk(count).indices.sort().values


def _take(
    state: dict[str, torch.Tensor], taken: dict[str, torch.Tensor], conv: str, norm: str,
    outputs: torch.Tensor, inputs: torch.Tensor,
) -> None:  # fmt: skip
    taken[f"{conv}.weight"] = state[f"{conv}.weight"][outputs][:, inputs]
    for name in ("weight", "bias", "running_mean", "running_var"):
        taken[f"{norm}.{name}"] = state[f"{norm}.{name}"][outputs]
    taken[f"{norm}.num_batches_tracked"] = state[f"{norm}.num_batches_tracked"]


def fine_tuned(dense: nn.Module, share: float, train: ImageSet, folder: Path) -> nn.Module:
    """``dense`` narrowed and fine-tuned with the dense network as teacher; kept in ``folder``."""
    stem = folder / f"{NETWORK}-{share:g}"
    if stem.with_name(f"{stem.name}.json").exists():
        return checkpoints.load(stem)
    folder.mkdir(parents=True, exist_ok=True)
    model = narrowed(dense, share)
    loss = training.distillation([copy.deepcopy(dense)])
    training.fit(
        model, train, epochs=EPOCHS, lr=LR, weight_decay=1e-4, loss=loss,
        resume=stem.with_name(f"{stem.name}.state"), desc=f"{share:g} of the channels",
    )  # fmt: skip
    checkpoints.save(stem, model, epochs=EPOCHS, lr=LR)
    return model


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One marker: accuracy in 0..1 with its standard error, median latency and its IQR in s."""

    series: str
    width: str
    macs: int
    accuracy: float
    standard_error: float
    latency_s: float
    iqr_s: float


def measured(dataset: str, networks: dict[str, nn.Module]) -> list[Point]:
    """Every network in fp32 and int8 on this machine, and in int8 on the board."""
    calibration = datasets.load(dataset, "train", quiet=True).head(CALIBRATION).images
    test = datasets.load(dataset, "test", quiet=True)
    integers = {name: quantize(model, calibration) for name, model in networks.items()}
    floats = {name: float_session(model) for name, model in networks.items()}
    sessions = {name: integer_session(network) for name, network in integers.items()}
    image, calls = test.images[:1], {}
    for name in networks:
        feeds = {"image": pixels(image)}, {"image": pixels(image, integers[name])}
        calls[FP32 + name] = partial(floats[name].run, None, feeds[0])
        calls[INT8 + name] = partial(sessions[name].run, None, feeds[1])
    times = measure.latency(calls, rounds=ROUNDS)
    points = []
    for name, model in networks.items():
        macs, network = cost.macs(model), integers[name]
        right = {
            FP32: session_accuracy(floats[name], test),
            INT8: session_accuracy(sessions[name], test, network),
        }
        for series, accuracy in right.items():
            taken = times[series + name]
            points.append(_point(series, name, macs, accuracy, test, taken.median, taken.iqr))
        deployed = engine.deploy(network, BOARD)
        some = test.images[:EMULATED]
        assert torch.equal(deployed.logits(some), network.logits(some))
        _, run = deployed.infer(network.codes(test.images[:1])[0])
        seconds = deployed.firmware.seconds(run.cycles)
        points.append(_point(MICRO, name, macs, network.accuracy(test), test, seconds, 0.0))
    return points


def _point(
    series: str, width: str, macs: int, accuracy: float, test: ImageSet, latency: float, iqr: float
) -> Point:
    error = (accuracy * (1 - accuracy) / len(test)) ** 0.5
    return Point(series, width, macs, accuracy, error, latency, iqr)


def record(dataset: str, points: list[Point], shipped: float, seconds: float) -> dict[str, Any]:
    """What ``docs/front_page.json`` holds: the points, and how they were made."""
    return {
        "command": f"python benchmarks/front_page.py --dataset {dataset}",
        "date": date.today().isoformat(),
        "machine": measure.machine(),
        "seconds": round(seconds),
        "dataset": dataset,
        "test_images": len(datasets.load(dataset, "test", quiet=True)),
        "network": NETWORK,
        "shipped_accuracy": shipped,
        "board": engine.BOARDS[BOARD].name,
        "clock_hz": engine.BOARDS[BOARD].clock_hz,
        "fine_tuning": {"epochs": EPOCHS, "lr": LR, "seed": 0},
        "points": [vars(point) for point in points],
    }


def caption(found: dict[str, Any]) -> str:
    """What came out, in sentences computed from the points."""
    at = {(point["series"], point["width"]): point for point in found["points"]}
    full, _, half = SHARES
    gain = at[FP32, full]["latency_s"] / at[INT8, full]["latency_s"]
    macs = at[FP32, half]["macs"] / at[FP32, full]["macs"]
    ratio = {
        series: at[series, half]["latency_s"] / at[series, full]["latency_s"]
        for series in (FP32, INT8, MICRO)
    }
    change = at[INT8, full]["accuracy"] - at[FP32, full]["accuracy"]
    paid = at[FP32, full]["accuracy"] - at[FP32, half]["accuracy"]
    error = at[FP32, full]["standard_error"]
    slower = at[MICRO, full]["latency_s"] / at[INT8, full]["latency_s"]
    return (
        f"int8 is {gain:.1f} times as fast as fp32 and changes the accuracy by "
        f"{100 * change:+.1f} points (standard error of an accuracy: {100 * error:.1f}). Half of "
        f"the channels compute {macs:.0%} of the MACs: on this machine in {ratio[FP32]:.0%} of the "
        f"time in fp32 and {ratio[INT8]:.0%} in int8, on the board in {ratio[MICRO]:.0%}; they "
        f"cost {100 * paid:.1f} points. The same integers take the board {slower:,.0f} times as "
        "long."
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy against latency: this machine and the board, each on its own scale of time."""
    plot.theme()
    figure = Figure(figsize=(7.4, 3.3), dpi=150, layout="constrained")
    here, board = figure.subplots(1, 2, sharey=True)
    _line(here, found, FP32, plot.COLOURS["baseline"], right=True)
    _line(here, found, INT8, plot.COLOURS["compute"], right=False)
    _line(board, found, MICRO, plot.COLOURS["ours"], right=True)
    clock = found["clock_hz"] / 1e6
    here.set(title="this machine: ONNX Runtime, one thread",
             ylabel=f"test accuracy on {found['dataset']}, %")  # fmt: skip
    board.set(title=f"emulated Cortex-M4 at {clock:.0f} MHz: our engine")
    for ax in (here, board):
        ax.set(xlim=(0, 1.25 * ax.dataLim.x1), xlabel="latency of one image, ms")
        ax.margins(y=0.12)
        ax.legend(loc="lower right")
    board.tick_params(labelleft=True)
    figure.savefig(path)


def _line(ax: Axes, found: dict[str, Any], series: str, colour: str, *, right: bool) -> None:
    """One line with a marker for each width; labels to the right of it or to the left."""
    points = [point for point in found["points"] if point["series"] == series]
    x = [1e3 * point["latency_s"] for point in points]
    y = [100 * point["accuracy"] for point in points]
    ax.errorbar(
        x, y, xerr=[500 * point["iqr_s"] for point in points],
        yerr=[100 * point["standard_error"] for point in points],
        color=colour, fmt="o-", capsize=2, elinewidth=1, lw=1.2, label=series.split(",")[0],
    )  # fmt: skip
    for point, at in zip(points, zip(x, y, strict=True), strict=True):
        ax.annotate(
            point["width"], at, (7, -9) if right else (-7, 4), textcoords="offset points",
            fontsize=7, color=colour, ha="left" if right else "right",
        )  # fmt: skip


def main(dataset: str = "", redraw: bool = False) -> None:
    """Measure, write the JSON and draw; ``--redraw`` draws what was measured before."""
    table = ROOT / "docs" / "front_page.json"
    if not redraw:
        start, chosen = time.monotonic(), datasets.choose(dataset or None)[0]
        stem = checkpoints.shipped(NETWORK, chosen)
        dense, train = checkpoints.load(stem), datasets.load(chosen, "train", quiet=True)
        folder = ROOT / "build" / "front_page" / chosen
        networks = {name: fine_tuned(dense, share, train, folder) for name, share in SHARES.items()}
        points = measured(chosen, networks)
        shipped = checkpoints.info(stem)["test_accuracy"]
        found = record(chosen, points, shipped, time.monotonic() - start)
        table.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    found = json.loads(table.read_text(encoding="utf-8"))
    draw(found, table.with_suffix(".png"))
    print(caption(found))


if __name__ == "__main__":
    typer.run(main)
