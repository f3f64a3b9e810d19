"""Read CIFAR-10 from disk: an image folder, a zip of one, or torchvision's batches.

Everything is checked before anything is handed on: names, counts, sizes, every image. Files may be
broken or hostile; the answer is an error that names the file. Caching and choice of the set are
:mod:`codesign.datasets`. The images: Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images" (2009), section 3.1.
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
IMAGES = {"train": 50_000, "test": 10_000}
VAL_IMAGES = 5_000  # taken from the training images, 500 of each class
SOURCES = ("cifar10.zip", "cifar10", "cifar-10-batches-py")
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
MAX_IMAGE_BYTES = 2**20  # an image of 32x32 pixels needs less; a larger entry is not read

Images = tuple[np.ndarray, np.ndarray]  # uint8 [N, 3, 32, 32] and int64 labels [N]
Entries = dict[str, tuple[int, Callable[[], bytes]]]  # name: size in bytes and a way to read it


def find(folders: Iterable[Path]) -> Path | None:
    """The first of ``SOURCES`` in the first folder that has one, or None."""
    for folder in folders:
        for leaf in SOURCES:
            if (folder / leaf).exists():
                return folder / leaf
    return None


def identity(source: Path) -> str:
    """Fingerprint of names, sizes and modification times: the same file elsewhere is the same.

    Of a directory down to its class folders, whose times change when images come or go.
    """
    paths = [source.resolve(), *sorted(source.glob("*")), *sorted(source.glob("*/*"))]
    found = [(p.name, s.st_size, s.st_mtime_ns) for p in paths for s in [p.lstat()]]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def decode(source: Path) -> Iterator[tuple[str, Images]]:
    """Decode all of ``source``, then yield test, val and, last, train: name and images.

    Which images are held out for val depends on the order within each class alone. torchvision's
    files and folders numbered by class agree on that, so that a checkpoint trained from one source
    is not validated on its training images with the other.

    Raises:
        ValueError: files that are not what they should be; names the file.
        OSError: a file that may not be read.
    """
    read = _read_batches if source.name == "cifar-10-batches-py" else _read_image_folder
    decoded = {split: _by_class(*images) for split, images in read(source).items()}
    images, labels = _shuffled(*decoded["train"])
    is_val = _first_of_each_class(labels, VAL_IMAGES // len(CLASSES))
    yield "test", _shuffled(*decoded["test"])
    yield "val", (images[is_val], labels[is_val])
    yield "train", (images[~is_val], labels[~is_val])


def _by_class(images: np.ndarray, labels: np.ndarray) -> Images:
    order = np.argsort(labels, kind="stable")
    return images[order], labels[order]


def _shuffled(images: np.ndarray, labels: np.ndarray) -> Images:
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    return images[order], labels[order]


def _first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASSES)):
        chosen[np.flatnonzero(labels == label)[:count]] = True
    return chosen


def _read_image_folder(source: Path) -> dict[str, Images]:
    """Decode a directory, or a zip of one, in torchvision's ``ImageFolder`` layout."""
    if source.is_dir():
        return _decode_entries(source, _folder_entries(source))
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{source} is not a whole zip file: {error}; fetch it again") from None
    with archive:
        return _decode_entries(source, _zip_entries(archive))


def _folder_entries(source: Path) -> Entries:
    """Files up to three levels down. Links are followed: at a fixed depth they cannot loop."""
    entries: Entries = {}
    for depth in (1, 2, 3):
        for path in source.glob("/".join("*" * depth)):
            name = path.relative_to(source).as_posix()
            if _is_debris(name) or (depth < 3 and path.is_dir()):
                continue
            try:
                status = path.stat()
            except OSError as error:
                raise ValueError(f"{source}: {name!r} cannot be read: {error}") from None
            if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
                raise ValueError(f"{source}: {name!r} is not a file; allowed: images")
            entries[name] = (status.st_size, path.read_bytes)
    return entries


