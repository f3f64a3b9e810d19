"""Two image sets of one shape (3x32x32, ten classes), one code path.

``cifar10`` is the real one and comes from files that are already there; ``glyphs``
(:mod:`codesign.glyphs`) is generated, so that nothing need be downloaded. Both are decoded once
into uint8 tensors and cached. There is no silent download and no silent switch: ``load`` prints
which set it uses and why. Leaves out augmentation (:mod:`codesign.training`). Lecture 3, Lab 1.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from codesign import glyphs

DATASETS = ("cifar10", "glyphs")
SPLITS = ("train", "val", "test")
CIFAR10_CLASSES = (
    "airplane automobile bird cat deer dog frog horse ship truck".split()
)  # fmt: skip
CIFAR10_IMAGES = {"train": 50_000, "test": 10_000}
VAL_IMAGES = 5_000  # taken from CIFAR-10's training images, 500 of each class
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class DatasetCard:
    """Where the images come from and why this set was chosen."""

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
        """The first ``count`` images: the order is shuffled already, so this is a fair sample."""
        return ImageSet(self.images[:count], self.labels[:count], self.card)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``[N, 3, H, W]`` to float32 in about ±2, channels last: what every model takes."""
    scaled = images.to(torch.float32).sub_(127.5).div_(63.75)
    return scaled.contiguous(memory_format=torch.channels_last)


