"""What readers touch, in a real browser: JupyterLab, a kernel, Chromium; sliders and predictions.

The notebook under test is a lecture's own widget cells behind small made-up results, so that what
is tested is the slider and not the measurements. Skipped where Chromium or playwright is missing.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import browser
import jupytext
import nbformat
import pytest

LECTURES = Path(__file__).resolve().parent.parent / "lectures"
# lecture, which of its sliders, what the cells before it would have left behind
ROOFLINE = """
from codesign import plot

from codesign.hardware import device

plot.theme()
host = device.Device("this machine", "cpu", 2026, {"fp32": 1e11}, 3e10, 1e10, "made up, 2026")
intensities, attained = [0.5, 8.0], [1e10, 8e10]
"""
POINTS_LOST = """
from codesign import plot

plot.theme()
LEVELS = {"fine-grained": (0.5, 0.9), "2:4": (0.5,), "channel": (0.25, 0.8)}
baseline = 0.9
rows = [
    dict(shape=n, sparsity=s, bytes=1e6 * (1 - s), accuracy=0.9 - s**2 / 10, latency=1 - s / 2)
    for n, levels in LEVELS.items()
    for s in levels
]
"""
LOAD = """
import torch
from types import SimpleNamespace
from codesign import plot

plot.theme()
PES, DEPTHS = (1, 8, 64), (1, 2, 8)
problems = {"a layer": (torch.ones(64, 8, dtype=torch.int64), None, None)}
found = {
    ("a layer", pes, depth): SimpleNamespace(utilization=pes ** (-0.5 / depth))
    for pes in PES
    for depth in DEPTHS
}
def lockstep(rows, density, pes):
    return 1 / pes
"""
BLOCKS = """
from codesign import plot

from codesign.measure import Measurement
plot.theme()
BLOCKS, SPARSITIES = (1, 4, 16), (0.5, 0.75, 0.9)
COST = {
    (b, s): Measurement((1 - s) * 16 / b, 0.01, 9, "x", "here") for b in BLOCKS for s in SPARSITIES
}
left_over = {(b, s): 1 - s * b / 32 for b in BLOCKS for s in SPARSITIES}
"""
LEVELS = """
import numpy as np
from codesign import plot

plot.theme()
BITS = (2, 4, 8)
HISTOGRAM, w_max = np.histogram(np.random.default_rng(0).normal(size=9_999), 100), 4.0
ROWS = {
    (b, name): (np.linspace(-4, 4, 2**b), 6.0 * b, 90 - 80 / b)
    for b in BITS
    for name in ("int", "E4M3", "NF4", "k-means", "MX")
}
"""
CLIP = """
from codesign import plot

plot.theme()
BITS = (2, 4, 8)
clip_x = bars = [0.5 + 0.1 * k for k in range(20)]
density = [-1 - t for t in clip_x]
curves = {b: [[-b + t for t in clip_x], [-2 * t for t in clip_x]] * 2 for b in BITS}
"""
PATCHES = """
from codesign import plot

