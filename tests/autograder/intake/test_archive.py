"""Archives: what a submission consists of comes out, everything else is named or refused."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile

import pytest
from packed import GOOD, NOTEBOOK, packed
from toy_lab import DOUBLE, LAB, half_zero, hand_in

from autograder.contract.files import ExchangeError
from autograder.intake import accept, archive, release


def unpacked(data: bytes, folder) -> tuple[dict[str, bytes], list[str]]:
    target = folder / "target"
    problems = archive.unpack(data, target, NOTEBOOK)
    assert sorted(path.name for path in folder.iterdir()) == ["target"]
    files = [path for path in target.rglob("*") if path.is_file()]
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in files}, problems


@pytest.mark.parametrize("top", ["", "toy/", "alice/my work/"])
def test_a_submission_comes_out_whole(tmp_path, top):
    others = {f"{top}notes.txt": b"", f"{top}outputs/glyphs/deep/er.json": b"", "__MACOSX/._x": b""}
    files = {**{top + name: content for name, content in GOOD.items()}, **others}
    assert unpacked(packed(files), tmp_path) == (GOOD, [])


def test_backslashes_are_folders(tmp_path):
    assert unpacked(packed({k.replace("/", "\\"): v for k, v in GOOD.items()}), tmp_path)[0] == GOOD


@pytest.mark.parametrize("name", ["../x.json", "/etc/x.json", "outputs/glyphs/../../../x", "C:\\x"])
def test_a_path_that_leaves_the_archive_stays_inside(tmp_path, name):
    files, problems = unpacked(packed({**GOOD, name: b"x"}), tmp_path)
    assert files == GOOD
    assert len(problems) == 1
    assert "leaves the archive" in problems[0]


def test_an_entry_without_a_name_stays_inside(tmp_path):
    """``ZipInfo.is_dir`` looks at the last letter, and a name ends at its first zero byte."""
    data = packed({**GOOD, "Zz": b"x"}).replace(b"Zz", b"\0z")
    files, problems = unpacked(data, tmp_path)
    assert files == GOOD
    assert len(problems) == 1
    assert "leaves the archive" in problems[0]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_stay_inside(tmp_path, kind):
    entry = zipfile.ZipInfo("outputs/glyphs/link.json")
    entry.external_attr = (kind | 0o777) << 16
    made = io.BytesIO(packed(GOOD))
    with zipfile.ZipFile(made, "a") as writer:
        writer.writestr(entry, "/etc/passwd")
    files, problems = unpacked(made.getvalue(), tmp_path)
    assert files == GOOD
    assert problems == ["'outputs/glyphs/link.json': not a regular file"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_entries_stay_inside(tmp_path):
    made = io.BytesIO(packed(GOOD))
    with zipfile.ZipFile(made, "a") as writer:
        writer.writestr("outputs/glyphs/net.json", "another")
    files, problems = unpacked(made.getvalue(), tmp_path)
    assert "outputs/glyphs/net.json" not in files
    assert all("2 times" in problem for problem in problems)


def encrypted() -> bytes:
    data = bytearray(packed({NOTEBOOK: b"{}", "outputs/glyphs/net.json": b"x"}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(signature) + place] |= 1
    return bytes(data)


def test_encrypted_entries_stay_inside(tmp_path):
    files, problems = unpacked(encrypted(), tmp_path)
    assert list(files) == [NOTEBOOK]
    assert problems == ["'outputs/glyphs/net.json': encrypted"]


def lying() -> bytes:
    """An entry that claims ten bytes and has 40 MiB."""
    data = bytearray(packed({NOTEBOOK: b"{}", "outputs/glyphs/net.json": bytes(40 * 2**20)}))
    size = (40 * 2**20).to_bytes(4, "little")
    return bytes(data.replace(size, (10).to_bytes(4, "little")))


def unknown_method() -> bytes:
    data = bytearray(packed({NOTEBOOK: b"{}" * 99}))
    data[data.rindex(b"PK\x01\x02") + 10] = 99
    data[8] = 99
    return bytes(data)


@pytest.mark.parametrize(
    ("path", "others", "told"),
    [
        ("Copy_of_toy.ipynb", (), "repaired: 'Copy_of_toy.ipynb' was taken for toy.ipynb"),
        (
            "toy (1).ipynb",
            (".ipynb_checkpoints/toy (1)-checkpoint.ipynb", "__MACOSX/._toy.ipynb"),
            "repaired: 'toy (1).ipynb' was taken for toy.ipynb",
        ),
        (
            "work/toy.ipynb",
            ("work/old/toy.ipynb", "other.ipynb"),
            "work/toy.ipynb counts, and not work/old/toy.ipynb",
        ),
    ],
)
def test_a_notebook_of_another_name_is_found_and_told(tmp_path, path, others, told):
    folder = path.rpartition("/")[0]
    files = {path: b"{}", f"{folder}/outputs/glyphs/a.json".lstrip("/"): b"1"}
    found, problems = unpacked(packed({**files, **dict.fromkeys(others, b"[]")}), tmp_path)
    assert found == {NOTEBOOK: b"{}", "outputs/glyphs/a.json": b"1"}
    assert problems == [told]


ARTIFACT = "outputs/glyphs/a.json"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({f"Lab 1: Pruning/{n}": b"1" for n in (NOTEBOOK, ARTIFACT)}, []),
        (
            {f"nb/{NOTEBOOK}": b"1", ARTIFACT: b"1"},
            ["repaired: artifacts were found in './outputs'"],
        ),
        ({"a.zip": packed({NOTEBOOK: b"1", ARTIFACT: b"1"}), "__MACOSX/._a.zip": b""}, []),
    ],
)
def test_artifacts_are_found_where_people_put_them(tmp_path, files, told):
    found, problems = unpacked(packed(files), tmp_path)
    assert found == {NOTEBOOK: b"1", ARTIFACT: b"1"}
    assert problems == told


@pytest.mark.parametrize("name", ["glyphs/a.json", "Outputs/GLYPHS/a.json", "a.json"])
def test_artifacts_that_no_rule_finds_are_told(tmp_path, name):
    found, problems = unpacked(packed({NOTEBOOK: b"1", name: b"1"}), tmp_path)
    assert found == {NOTEBOOK: b"1"}
    assert problems == ["no artifact is in outputs/{cifar10,glyphs}/: 1 files left out"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a zip archive"),
        (b"PK\x05\x06 and no more", "not a zip archive"),
        (packed(GOOD)[:-30], "not a zip archive"),
        (packed({"a.ipynb": b"{}", "b.ipynb": b""}), r"2 files named toy.ipynb.*a.ipynb"),
        (packed({f"a/{NOTEBOOK}": b"{}", f"b/{NOTEBOOK}": b"{}"}), "2 files named"),
        (packed({"page.html": b""}), "0 files named"),
        (packed({**GOOD, "outputs/glyphs/z.json": bytes(40 * 2**20)}), "more than 33,554,432"),
        (packed({f"{i}.json": b"" for i in range(1_100)}), "1,100 entries; allowed: 1,000"),
        (packed({f"{i}.json": b"" for i in range(2_100)}), "more than 1,000 entries"),
        (
            packed({NOTEBOOK: b"", **{f"outputs/glyphs/{i}.c": bytes(2**25) for i in range(9)}}),
            "268,435,456 in all",
        ),
        (packed(GOOD, zipfile.ZIP_STORED).replace(b"[]", b"]["), "cannot be read: Bad CRC"),
        (lying(), "cannot be read|more than"),
        (unknown_method(), "cannot be read"),
    ],
)
def test_what_is_no_submission_is_refused_with_the_rule(tmp_path, data, reason):
    with pytest.raises(ExchangeError, match=reason):
        archive.unpack(data, tmp_path / "target", NOTEBOOK)


def test_an_oversized_archive_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 10)
    with pytest.raises(ExchangeError, match="allowed: 10"):
        archive.unpack(packed(GOOD), tmp_path, NOTEBOOK)


def zipped(folder, name=f"{LAB}.zip"):
    """Replace what a student handed in by an archive of it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    data = packed({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    for path in files:
        path.unlink()
    (folder / name).write_bytes(data)


def test_intake_accepts_the_archive_that_a_lab_packs(course):
    folder = hand_in(course, "alice", DOUBLE, half_zero())
    plain = accept.submission(release.base(course, LAB), LAB, folder)
    zipped(folder)
    assert accept.submission(release.base(course, LAB), LAB, folder) == plain
    assert plain.problems == ()
    assert sorted(plain.artifacts) == ["glyphs/net.json", "glyphs/net.safetensors"]


SOLVED = "def double(x):\n    return 2 * x"
UNTOUCHED = "def double(x):\n    raise NotImplementedError"


def beside(course, *names):
    """Hand in the solved notebook and its artifact under ``names``, and an untouched toy.ipynb."""
    folder = hand_in(course, "alice", SOLVED, half_zero())
    zipped(folder, "all.zip")
    hand_in(course, "stub", UNTOUCHED)
    untouched = course.folder("submitted", "stub", LAB) / NOTEBOOK
    hand_in(course, "bob", SOLVED)
    data = (course.folder("submitted", "bob", LAB) / NOTEBOOK).read_bytes()
    archive_bytes = (folder / "all.zip").read_bytes()
    (folder / "all.zip").unlink()
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(archive_bytes if name.endswith(".zip") else data)
    return folder, untouched.read_bytes()


@pytest.mark.parametrize(
    ("names", "untouched", "artifacts", "told"),
    [
        (("toy.ipynb", "toy.zip"), False, 2, "toy.zip counts, and not toy.ipynb beside it"),
        (("toy.zip",), True, 2, "toy.zip counts, and not toy.ipynb beside it"),
        (("toy-Copy1.ipynb",), True, 0, "nothing is written in it: toy-Copy1.ipynb counts"),
        (("toy (1).zip",), False, 2, "'toy (1).zip' was taken for toy.zip"),
        (("toy.zip", "toy (1).zip"), False, 2, "toy.zip counts, and not toy (1).zip"),
        (("inner/toy.ipynb",), False, 0, "lies in the folder 'inner'"),
        (("toy.IPYNB",), False, 0, "'toy.IPYNB' was taken for toy.ipynb"),
        (("toy.ipynb.txt",), False, 0, "'toy.ipynb.txt' was taken for toy.ipynb"),
        (("._toy.ipynb", "mine.ipynb"), False, 0, "'mine.ipynb' was taken for toy.ipynb"),
        (("toy.ipynb", "toy (1).ipynb"), False, 0, "toy.ipynb counts, and not toy (1).ipynb"),
    ],
)
def test_of_files_side_by_side_the_one_with_work_counts(course, names, untouched, artifacts, told):
    folder, stub = beside(course, *names)
    if untouched:
        (folder / NOTEBOOK).write_bytes(stub)
    taken = accept.submission(release.base(course, LAB), LAB, folder)
    assert SOLVED in [cell.source for cell in taken.notebook.cells]
    assert len(taken.artifacts) == artifacts
    assert told in "; ".join(taken.problems)


def test_two_of_which_neither_has_the_name_are_refused_by_name(course):
    folder, _ = beside(course, "a.ipynb", "b.ipynb")
    taken = accept.submission(release.base(course, LAB), LAB, folder)
    assert "2 files could be toy.ipynb, and none has its name: a.ipynb, b.ipynb" in taken.problems


def test_a_refused_archive_leaves_an_empty_submission_and_the_reason(course):
    folder = hand_in(course, "alice", DOUBLE, half_zero())
    zipped(folder)
    (folder / f"{LAB}.zip").write_bytes(b"no archive")
    found = accept.submission(release.base(course, LAB), LAB, folder)
    assert found.artifacts == {}
    assert "toy.zip was not accepted: not a zip archive" in found.problems[0]


def test_odd_names_and_too_many_bytes_stay_behind(course, monkeypatch):
    folder = hand_in(course, "alice", DOUBLE, half_zero()) / "outputs" / "glyphs"
    odd = [b"\xff\xfe.json", b"a b.json", b"x" * 200 + b".json", b"net.pkl", b".hidden", b"n.part"]
    for name in odd:
        open(os.path.join(os.fsencode(folder), name), "wb").close()
    found = accept.submission(release.base(course, LAB), LAB, folder.parent.parent)
    assert sorted(found.artifacts) == ["glyphs/net.json", "glyphs/net.safetensors"]
    assert len(found.problems) == 4
    assert all("no name of an artifact" in problem for problem in found.problems)
    monkeypatch.setattr(accept, "MAX_SUBMISSION_BYTES", 1_000)
    found = accept.submission(release.base(course, LAB), LAB, folder.parent.parent)
    assert list(found.artifacts) == ["glyphs/net.json"]
