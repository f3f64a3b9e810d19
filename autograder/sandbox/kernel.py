"""Drive a student's kernel: execute cells with deadlines, kill it when one overruns.

Everything that comes out is a student's word: outputs are kept for people to read, never for
points. A kernel that was killed is started again and the cells that had gone well are replayed, so
that one bad cell costs one cell.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any, cast

import nbformat
import zmq
from jupyter_client.blocking import BlockingKernelClient
from nbformat import NotebookNode

from autograder.contract import exchange
from autograder.contract.checking import CALL_DEADLINE_S, artifact, artifact_bytes
from autograder.contract.environment import DATASET, GRADING
from autograder.contract.verdict import StudentError
from autograder.intake import sanitize
from autograder.sandbox.process import Sandbox, SandboxError, borrowed
from codesign import datasets

START_DEADLINE_S = 120.0
MAX_OUTPUT_BYTES = 2 * 2**20
MAX_MESSAGE_BYTES = 4 * 2**20  # one that is larger never reaches this process
MAX_MESSAGES = 100  # that wait here
MAX_RESTARTS = 4
STUDENTS_SPLITS = ("train", "val")
SERVER = "autograder.contract.exchange"  # what answers calls, in the kernel


class KernelStopped(Exception):
    """The kernel died or was killed; the message says why."""


class Kernel:
    """One running kernel.

    Args:
        sandbox: where it runs.
        dataset: the image set that its notebook is to use.
        environment: further variables.

    Raises:
        KernelStopped: it did not come up.
    """

    def __init__(
        self, sandbox: Sandbox, dataset: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.sandbox = sandbox
        variables = {GRADING: "1", DATASET: dataset, **(environment or {})}
        try:
            connection = sandbox.start(variables)
        except SandboxError as error:
            raise KernelStopped(f"the kernel did not start: {error}") from None
        context = zmq.Context()
        context.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        context.setsockopt(zmq.RCVHWM, MAX_MESSAGES)
        self.client = BlockingKernelClient(context=context)
        self.client.load_connection_info(cast(Any, connection))
        self.client.start_channels(hb=False, stdin=False, control=False)
        self._wait(time.monotonic() + START_DEADLINE_S)

    def _wait(self, end: float) -> None:
        """Wait until it answers and its outputs arrive here."""
        while True:
            self.client.kernel_info()
            try:
                self.client.get_shell_msg(timeout=1)
                self.client.get_iopub_msg(timeout=0.5)
                return
            except Empty:
                if time.monotonic() > end or not self.sandbox.alive():
                    self._kill("the kernel did not start")

    def stop(self) -> None:
        """Kill the process at once."""
        self.client.stop_channels()
        self.client.context.destroy(linger=0)
        self.sandbox.stop()

    def execute(self, code: str, deadline_s: float) -> list[NotebookNode]:
        """Run ``code`` and return its outputs.

        Raises:
            KernelStopped: it overran the deadline, printed too much, or died. It is dead then.
        """
        end = time.monotonic() + deadline_s
        request = self.client.execute(code, allow_stdin=False, stop_on_error=False)
        outputs: list[NotebookNode] = []
        size = 0
        while True:
            message = self._next(end, deadline_s)
            try:
                if message is None or message["parent_header"].get("msg_id") != request:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content.get("execution_state") == "idle":
                    return outputs
                if kind not in ("stream", "display_data", "execute_result", "error"):
                    continue
                size += len(str(content))
                output = sanitize.output(nbformat.v4.output_from_msg(message))
                nbformat.validate(output, ref="output", version=4)
                _append(outputs, output)
            except (nbformat.ValidationError, LookupError, TypeError, AttributeError, ValueError):
                self._kill("the kernel sent no valid message")  # the student's code has its key
            if size > MAX_OUTPUT_BYTES:
                self._kill(f"the cell printed more than {MAX_OUTPUT_BYTES:,} bytes")

    def _next(self, end: float, deadline_s: float) -> dict[str, Any] | None:
        remaining = end - time.monotonic()
        if remaining <= 0:
            self._kill(f"no answer within {deadline_s:.0f} s")
        try:
            return self.client.get_iopub_msg(timeout=min(remaining, 0.5))
        except Empty:
            if not self.sandbox.alive():
                self._kill("the kernel died")
            if reason := self.sandbox.excess():
                self._kill(reason)
            return None
        except Exception as error:
            # Whatever a student's process sends that is no valid message ends its kernel.
            self._kill(f"the kernel sent no valid message: {type(error).__name__}")
            return None

    def _kill(self, reason: str) -> None:
        self.stop()
        raise KernelStopped(reason)


def _append(outputs: list[NotebookNode], output: NotebookNode) -> None:
    """Add an output; consecutive pieces of one stream become one, as in a notebook."""
    last = outputs[-1] if outputs else None
    if last and output.output_type == last.output_type == "stream" and output.name == last.name:
        last.text += output.text
    else:
        outputs.append(output)


class KernelStudent:
    """The student's side of a check, across the kernel boundary.

    Args:
        sandbox: a clean one; receives the artifacts that the kernel may read.
        outputs: the artifacts that the judge measures, out of the kernel's reach.
        dataset: their image set.
        budget_s: seconds that all cells and calls together may take.
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
        self.end = time.monotonic() + budget_s
        self.good_cells: list[str] = []
        self.restarts, self.calls = 0, 0
        self.read: set[str] = set()  # artifacts
        self.called: set[str] = set()  # functions
        self.trouble = ""  # why the last cell that failed did so
        self.kernel: Kernel | None = None

    def close(self) -> None:
        """Stop the kernel."""
        if self.kernel:
            self.kernel.stop()
            self.kernel = None

    def run_cell(self, code: str, deadline_s: float) -> list[NotebookNode]:
        """Run a cell of the notebook and remember it for a replay if it went well.

        Raises:
            StudentError: no answer, or no time or kernel left.
        """
        try:
            outputs = self._execute(code, deadline_s)
        except StudentError as error:
            self.trouble = str(error)
            raise
        for output in outputs:
            if output.output_type == "error":
                self.trouble = f"{output.ename}: {output.evalue}"
        self.good_cells.append(code)
        return outputs

    def call(
        self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S, **kwargs: Any
    ) -> Any:
        """See :class:`autograder.contract.checking.Student`."""
        self.calls += 1
        self.called.add(function)
        name = f"call{self.calls}"
        requests, answers = self.sandbox.requests, self.sandbox.answers
        exchange.write(
            requests / name, {"function": function, "args": list(args), "kwargs": kwargs}
        )
        inside = self.sandbox.inside
        where = f"{str(inside / 'requests')!r}, {str(inside / 'answers')!r}, {name!r}"
        try:
            self._execute(f"__import__({SERVER!r}, fromlist=['']).serve({where})", deadline_s)
            answer = exchange.read(answers / name)
        except exchange.ExchangeError as error:
            raise StudentError(f"{function}: no valid answer: {error}") from None
        except StudentError as error:
            raise StudentError(f"{function}: {error}") from None
        finally:
            for path in [*requests.glob(f"{name}.*"), *answers.glob(f"{name}.*")]:
                path.unlink(missing_ok=True)
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
            budget_s = min(START_DEADLINE_S + deadline_s, max(0.0, self.end - time.monotonic()))
            outputs = Path(folder) / self.dataset
            outputs.mkdir()
            clean = KernelStudent(place, outputs, self.dataset, budget_s=budget_s)
            try:
                clean.run_cell(f"from {module} import {name}", START_DEADLINE_S)
                return clean.call(name, *args, deadline_s=deadline_s)
            finally:
                clean.close()

    def _execute(self, code: str, deadline_s: float) -> list[NotebookNode]:
        remaining = self.end - time.monotonic()
        if remaining <= 0:
            raise StudentError("the time for this submission was used up by earlier cells")
        try:
            kernel = self.kernel or self._start()
            return kernel.execute(code, min(deadline_s, remaining))
        except KernelStopped as stopped:
            self.kernel = None
            raise StudentError(str(stopped)) from None

    def _start(self) -> Kernel:
        if self.restarts > MAX_RESTARTS:
            raise KernelStopped(f"the kernel was lost {self.restarts} times; no further attempt")
        self.restarts += 1
        kernel = self._start_one()
        for code in self.good_cells:
            kernel.execute(code, 60)
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
