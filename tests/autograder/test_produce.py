"""``Lab.produce``: runs work once, and takes up what was interrupted if the same code left it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

from autograder.contract import artifacts
from autograder.lab import Lab, NotHandedIn
from codesign import resumable
from codesign.models import VGG

WORK = """
from codesign import resumable

GAIN = 1

def helper(x):
    return x + 1

def work(first=0):
    stem = lab.unfinished("net", "rounds")
    _, done = resumable.kept(stem) or (None, [])
    ran.append(list(done))
    while len(done) < 3:
        done.append(helper(GAIN) + first)
        resumable.keep(stem, {}, done)
    return {"done": done}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Lab:
    monkeypatch.delenv("CODESIGN_GRADING", raising=False)
    monkeypatch.delenv("CODESIGN_OUTPUTS", raising=False)
    return Lab("lab1_pruning", "glyphs", tmp_path)


@pytest.fixture
def ran() -> deque[list[int]]:
    """What each call of the work found done; of a kind that is no part of a fingerprint."""
    return deque()


def cells(lab: Lab, ran: deque, source: str = WORK) -> dict[str, Any]:
    found = {"__name__": "__main__", "lab": lab, "ran": ran}
    exec(source, found)
    return found


def dies(lab: Lab, found: dict[str, Any], **options: Any) -> None:
    """Cut the work before its last round, without a trace in its arguments."""
    kept = resumable.keep

    def keep(stem: Path, tensors: dict, history: list) -> None:
        kept(stem, tensors, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable, "keep", keep)
        with pytest.raises(KeyboardInterrupt):
            lab.produce("net", found["work"], **options)


def hidden(lab: Lab) -> list[Path]:
    return [path for path in lab.outputs.rglob("*") if path.name.startswith(".")]


def test_it_runs_once_and_leaves_nothing_but_the_artifact(lab, ran, capsys):
    found = cells(lab, ran)
    capsys.readouterr()
    assert lab.produce("net", found["work"]) == {"done": [2, 2, 2]}
    assert capsys.readouterr().out == ""
    assert lab.produce("net", found["work"]) == {"done": [2, 2, 2]}
    assert "loaded from" in capsys.readouterr().out
    assert list(ran) == [[]]
    assert [path.name for path in lab.outputs.iterdir()] == ["net.json"]


def test_interrupted_work_goes_on_and_says_so(lab, ran, capsys):
    dies(lab, cells(lab, ran))
    assert not artifacts.exists(lab.outputs, "net")
    assert lab.produce("net", cells(lab, ran)["work"]) == {"done": [2, 2, 2]}
    assert list(ran) == [[], [2, 2]]
    assert "net: goes on where it was interrupted" in capsys.readouterr().out
    assert hidden(lab) == []


@pytest.mark.parametrize(
    ("old", "new", "given", "expected"),
    [
        ("helper(GAIN) + first", "helper(GAIN) * 5 + first", {}, 10),
        ("return x + 1", "return x + 2", {}, 3),
        ("GAIN = 1", "GAIN = 4", {}, 5),
        ("", "", {"first": 1}, 3),
    ],
    ids=["the function", "what it calls", "a parameter", "an argument"],
)
def test_changed_work_starts_anew_and_says_so(lab, ran, capsys, old, new, given, expected):
    dies(lab, cells(lab, ran))
    changed = cells(lab, ran, WORK.replace(old, new) if old else WORK)
    assert lab.produce("net", changed["work"], **given) == {"done": [expected] * 3}
    assert list(ran) == [[], []]
    assert "net: code or inputs changed, so it starts anew" in capsys.readouterr().out


def test_fresh_work_starts_from_nothing(lab, ran):
    found = cells(lab, ran)
    dies(lab, found)
    assert lab.produce("net", found["work"], fresh=True) == {"done": [2, 2, 2]}
    dies(lab, found, fresh=True)
    assert lab.produce("net", found["work"], fresh=True) == {"done": [2, 2, 2]}
    assert list(ran) == [[], [], [], []]
    assert hidden(lab) == []


def test_what_cannot_be_stored_leaves_the_earlier_artifact(lab):
    lab.produce("net", dict, a=1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        lab.produce("net", dict, a=float("nan"), fresh=True)
    assert artifacts.fetch(lab.outputs, "net") == {"a": 1}


def test_only_work_on_an_artifact_gets_a_place_for_its_state(lab):
    seen: list[Path | None] = []

    def inner() -> float:
        seen.extend(
            [lab.unfinished("outer"), lab.unfinished("inner"), lab.unfinished("inner", "b")]
        )
        return 1.0

    def outer() -> float:
        lab.produce("inner", inner)
        seen.append(lab.unfinished("outer"))
        return 2.0

    lab.produce("outer", outer)
    assert lab.unfinished("outer") is lab.unfinished("inner") is None
    folder = lab.outputs / ".unfinished"
    assert seen == [None, folder / "inner/training", folder / "inner/b", folder / "outer/training"]
    assert hidden(lab) == []


def test_other_unfinished_work_stays(lab, ran):
    dies(lab, cells(lab, ran))
    lab.produce("other", VGG, [4])
    assert lab.produce("net", cells(lab, ran)["work"]) == {"done": [2, 2, 2]}
    assert list(ran) == [[], [2, 2]]


def test_a_call_by_hand_keeps_nothing(lab, ran):
    found = cells(lab, ran)
    found["work"]()
    found["work"]()
    assert list(ran) == [[], []]
    assert list(lab.folder.iterdir()) == []


def test_grading_loads_and_never_runs_or_takes_up(lab, ran, monkeypatch):
    found = cells(lab, ran)
    dies(lab, found)
    before = sorted(lab.outputs.rglob("*"))
    monkeypatch.setenv("CODESIGN_GRADING", "1")
    with pytest.raises(NotHandedIn, match="'net' for glyphs was not handed in"):
        lab.produce("net", found["work"])
    artifacts.store(lab.outputs, "model", {"x": torch.ones(2)})
    assert torch.equal(lab.produce("model", found["work"])["x"], torch.ones(2))
    assert lab.unfinished("net") is None
    assert list(ran) == [[]]
    after = [path for path in sorted(lab.outputs.rglob("*")) if not path.name.startswith("model.")]
    assert after == before
