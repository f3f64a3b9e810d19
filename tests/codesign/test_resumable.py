"""State of unfinished work: kept whole, and never taken up by code that did not leave it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codesign import datasets, models, resumable, training

CODE = """
import torch
from torch import nn

RATE = 0.1
GRID = [1, {"a": (2.0, None)}]
CLASSES = frozenset({("cat", 1), ("dog", 2), ("ship", 3)})
START = torch.arange(3.0)

class Base(nn.Module):
    def forward(self, x):
        return x + 1

class Net(Base):
    width = 4

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    @staticmethod
    def half(x):
        return x / 2

    @property
    def twice(self):
        return 2 * self.scale

@torch.no_grad()
def helper(x, y=1):
    return [x * y * 2 for _ in range(3)]

def maker(factor):
    def inner(x):
        return x * factor
    return inner

times = maker(3)
model = Net()

def again(x):
    return work(x) if x else 0  # each calls the other

def work(x):
    '''What is kept under a name.'''
    if x in {"a", "b"} | CLASSES:
        return RATE, GRID
    return helper(x), times(x), again(x), Net().half(x), model, [START for _ in (1,)]
"""
UNSEEN = """
def unrelated(x):
    return x
"""


def notebook(source: str) -> dict[str, Any]:
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec(source, cells)
    return cells


def print_of(source: str = CODE, *given: Any) -> str:
    return resumable.fingerprint(notebook(source)["work"], *given)


# --- fingerprints --------------------------------------------------------------------------------


def test_the_same_code_has_the_same_fingerprint_in_every_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_resumable; "
        "print(test_resumable.print_of())"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    for seed in "12":  # the order of a set of strings depends on it
        done = subprocess.run(
            command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == print_of()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x / 2", "x / 3"),
        ("return x + 1", "return x + 2"),
        ("2 * self.scale", "3 * self.scale"),
        ("width = 4", "width = 5"),
        ("torch.ones(1)", "torch.zeros(1)"),
        ("RATE = 0.1", "RATE = 0.2"),
        ("(2.0, None)", "(2.0, 1)"),
        ('"ship"', '"frog"'),
        ("arange(3.0)", "arange(4.0)"),
        ("x * y * 2", "x * y * 4"),
        ("y=1", "y=2"),
        ("maker(3)", "maker(4)"),
        ("return x * factor", "return x + factor"),
        ("return work(x) if x else 0", "return work(x) if x else 1"),
        ('{"a", "b"}', '{"a", "c"}'),
        ("Net().half(x)", "Net().twice"),
        ("helper(x), times(x)", "times(x), helper(x)"),
    ],
)
def test_a_change_of_anything_that_it_names_changes_it(old, new):
    assert CODE.count(old) == 1
    assert print_of(CODE.replace(old, new)) != print_of()


@pytest.mark.parametrize(
    "source",
    [UNSEEN + CODE, CODE.replace("# each calls the other", "# recursive"), "\n\n" + CODE],
    ids=["another function", "a comment", "lines"],
)
def test_what_it_does_not_use_does_not_count(source):
    assert print_of(source) == print_of()


def images(count: int = 3) -> datasets.ImageSet:
    card = datasets.DatasetCard("glyphs", "train", (), "", "")
    pixels = torch.zeros(count, *datasets.SHAPE, dtype=torch.uint8)
    return datasets.ImageSet(pixels, torch.zeros(count, dtype=torch.int64), card)


def test_arguments_count():
    torch.manual_seed(0)
    one, two = models.VGG([4]), models.VGG([4])
    given = [(), (1,), (2,), (1.0,), ("1",), ({"a": 1},), ({"b": 1},), (one,), (two,)]
    given += [(torch.ones(2),), (torch.ones(2, 1),), (torch.ones(2).int(),), (torch.zeros(2),)]
    some, others = [1], [2]
    given += [(some, others, some), (some, others, others)]
    given += [(images(3),), (images(4),), (torch.ones(2).bool(),), (torch.ones(2).to_sparse(),)]
    assert len({print_of(CODE, *values) for values in given}) == len(given)
    assert print_of(CODE, training.evaluate) != print_of(CODE, training.cross_entropy)


METHODS = """
class Work:
    def __init__(self, gain):
        self.gain = gain

    def __call__(self):
        return helper(self.gain)

    def run(self, first=0):
        return helper(self.gain) + first

