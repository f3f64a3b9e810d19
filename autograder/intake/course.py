"""An nbgrader course: its folders, its labs, its gradebook, and its converters run quietly."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import Config, PyFileConfigLoader

from autograder.contract.environment import PUBLIC_SEED


class NotReleased(LookupError):
    """The lab is not in the gradebook."""


@dataclass(frozen=True)
class Course:
    """An nbgrader course: its folder and what ``nbgrader_config.py`` says."""

    root: Path
    config: Config
    directory: CourseDirectory

    @classmethod
    def at(cls, root: Path) -> Course:
        """The course whose ``nbgrader_config.py`` lies in ``root``.

        Raises:
            FileNotFoundError: there is none.
        """
        root = root.resolve()
        if not (root / "nbgrader_config.py").exists():
            raise FileNotFoundError(f"{root} has no nbgrader_config.py: not a course")
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
        return cls(root, config, CourseDirectory(config=config, root=str(root)))

    def folder(self, step: str, student: str, lab: str) -> Path:
        """Where ``step`` (``"submitted"``, ``"autograded"``, …) keeps ``student``'s ``lab``."""
        name = getattr(self.directory, f"{step}_directory")
        return Path(self.directory.format_path(name, student, lab))

    def released(self, lab: str) -> Path:
        """The notebook that students were given."""
        return self.folder("release", ".", lab) / f"{lab}.ipynb"

    def labs(self) -> list[str]:
        """Every lab that has a source."""
        folder = self.folder("source", ".", "lab").parent
        return sorted(path.name for path in folder.glob("lab*") if path.is_dir())

    def students(self, lab: str) -> list[str]:
        """Students with a submission of ``lab``, sorted."""
        pattern = self.folder("submitted", "*", lab)
        return sorted(path.parent.name for path in Path("/").glob(str(pattern)[1:]))

    def gradebook(self) -> Gradebook:
        """An open gradebook; close it, or use it as a context manager."""
        with own_programs():
            return Gradebook(self.directory.db_url, self.directory.course_id)


@contextlib.contextmanager
def own_programs() -> Iterator[None]:
    """Put this interpreter's programs first on the path: nbgrader calls ``alembic`` by name."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def find_assignment(gradebook: Gradebook, lab: str) -> Any:
    """Find nbgrader's record of ``lab``.

    Raises:
        NotReleased: there is none.
    """
    try:
        return gradebook.find_assignment(lab)
    except MissingEntry:
        raise NotReleased(
            f"{lab} is not in the gradebook; run `nbgrader generate_assignment {lab}` first"
        ) from None


def run_converter(converter: Any) -> None:
    """Run one nbgrader converter over what is there already, quietly.

    Raises:
        NbGraderException: it failed; carries what it logged.
    """
    said = io.StringIO()
    converter.force = True
    converter.log = logging.Logger("autograder.nbgrader", logging.WARNING)
    converter.log.addHandler(logging.StreamHandler(said))
    try:
        with own_programs(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own models, not ours
            converter.start()
    except (NbGraderException, SystemExit) as error:
        raise NbGraderException(f"{error}\n{said.getvalue()[-4_000:]}") from None


def secret_seed(root: Path) -> int:
    """Return the judge's secret seed of this course, drawn once, in ``<root>/.judge_seed``.

    The same seed gives the same hidden cases, so that a grade can be reproduced.
    """
    path = root / ".judge_seed"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        if not text.isdecimal() or int(text) == PUBLIC_SEED:
            raise ValueError(f"{path}: got {text!r}; allowed: a positive integer") from None
        return int(text)
    seed = 1 + secrets.randbelow(2**31 - 1)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{seed}\n")
    return seed
