"""Plot the class as SVG small multiples: a panel for each figure and for each check's points.

A dot is a student while a class is small; a larger class is a histogram. Values far outside stand
at the edge, counted, so that one broken submission does not squash the others. SVG without text
elements: what it shows does not depend on the reader's fonts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autograder.reports.distribution import Distribution, Points
from autograder.reports.page import plain
from codesign import plot

COLUMNS = 3
PANEL = (3.4, 1.8)  # inches
BINS = 24
MOST_DOTS = 60
TARGET, REFERENCE, VALUE = plot.COLOURS["baseline"], plot.COLOURS["ours"], plot.COLOURS["measured"]
Panel = TypeVar("Panel")


def figures(distributions: Sequence[Distribution]) -> bytes:
    """SVG: measured values, the target (dashed) and the course's reference (solid)."""
    return _multiples(distributions, _figure)


def points(checks: Sequence[Points]) -> bytes:
    """SVG: the points of each check, from 0 to its maximum."""
    return _multiples(checks, _points)


def _multiples(panels: Sequence[Panel], draw: Callable[[Axes, Panel], None]) -> bytes:
    columns = min(COLUMNS, len(panels))
    count = math.ceil(len(panels) / columns)
    with mpl.rc_context():
        plot.theme()
        mpl.rc("svg", hashsalt="codesign")  # the same class gives the same file
        size = PANEL[0] * COLUMNS, PANEL[1] * count
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(count, COLUMNS, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=False):
            draw(ax, panel)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _figure(ax: Axes, one: Distribution) -> None:
    anchors = [v for v in (one.target, one.reference, one.floor) if v is not None]
    edges = bins(*window(anchors, one.all), one.target, bool(one.less_is_better))
    low, high = edges[0], edges[-1]
    _heap(ax, edges, one.values, one.inconclusive)
    ax.axvline(one.target, color=TARGET, linestyle="--", linewidth=1.6, zorder=1)
    if one.reference is not None:
        ax.axvline(one.reference, color=REFERENCE, linewidth=1.6, zorder=1)
    if one.less_is_better is not None:
        edge = low if one.less_is_better else high
        ax.axvspan(one.target, edge, color=REFERENCE, alpha=0.08, linewidth=0)
    ax.set_xlim(low, high)
    _title(ax, f"{one.check}: {one.name}", one.dataset)
    _label(ax, f"[{one.unit}]" if one.unit else "", _notes(one, low, high))


def _points(ax: Axes, one: Points) -> None:
    half = one.max_points / BINS / 2 or 0.5
    edges = np.linspace(-half, one.max_points + half, BINS + 2)
    _heap(ax, edges, one.values, ())
    ax.set_xlim(-2 * half, one.max_points + 2 * half)
    _title(ax, one.check, f"of {one.max_points:g}")


def _heap(ax: Axes, edges: np.ndarray, values: Sequence[float], undecided: Sequence[float]) -> None:
    """Values as stacked dots or bars; undecided ones hollow, on top."""
    low, high = edges[0], edges[-1]
    counts = [np.histogram(np.clip(v, low, high), edges)[0] for v in (values, undecided)]
    centres, tallest = (edges[1:] + edges[:-1]) / 2, max(int((counts[0] + counts[1]).max()), 1)
    if len(values) + len(undecided) <= MOST_DOTS:
        _dots(ax, centres, counts, tallest)
    else:
        width = 0.9 * (edges[1] - edges[0])
        ax.bar(centres, counts[0], width, color=VALUE, alpha=0.7)
        some = counts[1] > 0  # a bar of height 0 would still have an edge
        ax.bar(centres[some], counts[1][some], width, counts[0][some], fc="white", ec=VALUE)
    ax.set_ylim(0, 1.1 * max(tallest, 4))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.grid(False, axis="x")


def _dots(ax: Axes, centres: np.ndarray, counts: Sequence[np.ndarray], tallest: int) -> None:
    size = min(4.0, 90.0 / max(tallest, 4))
    base = np.zeros(len(centres), dtype=int)
    for count, face in zip(counts, (VALUE, "white"), strict=True):
        x = np.repeat(centres, count)
        y = np.concatenate([b + np.arange(c) for b, c in zip(base, count, strict=True)]) + 0.5
        (dots,) = ax.plot(x, y, "o", color=VALUE, markerfacecolor=face)
        dots.set(markersize=size, markeredgewidth=0.8)
        base = base + count


def window(anchors: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The stretch of the axis that is drawn: every anchor and all values but the far ones."""
    scale = max(map(abs, anchors))
    span = max(anchors) - min(anchors) or scale or 1.0
    sane = [v for v in values if abs(v) <= 1_000 * max(scale, span)]
    middle = statistics.median(sane) if sane else anchors[0]
    spread = statistics.median(abs(v - middle) for v in sane) if sane else 0.0
    shown = [*anchors, *(v for v in sane if abs(v - middle) <= 5 * max(spread, span / 2))]
    pad = 0.06 * (max(shown) - min(shown)) or 0.1 * abs(shown[0]) or 0.5
    return min(shown) - pad, max(shown) + pad


def bins(low: float, high: float, target: float, less_is_better: bool) -> np.ndarray:
    """Edges of bins from ``low`` to ``high``, none of which holds both sides of the target.

    So a dot at its bin's middle stands on its own side; what equals the target is on the good one.
    """
    width = (high - low) / BINS
    first, last = math.floor((low - target) / width), math.ceil((high - target) / width)
    edges = target + width * np.arange(first, last + 1)
    if less_is_better:
        edges[-first] = np.nextafter(target, math.inf)
    return edges


def _notes(one: Distribution, low: float, high: float) -> str:
    below, above = sum(v < low for v in one.all), sum(v > high for v in one.all)
    notes = [
        f"{one.unmeasured} not measured" if one.unmeasured else "",
        f"{below} further left" if below else "",
        f"{above} further right" if above else "",
    ]
    return ", ".join(note for note in notes if note)


def _title(ax: Axes, name: str, right: str) -> None:
    ax.set_title(plain(name, 38), fontsize=9, parse_math=False)  # the table has all of it
    ax.set_title(right, loc="right", fontsize=8, color="#555555", parse_math=False)


def _label(ax: Axes, unit: str, notes: str) -> None:
    ax.set_xlabel("  ".join(part for part in (unit, notes) if part), parse_math=False)
