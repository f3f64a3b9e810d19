"""Remember what was proved: one hash of all inputs for each line of the proof, in ``ledger.json``.

A line is a reference, a release, a mutant or a valid solution on one dataset. It need not be judged
again while nothing that it depends on has changed: check, targets, answer, release, reference,
artifacts, checkpoints, versions of the libraries, and every module of the judge and the course
library that its checks or its notebook import, however deep. Comments and docstrings do not count,
nor does what only draws, nor how intake makes the notebook, which is an input itself.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from nbformat import NotebookNode

from autograder.contract.definition import LabDefinition
from codesign import places

OURS = re.compile(r"(autograder|codesign)(\.\w+)+(:\w+)?")
ALWAYS = (  # what judges any line; the fork server is started by its path
    "autograder.grading.judge",
    "autograder.contract.checking",
    "autograder.sandbox.fork_server",
    "autograder.proof.prove",
)
# What no verdict looks at: figures; and what makes the notebook that runs, which is hashed itself.
WITHOUT = frozenset(
    {
        "codesign.plot",
        *(
            f"autograder.intake.{name}"
            for name in ("answers", "archive", "packing", "reading", "release", "transplant")
        ),
    }
)
LIBRARIES = ("torch", "numpy", "safetensors", "ziglang", "unicorn", "capstone", "onnxruntime")
SOURCES = {".c", ".h", ".ld", ".toml"}  # beside Python
FILE = "ledger.json"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Known = dict[str, str]  # "<dataset>: <line>" -> key


def read(lab: LabDefinition) -> Known:
    """Return what was proved of ``lab``; nothing where there is no ledger."""
    path = lab.folder / FILE if lab.folder else None
    return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}


def write(lab: LabDefinition, known: Known) -> None:
    """Store what was proved of ``lab``.

    Raises:
        ValueError: a lab without a folder.
    """
    if lab.folder is None:
        raise ValueError(f"{lab.name} has no folder to keep a ledger in")
    text = json.dumps(dict(sorted(known.items())), indent=0, ensure_ascii=False)
    (lab.folder / FILE).write_text(text + "\n", encoding="utf-8")


def name_of(dataset: str, line: str) -> str:
    """Return the ledger's name of a line."""
    return f"{dataset}: {line}"


def base(lab: LabDefinition, notebook: NotebookNode, release: NotebookNode, outputs: Path) -> str:
    """Return a digest of everything but the answer that a line of ``lab`` depends on.

    Args:
        notebook: what runs: the release with the reference's answers.
        release: what students get; see :func:`autograder.intake.release.base`.
        outputs: the reference's artifacts, in a folder named like their image set.
    """
    digest = hashlib.sha256(f"{lab.name} {outputs.name} {versions()}".encode())
    notebooks = [_code(notebook), _code(release)]
    modules = [*ALWAYS, *named_in("\n".join(notebooks))]
    files = {*imported(modules, _own(lab), without=WITHOUT), *_sources(lab)}
    for path in sorted(files):
        digest.update(f"{path.name}\0{meaning(path)}\0".encode())
    for text in notebooks:
        digest.update(_without_docstrings(text).encode() + b"\0")
    for path in sorted(path for path in outputs.glob("*") if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def key(base: str, *parts: str, files: Iterable[Path] = ()) -> str:
    """Return the key of one line: its lab's ``base``, its answer, and ``files`` that forge one."""
    digest = hashlib.sha256("\0".join([base, *parts]).encode())
    for path in sorted(files):
        digest.update(meaning(path).encode())
    return digest.hexdigest()[:24]


def imported(
    modules: Iterable[str], files: Iterable[Path] = (), without: Collection[str] = ()
) -> set[Path]:
    """Return the files of ``modules`` and ``files``, and of all of ours that they import.

    Args:
        without: modules that are left out, with what only they import.
    """
    todo = [path for name in modules if name not in without for path in _files(name)]
    todo += files
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            names = named_in(path.read_text(encoding="utf-8"))
            todo += [other for name in names if name not in without for other in _files(name)]
    return found


def named_in(text: str) -> set[str]:
    """Return our modules that Python ``text`` names, in imports and in strings like "a.b:c"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value.split(":")[0]} if OURS.fullmatch(node.value) else set()
    return {name for name in names if name.split(".")[0] in ("autograder", "codesign")}


@cache
def _files(name: str) -> tuple[Path, ...]:
    """The file of a module of ours and those of the packages around it; of no module: none."""
    parts = name.split(".")
    root = _package(parts[0])
    at, found = root, [root / "__init__.py"]
    for part in parts[1:]:
        if (at / f"{part}.py").is_file():
            return (*found, at / f"{part}.py")
        at = at / part
        if not (at / "__init__.py").is_file():
            return tuple(found)
        found.append(at / "__init__.py")
    return tuple(found)


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _own(lab: LabDefinition) -> list[Path]:
    """The lab's Python files but its answers, which are part of their own lines alone."""
    if lab.folder is None:
        return []
    files = (path.relative_to(lab.folder) for path in lab.folder.rglob("*.py"))
    answers = ("mutants", "valid")
    return [lab.folder / path for path in files if not path.parts[0].startswith(answers)]


def _sources(lab: LabDefinition) -> list[Path]:
    """C, linker scripts, the lab's own targets and records of checkpoints."""
    judge, others = _package("autograder"), _package("autograder") / "labs"
    files = [path for root in (judge, _package("codesign")) for path in root.rglob("*")]
    kept = [path for path in files if path.suffix in SOURCES and not path.is_relative_to(others)]
    own = [lab.folder / "targets.toml"] if lab.folder else []
    records = [p for root in places.checkpoint_folders() for p in root.rglob("*.json")]
    return [*kept, *own, *records]


@cache
def meaning(path: Path) -> str:
    """Return what of a file counts: of Python its syntax tree without docstrings, else its text."""
    text = path.read_text(encoding="utf-8")
    return _without_docstrings(text) if path.suffix == ".py" else text


def _without_docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)


def _code(notebook: NotebookNode) -> str:
    """The code cells of a notebook, as one text."""
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def versions() -> str:
    """Return Python's version and the libraries' on which verdicts depend."""
    python = ".".join(map(str, sys.version_info[:2]))  # a bug-fix release changes no verdict
    return " ".join([python, *(f"{name} {version(name)}" for name in LIBRARIES)])
