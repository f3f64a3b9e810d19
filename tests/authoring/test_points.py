"""Points are written once, in targets.toml: the builder carries them into header and comment."""

import json
import re
import shutil
from pathlib import Path

import pytest

from authoring import notebooks, points

ROOT = Path(__file__).parents[2]
SOURCES = notebooks.sources(ROOT)
LABS = [source for source in SOURCES if source.parent.parent.name == "solutions"]
GRADED = re.compile(r'^# %%[^\n]*nbgrader=(\{.*"grade": true.*\})', re.M)


def name(source: Path) -> str:
    return source.stem


def metadata(text: str) -> list[dict]:
    """nbgrader's metadata of every graded cell."""
    return [json.loads(found) for found in GRADED.findall(text)]


@pytest.fixture
def lab1(tmp_path) -> Path:
    """The source of Lab 1 in a checkout that holds no more than the builder needs."""
    for path in ("pyproject.toml", "solutions/lab1_pruning/lab1_pruning.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    shutil.copytree(
        ROOT / "autograder" / "labs" / "lab1_pruning",
        tmp_path / "autograder" / "labs" / "lab1_pruning",
        ignore=lambda folder, names: [n for n in names if n != "targets.toml"],
    )
    return tmp_path / "solutions" / "lab1_pruning" / "lab1_pruning.py"


def set_points(source: Path, check: str, value: str) -> None:
    """Write other points into the targets of the checkout of ``source``."""
    path = source.parents[2] / "autograder" / "labs" / source.stem / "targets.toml"
    text, count = re.subn(rf"(?m)^(\[{check}\]\npoints = )\S+$", rf"\g<1>{value}", path.read_text())
    assert count == 1
    path.write_text(text)


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_todays_sources_stay_byte_for_byte(source):
    text = source.read_text(encoding="utf-8")
    assert points.filled(text, source) == text


@pytest.mark.parametrize("source", LABS, ids=name)
def test_a_lab_has_100_points(source):
    wanted = points.targets_of(source)
    flags = metadata(source.read_text(encoding="utf-8"))
    by_hand = [cell["points"] for cell in flags if cell["grade_id"] not in wanted]
    assert all(cell["solution"] for cell in flags if cell["grade_id"] not in wanted)
    assert len(by_hand) in (2, 3)
    assert sum(target.points for target in wanted.values()) + sum(by_hand) == 100


@pytest.mark.parametrize(
    ("value", "comment"), [("7", "7 points"), ("1", "1 point"), ("2.5", "2.5 points")]
)
def test_header_and_comment_follow_the_targets(lab1, value, comment):
    before = lab1.read_text()
    set_points(lab1, "nm_prune", value)
    after = points.filled(before, lab1)
    changed = [(a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b]
    (old_header, header), (old_call, call) = changed
    assert header == old_header.replace('"points": 8,', f'"points": {value},')
    assert call == old_call.replace("8 points", comment)
    assert points.filled(after, lab1) == after


def test_what_is_missing_is_written(lab1):
    text = lab1.read_text()
    bare = text.replace('"points": 8, ', "").replace("  # 8 points", "")
    assert bare != text
    assert points.filled(bare, lab1) == text


def test_other_comments_and_manual_points_stay(lab1):
    text = lab1.read_text().replace("  # 8 points", "  # 8 points  # noqa: F821")
    set_points(lab1, "fine_grained_prune", "9")
    after = points.filled(text, lab1)
    assert 'lab.check("fine_grained_prune")  # 9 points  # noqa: F821' in after
    manual = [cell for cell in metadata(after) if cell["solution"]]
    assert [cell["points"] for cell in manual] == [4, 3, 3]


def test_the_check_says_when_they_are_out_of_step(lab1):
    shutil.copy(ROOT / "solutions" / lab1.parent.name / f"{lab1.stem}.ipynb", lab1.parent)
    out_of_step = "points are not those of the lab's targets.toml"
    assert notebooks.check(lab1) == []
    set_points(lab1, "encode", "5")
    assert notebooks.check(lab1) == [out_of_step]
    notebooks.build(lab1, execute=False)
    assert 'lab.check("encode")  # 5 points' in lab1.read_text()
    (stale, counts) = notebooks.check(lab1)
    assert "outputs are stale" in stale
    assert "execution counts" in counts


def test_lectures_and_labs_without_targets_are_left_alone(lab1):
    text = lab1.read_text().replace('"points": 8,', '"points": 1,')
    other = lab1.with_name("lab99_nowhere.py")
    assert points.filled(text, other) == text
    lecture = lab1.parents[2] / "lectures" / "lab1_pruning.py"
    assert points.filled(text, lecture) == text


def test_metadata_that_is_no_json_is_refused(lab1):
    text = lab1.read_text().replace('"grade": true,', '"grade": true,,', 1)
    with pytest.raises(ValueError, match="no JSON"):
        points.filled(text, lab1)
