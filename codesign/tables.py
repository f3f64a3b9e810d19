"""Load and save precomputed results: tables in JSON that say how every number was made.

What takes too long for a lecture is computed once and lies in ``data/tables/NN/<name>.json``, NN
being the lecture, with command, seeds, time and machine. A recipe, ``module:function``, makes any
one row again; a test does so for every table and compares within the columns' spread. Used by
lectures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

Value = str | int | float | bool | None
Row = dict[str, Any]  # values by column
CHECKOUT = Path(__file__).resolve().parent.parent / "data" / "tables"
INSTALLED = Path(str(files("codesign"))) / "_data" / "tables"


@dataclass(frozen=True)
class Table:
    """Precomputed rows and where they come from.

    Args:
        command: makes the whole table.
        recipe: ``module:function``; ``function(key, short=True)`` makes the row with this key.
        seeds: of all random numbers behind it.
        wall_s: seconds that the command took.
        machine: what it ran on, as ``measure.machine`` says it.
        columns: name and unit of each column, "" where there is none.
        key: the columns that name a row; no two rows have the same values there.
        spread: of a column of numbers, how far a row that is made again may be off; 0 if it is not
            named. In the column's unit.
        rows: one value for each column.

    Raises:
        ValueError: rows of another width, a key that is no column or names two rows, a value that
            is no number, text or null, NaN or infinity, or an empty field.
    """

    command: str
    recipe: str
    seeds: Sequence[int]
    wall_s: float
    machine: str
    columns: Mapping[str, str]
    key: Sequence[str]
    spread: Mapping[str, float]
    rows: Sequence[Sequence[Value]]

    def __post_init__(self) -> None:
        for name in ("command", "machine", "columns", "key", "rows"):
            if not getattr(self, name):
                raise ValueError(f"got {name} {getattr(self, name)!r}; allowed: not empty")
        module, colon, function = self.recipe.partition(":")
        if not (module and colon and function.isidentifier()):
            raise ValueError(f"got recipe {self.recipe!r}; allowed: 'module:function'")
        unknown = (set(self.key) | set(self.spread)) - set(self.columns)
        if unknown:
            raise ValueError(f"got columns {sorted(unknown)}; allowed: {list(self.columns)}")
        if any(not 0 <= number < math.inf for number in (self.wall_s, *self.spread.values())):
            raise ValueError(f"got {self.wall_s} s, spread {self.spread}; allowed: 0 or more")
        for row in self.rows:
            _check_row(row, len(self.columns))
        names = [tuple(row[name] for name in self.key) for row in self]
        if len(set(names)) < len(names):
            raise ValueError(f"got rows {names}; allowed: different values of {list(self.key)}")

    def __iter__(self) -> Iterator[Row]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """All values of one column.

        Raises:
            ValueError: there is no such column.
        """
        if column not in self.columns:
            raise ValueError(f"got column {column!r}; allowed: {list(self.columns)}")
        return [row[column] for row in self]

    def differences(self, again: Mapping[str, Any]) -> dict[str, tuple[Value, Value]]:
        """Columns in which a row that was made again differs by more than the spread.

        Args:
            again: a whole row; its key says which.

        Returns:
            (stored, made again) by column, empty if all agree.

        Raises:
            ValueError: other columns, or a key that no row has.
        """
        if set(again) != set(self.columns):
            raise ValueError(f"got columns {sorted(again)}; allowed: {sorted(self.columns)}")
        found = [row for row in self if all(row[name] == again[name] for name in self.key)]
        if not found:
            raise ValueError(f"got key {[again[name] for name in self.key]}; allowed: a row's")
        pairs = {name: (found[0][name], again[name]) for name in self.columns}
        spread = self.spread
        return {n: pair for n, pair in pairs.items() if not _close(*pair, spread.get(n, 0))}


def _check_row(row: Sequence[Value], width: int) -> None:
    if not isinstance(row, (list, tuple)) or len(row) != width:
        raise ValueError(f"got row {row!r}; allowed: a list of {width} values, one a column")
    for value in row:
        if not isinstance(value, get_args(Value)):
            kind = type(value).__name__
            raise ValueError(f"got {kind} in a row; allowed: numbers, text, true, false, null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"got {value} in a row; allowed: finite numbers")


def _close(stored: Value, again: Value, spread: float) -> bool:
    if isinstance(stored, (int, float)) and isinstance(again, (int, float)):
        return abs(stored - again) <= spread
    return stored == again


def load(lecture: int, name: str) -> Table:
    """The table ``name`` of a lecture: from ``data/tables`` in a checkout, else from the wheel.

    Raises:
        ValueError: there is none; says which there are. Or its file is damaged.
    """
    for folder in (CHECKOUT, INSTALLED):
        path = folder / f"{lecture:02}" / f"{name}.json"
        if path.exists():
            return read(path)
    known = sorted(f"{p.parent.name}/{p.stem}" for p in CHECKOUT.glob("*/*.json"))
    known = known or sorted(f"{p.parent.name}/{p.stem}" for p in INSTALLED.glob("*/*.json"))
    raise ValueError(f"got table '{lecture:02}/{name}'; allowed: {', '.join(known) or 'none yet'}")


def read(path: Path) -> Table:
    """The table in one file.

    Raises:
        ValueError: it is not JSON, or not a table; says what is wrong.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a wrong encoding, huge numbers, deep nesting
        raise ValueError(f"{path} is not JSON: {error}") from None
    wanted = {field.name for field in fields(Table)}
    got = set(record) if isinstance(record, dict) else {type(record).__name__}
    if got != wanted:
        raise ValueError(f"{path}: got {sorted(got)}; allowed: exactly {sorted(wanted)}")
    try:
        return Table(**record)
    except (TypeError, AttributeError, KeyError) as error:  # a field of another type
        raise ValueError(f"{path} is no table: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save(lecture: int, name: str, table: Table, folder: Path = CHECKOUT) -> Path:
    """Write a table for :func:`load`, a row a line, so that changes show; returns its path."""
    path = folder / f"{lecture:02}" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = asdict(table)
    rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in record.pop("rows"))
    head = json.dumps(record, indent=2, allow_nan=False).removesuffix("\n}")
    path.write_text(f'{head},\n  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")
    return path
