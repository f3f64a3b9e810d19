"""The cache key changes with every file that a verdict depends on."""

from __future__ import annotations

import pytest

from autograder.contract import version
from autograder.grading.unit import Unit
from autograder.intake.accept import Submission

ONE_OF_EACH_KIND = [
    "autograder/contract/rows.py",
    "autograder/sandbox/run_native.c",  # runs handed-in C
    "autograder/labs/lab1_pruning/targets.toml",
    "codesign/kernels/fp32_gemm.c",  # the baseline of a latency
    "codesign/kernels/cortex_m/int8_simd.h",
    "codesign/kernels/cortex_m/runtime.c",
    "codesign/kernels/cortex_m/link.ld",
    "checkpoints/glyphs/vgg.json",  # with the sha256 of the weights
]


@pytest.fixture(autouse=True)
def fresh():
    version.source_version.cache_clear()
    yield
    version.source_version.cache_clear()


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_change_of_any_kind_of_source_changes_it(name, monkeypatch, tmp_path):
    unit = Unit("lab1_pruning", Submission({}, {}, ()), 1, isolated=True)
    monkeypatch.setattr(Unit, "to_bytes", lambda self: b"the same")
    files = dict(version.inputs())
    before = version.source_version(), unit.key()
    changed = tmp_path / "changed"
    changed.write_bytes(files[name].read_bytes() + b" ")
    monkeypatch.setattr(version, "inputs", lambda: iter({**files, name: changed}.items()))
    version.source_version.cache_clear()
    assert version.source_version() != before[0]
    assert unit.key() != before[1]


def test_every_packaged_source_counts():
    """Whatever lies in the two packages and is neither compiled nor prose."""
    counted = {path for _, path in version.inputs()}
    for package in version.PACKAGES:
        root = next(path for name, path in version.inputs() if name == f"{package}/__init__.py")
        left = {
            path.name
            for path in root.parent.rglob("*")
            if path.is_file() and path not in counted and "__pycache__" not in path.parts
        }
        kinds = {name.rpartition(".")[2] for name in left}
        assert kinds <= {"md", "typed", "json"}, left


def test_it_is_the_same_twice():
    assert version.source_version() == version.source_version.__wrapped__()
