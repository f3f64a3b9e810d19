"""Compile C source for the host from a notebook, and call it with tensors.

``ziglang`` (clang and lld as a wheel) compiles a source text with the instructions of the CPU that
it runs on; the library is kept in the cache, by a hash of everything that went into it. Lectures 5,
6 and 13 take kernels apart with it. Nothing isolates such code: it runs in the notebook's process,
and a wrong pointer ends that. Not here: other targets (``hardware.cortex_m``) and linking other
libraries; of the C library, what the process has loaded anyway can be called.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codesign.datasets import cache_dir
from codesign.extras import needed

FLAGS = ("-O3", "-std=c17", "-fno-sanitize=all")
NATIVE = "native"  # every instruction of the processor that compiles
AVX2 = "x86_64_v3" if platform.machine() in ("x86_64", "AMD64") else NATIVE  # of any since 2013
COMPILE_S = 60.0


class CompileError(ValueError):
    """The compiler refused; the message is its own, with the line."""


class Library:
    """A compiled source: its functions are attributes.

    Arguments of a call are contiguous tensors or arrays in memory (passed as a pointer to their
    first element), ``int`` (C ``int``) and ``float`` (C ``float``). Types are C's word: the library
    does not know them. What a function returns is read as ``int``.
    """

    def __init__(self, path: Path) -> None:
        self._loaded = ctypes.CDLL(str(path))

    def __getattr__(self, name: str) -> Callable[..., int]:
        try:
            function = self._loaded[name]
        except AttributeError:
            raise AttributeError(
                f"got {name!r}; the source defines no function of that name (or a static one)"
            ) from None

        def call(*args: Any) -> int:
            return int(function(*(_argument(name, i, value) for i, value in enumerate(args))))

        setattr(self, name, call)
        return call


def build(source: str, cpu: str = NATIVE) -> Library:
    """Compile C source text for this machine, or take it from the cache, and load it.

    Args:
        cpu: whose instructions may be used; ``AVX2`` gives the same code on any x86-64 machine,
            so that figures from several of them can be compared.

    Raises:
        CompileError: not C, with the compiler's message and line.
        ImportError: ``ziglang`` is not installed; says which extra brings it.
    """
    path = _folder() / f"{_key(source, cpu)}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            linked = Path(scratch) / "kernel.so"
            compile_c(source, Path(scratch) / "kernel.o", cpu)
            link([Path(scratch) / "kernel.o"], linked, "-shared")
            linked.replace(path)
    return Library(path)


def shipped(name: str) -> str:
    """C source text of the course: ``codesign/kernels/<name>.c``.

    Raises:
        ValueError: there is none of this name.
    """
    folder = Path(__file__).with_name("kernels")
    known = sorted(path.stem for path in folder.glob("*.c"))
    if name not in known:
        raise ValueError(f"got kernel {name!r}; allowed: {known}")
    return (folder / f"{name}.c").read_text(encoding="utf-8")


def compile_c(source: str, target: Path, cpu: str, *flags: str) -> None:
    """Compile C source text to the object file ``target``. Raises like :func:`build`."""
    place = target.with_suffix(".c")
    place.write_text(source, encoding="utf-8", errors="replace")
    flags = (*FLAGS, f"-mcpu={cpu}", *flags)
    zig("-c", *flags, "-fPIC", *_system(), place.name, "-o", target.name, folder=target.parent)


def link(objects: Sequence[Path], target: Path, *flags: str) -> None:
    """Link object files without any library. Raises like :func:`build`."""
    names = [os.path.relpath(path, target.parent) for path in objects]
    zig(*flags, *_system(), "-nostdlib", *names, "-o", target.name, folder=target.parent)


def zig(*arguments: str, folder: Path) -> None:
    """Run ``zig cc`` in ``folder``. Raises like :func:`build`."""
    with needed("native"):
        import ziglang  # noqa: F401 (it is run as a program)
    caches = {f"ZIG_{kind}_CACHE_DIR": str(_folder() / "zig") for kind in ("GLOBAL", "LOCAL")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *arguments],
            cwd=folder,
            env={**os.environ, **caches, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_S,
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"the compiler was not done within {COMPILE_S:.0f} s") from None
    if done.returncode:
        silent = f"the compiler ended without a word ({done.returncode}): out of memory or time?"
        raise CompileError(done.stderr.strip()[:4_000] or silent)


def _system() -> tuple[str, ...]:
    """On Linux, headers that come with the compiler: what is installed makes no difference."""
    if sys.platform != "linux":
        return ()
    return ("-target", f"{platform.machine()}-linux-musl")


@cache
def _folder() -> Path:
    """Where libraries are kept: the course's cache, or a folder of this process's own."""
    folder = cache_dir() / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="codesign-native-"))


def _key(source: str, cpu: str) -> str:
    with needed("native"):
        compiler = importlib.metadata.version("ziglang")
    parts = (source, cpu, *FLAGS, compiler, _processor())
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:32]


@cache
def _processor() -> str:
    """Changes with what the processor can do: a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _argument(function: str, index: int, value: Any) -> Any:
    where = f"argument {index} of {function}"
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu" or not value.is_contiguous() or value.requires_grad:
            raise ValueError(
                f"{where}: got a tensor on {value.device}, strides {value.stride()}, "
                f"requires_grad={value.requires_grad}; allowed: a contiguous CPU tensor without"
            )
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError(f"{where}: got an array of strides {value.strides}, not contiguous")
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -(2**31) <= value < 2**31:
            raise ValueError(f"{where}: got {value}, which no C int holds")
        return ctypes.c_int(int(value))
    raise ValueError(f"{where}: got a {type(value).__name__}; allowed: tensor, array, int, float")
