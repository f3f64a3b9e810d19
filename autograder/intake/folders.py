"""Walk and delete untrusted directory trees: no recursion, no symlinks followed.

``os.walk``, ``Path.rglob`` and ``shutil.rmtree`` call themselves for each level (Python 3.11), and
folders nested a thousand deep end them with a RecursionError.
"""

import itertools
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path) -> Iterator[tuple[int, "os.DirEntry[str]"]]:
    """Yield every entry below ``root`` with its depth (1: directly in it).

    Folders that vanish meanwhile are passed over.

    Raises:
        OSError: a folder cannot be read, or its path is longer than the system takes.
    """
    waiting = [(1, os.fspath(root))]
    while waiting:
        depth, folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except FileNotFoundError:
            continue
        for entry in entries:
            yield depth, entry
            if entry.is_dir(follow_symlinks=False):
                waiting.append((depth + 1, entry.path))


def files(root: Path) -> list[Path]:
    """List all files below ``root``, sorted; links are not followed. Raises like `walk`."""
    return sorted(
        Path(entry.path) for _, entry in walk(root) if not entry.is_dir(follow_symlinks=False)
    )


def empty(root: Path, keep: str = "") -> None:
    """Empty the folder ``root``, but for a link of the name ``keep``.

    What cannot be removed stays.

    Inner folders are first moved up into ``root``, so no path gets longer than what is there now.
    """
    ours, number = uuid.uuid4().hex, itertools.count()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            folder.chmod(stat.S_IRWXU)
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if folder == root and entry.name == keep and entry.is_symlink():
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    above = root / f"{ours}-{next(number)}"
                    os.chmod(entry.path, stat.S_IRWXU)  # or it could not be moved
                    os.rename(entry.path, above)
                    waiting.append(above)
                else:
                    os.unlink(entry.path)
            except OSError:
                continue
        if folder != root:
            try:
                folder.rmdir()
            except OSError:
                continue


def remove(root: Path) -> None:
    """Delete the tree ``root``, if it is there; what cannot be removed stays."""
    if root.is_symlink() or not root.is_dir():
        root.unlink(missing_ok=True)
        return
    empty(root)
    try:
        root.rmdir()
    except OSError:
        return
