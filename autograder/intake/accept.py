"""Validate a submission before anything runs: transplant its answers into the released notebook.

The notebook that is executed is the released one with the student's answers put into its solution
cells by id; everything else a student may have changed (tags, points, checks, metadata, extra
cells) does not exist for the judge. Artifacts are copied as regular files of bounded size and known
names. A folder in nbgrader's layout and the archive that ``lab.package`` makes are both accepted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.contract.cells import grade_id, is_solution
from autograder.contract.files import (
    ARTIFACT_NAME,
    MAX_ARTIFACT_BYTES,
    ExchangeError,
    read_file,
)
from autograder.intake import archive, sanitize
from codesign.places import DATASETS

STUDENT_ID = re.compile(
    r"(?!.*\.\.)[\w@][\w@.+ '-]{0,99}"
)  # a folder's name; formgrader shows it raw
MAX_NOTEBOOK_BYTES = 20 * 2**20
MAX_CELL_CHARACTERS = 200_000
MAX_LINE = 5_000  # in code; the colours of some lines of 200,000 take formgrader ten minutes
MAX_FILES = 200
MAX_SUBMISSION_BYTES = 128 * 2**20  # of artifacts for one image set
MAX_PROBLEMS = 20  # of one kind that are told
PROBLEMS = "codesign_problems"  # notebook metadata that carries them to the judge
NOT_ACCEPTED = "the notebook was not accepted"


@dataclass(frozen=True)
class Transplanted:
    """The notebook to run, and why the submission was refused or changed (empty: it was not)."""

    notebook: NotebookNode
    problems: tuple[str, ...]


def transplant(release: Path, submitted: Path) -> Transplanted:
    """Put the answers of ``submitted`` into the released notebook.

    A submission that cannot be read gives the released notebook as it is, and the reason; so it
    is graded like an empty one, and never stops the others.
    """
    notebook = nbformat.read(release, as_version=4)
    try:
        answers = _answers(submitted)
    except ExchangeError as error:
        return Transplanted(notebook, (f"{NOT_ACCEPTED}: {error}",))
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
        if cell.cell_type == "code" and (n := max(map(len, found[0].split("\n")))) > MAX_LINE:
            problems.append(f"cell {name!r} has a line of {n:,} characters: too many")
            continue
        cell.source = sanitize.markdown(found[0]) if cell.cell_type == "markdown" else found[0]
    return Transplanted(notebook, tuple(problems))


def _answers(submitted: Path) -> dict[str, list[str]]:
    """Read the sources of all cells with an id, as plain JSON, whatever nbformat makes of it."""
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
    """Choose the dataset that a submission is judged on.

    The instructor's choice if there is one, else the set with the most artifacts handed in.
    """
    if pinned:
        return pinned
    counts = {name: len(list((outputs / name).glob("*.json"))) for name in DATASETS}
    best = max(counts.values())
    return default if counts[default] == best else max(counts, key=lambda name: counts[name])


def copy_artifacts(outputs: Path, target: Path) -> list[str]:
    """Copy the regular files of ``outputs`` (one folder deep) to ``target``; return what was not.

    Links, pipes, folders, unknown names, and what is too much stay behind; hidden files and the
    parts of an interrupted save do so silently.
    """
    target.mkdir(parents=True, exist_ok=True)
    if not outputs.is_dir() or outputs.is_symlink() or outputs.parent.is_symlink():
        return []
    problems, left = [], MAX_SUBMISSION_BYTES
    names = sorted(
        name for name in os.listdir(outputs) if not name.startswith(".") and name[-5:] != ".part"
    )
    for name in names[:MAX_FILES]:
        try:
            if not ARTIFACT_NAME.fullmatch(name):
                raise ExchangeError(f"{name[:100]!r} is no name of an artifact's file")
            data = read_file(outputs / name, min(left, MAX_ARTIFACT_BYTES))
        except ExchangeError as error:
            problems.append(f"outputs/{outputs.name}: {error}")
            continue
        left -= len(data)
        (target / name).write_bytes(data)
    if len(names) > MAX_FILES:
        problems.append(f"outputs/{outputs.name}: {len(names):,} files; allowed: {MAX_FILES}")
    return problems[:MAX_PROBLEMS]


@dataclass(frozen=True)
class Submission:
    """An accepted submission, complete and independent of any folder."""

    notebook: NotebookNode
    artifacts: dict[str, bytes]  # "<dataset>/<file>"
    problems: tuple[str, ...]
    timestamp: bytes | None = None


def submission(release: Path, handed_in: Path) -> Submission:
    """Accept the submission in ``handed_in``; whatever is wrong with it becomes a problem."""
    with tempfile.TemporaryDirectory(prefix="codesign-intake-") as folder:
        content, problems = _content(handed_in, Path(folder) / "unpacked", release.name)
        taken = transplant(release, content / release.name)
        problems += taken.problems
        found: dict[str, bytes] = {}
        for dataset in DATASETS:
            target = Path(folder) / dataset
            problems += copy_artifacts(content / "outputs" / dataset, target)
            files = sorted(target.iterdir())
            found |= {f"{dataset}/{path.name}": path.read_bytes() for path in files}
    try:
        stamp = read_file(handed_in / "timestamp.txt", 1_000)
    except ExchangeError:
        stamp = None
    return Submission(taken.notebook, found, tuple(problems), stamp)


def _content(submission: Path, folder: Path, notebook: str) -> tuple[Path, list[str]]:
    """The submission as a folder: itself, or its archive unpacked where it holds nothing else."""
    packed = (submission / notebook).with_suffix(".zip")
    if os.path.lexists(submission / notebook) or not os.path.lexists(packed):
        return submission, []
    folder.mkdir()
    try:
        data = read_file(packed, archive.MAX_ARCHIVE_BYTES)
        return folder, [f"{packed.name}: {p}" for p in archive.unpack(data, folder, notebook)]
    except ExchangeError as error:
        shutil.rmtree(folder)
        return folder, [f"{packed.name} was not accepted: {error}"]
