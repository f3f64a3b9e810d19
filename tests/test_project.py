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
from codesign_tools.cli import app as tools
from typer import Typer
from typer.testing import CliRunner

import codesign
from authoring import address, notebooks
from authoring.cli import app as course
from autograder.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}
README = (ROOT / "README.md").read_text()
TEMPLATES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / ".github").rglob("*.md"))
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff"),
    *("autograder/README.md", "autograder/COMPARISON.md", "data/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
    *TEMPLATES,
    ".github/ISSUE_TEMPLATE/config.yml",
]


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


def run_make(folder: Path, *words: str, **streams: object) -> subprocess.CompletedProcess:
    """As from a shell: the make that runs these tests hands its flags on, and ours would name
    the folder that it enters."""
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    env = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", *words], cwd=folder, env=env, text=True, stderr=subprocess.PIPE, **streams
    )


def make(*words: str) -> subprocess.CompletedProcess:
    return run_make(ROOT, *words, stdout=subprocess.PIPE)


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
    shown = re.findall(r"^  make ([\w-]+) +\S", make("help").stdout, re.M)
    helpers = {"lint", "types", "pytest"}  # parts of `make test`
    assert set(shown) == set(phony.split()) - helpers
    assert make().stdout == make("help").stdout


def _commands(typed: Typer) -> dict[str, set[str]]:
    """Names of the commands; a group's name with the commands in it."""
    groups = {group.name: set(_commands(group.typer_instance)) for group in typed.registered_groups}
    plain = {c.name or c.callback.__name__.replace("_", "-") for c in typed.registered_commands}
    return {**{name: set() for name in plain}, **groups}


def _code(text: str) -> str:
    """Lines of a page's shell blocks, and its code between backticks, a line each."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return "\n".join(
        [*blocks, *(code.replace("\n", " ") for code in re.findall("`([^`]+)`", rest))]
    )


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page):
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    made = set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.M))
    assert made or page not in ("README.md", "CONTRIBUTING.md")
    assert made <= targets
    for name, typed in {"autograder": app, "course": course, "codesign": tools}.items():
        commands = _commands(typed)
        called = re.findall(rf"^(?:\.venv/bin/)?{name} (\w+)(?: (\w+))?", _code(text), re.M)
        assert {command for command, _ in called} <= commands.keys(), name
        for command, inner in called:
            assert not commands[command] or inner in commands[command], f"{name} {command} {inner}"
    for module in re.findall(r"python -m (codesign[\w.]*)", text):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists(), module
    for script in re.findall(r"python ((?:benchmarks|tests)/[\w/.]+)", text):
        assert (ROOT / script).exists(), script


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
    done = run_make(tmp_path, "install", f"PYTHON={old}", stdout=subprocess.PIPE)
    assert done.returncode != 0
    assert "3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


FAKE_PYTHON = """#!/bin/sh
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;
    printf '#!/bin/sh\\necho jupyter "$@"\\n' > .venv/bin/jupyter; chmod +x .venv/bin/jupyter ;;
  "-m pip"*) for n in 1 2 3 4 5; do echo "Collecting package$n"; echo "  Downloading $n.whl"; done
    echo "Installing collected packages: all"; [ ! -e broken ] || exit 3 ;;
esac
"""


@pytest.fixture
def empty_checkout(tmp_path):
    """The Makefile with a Python that installs nothing but says what pip says."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return tmp_path


def make_install(folder: Path, **streams: object) -> subprocess.CompletedProcess:
    return run_make(folder, "install", f"PYTHON={folder / 'python'}", **streams)


def test_an_install_writes_no_progress_into_a_file(empty_checkout):
    done = make_install(empty_checkout, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout
    assert "Collecting" not in done.stdout
    assert 2 <= len(done.stdout.splitlines()) <= 3
    assert (empty_checkout / ".venv" / "install.log").read_text().count("Collecting") == 5


def test_an_install_shows_its_progress_on_a_terminal(empty_checkout):
    ours, theirs = os.openpty()
    done = make_install(empty_checkout, stdout=theirs)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "5 packages found, now package5" in shown
    assert "done" in shown


def test_an_install_that_failed_is_not_taken_for_one(empty_checkout):
    (empty_checkout / "broken").touch()
    assert make_install(empty_checkout, stdout=subprocess.PIPE).returncode != 0
    assert not (empty_checkout / ".venv" / ".installed").exists()


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (1000, False)])
def test_make_lab_lets_root_in(empty_checkout, uid, allowed):
    assert make_install(empty_checkout, stdout=subprocess.PIPE).returncode == 0
    named = empty_checkout / ".venv" / "bin" / "id"  # first on the Makefile's path
    named.write_text(f"#!/bin/sh\necho {uid}\n")
    named.chmod(0o755)
    done = run_make(empty_checkout, "lab", stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("jupyter lab")
    assert ("--allow-root" in done.stdout) == allowed


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / link).exists(), link


