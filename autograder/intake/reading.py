"""Read a notebook that was handed in as a list of cells, whatever wrote it; outputs count nothing.

UTF-8, UTF-8 with a byte order mark and UTF-16; any line ends; nbformat 4 with or without cell ids
(Colab keeps its own in ``metadata.id``). What is no such notebook is refused with a sentence that
says what it is instead.
"""

from __future__ import annotations

import codecs
import json
from typing import Any

from autograder.contract.files import ExchangeError
from autograder.intake.pieces import Cell

MAX_CELLS = 5_000
MAX_BYTES = 20 * 2**20  # of all sources together
MAX_FILE_BYTES = 192 * 2**20  # of the file, plots included
MAX_VALUES = 4_000_000  # in its JSON; bounds the memory that reading it takes
ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def cells(data: bytes) -> list[Cell]:
    """The cells of a notebook; what their outputs weigh is nobody's business.

    Raises:
        ExchangeError: no notebook; says what it looks like and what is allowed.
    """
    if (values := sum(data.count(mark) for mark in (b",", b"[", b"{"))) > MAX_VALUES:
        raise ExchangeError(f"{values:,} values; allowed: {MAX_VALUES:,} (clear its outputs)")
    content = _parsed(text(data))
    found = content.get("cells") if isinstance(content, dict) else None
    if isinstance(content, dict) and "worksheets" in content and "cells" not in content:
        raise ExchangeError("a notebook in nbformat 3; allowed: nbformat 4 (open and save it anew)")
    if not isinstance(found, list):
        raise ExchangeError("JSON without cells; allowed: a notebook (nbformat 4)")
    if len(found) > MAX_CELLS:
        raise ExchangeError(f"{len(found):,} cells; allowed: {MAX_CELLS:,}")
    read = [_cell(entry) for entry in found if isinstance(entry, dict)]
    if (size := sum(len(cell.source) for cell in read)) > MAX_BYTES:
        raise ExchangeError(f"{size:,} characters of code and text; allowed: {MAX_BYTES:,}")
    return read


def text(data: bytes) -> str:
    """A notebook's file as text.

    Raises:
        ExchangeError: an encoding without a mark, other than UTF-8.
    """
    encoding = next((name for mark, name in ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExchangeError(f"not UTF-8: {error.reason} at byte {error.start:,}") from None


def _parsed(said: str) -> Any:
    begin = said.lstrip()[:200].lower()
    if not begin:
        raise ExchangeError("an empty file; allowed: a notebook (.ipynb)")
    try:
        return json.loads(said)
    except (ValueError, RecursionError) as error:
        if begin.startswith(("<!doctype", "<html", "<?xml", "<head")):
            raise ExchangeError("a web page; download the notebook itself (.ipynb)") from None
        raise ExchangeError(f"no notebook, its JSON ends in an error: {error}") from None


def _cell(entry: dict[str, Any]) -> Cell:
    metadata = entry.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader = metadata.get("nbgrader")
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    ids = [one for one in (entry.get("id"), metadata.get("id")) if isinstance(one, str)]
    source = entry.get("source", "")
    if isinstance(source, list):
        parts = [part for part in source if isinstance(part, str)]
        kept = any(part.endswith(("\n", "\r")) for part in parts[:-1])
        source = ("" if kept else "\n").join(parts)  # some write lines without their ends
    source = source if isinstance(source, str) else ""
    source = source.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    kind = entry.get("cell_type")
    return Cell(
        kind if isinstance(kind, str) else "raw",
        source,
        name if isinstance(name, str) else None,
        tuple(ids),
    )
