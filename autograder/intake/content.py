"""Find the notebook and the artifacts in what was handed in: a folder, an archive, or both.

The file that is named like the lab counts, else the only other one; which one it was is told, and
so is what was left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autograder.contract.files import ExchangeError, read_file
from autograder.intake import archive
from autograder.intake.answers import REPAIRED
from codesign.places import DATASETS


@dataclass(frozen=True)
class Content:
    """Where the notebook and the artifacts of a submission are, and what there is to say.

    ``others``: notebooks beside it, one of which may hold the work if it does not.
    """

    notebook: Path
    outputs: Path
    notes: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()


def found_in(handed_in: Path, scratch: Path, lab: str) -> Content:
    """What is in the folder ``handed_in``; an archive in it is unpacked into ``scratch``."""
    folder, notes = _unwrapped(handed_in)
    notebook, said = _one(folder, lab, ".ipynb")
    packed, of_archive = _one(folder, lab, ".zip")
    beside = folder / "outputs"
    others = tuple(path for path in _named(folder, ".ipynb") if path != notebook)
    loose = Content(notebook or folder / f"{lab}.ipynb", beside, (*notes, *said), others)
    if packed is None or (notebook is not None and os.path.lexists(beside)):
        return loose
    scratch.mkdir()
    notes += of_archive
    try:
        data = read_file(packed, archive.MAX_ARCHIVE_BYTES)
        notes += archive.unpack(data, scratch, f"{lab}.ipynb")
    except ExchangeError as error:
        shutil.rmtree(scratch)
        return replace(loose, notes=(*notes, *said, f"{packed.name} was not accepted: {error}"))
    if notebook is not None:
        notes.append(f"{REPAIRED}{packed.name} counts, and not {notebook.name} beside it")
    return Content(scratch / f"{lab}.ipynb", scratch / "outputs", tuple(notes))


def _unwrapped(folder: Path) -> tuple[Path, list[str]]:
    """The folder itself, or the only one in it where that alone holds a notebook or archive."""
    inner = [path for path in _entries(folder) if path.is_dir() and path.name not in DATASETS]
    if _named(folder, ".ipynb") or _named(folder, ".zip"):
        return folder, []
    holding = [path for path in inner if _named(path, ".ipynb") or _named(path, ".zip")]
    if len(holding) != 1:
        return folder, []
    return holding[0], [f"{REPAIRED}what was handed in lies in the folder {holding[0].name!r}"]


def _one(folder: Path, lab: str, suffix: str) -> tuple[Path | None, list[str]]:
    """The file of this kind that counts, and what is to be said about the choice."""
    path, others = folder / f"{lab}{suffix}", _named(folder, suffix)
    names = [other.name for other in others]
    if os.path.lexists(path):
        left = [name for name in names if name != path.name]
        return path, [f"{path.name} counts, and not {', '.join(left)}"[:500]] * bool(left)
    if len(others) == 1:
        return others[0], [f"{REPAIRED}{others[0].name!r} was taken for {path.name}"]
    said = f"{len(others)} files could be {path.name}, and none has its name: {', '.join(names)}"
    return None, [said[:500]] * bool(others)


def _named(folder: Path, suffix: str) -> list[Path]:
    """Files of this kind, or what looks like one; hidden ones are an editor's or a system's."""
    return [
        path
        for path in _entries(folder)
        if path.name.lower().endswith((suffix, f"{suffix}.txt", f"{suffix}.json"))
        and not path.is_dir()
    ]


def _entries(folder: Path) -> Sequence[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
