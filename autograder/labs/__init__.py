"""The labs that can be judged: one folder each, one registered object each.

A lab's folder has ``targets.toml``, ``signatures``, ``checks``, ``mutants``, ``valid`` and what
only its judge needs. Folders here are found by themselves, others through ``CODESIGN_LABS`` or
:func:`at`.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from autograder.contract import targets
from autograder.contract.definition import LabDefinition, register
from autograder.contract.environment import LABS

HERE = Path(__file__).parent


def at(folder: Path) -> LabDefinition:
    """The lab in ``folder``, which bears its name.

    Raises:
        ValueError: no ``targets.toml`` there, or one that is not valid.
    """
    folder = folder.resolve()

    def listed(part: str, name: str) -> Any:
        module = importlib.import_module(f"{_package(folder)}.{part}")
        return getattr(module, name)

    return LabDefinition(
        folder.name,
        targets.read(folder / "targets.toml"),
        load_checks=lambda: listed("checks", "CHECKS"),
        load_mutants=lambda: listed("mutants", "MUTANTS"),
        load_valid=lambda: listed("valid", "VALID"),
        load_signatures=lambda: (
            listed("signatures", "SIGNATURES") if (folder / "signatures.py").is_file() else {}
        ),
        folder=folder,
    )


def folders() -> list[Path]:
    """Every lab's folder: those here, and those that ``CODESIGN_LABS`` names."""
    named = [Path(path) for path in os.environ.get(LABS, "").split(os.pathsep) if path]
    return [*sorted(path.parent for path in HERE.glob("*/targets.toml")), *named]


def _package(folder: Path) -> str:
    """The name under which a lab's folder is imported."""
    if folder.parent == HERE:
        return f"{__name__}.{folder.name}"
    name = f"codesign_lab_{folder.name}"
    if name not in sys.modules:
        spec = spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return name


for _folder in folders():
    try:
        register(at(_folder))
    except ValueError as error:  # the other labs are there all the same
        print(f"a lab was left out: {error}", file=sys.stderr)
