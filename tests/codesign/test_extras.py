"""Optional packages: all else works without them, and what is missing says its remedy."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from authoring import address
from codesign.extras import EXTRAS, needed

ROOT = Path(__file__).parents[2]
OPTIONAL = sorted({package for packages in EXTRAS.values() for package in packages})
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "codesign").rglob("*.py")
    if path.stem != "__init__"
)
HIDDEN = f"""
import importlib, json, sys
for name in {OPTIONAL}:
    sys.modules[name] = None
said = {{}}
for name in {MODULES}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        said[name] = str(error)
from autograder import Lab
from codesign import native
try:
    native.build("int one(void) {{ return 1; }}")
except ImportError as error:
    said["codesign.native"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, str]:
    """What every module of the library says whose import or use fails without the packages."""
    env = {"PATH": "", "CODESIGN_CACHE": str(tmp_path_factory.mktemp("cache"))}
    run = [sys.executable, "-c", HIDDEN]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_needs_a_package_is_known_to_the_setup_cells(said):
    """A module that is left out here would be imported in Colab without what it needs."""
    ours = {name: extra for name, extra in address.NEEDS.items() if name.startswith("codesign.")}
    assert said.keys() == ours.keys()
    for name, extra in ours.items():
        assert re.fullmatch(
            rf"\w+ is not installed: `pip install 'codesign-course\[{extra}\]'` brings it",
            said[name],
        )


def test_pyproject_has_the_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {extra: [re.split(r"\W", wanted)[0] for wanted in extras[extra]] for extra in EXTRAS}
    assert names == {extra: list(packages) for extra, packages in EXTRAS.items()}
    graded = {re.split(r"\W", wanted)[0] for wanted in extras["grading"]}
    assert graded.issuperset(OPTIONAL)  # the judge needs them


def test_another_missing_module_is_no_matter_of_extras():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needed("board"):
        import no_such_module  # noqa: F401


def test_a_part_of_a_package_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "unicorn.arm_const", None)
    with pytest.raises(ImportError, match="unicorn is not installed"), needed("board"):
        importlib.import_module("unicorn.arm_const")
