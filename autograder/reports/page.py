"""Build self-contained HTML pages, escaped, without scripts; replace files atomically.

The page's own content security policy forbids both, so that what slipped through would still do
nothing. Files are written as a whole or not at all.
"""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Sequence
from html import escape as html_escape
from pathlib import Path

from autograder.contract.said import visible

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a1a1a;margin:2rem auto;max-width:70rem;
padding:0 1rem;overflow-wrap:break-word}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}
img{width:100%}p{max-width:48rem;margin:.4rem 0}
table{border-collapse:collapse;font-size:.87rem;margin:.5rem 0 1rem}
th,td{padding:3px 12px 3px 0;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #888}
td:last-child{overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
.columns{columns:24rem}section{break-inside:avoid;padding-top:.8rem}section h2{margin-top:0}
details{margin:.2rem 0}summary{cursor:pointer}a{color:#0072B2}
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def escape(text: str) -> str:
    """HTML of text; a control character that slipped through is written out."""
    return html_escape(visible(text))


def page(title: str, *parts: str) -> str:
    """The page; ``parts`` are HTML, the title is text."""
    body = "\n".join(part for part in parts if part)
    return PAGE.format(policy=POLICY, style=STYLE, title=escape(plain(title)), body=body)


def plain(text: str, limit: int = 200) -> str:
    """Text of a student's, safe to show: on one line, cut, without control characters.

    Among those are a terminal's escape sequences and the marks that turn the reading direction.
    """
    line = " ".join(text[: 10 * limit].split())
    clean = "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in line)
    return clean if len(clean) <= limit and len(text) <= 10 * limit else f"{clean[:limit]}…"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: str = "") -> str:
    """An HTML table of texts; ``numbers`` has an "n" for each column to be set flush right."""
    kind = [' class="n"' if mark == "n" else "" for mark in numbers.ljust(len(headings))]
    head = "".join(f"<th{k}>{escape(h)}</th>" for k, h in zip(kind, headings, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{k}>{escape(c)}</td>" for k, c in zip(kind, row, strict=True))
        for row in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"


def paragraph(text: str) -> str:
    """Text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """Text as a heading."""
    return f"<h2>{escape(text)}</h2>"


def columns(sections: Sequence[str]) -> str:
    """Short sections of HTML side by side, where the window is wide enough."""
    inside = "".join(f"<section>{section}</section>" for section in sections)
    return f'<div class="columns">{inside}</div>'


def foldout(title: str, content: str, *, opened: bool) -> str:
    """HTML that a click on its title shows or hides."""
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>{content}</details>"


def picture(svg: bytes, alt: str) -> str:
    """An SVG picture inside the page; as an image it can neither run nor load anything."""
    data = base64.b64encode(svg).decode()
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def files(out: Path | None, folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    """Where a report goes: a file names its kind by its suffix, a folder takes every kind.

    Raises:
        ValueError: a file with a suffix that is none of ``suffixes``.
    """
    if out is not None and not out.is_dir() and out.suffix:
        if out.suffix not in suffixes:
            allowed = ", ".join(suffixes)
            raise ValueError(f"got {out.name!r}; allowed: a folder, or a file in {allowed}")
        return [out]
    return [(out or folder) / f"{stem}{suffix}" for suffix in suffixes]


def write(path: Path, text: str) -> Path:
    """Replace ``path`` as a whole: a reader finds the old text or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
