"""Lab 1's artifacts: what their checks must not be fooled by.

The artifacts are small stand-ins around a random network, so that nothing here trains.
"""

from __future__ import annotations

import lab_checks
import pytest
import torch
from solution_cells import definitions
from torch import nn

from autograder.contract import artifacts, held_out, show
from autograder.contract.checking import Cases
from autograder.contract.definition import find
from autograder.labs.lab1_pruning.checks import networks
from autograder.labs.lab1_pruning.checks.criteria import masked_accuracy
from autograder.labs.lab1_pruning.checks.random_vgg import labelled_model, random_vgg
from codesign import cost, measure, models
from codesign.datasets import DatasetCard, ImageSet, normalize

pytestmark = pytest.mark.lab1
LAB = "lab1_pruning"
ARTIFACTS = ["sparse_model", "fast_model", "compressed"]
NARROW = [10, 10, "M", 20, 20, "M", 40, 40, "M", 40]


@pytest.fixture(scope="module")
def solution():
    return definitions(LAB)


@pytest.fixture(scope="module")
def run(solution):
    """A check's verdict on the solution's functions and the artifacts of a folder."""
    return lambda check, outputs: lab_checks.run(LAB, check, solution, outputs)


def random_narrow() -> nn.Module:
    """A narrow network that survives the compressed file: 31 levels a layer, the rest fp16."""
    model = random_vgg(Cases("stand-in", "glyphs", 8), list(NARROW))
    for value in model.state_dict().values():
        if value.ndim > 1:
            unit = value.abs().max() / 15
            value.copy_((value / unit).round() * unit)
        elif value.ndim:
            value.copy_(value.half())
    return model


def widened(narrow: nn.Module, filler: float) -> nn.Module:
    """The reference architecture around ``narrow``; what is new in the weights is ``filler``."""
    wide = models.build({"architecture": "vgg"})
    for name, value in wide.state_dict().items():
        own = narrow.state_dict()[name]
        if name.endswith("weight") and value.ndim > 1:
            value.fill_(filler)
        elif value.ndim:
            value.fill_(float(name.endswith("running_var")))
        value[tuple(slice(size) for size in own.shape)] = own
    return wide.eval()


@pytest.fixture(scope="module")
def stand_ins():
    narrow = random_narrow()
    pixels = torch.randint(0, 256, (120, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    images = pixels.to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        logits = narrow(normalize(images))
        narrow.classifier.bias.copy_((narrow.classifier.bias - logits.mean(0)).half())
        labels = narrow(normalize(images)).argmax(1)
    return narrow, ImageSet(images, labels, DatasetCard("glyphs", "test", (), "", ""))


@pytest.fixture
def handed_in(stand_ins, tmp_path, monkeypatch, solution):
    """A full-score submission in ``outputs/glyphs`` against a stand-in for the dense network."""
    narrow, images = stand_ins
    monkeypatch.setattr(held_out, "dense", lambda dataset: widened(narrow, 1e-7))
    monkeypatch.setattr(held_out, "images", lambda dataset, seed, count=None: images)
    monkeypatch.setattr(held_out, "dense_accuracy", lambda dataset, seed, count=None: 1.0)
    monkeypatch.setattr(networks, "latency_ratio", counted_ratio)
    outputs = tmp_path / "outputs" / "glyphs"
    sparse = widened(narrow, 0.0)
    artifacts.store(outputs, "sparse_model", sparse)
    artifacts.store(outputs, "fast_model", narrow)
    artifacts.store(outputs, "compressed", solution["compress"](sparse))
    return outputs


def counted_ratio(model, dense, limit):
    """MACs instead of seconds: the same on every machine."""
    return measure.Measurement(cost.macs(model) / cost.macs(dense), 0.0, 2, "×", "counted")


@pytest.mark.parametrize("check", ARTIFACTS)
def test_a_full_score_artifact(check, handed_in, run):
    verdict = run(check, handed_in)
    assert verdict.points == verdict.max_points, show.text(verdict)


@pytest.mark.parametrize(
    ("check", "forgery"),
    [
        ("sparse_model", "dense"),
        ("sparse_model", "all_zeros"),
        ("sparse_model", "claims_its_sparsity"),
        ("sparse_model", "tiny_instead_of_zero"),
        ("fast_model", "dense"),
        ("fast_model", "untrained"),
        ("compressed", "dense"),
    ],
)
def test_what_was_handed_out_or_is_useless_earns_nothing(check, forgery, handed_in):
    lab_checks.mutant(LAB, f"{check}: {forgery}").forge(handed_in)
    verdict = lab_checks.run(LAB, check, {}, handed_in)
    assert verdict.points == 0, show.text(verdict)


def test_a_network_that_is_missing_leaves_its_function_the_points(run, tmp_path):
    verdict = run("sparse_model", tmp_path)
    assert [row.points for row in verdict.rows] == [0, 0, 1, 1]
    assert "was not handed in" in verdict.rows[0].message


def test_half_the_sparsity_halves_the_credit_for_accuracy(handed_in, run):
    figure = find(LAB).targets["sparse_model"].figures["glyphs"]["sparsity"]
    model = artifacts.fetch(handed_in, "sparse_model")
    middle, weights = (figure.target + figure.floor) / 2, cost.weighted_layers(model).values()
    total = sum(layer.weight.numel() for layer in weights)
    surplus = round((cost.sparsity(model) - middle) * total)
    with torch.no_grad():
        flat = model.features.conv6.weight.view(-1)
        flat[(flat == 0).nonzero().flatten()[:surplus]] = 1e-9
    artifacts.store(handed_in, "sparse_model", model)
    sparsity, drop = run("sparse_model", handed_in).rows[:2]
    assert sparsity.points == pytest.approx(sparsity.max_points / 2, rel=1e-3)
    assert drop.points == pytest.approx(drop.max_points / 2, rel=1e-3)


@pytest.mark.serial
def test_latency_is_measured_against_the_dense_network():
    """A network with a tenth of the MACs is faster than the dense one, and not the other way."""
    narrow, dense = random_narrow(), widened(random_narrow(), 1e-7)
    assert networks.latency_ratio(narrow, dense, 0.5).median < 0.9
    assert networks.latency_ratio(dense, narrow, 0.5).median > 1.1


def test_a_ratio_within_noise_of_the_target_is_left_to_a_person(handed_in, run, monkeypatch):
    figure = find(LAB).targets["fast_model"].figures["glyphs"]["latency_ratio"]
    noisy = measure.Measurement(figure.target + 0.01, 0.5, 200, "×", "made up")
    monkeypatch.setattr(networks, "latency_ratio", lambda *_: noisy)
    verdict = run("fast_model", handed_in)
    assert verdict.inconclusive
    assert verdict.rows[0].points == figure.points


def test_the_scan_case_leaves_the_model_as_it_was():
    cases = Cases("sensitivity_scan", "glyphs", 4)
    model, images, labels = labelled_model(cases, [6, "M", 8, "M", 7], 80)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer = model.classifier
    masked_accuracy(model, layer, layer.weight > 0, images, labels)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert masked_accuracy(model, layer, layer.weight < 9e9, images, labels) == 1.0
