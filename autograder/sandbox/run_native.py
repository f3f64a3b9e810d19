"""Run a submitted C function and time it from outside, so that neither can be forged.

The function is linked into a program of its own that has no C library: it maps its arrays, asks the
kernel to refuse every further system call (a seccomp filter), waits for a byte, calls the
function once and ends. So the C can compute and nothing else; the clock runs outside, from the byte
to the end of the process, when nothing can be computed any more. Every array ends where its memory
ends: what reads or writes past it is stopped. It is compiled for AVX2 wherever it runs, so that
figures of several machines can be compared. The compiler reads untrusted text, so all of this
belongs into a sandbox (``student.measure``). Where there is no seccomp (not Linux), the function is
called in this process: good enough for a student's own machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign import native

CALL_S = 10.0
MACHINES = ("x86_64", "aarch64")  # whose system calls the harness knows
ELEMENTS = {"int8_t": np.int8, "uint8_t": np.uint8, "int32_t": np.int32, "float": np.float32}
DECLARATION = re.compile(r"void (?P<name>[a-z_]\w*)\((?P<arguments>[^()]*)\)")
HARNESS = Path(__file__).with_name("run_native.c")


class ProgramError(ValueError):
    """The C does not compile, link or come to its end; the message says which and why."""


class Program:
    """One function of a C source text, ready to run.

    Args:
        source: the text; of the C library it has only ``mem*`` functions.
        declaration: as the harness calls it, for instance
            ``"void scale(const float *x, float *y, int n)"``.

    Raises:
        ProgramError: the compiler's or the linker's message.
    """

    def __init__(self, source: str, declaration: str) -> None:
        match = DECLARATION.fullmatch(declaration)
        if match is None:
            raise ValueError(f"got declaration {declaration!r}; allowed: void name(type x, ...)")
        self.name, self.declaration = match["name"], declaration
        self.arguments = [part.strip() for part in match["arguments"].split(",")]
        self._folder = Path(tempfile.mkdtemp(prefix="codesign-c-"))
        weakref.finalize(self, shutil.rmtree, self._folder, True)
        self.isolated = sys.platform == "linux" and platform.machine() in MACHINES
        try:
            self._build(source)
        except native.CompileError as error:
            raise ProgramError(f"does not compile: {error}") from None

    def _build(self, source: str) -> None:
        if not self.isolated:
            self.library = native.build(source, native.AVX2)
            return
        folder = self._folder
        native.compile_c(source, folder / "kernel.o", native.AVX2)
        passed = [
            f"(void *)base[{i}]" if "*" in argument else f"(int)base[{i}]"
            for i, argument in enumerate(self.arguments)
        ]
        harness = HARNESS.read_text()
        harness = harness.replace("DECLARATION", self.declaration)
        harness = harness.replace("CALL", f"{self.name}({', '.join(passed)})")
        native.compile_c(harness, folder / "harness.o", native.AVX2, "-fno-builtin")
        objects = [folder / "kernel.o", folder / "harness.o"]
        native.link(objects, folder / "program", "-static", "-Wl,-e,harness_entry")

    def run(self, arguments: Sequence[np.ndarray | int]) -> tuple[list[np.ndarray], float]:
        """Call the function once, in a fresh process, arrays in the types of the declaration.

        Returns:
            the arrays that are not ``const``, as they are afterwards, and seconds.

        Raises:
            ProgramError: it was stopped; says by what.
        """
        if len(arguments) != len(self.arguments):
            raise ValueError(f"got {len(arguments)} arguments for {self.declaration}")
        arguments = [_typed(*pair) for pair in zip(self.arguments, arguments, strict=True)]
        arrays = [value if isinstance(value, np.ndarray) else None for value in arguments]
        if not self.isolated:
            copies = [
                value.copy() if isinstance(value, np.ndarray) else value for value in arguments
            ]
            start = time.perf_counter()
            getattr(self.library, self.name)(*copies)
            seconds = time.perf_counter() - start
            return self._outputs(copies), seconds
        with tempfile.TemporaryFile() as file:
            header, places = self._write(file.fileno(), arguments)
            seconds = self._process(file.fileno(), header)
            found = [
                None if array is None else self._read(file.fileno(), place, array)
                for array, place in zip(arrays, places, strict=True)
            ]
        return self._outputs(found), seconds

    def _outputs(self, values: Sequence[Any]) -> list[np.ndarray]:
        pairs = zip(values, self.arguments, strict=True)
        return [value for value, argument in pairs if "*" in argument and "const" not in argument]

    def _write(self, file: int, arguments: Sequence[np.ndarray | int]) -> tuple[bytes, list[int]]:
        """Lay the arrays out in ``file``, each at the end of its pages; returns header and places.

        The header tells the program of each argument: value, or offset, bytes of pages, and where
        in them the array begins.
        """
        words, places, end = [len(arguments)], [], 0
        for value in arguments:
            if not isinstance(value, np.ndarray):
                words += [0, 0, int(value)]
                places.append(0)
                continue
            pages = max(1, -(-value.nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
            inside = pages - value.nbytes
            os.pwrite(file, np.ascontiguousarray(value).tobytes(), end + inside)
            words += [end, pages, inside]
            places.append(end + inside)
            end += pages
        os.ftruncate(file, end)
        return np.array(words, np.int64).tobytes(), places

    @staticmethod
    def _read(file: int, place: int, like: np.ndarray) -> np.ndarray:
        data = os.pread(file, like.nbytes, place)
        return np.frombuffer(data, like.dtype).reshape(like.shape)

    def _process(self, file: int, header: bytes) -> float:
        """Run the program once; seconds from its start signal to its end."""
        program = self._folder / "program"
        with subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            stderr=file,
            env={},
        ) as process:  # standard error is the file with the arrays: the program maps it
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(header)
                if process.stdout.read(1) != b"r":
                    raise ProgramError("did not start")
                start = time.perf_counter()
                process.stdin.write(b"g")
                ended = select.select([process.stdout], [], [], CALL_S)[0]
                seconds = time.perf_counter() - start
                if not ended or process.stdout.read(1):
                    raise ProgramError(f"was not done within {CALL_S:.0f} s")
                code = process.wait(CALL_S)
            except BrokenPipeError:
                raise ProgramError("ended before it was called") from None
            finally:
                process.kill()
        if code:
            raise ProgramError(_why(code))
        return seconds


def _typed(argument: str, value: np.ndarray | int) -> np.ndarray | int:
    """Cast an array to the element type of its declaration."""
    if "*" not in argument:
        return int(value)
    name = argument.removeprefix("const ").split()[0]
    if name not in ELEMENTS or not isinstance(value, np.ndarray):
        raise ValueError(
            f"got a {type(value).__name__} for {argument!r}; allowed: arrays for "
            f"pointers to {sorted(ELEMENTS)}"
        )
    return np.ascontiguousarray(value, ELEMENTS[name])


def _why(code: int) -> str:
    if code in (-signal.SIGKILL, -signal.SIGSYS):
        return "was stopped: it asked the system for something, and a kernel may only compute"
    if code in (-signal.SIGSEGV, -signal.SIGBUS):
        return "was stopped: it read or wrote outside of its arrays"
    if code == -signal.SIGILL:
        return "was stopped: it used an instruction that this machine does not have, or a trap"
    if code < 0:
        return f"was stopped by {signal.Signals(-code).name}"
    return f"ended with {code}"


def interleaved(
    programs: Mapping[str, Mapping[str, str]],
    rounds: Sequence[Mapping[str, Sequence[Any]]],
) -> dict[str, list[dict[str, Any]]]:
    """Run programs in turns, each round on arguments of its own; for ``student.measure``.

    Args:
        programs: name to ``source`` and ``declaration``.
        rounds: of each, name to arguments: tensors and integers.

    Returns:
        of each program, a list with one entry a round: ``outputs`` (tensors) and ``seconds``.

    Raises:
        ProgramError: one of them failed; says which.
    """
    built: dict[str, Program] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    for name, program in programs.items():
        with _named(name):
            built[name] = Program(program["source"], program["declaration"])
    for arguments in rounds:
        for name, values in arguments.items():
            ready = [v.numpy() if isinstance(v, torch.Tensor) else v for v in values]
            with _named(name):
                outputs, seconds = built[name].run(ready)
            tensors = [torch.from_numpy(np.array(output)) for output in outputs]
            found[name].append({"outputs": tensors, "seconds": seconds})
    return found


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ProgramError as error:
        raise ProgramError(f"{name} {error}") from None
