"""Lab 2's own: what its artifacts' checks say of networks and kernels that are none.

Networks are those that the reference handed in, on a few images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import lab_checks
import pytest

from autograder.contract import held_out
from codesign.training import evaluate

pytestmark = pytest.mark.lab2
LAB = "lab2_quantization"


def run(check, outputs):
    return lab_checks.run(LAB, check, {}, outputs)


def forge(name, outputs):
    lab_checks.mutant(LAB, name).forge(outputs)


# --- networks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_images():
    """Some held-out images instead of all."""
    with pytest.MonkeyPatch.context() as patch:
        images = held_out.images("glyphs", lab_checks.PROOF_SEED).head(100)
        accuracy = evaluate(held_out.dense("glyphs"), images)
        patch.setattr(held_out, "images", lambda dataset, seed: images)
        patch.setattr(held_out, "dense_accuracy", lambda dataset, seed: accuracy)
        yield


@pytest.fixture
def handed_in(tmp_path, few_images):
    """The reference's artifacts, to be altered."""
    return Path(shutil.copytree(lab_checks.reference_outputs(LAB), tmp_path / "glyphs"))


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
    forge(name, handed_in)
    verdict = run(name.split(":")[0], handed_in)
    assert verdict.points == 0
    assert REFUSED[name] in verdict.rows[0].message


def test_a_useless_network_earns_nothing_for_its_size(handed_in):
    forge("int8_model: channels_reversed", handed_in)
    assert run("int8_model", handed_in).points == 0


def test_nearest_rounding_earns_nothing(handed_in):
    forge("w4_model: nearest", handed_in)
    error, drop = run("w4_model", handed_in).rows
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
    forge(f"int8_gemm: {name}", handed_in)
    verdict = run("int8_gemm", handed_in)
    assert verdict.points == 0
    assert KERNELS[name] in verdict.rows[0].message


def test_the_kernel_that_was_handed_out_is_exact_and_earns_nothing(handed_in):
    """Whatever it reaches on this machine: exactness counts as much as the speed-up does."""
    forge("int8_gemm: as_handed_out", handed_in)
    exact, speed, *_ = run("int8_gemm", handed_in).rows
    assert speed.measured is not None
    assert exact.points / exact.max_points == pytest.approx(speed.points / speed.max_points)
