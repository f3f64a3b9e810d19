"""The targets of every lab, read from ``targets.toml``: the one place where they are written."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TARGETS = Path(__file__).with_name("targets.toml")


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
    """Points of one check and its figures for each data set (``figures[dataset][name]``)."""

    points: float
    figures: Mapping[str, Mapping[str, Figure]]


@cache
def read(path: Path = TARGETS) -> dict[str, dict[str, CheckTargets]]:
    """All labs: ``{lab: {check: CheckTargets}}``.

    Raises:
        ValueError: a figure without target, floor or points, or with more points than its check.
    """
    labs = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        lab: {name: _check(f"{lab}.{name}", table) for name, table in content["checks"].items()}
        for lab, content in labs.items()
    }


def lab(name: str) -> dict[str, CheckTargets]:
    """The checks of one lab.

    Raises:
        ValueError: unknown lab.
    """
    labs = read()
    if name not in labs:
        raise ValueError(f"got lab {name!r}; allowed: {sorted(labs)}")
    return labs[name]


def _check(where: str, table: Mapping) -> CheckTargets:
    figures: dict[str, dict[str, Figure]] = {"cifar10": {}, "glyphs": {}}
    for name, entry in table.get("figures", {}).items():
        common = {key: value for key, value in entry.items() if not isinstance(value, dict)}
        for dataset, chosen in figures.items():
            chosen[name] = _figure(f"{where}.{name}", {**common, **entry.get(dataset, {})})
    for chosen in figures.values():
        if sum(figure.points for figure in chosen.values()) > table["points"] + 1e-9:
            raise ValueError(f"{where}: its figures have more points than {table['points']}")
    return CheckTargets(float(table["points"]), figures)


def _figure(where: str, entry: Mapping) -> Figure:
    known = {k: v for k, v in entry.items() if k in Figure.__dataclass_fields__}
    try:
        return Figure(**known)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
