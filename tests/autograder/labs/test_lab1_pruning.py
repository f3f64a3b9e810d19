"""Lab 1's own: one function a check, and what its artifacts' checks must not be fooled by.

The artifacts are small stand-ins around a random network, so that nothing here trains.
"""

from __future__ import annotations

import lab_checks
import pytest
import torch
from lab_checks import NOWHERE
from solution_cells import definitions
from torch import nn

from autograder.contract import artifacts, checking, held_out, show
from autograder.contract.checking import Cases, LocalStudent
from autograder.contract.definition import find
from autograder.labs.lab1_pruning.checks import networks
from autograder.labs.lab1_pruning.checks.criteria import labelled_model, masked_accuracy
from autograder.labs.lab1_pruning.checks.random_vgg import random_vgg
from codesign import cost, measure, models
from codesign.datasets import DatasetCard, ImageSet, normalize

pytestmark = pytest.mark.lab1
LAB = "lab1_pruning"
ARTIFACTS = ["sparse_model", "fast_model", "compressed"]
NARROW = [10, 10, "M", 20, 20, "M", 40, 40, "M", 40]


@pytest.fixture(scope="module")
def solution():
    return definitions(LAB)


def run(check, outputs):
    return lab_checks.run(LAB, check, {}, outputs)


def test_no_function_is_used_by_two_checks(solution):
    """So that a wrong function costs one check: neither directly nor through another solution."""
    called = {}
    for check in find(LAB).targets:
        if not lab_checks.is_function(LAB, check):
            continue
        student = LocalStudent(solution, NOWHERE)
        names = called.setdefault(check, set())
        student.call = lambda f, *a, call=student.call, names=names, **k: (
            names.add(f) or call(f, *a)
        )
        checking.run(LAB, check, student, "glyphs", 5)
    graded = set().union(*called.values())
    for check, names in called.items():
        others = graded - names
        assert not names & set().union(*(called[other] for other in called if other != check))
        for name in names:
            assert not others & set(solution[name].__code__.co_names), name


# --- artifacts -----------------------------------------------------------------------------------


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
    monkeypatch.setattr(held_out, "images", lambda dataset, seed: images)
    monkeypatch.setattr(held_out, "dense_accuracy", lambda dataset, seed: 1.0)
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
def test_a_full_score_artifact(check, handed_in):
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
    verdict = run(check, handed_in)
    assert verdict.points == 0, show.text(verdict)


def test_half_the_sparsity_halves_the_credit_for_accuracy(handed_in):
    figure = find(LAB).targets["sparse_model"].figures["glyphs"]["sparsity"]
    model = artifacts.fetch(handed_in, "sparse_model")
    middle, weights = (figure.target + figure.floor) / 2, cost.weighted_layers(model).values()
    total = sum(layer.weight.numel() for layer in weights)
    surplus = round((cost.sparsity(model) - middle) * total)
    with torch.no_grad():
        flat = model.features.conv6.weight.view(-1)
        flat[(flat == 0).nonzero().flatten()[:surplus]] = 1e-9
    artifacts.store(handed_in, "sparse_model", model)
    sparsity, drop = run("sparse_model", handed_in).rows
    assert sparsity.points == pytest.approx(sparsity.max_points / 2, rel=1e-3)
    assert drop.points == pytest.approx(drop.max_points / 2, rel=1e-3)


@pytest.mark.serial
def test_latency_is_measured_against_the_dense_network():
    """A network with a tenth of the MACs is faster than the dense one, and not the other way."""
    narrow, dense = random_narrow(), widened(random_narrow(), 1e-7)
    assert networks.latency_ratio(narrow, dense, 0.5).median < 0.9
    assert networks.latency_ratio(dense, narrow, 0.5).median > 1.1


def test_a_ratio_within_noise_of_the_target_is_left_to_a_person(handed_in, monkeypatch):
    figure = find(LAB).targets["fast_model"].figures["glyphs"]["latency_ratio"]
    noisy = measure.Measurement(figure.target + 0.01, 0.5, 200, "×", "made up")
    monkeypatch.setattr(networks, "latency_ratio", lambda *_: noisy)
    verdict = run("fast_model", handed_in)
    assert verdict.inconclusive
    assert verdict.rows[0].points == figure.points


def test_the_scan_case_leaves_the_model_as_it_was():
    cases = Cases("sensitivity_scan", "glyphs", 4)
    model, images, labels = labelled_model(cases)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer = model.classifier
    masked_accuracy(model, layer, layer.weight > 0, images, labels)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert masked_accuracy(model, layer, layer.weight < 9e9, images, labels) == 1.0


def raising(function, when):
    """``function``, but for an exception where ``when`` says so."""

    def wrapped(*args, **kwargs):
        if when(*args):
            raise IndexError("an edge that was forgotten")
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("check", "function", "when", "points"),
    [
        ("fine_grained_prune", "fine_grained_prune", lambda w, sparsity: sparsity == 0, (6, 8)),
        ("nm_prune", "nm_prune", lambda *args: True, (4, 8)),
        ("nm_prune", "nm_prune", lambda w, n, m: (n, m) == (1, 4), (6, 8)),
        ("netadapt", "netadapt_proposals", lambda w, table, t, step: True, (0, 6)),
        ("reconstruct", "reconstruct", lambda x, y: not x[:, -1].any(), (6, 8)),
    ],
)
def test_an_exception_in_one_case_takes_one_row(check, function, when, points):
    namespace = dict(definitions(LAB))
    namespace[function] = raising(namespace[function], when)
    verdict = lab_checks.run(LAB, check, namespace)
    share, out_of = points
    assert verdict.points == pytest.approx(verdict.max_points * share / out_of)


def test_proposals_that_raise_where_none_is_due_keep_the_other_rows():
    namespace = dict(definitions(LAB))
    right = namespace["netadapt_proposals"]
    namespace["netadapt_proposals"] = lambda *args: [width + 0 for width in right(*args)]
    verdict = lab_checks.run(LAB, "netadapt", namespace)
    assert verdict.points == pytest.approx(verdict.max_points * 2 / 3)
    assert "TypeError" in "".join(row.message for row in verdict.rows)
