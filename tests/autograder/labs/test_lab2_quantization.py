"""Lab 2's own: wrong answers that once kept their points, and artifacts that are none.

Networks are those that the reference handed in, on a few images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import lab_checks
import pytest
import torch
from solution_cells import definitions

from autograder.contract import held_out
from autograder.contract.definition import find
from autograder.labs.lab2_quantization.checks import adaround, codebooks, linear
from autograder.labs.lab2_quantization.checks import quantize_network as assembly
from codesign.training import evaluate

pytestmark = pytest.mark.lab2
LAB = "lab2_quantization"


def run(check, outputs):
    return lab_checks.run(LAB, check, {}, outputs)


def forge(name, outputs):
    lab_checks.mutant(LAB, name).forge(outputs)


# --- functions -----------------------------------------------------------------------------------

CAUGHT = {  # by corners, so on every seed, in this row
    "kmeans_quantize: unused_become_nan": "squared error of Lloyd's algorithm",
    "kmeans_quantize: unused_go_back_to_the_start": "squared error of Lloyd's algorithm",
    "kmeans_quantize: unused_take_the_farthest_weight": "squared error of Lloyd's algorithm",
    "pack_codes: vectors_only": "packed codes",
    "pack_codes: pads_each_row": "packed codes",
    "quantization_parameters: small_scales_taken_for_zero": "symmetric parameters",
    "quantization_parameters: scale_of_float64": "symmetric parameters",
    "dequantize: difference_of_int8": "real numbers again",
    "dequantize: float64_result": "real numbers again",
    "percentile_threshold: of_all_but_one": "percentile",
    "mse_threshold: first_one_not_tried": "least squared error",
    "mse_threshold: last_one_not_tried": "least squared error",
    "kl_threshold: first_one_not_tried": "least KL divergence",
    "kl_threshold: last_one_not_tried": "least KL divergence",
    "fold_batchnorm: eps_of_torch": "equals convolution and batch norm",
    "fold_batchnorm: eps_of_a_tenth": "equals convolution and batch norm",
    "requantize: shift_of_31_to_40_only": "exact, also where float64 is not",
    "requantize: in_float64": "exact, also where float64 is not",
    "quantized_conv2d: square_images_only": "convolution, zero points, borders",
    "quantize_network: one_scale_a_tensor": "weights",
    "quantize_network: bias_of_the_classifier_forgotten": "biases",
    "rounding: plain_sigmoid": "rectified sigmoid",
    "fake_quantize: mask_a_quarter_step_too_wide": "straight-through gradient, 0 where clipped",
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_once_kept_its_points_is_caught_on_every_seed(name):
    mutant = lab_checks.mutant(LAB, name)
    namespace = definitions(LAB, mutant.source)
    for seed in range(3):
        verdict = lab_checks.run(LAB, mutant.check, namespace, seed=seed)
        assert CAUGHT[name] in {row.name for row in verdict.rows if row.points < row.max_points}


@pytest.mark.parametrize("name", ["scale_as_a_number", "numpy_in_float64"])
def test_a_scale_is_one_number_and_the_value_may_be_of_float64(name):
    source = next(one.source for one in find(LAB).valid if one.name == f"fake_quantize: {name}")
    verdict = lab_checks.run(LAB, "fake_quantize", definitions(LAB, source))
    assert verdict.points == verdict.max_points


@pytest.mark.parametrize(
    "name",
    [
        "quantization_parameters: unsigned_zero_point",
        "quantization_parameters: scale_of_float64",
        "linear_quantize: float_codes",
        "fixed_point: exponent_off_by_one",
    ],
)
def test_a_mistake_in_another_function_does_not_cost_the_network_of_integers(name):
    namespace = definitions(LAB, lab_checks.mutant(LAB, name).source)
    verdict = lab_checks.run(LAB, "quantize_network", namespace)
    assert verdict.points == verdict.max_points


def test_a_network_of_integers_from_wrong_functions_is_still_measured():
    """What is wrong in itself is wrong, whatever the other functions are."""
    sources = ("quantization_parameters: unsigned_zero_point", "quantize_network: bias_forgotten")
    namespace = definitions(LAB, "".join(lab_checks.mutant(LAB, name).source for name in sources))
    rows = lab_checks.run(LAB, "quantize_network", namespace).rows
    assert [row.name for row in rows if row.points < row.max_points] == ["biases"]


def test_a_target_that_is_ignored_is_seen():
    """On its row alone: the other rows' targets are what the layer computes from what it sees."""
    mutant = lab_checks.mutant(LAB, "adaround: ignores_its_target")
    namespace = definitions(LAB, mutant.source)
    student = lab_checks.LocalStudent(namespace, lab_checks.NOWHERE)
    for seed in range(2):
        said = adaround._seen_fault(student, adaround.Cases("adaround", "glyphs", seed))
        assert said is not None
        assert "of nearest's error" in said


