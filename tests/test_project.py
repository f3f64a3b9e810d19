"""The project shell: one set of dependencies, commands that exist, pages that tell the truth."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import codesign
from authoring import address, notebooks
from autograder.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md"]


def requirement(text: str) -> tuple[str, str]:
    """Normalised name and range of a dependency; its extras left out."""
    name, bounds = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", text.replace(" ", "")).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), bounds


def wanted() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"]
    everything = PROJECT["dependencies"] + extras["grading"] + extras["dev"]
    return dict(requirement(text) for text in everything)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(requirement(line) for line in lines if line and not line.startswith("#"))


def make(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True)


def test_environment_and_pyproject_hold_the_same_set():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    found = dict(requirement(entry) for entry in entries if isinstance(entry, str))
    assert found.pop("python") == PROJECT["requires-python"]
    found.pop("pip")
    *by_pip, course = entries[-1]["pip"]
    found |= dict(map(requirement, by_pip))
    assert found == {CONDA_NAMES.get(name, name): bounds for name, bounds in wanted().items()}
    assert course == "-e ."


def test_every_dependency_is_pinned_exactly_and_in_range():
    from packaging.specifiers import SpecifierSet

    pins = pinned()
    assert wanted().keys() <= pins.keys()
    for name, pin in pins.items():
        assert re.fullmatch(r"==[\w.]+", pin), f"{name}{pin}"  # no local versions, no paths
        assert pin.removeprefix("==") in SpecifierSet(wanted().get(name, ""), prereleases=True)


def test_ranges_leave_torch_alone():
    """Colab's torch must satisfy the range: no upper bound, no exact version."""
    assert re.fullmatch(r">=\d+\.\d+", wanted()["torch"])
    assert re.fullmatch(r">=\d+\.\d+", wanted()["torchvision"])


def test_licence():
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "CC BY 4.0" in README


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    shown = re.findall(r"^  make (\w+) +\S", make("help").stdout, re.M)
    helpers = {"lint", "types", "pytest"}  # parts of `make test`
    assert set(shown) == set(phony.split()) - helpers
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page):
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    made = set(re.findall(r"(?:^|`)make (\w+)", text, re.M))
    called = set(re.findall(r"(?:^|`)autograder (\w+)", text, re.M))
    assert made
    assert made <= targets
    assert called <= commands
    for module in re.findall(r"python -m (codesign[\w.]*)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists(), module


def test_the_makefile_calls_commands_that_exist():
    called = re.findall(r"\$\(BIN\)/autograder (\w+)", (ROOT / "Makefile").read_text())
    for command in called:
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0, command


def test_an_old_python_is_refused_with_the_reason(tmp_path):
    old = tmp_path / "python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10)\n$2"'
    )
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    words = ["make", "install", f"PYTHON={old}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text()):
        assert (ROOT / link).exists(), link


def test_readme_has_the_badge_of_every_notebook():
    here = address.read(ROOT)
    for source in notebooks.sources(ROOT):
        assert here.badge(address.opened_at(source)) in README
    for path in re.findall(re.escape(here.colab("")) + r"([^)\s]+)", README):
        assert (ROOT / path).exists(), path


def test_readme_tree_names_what_is_there():
    (tree,) = re.findall(r"```text\n(.*?)```", README, re.S)
    for line in tree.splitlines():
        if line[:1].strip():
            assert (ROOT / line.split()[0]).exists(), line


def test_the_address_stands_in_one_place():
    """Elsewhere it is stamped, so that a fork is one command away: no page has another address."""
    here = address.read(ROOT).repository.removeprefix("https://github.com/")
    for page in PAGES:
        found = set(re.findall(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?=[\s/)@\"`]|$)", README))
        assert found <= {here}, page


def test_ci_calls_the_readmes_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test$", script.read_text(), re.M)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_a_wheel_carries_checkpoints_and_targets(wheel):
    names = set(wheel.namelist())
    for path in (ROOT / "data" / "checkpoints").glob("*/*.json"):
        stem = f"codesign/_data/checkpoints/{path.parent.name}/{path.stem}"
        assert {f"{stem}.json", f"{stem}.safetensors"} <= names
    assert "autograder/targets.toml" in names
    assert "codesign/__init__.py" in names


def test_a_wheel_carries_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"codesign", "autograder", f"codesign_course-{codesign.__version__}.dist-info"}
    assert {Path(name).suffix for name in wheel.namelist()} <= {
        *(".py", ".c", ".h", ".ld", ".toml", ".json", ".safetensors", ".html", ".css", ".txt", ""),
    }
