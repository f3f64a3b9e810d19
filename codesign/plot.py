"""Plot the course's figures: theme, semantic colours, Pareto fronts, sliders, claims tables.

A model is a line, a measurement is a marker with its spread. Sliders come from
:mod:`codesign.explorer`, predictions from :mod:`codesign.predictions`. Taught in Lecture 3, used by
all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

from codesign import claims as table
from codesign.explorer import explore as explore
from codesign.explorer import png
from codesign.hardware.device import Device
from codesign.measure import Measurement
from codesign.predictions import hits as hits
from codesign.predictions import predict as predict

# Okabe & Ito, "Color Universal Design" (2008): told apart by all common kinds of colour vision.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLOURS: Mapping[str, str] = {
    "compute": "#0072B2",
    "memory": "#D55E00",
    "ours": "#009E73",
    "baseline": "#767676",
    "measured": "#000000",
}
CLAIMS_MIME = table.MIME


def theme() -> None:
    """Set matplotlib's defaults; call it once per notebook."""
    mpl.rc("figure", figsize=(6.4, 3.6), dpi=110)
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("font", size=9)
    mpl.rc("axes", prop_cycle=cycler(color=CYCLE), grid=True, axisbelow=True)
    mpl.rc("axes", titlesize=10, titlelocation="left", labelsize=9)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#e6e6e6", linewidth=0.8)
    mpl.rc("xtick", labelsize=8)
    mpl.rc("ytick", labelsize=8)
    mpl.rc("legend", frameon=False, fontsize=8)
    mpl.rc("lines", linewidth=1.8, markersize=5)


def show(alt: str) -> None:
    """Show the current figure with a text for whoever cannot see it; the last call of a cell.

    Args:
        alt: what the figure shows, in a sentence.

    Raises:
        ValueError: an empty text, or no figure.
    """
    from IPython.display import Image, display

    if not alt.strip() or not plt.get_fignums():
        raise ValueError(f"got {alt!r} for {len(plt.get_fignums())} figures; allowed: text, figure")
    figure = plt.gcf()
    display(Image(data=png(figure), format="png", metadata={"alt": alt}))
    plt.close(figure)


def measured(
    ax: Axes, x: Sequence[float], figures: Sequence[Measurement], *, scale: float = 1, **style: Any
) -> None:
    """Draw measurements as markers at their medians, with bars as long as their IQR.

    Args:
        scale: factor from the measurement's unit to the axis, for instance 1e3 for ms.
        style: passed to ``Axes.errorbar``; the colour defaults to ``COLOURS["measured"]``.
    """
    style = {"fmt": "o", "color": COLOURS["measured"], "capsize": 2, "elinewidth": 1, **style}
    spread = [figure.iqr / 2 * scale for figure in figures]
    ax.errorbar(x, [figure.median * scale for figure in figures], yerr=spread, **style)


def roofline(
    ax: Axes,
    machine: Device,
    number: str = "",
    *,
    intensities: tuple[float, float] = (0.01, 1e5),
    **style: Any,
) -> None:
    """Draw what ``machine`` attains at each arithmetic intensity, on logarithmic axes.

    Args:
        number: the number format; default: the machine's fastest.
        intensities: from and to, operations per byte.
        style: passed to ``Axes.plot``.
    """
    low, high = intensities
    x = sorted({low, high, min(max(machine.ridge(number), low), high)})
    ax.plot(x, [machine.attainable(i, number) for i in x], **style)
    if ax.get_xscale() != "log":  # setting it again would cost a slider its speed
        ax.set(xscale="log", yscale="log")
        ax.minorticks_off()


def pareto(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    *,
    minimize: tuple[bool, bool] = (True, False),
    color: str = COLOURS["ours"],
    label: str | None = None,
) -> np.ndarray:
    """Draw points ``(x, y)``, ``[n]`` each, and the staircase of those that no other dominates.

    Args:
        minimize: whether less is better, for x and for y; default: cost against quality.

    Returns:
        Indices of the points on the front, ordered by x.

    Raises:
        ValueError: x and y are empty, of different length, or not finite.
    """
    points = np.array([x, y], dtype=float).T if len(x) == len(y) else np.empty((0, 2))
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"got x={list(x)}, y={list(y)}; allowed: finite, of one length >= 1")
    front = front_of(points, minimize)
    ax.plot(*points.T, "o", color=color, alpha=0.35, markeredgewidth=0)
    ax.plot(*points[front].T, "o", color=color)
    style = f"steps-{'post' if minimize[0] else 'pre'}"
    ax.plot(*points[front].T, drawstyle=style, color=color, label=label)
    return front


def front_of(points: np.ndarray, minimize: tuple[bool, bool] = (True, False)) -> np.ndarray:
    """Indices of the points ``[n, 2]`` that no other point dominates, ordered by the first column.

    A point dominates another when it is at least as good in both and better in one.
    """
    cost = np.where(minimize, points, -points)
    no_worse = (cost[:, None] <= cost[None]).all(2)
    better = (cost[:, None] < cost[None]).any(2)
    front = np.flatnonzero(~(no_worse & better).any(0))
    return front[np.lexsort((points[front, 1], points[front, 0]))]


# --- claims --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """One figure of a paper beside ours.

    Args:
        claim: what is claimed, in a few words.
        paper: the paper's figure.
        source: citation: authors, year, section or table.
        measured: what this notebook measured; None: *cited only*.
        on: model, data and machine of the measurement.
        why: why the two differ, or why nothing could be measured.

    Raises:
        ValueError: a row without source or reason, or a measurement that does not say on what.
    """

    claim: str
    paper: str
    source: str
    why: str
    measured: str | None = None
    on: str = ""

    def __post_init__(self) -> None:
        needed = ["claim", "paper", "source", "why"] + ["on"] * (self.measured is not None)
        empty = [name for name in needed if not str(getattr(self, name)).strip()]
        if empty:
            raise ValueError(f"got a claim with empty {empty}; allowed: every one of {needed}")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        shown = "cited only" if self.measured is None else self.measured
        return self.claim, f"{self.paper} ({self.source})", shown, self.on or "–", self.why

    @property
    def data(self) -> dict[str, Any]:
        """Every field, as JSON takes it."""
        return asdict(self)


class Claims(table.Claims):
    """The table of rows whose published figure stands in the lecture itself."""

    HEADER = ("claim", "paper", "measured here", "on", "why they differ")


def claims(rows: Sequence[Claim]) -> Claims:
    """The table that closes a lecture: the paper's figure, ours, on what, and why they differ.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("got no claims; allowed: at least one row")
    return Claims(rows)
