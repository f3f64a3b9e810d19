"""Read the metadata of cells and notebooks: nbgrader's, and what intake tells the judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTAKE = "codesign_intake"  # metadata of a notebook in which intake speaks to the judge
NOT_ACCEPTED = "the notebook was not accepted"  # what its reason begins with
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


def told(notebook: Any) -> Mapping[str, Any]:
    """What intake said: ``notes``, whether it ``refused``, cells ``waiting`` for a person."""
    return notebook.metadata.get(INTAKE, {"notes": [], "refused": False, "waiting": []})
