"""A student's kernel as the judge drives it: cells with deadlines, killed when they overrun.

Everything that comes out is a student's word: outputs are kept for people to read, never for
points. A kernel that was killed is started again and the cells that had gone well are replayed, so
that one bad cell costs one cell.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from nbformat import NotebookNode

from autograder import exchange
from autograder.checking import CALL_DEADLINE_S, StudentError, artifact, artifact_bytes
from autograder.lab import GRADING
from codesign import datasets

START_DEADLINE_S = 120.0
MAX_OUTPUT_BYTES = 2 * 2**20
MAX_RESTARTS = 4
STUDENTS_SPLITS = ("train", "val")


class KernelStopped(Exception):
    """The kernel died or was killed; the message says why."""


class Kernel:
    """One running kernel; isolated under bubblewrap or not.

    Args:
        work: private folder; the kernel writes in ``kernel/`` (where it runs) and ``answers/``,
            and reads ``requests/``.
    """

    def __init__(self, work: Path, dataset: str, *, isolated: bool) -> None:
        self.work, self.isolated = work, isolated
        keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        self.environment = {
            **keep,
            GRADING: "1",
            "CODESIGN_DATASET": dataset,
            "CODESIGN_WORK": str(work),
        }
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            KernelStopped: it did not come up.
        """
        launcher = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        provisioner = {"provisioner_name": "codesign-sandbox", "config": {}}
        spec = KernelSpec(
            argv=[*launcher, "--HistoryManager.hist_file=:memory:"],
            display_name="judge",
            language="python",
            metadata={"kernel_provisioner": provisioner} if self.isolated else {},
        )
        self.manager = KernelManager(kernel_name="judge")
        self.manager._kernel_spec = spec
        quiet = open(os.devnull, "wb")  # noqa: SIM115 - what the process prints is of no interest
        self.manager.start_kernel(
            cwd=str(self.work / "kernel"), env=self.environment, stdout=quiet, stderr=quiet
        )
        quiet.close()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=START_DEADLINE_S)
            self.execute("import autograder.exchange; del autograder", START_DEADLINE_S)
        except RuntimeError as error:
            self.stop()
            raise KernelStopped(f"the kernel did not start: {error}") from None

    def stop(self) -> None:
        """Kill the process at once."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

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
            if message is None or message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content.get("execution_state") == "idle":
                return outputs
            if kind not in ("stream", "display_data", "execute_result", "error"):
                continue
            size += len(str(content))
            if size > MAX_OUTPUT_BYTES:
                self._kill(f"the cell printed more than {MAX_OUTPUT_BYTES:,} bytes")
            _append(outputs, nbformat.v4.output_from_msg(message))

    def _next(self, end: float, deadline_s: float) -> dict[str, Any] | None:
        remaining = end - time.monotonic()
        if remaining <= 0:
            self._kill(f"no answer within {deadline_s:.0f} s")
        try:
            return self.client.get_iopub_msg(timeout=min(remaining, 0.5))
        except Empty:
            if not self.manager.is_alive():
                self._kill("the kernel died")
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
        work: private folder of this submission, see :class:`Kernel`; the artifacts lie in
            ``judge/<dataset>``, out of the kernel's reach, and again in ``kernel/outputs``.
        budget_s: seconds that all cells and calls together may take.
    """

    def __init__(self, work: Path, dataset: str, *, isolated: bool, budget_s: float) -> None:
        self.work, self.dataset, self.isolated = work, dataset, isolated
        for split in STUDENTS_SPLITS:  # the sandbox shows what is there when the kernel starts
            datasets.prepare(dataset, split)
        self.outputs = work / "judge" / dataset
        for folder in ("kernel", "requests", "answers"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        self.end = time.monotonic() + budget_s
        self.good_cells: list[str] = []
        self.restarts, self.calls = 0, 0
        self.read: set[str] = set()
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
        outputs = self._execute(code, deadline_s)
        self.good_cells.append(code)
        return outputs

    def call(
        self, function: str, *args: Any, deadline_s: float = CALL_DEADLINE_S, **kwargs: Any
    ) -> Any:
        """See :class:`autograder.checking.Student`."""
        self.calls += 1
        name = f"call{self.calls}"
        requests, answers = self.work / "requests", self.work / "answers"
        exchange.write(
            requests / name, {"function": function, "args": list(args), "kwargs": kwargs}
        )
        where = f"{str(requests)!r}, {str(answers)!r}, {name!r}"
        try:
            self._execute(f"__import__('autograder').exchange.serve({where})", deadline_s)
            answer = exchange.read(answers / name)
        except exchange.ExchangeError as error:
            raise StudentError(f"{function}: no valid answer: {error}") from None
        except StudentError as error:
            raise StudentError(f"{function}: {error}") from None
        finally:
            for path in [*requests.glob(f"{name}.*"), *answers.glob(f"{name}.*")]:
                path.unlink(missing_ok=True)
        if not isinstance(answer, dict) or "value" not in answer:
            said = answer.get("error") if isinstance(answer, dict) else answer
            raise StudentError(f"{function}: {str(said)[: exchange.MAX_MESSAGE]}")
        return answer["value"]

    def artifact(self, name: str) -> Any:
        """See :class:`autograder.checking.Student`."""
        self.read.add(name)
        return artifact(self.outputs, name)

    def artifact_bytes(self, name: str) -> int:
        """See :class:`autograder.checking.Student`."""
        self.read.add(name)
        return artifact_bytes(self.outputs, name)

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
        kernel = Kernel(self.work, self.dataset, isolated=self.isolated)
        for code in self.good_cells:
            kernel.execute(code, 60)
        self.kernel = kernel
        return kernel
