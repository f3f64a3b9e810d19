"""Measure latency: medians of paired, interleaved runs, with the machine they were taken on.

One machine's clock speed, caches and neighbours change from second to second, so two numbers are
only comparable when they were taken alternately. ``latency`` runs every candidate once in each
round, in random order; ``Latencies.ratio`` compares within rounds. Leaves out energy, which a
laptop does not show to a program. Taught in Lecture 3.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from codesign import processor


@dataclass(frozen=True)
class Measurement:
    """A measured figure: median and interquartile range of ``n`` samples on one machine."""

    median: float
    iqr: float
    n: int
    unit: str
    machine: str

    @classmethod
    def of(cls, samples: np.ndarray, unit: str, where: str = "") -> Measurement:
        """Summarize samples ``[n]``, given in ``unit``, taken on machine ``where`` (empty: this).

        Raises:
            ValueError: no sample.
        """
        if len(samples) == 0:
            raise ValueError("got no samples; allowed: at least one")
        low, median, high = np.percentile(samples, [25, 50, 75])
        return cls(float(median), float(high - low), len(samples), unit, where or machine())

    @property
    def standard_error(self) -> float:
        """Standard error of the median from the IQR: 1.2533·(IQR / 1.349)/√n, for normal noise."""
        return 1.2533 * self.iqr / 1.349 / self.n**0.5

    def __str__(self) -> str:
        if self.unit == "s":
            return f"{self.median * 1e3:.3f} ms (IQR {self.iqr * 1e3:.3f}, n={self.n})"
        return f"{self.median:.3f} {self.unit} (IQR {self.iqr:.3f}, n={self.n})"


@dataclass(frozen=True)
class Latencies:
    """Seconds per call of each candidate, ``[rounds]``; round i of all of them belongs together."""

    samples_s: Mapping[str, np.ndarray]
    machine: str = ""

    def __getitem__(self, name: str) -> Measurement:
        return Measurement.of(self.samples_s[name], "s", self.machine)

    def ratio(self, name: str, baseline: str) -> Measurement:
        """Latency of ``name`` / ``baseline``, paired by round: below 1 is faster.

        Raises:
            KeyError: a name that was not measured.
        """
        ratios = self.samples_s[name] / self.samples_s[baseline]
        return Measurement.of(ratios, "×", self.machine)


def latency(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warm_up: int = 3,
    sample_s: float = 0.002,
    seed: int = 0,
    threads: int = 1,
) -> Latencies:
    """Sample every candidate once in each of ``rounds`` rounds, in an order shuffled by ``seed``.

    Args:
        candidates: functions without arguments, by name.
        rounds: samples of each candidate.
        warm_up: calls before the first sample, at least one.
        sample_s: a sample repeats its function until it lasts about this long, for fast ones.
        threads: torch threads while timing. Several of them wait for each other whenever the
            machine does other work, so one gives figures that can be repeated.

    Raises:
        ValueError: no candidate, fewer than 2 rounds, or no thread.
    """
    if not candidates or rounds < 2 or threads < 1:
        raise ValueError(
            f"got {len(candidates)} candidates, {rounds} rounds, {threads} threads; "
            "allowed: >= 1, >= 2 and >= 1"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return Latencies(_sampled(candidates, rounds, warm_up, sample_s, seed), machine())
    finally:
        torch.set_num_threads(before)


def _sampled(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int,
    sample_s: float,
    seed: int,
) -> dict[str, np.ndarray]:
    repeats = {}
    for name, call in candidates.items():
        once = min(_seconds(call, 1) for _ in range(max(1, warm_up)))
        repeats[name] = max(1, round(sample_s / max(once, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order, shuffle = list(candidates), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            samples[name].append(_seconds(candidates[name], repeats[name]))
    return {name: np.array(values) for name, values in samples.items()}


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def inference(
    model: nn.Module, input_shape: tuple[int, ...] = (1, 3, 32, 32)
) -> Callable[[], object]:
    """A call of ``model`` on one fixed random input, ready for :func:`latency`.

    The model is set to evaluation mode and laid out channels last, as a deployed one would be.

    Args:
        input_shape: ``(N, C, H, W)``, or any other shape that the model takes.
    """
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
    x = torch.randn(input_shape, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if len(input_shape) == 4 else x

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def machine() -> str:
    """Processor, torch threads and torch version: what a figure was measured on."""
    facts = machine_facts()
    threads = facts["threads"]
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{processor.this()}, {count}, torch {facts['torch']}"


def machine_facts() -> dict[str, Any]:
    """What :func:`machine` says, field by field, in JSON's types."""
    facts = asdict(processor.this())
    facts["instruction_sets"] = list(facts["instruction_sets"])
    return facts | {"threads": torch.get_num_threads(), "torch": torch.__version__}
