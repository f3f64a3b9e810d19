"""``Lab``, the object in a lab's notebook: targets, checks, stored artifacts, submission.

It shows the targets, checks functions and artifacts on public cases, runs expensive steps once and
keeps what they made, and packs the submission. Under the judge the same notebook runs with
``CODESIGN_GRADING=1``: nothing is trained then, and checks are the judge's business.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autograder.contract import artifacts, checking, held_out, show
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find
from autograder.contract.environment import GRADING, OUTPUTS, SEED
from autograder.contract.verdict import CheckFailed, Verdict
from codesign import datasets
from codesign.datasets import ImageSet
from codesign.models import VGG


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
        namespace = vars(sys.modules["__main__"])
        student = LocalStudent(namespace, self.outputs)
        verdict = checking.run(self.name, name, student, self.dataset)
        self._show(verdict)
        if verdict.points < verdict.max_points:
            reasons = [f"{row.name}: {row.message}" for row in verdict.rows if row.message]
            raise CheckFailed("; ".join([show.caption(verdict), *reasons]))
        return verdict.points

    def produce(
        self, name: str, function: Callable[..., Any], *args: Any, fresh: bool = False, **kw: Any
    ) -> Any:
        """Run ``function(*args, **kw)`` once, keep what it returns, and load it from then on.

        The result is a course model, named tensors, a table (JSON) or a source text; it is stored
        below ``outputs/<dataset>/`` and survives a restart of the kernel. ``fresh=True`` runs it
        again.

        Raises:
            NotHandedIn: in grading, when the artifact is not there.
            ValueError: a result that cannot be stored; an earlier one stays.
        """
        if os.environ.get(GRADING):
            if not artifacts.exists(self.outputs, name):
                raise NotHandedIn(f"artifact {name!r} for {self.dataset} was not handed in")
        elif fresh or not artifacts.exists(self.outputs, name):
            artifacts.store(self.outputs, name, function(*args, **kw))
        else:
            print(f"{name}: loaded from {self.outputs}; produce(..., fresh=True) runs it again")
        return artifacts.fetch(self.outputs, name)

    def package(self, notebook: str | Path | None = None) -> Path:
        """Write ``<lab>.zip`` with the notebook and its outputs, ready to hand in.

        Raises:
            FileNotFoundError: the notebook is not beside the outputs; says how to name it.
        """
        path = Path(notebook) if notebook else self.folder / f"{self.name}.ipynb"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not here; save the notebook under this name, or say "
                f"lab.package(notebook=...). In Colab: File > Download, then put it beside outputs/"
            )
        target = self.folder / f"{self.name}.zip"
        part = target.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, f"{self.name}.ipynb")
            for file in sorted((self.folder / "outputs").rglob("*")):
                if file.is_file() and not file.name.endswith(".part"):
                    archive.write(file, file.relative_to(self.folder).as_posix())
        part.replace(target)
        print(f"{target} ({target.stat().st_size / 2**20:.1f} MiB): hand in this file")
        return target

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
        return show.html_table(("", "target", "reference", "points"), self._rows(), str(self))

    def __repr__(self) -> str:
        return show.text_table(("", "target", "reference", "points"), self._rows(), self._caption())

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
