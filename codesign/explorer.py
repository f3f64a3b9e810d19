"""Show how a picture depends on one parameter: a live slider, or small multiples in a static build.

``CODESIGN_STATIC=1`` announces a static build; the notebook builder sets it. Leaves out several
parameters at once. Used by every lecture, as ``plot.explore``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def explore(
    draw: Callable[[Axes, Any], object],
    *,
    size: tuple[float, float] = (5.2, 3.6),
    columns: int = 3,
    **parameter: Sequence[Any],
) -> Any:
    """Show how a picture depends on one parameter; leave the result as the cell's last line.

    In a kernel: a slider over the listed values and a picture that follows it. With
    ``CODESIGN_STATIC=1``: small multiples, one panel a value, with shared axes.

    Args:
        draw: ``draw(ax, value)`` draws everything, axis limits included, in well under 100 ms.
        size: inches of the live picture; panels of a static one are 0.6 times as large.
        columns: panels in a row of the static picture.
        parameter: exactly one, ``name=[values]``; underscores in the name are shown as spaces.

    Returns:
        An ipywidgets box, or an IPython image.

    Raises:
        ValueError: not exactly one parameter, or no values.
    """
    if len(parameter) != 1 or not all(len(values) for values in parameter.values()):
        raise ValueError(f"got parameters {parameter}; allowed: exactly one, name=[values, …]")
    (name, values), *_ = parameter.items()
    name = name.replace("_", " ")
    if static_build():
        return _panels(draw, name, list(values), size, columns)
    return _slider(draw, name, list(values), size)


def static_build() -> bool:
    """Whether a notebook is being built for readers without a kernel (``CODESIGN_STATIC=1``)."""
    return os.environ.get("CODESIGN_STATIC", "0") not in ("", "0")


def _slider(draw: Callable, name: str, values: list, size: tuple[float, float]) -> Any:
    import ipywidgets as widgets

    options = [(_label(value), i) for i, value in enumerate(values)]
    slider = widgets.SelectionSlider(
        options=options,
        description=name,
        continuous_update=True,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="30em"),
    )
    picture = widgets.Image(format="png")

    def redraw(_: object = None) -> None:
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        draw(figure.subplots(), values[slider.value])
        picture.value = png(figure, compress_level=1)  # nobody keeps it, somebody waits for it

    slider.observe(redraw, names="value")
    redraw()
    return widgets.VBox([slider, picture])


def _panels(
    draw: Callable, name: str, values: list, size: tuple[float, float], columns: int
) -> Any:
    from IPython.display import Image

    columns = min(columns, len(values))
    rows = math.ceil(len(values) / columns)
    width, height = 0.6 * size[0] * columns, 0.68 * size[1] * rows
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, value in zip(axes, values, strict=False):
        draw(ax, value)
        ax.set_title(f"{name} = {_label(value)}")
        ax.label_outer()
    for ax in axes[len(values) :]:
        ax.set_axis_off()
    shown = ", ".join(map(_label, values))
    said = {"alt": f"One panel for each {name}: {shown}"}  # Colab's IPython takes no alt=
    return Image(data=png(figure), format="png", metadata=said)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def png(figure: Figure, compress_level: int = 6) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": compress_level})
    return buffer.getvalue()
