"""The artifacts of a lab's reference, to be altered by a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import lab_checks
import pytest


@pytest.fixture
def handed_in(request, tmp_path) -> Path:
    """A copy of what the reference of the module's ``LAB`` handed in."""
    return Path(
        shutil.copytree(lab_checks.reference_outputs(request.module.LAB), tmp_path / "glyphs")
    )
