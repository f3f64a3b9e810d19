"""pip replaces nothing that Colab has: the course's wheel is resolved beside Colab's own packages.

``packages.txt`` is Colab's published list. An environment gets the names and versions of all of it
as metadata alone, and ``pip install --dry-run`` says what it would do there. Compared are names,
versions and the ranges that the course and its new packages ask for. Not compared: the ranges that
Colab's packages ask of each other, which nothing new touches, and the Python: Colab has 3.13, here
the one that runs the tests chooses among the wheels of what is new.
"""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from authoring import address, notebooks
from codesign.extras import EXTRAS

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("packages.txt")
LINE = re.compile(r"([\w.-]+)(?:==(\S+)| @ (\S+))")
FILE = re.compile(r"[^/]+?-(\d[^-/]*?)(?:-[^/]*\.whl|\.tar\.gz)(?:#|$)")  # …/torch-2.11.0+cpu-….whl
pytestmark = pytest.mark.slow
ASKED = [("native", "onnx"), ("board",), ("llm",)]  # what setup cells ask for, or more


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def published() -> dict[str, str]:
    """Version by name; 0 where Colab installed a commit, which tells none."""
    found = {}
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            name, version, address = LINE.fullmatch(line).groups()
            file = FILE.search(unquote(address or ""))
            found[normal(name)] = version or (file[1] if file else "0")
    return found


def pip(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """The Python of an environment with the metadata of Colab's packages and no code."""
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name, version in published().items():
        if name != "pip":
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text)
            (info / "INSTALLER").write_text("pip\n")
            (info / "RECORD").write_text("")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The course's wheel without its code: its metadata is what pip reads."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    thin = folder / "thin" / built.name
    thin.parent.mkdir()
    with zipfile.ZipFile(built) as whole, zipfile.ZipFile(thin, "w") as kept:
        for name in whole.namelist():
            if ".dist-info/" in name:
                kept.writestr(name, whole.read(name))
    return thin


def installed(colab: Path, wheel: Path, *extras: str) -> dict[str, str]:
    """What pip would install in Colab: version by name."""
    report = wheel.with_suffix(f".{'-'.join(extras)}.json")
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    done = pip("--python", str(colab), "install", "--dry-run", "--report", str(report), wanted)
    assert done.returncode == 0, done.stderr
    rows = (row["metadata"] for row in json.loads(report.read_text())["install"])
    return {normal(row["name"]): row["version"] for row in rows}


@pytest.fixture(scope="module")
def index() -> None:
    """Skip where no package index answers."""
    if pip("index", "versions", "iniconfig", "--retries", "0", "--timeout", "10").returncode:
        pytest.skip("no package index answers")


def test_the_list_is_dated_and_read():
    head = "".join(re.findall(r"^#.*\n", LIST.read_text(), re.M))
    assert re.search(r"googlecolab/backend-info.*pip-freeze\.txt", head)
    assert re.search(r"commit [0-9a-f]{40}", head)
    assert re.search(r"20\d\d-\d\d-\d\d", head)
    assert published()["ipywidgets"] == "7.7.1"
    assert published()["torch"] == "2.11.0+cpu"
    assert published()["google-colab"] == "1.0.0"
    assert len(published()) > 600


def test_the_course_alone_installs_nothing_else(colab, wheel):
    assert installed(colab, wheel).keys() == {"codesign-course"}


@pytest.mark.parametrize("extras", ASKED, ids="-".join)
def test_extras_install_only_what_colab_lacks(colab, wheel, extras, index):
    new = installed(colab, wheel, *extras)
    assert new.keys() & published().keys() == set()
    wanted = {normal(package) for package in packages(*extras)}
    assert new.keys() >= {"codesign-course"} | (wanted - published().keys())


def packages(*extras: str) -> set[str]:
    return {package for extra in extras for package in EXTRAS[extra]}


def test_what_setup_cells_ask_for_is_among_them():
    for source in notebooks.sources(ROOT):
        wanted = address.packages(source.read_text(), ROOT).keys()
        assert any(wanted <= packages(*extras) for extras in ASKED), source.stem


def test_a_package_that_would_be_replaced_is_found(colab, wheel, tmp_path, index):
    """With the range that the course once had."""
    (name,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA")]
    old = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(old, "w") as changed:
        for each in source.namelist():
            text = source.read(each)
            if each == name:
                assert b"ipywidgets>=7.7.1" in text
                text = text.replace(b"ipywidgets>=7.7.1", b"ipywidgets>=8")
            changed.writestr(each, text)
    assert "ipywidgets" in installed(colab, old)
