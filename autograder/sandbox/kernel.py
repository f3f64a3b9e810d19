"""Drive a student's kernel: execute cells with deadlines, interrupt or kill it when one overruns.

Everything that comes out is a student's word: outputs are kept for people to read, never for
points.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from queue import Empty
from typing import Any, cast

import nbformat
import zmq
from jupyter_client.blocking import BlockingKernelClient
from nbformat import NotebookNode

from autograder.contract.deadlines import MAX_OUTPUT_BYTES
from autograder.contract.environment import DATASET, GRADING
from autograder.intake import sanitize
from autograder.sandbox.clock import Clock
from autograder.sandbox.process import Sandbox, SandboxError

START_DEADLINE_S = 120.0
MAX_MESSAGE_BYTES = 4 * 2**20  # one that is larger never reaches this process
MAX_MESSAGES = 100  # that wait here
LOST = "a message of it was too large and is lost"
PATIENCE = 4  # half seconds after a cell's reply for what a busy machine delivers late
GRACE_S = 5.0  # between an interrupt and the kill


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
        self.client.start_channels(hb=False, stdin=False)
        self.clock = Clock(None)  # of what it executes now, or executed last
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
        return self.try_to_execute(code, deadline_s, grace_s=0.0)[0]

    def try_to_execute(
        self, code: str, deadline_s: float, *, grace_s: float = GRACE_S
    ) -> tuple[list[NotebookNode], str]:
        """Run ``code`` and return its outputs, and why it was interrupted (empty: it was not).

        Args:
            deadline_s: of the time that the kernel uses (see :mod:`.clock`).
            grace_s: between an interrupt and the kill; 0: killed at once.

        Raises:
            KernelStopped: it died, or an interrupt did not end it in time. It is dead then.
        """
        self.clock, limit_s = Clock(self.sandbox.pid), deadline_s
        request = self.client.execute(code, allow_stdin=False, stop_on_error=False)
        outputs: list[NotebookNode] = []
        size, silent, cut = 0, 0, ""
        while True:
            if reason := self._overrun(limit_s, deadline_s, size):
                if silent:
                    return outputs, cut or LOST
                if cut or not grace_s:
                    self._kill(cut or reason)
                self.client.control_channel.send(self.client.session.msg("interrupt_request"))
                cut, size, limit_s = reason, 0, self.clock.from_now_s(grace_s)
            message = self._next(limit_s - self.clock.used_s)
            if message is None and (silent or self._replied(request)):
                silent += 1
                if silent > PATIENCE:
                    return outputs, cut or LOST
            try:
                if message is None or message["parent_header"].get("msg_id") != request:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content.get("execution_state") == "idle":
                    return outputs, cut
                if kind not in ("stream", "display_data", "execute_result", "error") or cut:
                    continue
                size += len(str(content))
                output = sanitize.output(nbformat.v4.output_from_msg(message))
                nbformat.validate(output, ref="output", version=4)
                _append(outputs, output)
            except (nbformat.ValidationError, LookupError, TypeError, AttributeError, ValueError):
                self._kill("the kernel sent no valid message")  # the student's code has its key

    def _overrun(self, limit_s: float, deadline_s: float, size: int) -> str:
        """Why what runs has to end now; empty: it need not."""
        if size > MAX_OUTPUT_BYTES:
            return f"the cell printed more than {MAX_OUTPUT_BYTES:,} bytes"
        if not self.clock.is_late(limit_s):
            return ""
        used_s, passed_s = self.clock.used_s, self.clock.passed_s
        if used_s > deadline_s:
            return f"no answer within {deadline_s:.0f} s"
        return f"no answer within {passed_s:.0f} s, of which it had a processor for {used_s:.0f} s"

    def _next(self, left_s: float) -> dict[str, Any] | None:
        """The next message, or None: there was none within ``left_s`` or half a second."""
        try:
            return self.client.get_iopub_msg(timeout=min(max(left_s, 0.1), 0.5))
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

    def _replied(self, request: str) -> bool:
        """Whether the kernel says that it is done, although no output said so."""
        while True:
            try:
                reply = self.client.get_shell_msg(timeout=0)
            except Empty:
                return False
            except Exception as error:
                self._kill(f"the kernel sent no valid message: {type(error).__name__}")
            if isinstance(reply, dict) and reply.get("parent_header", {}).get("msg_id") == request:
                return True

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


def stopped(reason: str) -> NotebookNode:
    """The output of a cell that was ended from outside."""
    return nbformat.v4.new_output("error", ename="CellStopped", evalue=reason, traceback=[reason])
