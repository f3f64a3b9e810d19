"""The benchmarks run: every peer computes, and the table is printed."""

import importlib.util
from pathlib import Path

import pytest

from codesign import native

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_int8_gemm_compares_equal_products():
    module = load(BENCHMARKS[0])
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
    module = load(BENCHMARKS[0])
    monkeypatch.setattr(module, "SHAPES", [(8, 16, 32)])
    module.show(native.AVX2)
    printed = capsys.readouterr().out
    assert "C int8, Lab 2's" in printed
    assert "GMAC/s" in printed
