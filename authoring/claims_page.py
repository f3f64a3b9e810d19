"""One page of all claims: what was published, what the built lectures measured, why they differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from codesign.claims import MIME, Claims


def rows(notebook: Path) -> Iterator[dict[str, Any]]:
    """The rows of a built lecture's claims table; none where it has no such table."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            yield from output.get("data", {}).get(MIME, {}).get("rows", [])


def text(root: Path) -> str:
    """A Markdown page with one table a lecture."""
    parts = ["# Claims"]
    for notebook in sorted((root / "lectures").glob("**/*.ipynb")):
        if found := list(rows(notebook)):
            parts.append(f"## {notebook.stem}\n\n{_table(found)}")
    return "\n\n".join(parts)


def _table(found: list[dict[str, Any]]) -> str:
    lines = [_line(Claims.HEADER), _line(["---"] * len(Claims.HEADER))]
    for row in found:
        seen = f"looked up {row['looked_up']}" if row.get("looked_up") else "not looked up"
        published = " ".join([row.get("figure") or row["paper"], row.get("unit", "")]).strip()
        where = "; ".join(filter(None, [row["source"], row.get("version"), seen]))
        measured = row["measured"] or "cited only"
        cells = [row["claim"], f"{published} ({where})", measured, row["on"] or "–", row["why"]]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