# --- what the checks expect ----------------------------------------------------------------------


@pytest.mark.parametrize(("values", "shape", "bits"), codebooks.CORNERS)
def test_fixed_codebooks_are_those_of_the_plain_algorithm_without_ties(values, shape, bits):
    """Every weight against every entry; no two entries that differ are nearly equally near."""
    low, high = min(values), max(values)
    entries = [low + (high - low) * i / (2**bits - 1) for i in range(2**bits)]
    chosen: list[int] = []
    while True:
        nearest = []
        for value in values:
            first, second = sorted(range(2**bits), key=lambda i: abs(value - entries[i]))[:2]
            gap = abs(value - entries[second]) - abs(value - entries[first])
            assert gap > 0.02 * (high - low) / 2**bits or entries[first] == entries[second]
            nearest.append(first)
        if nearest == chosen:
            break
        chosen = nearest
        for entry in set(chosen):
            own = [v for v, c in zip(values, chosen, strict=True) if c == entry]
            entries[entry] = sum(own) / len(own)
    assert codebooks.lloyd(sorted(values), 2**bits)[0] == pytest.approx(entries)
    assert torch.Size(shape).numel() == len(values)


def test_expected_scales_cover_a_tensor_as_torch_does():
    x = torch.tensor([[-1.0, 3.0, 0.5], [0.25, 0.5, 2.0]])
    scale, zeros = linear.parameters(x, 8, False, 0)
    for row, s, z in zip(x, scale, zeros, strict=True):
        real = torch.fake_quantize_per_tensor_affine(row, float(s), z[0], -128, 127)
        assert torch.allclose(real, row, atol=0.51 * float(s))  # nothing is clipped
        assert float(row.max() - row.clamp(max=0).min()) == pytest.approx(255 * float(s))


def test_tiny_networks_stay_within_their_integers():
    for seed in range(20):
        for index in range(len(assembly.SETTINGS)):
            cases = adaround.Cases("quantize_network", "glyphs", seed)
            network = assembly._network(cases, index)
            for name, value in assembly._expected(network).items():
                if name.endswith(".bias"):
                    assert float(value.abs().max()) < 2**30
                if name.endswith(".multiplier"):
                    assert 2.0**-31 < float(value.min()) <= float(value.max()) < 2**30


# --- networks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_images():
    """Some held-out images instead of all."""
    with pytest.MonkeyPatch.context() as patch:
        images = held_out.images("glyphs", lab_checks.PROOF_SEED).head(100)
        accuracy = evaluate(held_out.dense("glyphs"), images)
        patch.setattr(held_out, "images", lambda dataset, seed, count=None: images)
        patch.setattr(held_out, "dense_accuracy", lambda dataset, seed, count=None: accuracy)
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
    "only_sixteen_columns": "entries differ",
    "rows_in_sixteens": "entries differ",
    "adds_to_what_is_there": "entries differ",
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
