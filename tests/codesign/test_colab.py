"""What a lab does in Colab, with a stand-in for ``google.colab``."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from codesign import colab

NOTEBOOK = {"cells": [{"cell_type": "code", "source": "1"}], "metadata": {}}


class Colab:
    """Records what was asked of it; ``answer`` is the front end's."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.answer: object = {"ipynb": NOTEBOOK}

    def mount(self, where: str) -> None:
        self.asked.append(("mount", where))
        (Path(where) / "MyDrive").mkdir(parents=True, exist_ok=True)

    def download(self, path: str) -> None:
        self.asked.append(("download", path))

    def blocking_request(self, kind: str, request: str, timeout_sec: float) -> object:
        self.asked.append((kind, request, timeout_sec > 0))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def here(monkeypatch, tmp_path) -> Colab:
    """As in Colab, with Drive in a temporary folder."""
    fake = Colab()
    parts = {
        "drive": {"mount": fake.mount},
        "files": {"download": fake.download},
        "_message": {"blocking_request": fake.blocking_request},
    }
    package = ModuleType("google.colab")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    for name, functions in parts.items():
        module = ModuleType(f"google.colab.{name}")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, f"google.colab.{name}", module)
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    return fake


def test_drive_is_mounted_and_the_labs_folder_made(here, tmp_path):
    folder = colab.keep_in_drive("lab1_pruning")
    assert folder == tmp_path / "drive" / "MyDrive" / "codesign" / "lab1_pruning"
    assert folder.is_dir()
    (folder / "kept").touch()
    assert (colab.keep_in_drive("lab1_pruning") / "kept").exists()
    assert here.asked[0] == ("mount", str(tmp_path / "drive"))


def test_a_file_is_offered(here, tmp_path):
    colab.download(tmp_path / "lab1_pruning.zip")
    assert here.asked == [("download", str(tmp_path / "lab1_pruning.zip"))]


def test_the_open_notebook(here):
    assert colab.open_notebook() == NOTEBOOK
    assert here.asked == [("get_ipynb", "", True)]


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"ipynb": None}, {"ipynb": {"cells": []}}, {"ipynb": "{}"}, TimeoutError("late")],
)
def test_a_front_end_that_does_not_answer(here, answer):
    here.answer = answer
    assert colab.open_notebook() is None


def test_elsewhere_nothing_happens(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    assert colab.keep_in_drive("lab1_pruning") is None
    assert capsys.readouterr().out.count("\n") == 1
    colab.download(tmp_path / "lab1_pruning.zip")
    assert colab.open_notebook() is None
    assert list(tmp_path.iterdir()) == []
