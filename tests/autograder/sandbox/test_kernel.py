"""What a kernel sends late, or not at all: on a busy machine the reply overtakes the outputs."""

from __future__ import annotations

from collections import deque
from queue import Empty
from types import SimpleNamespace

import pytest

from autograder.sandbox import kernel
from autograder.sandbox.kernel import Kernel


class Client:
    """A kernel's client whose messages arrive as listed; None: nothing within half a second."""

    def __init__(self, *messages):
        self.messages, self.reply = deque(messages), True

    def execute(self, code, **_):
        return "request"

    def get_iopub_msg(self, timeout):
        message = self.messages.popleft() if self.messages else None
        if message is None:
            raise Empty
        kind, content = message
        header = {"msg_type": kind}
        return {"parent_header": {"msg_id": "request"}, "header": header, **header, **content}

    def get_shell_msg(self, timeout):
        if not self.reply:
            raise Empty
        self.reply = False
        return {"parent_header": {"msg_id": "request"}}


PRINTS = "stream", {"content": {"name": "stdout", "text": "late"}}
IDLE = "status", {"content": {"execution_state": "idle"}}


def executed(*messages):
    """Outputs and the reason of a cut, of a cell whose kernel sends these messages."""
    made = Kernel.__new__(Kernel)
    made.client = Client(*messages)
    made.sandbox = SimpleNamespace(pid=None, alive=lambda: True, excess=lambda: None)
    return made.try_to_execute("x", 60.0)


@pytest.mark.parametrize("silent", range(kernel.PATIENCE + 1))
def test_what_arrives_after_the_reply_is_waited_for(silent):
    outputs, cut = executed(*[None] * silent, PRINTS, IDLE)
    assert [output.text for output in outputs] == ["late"]
    assert cut == ""


def test_what_never_arrives_is_said_to_be_lost():
    outputs, cut = executed(PRINTS)
    assert [output.text for output in outputs] == ["late"]
    assert cut == kernel.LOST
