"""Held-out test images and the dense baseline that accuracy is compared with.

With the public seed, in a student's kernel, the images are those of the validation split.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from functools import lru_cache
from typing import cast

import torch

from autograder.contract.environment import PUBLIC_SEED
from autograder.contract.version import source_version
from codesign import checkpoints, datasets, glyphs, training
from codesign.datasets import DatasetCard, ImageSet
from codesign.models import VGG


def dense(dataset: str) -> VGG:
    """Load the shipped dense VGG of ``dataset``, in evaluation mode."""
    return cast(VGG, checkpoints.load(checkpoints.shipped("vgg", dataset)))


@lru_cache(maxsize=4)
def images(dataset: str, seed: int, count: int | None = None) -> ImageSet:
    """Images to measure accuracy on: for glyphs the judge draws new ones from its secret seed.

    Args:
        count: how many it draws, None: as many as the test split has. Of images that are there, in
            CIFAR-10 and with the public seed, it takes all.
    """
    if seed == PUBLIC_SEED:
        return datasets.load(dataset, "val", quiet=True)
    if dataset == "glyphs":
        pixels, labels = glyphs.generate("test", seed=seed, count=count)
        card = DatasetCard("glyphs", "test", tuple(glyphs.LETTERS), "the judge's seed", "grading")
        return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), card)
    return datasets.load(dataset, "test", quiet=True)


@lru_cache(maxsize=4)
def dense_accuracy(dataset: str, seed: int, count: int | None = None) -> float:
    """Measure the dense VGG's accuracy once a machine and cache it; it takes seconds.

    Args:
        count: see :func:`images`.
    """
    data = images(dataset, seed, count)
    digest = hashlib.sha256(data.images.numpy().tobytes() + data.labels.numpy().tobytes())
    digest.update(checkpoints.shipped("vgg", dataset).with_suffix(".safetensors").read_bytes())
    digest.update(f"{torch.__version__} {platform.machine()} {source_version()}".encode())
    kept = datasets.cache_dir() / f"dense-accuracy-{digest.hexdigest()[:32]}"
    with contextlib.suppress(OSError, ValueError):
        if 0 <= (known := float(kept.read_text())) <= 1:
            return known
    measured = training.evaluate(dense(dataset), data)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.name}-{os.getpid()}.part")
        part.write_text(repr(measured))
        part.replace(kept)
    return measured
