"""Lecture 3's slider in a real browser: JupyterLab, a kernel, headless Chromium, a dragged handle.

The notebook under test is the lecture's own widget cell behind a small made-up table, so that what
is tested is the slider and not the measurements. Skipped where Chromium or playwright is missing.
"""

from __future__ import annotations

import time
from pathlib import Path

import browser
import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LECTURE = ROOT / "lectures" / "03_pruning_and_sparsity_1.py"
TABLE = """
from codesign import plot
plot.theme()
names = ("fine-grained", "2:4", "vector", "kernel", "channel")
rows = [
    dict(granularity=name, sparsity=s, bytes=10**6, accuracy=0.9 - s / 2, latency=1 - s / (i + 1))
    for i, name in enumerate(names)
    for s in (0.25, 0.5, 0.75)
    if s == 0.5 or name != "2:4"
]
"""


def widget_cell() -> str:
    """The one cell of the lecture that is tagged ``widget``."""
    cells = jupytext.read(LECTURE).cells
    (source,) = (c.source for c in cells if "widget" in c.metadata.get("tags", []))
    return source


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab that serves ``widget.ipynb``."""
    browser.path()
    cells = [nbformat.v4.new_code_cell(source) for source in (TABLE, widget_cell())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    work = tmp_path / "work"
    work.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), work / "widget.ipynb")
    exposed = "--LabApp.expose_app_in_browser=True"
    with browser.jupyterlab(work, tmp_path / "jupyter", exposed) as address:
        yield address


@pytest.fixture
def page(lab, tmp_path):
    """The notebook in a headless browser that can reach this machine only, all cells run.

    Both cells fit into its window: nothing scrolls away.
    """
    websocket = lab.replace("http", "ws")
    with browser.chromium(tmp_path / "profile", lab, websocket) as (page, _):
        page.goto(f"{lab}lab/tree/widget.ipynb?token=t")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.evaluate(
            """async () => {
                const panel = window.jupyterapp.shell.currentWidget;
                await panel.sessionContext.ready;
                await window.jupyterapp.commands.execute("notebook:run-all-cells");
            }"""
        )
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
    expect(readout).to_have_text("0.25", timeout=60_000)
    first = shown_after(page, b"")
    handle.hover()
    track = output.locator(".noUi-base").bounding_box()
    middle = track["y"] + track["height"] / 2
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, middle, steps=8)
    expect(readout).to_have_text("0.5")
    halfway = shown_after(page, first)  # the handle is still held: it follows while dragging
    assert halfway != first
    page.mouse.move(track["x"] + track["width"], middle, steps=8)
    page.mouse.up()
    expect(readout).to_have_text("0.75")
    assert shown_after(page, halfway) not in (first, halfway)
