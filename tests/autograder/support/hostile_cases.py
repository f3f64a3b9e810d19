"""Broken and hostile submissions of the toy lab, each with the points and the reason it must get.

A case is a complete submission (2 points for ``double``, 3 for the artifact ``net``) that is harmed
in one way: another ``source`` for its one solution cell, or a ``harm`` done to its folder. Numbers
up to 38 are those of the published comparison with stock nbgrader (:mod:`side_by_side`, which runs
all of them there, too); the others are our own.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import torch
from safetensors.torch import load_file, save_file
from toy_lab import CHANNELS, LAB, half_zero

from autograder.contract import artifacts
from codesign.models import VGG, ResNet8


@dataclass(frozen=True)
class Case:
    """One harmed submission."""

    number: int
    name: str
    points: tuple[float, float]
    reason: str = ""
    source: str | None = None
    harm: Callable[[Path], None] | None = None
    no_counterpart: str = ""  # why stock nbgrader cannot be tried with it
    worth: tuple[float, float] | None = None  # of right work that is refused for its form

    @property
    def earned(self) -> tuple[float, float]:
        """What the work is worth, whatever the judge thinks of what comes with it."""
        if self.source is not None and self.source.endswith(RIGHT):
            return KEEPS
        return self.worth or self.points


RIGHT = "def double(x): return 2 * x\n"
WRONG = "def double(x): return 3 * x\n"
LOSES, KEEPS, NO_NET = (0, 3), (2, 3), (2, 0)
REFUSED = (0, 0)  # nothing of it runs, and a person is asked
SECRET = "TOY_SECRET"  # a variable of the host's environment
OUR_FOLDER = "it aims at the folder that judge and kernel share"
OUR_CODE = "it aims at the judge's own code in the kernel"
# Numbers of the published comparison that are no submissions of one student.
ELSEWHERE = {
    11: "the throw-away machine has no network; `autograder doctor` tries it on the judge",
    37: "grading twice and at once is tried in `test_resume.py`",
    38: "killing the grader is tried in `test_resume.py`",
}


def body(*lines: str) -> str:
    """A ``double`` of these lines."""
    return "\n    ".join(["def double(x):", *lines])


def answer_from(pattern: str) -> str:
    """The answer of somebody else's notebook in the course's folder, seen from the kernel's."""
    return (
        "import glob, json\n"
        f"notebook = json.load(open(glob.glob('../../../{pattern}')[0]))\n"
        "exec(''.join(notebook['cells'][1]['source']))"
    )


