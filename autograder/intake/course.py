"""An nbgrader course: its folders, its labs, its gradebook, and its converters run quietly."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import Config, PyFileConfigLoader


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
        """Who handed in ``lab``, sorted."""
        pattern = self.folder("submitted", "*", lab)
        return sorted(path.parent.name for path in Path("/").glob(str(pattern)[1:]))

    def gradebook(self) -> Gradebook:
        """An open gradebook; close it, or use it as a context manager."""
        return Gradebook(self.directory.db_url, self.directory.course_id)


def find_assignment(gradebook: Gradebook, lab: str) -> Any:
    """nbgrader's record of ``lab``.

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
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"  # it calls `alembic`
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own models, not ours
            converter.start()
    except (NbGraderException, SystemExit) as error:
        raise NbGraderException(f"{error}\n{said.getvalue()[-4_000:]}") from None
    finally:
        os.environ["PATH"] = path
