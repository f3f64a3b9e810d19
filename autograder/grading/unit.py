"""Serialize one submission to bytes and grade it: what workers exchange.

Nothing else crosses, so that a worker may be another process or another machine: no shared file
system, no gradebook, no object that is unpickled. The same unit always gives the same key.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import tempfile
import threading
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from autograder.contract.definition import find
from autograder.contract.version import source_version
from autograder.grading.lost import NotJudged, Unfit
from autograder.intake import accept
from autograder.sandbox import bubblewrap, limits

_one_at_a_time = threading.Lock()  # a check seeds torch; sandboxes are lent one by one


@dataclass(frozen=True)
class Unit:
    """One submission to judge."""

    lab: str
    submission: accept.Submission
    seed: int
    isolated: bool
    dataset: str | None = None  # pinned by the instructor; None: what was handed in

    def to_bytes(self) -> bytes:
        """Serialize as a zip archive, the same bytes for the same content."""
        settings = {
            "lab": self.lab,
            "seed": self.seed,
            "isolated": self.isolated,
            "dataset": self.dataset,
            "problems": self.submission.problems,
            "targets": targets_version(self.lab),
            "version": source_version(),
        }
        stored = io.BytesIO()
        with zipfile.ZipFile(stored, "w") as archive:
            for name, content in {
                "unit.json": json.dumps(settings, sort_keys=True).encode(),
                "notebook.ipynb": nbformat.writes(self.submission.notebook).encode(),
                **{f"outputs/{k}": v for k, v in sorted(self.submission.artifacts.items())},
            }.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return stored.getvalue()

    def key(self) -> str:
        """Hash (sha256) everything that the result depends on, the judge's own source included."""
        digest = hashlib.sha256(self.to_bytes())
        digest.update(self.submission.timestamp or b"")
        digest.update(source_version().encode())
        return digest.hexdigest()


def judge_unit(unit: bytes) -> bytes:
    """Judge one unit; returns the notebook with the verdicts in its graded cells, as JSON.

    Raises:
        Unfit: the worker's course is not the sender's, or the sandbox asked for does not work here.
        NotJudged: in one of the checks this machine failed (no space, no memory).
    """
    from autograder.contract import checking  # with PyTorch, which the sender does without
    from autograder.grading import judge

    ours = f"{limits.OURS}{os.getpid()}-unit-"  # removed even where this process is killed
    with _one_at_a_time, tempfile.TemporaryDirectory(prefix=ours) as folder:
        with zipfile.ZipFile(io.BytesIO(unit)) as archive:
            archive.extractall(folder)  # made by `to_bytes`, with names that intake accepted
        settings = json.loads((Path(folder) / "unit.json").read_text())
        if reason := unfit(settings["version"], isolated=settings["isolated"]):
            raise Unfit(reason)
        mine = targets_version(settings["lab"])
        if settings["targets"] != mine:
            raise Unfit(
                f"targets of {settings['lab']} are version {mine} here, {settings['targets']} "
                "where the submission comes from; install the same course on both"
            )
        notebook = nbformat.read(Path(folder) / "notebook.ipynb", as_version=4)
        verdicts = judge.judge(
            notebook,
            settings["lab"],
            Path(folder) / "outputs",
            seed=settings["seed"],
            isolated=settings["isolated"],
            problems=settings["problems"],
            dataset=settings["dataset"],
        )
        for row in (row for verdict in verdicts for row in verdict.rows):
            if row.status == "refused" and row.message.startswith(checking.NOT_JUDGED):
                raise NotJudged(row.message.removeprefix(f"{checking.NOT_JUDGED}: "))
        return nbformat.writes(notebook).encode()


def unfit(version: str, *, isolated: bool) -> str | None:
    """Say why this process must not judge what comes from ``version`` of the course; None: it may.

    Args:
        isolated: a sandbox is asked for.
    """
    if version != (mine := source_version()):
        return f"version {mine} of the course here, {version} where the submissions come from"
    why_not = bubblewrap.why_not() if isolated else None
    return f"no sandbox here: {why_not}" if why_not else None


def prepare() -> None:
    """Import what judging needs, PyTorch among it, before the first unit asks for it."""
    importlib.import_module("autograder.grading.judge")


def targets_version(lab: str) -> str:
    """Hash the lab's targets."""
    table: dict[str, Any] = {name: asdict(check) for name, check in find(lab).targets.items()}
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]
