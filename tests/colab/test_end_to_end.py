"""Lectures and Lab 1 with Colab's own versions of what a notebook touches: kernel, widgets, NumPy.

Asked for by ``CODESIGN_COLAB=1``: the environment is a download of some 150 MB. It has Colab's
published versions (``packages.txt``) but for PyTorch, which is the one that runs these tests, and
Python. The course comes in as in Colab: the notebook's setup cell installs it, here from a wheel.
Sliders and fields are live (no ``CODESIGN_STATIC``) and are moved by a cell at the end.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from authoring import notebooks, run
from codesign import datasets

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("packages.txt")
LECTURES = [path for path in notebooks.sources(ROOT) if "lectures" in path.parts]
TOUCHED = (  # by a notebook
    "debugpy decorator filelock fsspec ipykernel ipython ipywidgets jinja2 jupyter_client "
    "jupyter_core jupyterlab_widgets matplotlib matplotlib-inline nest-asyncio networkx notebook "
    "numpy packaging pillow pip prompt_toolkit psutil pyzmq rich safetensors setuptools sympy "
    "tornado tqdm traitlets typer typing_extensions widgetsnbextension"
)
TORCH = ("torch", "torchvision", "torchgen", "functorch")
MOVED = """
import codesign, ipykernel, IPython, ipywidgets, matplotlib, numpy
print(ipywidgets.__version__, IPython.__version__, ipykernel.__version__, numpy.__version__,
      matplotlib.__version__, codesign.__file__)
boxes = [w for w in ipywidgets.Widget.widgets.values() if isinstance(w, ipywidgets.VBox)]
sliders = [b.children for b in boxes if isinstance(b.children[0], ipywidgets.SelectionSlider)]
for slider, picture in sliders:
    for index in {*range(len(slider.options))} - {slider.index}:  # shortened, it may have one
        picture.value = b""
        slider.index = index
        assert picture.value.startswith(b"\\x89PNG"), slider
asked = [b.children[1].children for b in boxes if isinstance(b.children[0], ipywidgets.HTML)
         and len(b.children) == 2 and isinstance(b.children[1], ipywidgets.HBox)]
for field, unit, note in asked:
    field.value = "much"
    assert note.value.startswith("got 'much'"), note.value
    field.value = "3"
    assert note.value == "kept" or note.value.startswith("outside"), note.value
bars = [w for w in ipywidgets.Widget.widgets.values() if isinstance(w, ipywidgets.FloatProgress)]
print(len(sliders), "sliders,", len(asked), "fields,", len(bars), "bars")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("CODESIGN_COLAB", "0") in ("", "0"),
        reason="downloads Colab's packages; CODESIGN_COLAB=1 asks for it",
    ),
]


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """An environment with Colab's versions, a kernel of it in ``jupyter``, and the wheel."""
    base = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base / "venv"], check=True)
    published = dict(re.findall(r"^([\w.-]+)==(\S+)$", LIST.read_text().lower(), re.M))
    wanted = [f"{name}=={published[name]}" for name in TOUCHED.split()]
    python = base / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", *wanted]
    subprocess.run(pip, check=True)
    (site,) = base.glob("venv/lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if re.split(r"[-.]", entry.name)[0] in TORCH:
            (site / entry.name).symlink_to(entry)
    spec = base / "jupyter" / "kernels" / "colab"
    spec.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "Colab", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(base)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return base


def ran(notebook: nbformat.NotebookNode, colab: Path, folder: Path, monkeypatch) -> list[str]:
    """Execute with a cell that moves sliders and writes answers; the words that it prints."""
    notebook.cells.append(nbformat.v4.new_code_cell(MOVED))
    monkeypatch.setenv("JUPYTER_PATH", str(colab / "jupyter"))
    (wheel,) = colab.glob("*.whl")
    ours = ("CODESIGN_STATIC", "PYTHONPATH", "VIRTUAL_ENV", "CODESIGN_DATA")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    cache = folder / "cache"
    shutil.copytree(datasets.cache_dir(), cache, ignore=lambda *_: {"predictions.json", "native"})
    env |= {"CODESIGN_REPO": str(wheel), "CODESIGN_DATASET": "glyphs", "CODESIGN_CACHE": str(cache)}
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name="colab", timeout=None, resources=where)
    done = client.execute(env=env)
    text = "".join(out.get("text", "") for out in done.cells[-1].outputs)
    print(text)
    assert text.startswith("7.7.1 7.34.0 6.17.1 2.1.3 3.10.0")
    assert str(colab) in text  # the wheel's course
    return text.split()


@pytest.mark.parametrize("source", LECTURES, ids=lambda source: source.stem)
def test_a_lecture_runs_and_its_widgets_move(source, colab, tmp_path, monkeypatch):
    words = ran(run.read(source.with_suffix(".ipynb"), short=True), colab, tmp_path, monkeypatch)
    counts = [str(source.read_text().count(f"plot.{name}(")) for name in ("explore", "predict")]
    assert words[-6:-2] == [counts[0], "sliders,", counts[1], "fields,"]


def test_lab_1_is_checked_and_produces(colab, tmp_path, monkeypatch):
    """Its reference's answers; what took minutes of training is there, the rest is produced."""
    lab = ROOT / "solutions" / "lab1_pruning"
    shutil.copytree(lab / "outputs" / "glyphs", tmp_path / "outputs" / "glyphs")
    for made in ("dense_accuracy", "one_shot", "half", "summary", "compressed"):
        for path in (tmp_path / "outputs" / "glyphs").glob(f"{made}.*"):
            path.unlink()
    ran(run.read(lab / "lab1_pruning.py"), colab, tmp_path, monkeypatch)
    assert (tmp_path / "outputs" / "glyphs" / "summary.json").is_file()
