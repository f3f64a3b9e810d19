"""Where the course lives, and the two places of a notebook that say so: its badge and setup cell.

The repository's address stands in ``pyproject.toml`` alone; :func:`write` puts it, with the tag of
the current version, wherever a reader meets it, so that a fork is one command away. A setup cell
also installs the optional packages (``codesign.extras``) that its notebook's imports need.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import codesign
from codesign.extras import EXTRAS

MARK = "<!-- badge -->"
# Pages that name the repository; notebooks are stamped when they are built.
PAGES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"),
    ".github/ISSUE_TEMPLATE/config.yml",
)
COLAB = "https://colab.research.google.com"
SETUP = """\
# Colab installs here what this notebook needs; what is installed already stays as it is.
import importlib.util
import os
import subprocess
import sys

course = os.environ.get("CODESIGN_REPO") or "git+{repository}@{tag}"
packages = {{
    "codesign": course,{further}
}}
missing = [packages[name] for name in packages if importlib.util.find_spec(name) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    importlib.invalidate_caches()
"""
# What an import needs of EXTRAS; modules of the course import the packages themselves.
NEEDS = {
    **{package: extra for extra in ("board", "native", "onnx", "llm") for package in EXTRAS[extra]},
    "codesign.native": "native",
    **{
        f"codesign.{module}": "llm"
        for module in (
            *("gguf_config", "gguf_files", "gguf_header", "gguf_tokenizer", "hub", "llama_files"),
            *("tokenizer", "language_training", "perplexity"),
        )
    },
    "codesign.hardware.board": "board",
    "codesign.hardware.cortex_m": "board",
    "codesign.hardware.elf": "board",
    "codesign.hardware.emit": "board",
    "codesign.hardware.emulator": "board",
    "codesign.hardware.engine": "board",
    "codesign.hardware.guards": "board",
}

_REPOSITORY = re.compile(r'^(Repository = ")(https://github\.com/[\w.-]+/[\w.-]+)(")$', re.M)
_BADGE = re.compile(rf"^(# ?)?{MARK}\n(?:(?:# ?)?\[!\[.*\n)?", re.M)
_SETUP = re.compile(r'^(# %%[^\n]*\btags=\[[^\]\n]*"setup"[^\n]*\n)(.*?)(?=^# %%|\Z)', re.M | re.S)
_ARCHIVE = re.compile(r"(/archive/refs/tags/)[^/\s]+(?=\.zip)")
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

    def setup(self, packages: dict[str, str] | None = None) -> str:
        """Source of the setup cell of a notebook that needs ``packages`` beside the course."""
        lines = "".join(f'\n    "{name}": "{wanted}",' for name, wanted in (packages or {}).items())
        return SETUP.format(repository=self.repository, tag=self.tag, further=lines)


def packages(text: str, root: Path) -> dict[str, str]:
    """Optional packages that the code ``text`` needs, with their ranges in ``root``'s pyproject.

    They follow from what it imports (``NEEDS``), in any cell and any function.

    Raises:
        ValueError: ``text`` is not Python.
    """
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError as error:
        raise ValueError(f"got {error.msg} in line {error.lineno}; allowed: Python") from None
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    ranges = project.get("project", {}).get("optional-dependencies", {})
    extras = {NEEDS[name] for name in names & NEEDS.keys()}
    wanted = [each for extra in extras for each in ranges.get(extra, EXTRAS[extra])]
    return {re.split(r"\W", each)[0]: each for each in sorted(wanted)}


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
        ValueError: the mark of the badge or the setup cell is missing, or there more than once;
            or the code is not Python.
    """
    root = root_of(source)
    address = read(root)
    badge = address.badge(opened_at(source))
    setup = address.setup(packages(text, root))
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
            text = _ARCHIVE.sub(rf"\g<1>{new.tag}", text)
            page.write_text(_LINK.sub(new.colab(""), text))
    return new
