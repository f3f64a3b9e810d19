"""Hash of everything a verdict depends on but the submission: part of every cache key.

Verdicts and accuracies that were measured by another judge must not outlive it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from codesign import places

PACKAGES = ("autograder", "codesign")
# Python, C and its headers, linker scripts, targets: whatever of a package is source.
SUFFIXES = {".py", ".c", ".h", ".ld", ".toml"}


@lru_cache(maxsize=1)
def source_version() -> str:
    """Return a digest that changes with the judge, the library, their C and the checkpoints."""
    digest = hashlib.sha256()
    for name, path in inputs():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def inputs() -> Iterator[tuple[str, Path]]:
    """Yield every file that counts, with the name it counts under.

    Of a checkpoint its record counts, which holds the sha256 of its weights.
    """
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield f"{package}/{path.relative_to(root).as_posix()}", path
    for root in places.checkpoint_folders():
        for path in sorted(root.rglob("*.json")):
            yield f"checkpoints/{path.relative_to(root).as_posix()}", path
