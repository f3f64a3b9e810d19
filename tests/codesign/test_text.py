"""Text: the standard library's source in three splits that share nothing, and any UTF-8 file."""

from __future__ import annotations

import ast
import hashlib
import itertools
import platform
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import datasets, text
from codesign.places import SPLITS

RUN = 4  # lines; so many in a row that stand elsewhere too are no accident


def runs(files: dict[str, bytes]) -> set[tuple[str, ...]]:
    """Every run of ``RUN`` lines that say something, without indentation."""
    found = set()
    for content in files.values():
        lines = [line.strip() for line in content.decode().splitlines() if len(line.strip()) > 8]
        found |= {tuple(lines[i : i + RUN]) for i in range(len(lines) - RUN + 1)}
    return found


# --- the standard library ------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_the_text_is_the_files_of_this_python(split):
    loaded = datasets.load_text("stdlib", split)
    root = Path(sysconfig.get_paths()["stdlib"])
    assert loaded.data.dtype == torch.uint8
    assert len(loaded) == sum(size for _, size in loaded.card.parts) > 200_000
    for name, content in loaded.files().items():
        assert content == (root / name).read_bytes().replace(b"\r\n", b"\n")
        ast.parse(content)
    assert loaded.card.python == platform.python_version()
    assert (loaded.card.name, loaded.card.split) == ("stdlib", split)


def test_the_splits_have_their_modules():
    assert {name: text.split_of(name) for name in ("functools", "pathlib", "tomllib", "json")} == {
        "functools": "test",
        "pathlib": "test",
        "tomllib": "val",
        "json": "train",
    }
    digest = hashlib.sha256(b"stdlib/functools").hexdigest()
    assert int(digest[:2], 16) < text.HELD_OUT["test"]


def test_a_package_is_in_one_split_and_every_module_in_one():
    names = [datasets.load_text("stdlib", split).files().keys() for split in SPLITS]
    tops = [{name.split("/")[0].removesuffix(".py") for name in part} for part in names]
    assert not tops[0] & tops[1]
    assert not tops[0] & tops[2]
    assert not tops[1] & tops[2]
    missing = [module for s in SPLITS for module in datasets.load_text("stdlib", s).card.missing]
    assert sorted(set().union(*tops) | set(missing)) == sorted(text.MODULES)


def test_no_tests_and_no_tables():
    names = datasets.load_text().files()
    assert not [name for name in names if {"test", "tests", "encodings"} & set(name.split("/"))]
    assert "html/parser.py" in names
    assert "html/entities.py" not in names


def test_held_out_modules_share_no_passages_with_the_training_text():
    """Found with 3.11: at most 3.4 % of a module's runs of four lines (asyncore, of asynchat)."""
    known = runs(datasets.load_text().files())
    for split in ("val", "test"):
        modules: dict[str, dict[str, bytes]] = {}
        for name, content in datasets.load_text("stdlib", split).files().items():
            modules.setdefault(name.split("/")[0], {})[name] = content
        for module, files in modules.items():
            own = runs(files)
            assert len(own & known) <= 0.05 * len(own), module


def test_a_python_without_some_modules_says_so(tmp_path, monkeypatch):
    root = Path(sysconfig.get_paths()["stdlib"])
    for name in ("ast.py", "codecs.py"):
        shutil.copy(root / name, tmp_path / name)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    loaded = datasets.load_text("stdlib", "test")
    assert [name for name, _ in loaded.card.parts] == ["ast.py", "codecs.py"]
    assert {"pathlib", "functools"} <= set(loaded.card.missing)


# --- a file --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_file_comes_back_in_three_parts_cut_at_lines(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "one.txt"
    path.write_bytes(content.encode())
    parts = [datasets.load_text(path, split) for split in SPLITS]
    pieces = [part.files()["one.txt"] for part in parts]
    assert b"".join(pieces) == content.encode()
    for piece, after in itertools.pairwise(pieces):
        assert not piece or not after or piece.endswith(b"\n")
    assert all(part.card.python == "" for part in parts)


def test_most_of_a_file_is_for_training(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("a line of ten\n" * 1000)
    sizes = [len(datasets.load_text(path, split)) / 14_000 for split in SPLITS]
    assert sizes == pytest.approx([0.9, 0.05, 0.05], abs=0.002)


def test_what_is_not_utf8_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("CODESIGN_CACHE", str(cache))
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8: got byte 0xef at 2"):
        datasets.load_text(path)
    assert not cache.exists()
    path.write_text("naïve")
    assert len(datasets.load_text(path)) == 6


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.load_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"got split 'all'; allowed: \['train', 'val', 'test'\]"):
        datasets.load_text("stdlib", "all")
