"""What editors and converters save of a notebook, as changes of one in memory."""

from __future__ import annotations

from collections.abc import Callable

import jupytext
from nbformat import NotebookNode


def bare(notebook: NotebookNode) -> None:
    """Without any metadata of cells."""
    for cell in notebook.cells:
        cell.metadata = {}


def colab(notebook: NotebookNode) -> None:
    """Save as Colab does: nbformat 4.0, its own ids in the metadata, its own kernel."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {"id": cell.pop("id"), "outputId": f"{number:032x}", "colab": {"height": 9}}
    notebook.nbformat_minor = 0
    notebook.metadata = {
        "colab": {"provenance": [], "gpuType": "T4"},
        "accelerator": "GPU",
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }


def vscode(notebook: NotebookNode) -> None:
    """Save as VS Code does: all metadata there, its own beside it, another kernel's name."""
    for cell in notebook.cells:
        cell.metadata.vscode = {"languageId": "python"}
    notebook.metadata.kernelspec = {"name": "python3", "display_name": ".venv (3.12.4)"}


def old(notebook: NotebookNode) -> None:
    """nbformat 4.2: no ids of cells."""
    for cell in notebook.cells:
        del cell["id"]
    notebook.nbformat_minor = 2


def other_ids(notebook: NotebookNode) -> None:
    """Without metadata, and with new ids."""
    bare(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{number:08x}"


def through(fmt: str) -> Callable[[NotebookNode], NotebookNode]:
    """To one of jupytext's text formats and back."""
    return lambda notebook: jupytext.reads(jupytext.writes(notebook, fmt=fmt), fmt=fmt)


def windows(notebook: NotebookNode) -> None:
    """Line ends of Windows."""
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
