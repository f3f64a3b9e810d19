"""Keep what somebody wrote into a released lab when it is generated anew; give a copy to work in.

Who does a lab in a clone of the repository may open ``labs/LAB``, which every new release replaces.
So a lab that was touched is first copied to ``backups/``; and ``work`` makes a copy to write in,
which nothing of the project ever changes.
"""

from __future__ import annotations

import shutil
import sys
import time
from functools import cache
from pathlib import Path

import nbformat

from autograder.contract.cells import is_solution

BACKUPS, WORK = "backups", "work"  # folders of a course; git ignores both
NOBODYS = {".ipynb_checkpoints", "__pycache__"}


def is_touched(folder: Path) -> bool:
    """Tell whether a released lab holds more than was handed out.

    That is an answer other than its stub by nbgrader's checksum, an output, a cell that was run, a
    notebook that cannot be read, or a further file.
    """
    for path in sorted(folder.iterdir()):
        if path.name in NOBODYS:
            continue
        if path.name != f"{folder.name}.ipynb" or _holds_work(path):
            return True
    return False


def _holds_work(path: Path) -> bool:
    from nbgrader.utils import compute_checksum

    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return True
    for cell in notebook.cells:
        if cell.get("outputs") or cell.get("execution_count"):
            return True
        known = cell.metadata.get("nbgrader", {}).get("checksum")
        if is_solution(cell) and known != compute_checksum(cell):
            return True
    return False


def keep(root: Path, folder: Path) -> Path | None:
    """Copy a touched lab to ``root/backups/LAB-TIME``, say so, and return where; else None."""
    if not folder.is_dir() or not is_touched(folder):
        return None
    stem = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    target, number = root / BACKUPS / stem, 1
    while target.exists():
        number += 1
        target = root / BACKUPS / f"{stem}-{number}"
    shutil.copytree(folder, target, symlinks=True)
    print(f"{folder} held somebody's work: kept in {target}", file=sys.stderr)
    return target


def before_nbgrader(root: Path | None = None) -> None:
    """Keep touched labs where ``nbgrader generate_assignment`` is about to write; see ``keep``.

    For ``nbgrader_config.py``, which nbgrader reads before it removes anything.
    """
    words = sys.argv[1:]
    if "generate_assignment" not in words or any("release_directory" in word for word in words):
        return
    root = root or Path.cwd()
    folders = sorted((root / "labs").glob("*"))
    named = [folder for folder in folders if folder.name in words]
    for folder in named or folders:
        _keep_once(root, folder)


@cache  # nbgrader reads its configuration three times
def _keep_once(root: Path, folder: Path) -> Path | None:
    return keep(root, folder)


def work(root: Path, lab: str) -> Path:
    """Copy ``labs/LAB`` to ``work/LAB`` for one's own answers; return the folder.

    Raises:
        ValueError: there is no such lab.
        FileExistsError: it is there already, and stays as it is.
    """
    source, target = root / "labs" / lab, root / WORK / lab
    if not source.is_dir():
        known = sorted(path.name for path in (root / "labs").iterdir() if path.is_dir())
        raise ValueError(f"got lab {lab!r}; allowed: {known}")
    if target.exists():
        raise FileExistsError(f"{target} is there already; nothing in it was changed")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOBODYS))
    return target
