"""Draw structures instead of measurements: rows of labelled cells, boxes, and arrows between them.

Everything is placed in the units of one plain axis, x to the right and y upwards, one cell being
1 × 1; a diagram is drawn by code, so that it shows the same numbers as the text beside it. Leaves
out layout: who draws says where. Used by every lecture.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Point = tuple[float, float]
EDGE, EMPTY = "#333333", "white"


def blank(width: float, height: float, *, scale: float = 0.42) -> tuple[Figure, Axes]:
    """A figure of ``width`` × ``height`` cells without axes; ``scale`` inches a cell."""
    figure, ax = plt.subplots(figsize=(scale * width, scale * height))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    return figure, ax


def cells(
    ax: Axes,
    at: Point,
    rows: Sequence[Sequence[object]],
    *,
    color: str = "#0072B2",
    size: float = 8,
    label: str = "",
) -> None:
    """Draw a table of cells whose upper left corner is ``at``.

    Args:
        rows: texts; ``None`` leaves a place out, ``0`` and ``""`` draw an empty cell.
        color: of cells that hold something, drawn pale.
        size: of the texts, in points.
        label: stands to the left of the first row.
    """
    x, y = at
    for down, row in enumerate(rows):
        for right, value in enumerate(row):
            if value is None:
                continue
            filled = value not in (0, "")
            corner = x + right, y - down - 1
            face = {"facecolor": color, "alpha": 0.25} if filled else {"facecolor": EMPTY}
            ax.add_patch(Rectangle(corner, 1, 1, lw=0, **face))
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=EDGE, lw=0.8))
            if filled:
                middle = corner[0] + 0.5, corner[1] + 0.5
                ax.text(*middle, str(value), ha="center", va="center", fontsize=size)
    if label:
        ax.text(x - 0.2, y - 0.5, label, ha="right", va="center", fontsize=size)


def box(
    ax: Axes,
    at: Point,
    width: float,
    height: float,
    text: str,
    *,
    color: str = EMPTY,
    size: float = 8,
) -> None:
    """Draw a box whose lower left corner is ``at``, with a text in its middle."""
    x, y = at
    ax.add_patch(Rectangle(at, width, height, facecolor=color, edgecolor=EDGE, lw=0.8))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size)


def arrow(ax: Axes, start: Point, end: Point, text: str = "", *, color: str = EDGE) -> None:
    """Draw an arrow from ``start`` to ``end``, with a text above its middle."""
    style = {"arrowstyle": "->", "color": color, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=end, xytext=start, arrowprops=style)
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.15
        ax.text(*middle, text, ha="center", va="bottom", fontsize=8, color=color)
