"""Rules of the house as functions: each takes a repository's root and names what breaks it.

An import is whatever makes a module depend on another one: an ``import`` statement anywhere in the
file (``TYPE_CHECKING`` included), and a string that names one of our modules, because such strings
are imported later (preload lists, ``student.measure("package.module:function")``, programs for
``python -c``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# What each of the top-level folders may import of the others.
ALLOWED = {
    "codesign": set(),
    "autograder": {"codesign"},
    "authoring": {"autograder", "codesign"},
    "samples": {"autograder", "codesign"},
    "tools": {"codesign"},
    "benchmarks": {"samples", "autograder", "codesign"},
    "lectures": {"codesign"},
    "solutions": {"autograder", "codesign"},
}
PACKAGES = ("codesign", "autograder", "authoring", "samples", "tools", "benchmarks")
# The rooms of the autograder, each of which imports itself and what stands after it. Modules
# beside the rooms (`lab`, `cli`) stand before all of them.
ROOMS = ("labs", "proof", "reports", "grading", "sandbox", "intake", "contract")
# `import autograder` registers the labs: what that costs, every notebook pays.
AT_ONCE = {"autograder.contract", "autograder.labs"}
LONGEST = 300  # lines
SENTENCES = 3  # of a room's docstring
NO_NAMES = {"utils", "common", "helpers", "misc"}
# A whole string, perhaps with ":function" or what an f-string adds; an import in a program.
DOTTED = r"([a-z]\w*(?:\.\w+)+)"
STRINGS = (rf"\A{DOTTED}(?::\w+|\.)?\Z", rf"\b(?:import|from)\s+{DOTTED}")
PICKLES = {"pickle", "dill", "cloudpickle", "joblib"}
PICKLING = ("torch.load(", "allow_pickle=True")


def files(root: Path, folder: str) -> list[Path]:
    """Every Python file of a top-level folder."""
    return sorted((root / folder).rglob("*.py"))


def dotted(root: Path, path: Path) -> str:
    """The name under which a file is imported; a package's is that of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[1:] if parts[0] == "tools" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@lru_cache
def modules(root: Path) -> dict[str, Path]:
    """Every module of our packages by its dotted name."""
    return {dotted(root, path): path for folder in PACKAGES for path in files(root, folder)}


def top(root: Path, name: str) -> str:
    """The top-level folder that a dotted name belongs to."""
    first = name.partition(".")[0]
    return "tools" if (root / "tools" / first).is_dir() else first


@lru_cache
def names(path: Path) -> frozenset[str]:
    """Dotted names that a file imports by statement: ``a.b`` for ``from a import b``.

    Raises:
        ValueError: a relative import or one of everything.
    """
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.names[0].name == "*":
                raise ValueError(f"{path}:{node.lineno}: got a relative or star import")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@lru_cache
def strings(path: Path) -> frozenset[str]:
    """Dotted names in the strings of a file that are no docstrings."""
    found: set[str] = set()
    parsed = tree(path)
    silent = {id(node.value) for node in ast.walk(parsed) if isinstance(node, ast.Expr)}
    for node in ast.walk(parsed):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in silent
        ):
            found |= {name for pattern in STRINGS for name in re.findall(pattern, node.value)}
    return frozenset(found)


@lru_cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(root: Path, path: Path) -> set[str]:
    """Our modules that a file imports, by statement or as a string."""
    known = modules(root)
    found = {_module(name, known) for name in names(path) | strings(path)}
    return {name for name in found if name and known[name] != path}


def _module(name: str, known: dict[str, Path]) -> str:
    """The longest part of a dotted name that is a module of ours; empty: none is."""
    parts = name.split(".")
    heads = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((head for head in heads if head in known), "")


# --- rules ---------------------------------------------------------------------------------------


def one_way(root: Path) -> Iterator[str]:
    """Top-level folders import as ``ALLOWED`` says; tests and tools are imported by nobody."""
    tests = {path.stem for path in files(root, "tests")} | {"tests"}
    for folder, allowed in ALLOWED.items():
        for path in files(root, folder):
            taken = {top(root, name) for name in imported(root, path)}
            taken |= {name.partition(".")[0] for name in names(path)} & tests
            yield from (f"{where(root, path)}: {name}" for name in taken - allowed - {folder})