def helper(x):
    return 2 * x
"""


@pytest.mark.parametrize(
    "made",
    [
        lambda cells, gain: cells["Work"](gain),
        lambda cells, gain: cells["Work"](gain).run,
        lambda cells, gain: partial(cells["Work"](1).run, gain),
        lambda cells, gain: partial(cells["helper"], x=gain),
    ],
    ids=["an object", "a method", "a partial method", "a partial function"],
)
def test_of_objects_and_partial_calls_code_and_values_count(made):
    one, same, other = (notebook(METHODS) for _ in range(3))
    exec(METHODS.replace("2 * x", "3 * x"), other)
    first = resumable.fingerprint(made(one, 1))
    assert resumable.fingerprint(made(same, 1)) == first
    assert resumable.fingerprint(made(same, 2)) != first
    assert resumable.fingerprint(made(other, 1)) != first


@pytest.mark.parametrize("function", [str, training.evaluate, lambda: 1, print, [].append])
def test_any_function_has_one(function):
    assert len(resumable.fingerprint(function, object(), sys, nn.Linear)) == 64


# --- folders -------------------------------------------------------------------------------------


def test_work_is_taken_up_by_the_code_that_left_it_and_by_no_other(tmp_path):
    folder = tmp_path / "deep" / "model"
    assert resumable.take_up(folder, "one") == ""
    (folder / "training.state").touch()
    assert "goes on" in resumable.take_up(folder, "one")
    assert (folder / "training.state").exists()
    assert "starts anew" in resumable.take_up(folder, "two")
    assert not (folder / "training.state").exists()
    assert resumable.take_up(folder, "two") == "", "nothing was left"


def test_states_whose_code_is_unknown_are_dropped(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/training.state").touch()
    assert "starts anew" in resumable.take_up(tmp_path / "model", "one")
    assert not (tmp_path / "model/training.state").exists()


def test_fresh_work_finds_nothing(tmp_path):
    resumable.take_up(tmp_path / "model", "one")
    (tmp_path / "model/training.state").touch()
    assert resumable.take_up(tmp_path / "model", "one", fresh=True) == ""
    assert not (tmp_path / "model/training.state").exists()


def test_finished_work_leaves_other_work_alone(tmp_path):
    for name in ("one", "two"):
        resumable.take_up(tmp_path / "all" / name, "code")
    resumable.clear(tmp_path / "all/one")
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["two"]
    resumable.clear(tmp_path / "all/two")
    assert list(tmp_path.iterdir()) == []


# --- work in rounds ------------------------------------------------------------------------------


def test_a_search_comes_back_with_its_network_and_history(tmp_path):
    model, stem = models.VGG([4, "M", 6]), tmp_path / "deep" / "rounds"
    assert resumable.kept(stem) is None
    resumable.keep(stem, model, [[1.0, [4, 6]], [0.5, [4, 4]]])
    back, history = resumable.kept(stem)
    assert history == [[1.0, [4, 6]], [0.5, [4, 4]]]
    assert back.config == model.config
    assert not back.training
    state = back.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_tensors_come_back_and_so_does_a_history_alone(tmp_path):
    stem = tmp_path / "layers"
    resumable.keep(stem, {"a.b": torch.arange(6).reshape(2, 3).T}, None)
    (back, history) = resumable.kept(stem)
    assert history is None
    assert torch.equal(back["a.b"], torch.arange(6).reshape(2, 3).T)
    resumable.keep(stem, {}, {"bits": [2]})
    assert resumable.kept(stem) == ({}, {"bits": [2]})


def test_without_a_stem_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resumable.keep(None, models.VGG([4]), [])
    assert resumable.kept(None) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_search_is_named(tmp_path):
    resumable.state_file(tmp_path / "rounds").write_bytes(b"no state")
    with pytest.raises(ValueError, match=r"rounds\.state is not a safetensors file"):
        resumable.kept(tmp_path / "rounds")
