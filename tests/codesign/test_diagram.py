"""Diagrams show every value once, in its place."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle

from codesign import diagram


@pytest.fixture
def ax():
    figure, ax = diagram.blank(6, 4)
    yield ax
    plt.close(figure)


def texts(ax):
    return {text.get_text(): text.get_position() for text in ax.texts}


def test_cells_stand_from_the_upper_left_downwards(ax):
    diagram.cells(ax, (1, 3), [["a", 0], [None, "b"]], label="rows")
    assert texts(ax) == {"a": (1.5, 2.5), "b": (2.5, 1.5), "rows": (0.8, 2.5)}
    edges = [p.get_xy() for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert sorted(edges) == [(1, 2), (2, 1), (2, 2)]


def test_a_zero_is_an_empty_cell_and_its_text_is_none(ax):
    diagram.cells(ax, (0, 1), [["0", 0]])
    assert list(texts(ax)) == ["0"]


def test_boxes_and_arrows_carry_their_texts(ax):
    diagram.box(ax, (1, 1), 2, 1, "kernel")
    diagram.arrow(ax, (0, 0), (4, 2), "bytes")
    shown = texts(ax)
    assert shown["kernel"] == (2, 1.5)
    assert shown["bytes"] == (2, 1.15)


def test_a_blank_has_equal_units_and_no_axes(ax):
    assert ax.get_aspect() == 1
    assert not ax.axison
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 6), (0, 4))
