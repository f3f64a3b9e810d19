"""Lab 2's checks: the reference earns full points, wrong answers lose theirs, releases nothing.

The functions come out of the solution notebook; networks are those that the reference handed in,
on a few images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from solution_cells import SOLUTIONS, Same, definitions
from torch.nn import functional

from autograder.contract import artifacts, checking, held_out
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find
from autograder.labs.lab2_quantization.mutants import MUTANTS
from autograder.proof import prove
from codesign.training import evaluate

LAB = "lab2_quantization"
FOLDER = SOLUTIONS / LAB
FUNCTIONS = [
    "kmeans_quantize",
    "linear_quantize",
    "calibrate",
    "fold_batchnorm",
    "requantize",
    "quantized_conv2d",
    "adaround",
    "fake_quantize",
]
NETWORKS = ["int8_model", "w4_model", "w4a4_model"]


def notebook_functions(source: str = "") -> dict:
    """What the solution notebook defines, as its kernel would hold it, then ``source``."""
    return definitions(LAB, source, functional=functional, SEED=0, W4_TOP=7)


@pytest.fixture(scope="module")
def solution():
    return notebook_functions()


def run(check, namespace, outputs=Path("nowhere"), seed=prove.PROOF_SEED):
    return checking.run(LAB, check, LocalStudent(namespace, outputs), "glyphs", seed)


def test_every_check_has_targets_and_points_add_up_with_the_reflections():
    wanted = find(LAB).targets
    assert sorted(wanted) == sorted([*FUNCTIONS, *NETWORKS, "int8_gemm"])
    assert sum(check.points for check in wanted.values()) == 90


# --- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [held_out.PUBLIC_SEED, 1, 2, 3, 4])
@pytest.mark.parametrize("check", FUNCTIONS)
def test_the_reference_earns_full_points(check, seed, solution):
    verdict = run(check, solution, seed=seed)
    assert verdict.points == verdict.max_points, verdict.rows


@pytest.mark.parametrize("check", FUNCTIONS)
def test_a_stub_earns_nothing(check, solution):
    def stub(*args, **kwargs):
        raise NotImplementedError

    assert run(check, {name: stub for name in solution}).points == 0


@pytest.mark.parametrize("check", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    [None, 0, float("nan"), "text", [], {}, (None, None), torch.zeros(()), torch.tensor([[1.0]])],
)
def test_answers_of_another_kind_earn_nothing_and_break_nothing(check, value):
    assert checking.run(LAB, check, Same(value), "glyphs", 3).points == 0


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.cell], ids=lambda m: m.name)
def test_a_mutant_loses_points(mutant):
    verdict = run(mutant.check, notebook_functions(mutant.source))
    assert verdict.points < verdict.max_points


# --- networks ------------------------------------------------------------------------------------


@pytest.fixture
def handed_in(tmp_path, monkeypatch):
    """The reference's artifacts, judged on a few images."""
    images = held_out.images("glyphs", prove.PROOF_SEED).head(400)
    accuracy = evaluate(held_out.dense("glyphs"), images)
    monkeypatch.setattr(held_out, "images", lambda dataset, seed: images)
    monkeypatch.setattr(held_out, "dense_accuracy", lambda dataset, seed: accuracy)
    return Path(shutil.copytree(FOLDER / "outputs" / "glyphs", tmp_path / "glyphs"))


@pytest.mark.parametrize("check", NETWORKS)
def test_nothing_handed_in(check, tmp_path):
    verdict = run(check, {}, tmp_path)
    assert verdict.points == 0
    assert "was not handed in" in verdict.rows[0].message


REFUSED = {
    "int8_model: float_weights": "conv3.weight: got torch.float32",
    "int8_model: sixteen_bit_weights": "got torch.int16",
    "int8_model: weight_of_minus_128": "got values from -128 to -128, expected -127 to 127",
    "int8_model: bias_overflows": "more than an int32 holds",
    "int8_model: zero_point_beyond_int8": "conv1.zero_point: got values from",
    "int8_model: nan_scale": "NaN or infinite",
    "int8_model: scale_of_zero": "expected a positive finite number",
    "int8_model: layer_missing": "conv5.weight is missing",
    "int8_model: more_than_the_network": "that no layer of the network has",
    "w4_model: not_packed": "two codes a byte",
    "w4_model: another_code": "neither rounded down nor up",
    "w4a4_model: code_of_minus_eight": "expected -7 to 7",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_of_integers_is_told_so(name, handed_in):
    mutant = next(m for m in MUTANTS if m.name == name)
    mutant.forge(handed_in)
    verdict = run(mutant.check, {}, handed_in)
    assert verdict.points == 0
    assert REFUSED[name] in verdict.rows[0].message


@pytest.mark.parametrize("check", NETWORKS)
def test_what_is_no_set_of_tensors_is_refused(check, handed_in):
    for value in (held_out.dense("glyphs"), {"a": 1}, "int main;"):
        artifacts.store(handed_in, check, value)
        assert run(check, {}, handed_in).points == 0


def test_a_useless_network_earns_nothing_for_its_size(handed_in):
    mutant = next(m for m in MUTANTS if m.name == "int8_model: channels_reversed")
    mutant.forge(handed_in)
    assert run("int8_model", {}, handed_in).points == 0


def test_nearest_rounding_earns_nothing(handed_in):
    next(m for m in MUTANTS if m.name == "w4_model: nearest").forge(handed_in)
    error, drop = run("w4_model", {}, handed_in).rows
    assert error.measured == pytest.approx(1.0)
    assert error.points == drop.points == 0


# --- the kernel ----------------------------------------------------------------------------------

KERNELS = {
    "no_c": "kernel.c:",
    "another_function": "undefined symbol: int8_gemm",
    "one_product_more": "outside of its arrays",
    "asks_the_system": "a kernel may only compute",
    "int16_sums": "entries differ",
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_wrong_kernel_says_why(name, handed_in):
    next(m for m in MUTANTS if m.name == f"int8_gemm: {name}").forge(handed_in)
    verdict = run("int8_gemm", {}, handed_in)
    assert verdict.points == 0
    assert KERNELS[name] in verdict.rows[0].message


def test_the_kernel_that_was_handed_out_is_exact_and_earns_nothing(handed_in):
    """Whatever it reaches on this machine: exactness counts as much as the speed-up does."""
    next(m for m in MUTANTS if m.name == "int8_gemm: as_handed_out").forge(handed_in)
    exact, speed, *_ = run("int8_gemm", {}, handed_in).rows
    assert speed.measured is not None
    assert exact.points / exact.max_points == pytest.approx(speed.points / speed.max_points)
