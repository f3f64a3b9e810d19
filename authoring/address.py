"""Where the course lives, and the two places of a notebook that say so: its badge and setup cell.

The repository's address stands in ``pyproject.toml`` alone; :func:`stamp` writes it, with the tag
of the current version, wherever a reader meets it, so that a fork is one command away.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import codesign

MARK = "<!-- badge -->"
# Pages that name the repository; notebooks are stamped when they are built.
PAGES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"),
    ".github/ISSUE_TEMPLATE/config.yml",
)
COLAB = "https://colab.research.google.com"
SETUP = """\
# Colab installs the course here; where it is installed already, this cell does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("codesign") is None:
    course = os.environ.get("CODESIGN_REPO") or "git+{repository}@{tag}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", course], check=True)
    importlib.invalidate_caches()
"""

_REPOSITORY = re.compile(r'^(Repository = ")(https://github\.com/[\w.-]+/[\w.-]+)(")$', re.M)
_BADGE = re.compile(rf"^(# ?)?{MARK}\n(?:(?:# ?)?\[!\[.*\n)?", re.M)
_SETUP = re.compile(r'^(# %%[^\n]*\btags=\[[^\]\n]*"setup"[^\n]*\n)(.*?)(?=^# %%|\Z)', re.M | re.S)
_LINK = re.compile(rf"{re.escape(COLAB)}/github/[^/\s]+/[^/\s]+/blob/[^/\s]+/")


@dataclass(frozen=True)
class Address:
    """``repository`` (https://github.com/owner/name) and the ``tag`` that notebooks install."""

    repository: str
    tag: str

    def colab(self, path: str) -> str:
        """The address at which Colab opens ``path`` of the repository."""
        slug = self.repository.removeprefix("https://github.com/")
        return f"{COLAB}/github/{slug}/blob/{self.tag}/{path}"

    def badge(self, path: str) -> str:
        """The badge, in Markdown, that opens ``path`` in Colab."""
        return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({self.colab(path)})"

    def setup(self) -> str:
        """Source of the setup cell, the same in every notebook."""
        return SETUP.format(repository=self.repository, tag=self.tag)


def read(root: Path) -> Address:
    """The address in ``root/pyproject.toml``, with the tag of the current version.

    Raises:
        ValueError: no ``Repository`` among the project's addresses, or not one at GitHub.
    """
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    urls = tomllib.loads(text).get("project", {}).get("urls", {})
    if not _REPOSITORY.search(text):
        raise ValueError(
            f"{root / 'pyproject.toml'}: got project.urls.Repository {urls.get('Repository')!r}; "
            "allowed: https://github.com/owner/name"
        )
    return Address(urls["Repository"], f"v{codesign.__version__}")


def root_of(path: Path) -> Path:
    """The checkout that ``path`` lies in: the nearest folder above it with a pyproject.toml.

    Raises:
        ValueError: there is none.
    """
    for folder in path.resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    raise ValueError(f"got {path}; allowed: a file in a checkout of the course")


def opened_at(source: Path) -> str:
    """The notebook a reader of ``source`` should open: a lab's source stands for its release."""
    path = source.resolve().relative_to(root_of(source)).with_suffix(".ipynb")
    if path.parts[0] == "solutions":
        path = Path("labs", *path.parts[1:])
    return path.as_posix()


def filled(text: str, source: Path) -> str:
    """The percent ``text`` of ``source`` with its badge and its setup cell as they should be.

    Raises:
        ValueError: the mark of the badge or the setup cell is missing, or there more than once.
    """
    address = read(root_of(source))
    badge = address.badge(opened_at(source))
    setup = address.setup()
    text, badges = _BADGE.subn(lambda m: f"{m[1] or ''}{MARK}\n{m[1] or ''}{badge}\n", text)
    text, setups = _SETUP.subn(lambda m: f"{m[1]}{setup}\n", text)
    if (badges, setups) != (1, 1):
        raise ValueError(
            f"{source}: got {badges} lines '# {MARK}' and {setups} cells '# %% tags=[\"setup\"]'; "
            "allowed: one of each"
        )
    return text


def write(root: Path, repo: str | None = None) -> Address:
    """Write the address into pyproject.toml (if ``repo`` is given) and the prose; return it.

    Raises:
        ValueError: ``repo`` is not ``owner/name``.
    """
    old = read(root)
    if repo is not None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise ValueError(f"got {repo!r}; allowed: owner/name, as in ml-codesign/course")
        project = root / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        project.write_text(_REPOSITORY.sub(rf"\g<1>https://github.com/{repo}\g<3>", text))
    new = read(root)
    for name in PAGES:
        if (page := root / name).exists():
            text = page.read_text(encoding="utf-8").replace(old.repository, new.repository)
            page.write_text(_LINK.sub(new.colab(""), text))
    return new
