"""Paths of the dataset cache and of shipped checkpoints, without importing PyTorch.

A command that only needs a path should not wait seconds for an import.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

DATASETS = ("cifar10", "glyphs")
TEXT = "stdlib"
SPLITS = ("train", "val", "test")
GLYPHS_VERSION = 1  # raise it when any image changes: caches and checkpoints depend on it


def cache_dir() -> Path:
    """Return ``$CODESIGN_CACHE``, else ``$XDG_CACHE_HOME/codesign``, else ``~/.cache/codesign``."""
    base = os.environ.get("CODESIGN_CACHE")
    if base:
        return Path(base).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codesign"


def cache_file(name: str, split: str) -> Path:
    """Return the path of a decoded split; glyphs carry their generator's version."""
    version = f"-v{GLYPHS_VERSION}" if name == "glyphs" else ""
    return cache_dir() / f"{name}{version}-{split}.safetensors"


def checkpoint_folders() -> tuple[Path, ...]:
    """Return where shipped checkpoints may be: ``data/`` of a checkout, or the installed wheel."""
    checkout = Path(__file__).resolve().parent.parent / "data" / "checkpoints"
    return checkout, Path(str(files("codesign"))) / "_data" / "checkpoints"