def cache_dir() -> Path:
    """``$CODESIGN_CACHE``, else ``$XDG_CACHE_HOME/codesign``, else ``~/.cache/codesign``."""
    base = os.environ.get("CODESIGN_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codesign"


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
    """
    name, why = choose(name)
    if split not in SPLITS:
        raise ValueError(f"got split {split!r}; allowed: {list(SPLITS)}")
    path = prepare(name, split)
    tensors, origin = load_file(path), str(path)
    classes = tuple(CIFAR10_CLASSES) if name == "cifar10" else tuple(glyphs.LETTERS)
    card = DatasetCard(name, split, classes, origin, why)
    if not quiet:
        print(f"{name} ({why}): {len(tensors['labels']):,} images for {split}")
    return ImageSet(tensors["images"], tensors["labels"].long(), card)


def cache_file(name: str, split: str) -> Path:
    """The decoded split; glyphs carry their generator's version, so a new one is a new file."""
    version = f"-v{glyphs.VERSION}" if name == "glyphs" else ""
    return cache_dir() / f"{name}{version}-{split}.safetensors"


def prepare(name: str, split: str) -> Path:
    """Make sure that the decoded split exists and is readable; return its path."""
    path = cache_file(name, split)
    if path.exists():
        try:
            load_file(path)
            return path
        except (SafetensorError, OSError):
            path.unlink()  # a cache is not the user's data: build it again
    if name == "glyphs":
        _store(path, *glyphs.generate(split))
    else:
        for part, images, labels in _decode_cifar10():
            _store(cache_file(name, part), images, labels)
    return path


def _store(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    tensors = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, part)
    part.replace(path)  # atomic: a reader sees the whole file or none


# --- CIFAR-10 ------------------------------------------------------------------------------------


def find_cifar10() -> Path | None:
    """The first source below ``$CODESIGN_DATA``, ``./data`` or the cache directory, or None."""
    folders = [os.environ.get("CODESIGN_DATA"), "data", str(cache_dir())]
    for folder in folders:
        for leaf in ("cifar10.zip", "cifar10", "cifar-10-batches-py"):
            if folder and (Path(folder) / leaf).exists():
                return Path(folder) / leaf
    return None


def _decode_cifar10() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    source = find_cifar10()
    if source is None:
        raise FileNotFoundError(
            "CIFAR-10 is not here. Put cifar10.zip or cifar10/ (train/<class>/…, test/<class>/…) "
            "or cifar-10-batches-py/ into $CODESIGN_DATA, or run "
            "`python -m codesign.datasets cifar10`, which downloads it; "
            "or use the embedded set: CODESIGN_DATASET=glyphs."
        )
    read = _read_batches if source.name == "cifar-10-batches-py" else _read_image_folder
    decoded = read(source)
    images, labels = _shuffled(*decoded["train"])
    is_val = _first_of_each_class(labels, VAL_IMAGES // len(CIFAR10_CLASSES))
    yield "test", *_shuffled(*decoded["test"])
    yield "val", images[is_val], labels[is_val]
    yield "train", images[~is_val], labels[~is_val]


def _shuffled(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    return images[order], labels[order]


def _first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(len(CIFAR10_CLASSES)):
        chosen[np.flatnonzero(labels == label)[:count]] = True
    return chosen


def _read_image_folder(source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Decode a directory, or a zip of one, in torchvision's ``ImageFolder`` layout."""
    if source.is_dir():
        files = {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}
        return _decode_files(source, {name: path.read_bytes for name, path in files.items()})
    try:
        with zipfile.ZipFile(source) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/")]
            return _decode_files(source, {n: lambda n=n: archive.read(n) for n in names})
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source} is not a whole zip file: {error}; fetch it again") from None


def _decode_files(source: Path, readers: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    by_split: dict[str, list[tuple[str, int]]] = {split: [] for split in CIFAR10_IMAGES}
    for name in sorted(readers):
        parts = name.split("/")
        if any(p.startswith((".", "__MACOSX")) for p in parts):
            continue  # what file managers leave behind
        if len(parts) != 3 or parts[0] not in by_split or parts[1] not in CIFAR10_CLASSES:
            raise ValueError(
                f"{source}: unexpected file {name!r}; allowed: train|test/<class>/<image> with "
                f"classes {CIFAR10_CLASSES}"
            )
        by_split[parts[0]].append((name, CIFAR10_CLASSES.index(parts[1])))
    for split, listed in by_split.items():
        counts = np.bincount([label for _, label in listed], minlength=10)
        _check_counts(source, split, counts)
    return {
        split: (
            np.stack(
                [
                    _decode_image(source, name, readers[name])
                    for name, _ in tqdm(listed, desc=f"decoding {split}", leave=False)
                ]
            ),
            np.array([label for _, label in listed], dtype=np.int64),
        )
        for split, listed in by_split.items()
    }


def _check_counts(source: Path, split: str, counts: np.ndarray) -> None:
    expected = CIFAR10_IMAGES[split] // len(CIFAR10_CLASSES)
    if (counts != expected).any() or len(counts) != len(CIFAR10_CLASSES):
        found = dict(zip(CIFAR10_CLASSES, counts.tolist(), strict=False))
        raise ValueError(f"{source}: {split} has {found} images; allowed: {expected} of each class")


def _decode_image(source: Path, name: str, read) -> np.ndarray:
    try:
        with Image.open(BytesIO(read())) as image:
            pixels = np.asarray(image.convert("RGB")) if image.size == (32, 32) else None
            size = image.size
    except (
        UnidentifiedImageError,
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{source}: {name!r} is not a readable image: {error}") from None
    if pixels is None:
        raise ValueError(f"{source}: {name!r} is {size[0]}x{size[1]} pixels; allowed: 32x32")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _read_batches(source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read ``cifar-10-batches-py`` through torchvision, which checks the files' MD5 sums first."""
    from torchvision.datasets import CIFAR10

    decoded = {}
    for split in CIFAR10_IMAGES:
        try:
            part = CIFAR10(str(source.parent), train=split == "train")
        except RuntimeError as error:
            raise ValueError(f"{source} is not what torchvision published: {error}") from None
        labels = np.array(part.targets, dtype=np.int64)
        _check_counts(source, split, np.bincount(labels, minlength=10))
        decoded[split] = (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), labels)
    return decoded


def download_cifar10(folder: Path) -> Path:
    """Download CIFAR-10 through torchvision (progress bar, MD5 check) into ``folder``.

    Raises:
        ConnectionError: the download failed; says what to do instead.
    """
    from torchvision.datasets import CIFAR10

    folder.mkdir(parents=True, exist_ok=True)
    try:
        CIFAR10(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"CIFAR-10 could not be downloaded: {error}. Offline, use CODESIGN_DATASET=glyphs, or "
            "put cifar10.zip or cifar-10-batches-py/ into $CODESIGN_DATA."
        ) from None
    return folder / "cifar-10-batches-py"


def main(name: str) -> None:
    """Fetch (cifar10, when no source is there) or generate (glyphs) a set and decode it."""
    if name == "cifar10" and find_cifar10() is None:
        download_cifar10(cache_dir())
    for split in SPLITS:
        load(name, split)


if __name__ == "__main__":
    typer.run(main)
