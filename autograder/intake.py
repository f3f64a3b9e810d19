"""Intake: what of a submission is let in before anything runs.

The notebook that is executed is the released one with the student's answers put into its solution
cells by id; everything else a student may have changed (tags, points, checks, metadata, extra
cells) does not exist for the judge. Artifacts are copied as regular files of bounded size.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder import artifacts
from autograder.exchange import ExchangeError, read_file
from codesign import datasets

MAX_NOTEBOOK_BYTES = 20 * 2**20
MAX_CELL_CHARACTERS = 200_000
MAX_FILES = 200
PROBLEMS = "codesign_problems"  # notebook metadata that carries them to the judge


@dataclass(frozen=True)
class Intake:
    """The notebook to run, and why the submission was refused or changed (empty: it was not)."""

    notebook: NotebookNode
    problems: tuple[str, ...]


def take_in(release: Path, submitted: Path) -> Intake:
    """The released notebook carrying the answers of ``submitted``.

    A submission that cannot be read gives the released notebook as it is, and the reason; so it
    is graded like an empty one, and never stops the others.
    """
    notebook = nbformat.read(release, as_version=4)
    try:
        answers = _answers(submitted)
    except ExchangeError as error:
        return Intake(notebook, (f"the notebook was not accepted: {error}",))
    problems = []
    for cell in notebook.cells:
        name = grade_id(cell)
        if name is None or not is_solution(cell):
            continue
        found = answers.get(name, [])
        if len(found) != 1:
            problems.append(f"cell {name!r} is in the notebook {len(found)} times, not once")
            continue
        if len(found[0]) > MAX_CELL_CHARACTERS:
            problems.append(f"cell {name!r} has {len(found[0]):,} characters: too many")
            continue
        cell.source = found[0]
    return Intake(notebook, tuple(problems))


def grade_id(cell: NotebookNode) -> str | None:
    """nbgrader's id of a cell, or None."""
    entry = cell.metadata.get("nbgrader")
    return entry.get("grade_id") if isinstance(entry, dict) else None


def is_solution(cell: NotebookNode) -> bool:
    """Whether students write into this cell."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_judged(cell: NotebookNode) -> bool:
    """Whether this is a check: graded by the judge, not by a person."""
    entry = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(entry.get("grade")) and not entry.get("solution")


def _answers(submitted: Path) -> dict[str, list[str]]:
    """Sources of all cells with an id; read as plain JSON, whatever nbformat makes of it."""
    try:
        content = json.loads(read_file(submitted, MAX_NOTEBOOK_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ExchangeError(f"{submitted.name} is not UTF-8: {error.reason}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ExchangeError(f"{submitted.name} is not JSON: {error}") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        raise ExchangeError(f"{submitted.name} has no cells (nbformat 4 is needed)")
    answers: dict[str, list[str]] = {}
    for cell in cells:
        metadata = cell.get("metadata") if isinstance(cell, dict) else None
        entry = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        name = entry.get("grade_id") if isinstance(entry, dict) else None
        source = cell.get("source", "") if isinstance(cell, dict) else ""
        if isinstance(source, list):
            source = "".join(part for part in source if isinstance(part, str))
        if isinstance(name, str) and isinstance(source, str):
            answers.setdefault(name, []).append(source.encode("utf-8", "replace").decode())
    return answers


def choose_dataset(outputs: Path, pinned: str | None, default: str) -> str:
    """The image set that a submission is judged on.

    The instructor's choice if there is one, else the set with the most artifacts handed in.
    """
    if pinned:
        return pinned
    counts = {name: len(list((outputs / name).glob("*.json"))) for name in datasets.DATASETS}
    best = max(counts.values())
    return default if counts[default] == best else max(counts, key=lambda name: counts[name])


def copy_artifacts(outputs: Path, target: Path) -> list[str]:
    """Copy the regular files of ``outputs`` (one folder deep) to ``target``; return what was not.

    Links, pipes, folders and oversized files stay behind.
    """
    target.mkdir(parents=True, exist_ok=True)
    if not outputs.is_dir() or outputs.is_symlink() or outputs.parent.is_symlink():
        return []
    problems = []
    for index, path in enumerate(sorted(outputs.iterdir())):
        try:
            if index >= MAX_FILES:
                raise ExchangeError(f"more than {MAX_FILES} files")
            data = read_file(path, artifacts.MAX_ARTIFACT_BYTES)
        except ExchangeError as error:
            problems.append(f"outputs/{outputs.name}: {error}")
            if index >= MAX_FILES:
                break
            continue
        (target / path.name).write_bytes(data)
    return problems


@dataclass(frozen=True)
class Submission:
    """A submission as it was let in, complete and independent of any folder."""

    notebook: NotebookNode
    artifacts: dict[str, bytes]  # "<dataset>/<file>"
    problems: tuple[str, ...]
    timestamp: bytes | None = None


def accept(release: Path, submission: Path) -> Submission:
    """What of the folder ``submission`` is let in; whatever is wrong with it becomes a problem."""
    taken = take_in(release, submission / release.name)
    problems = list(taken.problems)
    with tempfile.TemporaryDirectory(prefix="codesign-intake-") as folder:
        for dataset in datasets.DATASETS:
            if (submission / "outputs" / dataset).is_dir():
                target = Path(folder) / dataset
                problems += copy_artifacts(submission / "outputs" / dataset, target)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    try:
        stamp = read_file(submission / "timestamp.txt", 1_000)
    except ExchangeError:
        stamp = None
    return Submission(taken.notebook, found, tuple(problems), stamp)
