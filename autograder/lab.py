"""``Lab``, the object in a lab's notebook: targets, checks, stored artifacts, submission.

It shows the targets, checks functions and artifacts on public cases, runs expensive steps once and
keeps what they made, and packs the submission. Under the judge the same notebook runs with
``CODESIGN_GRADING=1``: nothing is trained then, and checks are the judge's business.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from autograder.contract import artifacts, checking, held_out, show
from autograder.contract.checking import LocalStudent
from autograder.contract.deadlines import TOLD
from autograder.contract.definition import find
from autograder.contract.environment import GRADING, OUTPUTS, SEED
from autograder.contract.verdict import CheckFailed, Verdict
from autograder.intake import packing
from autograder.intake.packing import NotPackaged
from codesign import colab, datasets, resumable
from codesign.datasets import ImageSet
from codesign.models import VGG

HEADINGS = ("", "target", "reference", "points")
UNFINISHED = ".unfinished"  # folder of states: hidden, so that nobody packs or collects it


class NotHandedIn(RuntimeError):
    """In grading, an artifact that the submission lacks: grading never trains."""


class Lab:
    """One lab in one notebook.

    Args:
        name: for instance ``"lab1_pruning"``.
        dataset: ``"cifar10"`` or ``"glyphs"``; None: what :func:`codesign.datasets.choose` says.
        folder: where ``outputs/`` is; the notebook's own folder.

    Raises:
        ValueError: unknown lab or dataset.
    """

    def __init__(self, name: str, dataset: str | None = None, folder: str | Path = ".") -> None:
        self.name, self.folder = name, Path(folder)
        self.targets = find(name).targets
        self.dataset, self._why = datasets.choose(dataset)
        self._images: dict[str, ImageSet] = {}
        self._show(self)

    @property
    def outputs(self) -> Path:
        """Where artifacts of this dataset are kept."""
        return Path(os.environ.get(OUTPUTS) or self.folder / "outputs") / self.dataset

    @property
    def train(self) -> ImageSet:
        """The training images."""
        return self._load("train")

    @property
    def val(self) -> ImageSet:
        """The validation images; the judge measures on others."""
        return self._load("val")

    def _load(self, split: str) -> ImageSet:
        if split not in self._images:
            self._images[split] = datasets.load(self.dataset, split, quiet=True)
        return self._images[split]

    @property
    def seed(self) -> int:
        """Seed of the trainings: 0, or ``$CODESIGN_SEED``, with which calibration repeats them."""
        return int(os.environ.get(SEED, "0"))

    def dense(self) -> VGG:
        """A fresh copy of the dense reference CNN."""
        return held_out.dense(self.dataset)

    def check(self, name: str) -> float:
        """Check one function or artifact on public cases, show the table, return the points.

        Raises:
            CheckFailed: less than full points, so that nothing passes by being ignored.
        """
        if os.environ.get(GRADING):
            print(f"{name}: the judge's business")
            return 0.0
        namespace = vars(sys.modules["__main__"])
        student = LocalStudent(namespace, self.outputs)
        verdict = checking.run(self.name, name, student, self.dataset)
        self._show(verdict)
        if verdict.points < verdict.max_points:
            reasons = [f"{row.name}: {row.message}" for row in verdict.rows if row.message]
            raise CheckFailed("; ".join([show.caption(verdict), *reasons]))
        return verdict.points

    def try_kernel(self, name: str, source: str, *args: Any, **options: Any) -> None:
        """Run a C kernel on one case; print the first wrong output, its cycles and its assembly.

        Args:
            args, options: of ``tried`` in the lab's module ``trial``: the shape, the kind of
                numbers, ``assembly=True``.

        Raises:
            ValueError: a lab without kernels to try; what ``tried`` does not allow.
        """
        if os.environ.get(GRADING):
            print(f"{name}: tried at home only")
            return
        module = f"autograder.labs.{self.name}.trial"
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"{self.name} has no kernels to try")
        print(importlib.import_module(module).tried(name, source, *args, **options))

    def produce(
        self, name: str, function: Callable[..., Any], *args: Any, fresh: bool = False, **kw: Any
    ) -> Any:
        """Run ``function(*args, **kw)`` once, keep what it returns, and load it from then on.

        The result is a course model, named tensors, a table (JSON) or a source text; it is stored
        below ``outputs/<dataset>/`` and survives a restart of the kernel. ``fresh=True`` runs it
        again, from nothing.

        Where the kernel dies in between, the next call goes on from what ``function`` kept under
        :meth:`unfinished`, and says so. It does not where the code of ``function``, anything that
        this names in the notebook or its arguments have changed since: it says that, too, and
        starts anew (:func:`codesign.resumable.fingerprint`).

        Raises:
            NotHandedIn: in grading, when the artifact is not there.
            ValueError: a result that cannot be stored; an earlier one stays.
        """
        if os.environ.get(GRADING):
            if not artifacts.exists(self.outputs, name):
                raise NotHandedIn(f"artifact {name!r} for {self.dataset} was not handed in")
        elif fresh or not artifacts.exists(self.outputs, name):
            folder = self.outputs / UNFINISHED / name
            made_by = resumable.fingerprint(function, args, kw)
            if found := resumable.take_up(folder, made_by, fresh=fresh):
                print(f"{name}: {found}; produce(..., fresh=True) starts from nothing")
            around, self._at_work = self._at_work, name
            try:
                artifacts.store(self.outputs, name, function(*args, **kw))
            finally:
                self._at_work = around
            resumable.clear(folder)
        else:
            print(f"{name}: loaded from {self.outputs}; produce(..., fresh=True) runs it again")
        return artifacts.fetch(self.outputs, name)

    _at_work: str | None = None  # the artifact that produce is working on

    def unfinished(self, name: str, part: str = "training") -> Path | None:
        """File stem for the state of unfinished work on artifact ``name``: for ``fit(resume=)``.

        It lies below ``outputs/<dataset>/.unfinished/`` and is never handed in. :meth:`produce`
        gives it out only while it works on ``name``, and removes it when the artifact is stored. A
        function that is called in any other way gets None, with which nothing is kept: it must not
        go on from what an earlier version of it left.

        Args:
            part: of the work, where it has several that keep a state each.
        """
        return self.outputs / UNFINISHED / name / part if name == self._at_work else None

    def package(self, notebook: str | Path | None = None, *, anyway: bool = False) -> Path:
        """Write ``<lab>.zip`` with the notebook and its artifacts, ready to hand in.

        Reads the notebook with the judge's own eyes first, and says what is there and what is not.
        In Colab it is asked for from the page, and the archive is offered for download.

        Args:
            notebook: its file; None: the one that is open here, or lies beside ``outputs/``.
            anyway: pack it even where something is amiss; what is no notebook is refused still.

        Raises:
            NotPackaged: no notebook, one that could not be graded, or one that is older than what
                was run here. Nothing was written then.
        """
        target = self.folder / f"{self.name}.zip"
        if os.environ.get(GRADING):
            return target
        content, path = self._notebook(notebook)
        outputs = self.outputs.parent
        seen, reasons = packing.look(self.name, content, outputs, packing.history())
        print(f"{path}, as the judge will read it:")
        print(packing.report(self.name, seen, self.dataset, outputs))
        if reasons and not anyway:
            raise NotPackaged("; ".join([*reasons, "package(anyway=True) packs it all the same"]))
        part = target.with_suffix(".part")
        packed = packing.archived(self.name, content, outputs)
        try:
            part.write_bytes(packed)
            part.replace(target)
        except OSError as error:
            raise NotPackaged(f"{target} cannot be written: {error.strerror}") from None
        print(f"{target} ({target.stat().st_size / 2**20:.1f} MiB): hand in this file")
        colab.download(target)
        return target

    def _notebook(self, named: str | Path | None) -> tuple[bytes, str]:
        """The notebook's content and where it is from."""
        if named is None and (opened := colab.open_notebook()):
            return json.dumps(opened).encode(), "the notebook in this page"
        path = Path(named) if named else packing.notebook_of(self.name, self.folder)
        if not path.is_file():
            raise NotPackaged(f"{path} is not here; allowed: the file of a notebook")
        return path.read_bytes(), str(path)

    # --- showing -------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for name, wanted in self.targets.items():
            figures = wanted.figures[self.dataset]
            rows.append((name, "", "", f"{wanted.points:g}"))
            for figure_name, f in figures.items():
                relation = "≥" if f.target > f.floor else "≤"
                target = f"{relation} {show.number(f.target, f.unit)}"
                reference = show.number(f.reference, f.unit)
                rows.append((f"    {figure_name}", target, reference, f"({f.points:g})"))
        return rows

    def _caption(self) -> str:
        return f"{self.name} on {self.dataset} ({self._why})"

    def _repr_html_(self) -> str:
        return f"{show.html_table(HEADINGS, self._rows(), str(self))}<p>{escape(TOLD)}</p>"

    def __repr__(self) -> str:
        return f"{show.text_table(HEADINGS, self._rows(), self._caption())}\n{TOLD}"

    def __str__(self) -> str:
        return self._caption()

    def _show(self, item: Lab | Verdict) -> None:
        plain = repr(item) if isinstance(item, Lab) else show.text(item)
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            markup = item._repr_html_() if isinstance(item, Lab) else show.html(item)
            data = {"text/plain": plain, "text/html": markup}
            sys.modules["IPython"].display.display(data, raw=True)
        else:
            print(plain)
