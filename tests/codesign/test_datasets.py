"""Both image sets: sources, broken and hostile files, the cache, the choice of the set.

CIFAR-10 is faked with a few images of each class; only the expected counts are patched.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from codesign import checkpoints, cifar10, datasets, glyphs, places

IMAGES = {"train": 30, "test": 20}
VAL_OF_CLASS = 1


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty ``$CODESIGN_DATA``, cache and working directory, and small expected counts."""
    for name in ("data", "cache", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("CODESIGN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CODESIGN_DATASET", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(cifar10, "IMAGES", IMAGES)
    monkeypatch.setattr(cifar10, "VAL_IMAGES", 10 * VAL_OF_CLASS)
    monkeypatch.setattr(glyphs, "SIZES", {"train": 30, "val": 20, "test": 20})
    return tmp_path


def pixels(split: str, label: int, index: int) -> np.ndarray:
    """``[32, 32, 3]``, another one for each (split, label, index)."""
    seed = [list(IMAGES).index(split), label, index]
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, form: str = "PNG") -> bytes:
    buffer = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form)
    return buffer.getvalue()


@cache
def layout() -> Mapping[str, bytes]:
    """An ImageFolder as {name: file content}."""
    files = {
        f"{split}/{kind}/{index:04}.png": encoded(pixels(split, label, index))
        for split, total in IMAGES.items()
        for label, kind in enumerate(cifar10.CLASSES)
        for index in range(total // 10)
    }
    return MappingProxyType(files)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's own files, classes interleaved, with the MD5 sums that it then expects."""
    from torchvision.datasets import CIFAR10

    folder = folder / CIFAR10.base_folder
    folder.mkdir()

    def store(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(split: str) -> dict:
        pairs = [(label, i) for i in range(IMAGES[split] // 10) for label in reversed(range(10))]
        rows = [pixels(split, *pair).transpose(2, 0, 1).ravel() for pair in pairs]
        return {"data": np.stack(rows), "labels": [label for label, _ in pairs]}

    meta = {"label_names": list(cifar10.CLASSES)}
    names = ("filename", "md5")
    patches = {
        "train_list": [store("data_batch_1", batch("train"))],
        "test_list": [store("test_batch", batch("test"))],
        "meta": dict(
            zip(names, store("batches.meta", meta), strict=True),
            key="label_names",
        ),
    }
    for name, value in patches.items():
        monkeypatch.setattr(CIFAR10, name, value)
    return folder


def load_all() -> dict[str, datasets.ImageSet]:
    return {split: datasets.load("cifar10", split, quiet=True) for split in datasets.SPLITS}


def same(a: dict[str, datasets.ImageSet], b: dict[str, datasets.ImageSet]) -> bool:
    return all(
        torch.equal(a[s].images, b[s].images) and torch.equal(a[s].labels, b[s].labels) for s in a
    )


def cached(place: Path) -> list[Path]:
    """What lies in the cache, besides its lock."""
    return [path for path in (place / "cache").iterdir() if not path.name.startswith(".")]


def nothing_cached(place: Path) -> bool:
    return cached(place) == []


def refuses(place: Path, *words: str) -> None:
    """Loading fails with a message that has all ``words``, and leaves the cache empty."""
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        datasets.load("cifar10", "test")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert nothing_cached(place)


# --- what is read --------------------------------------------------------------------------------


def test_every_image_arrives_once_with_its_label(place):
    write_folder(place / "data/cifar10", layout())
    sets = load_all()
    assert {split: len(part) for split, part in sets.items()} == {
        "train": 20,
        "val": 10,
        "test": 20,
    }
    held_in = [sets["train"], sets["val"]]
    for source, parts in {"train": held_in, "test": [sets["test"]]}.items():
        got = {
            image.numpy().tobytes(): int(y)
            for p in parts
            for image, y in zip(p.images, p.labels, strict=True)
        }
        expected = {
            pixels(source, label, i).transpose(2, 0, 1).tobytes(): label
            for label in range(10)
            for i in range(IMAGES[source] // 10)
        }
        assert got == expected
    assert torch.equal(sets["val"].labels.bincount(), torch.full((10,), VAL_OF_CLASS))


def test_images_have_the_documented_shape_and_order(place):
    write_folder(place / "data/cifar10", layout())
    part = datasets.load("cifar10", "train", quiet=True)
    assert part.images.dtype == torch.uint8
    assert part.labels.dtype == torch.int64
    assert part.images.shape[1:] == datasets.SHAPE
    assert part.images.is_contiguous()
    assert part.labels.tolist() != sorted(part.labels.tolist()), "head() relies on shuffled images"


def test_folder_zip_and_batches_give_the_same_splits(place, monkeypatch):
    write_folder(place / "data/cifar10", layout())
    from_folder = load_all()
    shutil.rmtree(place / "data/cifar10")
    write_zip(place / "data/cifar10.zip", layout(), zipfile.ZIP_DEFLATED)
    from_zip = load_all()
    (place / "data/cifar10.zip").unlink()
    write_batches(place / "data", monkeypatch)
    from_batches = load_all()
    assert same(from_folder, from_zip)
    assert same(from_folder, from_batches)
    assert "batches" in from_batches["val"].card.origin


def test_grayscale_and_transparent_images_become_rgb(place):
    gray = Image.fromarray(pixels("test", 3, 0)[..., 0])
    clear = Image.fromarray(np.dstack([pixels("test", 3, 1), pixels("test", 3, 0)[..., :1]]))
    files = dict(layout())
    files["test/cat/0000.png"], files["test/cat/0001.png"] = encoded(gray), encoded(clear)
    write_folder(place / "data/cifar10", files)
    part = datasets.load("cifar10", "test", quiet=True)
    cats = {image.numpy().tobytes() for image in part.images[part.labels == 3]}
    level = pixels("test", 3, 0)[..., 0]
    assert cats == {
        np.stack([level] * 3).tobytes(),
        pixels("test", 3, 1).transpose(2, 0, 1).tobytes(),
    }


def test_what_file_managers_leave_behind_is_skipped(place):
    debris = {".DS_Store": b"x", "train/.DS_Store": b"x", "__MACOSX/train/cat/._0000.png": b"x"}
    write_zip(place / "data/cifar10.zip", layout() | debris)
    assert len(datasets.load("cifar10", "test", quiet=True)) == IMAGES["test"]


def test_linked_folders_are_followed(place):
    real = write_folder(place / "elsewhere", layout())
    (place / "data/cifar10").mkdir()
    for split in IMAGES:
        (place / "data/cifar10" / split).symlink_to(real / split)
    assert len(datasets.load("cifar10", "test", quiet=True)) == IMAGES["test"]


# --- what is refused -----------------------------------------------------------------------------


def without(name: str) -> dict[str, bytes]:
    return {key: value for key, value in layout().items() if key != name}


HOSTILE_IMAGES = {
    "text": (b"not an image", "readable image"),
    "empty": (b"", "readable image"),
    "cut short": (encoded(pixels("test", 0, 0))[:-900], "readable image"),
    "16 pixels": (encoded(pixels("test", 0, 0)[:16, :16]), "16x16"),
    "one row more": (encoded(np.zeros((33, 32, 3), np.uint8)), "32x33"),
    "huge file": (b"\0" * (cifar10.MAX_IMAGE_BYTES + 1), "1,048,577 bytes"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n", "readable image"),
}


@pytest.mark.parametrize("case", HOSTILE_IMAGES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_an_image_that_is_none_is_named(place, case, packed):
    content, word = HOSTILE_IMAGES[case]
    files = layout() | {"test/dog/0001.png": content}
    if packed:
        source = write_zip(place / "data/cifar10.zip", files)
    else:
        source = write_folder(place / "data/cifar10", files)
    refuses(place, str(source), "test/dog/0001.png", word)


def test_an_image_of_many_pixels_is_refused_before_it_is_decoded(place):
    width = 50_000
    header = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += struct.pack(">I", zipfile.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"
    write_folder(place / "data/cifar10", layout() | {"test/dog/0001.png": bomb})
    refuses(place, "test/dog/0001.png")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["train", "0", "3 of each class"]),
        (without("train/ship/0002.png"), ["train", "'ship': 2"]),
        (layout() | {"test/ship/0009.png": b""}, ["test", "'ship': 3"]),
        (layout() | {"train/zebra/0000.png": b""}, ["train/zebra/0000.png"]),
        (layout() | {"extra/cat/0000.png": b""}, ["extra/cat/0000.png"]),
        (layout() | {"README.txt": b""}, ["README.txt"]),
        (layout() | {"train/cat/more/0000.png": b""}, ["train/cat/more"]),
        ({f"cifar10/{k}": v for k, v in layout().items()}, ["cifar10/"]),
    ],
    ids=["empty", "one less", "one more", "class", "split", "file", "deep", "nested"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_wrong_layout_is_named(place, files, words, packed):
    if packed:
        source = write_zip(place / "data/cifar10.zip", files)
    else:
        (place / "data/cifar10").mkdir()
        source = write_folder(place / "data/cifar10", files)
    refuses(place, str(source), *words)


def test_a_truncated_zip_is_refused(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    path.write_bytes(path.read_bytes()[:-2000])
    refuses(place, str(path), "not a whole zip file")


def test_a_zip_entry_with_a_wrong_checksum_is_refused(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train/cat/0001.png")
    content[info.header_offset + 30 + len(info.filename) + 200] ^= 1
    path.write_bytes(content)
    refuses(place, "train/cat/0001.png", "CRC")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(place, monkeypatch):
    bomb = b"\0" * (4 * 2**20)
    files = layout() | {"train/cat/0001.png": bomb}
    path = write_zip(place / "data/cifar10.zip", files, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    read: list[str] = []
    plain = zipfile.ZipFile.read
    monkeypatch.setattr(
        zipfile.ZipFile, "read", lambda self, info: read.append(info.filename) or plain(self, info)
    )
    refuses(place, "train/cat/0001.png", "4,194,304 bytes")
    assert "train/cat/0000.png" in read
    assert "train/cat/0001.png" not in read


def test_an_entry_that_lies_about_its_size_is_cut_at_what_it_claims(place):
    """The directory says 100 bytes, the data unpack to 2 MB: zipfile stops at 100."""
    name = "train/cat/0001.png"
    files = layout() | {name: b"\0" * 2_345_678}
    path = write_zip(place / "data/cifar10.zip", files, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 2_345_678)) == 2
    path.write_bytes(content.replace(struct.pack("<I", 2_345_678), struct.pack("<I", 100)))
    refuses(place, name, "readable image")


def test_an_encrypted_entry_is_refused(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1  # the "encrypted" bit of the first entry
    content[6] |= 1
    path.write_bytes(content)
    refuses(place, "train/airplane/0000.png", "encrypted")


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
@example(edits=[(0.333984375, 0)])  # a name that begins with a zero byte
def test_a_damaged_zip_is_read_or_refused_never_anything_else(place, edits):
    path = place / "fuzz.zip"
    small = {k: v for k, v in layout().items() if k.endswith("0000.png")}
    content = bytearray(write_zip(path, small, zipfile.ZIP_DEFLATED).read_bytes())
    directory = content.index(b"PK\x01\x02")
    for share, byte in edits:  # half of them where the structure is
        at = (
            int(share * len(content))
            if byte % 2
            else directory + int(share * (len(content) - directory))
        )
        content[at] = byte
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "IMAGES", {"train": 10, "test": 10})
        patch.setattr(cifar10, "VAL_IMAGES", 0)
        try:
            outcome = str(len(dict(cifar10.decode(path))["train"][1]))
        except ValueError as error:
            outcome = str(error)
    assert outcome == "10" or str(path) in outcome


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    form=st.sampled_from(cifar10.IMAGE_FORMATS),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_image_is_read_or_refused_never_anything_else(form, edits):
    content = bytearray(encoded(pixels("test", 0, 0), form))
    for share, byte in edits:
        content[int(share**3 * len(content))] = byte  # mostly in the header
    try:
        image = cifar10._decode_image(Path("x.zip"), "a.png", len(content), lambda: bytes(content))
    except ValueError as error:
        message = str(error)
        assert message.startswith("x.zip: 'a.png'")
    else:
        assert image.shape == datasets.SHAPE


def test_a_folder_linked_into_itself_ends_in_an_error(place):
    folder = write_folder(place / "data/cifar10", layout())
    (folder / "train/loop").symlink_to(folder)
    refuses(place, "train/loop")


@pytest.mark.parametrize("where", ["train/cat/0001.png", "train/cat"])
def test_a_link_to_itself_is_named(place, where):
    folder = write_folder(place / "data/cifar10", layout())
    path = folder / where
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(path)
    refuses(place, where)


def test_a_pipe_is_named_and_not_waited_for(place):
    folder = write_folder(place / "data/cifar10", without("train/cat/0001.png"))
    os.mkfifo(folder / "train/cat/0001.png")
    refuses(place, "train/cat/0001.png", "not a file")


def test_changed_batches_are_refused_before_they_are_unpickled(place, monkeypatch):
    folder = write_batches(place / "data", monkeypatch)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": "other"}))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    refuses(place, str(folder), "not what torchvision published")


def test_a_source_without_permission_is_named(place, monkeypatch):
    path = write_zip(place / "data/cifar10.zip", layout())

    def denied(name: Path) -> None:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(zipfile, "ZipFile", denied)
    with pytest.raises(PermissionError, match=re.escape(str(path))):
        datasets.load("cifar10", "test")
    assert nothing_cached(place)


def test_an_image_without_permission_is_named(place, monkeypatch):
    folder = write_folder(place / "data/cifar10", layout())
    plain = Path.read_bytes

    def denied(path: Path) -> bytes:
        if path.name == "0001.png":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    refuses(place, str(folder), "0001.png", "Permission denied")


# --- the cache -----------------------------------------------------------------------------------


def test_a_source_is_decoded_once(place, monkeypatch):
    write_zip(place / "data/cifar10.zip", layout())
    first = load_all()
    monkeypatch.setattr(cifar10, "decode", lambda _: pytest.fail("decoded again"))
    assert same(first, load_all())


def test_the_cache_outlives_its_source(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    first = load_all()
    path.unlink()
    assert same(first, load_all())
    assert load_all()["val"].card.origin == str(path)


def other_layout() -> dict[str, bytes]:
    files = dict(layout())
    files["test/cat/0000.png"] = encoded(np.full((32, 32, 3), 7, np.uint8))
    return files


def test_another_source_is_not_answered_from_the_old_cache(place, monkeypatch):
    write_zip(place / "data/cifar10.zip", layout())
    first = load_all()
    (place / "other").mkdir()
    write_zip(place / "other/cifar10.zip", other_layout())
    monkeypatch.setenv("CODESIGN_DATA", str(place / "other"))
    second = load_all()
    assert not same(first, second)
    assert second["test"].card.origin == str(place / "other/cifar10.zip")


def test_the_same_source_elsewhere_is_answered_from_the_cache(place, monkeypatch):
    path = write_zip(place / "data/cifar10.zip", layout())
    first = load_all()
    path.rename(place / "work/cifar10.zip")
    monkeypatch.setenv("CODESIGN_DATA", str(place / "work"))
    monkeypatch.setattr(cifar10, "decode", lambda _: pytest.fail("decoded again"))
    assert same(first, load_all())


def test_a_folder_that_got_another_image_is_decoded_again(place):
    folder = write_folder(place / "data/cifar10", layout())
    first = load_all()
    (folder / "test/cat/0000.png").unlink()
    os.utime(folder / "test/cat", ns=(0, 0))
    write_folder(folder, other_layout())
    assert not same(first, load_all())


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other tensors", "other shape"])
def test_a_damaged_cache_is_built_again(place, damage):
    write_zip(place / "data/cifar10.zip", layout())
    first = load_all()
    path = datasets.cache_file("cifar10", "val")
    content, metadata = path.read_bytes(), checkpoints.metadata(path)
    path.unlink()  # the loaded tensors are mapped from it
    if damage in ("other tensors", "other shape"):
        name = {"other tensors": "pixels", "other shape": "images"}[damage]
        tensors = {name: torch.zeros(3, 2), "labels": torch.zeros(10).long()}
        save_file(tensors, path, metadata)
    else:
        path.write_bytes({"cut": content[:-5], "text": b"hello", "empty": b""}[damage])
    assert same(first, load_all())


def test_a_damaged_cache_without_a_source_does_not_stay_in_the_way(place):
    datasets.cache_file("cifar10", "train").write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="CIFAR-10 is not here"):
        datasets.load("cifar10")
    assert datasets.choose()[0] == "glyphs"


def test_a_source_that_broke_later_changes_nothing_in_the_cache(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    load_all()
    before = {p.name: p.read_bytes() for p in cached(place)}
    path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a whole zip file"):
        datasets.load("cifar10", "test")
    assert {p.name: p.read_bytes() for p in cached(place)} == before


def test_a_full_disk_leaves_no_pieces(place, monkeypatch):
    def full(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write_zip(place / "data/cifar10.zip", layout())
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        datasets.load("cifar10", "test")
    assert nothing_cached(place)


def test_others_may_read_the_cache(place):
    datasets.load("glyphs", "val", quiet=True)
    plain = place / "plain"
    plain.touch()
    assert datasets.cache_file("glyphs", "val").stat().st_mode == plain.stat().st_mode


def test_threads_may_prepare_at_once(place):
    write_zip(place / "data/cifar10.zip", layout())
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: load_all(), range(4)))
    assert all(same(results[0], other) for other in results[1:])
    assert len(cached(place)) == 3


def test_glyphs_of_another_version_are_another_file(monkeypatch):
    old = datasets.cache_file("glyphs", "val")
    monkeypatch.setattr(places, "GLYPHS_VERSION", places.GLYPHS_VERSION + 1)
    assert datasets.cache_file("glyphs", "val") != old


# --- the choice ----------------------------------------------------------------------------------


def test_without_files_glyphs_are_chosen_and_the_reason_is_printed(capsys):
    part = datasets.load(split="val")
    assert part.card.name == "glyphs"
    assert part.card.classes == tuple(glyphs.LETTERS)
    assert "no CIFAR-10 files found" in part.card.why
    assert f"glyphs ({part.card.why}): 20 images for val" in capsys.readouterr().out


def test_files_decide_then_the_variable_then_the_argument(place, monkeypatch):
    write_zip(place / "data/cifar10.zip", layout())
    assert datasets.choose() == ("cifar10", "its files are here")
    monkeypatch.setenv("CODESIGN_DATASET", "glyphs")
    assert datasets.choose() == ("glyphs", "set by CODESIGN_DATASET")
    assert datasets.choose("cifar10") == ("cifar10", "asked for")


def test_a_cached_cifar10_counts_as_there(place):
    path = write_zip(place / "data/cifar10.zip", layout())
    load_all()
    path.unlink()
    assert datasets.choose()[0] == "cifar10"


def test_sources_are_found_in_the_documented_order(place, monkeypatch):
    monkeypatch.setenv("CODESIGN_DATA", "")
    assert datasets.find_cifar10() is None
    expected = []
    for folder in ("cache", "work/data"):
        for leaf in reversed(cifar10.SOURCES):
            expected.append(place / folder / leaf)
            expected[-1].mkdir(parents=True)
            assert datasets.find_cifar10().resolve() == expected[-1]
    monkeypatch.setenv("CODESIGN_DATA", str(place / "data"))
    assert datasets.find_cifar10().resolve() == expected[-1], "an empty $CODESIGN_DATA"
    (place / "data/cifar10").mkdir()
    assert datasets.find_cifar10() == place / "data/cifar10"


@pytest.mark.parametrize("name", ["mnist", "", "CIFAR10", 3])
def test_an_unknown_set_is_refused(name):
    for call in (datasets.choose, datasets.load, lambda n: datasets.prepare(n, "train")):
        with pytest.raises(ValueError, match=r"allowed: .*cifar10.*glyphs"):
            call(name)


def test_an_unknown_set_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("CODESIGN_DATASET", "mnist")
    with pytest.raises(ValueError, match=r"'mnist' .set by CODESIGN_DATASET."):
        datasets.load()


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"'dev'.*train.*val.*test"):
        datasets.load("glyphs", "dev")


def test_cifar10_without_files_says_what_to_do():
    with pytest.raises(
        FileNotFoundError, match=r"CODESIGN_DATA.*codesign.datasets cifar10.*glyphs"
    ):
        datasets.load("cifar10")


def test_the_cache_directory_follows_its_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("CODESIGN_CACHE", "~/kept")
    assert datasets.cache_dir() == Path("/home/ada/kept")
    monkeypatch.delenv("CODESIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert datasets.cache_dir() == Path("/var/cache/codesign")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.cache_dir() == Path("/home/ada/.cache/codesign")


# --- the download --------------------------------------------------------------------------------


def fake_download(monkeypatch: pytest.MonkeyPatch, act) -> None:
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", act)


def test_offline_the_download_says_what_to_do(place, monkeypatch):
    def offline(root, download):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    fake_download(monkeypatch, offline)
    with pytest.raises(ConnectionError, match=r"not known.*CODESIGN_DATASET=glyphs.*CODESIGN_DATA"):
        cifar10.download(place / "cache")
    assert nothing_cached(place)


def test_torchvision_really_fails_that_way_offline(place, monkeypatch):
    import urllib.request

    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(SystemExit, match=r"could not be downloaded: .*no network"):
        datasets.main("cifar10")
    assert nothing_cached(place)


def test_a_download_that_was_cut_is_not_taken_for_the_data(place, monkeypatch):
    def cut(root, download):
        (Path(root) / "cifar-10-batches-py").mkdir()
        raise RuntimeError("File not found or corrupted.")

    fake_download(monkeypatch, cut)
    with pytest.raises(ConnectionError, match="corrupted"):
        cifar10.download(place / "cache")
    assert nothing_cached(place)
    assert datasets.find_cifar10() is None


def test_a_whole_download_is_found_afterwards(place, monkeypatch):
    def whole(root, download):
        (Path(root) / "cifar-10-batches-py").mkdir()
        (Path(root) / "cifar-10-python.tar.gz").touch()

    fake_download(monkeypatch, whole)
    assert cifar10.download(place / "cache") == datasets.find_cifar10()
    assert [p.name for p in cached(place)] == ["cifar-10-batches-py"]


def test_the_command_decodes_what_is_there(place, capsys):
    write_zip(place / "data/cifar10.zip", layout())
    datasets.main("cifar10")
    assert "10 images for val" in capsys.readouterr().out
    assert len(cached(place)) == 3


def test_the_command_refuses_an_unknown_name():
    with pytest.raises(SystemExit, match="'mnist'"):
        datasets.main("mnist")


# --- image sets ----------------------------------------------------------------------------------


def test_head_is_the_start_and_keeps_the_card():
    part = datasets.load("glyphs", "val", quiet=True)
    first = part.head(5)
    assert len(first) == 5
    assert torch.equal(first.images, part.images[:5])
    assert first.card == part.card
    assert len(part.head(10**6)) == len(part)
    for count in (0, -3):
        with pytest.raises(ValueError, match="at least 1"):
            part.head(count)


def test_parts_follow_one_another_and_share_nothing():
    whole = datasets.load("glyphs", "val", quiet=True)
    search, report = whole.parts(7, 9)
    assert torch.equal(torch.cat([search.images, report.images]), whole.images[:16])
    assert torch.equal(torch.cat([search.labels, report.labels]), whole.labels[:16])
    assert search.card == whole.card
    assert [len(part) for part in whole.parts(len(whole))] == [len(whole)]
    for counts in ((), (0, 5), (5, -1), (1, len(whole))):
        with pytest.raises(ValueError, match="together"):
            whole.parts(*counts)


def test_normalized_pixels_are_what_models_take():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    x = datasets.normalize(images)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(x.double(), images.double() / 63.75 - 2, atol=1e-6)
    assert (float(x.min()), float(x.max())) == (-2, 2)


def test_floats_are_not_normalized_twice():
    with pytest.raises(ValueError, match=r"float32.*uint8"):
        datasets.normalize(torch.zeros(1, 3, 32, 32))


def test_two_processes_make_a_split_once(tmp_path):
    """A cache file that is replaced while another process shows it to a sandbox is gone there."""
    program = (
        "import sys; from codesign import datasets, glyphs\n"
        "made = glyphs.generate\n"
        "glyphs.generate = lambda split: (print('made', flush=True), made(split))[1]\n"
        "datasets.prepare('glyphs', 'val')"
    )
    environment = {**os.environ, "CODESIGN_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=300)[0] for process in running]
    assert sorted(said) == ["", "", "made\n"]
    assert [process.returncode for process in running] == [0, 0, 0]
