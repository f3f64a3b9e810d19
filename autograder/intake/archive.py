"""Unpack untrusted zip archives: bounded names, counts and sizes, no links.

Only what a submission consists of comes out: the notebook and the files in ``outputs/<dataset>/``.
Links, paths that leave the archive, encrypted or doubled entries are named and stay inside; an
archive that is no archive, or too much of one, is refused as a whole. The sizes that an archive
claims are not believed: bytes are counted as they come out.
"""

from __future__ import annotations

import io
import lzma
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from autograder.contract.files import ARTIFACT_NAME, MAX_ARTIFACT_BYTES, ExchangeError
from autograder.intake.answers import REPAIRED
from autograder.intake.reading import MAX_FILE_BYTES
from codesign.places import DATASETS

MAX_ARCHIVE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 256 * 2**20
MAX_ENTRIES = 1_000
ENTRY_SIGNATURE = b"PK\x01\x02"  # of an entry in the directory at the end
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # encrypted; NotImplementedError: a method that Python does not know
)


def unpack(data: bytes, target: Path, notebook: str) -> list[str]:
    """Write the submission in ``data`` below ``target``; return what was left in the archive.

    Args:
        notebook: its name, for instance ``lab1_pruning.ipynb``; where none has it, the only
            notebook there. The folder that it lies in is the submission, wherever that is in the
            archive; of several, the outermost.

    Raises:
        ExchangeError: no archive, too large, or no notebook that can be told from the others.
    """
    entries = _entries(data)
    if inner := _only_archive(entries):
        with zipfile.ZipFile(io.BytesIO(data)) as outer:
            return unpack(_content(outer, inner, MAX_ARCHIVE_BYTES), target, notebook)
    names = Counter(str(_path(entry)) for entry in entries)
    chosen, said = _notebook([_path(entry) for entry in entries], notebook)
    sound = [_path(entry) for entry in entries if not _fault(entry, names[str(_path(entry))])]
    top, elsewhere = _top(sound, chosen)
    problems, left = [*said, *elsewhere], MAX_UNPACKED_BYTES
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in entries:
            name = str(_path(entry))
            if fault := _fault(entry, names[name]):
                problems.append(f"{name[:200]!r}: {fault}")
                continue
            is_notebook = _path(entry) == chosen
            place = Path(notebook) if is_notebook else _place(_path(entry), top)
            if place is None:
                continue
            most = MAX_FILE_BYTES if is_notebook else MAX_ARTIFACT_BYTES
            content = _content(archive, entry, min(left, most))
            left -= len(content)
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).write_bytes(content)
    return problems


def _only_archive(entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo | None:
    """The archive in an archive that holds nothing else, as some systems make them."""
    shown = [entry for entry in entries if not any(map(_is_nobodys, _path(entry).parts))]
    if len(shown) == 1 and shown[0].filename.lower().endswith(".zip") and not _fault(shown[0], 1):
        return shown[0]
    return None


def _top(paths: list[PurePosixPath], chosen: PurePosixPath) -> tuple[PurePosixPath, list[str]]:
    """The folder whose ``outputs`` counts: the notebook's, else the only one that has some."""
    above = [(path, PurePosixPath(*path.parts[:-3])) for path in paths if len(path.parts) > 2]
    tops = {top for path, top in above if _place(path, top)}
    if chosen.parent in tops or not tops:
        loose = [path.name for path in paths if ARTIFACT_NAME.fullmatch(path.name)]
        said = f"no artifact is in outputs/{{{','.join(DATASETS)}}}/: {len(loose)} files left out"
        return chosen.parent, [said] * bool(loose and not tops)
    if len(tops) > 1:
        return chosen.parent, [f"outputs in {len(tops)} folders, and none beside the notebook"]
    return tops.copy().pop(), [f"{REPAIRED}artifacts were found in '{tops.pop()}/outputs'"]


def _entries(data: bytes) -> list[zipfile.ZipInfo]:
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ExchangeError(f"{len(data):,} bytes; allowed: {MAX_ARCHIVE_BYTES:,}")
    if data.count(ENTRY_SIGNATURE) > 2 * MAX_ENTRIES:  # before Python builds them all
        raise ExchangeError(f"more than {MAX_ENTRIES:,} entries")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    except BROKEN as error:
        raise ExchangeError(f"not a zip archive: {error}") from None
    if len(entries) > MAX_ENTRIES:
        raise ExchangeError(f"{len(entries):,} entries; allowed: {MAX_ENTRIES:,}")
    return entries


def _path(entry: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(entry.filename.replace("\\", "/"))  # some Windows programs write these


def _notebook(paths: list[PurePosixPath], name: str) -> tuple[PurePosixPath, list[str]]:
    """Choose the notebook; returns it, and what there is to say about the choice."""
    shown = [path for path in paths if not any(map(_is_nobodys, path.parts))]
    named = [path for path in shown if path.name == name]
    found = named or [path for path in shown if path.suffix.lower() == ".ipynb"]
    outer = min((len(path.parts) for path in found), default=0)
    chosen = [path for path in found if len(path.parts) == outer]
    if len(chosen) != 1:
        notebooks = sorted(str(path) for path in paths if path.suffix == ".ipynb")[:5]
        raise ExchangeError(f"{len(chosen)} files named {name}, not one; notebooks: {notebooks}")
    like = [str(p) for p in shown if p != chosen[0] and name.removesuffix(".ipynb") in p.name]
    others = [one for one in like if one.endswith(".ipynb")]
    said = [f"{REPAIRED}{str(chosen[0])[:200]!r} was taken for {name}"] * (not named)
    return chosen[0], said + [f"{chosen[0]} counts, and not {', '.join(others)}"[:500]] * bool(
        others
    )


def _is_nobodys(part: str) -> bool:
    """Whether a folder or file is one that an editor or a system makes beside the work."""
    return part.startswith(".") or part == "__MACOSX"


def _fault(entry: zipfile.ZipInfo, times: int) -> str:
    """Say why an entry stays in the archive; empty: it does not."""
    path, mode = _path(entry), entry.external_attr >> 16
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0][1:2] == ":":
        return "its path leaves the archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "not a regular file"
    if entry.flag_bits & 0x1:
        return "encrypted"
    return f"in the archive {times} times" if times > 1 else ""


def _place(path: PurePosixPath, top: PurePosixPath) -> Path | None:
    """Find where an artifact of the archive goes; None: it belongs to no submission."""
    if not path.is_relative_to(top):
        return None
    parts = path.relative_to(top).parts
    artifact = len(parts) == 3 and parts[0] == "outputs" and parts[1] in DATASETS
    return Path(*parts) if artifact and ARTIFACT_NAME.fullmatch(parts[2]) else None


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with archive.open(entry) as file:
            content = file.read(most + 1)
    except BROKEN as error:
        raise ExchangeError(f"{entry.filename[:200]!r} cannot be read: {error}") from None
    if len(content) > most:
        raise ExchangeError(
            f"{entry.filename[:200]!r} has more than {most:,} bytes; allowed: "
            f"{MAX_ARTIFACT_BYTES:,} a file, {MAX_UNPACKED_BYTES:,} in all"
        )
    return content
