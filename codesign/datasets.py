"""Load the course's datasets: two image sets of one shape (3x32x32, ten classes), and text.

``cifar10`` is the real one and comes from files that are already there; ``glyphs``
(:mod:`codesign.glyphs`) is generated, so that nothing need be downloaded. Both are decoded once
into uint8 tensors and cached, with a note of the files they were made from; other files are decoded
anew. There is no silent download and no silent switch: ``load`` prints which set it uses and why.
Leaves out augmentation (:mod:`codesign.training`). Lecture 3, Lab 1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from codesign import checkpoints, cifar10, glyphs, text
from codesign.places import DATASETS, SPLITS, cache_dir, cache_file

SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class DatasetCard:
    """Where the images come from (``origin``) and why this set was chosen (``why``)."""

    name: str
    split: str
    classes: tuple[str, ...]
    origin: str
    why: str


@dataclass(frozen=True)
class ImageSet:
    """``images`` uint8 ``[N, 3, 32, 32]``, ``labels`` int64 ``[N]`` in 0..9, and the card."""

    images: torch.Tensor
    labels: torch.Tensor
    card: DatasetCard

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> ImageSet:
        """The first ``count`` images: the order is shuffled already, so this is a fair sample.

        Raises:
            ValueError: a count below 1. A count beyond the end gives what there is.
        """
        if count < 1:
            raise ValueError(f"got {count} images; allowed: at least 1")
        return ImageSet(self.images[:count], self.labels[:count], self.card)

    def parts(self, *counts: int) -> tuple[ImageSet, ...]:
        """Consecutive parts of these sizes, which share no image: one to search, one to report.

        Raises:
            ValueError: a count below 1, or more images together than there are.
        """
        if min(counts, default=0) < 1 or sum(counts) > len(self):
            raise ValueError(f"got parts of {counts} images; allowed: 1 to {len(self)} together")
        sizes = [*counts, len(self) - sum(counts)]
        pairs = zip(self.images.split(sizes), self.labels.split(sizes), strict=True)
        return tuple(ImageSet(*pair, self.card) for pair in pairs)[: len(counts)]


def normalize(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``[N, 3, H, W]`` to float32 in ±2, channels last: what every model takes.

    Raises:
        ValueError: images that are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"got images of {images.dtype}; allowed: torch.uint8 in 0..255")
    scaled = images.to(torch.float32).sub_(127.5).div_(63.75)
    return scaled.contiguous(memory_format=torch.channels_last)


def choose(name: str | None = None) -> tuple[str, str]:
    """The set to use and the reason: the argument, ``$CODESIGN_DATASET``, or what is there.

    Raises:
        ValueError: a name that is not one of ``DATASETS``.
    """
    if name is not None:
        why = "asked for"
    elif os.environ.get("CODESIGN_DATASET"):
        name, why = os.environ["CODESIGN_DATASET"], "set by CODESIGN_DATASET"
    elif cache_file("cifar10", "train").exists() or find_cifar10() is not None:
        name, why = "cifar10", "its files are here"
    else:
        name, why = "glyphs", "no CIFAR-10 files found; `python -m codesign.datasets cifar10` helps"
    if name not in DATASETS:
        raise ValueError(f"got dataset {name!r} ({why}); allowed: {list(DATASETS)}")
    return name, why


def load(name: str | None = None, split: str = "train", *, quiet: bool = False) -> ImageSet:
    """Load one split of one image set, decoding or generating it on first use.

    Args:
        name: ``"cifar10"``, ``"glyphs"``, or None to let :func:`choose` decide.
        split: ``"train"``, ``"val"`` (for students) or ``"test"`` (the judge's).
        quiet: print nothing.

    Raises:
        ValueError: unknown name or split, or data files that are not what they should be.
        FileNotFoundError: CIFAR-10 was asked for and none of its sources is there.
        OSError: a file that may not be read, or a cache that cannot be written.
    """
    name, why = choose(name)
    path = prepare(name, split)
    tensors, origin = checkpoints.tensors(path), checkpoints.metadata(path)["origin"]
    classes = cifar10.CLASSES if name == "cifar10" else tuple(glyphs.LETTERS)
    card = DatasetCard(name, split, classes, origin, why)
    if not quiet:
        print(f"{name} ({why}): {len(tensors['labels']):,} images for {split}")
    return ImageSet(tensors["images"], tensors["labels"], card)


def load_text(source: str | Path = "stdlib", split: str = "train") -> text.TextSet:
    """Load one split of a text: ``"stdlib"`` (:mod:`codesign.text`), or a UTF-8 file's path.

    Nothing is cached.

    Raises:
        As :func:`codesign.text.load`.
    """
    return text.load(source, split)


def prepare(name: str, split: str) -> Path:
    """Make sure that the decoded split exists, whole and of the files in use; return its path.

    Raises:
        As :func:`load`. After an error nothing new is cached.
    """
    if name not in DATASETS or split not in SPLITS:
        allowed = f"{list(DATASETS)} and {list(SPLITS)}"
        raise ValueError(f"got dataset {name!r}, split {split!r}; allowed: {allowed}")
    path = cache_file(name, split)
    source = find_cifar10() if name == "cifar10" else None
    identity = cifar10.identity(source) if source else None
    if _is_usable(path, identity):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{name}.lock")):  # another process may be making it just now
        if not _is_usable(path, identity):
            _make(name, split, source, identity)
    return path


def _make(name: str, split: str, source: Path | None, identity: str | None) -> None:
    """Generate or decode a split into the cache (of CIFAR-10 all of its source)."""
    path = cache_file(name, split)
    if name == "glyphs":
        _store(path, glyphs.generate(split), "codesign.glyphs", "generated")
    elif source is None or identity is None:
        path.unlink(missing_ok=True)  # only a damaged cache comes here: it helps nobody
        raise FileNotFoundError(
            "CIFAR-10 is not here. Put cifar10.zip or cifar10/ (train/<class>/…, test/<class>/…) "
            "or cifar-10-batches-py/ into $CODESIGN_DATA, or run "
            "`python -m codesign.datasets cifar10`, which downloads it; "
            "or use the embedded set: CODESIGN_DATASET=glyphs."
        )
    else:
        for part, images in cifar10.decode(source):
            _store(cache_file(name, part), images, str(source), identity)


def _is_usable(path: Path, identity: str | None) -> bool:
    """Whether ``path`` is a whole cached split, made from ``identity`` (None: from anything)."""
    try:
        with safe_open(path, "pt") as file:
            made_from = (file.metadata() or {}).get("identity")
            images = file.get_slice("images").get_shape()
            labels = file.get_slice("labels").get_shape()
    except (SafetensorError, OSError):
        return False  # missing or damaged; a cache is not the user's data: it is built again
    whole = made_from is not None and images == [*labels, *SHAPE]
    return whole and identity in (None, made_from)


def _store(path: Path, images: cifar10.Images, origin: str, identity: str) -> None:
    pixels, labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in images)
    metadata = {"origin": origin, "identity": identity}
    checkpoints.write_tensors(path, {"images": pixels, "labels": labels}, metadata)


def find_cifar10() -> Path | None:
    """The first source below ``$CODESIGN_DATA``, ``./data`` or the cache directory, or None."""
    named = os.environ.get("CODESIGN_DATA")
    folders = [Path(named).expanduser()] if named else []
    return cifar10.find([*folders, Path("data"), cache_dir()])


def main(name: str = typer.Argument(help="cifar10 or glyphs")) -> None:
    """Fetch (cifar10, when no source is there) or generate (glyphs) a set and decode it."""
    try:
        if name == "cifar10" and find_cifar10() is None:
            cifar10.download(cache_dir())
        for split in SPLITS:
            load(name, split)
    except (ValueError, OSError) as error:
        raise SystemExit(f"codesign.datasets: {error}") from None


if __name__ == "__main__":
    typer.run(main)
