"""The claims that lectures test: one file says what was published, a notebook what it measured.

``lectures/claims.toml`` holds each published figure with its source, down to a table or section,
the version of the paper and the day on which somebody looked it up, or that nobody did. A lecture
ends with :func:`claims`, which puts its own measurement beside each and says why they differ.
"""

from __future__ import annotations

import datetime
import html
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent / "lectures" / "claims.toml"
INSTALLED = Path(str(files("codesign"))) / "_data" / "claims.toml"
MIME = "application/vnd.codesign.claims+json"
FIELDS = ("claim", "figure", "unit", "source", "version", "looked_up")


@dataclass(frozen=True)
class Published:
    """One row of ``claims.toml``.

    Args:
        claim: what is claimed, in a few words.
        figure: the published number or numbers.
        unit: what they count, and in what.
        source: authors, venue, year, and the table, figure, section, page or abstract.
        version: of the paper, for instance ``"arXiv:1506.02626v3"``; or of a documentation.
        looked_up: the day; None: cited from memory.

    Raises:
        ValueError: an empty field, or another kind of day.
    """

    claim: str
    figure: str
    unit: str
    source: str
    version: str
    looked_up: datetime.date | None

    def __post_init__(self) -> None:
        empty = [name for name in FIELDS[:-1] if not str(getattr(self, name)).strip()]
        if empty:
            raise ValueError(f"got a claim with empty {empty}; allowed: every one of {FIELDS}")
        if self.looked_up is not None and type(self.looked_up) is not datetime.date:
            raise ValueError(f"got looked_up {self.looked_up!r}; allowed: a day, or false")

    @property
    def cited(self) -> str:
        """Figure, unit, source, version and day, as one text."""
        seen = f"looked up {self.looked_up}" if self.looked_up else "not looked up"
        return f"{self.figure} {self.unit} ({self.source}; {self.version}; {seen})"


@dataclass(frozen=True)
class Claim:
    """A published figure beside ours.

    Args:
        measured: what this notebook measured; None: cited only.
        on: model, data and machine of the measurement.
        why: why the two differ, or why nothing could be measured.

    Raises:
        ValueError: no reason, or a measurement that does not say on what.
    """

    published: Published
    why: str
    measured: str | None = None
    on: str = ""

    def __post_init__(self) -> None:
        needed = ["why"] + ["on"] * (self.measured is not None)
        if empty := [name for name in needed if not str(getattr(self, name)).strip()]:
            raise ValueError(
                f"got {self.published.claim!r} with empty {empty}; allowed: each of {needed}"
            )

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        shown = "cited only" if self.measured is None else self.measured
        return self.published.claim, self.published.cited, shown, self.on or "–", self.why

    @property
    def data(self) -> dict[str, Any]:
        """Every field, as JSON takes it."""
        published = asdict(self.published)
        published["looked_up"] = str(self.published.looked_up or "")
        return {**published, "measured": self.measured, "on": self.on, "why": self.why}


class Claims(tuple[Any, ...]):
    """Rows (`cells`, `data`) of a claims table: HTML in a notebook, text elsewhere, and data."""

    HEADER = ("claim", "published", "measured here", "on", "why they differ")

    def _repr_html_(self) -> str:
        lines = [_line(self.HEADER, "th"), *(_line(row.cells, "td") for row in self)]
        return f"<table>{''.join(lines)}</table>"

    def __repr__(self) -> str:
        cells = (cell for row in self for cell in zip(self.HEADER, row.cells, strict=True))
        fill = textwrap.TextWrapper(98, subsequent_indent="    ").fill
        return "\n".join(fill(f"{name}: {cell}") for name, cell in cells)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        data = {"rows": [row.data for row in self]}
        return {"text/html": self._repr_html_(), "text/plain": repr(self), MIME: data}


def claims(lecture: str, **rows: Mapping[str, str]) -> Claims:
    """The table that closes a lecture: the published figure, ours, on what, why they differ.

    Args:
        lecture: two digits, the section of ``claims.toml``.
        rows: for each of its claims, by name: ``dict(measured=…, on=…, why=…)``, or
            ``dict(why=…)`` where nothing could be measured.

    Raises:
        ValueError: claims that the file does not have, or claims of the file left out.
    """
    known = published().get(lecture, {})
    if set(rows) != set(known):
        raise ValueError(f"got claims {sorted(rows)} of {lecture}; allowed: {sorted(known)}")
    return Claims(Claim(known[name], **rows[name]) for name in known)


def published(path: Path | None = None) -> dict[str, dict[str, Published]]:
    """Every row of ``claims.toml``, by lecture and name.

    Args:
        path: another file.

    Raises:
        ValueError: a row with other fields than ``FIELDS``, or with an empty one.
    """
    # Beside the notebook that runs; a fork's own lectures have their own.
    found = [place for place in (Path("claims.toml"), CHECKOUT) if place.exists()]
    path = path or (found[0] if found else INSTALLED)
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        lecture: {name: _published(f"{lecture}.{name}", row) for name, row in rows.items()}
        for lecture, rows in read.items()
    }


def _published(name: str, row: Mapping[str, Any]) -> Published:
    if set(row) != set(FIELDS):
        raise ValueError(f"got {name} with {sorted(row)}; allowed: {sorted(FIELDS)}")
    return Published(**{**row, "looked_up": row["looked_up"] or None})


def _line(cells: Sequence[str], tag: str) -> str:
    style = "text-align:left;vertical-align:top"
    shown = (f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in cells)
    return f"<tr>{''.join(shown)}</tr>"
