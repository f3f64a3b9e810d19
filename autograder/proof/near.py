"""An answer on many seeds in the judge's own process, without a kernel between them.

A hundred seeds for each of hundreds of answers would take hours across the sandbox's boundary. The
answers of a proof are ours, so only the first seed goes all the way; the others call functions made
of the notebook's definitions here, with the same encoding. Where the reference does not earn here
what it earns there, because it needs what a training left, a check stays in the sandbox.
"""

from __future__ import annotations

import ast
import contextlib
import io
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from autograder.contract import definitions
from autograder.contract.checking import LocalStudent
from autograder.contract.verdict import StudentError

PATIENCE_S = 120.0  # of one check


class Near:
    """Students in this process, whose notebook defines what ``code`` does, and an answer.

    Args:
        code: the cells of a notebook.
        lab, dataset: of the object ``lab`` that they use.
        outputs: the artifacts.
    """

    def __init__(self, code: Sequence[str], lab: str, dataset: str, outputs: Path) -> None:
        self.lab, self.dataset, self.outputs = lab, dataset, outputs
        self.code = [_compiled(source) for source in code]

    def student(self, answer: str = "") -> LocalStudent:
        """A student with a namespace of its own; ``answer`` is defined last."""
        space: dict[str, Any] = {"__name__": "__main__"}
        for statement in [part for cell in self.code for part in cell]:
            if "Lab" in space and "lab" not in space:
                space["lab"] = self._lab(space["Lab"])
            with contextlib.suppress(Exception):  # it needs what a training leaves
                exec(statement, space)
        for statement in _compiled(answer):
            with contextlib.suppress(Exception):
                exec(statement, space)
        return LocalStudent(space, self.outputs)

    def _lab(self, make: Any) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return make(self.lab, self.dataset, self.outputs.parent)


def _compiled(source: str) -> list[CodeType]:
    return [
        compile(ast.Module([statement], type_ignores=[]), "<notebook>", "exec")
        for statement in definitions.defining(source)
    ]


@contextlib.contextmanager
def patience(seconds: float = PATIENCE_S) -> Iterator[None]:
    """End what takes longer, where this is the main thread.

    Raises:
        StudentError: it did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise StudentError(f"no answer within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
