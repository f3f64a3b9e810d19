"""Targets of a lab, read from its file: what is wrong in one is named."""

from __future__ import annotations

import pytest

from autograder.contract import targets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[c]\npoints = 2\n[c.figures.f]\ntarget = 1.0\n", r"lab9\.c\.f"),
        ("[c]\n[c.figures.f]\ntarget = 1.0\n", "got no points"),
        ("[c]\npoints = 1\n[c.figures.f]\ntarget = 1\nfloor = 0\npoints = 2\n", "more points"),
        ("[c", "targets.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    path = tmp_path / "lab9" / "targets.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        targets.read(path)


def test_a_figure_may_differ_from_one_image_set_to_the_other(tmp_path):
    path = tmp_path / "targets.toml"
    figure = "[c.figures.f]\ntarget = 1.0\nfloor = 0.0\npoints = 2\n"
    path.write_text(f"[c]\npoints = 2\n{figure}[c.figures.f.glyphs]\ntarget = 0.5\n")
    figures = targets.read(path)["c"].figures
    assert figures["glyphs"]["f"].target == 0.5
    assert figures["cifar10"]["f"].target == 1.0