def test_readme_has_the_badge_of_every_notebook():
    here = address.read(ROOT)
    for source in notebooks.sources(ROOT):
        assert here.badge(address.opened_at(source)) in README
    for path in re.findall(re.escape(here.colab("")) + r"([^)\s]+)", README):
        assert (ROOT / path).exists(), path


def test_readme_tree_names_what_is_there():
    (tree,) = re.findall(r"## The tree\n\n```text\n(.*?)```", README, re.S)
    folder = ""
    for line in tree.splitlines():
        if line[:1].strip():
            folder = line.split()[0]
            assert (ROOT / folder).exists(), line
        elif line[2:3].strip():  # what lies in it
            assert (ROOT / folder / line.split()[0]).exists(), line


def test_readme_tree_has_every_room():
    rooms = {path.parent.name for path in (ROOT / "autograder").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^  (\w+)/ ", README, re.M))


def foreign_addresses(root: Path) -> dict[str, set[str]]:
    """Repositories at GitHub, other than the course's, that the pages below ``root`` name."""
    here = address.read(ROOT).repository.removeprefix("https://github.com/")
    pattern = r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?=[\s/)@\"`>]|$)"
    found = {page: set(re.findall(pattern, (root / page).read_text())) - {here} for page in PAGES}
    return {page: others for page, others in found.items() if others}


def test_the_address_stands_in_one_place():
    """Elsewhere it is stamped, so that a fork is one command away: no page has another address."""
    assert foreign_addresses(ROOT) == {}


@pytest.mark.parametrize("page", PAGES)
def test_a_foreign_address_on_any_page_is_found(page, tmp_path):
    for name in PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / page).write_text((ROOT / page).read_text() + "\nhttps://github.com/other/repo\n")
    assert foreign_addresses(tmp_path) == {page: {"other/repo"}}


def test_pages_with_the_address_are_stamped():
    named = {page for page in PAGES if address.read(ROOT).repository in (ROOT / page).read_text()}
    assert named <= set(address.PAGES)


def test_the_citation_is_valid():
    """CFF 1.2: its required keys, and the version, licence and address of the project."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] in ("software", "dataset")
    assert all(author.get("name") or author.get("family-names") for author in cited["authors"])
    assert cited["version"] == codesign.__version__
    assert cited["license"] == PROJECT["license"]
    assert cited["repository-code"] == address.read(ROOT).repository


@pytest.mark.parametrize("page", [page for page in TEMPLATES if "ISSUE_TEMPLATE" in page])
def test_issue_templates_say_what_they_are_for(page):
    _, head, body = (ROOT / page).read_text().split("---\n", 2)
    assert yaml.safe_load(head).keys() >= {"name", "about"}
    assert body.strip()


def test_the_changelog_names_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, re.M)
    assert f"ersion {codesign.__version__}" in text or f"## [{codesign.__version__}]" in text


def test_ci_calls_the_readmes_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^timed make test$", script.read_text(), re.M)
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
    for path in (ROOT / "data" / "tables").glob("*/*.json"):
        assert f"codesign/_data/tables/{path.parent.name}/{path.name}" in names
    packages = {"codesign", "autograder", "authoring", "codesign_tools"}
    assert {f"{package}/py.typed" for package in packages} <= names
    for path in (ROOT / "autograder" / "labs").glob("*/targets.toml"):
        assert f"autograder/labs/{path.parent.name}/targets.toml" in names
    assert "codesign/__init__.py" in names


def test_a_wheel_carries_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    ours = {"codesign", "autograder", "authoring", "codesign_tools"}
    assert tops == ours | {f"codesign_course-{codesign.__version__}.dist-info"}
    assert {Path(name).suffix for name in wheel.namelist()} <= {
        *(
            ".py",
            ".c",
            ".h",
            ".ld",
            ".toml",
            ".json",
            ".safetensors",
            ".html",
            ".css",
            ".txt",
            ".typed",
            "",
        ),
    }
