"""Read nbgrader's metadata of a cell: its id, and whether it is a solution or a check."""

from __future__ import annotations

from typing import Any

OWN = "codesign_own"  # metadata of a cell that the student added, set by intake alone


def grade_id(cell: Any) -> str | None:
    """Return nbgrader's id of a cell, or None."""
    entry = cell.metadata.get("nbgrader")
    return entry.get("grade_id") if isinstance(entry, dict) else None


def is_solution(cell: Any) -> bool:
    """Tell whether students write into this cell."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_judged(cell: Any) -> bool:
    """Tell whether this is a check: graded by the judge, not by a person."""
    entry = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(entry.get("grade")) and not entry.get("solution")


def is_own(cell: Any) -> bool:
    """Tell whether intake took this cell over as one of the student's own."""
    return cell.cell_type == "code" and bool(cell.metadata.get(OWN))