def notebook(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A harm: ``change`` the JSON of the notebook."""

    def harm(folder: Path) -> None:
        path = folder / f"{LAB}.ipynb"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return harm


def text(content: bytes) -> Callable[[Path], None]:
    """A harm: the notebook's file has this content."""
    return lambda folder: (folder / f"{LAB}.ipynb").write_bytes(content)


def net_file(content: bytes) -> Callable[[Path], None]:
    """A harm: the artifact's weights are these bytes."""
    return lambda folder: (folder / "outputs/glyphs/net.safetensors").write_bytes(content)


def net_record(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A harm: ``change`` the JSON of the artifact."""

    def harm(folder: Path) -> None:
        path = folder / "outputs/glyphs/net.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return harm


def net_weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A harm: ``change`` the artifact's tensors."""

    def harm(folder: Path) -> None:
        path = folder / "outputs/glyphs/net.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return harm


def net(model: torch.nn.Module) -> Callable[[Path], None]:
    """A harm: another model as the artifact."""
    return lambda folder: artifacts.store(folder / "outputs" / "glyphs", "net", model)


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A harm: the artifact's weights file is something else."""

    def harm(folder: Path) -> None:
        path = folder / "outputs/glyphs/net.safetensors"
        path.unlink()
        make(path)

    return harm


def nowhere(folder: Path) -> None:
    (folder / f"{LAB}.ipynb").rename(folder / "final version (2).ipynb")


def nested(folder: Path) -> None:
    """Folders that reach deeper than Python's recursion."""
    here = Path.cwd()
    try:
        os.chdir(folder / "outputs" / "glyphs")
        for _ in range(1_500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)


def linked_folder(folder: Path) -> None:
    outputs = folder / "outputs"
    outputs.rename(folder / "elsewhere")
    outputs.symlink_to(folder / "elsewhere")


def tiny_instead_of_zero() -> VGG:
    model = half_zero()
    for parameter in model.parameters():
        parameter.data[parameter.data == 0] = 1e-30
    return model


def dense_lies(record: dict) -> None:
    record.update(sparsity=0.99, nonzeros=1, points=3)


def tagged(content: dict) -> None:
    for cell in content["cells"][2:]:
        cell["metadata"]["tags"] = ["skip-execution", "raises-exception"]


def nothing(folder: Path) -> None:
    """No work at all: the notebook as it was released, and no artifact."""
    shutil.rmtree(folder / "outputs")
    notebook(lambda c: c["cells"][1].update(source="def double(x): raise NotImplementedError"))(
        folder
    )


def promoted(content: dict) -> None:
    for cell in content["cells"][2:]:
        cell["metadata"]["nbgrader"].update(points=100, solution=True, grade=False, locked=False)
        cell["source"] = "2.0"
    content["cells"][1]["source"] = WRONG


def twisted(content: dict) -> None:
    content["cells"][1]["metadata"]["nbgrader"]["schema_version"] = 99
    del content["cells"][2]["metadata"]["nbgrader"]["schema_version"]


BOMB = "import os, time\n" + body(
    "for _ in range(8):",
    "    if os.fork() == 0:",
    "        block = bytearray(2**30)",
    "        time.sleep(30)",
    "        os._exit(0)",
    "states = [os.wait()[1] for _ in range(8)]",
    "raise RuntimeError(f'bombs: {states}')",
)
FORGED_MESSAGES = """
kernel = get_ipython().kernel
for content in ({"data": {"text/plain": "2.0"}, "metadata": {}, "execution_count": 3},):
    for parent in ({}, kernel.get_parent()):
        kernel.session.send(kernel.iopub_socket, "execute_result", content, parent=parent)
        idle = {"execution_state": "idle"}
        kernel.session.send(kernel.iopub_socket, "status", idle, parent=parent)
kernel.iopub_socket.send_multipart([b"junk", b"more junk"])
"""

FORGED_RESULT = """
def double(x):
    kernel = get_ipython().kernel
    content = {"data": {"text/plain": "2.0"}, "metadata": {}, "execution_count": 3}
    kernel.session.send(
        kernel.iopub_socket, "execute_result", content, parent=kernel.get_parent()
    )
    return x
"""

MALFORMED = """
kernel = get_ipython().kernel
def send(kind, content):
    kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())
"""

CASES = [
    Case(1, "infinite loop", LOSES, "no answer within", body("while True: pass")),
    Case(
        2,
        "loop that swallows everything",
        LOSES,
        "no answer within",
        body(
            "while True:",
            "    try:",
            "        import time; time.sleep(9)",
            "    except BaseException: pass",
        ),
    ),
    Case(3, "memory bomb", LOSES, "Memory", body("return bytearray(2**36)")),
    Case(4, "memory bomb of several processes", LOSES, "", BOMB),
    Case(
        5,
        "fork bomb",
        LOSES,
        "",
        "import os\n" + body("while True:", "    os.fork()"),
    ),
    Case(
        5,
        "thread bomb",
        LOSES,
        "start new thread",
        "import threading, time\n"
        + body("while True:", "    threading.Thread(target=time.sleep, args=(30,)).start()"),
    ),
    Case(6, "os._exit", LOSES, "died", "import os\n" + body("os._exit(0)")),
    Case(6, "os._exit in the cell", LOSES, "stopped: the kernel died", "import os\nos._exit(0)"),
    Case(6, "segmentation fault", LOSES, "died", "import ctypes\n" + body("ctypes.string_at(0)")),
    Case(
        7,
        "filling the disk",
        LOSES,
        "",
        body(
            "import itertools",
            "for folder in ('/tmp', '/dev/shm', '.'):",
            "    try:",
            "        for part in itertools.count():",
            "            open(f'{folder}/{part}', 'wb').write(bytes(2**26))",
            "    except OSError as error:",
            "        said = error",
            "raise said",
        ),
    ),
    Case(
        7,
        "filling the judge's folder",
        LOSES,
        "it wrote more than",
        body(
            "import itertools, time",
            "for part in itertools.count():",
            "    open(f'/codesign/shared/answers/{part}', 'wb').write(bytes(2**26))",
            "    time.sleep(0.05)",
        ),
        no_counterpart=OUR_FOLDER,
    ),
    Case(
        8,
        "writing outside of its folder",
        LOSES,
        "Read-only file system",
        body("open('/usr/written', 'w')"),
    ),
    Case(
        8,
        "removing all submissions",
        LOSES,
        "entries differ",
        "import shutil\nshutil.rmtree('../../../submitted')\n" + WRONG,
    ),
    Case(
        9,
        "reading oracles",
        LOSES,
        "No module named",
        body("import autograder.labs.lab1_pruning.checks"),
        no_counterpart="it aims at the judge's checks; stock nbgrader's lie in the notebook",
    ),
    Case(9, "reading the solution", LOSES, "no function", answer_from("solutions/toy/toy.ipynb")),
    Case(
        9,
        "reading another submission",
        LOSES,
        "no function",
        answer_from("submitted/*next/toy/toy.ipynb"),
    ),
    Case(
        10,
        "rewriting the gradebook",
        LOSES,
        "entries differ",
        "import sqlite3\n"
        "book = sqlite3.connect('../../../gradebook.db')\n"
        "book.execute('UPDATE grade SET manual_score = 2')\n"
        "book.commit()\n" + WRONG,
    ),
    Case(
        12,
        "user namespace",
        LOSES,
        "unshare: 256",
        "import ctypes, os\n"
        + body(
            "if os.fork() == 0:  # a process with one thread",
            "    os._exit(ctypes.CDLL(None).unshare(0x10000000) != 0)",
            "raise RuntimeError(f'unshare: {os.wait()[1]}')",
        ),
    ),
    Case(
        13,
        "a secret of the environment",
        LOSES,
        "entries differ",
        "import os\n" + body(f"return 2 * x if {SECRET!r} in os.environ else x"),
    ),
    Case(
        14,
        "rewriting the checks' source",
        LOSES,
        "no valid answer",
        "import ast\n"
        "class All(ast.NodeTransformer):\n"
        "    def visit_Call(self, node): return ast.Constant(2.0)\n"
        "get_ipython().ast_transformers.append(All())\n"
        "get_ipython().input_transformers_post.append(lambda lines: ['2.0'])\n" + WRONG,
    ),
    Case(
        15,
        "patched library",
        LOSES,
        "",
        "import builtins, torch\n"
        "torch.isclose = torch.allclose = torch.equal = lambda *a, **k: torch.tensor(True)\n"
        "builtins.isinstance = lambda *a: True\n" + WRONG,
    ),
    Case(
        15,
        "patched comparison",
        LOSES,
        "entries differ",
        "import torch\ntorch.equal = torch.allclose = lambda *a, **k: True\n" + WRONG,
    ),
    Case(
        15,
        "patched judge",
        LOSES,
        "",
        "import autograder.contract.checking as c, autograder.contract.exchange as e\n"
        "c.compare = c.passed = lambda *a, **k: c.Row('x', 'yes', 'yes', 2, 2)\n"
        "e.serve = lambda *a: None\n" + WRONG,
        no_counterpart=OUR_CODE,
    ),
    Case(
        16,
        "equal to everything",
        LOSES,
        "is a Equal",
        "class Equal:\n    def __eq__(self, other): return True\n" + body("return Equal()"),
    ),
    Case(17, "tags", KEEPS, harm=notebook(tagged)),
    Case(
        17,
        "tags instead of work",
        (0, 0),
        "NotImplementedError",
        harm=lambda f: (nothing(f), notebook(tagged)(f)),
    ),
    Case(18, "forged messages", LOSES, "", FORGED_MESSAGES + WRONG),
    Case(18, "forged result of the check", LOSES, "", FORGED_RESULT),
    *[
        Case(
            18, f"malformed {kind}", KEEPS, "", MALFORMED + f"send({kind!r}, {content!r})\n" + RIGHT
        )
        for kind, content in [
            ("stream", {"name": 5, "text": ["x"]}),
            ("stream", {}),
            ("display_data", {"data": {"text/plain": {"a": 1}}, "metadata": {}}),
            ("execute_result", {"data": "2.0", "metadata": [], "execution_count": "x"}),
            ("error", {"ename": 1, "evalue": None, "traceback": "x"}),
            ("status", []),
        ]
    ],
    Case(
        19,
        "forged results",
        LOSES,
        "",
        "import glob, json\n"
        + body(
            "print('2.0')",
            "open('/codesign/shared/answers/verdict.json', 'w').write('{\"points\": 2}')",
            "return x",
        ),
        no_counterpart=OUR_FOLDER,
    ),
    Case(
        20,
        "pickle in an artifact",
        NO_NET,
        "net",
        harm=lambda folder: torch.save({"x": 1}, folder / "outputs/glyphs/net.safetensors"),
    ),
    Case(21, "oversized artifact", NO_NET, "bytes; allowed", harm=net_file(bytes(33 * 2**20))),
    Case(
        21,
        "a notebook of millions of values",
        REFUSED,
        "values; allowed",
        worth=(0, 3),
        harm=text(b'{"cells": [' + b"0," * 5_000_000 + b"0]}"),
    ),
    Case(22, "endless output", LOSES, "", body("while True: print('x' * 1_000)")),
    Case(22, "one giant line", LOSES, "", body("print('x' * 200_000_000)", "return x")),
    Case(23, "deleted checks", KEEPS, harm=notebook(lambda c: c["cells"].__delitem__(slice(2, 4)))),
    Case(
        24,
        "duplicate ids",
        KEEPS,
        harm=notebook(lambda c: c["cells"].append(c["cells"][1])),
    ),
    Case(25, "unknown schema", KEEPS, harm=notebook(twisted)),
    Case(26, "changed points and flags", LOSES, "", harm=notebook(promoted)),
    Case(27, "bad JSON", REFUSED, "no notebook", worth=(0, 3), harm=text(b'{"cells": [')),
    Case(27, "empty file", REFUSED, "an empty file", worth=(0, 3), harm=text(b"")),
    Case(
        27,
        "byte order mark",
        KEEPS,
        harm=lambda f: text(b"\xef\xbb\xbf" + (f / f"{LAB}.ipynb").read_bytes())(f),
    ),
    Case(
        27,
        "nbformat 3",
        REFUSED,
        "nbformat 3",
        worth=(0, 3),
        harm=text(b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}'),
    ),
    Case(
        28,
        "wrong kernel",
        KEEPS,
        harm=notebook(
            lambda c: c["metadata"].update(
                kernelspec={"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
            )
        ),
    ),
    Case(
        29,
        "no notebook",
        REFUSED,
        "No such file",
        worth=(0, 3),
        harm=lambda f: (f / f"{LAB}.ipynb").unlink(),
    ),
    Case(29, "renamed notebook", KEEPS, "was taken for", harm=nowhere),
    Case(
        30, "link", NO_NET, "net.safetensors", harm=replaced(lambda p: p.symlink_to("/etc/passwd"))
    ),
    Case(30, "FIFO", NO_NET, "not a regular file", harm=replaced(os.mkfifo)),
    Case(30, "folder", NO_NET, "net.safetensors", harm=replaced(lambda p: p.mkdir())),
    Case(
        30,
        "hard link",
        NO_NET,
        "one name",
        worth=KEEPS,
        harm=lambda f: os.link(f / "outputs/glyphs/net.safetensors", f / "second"),
    ),
    Case(30, "linked folder", NO_NET, "not handed in", worth=KEEPS, harm=linked_folder),
    Case(31, "NaN as the result", LOSES, "entries differ", body("return x * float('nan')")),
    Case(
        31,
        "a scalar as the result",
        LOSES,
        "expected a float32 tensor",
        body("return float('inf')"),
    ),
    Case(
        32,
        "patched clock",
        LOSES,
        "no answer within",
        "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0\n"
        + body("while True: pass"),
    ),
    Case(33, "the public answer, hard-coded", LOSES, "entries differ", body("return 0 * x + 1")),
    Case(
        34,
        "an artifact that lies",
        NO_NET,
        "",
        harm=lambda f: (net(VGG(CHANNELS))(f), net_record(dense_lies)(f)),
    ),
    Case(35, "tiny instead of zero", NO_NET, "", harm=net(tiny_instead_of_zero())),
    Case(36, "another architecture", NO_NET, "expected", harm=net(ResNet8())),
    Case(
        36,
        "a config that does not fit",
        NO_NET,
        "do not fit the config",
        harm=net_record(lambda r: r["config"].update(channels=[4, "M", 7])),
    ),
    Case(
        36,
        "other dtypes",
        NO_NET,
        "",
        harm=net_weights(lambda t: t.update({k: v.to(torch.float64) for k, v in t.items()})),
    ),
    Case(
        36,
        "NaN weights",
        NO_NET,
        "NaN",
        harm=net_weights(lambda t: t["classifier.bias"].fill_(float("nan"))),
    ),
    # --- our own -----------------------------------------------------------------------------
    Case(39, "killing all processes", LOSES, "", "import os\n" + body("os.kill(-1, 9)")),
    Case(
        40, "stopping itself", LOSES, "no answer", "import os\n" + body("os.kill(os.getpid(), 19)")
    ),
    Case(
        41,
        "removing its sockets",
        LOSES,
        "",
        body(
            "import os, shutil",
            "for name in os.listdir('/codesign/shared/sockets'):",
            "    os.unlink(f'/codesign/shared/sockets/{name}')",
            "    os.symlink('/etc/passwd', f'/codesign/shared/sockets/{name}')",
            "return x",
        ),
        no_counterpart=OUR_FOLDER,
    ),
    Case(42, "closing every file", LOSES, "", "import os\n" + body("os.closerange(0, 4096)")),
    Case(
        43,
        "an exception that cannot be shown",
        LOSES,
        "",
        "class Rude(Exception):\n"
        "    def __str__(self): raise self\n"
        "    __repr__ = __str__\n" + body("raise Rude()"),
    ),
    Case(43, "leaving by SystemExit", LOSES, "", body("raise SystemExit(0)")),
    Case(43, "leaving by KeyboardInterrupt", LOSES, "", body("raise KeyboardInterrupt")),
    Case(44, "a list within itself", LOSES, "nested", body("x = []", "x.append(x)", "return x")),
    Case(
        44,
        "an endless iterator",
        LOSES,
        "",
        "import itertools\n" + body("return itertools.count()"),
    ),
    Case(44, "a huge answer", LOSES, "", body("import torch", "return torch.zeros(2**26)")),
    Case(
        45,
        "a link as its answer",
        LOSES,
        "",
        "import os, autograder.contract.exchange as e\n"
        "def write(stem, value):\n"
        "    for kind in ('json', 'safetensors'): os.symlink('/etc/passwd', f'{stem}.{kind}')\n"
        "e.write = write\n" + RIGHT,
        no_counterpart=OUR_CODE,
    ),
    Case(
        45,
        "a pipe as its answer",
        LOSES,
        "not a regular file",
        "import os, autograder.contract.exchange as e\n"
        "def write(stem, value):\n"
        "    for kind in ('json', 'safetensors'): os.mkfifo(f'{stem}.{kind}')\n"
        "e.write = write\n" + RIGHT,
        no_counterpart=OUR_CODE,
    ),
    Case(
        46,
        "script in a message",
        LOSES,
        "ValueError",
        body("raise ValueError('<script>alert(1)</script>')"),
    ),
    Case(
        46,
        "script in what it displays",
        KEEPS,
        source="from IPython.display import HTML, Javascript, SVG, display\n"
        "display(HTML('<script>alert(1)</script><img src=x onerror=alert(2)>'))\n"
        "display(Javascript('alert(3)'))\n"
        "display({'image/png': '\\\"><script>alert(4)</script>'}, raw=True)\n" + RIGHT,
    ),
    Case(
        47,
        "a config of a trillion weights",
        NO_NET,
        "",
        harm=net_record(lambda r: r["config"].update(channels=[10**6, 10**6])),
    ),
    Case(
        47,
        "a header that lies about its length",
        NO_NET,
        "net",
        harm=net_file(struct.pack("<Q", 2**62) + b"{}"),
    ),
    Case(
        47,
        "JSON nested too deep",
        NO_NET,
        "net",
        harm=lambda f: (f / "outputs/glyphs/net.json").write_text("[" * 10**5 + "]" * 10**5),
    ),
    Case(
        47,
        "JSON that is no object",
        NO_NET,
        "net",
        harm=lambda f: (f / "outputs/glyphs/net.json").write_text("[NaN, 1e999]"),
    ),
    Case(
        48,
        "lone surrogates",
        LOSES,
        "",
        harm=notebook(lambda c: c["cells"][1].update(source="def double(x): return '\ud800'")),
    ),
    Case(48, "a line of a hundred thousand characters", LOSES, "", "a." * 50_000 + "a"),
    Case(48, "a cell of a million characters", LOSES, "too many", "x = '" + "y" * 10**6 + "'"),
    Case(49, "asking for input", LOSES, "", body("return input('points? ')")),
    Case(
        50,
        "a shell",
        LOSES,
        "",
        "!rm -rf / --no-preserve-root 2> /dev/null; kill -9 1\n" + WRONG,
    ),
    Case(
        51,
        "a process left behind",
        KEEPS,
        "",
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid(); time.sleep(60); os._exit(0)\n" + RIGHT,
    ),
    Case(52, "its folder removed", KEEPS, "", "import os, shutil\nos.chdir('/tmp')\n" + RIGHT),
    Case(
        53,
        "what the machine obeys",
        LOSES,
        "Read-only file system",
        body("open('/proc/sys/kernel/core_pattern', 'w')"),
    ),
    Case(
        53,
        "folders nested without end, where the judge reads",
        LOSES,
        "nested folders",
        body(
            "import os, time",
            "os.chdir('/codesign/shared/answers')",
            "for _ in range(3_000): os.mkdir('d'), os.chdir('d')",
            "time.sleep(60)",
        ),
        no_counterpart=OUR_FOLDER,
    ),
    Case(
        53,
        "folders nested without end in its own folder",
        KEEPS,
        "",
        "import os\nfor _ in range(3_000): os.mkdir('d'), os.chdir('d')\nos.chdir('/')\n" + RIGHT,
    ),
    Case(53, "folders nested without end handed in", KEEPS, "", harm=nested),
    Case(
        53,
        "a key left for the next student",
        LOSES,
        "add_key: -1",
        "import ctypes\n"
        + body(
            "done = ctypes.CDLL(None).syscall(248, b'user', b'left', b'x', 1, -3)",
            "raise RuntimeError(f'add_key: {done}')",
        ),
    ),
    Case(54, "no code at all", LOSES, "no function", ""),
    Case(54, "a syntax error", LOSES, "stopped: SyntaxError", "def double(x) return x"),
    Case(
        54,
        "cells that are no cells",
        REFUSED,
        "none of the functions",
        worth=(0, 3),
        harm=notebook(
            lambda c: c.update(cells=[1, None, {"metadata": 3}, {"metadata": {"nbgrader": []}}])
        ),
    ),
]


def hand_in_case(folder: Path, case: Case) -> None:
    """Turn the full submission in ``folder`` into ``case``."""
    if case.source is not None:
        path = folder / f"{LAB}.ipynb"
        made = nbformat.read(path, as_version=4)
        made.cells[1].source = case.source
        nbformat.write(made, path)
    if case.harm is not None:
        case.harm(folder)


def keyed() -> list[tuple[str, Case]]:
    """Every case by a name of its own."""
    seen: Counter[str] = Counter()
    found = []
    for case in CASES:
        name = f"{case.number} {case.name}"
        seen[name] += 1
        found.append((name if seen[name] == 1 else f"{name} ({seen[name]})", case))
    return found
