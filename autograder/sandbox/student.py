"""The student's side of a check in a kernel: cells, calls, artifacts, and the kernel started anew.

A cell that overruns is interrupted, so that what it had bound stays; a kernel that was killed is
started again and its cells are replayed, so that one bad cell costs one cell and one bad function
itself.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.contract import exchange
from autograder.contract.checking import artifact, artifact_bytes
from autograder.contract.deadlines import CALL_DEADLINE_S
from autograder.contract.verdict import StudentError
from autograder.intake import folders, sanitize
from autograder.sandbox.clock import Budget
from autograder.sandbox.kernel import GRACE_S, START_DEADLINE_S, Kernel, KernelStopped, stopped
from autograder.sandbox.process import Sandbox, SandboxError, borrowed
from codesign import datasets

MAX_RESTARTS = 30  # the budget of the submission ends sooner
MAX_LOSSES = 2  # of a kernel to one function, which is not called again then
REPLAY_S = 60.0  # of one cell
STUDENTS_SPLITS = ("train", "val")
AGAIN = "cells that ran again after the kernel was lost"
SERVER = "autograder.contract.exchange"  # what answers calls, in the kernel
DEFINITIONS = "autograder.contract.definitions"  # what runs the rest of a cell that stopped


class KernelStudent:
    """The student's side of a check, across the kernel boundary.

    Args:
        sandbox: a clean one; receives the artifacts that the kernel may read.
        outputs: the artifacts that the judge measures, out of the kernel's reach.
        dataset: their image set.
        budget_s: seconds that all cells and calls together may use, of their own time
            (:mod:`.clock`); what the judge measures meanwhile is not charged.
        environment: further variables for the kernel.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        outputs: Path,
        dataset: str,
        *,
        budget_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.sandbox, self.outputs, self.dataset = sandbox, outputs, dataset
        self.environment = environment
        for split in STUDENTS_SPLITS:  # the sandbox shows what is there when the kernel starts
            datasets.prepare(dataset, split)
        shutil.copytree(outputs, sandbox.outputs / dataset)
        self.budget = Budget(budget_s)
        self.replayed: list[str] = []  # what brings a new kernel to where the last one was
        self.restarts, self.calls = 0, 0
        self.read: set[str] = set()  # artifacts
        self.called: set[str] = set()  # functions
        self.lost: Counter[str] = Counter()  # kernels, by the function that was called
        self.trouble = ""  # why the last cell that failed did so
        self.kernel: Kernel | None = None

    def close(self) -> None:
        """Stop the kernel."""
        if self.kernel:
            self.kernel.stop()
            self.kernel = None

    def run_cell(self, code: str, deadline_s: float) -> list[NotebookNode]:
        """Run a cell of the notebook, and remember it for a replay.

        One that stops before its end, by an error or because it overran, keeps what it had bound,
        and of the rest of it imports, functions and constants run.

        Raises:
            StudentError: the kernel is lost, or no time or kernel is left.
        """
        try:
            outputs, cut = self._executed(code, deadline_s, _named(code), grace_s=GRACE_S)
        except StudentError as error:
            self.trouble = str(error)
            self.replayed.append(_definitions(code, rest=False))
            raise
        failed = [output for output in outputs if output.output_type == "error"]
        for output in failed:
            self.trouble = f"{output.ename}: {output.evalue}"
        if cut:
            self.trouble = cut
            outputs.append(stopped(cut))
        self.replayed.append(_definitions(code, rest=False) if cut else code)
        if failed or cut:
            with contextlib.suppress(StudentError):
                self._execute(rest := _definitions(code, rest=True), deadline_s, _named(code))
                self.replayed += [] if cut else [rest]
        return outputs

    def define(self, code: str, deadline_s: float) -> None:
        """Run imports, functions and constants of a cell, and nothing else of it.

        Raises:
            StudentError: see `run_cell`.
        """
        definitions = _definitions(code, rest=False)
        self._executed(definitions, deadline_s, _named(code), grace_s=GRACE_S)
        self.replayed.append(definitions)

    def call(
        self,
        function: str,
        *args: Any,
        may_change: Collection[str | int] = (),
        deadline_s: float = CALL_DEADLINE_S,
        **kwargs: Any,
    ) -> Any:
        """See :class:`autograder.contract.checking.Student`."""
        if self.lost[function] >= MAX_LOSSES:
            raise StudentError(
                f"{function}: not called again; it lost the kernel {MAX_LOSSES} times"
            )
        self.calls += 1
        self.called.add(function)
        name = f"call{self.calls}"
        requests, answers = self.sandbox.requests, self.sandbox.answers
        exchange.write(requests / name, exchange.request(function, args, kwargs, may_change))
        inside = self.sandbox.inside
        where = f"{str(inside / 'requests')!r}, {str(inside / 'answers')!r}, {name!r}"
        try:
            self._execute(
                f"__import__({SERVER!r}, fromlist=['']).serve({where})", deadline_s, function
            )
            answer = exchange.read(answers / name)
        except exchange.ExchangeError as error:
            raise StudentError(f"{function}: no valid answer: {error}") from None
        except StudentError as error:
            self.lost[function] += self.kernel is None
            raise StudentError(f"{function}: {error}") from None
        finally:
            for path in [*requests.glob(f"{name}.*"), *answers.glob(f"{name}.*")]:
                folders.remove(path)  # whatever the student has made of it
        if not isinstance(answer, dict) or "value" not in answer:
            said = str(answer.get("error") if isinstance(answer, dict) else answer)
            if exchange.NO_FUNCTION in said and self.trouble:
                said += f"; a cell before it stopped: {self.trouble}"
            raise StudentError(f"{function}: {sanitize.text(said)[: exchange.MAX_MESSAGE]}")
        return answer["value"]

    def artifact(self, name: str) -> Any:
        """See :class:`autograder.contract.checking.Student`."""
        self.read.add(name)
        return artifact(self.outputs, name)

    def artifact_bytes(self, name: str) -> int:
        """See :class:`autograder.contract.checking.Student`."""
        self.read.add(name)
        return artifact_bytes(self.outputs, name)

    def measure(self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """See :class:`autograder.contract.checking.Student`: in a clean sandbox of its own."""
        module, name = function.split(":")
        with (
            tempfile.TemporaryDirectory(prefix="codesign-measure-") as folder,
            borrowed(isolated=self.sandbox.isolated) as place,
        ):
            if not self.budget.left_s:
                raise StudentError(str(self.budget))
            outputs = Path(folder) / self.dataset
            outputs.mkdir()
            budget_s = START_DEADLINE_S + deadline_s
            clean = KernelStudent(place, outputs, self.dataset, budget_s=budget_s)
            try:
                clean.run_cell(f"from {module} import {name}", START_DEADLINE_S)
                return clean.call(name, *args, deadline_s=min(deadline_s, self.budget.left_s))
            finally:
                self.budget.charge(f"source text under {name}", clean.budget.used[name])
                clean.close()

    def _execute(self, code: str, deadline_s: float, what: str) -> list[NotebookNode]:
        return self._executed(code, deadline_s, what, grace_s=0.0)[0]

    def _executed(
        self, code: str, deadline_s: float, what: str, *, grace_s: float
    ) -> tuple[list[NotebookNode], str]:
        """Execute ``code`` and charge ``what`` with the time that it uses."""
        if not self.budget.left_s:
            raise StudentError(str(self.budget))
        try:
            kernel = self.kernel or self._start()
            try:
                limit_s = min(deadline_s, self.budget.left_s)
                return kernel.try_to_execute(code, limit_s, grace_s=grace_s)
            finally:
                self.budget.charge(what, kernel.clock.used_s)
        except KernelStopped as stopped:
            self.kernel = None
            used_up = "" if self.budget.left_s else f"; {self.budget}"
            raise StudentError(f"{stopped}{used_up}") from None

    def _start(self) -> Kernel:
        """A new kernel, brought to where the last one was; a cell that ends it now is left out.

        Raises:
            KernelStopped: none came up, or too many were lost.
        """
        while True:
            if not self.budget.left_s:
                raise KernelStopped(str(self.budget))
            if self.restarts > MAX_RESTARTS:
                raise KernelStopped(
                    f"the kernel was lost {self.restarts} times; no further attempt"
                )
            self.restarts += 1
            kernel = self._start_one()
            for place, code in enumerate(self.replayed):
                try:
                    kernel.execute(code, min(REPLAY_S, self.budget.left_s))
                except KernelStopped:
                    del self.replayed[place]
                    break
                finally:
                    self.budget.charge(AGAIN, kernel.clock.used_s)
            else:
                self.kernel = kernel
                return kernel

    def _start_one(self) -> Kernel:
        """Start a kernel; where none comes up, once more in a new sandbox.

        Raises:
            SandboxError: no line of the student's has run, so that it is this machine's trouble.
        """
        try:
            return Kernel(self.sandbox, self.dataset, self.environment)
        except KernelStopped:
            self.sandbox.end()
        try:
            return Kernel(self.sandbox, self.dataset, self.environment)
        except KernelStopped as stopped:
            if self.restarts > 1:
                raise
            raise SandboxError(str(stopped)) from None


def _named(code: str) -> str:
    """A cell, for people."""
    lines = (line.strip() for line in code.splitlines())
    first = next((line for line in lines if line and line[0] not in "#%"), "")
    return f"the cell of {first[:40]!r}"


def _definitions(code: str, *, rest: bool) -> str:
    """What runs in the kernel in place of a cell; see :mod:`autograder.contract.definitions`."""
    return f"__import__({DEFINITIONS!r}, fromlist=['']).run({code!r}, rest={rest})"
