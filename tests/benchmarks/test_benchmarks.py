"""The benchmarks run: every peer computes, and the table is printed."""

import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import cortex_m_kernels
from benchmarks.cortex_m_kernels import Shape
from codesign import cost, models, native, tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_int8_gemm_compares_equal_products():
    module = load("int8_gemm")
    peers = module.candidates(8, 16, 32, native.AVX2)
    assert module.BASELINE in peers
    assert len(peers) == 7
    float_product, int_product = (peers[f"ONNX Runtime {kind}"]()[0] for kind in ("fp32", "int8"))
    # MatMulInteger takes the left side 128 higher: 128 times a column's sum apart.
    difference = int_product - float_product.round().astype(int)
    assert difference.shape == (8, 16)
    assert (difference == difference[0]).all()
    assert (difference % 128 == 0).all()
    assert difference.any()
    for call in peers.values():
        call()


@pytest.mark.slow
def test_the_table_is_printed(capsys, monkeypatch):
    module = load("int8_gemm")
    monkeypatch.setattr(module, "SHAPES", [(8, 16, 32)])
    module.show(native.AVX2)
    printed = capsys.readouterr().out
    assert "C int8, Lab 2's" in printed
    assert "GMAC/s" in printed


def test_make_bench_calls_every_benchmark():
    text = (BENCHMARKS.parent / "Makefile").read_text(encoding="utf-8")
    scripts = [path for path in BENCHMARKS.glob("*.py") if '"__main__"' in path.read_text("utf-8")]
    assert len(scripts) >= 6
    for path in scripts:
        assert f"python benchmarks/{path.name}" in text


def test_published_figures_are_those_of_their_sources():
    """Cycles for each MAC by hand: 120 MHz / inferences a second / MACs, and in a sane range."""
    module = load("microcontroller")
    assert cost.macs(models.build({"architecture": "resnet8"})) == module.RESNET8
    by_engine = {
        (found.engine, found.board): found.cycles / found.macs for found in module.PUBLISHED
    }
    assert len(by_engine) == len(module.PUBLISHED)
    reference = by_engine["TFLite Micro 2.3.1", "NUCLEO-L4R5ZI, Cortex-M4"]
    assert reference == pytest.approx(120e6 / 1.420 / 12_501_632)
    assert reference == pytest.approx(6.76, abs=0.01)
    tiny_engine = by_engine["TinyEngine @0363956", "STM32H743, Cortex-M7"]
    assert tiny_engine == pytest.approx(51e-3 * 480e6 / 11.6e6)
    for found in module.PUBLISHED:
        low = 0.5 if "M4" in found.board else 0.25  # two products an instruction; the M7 issues two
        assert low < found.cycles / found.macs < 60
        assert found.source


SHAPES = [Shape("conv", 4, 3, 3, 5, 2), Shape("depthwise", 3, 3, 5, 4, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_is_executed_alone(shape):
    row = cortex_m_kernels.kernel_row(shape._asdict(), short=True)
    assert Shape(*list(row.values())[:6]) == shape
    side = (shape.side - 1) // shape.stride + 1
    products = shape.kernel**2 * (shape.inputs * shape.outputs if shape.kind == "conv" else 3)
    assert row["macs"] == side**2 * products
    for kernels in ("naive", "simd"):
        assert 100 < row[f"{kernels}_code"] < 10_000
        assert row["macs"] < row[f"{kernels}_instructions"] < row[f"{kernels}_cycles"]


def test_kernels_that_differ_are_no_row(monkeypatch):
    plain = cortex_m_kernels.kernel

    def wrong(network, kernels):
        run, code = plain(network, kernels)
        outputs = (run.outputs[0], run.outputs[1] + (kernels == "simd"))
        return replace(run, outputs=outputs), code

    monkeypatch.setattr(cortex_m_kernels, "kernel", wrong)
    with pytest.raises(AssertionError, match="depthwise"):
        cortex_m_kernels.kernel_row(SHAPES[1]._asdict())


def test_kernels_are_printed_and_stored(monkeypatch, capsys):
    stored = []
    monkeypatch.setattr(cortex_m_kernels, "SHAPES", SHAPES[:1])
    monkeypatch.setattr(tables, "save", lambda *args: stored.append(args) or "a path")
    cortex_m_kernels.main()
    assert "conv 3×3, 5×5×4→3, stride 2" in capsys.readouterr().out
    cortex_m_kernels.main(store=True)
    [(lecture, name, table)] = stored
    assert (lecture, name) == (11, "cortex_m_kernels")
    assert len(table) == 1
    assert capsys.readouterr().out == "a path\n"


@pytest.mark.slow
def test_whole_networks_are_printed(monkeypatch):
    """One image of one network: all variants equal, beside what others published."""
    module, console = load("microcontroller"), Console(width=200, file=io.StringIO())
    monkeypatch.setattr(module, "PATCHES", {"mobile": (4, 4, 7)})
    monkeypatch.setattr(module, "CALIBRATION", 16)
    module.show_networks(console, "glyphs", 1)
    printed = console.file.getvalue()
    assert printed.count("1 of 1 images equal") == 4
    assert "TinyEngine" in printed


def test_the_chosen_data_set_is_a_known_one():
    with pytest.raises(ValueError, match="got dataset 'mnist'"):
        load("microcontroller").main(dataset="mnist", images=1)
