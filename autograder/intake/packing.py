"""Look at a submission before it is handed in, with the judge's own eyes: ``lab.package``.

It reads the notebook as intake does, says which answers and artifacts are there, and refuses what
could not be graded or is older than what was run. Runs where students work: it needs the release's
cells (``release.json`` beside the lab's targets), and neither nbgrader nor nbformat.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autograder.contract import artifacts, definition
from autograder.contract.definition import find
from autograder.contract.files import ARTIFACT_NAME, ExchangeError
from autograder.intake import answers, reading
from autograder.intake.answers import Answers
from autograder.intake.archive import MAX_ARCHIVE_BYTES
from autograder.intake.pieces import Cell, Slot, parsed, plain
from codesign.places import DATASETS

RELEASE = "release.json"
PRODUCED = re.compile(r"lab\.produce\(\s*\"(\w+)\"")
MAX_PLOTS_BYTES = 8 * 2**20  # of a notebook, above which its outputs stay behind


class NotPackaged(ValueError):
    """What lies there could not be graded, or not as it is meant; nothing was written."""


@dataclass(frozen=True)
class ReleasedCell:
    """A cell of the release, as far as intake asks for it."""

    cell_type: str
    source: str
    metadata: dict[str, Any]
    id: str

    def get(self, name: str) -> Any:
        """An attribute by name, as of nbformat's cells."""
        return getattr(self, name, None)


@cache
def released(lab: str) -> tuple[ReleasedCell, ...]:
    """The cells that students get; none where the lab has no folder or was never released."""
    folder = find(lab).folder
    path = folder / RELEASE if folder else None
    if path is None or not path.is_file():
        return ()
    return tuple(ReleasedCell(**cell) for cell in json.loads(path.read_text(encoding="utf-8")))


def write(lab: str, cells: Sequence[Any]) -> None:
    """Store the cells of the release of ``lab`` where `released` finds them."""
    folder = find(lab).folder
    if folder is None:
        return
    content = [
        {
            "cell_type": cell.cell_type,
            "source": cell.source,
            "metadata": {k: v for k, v in cell.metadata.items() if k == "nbgrader"},
            "id": cell.id,
        }
        for cell in cells
    ]
    (folder / RELEASE).write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", "utf-8")


@dataclass(frozen=True)
class Seen:
    """What intake would see of a notebook, and of the artifacts beside it.

    Args:
        written, stubs: answers by grade id; ``stubs`` are as they were handed out.
        unsaved: answers whose text was another one when it was last run.
        here: artifacts by image set.
    """

    found: Answers
    written: tuple[str, ...]
    stubs: tuple[str, ...]
    unsaved: tuple[str, ...]
    here: Mapping[str, frozenset[str]]


def look(
    lab: str, notebook: bytes, outputs: Path, history: Sequence[str] = ()
) -> tuple[Seen, list[str]]:
    """What is in a notebook and in ``outputs``, and for which reasons it should not be handed in.

    Args:
        history: the texts that the kernel ran, in order.

    Raises:
        NotPackaged: it is no notebook at all.
    """
    try:
        cells = reading.cells(notebook)
    except ExchangeError as error:
        raise NotPackaged(f"this cannot be graded: {error}") from None
    base = released(lab)
    found = answers.find(base, cells)
    slots = answers.slots(base)
    stubs = tuple(s.name for s in slots if s.is_empty(found.sources.get(s.name, "-")))
    written = tuple(n for n in (*found.sources, *found.elsewhere) if n not in stubs)
    unsaved = tuple(s.name for s in slots if _is_unsaved(s, cells, history))
    here = {name: _artifacts(outputs / name) for name in DATASETS}
    seen = Seen(found, written, stubs, unsaved, here)
    return seen, _reasons(lab, seen, slots, cells)


def _reasons(lab: str, seen: Seen, slots: Sequence[Slot], cells: Sequence[Cell]) -> list[str]:
    if answers.is_another(released(lab), seen.found):
        other = next((name for name in definition.names() if _fits(name, cells)), "")
        what = f"the notebook of {other}" if other else "another notebook"
        return [f"none of the functions of {lab} is in it: this looks like {what}"]
    reasons = []
    if slots and not seen.written and not any(seen.here.values()):
        reasons.append("every answer is as it was handed out, and there is no artifact")
    if seen.unsaved:
        reasons.append(
            f"the file on disk is older than what you ran ({', '.join(seen.unsaved)}), or differs "
            "from it: save the notebook first, or run these cells again as they are there"
        )
    return reasons


def _fits(lab: str, cells: Sequence[Cell]) -> bool:
    base = released(lab)
    return bool(base) and not answers.is_another(base, answers.find(base, cells))


