"""Validate a submission before anything runs: transplant its answers into the release.

The notebook that is executed is the release, generated from the lab's source, with the student's
answers in its solution cells and the student's own cells between them; everything else that may
have been changed (tags, points, checks, metadata) does not exist for the judge. Artifacts are
copied as regular files of bounded size and known names. A folder in nbgrader's layout and the
archive that ``lab.package`` makes are both accepted.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder.contract.cells import OWN, grade_id, is_solution
from autograder.contract.files import (
    ARTIFACT_NAME,
    MAX_ARTIFACT_BYTES,
    ExchangeError,
    read_file,
)
from autograder.intake import answers, archive, reading, sanitize
from autograder.intake.answers import LOST, REPAIRED, Answers
from codesign.places import DATASETS

STUDENT_ID = re.compile(
    r"(?!.*\.\.)[\w@][\w@.+ '-]{0,99}"
)  # a folder's name; formgrader shows it raw
MAX_CELL_CHARACTERS = 1_000_000
MAX_OWN_CELLS = 1_000
MAX_FILES = 200
MAX_SUBMISSION_BYTES = 128 * 2**20  # of artifacts for one image set
MAX_PROBLEMS = 20  # of one kind that are told
INTAKE = "codesign_intake"  # notebook metadata in which intake speaks to the judge
NOT_ACCEPTED = "the notebook was not accepted"


@dataclass(frozen=True)
class Transplanted:
    """The notebook to run, and what intake has to say.

    Args:
        notes: why it was refused, what was repaired, what is missing (empty: nothing of these).
        refused: it could not be read, and nothing of it runs.
        waiting: cells for a person that she must see although they look untouched.
    """

    notebook: NotebookNode
    notes: tuple[str, ...] = ()
    refused: bool = False
    waiting: tuple[str, ...] = ()


def transplant(base: NotebookNode, submitted: Path) -> Transplanted:
    """Put the answers of ``submitted`` into a copy of the released notebook ``base``.

    A submission that cannot be read gives the release as it is, refused, and the reason; it never
    stops the others. What was done is in the notebook's metadata, too, for the judge.
    """
    notebook = copy.deepcopy(base)
    try:
        handed_in = reading.cells(read_file(submitted, reading.MAX_FILE_BYTES))
        found = answers.find(base.cells, handed_in)
        if answers.is_another(base.cells, found):
            raise ExchangeError("none of the functions that the lab asks for is in it")
    except ExchangeError as error:
        by_hand = [n for cell in base.cells if (n := grade_id(cell)) and is_by_hand(cell)]
        reason = f"{NOT_ACCEPTED}: {error}"
        return _told(Transplanted(notebook, (reason,), True, tuple(by_hand)))
    problems = _put(notebook, found)
    notes = [
        *(f"{REPAIRED}{repair}" for repair in found.repairs),
        *problems.values(),
        *_of_given_cells(base, found),
    ]
    lost = [
        name
        for cell in notebook.cells
        if (name := grade_id(cell)) and is_by_hand(cell) and name in {*problems, *found.versions}
    ]
    return _told(Transplanted(notebook, tuple(notes), waiting=tuple(lost)))


def is_by_hand(cell: Any) -> bool:
    """Tell whether a person grades this cell."""
    return is_solution(cell) and bool(cell.metadata.nbgrader.get("grade"))


def _told(done: Transplanted) -> Transplanted:
    done.notebook.metadata[INTAKE] = {
        "notes": list(done.notes),
        "refused": done.refused,
        "waiting": list(done.waiting),
    }
    return done


def told(notebook: NotebookNode) -> Mapping[str, Any]:
    """What intake said of a notebook; see `Transplanted`."""
    return notebook.metadata.get(INTAKE, {"notes": [], "refused": False, "waiting": []})


def _put(notebook: NotebookNode, found: Answers) -> dict[str, str]:
    """Put answers and own cells into ``notebook``; return what is lost, by cell."""
    problems = {name: f"{LOST}no cell {name!r} is in the notebook" for name in found.missing}
    own: dict[int, list[NotebookNode]] = defaultdict(list)
    for number, (place, source) in enumerate(found.own, 1):
        cell = new_code_cell(source, id=f"own_{number}", metadata={OWN: True})
        if number > MAX_OWN_CELLS or len(source) > MAX_CELL_CHARACTERS:
            problems[cell.id] = (
                f"{LOST}the {number}th cell of your own ({len(source):,} characters); allowed: "
                f"{MAX_OWN_CELLS:,} cells of {MAX_CELL_CHARACTERS:,}"
            )
        else:
            own[place].append(cell)
    made = own[0]
    for number, cell in enumerate(notebook.cells, 1):
        made.append(cell)
        name = grade_id(cell) or ""
        text = found.sources.get(name)
        if text is not None and len(text) > MAX_CELL_CHARACTERS:
            problems[name] = f"{LOST}cell {name!r} has {len(text):,} characters: too many"
        elif text is not None:
            cell.source = sanitize.markdown(text) if cell.cell_type == "markdown" else text
        if name in found.versions:
            made.append(_versions(name, found.versions[name]))
        made += own[number]
    notebook.cells = made
    return problems


def _versions(name: str, texts: Iterable[str]) -> NotebookNode:
    """A cell for the person who grades: all that had one id, as it was written."""
    kept = "\n\n".join(sanitize.fenced(text[: sanitize.MAX_MARKDOWN]) for text in texts)
    return new_markdown_cell(f"Every cell that had the id of `{name}`:\n\n{kept}")


def _of_given_cells(base: NotebookNode, found: Answers) -> list[str]:
    if not found.changed:
        return []
    begin = [base.cells[at - 1].source.split("\n", 1)[0][:60] for at in found.changed]
    return [
        "given cells run as released, with the imports that were added; changed here: "
        + "; ".join(repr(line) for line in begin[:MAX_PROBLEMS])
    ]


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
    """An accepted submission, complete and independent of any folder.

    ``problems``: what intake has to say, of files and of the notebook.
    """

    notebook: NotebookNode
    artifacts: dict[str, bytes]  # "<dataset>/<file>"
    problems: tuple[str, ...]
    timestamp: bytes | None = None


def find_notebook(folder: Path, name: str) -> tuple[Path, str]:
    """The notebook of a submission: ``name``, else the only one there; and what to say about it."""
    path = folder / name
    others = sorted(folder.glob("*.ipynb")) if folder.is_dir() else []
    if os.path.lexists(path) or len(others) != 1:
        return path, ""
    return others[0], f"{REPAIRED}{others[0].name!r} was taken for {name}"


def submission(base: NotebookNode, lab: str, handed_in: Path) -> Submission:
    """Accept the submission in ``handed_in``; whatever is wrong with it becomes a problem.

    Args:
        base: the release; see :func:`autograder.intake.release.base`.
    """
    notebook = f"{lab}.ipynb"
    with tempfile.TemporaryDirectory(prefix="codesign-intake-") as folder:
        content, problems = _content(handed_in, Path(folder) / "unpacked", notebook)
        path, renamed = find_notebook(content, notebook)
        problems += [renamed] * bool(renamed)
        taken = transplant(base, path)
        problems += taken.notes
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
    others = sorted(submission.glob("*.zip")) if submission.is_dir() else []
    if not os.path.lexists(packed) and len(others) == 1:
        packed = others[0]
    if sorted(submission.glob("*.ipynb")) or not os.path.lexists(packed):
        return submission, []
    folder.mkdir()
    try:
        said = archive.unpack(read_file(packed, archive.MAX_ARCHIVE_BYTES), folder, notebook)
        return folder, [p if p.startswith(REPAIRED) else f"{packed.name}: {p}" for p in said]
    except ExchangeError as error:
        shutil.rmtree(folder)
        return folder, [f"{packed.name} was not accepted: {error}"]