plot.theme()
KIB, SPLITS, ENDS = 2**10, (1, 2, 3), (1, 4, 7)
TABLE = {(n, d): (KIB * 10 * d // n, KIB * 100 // d, 0) for n in SPLITS for d in ENDS}
EXTRA = {(n, d): 0.01 * n * d for n in SPLITS for d in ENDS}
"""
TILES = """
from codesign import plot

plot.theme()
SHAPES = [(1, 1), (2, 2), (4, 4)]
TILE_CHANNELS = (8, 32, 64)
MEASURED = {(c, s): 1.5 + 8 / c + abs(s[0] - 2) for c in TILE_CHANNELS for s in SHAPES}
def inner(pixels, outputs):
    return (3 * (pixels + outputs) + 2 * pixels * outputs) / (4 * pixels * outputs)
"""
ARENA = """
import matplotlib.pyplot as plt
from codesign import plot

from codesign.hardware.memory_planner import Buffer, lower_bound as alive
plot.theme()
SHOWN = [Buffer("a", 4096, 0, 2), Buffer("b", 2048, 1, 4), Buffer("c", 4096, 3, 6)]
PLANS = {
    "no sharing": {"a": 0, "b": 4096, "c": 6144},
    "above": {"a": 2048, "b": 0, "c": 6144},
    "optimum": {"a": 0, "b": 4096, "c": 0},
}
"""
SLIDERS = {
    "roofline": ("01_introduction", 0, ROOFLINE),
    "points_lost": ("03_pruning_and_sparsity_1", 0, POINTS_LOST),
    "load": ("04_pruning_and_sparsity_2", 0, LOAD),
    "blocks": ("04_pruning_and_sparsity_2", 1, BLOCKS),
    "levels": ("05_quantization_1", 0, LEVELS),
    "clip": ("06_quantization_2", 0, CLIP),
    "patches": ("10_mcunet_and_tinyml", 0, PATCHES),
    "tiles": ("11_tinyengine", 0, TILES),
    "arena": ("11_tinyengine", 1, ARENA),
}


PREDICTION = """
from codesign import plot
asked = plot.predict("How many times as long?", unit="×", range=(0.5, 8))
"""


def widget_cells(lecture: str, number: int) -> list[str]:
    """The cells tagged ``widget`` up to the lecture's slider ``number``, without other sliders'."""
    found: list[list[str]] = [[]]
    for cell in jupytext.read(LECTURES / f"{lecture}.py").cells:
        if "widget" in cell.metadata.get("tags", []):
            found[-1].append(cell.source)
            if "plot.explore(" in cell.source:
                found.append([])
    return found[number]


def test_every_slider_is_tried():
    listed = {(lecture, number) for lecture, number, _ in SLIDERS.values()}
    for source in LECTURES.glob("*.py"):
        count = source.read_text(encoding="utf-8").count("plot.explore(")
        assert {(source.stem, number) for number in range(count)} <= listed


def write_notebook(folder: Path, name: str, sources: list[str]) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of one JupyterLab that serves the notebooks of all sliders."""
    browser.path()
    folder = tmp_path_factory.mktemp("widget")
    work = folder / "work"
    work.mkdir()
    for name, (lecture, number, before) in SLIDERS.items():
        write_notebook(work, name, [before, *widget_cells(lecture, number)])
    write_notebook(work, "prediction", [PREDICTION, "asked.measured(3)", "plot.hits()"])
    exposed = "--LabApp.expose_app_in_browser=True"
    with browser.jupyterlab(work, folder / "jupyter", exposed) as address:
        yield address


RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.sessionContext.ready;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""


@contextmanager
def opened(lab, name, profile):
    """A notebook in a headless browser that can reach this machine only, all cells run."""
    websocket = lab.replace("http", "ws")
    with browser.chromium(profile, lab, websocket) as (page, _):
        page.goto(f"{lab}lab/workspaces/{name}/tree/{name}.ipynb?token=t")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.evaluate(RUN_ALL)
        yield page
        page.evaluate(  # its kernel would stay in memory
            "window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
        )


@pytest.fixture(params=SLIDERS)
def page(request, lab, tmp_path):
    with opened(lab, request.param, tmp_path / "profile") as page:
        yield page


def shown_after(page, before: bytes, seconds: float = 60) -> bytes:
    """The picture's pixels once they differ from ``before``, or as they are when time is up."""
    picture = page.locator("img.widget-image")
    end = time.monotonic() + seconds
    while (now := picture.screenshot()) == before and time.monotonic() < end:
        time.sleep(0.1)
    return now


def test_dragging_the_slider_changes_the_picture(page):
    from playwright.sync_api import expect

    output = page.locator(".jp-OutputArea-output")
    handle, readout = output.locator(".noUi-handle"), output.locator(".widget-readout")
    expect(readout).to_be_visible(timeout=60_000)
    first, begin = shown_after(page, b""), readout.inner_text()
    handle.hover()
    track = output.locator(".noUi-base").bounding_box()
    middle = track["y"] + track["height"] / 2
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, middle, steps=8)
    expect(readout).not_to_have_text(begin)
    halfway = shown_after(page, first)  # the handle is still held: it follows while dragging
    assert halfway != first
    between = readout.inner_text()
    page.mouse.move(track["x"] + track["width"], middle, steps=8)
    page.mouse.up()
    expect(readout).not_to_have_text(between)
    assert shown_after(page, halfway) not in (first, halfway)


def test_a_prediction_is_kept_and_shown_beside_the_measurement(lab, tmp_path):
    from playwright.sync_api import expect

    with opened(lab, "prediction", tmp_path / "profile") as page:
        output = page.locator(".jp-OutputArea-output")
        expect(output.get_by_text("Predict: How many times as long?")).to_be_visible()
        expect(output.get_by_text("measured 3×, no prediction").first).to_be_visible()
        field = output.locator("input")
        field.fill("much")
        field.press("Enter")
        expect(output.get_by_text("got 'much'; allowed: a number")).to_be_visible()
        field.fill("2.6×")
        field.press("Enter")
        expect(output.get_by_text("kept", exact=True)).to_be_visible()
        page.evaluate(RUN_ALL)  # the field comes back with the answer
        expect(output.locator("input")).to_have_value("2.6")
        expect(output.get_by_text("measured 3×, predicted 2.6×: a hit").first).to_be_visible()
        assert output.locator("svg circle").count() == 2
        expect(output.get_by_text("1 of 1 predictions within a tenth")).to_be_visible()
