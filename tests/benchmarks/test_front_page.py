"""README's figure: pruning by an oracle, ONNX Runtime beside our integers, no stale page."""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign import cost, models
from codesign.post_training import quantize

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # its scripts import one another

import front_page  # noqa: E402
import readme_figures  # noqa: E402
from peers import onnx_networks  # noqa: E402


@pytest.fixture(scope="module")
def network():
    """A small ResNet-8 with running statistics that are not those of the start."""
    torch.manual_seed(0)
    model = models.build({"architecture": "resnet8", "widths": [4, 8, 12], "num_classes": 10})
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, 3, 32, 32))
    return model.eval()


def silenced(model):
    """Half of the channels of every convolution, every second one, write nothing but zeros."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
                layer.weight[::2] = 0
                if layer.bias is not None:
                    layer.bias[::2] = 0
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean[::2] = 0
    return model


def test_all_channels_are_the_network_itself(network):
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(front_page.narrowed(network, 1.0)(x), network(x))


def test_channels_that_write_zeros_are_those_that_go(network):
    """An oracle: without dead channels the network computes what it computed with them."""
    wide, x = silenced(copy.deepcopy(network)), torch.randn(2, 3, 32, 32)
    half = front_page.narrowed(wide, 0.5)
    assert half.config["widths"] == [2, 4, 6]
    torch.testing.assert_close(half(x), wide(x), rtol=1e-4, atol=1e-5)
    assert cost.macs(half) < 0.35 * cost.macs(wide)


def test_sessions_compute_the_networks(network):
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    pixels, integers = onnx_networks.pixels(images), quantize(network, images)
    (floats,) = onnx_networks.float_session(network).run(None, {"image": pixels})
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(floats, expected, rtol=1e-3, atol=1e-4)
    feed = {"image": onnx_networks.pixels(images, integers)}
    (codes,) = onnx_networks.integer_session(integers).run(None, feed)
    exact = integers.logits(images).numpy()
    assert codes.dtype == exact.dtype
    assert np.abs(codes - exact).max() < 0.05 * np.abs(exact).max()  # a code may differ by one


def found() -> dict:
    """A record with made-up points: half of the channels take half of the time."""
    series, widths = (front_page.FP32, front_page.INT8, front_page.MICRO), list(front_page.SHARES)
    points = [
        {
            "series": name, "width": width, "macs": 100 - 75 * i, "accuracy": 0.9 - 0.1 * i,
            "standard_error": 0.003, "latency_s": ms / 1e3 / (i + 1), "iqr_s": 0.0,
        }
        for name, ms in zip(series, (4, 2, 200), strict=True)
        for i, width in enumerate((widths[0], widths[-1]))
    ]  # fmt: skip
    return {"points": points, "dataset": "glyphs", "clock_hz": 168e6}


def test_the_caption_is_computed():
    said = front_page.caption(found())
    assert "int8 is 2.0 times as fast as fp32 and changes the accuracy by +0.0 points" in said
    assert "compute 25% of the MACs" in said
    assert "50% of the time in fp32 and 50% in int8, on the board in 50%" in said
    assert "cost 10.0 points" in said
    assert "the board 100 times as long" in said


def test_the_figure_is_drawn(tmp_path):
    front_page.draw(found(), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_readme_says_what_was_measured():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_figures.filled(page, readme_figures.blocks()) == page
    times = json.loads(readme_figures.TIMES.read_text(encoding="utf-8"))
    assert times["install"]["packages"] == len(readme_figures.pins())
    # Of a command that was not timed yet, the page says so.
    assert all(times[name]["seconds"] > 0 for name in readme_figures.COMMANDS if name in times)
    points = json.loads(readme_figures.FRONT_PAGE.read_text(encoding="utf-8"))["points"]
    assert len(points) == 3 * len(front_page.SHARES)


def test_markers_are_there_once():
    with pytest.raises(ValueError, match="got 0 times <!-- verdict -->"):
        readme_figures.filled("no markers", {"verdict": "text"})
    page = "<!-- a -->\nold\n<!-- end a -->"
    assert readme_figures.filled(page, {"a": r"\1 new"}) == "<!-- a -->\n\\1 new\n<!-- end a -->"