def only_lab(root: Path) -> Iterator[str]:
    """Of the judge, a notebook that students get imports ``Lab`` alone."""
    for path in files(root, "solutions"):
        taken = {name for name in names(path) if name.partition(".")[0] == "autograder"}
        yield from (f"{where(root, path)}: {name}" for name in taken - {"autograder.Lab"})


def rooms_down(root: Path) -> Iterator[str]:
    """Rooms of the autograder import down the list ``ROOMS``, and every room is on it."""
    home = root / "autograder"
    found = {path.parent.name for path in home.glob("*/__init__.py")}
    yield from (f"autograder/{name} is not in ROOMS" for name in sorted(found ^ {*ROOMS}))
    for path in files(root, "autograder"):
        own = _height(dotted(root, path))
        for name in imported(root, path):
            if name.startswith("autograder.") and _height(name) < own:
                yield f"{where(root, path)}: {name}"


def _height(name: str) -> int:
    """How far down a module stands; 0 for those beside the rooms."""
    room = name.split(".")[1] if "." in name else ""
    return ROOMS.index(room) + 1 if room in ROOMS else 0


def light(root: Path) -> Iterator[str]:
    """What ``import autograder`` imports at once: of ours, the lowest room and the labs' names."""
    first = [root / "autograder" / "__init__.py", root / "autograder" / "labs" / "__init__.py"]
    first += sorted((root / "autograder" / "labs").glob("*/__init__.py"))
    for path in first:
        for name in _at_once(tree(path)):
            if name.split(".")[0] in ALLOWED and ".".join(name.split(".")[:2]) not in AT_ONCE:
                yield f"{where(root, path)}: {name}"


def _at_once(parsed: ast.Module) -> Iterator[str]:
    """Dotted names of a module's statements, leaving out functions and ``TYPE_CHECKING``."""
    for node in parsed.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def no_cycle(root: Path) -> Iterator[str]:
    """No two modules of the library import each other, however many others are between them."""
    known = modules(root)
    graph = {
        name: {one for one in imported(root, path) if not name.startswith(f"{one}.")}
        for name, path in known.items()
        if name.partition(".")[0] == "codesign"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " <- ".join(error.args[1])


def short(root: Path) -> Iterator[str]:
    """No file of a package is longer than ``LONGEST`` lines."""
    for path in modules(root).values():
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > LONGEST:
            yield f"{where(root, path)}: got {count} lines; allowed: {LONGEST}"


def named(root: Path) -> Iterator[str]:
    """A file's name says what it holds: neither nothing nor what its folder says already."""
    for path in modules(root).values():
        if path.stem in NO_NAMES or path.stem == path.parent.name:
            yield where(root, path)


def described(root: Path) -> Iterator[str]:
    """Every module has a docstring; what lives in a room is said in three sentences or fewer."""
    for path in (*modules(root).values(), *files(root, "tests")):
        text = ast.get_docstring(tree(path)) or ""
        said = len(re.findall(r"[.!?](?=\s|$)", text))
        if not text:
            yield f"{where(root, path)}: no docstring"
        elif path.name == "__init__.py" and path.parent.name in ROOMS and said > SENTENCES:
            yield f"{where(root, path)}: got {said} sentences; allowed: {SENTENCES}"


def no_pickle(root: Path) -> Iterator[str]:
    """Artifacts and checkpoints come from strangers; loading a pickle runs their code."""
    for path in modules(root).values():
        text = path.read_text(encoding="utf-8")
        taken = {name.partition(".")[0] for name in names(path)} & PICKLES
        taken |= {call for call in PICKLING if call in text}
        yield from (f"{where(root, path)}: {name}" for name in sorted(taken))


def where(root: Path, path: Path) -> str:
    """A path as people write it."""
    return path.relative_to(root).as_posix()
