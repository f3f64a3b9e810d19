"""Packages that only some notebooks need, by their extra: compiler, emulator, ONNX, LLM files.

``pip install codesign-course`` leaves them out, so that a notebook without them starts sooner and
replaces nothing that Colab has. ``authoring.address`` writes those that a notebook needs into its
setup cell. Left out: what grades and builds the course (pyproject.toml has those extras).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "native": ("ziglang",),  # the C compiler
    "board": ("ziglang", "unicorn", "capstone"),  # a microcontroller: compiled for and emulated
    "onnx": ("onnx", "onnxruntime"),
    "llm": ("tokenizers", "transformers", "gguf", "accelerate", "huggingface_hub"),
}


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Import packages of ``extra`` in this block; one that is missing is told with its remedy.

    Raises:
        ImportError: a package is not installed; says which extra brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS[extra]:
            raise
        raise ImportError(
            f"{package} is not installed: `pip install 'codesign-course[{extra}]'` brings it",
            name=package,
        ) from None
