"""The command ``autograder``, in a process of its own that knows the toy lab: to be cut off.

``python grader.py JOB WORDS...``; JOB names a function of :mod:`toy_lab` that judges a unit.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import toy_lab

from autograder.cli import app
from autograder.grading import crew, run


def command(job: str, *words: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """The command line that runs this, and its environment with these ``variables``."""
    places = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": places, "CODESIGN_DATASET": "glyphs", **variables}
    return [sys.executable, __file__, job, *words], environment


def main(job: str, *words: str) -> None:
    """Run the command ``words`` with this job in place of the judge."""
    toy_lab.register(toy_lab.definition())
    run.grade = functools.partial(run.grade, job=getattr(toy_lab, job))  # type: ignore[assignment]
    warm_up = functools.partial(crew.warm_up, job=f"toy_lab:{job}")
    crew.warm_up = warm_up  # type: ignore[assignment]
    app(list(words), prog_name="autograder")


if __name__ == "__main__":
    main(*sys.argv[1:])