def _zip_entries(archive: zipfile.ZipFile) -> Entries:
    def reader(info: zipfile.ZipInfo) -> Callable[[], bytes]:
        return lambda: archive.read(info)

    listed = [info for info in archive.infolist() if not info.filename.endswith("/")]
    return {i.filename: (i.file_size, reader(i)) for i in listed if not _is_debris(i.filename)}


def _is_debris(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))  # of file managers


def _decode_entries(source: Path, entries: Entries) -> dict[str, Images]:
    """Check names and counts of all entries, then decode them in the order of their names."""
    listed: dict[str, list[tuple[str, int]]] = {split: [] for split in IMAGES}
    for name in sorted(entries):
        parts = name.split("/")
        if len(parts) != 3 or parts[0] not in listed or parts[1] not in CLASSES:
            raise ValueError(
                f"{source}: unexpected file {name!r}; allowed: train|test/<class>/<image> with "
                f"classes {CLASSES}"
            )
        listed[parts[0]].append((name, CLASSES.index(parts[1])))
    for split, pairs in listed.items():
        _check_counts(source, split, np.array([label for _, label in pairs], dtype=np.int64))
    decoded = {}
    for split, pairs in listed.items():
        bar = tqdm(pairs, desc=f"decoding {split}", leave=False)
        images = np.stack([_decode_image(source, name, *entries[name]) for name, _ in bar])
        decoded[split] = images, np.array([label for _, label in pairs], dtype=np.int64)
    return decoded


def _check_counts(source: Path, split: str, labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=len(CLASSES))
    expected = IMAGES[split] // len(CLASSES)
    if (counts != expected).any() or len(counts) != len(CLASSES):
        found = dict(zip(CLASSES, counts.tolist(), strict=False))
        raise ValueError(f"{source}: {split} has {found} images; allowed: {expected} of each class")


def _decode_image(source: Path, name: str, size: int, read: Callable[[], bytes]) -> np.ndarray:
    """RGB pixels ``[3, 32, 32]``; what an entry claims is checked before it is unpacked."""
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"{source}: {name!r} has {size:,} bytes; allowed: {MAX_IMAGE_BYTES:,}")
    try:
        with Image.open(BytesIO(read()), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            pixels = np.asarray(image.convert("RGB")) if image.size == (32, 32) else None
    except Exception as error:  # Pillow and zipfile raise whatever their parsers met
        raise ValueError(f"{source}: {name!r} is not a readable image: {error}") from error
    if pixels is None:
        raise ValueError(f"{source}: {name!r} is {width}x{height} pixels; allowed: 32x32")
    return pixels.transpose(2, 0, 1)


def _read_batches(source: Path) -> dict[str, Images]:
    """Read ``cifar-10-batches-py`` through torchvision, which checks the files' MD5 sums first."""
    from torchvision.datasets import CIFAR10

    decoded = {}
    for split in IMAGES:
        try:
            part = CIFAR10(str(source.parent), train=split == "train")
        except RuntimeError as error:
            raise ValueError(f"{source} is not what torchvision published: {error}") from None
        labels = np.array(part.targets, dtype=np.int64)
        _check_counts(source, split, labels)
        decoded[split] = part.data.transpose(0, 3, 1, 2), labels
    return decoded


def download(folder: Path) -> Path:
    """Download CIFAR-10 through torchvision (progress bar, MD5 check) into ``folder``.

    Only a whole set arrives there: a download that was cut leaves nothing to trip over.

    Raises:
        ConnectionError: the download failed; says what to do instead.
    """
    from torchvision.datasets import CIFAR10

    folder.mkdir(parents=True, exist_ok=True)
    arrived = folder / "cifar-10-batches-py"
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="cifar10.part-") as part:
            CIFAR10(part, download=True)
            (Path(part) / arrived.name).replace(arrived)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"CIFAR-10 could not be downloaded: {error}. Offline, use CODESIGN_DATASET=glyphs, or "
            "put cifar10.zip or cifar-10-batches-py/ into $CODESIGN_DATA."
        ) from None
    return arrived
