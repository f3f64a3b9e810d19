"""Validate a submission before anything runs: its notebook, and its artifacts.

The notebook that is executed is the release with the student's answers
(:mod:`autograder.intake.transplant`). Artifacts are copied as regular files of bounded size and
known names. A folder in nbgrader's layout and the archive that ``lab.package`` makes are both
accepted.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from autograder.contract.files import (
    ARTIFACT_NAME,
    MAX_ARTIFACT_BYTES,
    ExchangeError,
    read_file,
)
from autograder.intake.answers import REPAIRED
from autograder.intake.content import found_in
from autograder.intake.transplant import transplant
from codesign.places import DATASETS

STUDENT_ID = re.compile(
    r"(?!.*\.\.)[\w@][\w@.+ '-]{0,99}"
)  # a folder's name; formgrader shows it raw
MAX_FILES = 200
MAX_SUBMISSION_BYTES = 128 * 2**20  # of artifacts for one image set
MAX_OTHERS = 5  # notebooks that may hold the work where the named one does not
MAX_PROBLEMS = 20  # of one kind that are told


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


def submission(base: NotebookNode, lab: str, handed_in: Path) -> Submission:
    """Accept the submission in ``handed_in``; whatever is wrong with it becomes a problem.

    Args:
        base: the release; see :func:`autograder.intake.release.base`.
    """
    with tempfile.TemporaryDirectory(prefix="codesign-intake-") as folder:
        content = found_in(handed_in, Path(folder) / "unpacked", lab)
        taken = transplant(base, content.notebook)
        problems = [*content.notes]
        if not taken.written and content.others:
            tried = [(p, transplant(base, p)) for p in content.others[:MAX_OTHERS]]
            written = [(path, other) for path, other in tried if other.written]
            if len(written) == 1:
                [(path, taken)] = written
                problems.append(f"{REPAIRED}nothing is written in it: {path.name} counts")
        problems += taken.notes
        found: dict[str, bytes] = {}
        for dataset in DATASETS:
            target = Path(folder) / dataset
            problems += copy_artifacts(content.outputs / dataset, target)
            files = sorted(target.iterdir())
            found |= {f"{dataset}/{path.name}": path.read_bytes() for path in files}
    try:
        stamp = read_file(handed_in / "timestamp.txt", 1_000)
    except ExchangeError:
        stamp = None
    return Submission(taken.notebook, found, tuple(problems), stamp)
