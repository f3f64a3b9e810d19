"""The benchmarks run: every peer computes, and the table is printed."""

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from codesign import cost, models, native

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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
    for path in BENCHMARKS.glob("*.py"):
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


@pytest.mark.parametrize("shape", [("conv", 4, 3, 3, 5, 2), ("depthwise", 3, 3, 5, 4, 1)])
def test_a_kernel_is_executed_alone(shape):
    module = load("microcontroller")
    network = module.single(*shape)
    (naive, _), (fast, code) = (module.kernel(network, kernels) for kernels in ("naive", "simd"))
    assert np.array_equal(naive.outputs[1], fast.outputs[1])
    assert fast.outputs[1].shape == network.output.shape
    assert 100 < code < 10_000


@pytest.mark.slow
def test_both_tables_are_printed(monkeypatch):
    """One image of one network: all variants equal, beside what others published."""
    module, console = load("microcontroller"), Console(width=200, file=io.StringIO())
    monkeypatch.setattr(module, "SHAPES", [("conv", 4, 3, 3, 5, 2)])
    monkeypatch.setattr(module, "PATCHES", {"mobile": (4, 4, 7)})
    monkeypatch.setattr(module, "CALIBRATION", 16)
    module.show_kernels(console)
    module.show_networks(console, "glyphs", 1)
    printed = console.file.getvalue()
    assert "conv 3×3, 5×5×4→3, stride 2" in printed
    assert printed.count("1 of 1 images equal") == 4
    assert "TinyEngine" in printed


def test_the_chosen_data_set_is_a_known_one():
    with pytest.raises(ValueError, match="got dataset 'mnist'"):
        load("microcontroller").main(dataset="mnist", images=1)
