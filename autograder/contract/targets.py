"""Read a lab's ``targets.toml``: the points of each check and the targets of its figures.

A figure earns its full points at ``target`` or better, none at ``floor`` or worse. Points that a
check's figures leave go to its other rows, by their shares.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.places import DATASETS


@dataclass(frozen=True)
class Figure:
    """One measured figure: full points at ``target`` or better, none at ``floor`` or worse."""

    target: float
    floor: float
    points: float
    reference: float | None = None
    spread: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class CheckTargets:
    """Points of one check and its figures for each dataset (``figures[dataset][name]``)."""

    points: float
    figures: Mapping[str, Mapping[str, Figure]]


def read(path: Path) -> dict[str, CheckTargets]:
    """Read the checks of one lab, in their order.

    Raises:
        ValueError: no such file, not TOML, a figure without target, floor or points, or with more
            points than its check.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return {name: _check(f"{path.parent.name}.{name}", table) for name, table in content.items()}


def _check(where: str, table: Any) -> CheckTargets:
    if not isinstance(table, dict) or not isinstance(table.get("points"), int | float):
        raise ValueError(f"{where}: got no points; every check needs them")
    figures: dict[str, dict[str, Figure]] = {name: {} for name in DATASETS}
    for name, entry in table.get("figures", {}).items():
        common = {key: value for key, value in entry.items() if not isinstance(value, dict)}
        for dataset, chosen in figures.items():
            chosen[name] = _figure(f"{where}.{name}", {**common, **entry.get(dataset, {})})
    for chosen in figures.values():
        if sum(figure.points for figure in chosen.values()) > table["points"] + 1e-9:
            raise ValueError(f"{where}: its figures have more points than {table['points']}")
    return CheckTargets(float(table["points"]), figures)


def _figure(where: str, entry: Mapping[str, Any]) -> Figure:
    known = {k: v for k, v in entry.items() if k in Figure.__dataclass_fields__}
    try:
        return Figure(**known)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
