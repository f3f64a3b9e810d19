"""Keep a lab's work in Google Drive, offer a file for download, read the open notebook: in Colab.

A Colab runtime is thrown away when it has been idle or has run too long, and so is what lies beside
the notebook; Drive outlasts it. Elsewhere none of this is needed, and nothing happens. Left out:
that Drive is slower than a disk, and that it synchronizes a little later than a file is written.
Used by the labs.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

DRIVE = Path("/content/drive")  # where Colab itself mounts it
ANSWER_S = 30.0  # for a front end that sends a whole notebook


def keep_in_drive(lab_name: str) -> Path | None:
    """Mount Google Drive and return the folder MyDrive/codesign/``lab_name``, made if need be.

    Colab asks its user first. Elsewhere: says so in a sentence, and returns None.
    """
    drive = _module("drive")
    if drive is None:
        print("not in Colab: outputs/ stays beside the notebook")
        return None
    drive.mount(str(DRIVE))
    folder = DRIVE / "MyDrive" / "codesign" / lab_name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def download(path: Path) -> None:
    """Offer a file as a download of the browser; elsewhere than in Colab do nothing."""
    if (files := _module("files")) is not None:
        files.download(str(path))


def open_notebook() -> dict[str, Any] | None:
    """Return the notebook as the front end holds it now, with what was never saved.

    None elsewhere than in Colab, and where the front end does not answer.
    """
    if (message := _module("_message")) is None:
        return None
    try:
        answer = message.blocking_request("get_ipynb", request="", timeout_sec=ANSWER_S)
        notebook = answer["ipynb"]
    except Exception:  # the module is not a public one: whatever it raises, there is no notebook
        return None
    return notebook if isinstance(notebook, dict) and notebook.get("cells") else None


def _module(name: str) -> Any:
    """``google.colab.<name>``, or None elsewhere than in Colab."""
    try:
        return importlib.import_module(f"google.colab.{name}")
    except ImportError:
        return None
