"""Collecting: every file of an export gets an answer, and nothing that was there is lost."""

from __future__ import annotations

import zipfile

import pytest
from packed import GOOD, packed
from toy_lab import LAB
from typer.testing import CliRunner

from autograder.cli import app
from autograder.intake import collect

OTHER = {**GOOD, f"{LAB}.ipynb": b"[]"}


def statuses(done) -> dict[str, str]:
    return {one.file: one.status for one in done}


def files(course, student: str) -> dict[str, bytes]:
    folder = course.folder("submitted", student, LAB)
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def export(tmp_path):
    """An LMS's folder: two good archives, a notebook, one broken archive, and what does not fit."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / f"alice_{LAB}.zip").write_bytes(packed(GOOD))
    (folder / f"bob_b_{LAB}.zip").write_bytes(packed({f"x/{k}": v for k, v in OTHER.items()}))
    (folder / f"carol_{LAB}.ipynb").write_bytes(b"{}")
    (folder / f"dave_{LAB}.zip").write_bytes(b"no archive")
    (folder / "readme.txt").write_bytes(b"")
    (folder / f".._{LAB}.zip").write_bytes(packed(GOOD))
    return folder


def test_a_flat_folder(course, export):
    done = collect.collect(course, LAB, export)
    assert statuses(done) == {
        f"alice_{LAB}.zip": "new",
        f"bob_b_{LAB}.zip": "new",
        f"carol_{LAB}.ipynb": "new",
        f"dave_{LAB}.zip": "refused",
        "readme.txt": "skipped",
    }
    assert course.students(LAB) == ["alice", "bob_b", "carol", "dave"]
    assert files(course, "alice") == GOOD
    assert files(course, "bob_b") == OTHER
    assert files(course, "carol") == {f"{LAB}.ipynb": b"{}"}
    assert files(course, "dave") == {f"{LAB}.zip": b"no archive"}


def test_one_archive_of_all(course, export, tmp_path):
    whole = tmp_path / "export.zip"
    with zipfile.ZipFile(whole, "w") as writer:
        for path in export.iterdir():
            writer.write(path, f"week 3/{path.name}")
    done = collect.collect(course, LAB, whole)
    assert [one.status for one in done].count("new") == 3
    assert files(course, "alice") == GOOD


MOODLE = r".*/(?P<student>[^/]+)_\d+_assignsubmission_file_?/[^/]+\.zip"
CANVAS = r"(?P<student>[a-z]+)(_LATE)?_\d+_\d+_.+\.zip"


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (MOODLE, "Course/alice_12_assignsubmission_file_/work.zip"),
        (CANVAS, "alice_LATE_12_34_toy-2.zip"),
    ],
)
def test_patterns_of_other_systems(course, tmp_path, pattern, name):
    path = tmp_path / "export" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(packed(GOOD))
    collect.collect(course, LAB, tmp_path / "export", pattern)
    assert files(course, "alice") == GOOD


def test_collecting_again_keeps_what_it_replaces(course, export):
    collect.collect(course, LAB, export)
    assert "unchanged" in statuses(collect.collect(course, LAB, export)).values()
    (export / f"alice_{LAB}.zip").write_bytes(packed(OTHER))
    done = collect.collect(course, LAB, export)
    assert statuses(done)[f"alice_{LAB}.zip"] == "replaced"
    assert files(course, "alice") == OTHER
    kept = course.root / ".autograder" / "replaced" / LAB / "alice-1" / f"{LAB}.ipynb"
    assert kept.read_bytes() == GOOD[f"{LAB}.ipynb"]


@pytest.mark.parametrize("student", ["", ".", "..", "a..b", "a/b", "-x", "*", "a\nb", "x" * 101])
def test_what_is_no_students_id_is_skipped(course, tmp_path, student):
    pattern = r"(?s)(?P<student>.*)\.zip"
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as writer:
        writer.writestr(f"{student}.zip", packed(GOOD))
    done = collect.collect(course, LAB, tmp_path / "export.zip", pattern)
    assert [one.status for one in done] in (["skipped"], [])
    assert course.students(LAB) == []


def test_two_files_of_one_student_are_told(course, tmp_path):
    for folder in ("first", "second"):
        (tmp_path / "export" / folder).mkdir(parents=True)
        (tmp_path / "export" / folder / f"alice_{LAB}.zip").write_bytes(packed(GOOD))
    done = collect.collect(course, LAB, tmp_path / "export")
    assert [one.status for one in done] == ["new", "skipped"]
    assert "first/alice" in done[1].message


def test_wrong_arguments_are_named(course, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a zip"):
        collect.collect(course, LAB, tmp_path / "nothing")
    with pytest.raises(ValueError, match="needs a group"):
        collect.collect(course, LAB, tmp_path, ".*")
    with pytest.raises(ValueError, match="got pattern"):
        collect.collect(course, LAB, tmp_path, "(")


def test_the_command_fails_when_a_file_was_not_taken(course, export):
    told = CliRunner().invoke(app, ["collect", LAB, str(export), "--root", str(course.root)])
    assert told.exit_code == 1
    assert "refused: not a zip archive" in told.output
    for name in ("dave_toy.zip", "readme.txt", ".._toy.zip"):
        (export / name).unlink()
    told = CliRunner().invoke(app, ["collect", LAB, str(export), "--root", str(course.root)])
    assert told.exit_code == 0, told.output
