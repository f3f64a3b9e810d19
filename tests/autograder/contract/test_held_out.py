"""Held-out images and the dense network's accuracy on them: new ones, measured once."""

from __future__ import annotations

import torch

from autograder.contract import held_out
from autograder.contract.checking import Cases
from codesign.datasets import DatasetCard, ImageSet


def test_the_judges_glyphs_are_new_images():
    public = Cases("c", "glyphs", 0).images
    hidden = held_out.images("glyphs", 7)
    seen = {image.numpy().tobytes() for image in public.images}
    assert not any(image.numpy().tobytes() in seen for image in hidden.images[:500])


def test_the_dense_accuracy_is_measured_once_and_again_when_anything_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    card = DatasetCard("glyphs", "val", tuple("abcdefghij"), "made here", "a test")
    held = ImageSet(images, torch.arange(3), card)
    monkeypatch.setattr(held_out, "images", lambda dataset, seed, count=None: held)
    answers = iter([0.25, 0.5, 0.75, 1.0])
    monkeypatch.setattr(held_out.training, "evaluate", lambda model, data: next(answers))

    def asked() -> float:
        held_out.dense_accuracy.cache_clear()  # another process
        return held_out.dense_accuracy("glyphs", 1)

    assert [asked(), asked()] == [0.25, 0.25]
    images[0] = 1
    assert [asked(), asked()] == [0.5, 0.5]
    monkeypatch.setattr(held_out, "source_version", lambda: "another judge")
    assert asked() == 0.75
    for kept in tmp_path.iterdir():
        kept.write_text("nan")
    assert asked() == 1.0
    held_out.dense_accuracy.cache_clear()
