"""Import submissions that a learning management system exported: ``autograder collect``.

A flat folder (or one archive) of ``student_lab.zip`` files becomes nbgrader's layout, from which
both ``autograder grade`` and ``nbgrader autograde`` go on. A pattern says where the student's id
stands in a file's path. Nothing is lost: what was collected before and differs is kept aside, and
an archive that is refused is handed on as it is, so that its student gets a row and the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.contract.files import ExchangeError, read_file
from autograder.intake import archive, folders
from autograder.intake.accept import STUDENT_ID
from autograder.intake.course import Course

LAYOUT = r"(?:.*/)?(?P<student>[^/]+)_{lab}\.(?:zip|ipynb)"


@dataclass(frozen=True)
class Collected:
    """What became of one file: ``new``, ``replaced``, ``unchanged``, ``refused`` or ``skipped``."""

    file: str
    student: str
    status: str
    message: str = ""


def collect(course: Course, lab: str, source: Path, pattern: str | None = None) -> list[Collected]:
    """Bring every file of ``source`` (a folder or a zip archive) into ``submitted/``.

    Args:
        pattern: a regular expression with a group ``student``, matched against a file's whole path
            below ``source``; None: ``student_lab.zip`` (or ``.ipynb``), in any folder.

    Raises:
        FileNotFoundError: no such source.
        ValueError: a pattern without that group, or not an expression.
    """
    expression = _expression(pattern or LAYOUT.replace("{lab}", re.escape(lab)))
    done: list[Collected] = []
    taken: dict[str, str] = {}
    for name, path in _files(source):
        match = expression.fullmatch(name)
        student = (match["student"] or "").strip() if match else ""
        if match is None:
            done.append(Collected(name, "", "skipped", "its name does not fit the pattern"))
        elif not STUDENT_ID.fullmatch(student):
            done.append(Collected(name, student, "skipped", f"{student!r} is no student's id"))
        elif student in taken:
            done.append(Collected(name, student, "skipped", f"{taken[student]} is this student's"))
        else:
            taken[student] = name
            done.append(_collect_one(course, lab, name, path, student))
    return done


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"got pattern {pattern!r}: {error}") from None
    if "student" not in expression.groupindex:
        raise ValueError(f"got pattern {pattern!r}; it needs a group (?P<student>...)")
    return expression


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield regular files below ``source`` by name; those of an archive one at a time."""
    if source.is_dir():
        for path in (p for p in folders.files(source) if p.is_file() and not p.is_symlink()):
            if not path.name.startswith("."):
                yield path.relative_to(source).as_posix(), path
        return
    if not zipfile.is_zipfile(source):
        raise FileNotFoundError(f"{source} is neither a folder nor a zip archive")
    with zipfile.ZipFile(source) as exported, tempfile.TemporaryDirectory() as folder:
        for entry in sorted(exported.infolist(), key=lambda e: e.filename):
            if entry.filename.endswith("/") or Path(entry.filename).name.startswith("."):
                continue
            path = Path(folder) / "submission"
            path.write_bytes(b"")  # what cannot be read is refused like an empty file
            with contextlib.suppress(*archive.BROKEN), exported.open(entry) as file:
                path.write_bytes(file.read(archive.MAX_ARCHIVE_BYTES + 1))
            yield entry.filename, path


def _collect_one(course: Course, lab: str, name: str, path: Path, student: str) -> Collected:
    target = course.folder("submitted", student, lab)
    staging = course.root / ".autograder" / "collected" / student
    folders.remove(staging)
    staging.mkdir(parents=True)
    try:
        message = _take(path, staging, f"{lab}.ipynb", is_archive=not name.endswith(".ipynb"))
        status = "refused" if message.startswith("refused") else "new"
        if os.path.lexists(target):
            if _digest(target) == _digest(staging):
                return Collected(name, student, "unchanged", message)
            message = f"earlier one: {_keep_aside(course, target, student, lab)}; {message}"
            status = "replaced" if status == "new" else status
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        return Collected(name, student, status, message.strip("; "))
    finally:
        folders.remove(staging)


def _take(path: Path, staging: Path, notebook: str, *, is_archive: bool) -> str:
    """Fill ``staging`` from one submitted file; return what there is to say about it."""
    try:
        data = read_file(path, archive.MAX_ARCHIVE_BYTES)
        if not is_archive:
            (staging / notebook).write_bytes(data)
            return "a notebook alone, without artifacts"
        return "; ".join(archive.unpack(data, staging, notebook))
    except ExchangeError as error:
        folders.remove(staging)
        staging.mkdir()
        with open(path, "rb") as file:  # grading tells the reason from as much of it
            content = file.read(archive.MAX_ARCHIVE_BYTES + 1)
        (staging / notebook).with_suffix(".zip").write_bytes(content)
        return f"refused: {error}"


def _keep_aside(course: Course, target: Path, student: str, lab: str) -> Path:
    """Move an earlier submission away; returns where it is, relative to the course."""
    folder = course.root / ".autograder" / "replaced" / lab
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        kept = folder / f"{student}-{number}"
        if not os.path.lexists(kept):
            target.rename(kept)
            return kept.relative_to(course.root)
    raise FileExistsError(f"{folder} has 10,000 submissions of {student}")


def _digest(folder: Path) -> str:
    """Hash every file's name and content; a folder that cannot be read equals none."""
    digest = hashlib.sha256()
    try:
        found = folders.files(folder)
    except OSError as error:
        return str(error)
    for path in found:
        if path.is_symlink() or path.is_file():
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