def _is_unsaved(slot: Slot, cells: Sequence[Cell], history: Sequence[str]) -> bool:
    """Whether what was last run for an answer is not in the file, by its statements."""
    ran = [text for text in history if slot.begun_by(Cell("code", text))]
    if not ran or slot.kind != "code":
        return False
    whole = {_meaning(cell.source) for cell in cells} | {cell.plain for cell in cells}
    parts = {part for cell in cells for part in _parts(cell.source)}
    return _meaning(ran[-1]) not in whole and not _parts(ran[-1]) & parts


def _meaning(text: str) -> str:
    """A text without comments, where it is Python."""
    body = parsed(text)
    return ast.dump(ast.Module(body, [])) if body else plain(text)


def _parts(text: str) -> set[str]:
    """Functions and classes of a text: what is left of it when its cell is split."""
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {ast.dump(node) for node in parsed(text) if isinstance(node, named)}


def _artifacts(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    return frozenset(path.stem for path in folder.glob("*.json") if path.name[:1] != ".")


def wanted(lab: str) -> list[str]:
    """The artifacts that the cells of a lab make, in their order."""
    return [name for cell in released(lab) for name in PRODUCED.findall(cell.source)]


def report(lab: str, seen: Seen, dataset: str, outputs: Path) -> str:
    """What is there, and what is not, in some lines."""
    lines = [
        f"{'answers':10}{_counted('written', seen.written, named=False)}"
        f"{_counted('still as handed out', seen.stubs)}"
        f"{_counted('missing', seen.found.missing)}"
    ]
    lines += [f"{'':10}{repair}" for repair in seen.found.repairs]
    for name in sorted(DATASETS, key=lambda name: name != dataset):
        here, asked = seen.here[name], wanted(lab)
        if name == dataset or here:
            there = [one for one in asked if one in here]
            gone = [one for one in asked if one not in here]
            lines.append(
                f"{name:10}{_counted('artifacts', there, named=False)}{_counted('missing', gone)}"
            )
            lines += [f"{'':10}{problem}" for problem in artifacts.refusals(outputs / name)]
    if all(seen.here.values()):
        lines.append(f"{'':10}{_which(seen)}")
    return "\n".join(lines)


def _which(seen: Seen) -> str:
    """Which image set is judged where there are artifacts of both."""
    most = max(seen.here, key=lambda name: len(seen.here[name]))
    counts = ", ".join(f"{len(found)} of {name}" for name, found in seen.here.items())
    return (
        f"artifacts of two image sets ({counts}): the judge measures one of them, {most} as it "
        "stands, unless your instructor chose; make all of them on one"
    )


def _counted(what: str, names: Sequence[str], *, named: bool = True) -> str:
    if not names and named:
        return ""
    listed = f" ({', '.join(names)})" if names and named else ""
    return f"{'' if not named else ', '}{len(names)} {what}{listed}"


def archived(lab: str, notebook: bytes, outputs: Path) -> bytes:
    """The archive to hand in: the notebook under its name, and what intake takes of ``outputs``.

    Raises:
        NotPackaged: more bytes than intake allows.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.writestr(f"{lab}.ipynb", _without_plots(notebook))
        for path in (path for name in DATASETS for path in sorted((outputs / name).glob("*"))):
            if path.is_file() and ARTIFACT_NAME.fullmatch(path.name):
                archive.write(path, f"outputs/{path.parent.name}/{path.name}")
    if (size := made.tell()) > MAX_ARCHIVE_BYTES:
        raise NotPackaged(f"{size:,} bytes; allowed: {MAX_ARCHIVE_BYTES:,}")
    return made.getvalue()


def _without_plots(notebook: bytes) -> bytes:
    """A notebook as it is, or without its outputs where they are large: nobody grades them."""
    if len(notebook) <= MAX_PLOTS_BYTES:
        return notebook
    content = json.loads(reading.text(notebook))
    for cell in content["cells"]:
        if isinstance(cell, dict) and "outputs" in cell:
            cell["outputs"] = []
    return json.dumps(content).encode()


def notebook_of(lab: str, folder: Path) -> Path:
    """The notebook's file: the one that is open here, else by its name, else by one like it.

    Raises:
        NotPackaged: none is there.
    """
    names = vars(sys.modules["__main__"])
    opened = names.get("__vsc_ipynb_file__") or names.get("__session__")  # VS Code, Jupyter
    if isinstance(opened, str) and opened.endswith(".ipynb") and Path(opened).is_file():
        return Path(opened)
    if (path := folder / f"{lab}.ipynb").is_file():
        return path
    like = [path for path in folder.glob(f"*{lab}*.ipynb") if not path.name.startswith(".")]
    if not like:
        raise NotPackaged(
            f"{path} is not here: save the notebook under this name, or say "
            "lab.package(notebook=...). In Colab: File > Download, then put it beside outputs/"
        )
    return max(like, key=lambda path: path.stat().st_mtime)


def history() -> list[str]:
    """The texts that this kernel ran, in order; none outside of IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    manager = getattr(shell, "history_manager", None)
    return [text for text in getattr(manager, "input_hist_raw", []) if isinstance(text, str)]
