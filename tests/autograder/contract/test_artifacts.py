"""Artifacts: stored, loaded and measured by their files; malformed ones are refused."""

from __future__ import annotations

import math

import pytest
import torch

from autograder.contract import artifacts
from autograder.contract.files import ExchangeError
from codesign.models import VGG


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (VGG([4]), "model"),
        ({"a": torch.ones(2)}, "tensors"),
        ({"a": [1, 2.5]}, "table"),
        (0.5, "table"),
        ("int main(void) {}", "source"),
    ],
)
def test_artifacts_come_back_and_their_size_is_that_of_the_files(tmp_path, value, kind):
    artifacts.store(tmp_path, "a", value)
    back = artifacts.fetch(tmp_path, "a")
    assert artifacts.kind_of(back) == kind
    assert artifacts.size(tmp_path, "a") == sum(p.stat().st_size for p in tmp_path.iterdir())
    if kind in ("table", "source"):
        assert back == value


def test_a_bad_artifact_leaves_the_stored_one_alone(tmp_path):
    artifacts.store(tmp_path, "a", {"x": torch.ones(2)})
    before = artifacts.digest(tmp_path, "a")
    for bad in ({"x": torch.tensor([math.nan])}, {"x": math.inf}, {"x": object()}, None):
        with pytest.raises((ValueError, TypeError)):
            artifacts.store(tmp_path, "a", bad)
    assert artifacts.digest(tmp_path, "a") == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "pickle"}', '{"kind": "model"}', "\xff"]
)
def test_malformed_records_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ExchangeError):
        artifacts.fetch(tmp_path, "a")
