"""The setup cell: what a notebook needs follows from its imports, and only that is installed."""

import importlib.util
import subprocess
import sys

import pytest

from authoring import address

PROJECT = """
[project.urls]
Repository = "https://github.com/somebody/something"

[project.optional-dependencies]
native = ["ziglang>=0.13"]
board = ["ziglang>=0.13", "unicorn>=2.1", "capstone>=5.0"]
onnx = ["onnx>=1.16,<2", "onnxruntime>=1.18"]
"""
ZIG = {"ziglang": "ziglang>=0.13"}
BOARD = {"capstone": "capstone>=5.0", "unicorn": "unicorn>=2.1"} | ZIG
ONNX = {"onnx": "onnx>=1.16,<2", "onnxruntime": "onnxruntime>=1.18"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("from codesign import plot", {}),
        ("from codesign.hardware import eie, memory_planner", {}),
        ("from codesign import native, plot", ZIG),
        ("import codesign.native as native", ZIG),
        ("from codesign.native import build", ZIG),
        ("def f():\n    from codesign.hardware.cortex_m import Firmware", BOARD),
        ("from codesign.hardware import (\n    energy,\n    engine,\n)", BOARD),
        ("from codesign import native\nimport capstone", BOARD),
        ("from onnx import helper\nfrom codesign import native", ONNX | ZIG),
        ("# import onnx\ntext = 'import onnx'", {}),
    ],
)
def test_packages_follow_from_imports(root, text, wanted):
    assert address.packages(text, root) == wanted


def test_a_course_without_such_extras_gets_any_version(root):
    (root / "pyproject.toml").write_text("")
    assert address.packages("import onnx", root) == {"onnx": "onnx", "onnxruntime": "onnxruntime"}


def test_code_that_is_no_python(root):
    with pytest.raises(ValueError, match=r"line 2; allowed: Python"):
        address.packages("x = 1\nx =", root)


def run(cell: str, monkeypatch, *here: str) -> list[str]:
    """What the setup cell installs where the packages ``here`` are installed already."""
    asked: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: asked.append(words))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in here else None
    )
    exec(cell, {})
    assert all(words[:5] == [sys.executable, "-m", "pip", "install", "-q"] for words in asked)
    return [wanted for words in asked for wanted in words[5:]]


def test_the_cell_installs_what_is_missing(root, monkeypatch):
    monkeypatch.delenv("CODESIGN_REPO", raising=False)
    here = address.read(root)
    course = f"git+https://github.com/somebody/something@{here.tag}"
    cell = here.setup(ZIG | ONNX)
    assert run(cell, monkeypatch) == [course, *ZIG.values(), *ONNX.values()]
    assert run(cell, monkeypatch, "codesign", "onnx", "onnxruntime") == [*ZIG.values()]
    assert run(cell, monkeypatch, "codesign", "ziglang", "onnx", "onnxruntime") == []
    assert run(here.setup(), monkeypatch) == [course]
    monkeypatch.setenv("CODESIGN_REPO", "here.whl")
    assert run(here.setup(), monkeypatch) == ["here.whl"]


def test_the_cell_is_filled_in(root):
    source = root / "lectures" / "01_small.py"
    text = '# # T\n# <!-- badge -->\n\n# %% tags=["setup"]\nold\n\n# %%\nimport onnx\n'
    filled = address.filled(text, source)
    assert '    "onnx": "onnx>=1.16,<2",\n' in filled
    assert "old" not in filled
    assert address.filled(filled, source) == filled


def test_pages_get_address_and_tag(root):
    page = root / "README.md"
    page.write_text(
        "pip install https://github.com/somebody/something/archive/refs/tags/v0.0.zip\n"
    )
    tag = address.write(root, "other/fork").tag
    archive = f"https://github.com/other/fork/archive/refs/tags/{tag}.zip"
    assert page.read_text() == f"pip install {archive}\n"
