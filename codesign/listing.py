"""Show source code of the library in a notebook: highlighted, numbered, counted as read.

What a lecture builds stands in its cells; what it only needs, C above all, stands in the library
and is shown from there, so that what the reader sees is what runs. Leaves out anything that is no
Python object or source file. Used by every lecture.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

MIME = "application/vnd.codesign.listing+json"
STYLE = "friendly"


@dataclass(frozen=True)
class Listing:
    """Source lines as they stand in ``name``, from line ``first`` on."""

    name: str
    first: int
    text: str
    language: str

    def __str__(self) -> str:
        lines = enumerate(self.text.splitlines(), self.first)
        return "\n".join([self.name, *(f"{number:4}  {line}".rstrip() for number, line in lines)])

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name

        form = HtmlFormatter(
            linenos="inline", linenostart=self.first, noclasses=True, style=STYLE, nobackground=True
        )
        body = highlight(self.text, get_lexer_by_name(self.language), form)
        lines = sum(bool(line.strip()) for line in self.text.splitlines())
        data = {"name": self.name, "text": self.text, "lines": lines}
        shown = f"<p><code>{self.name}</code></p>{body}"
        return {"text/html": shown, "text/plain": str(self), MIME: data}


def show(
    what: Callable[..., object] | type | ModuleType | str | Path,
    start: str | None = None,
    stop: str | None = None,
) -> Listing:
    """A function or class, or a C or Python file; the cell's last line shows it.

    Args:
        what: a Python object, or the path of a file below the library, for instance
            ``"kernels/fp32_gemm.c"``.
        start: begin at the first line that contains this text; default: at the top.
        stop: end before the first line after it that contains this text; default: at the end.

    Raises:
        ValueError: no source, or a text that no line contains.
    """
    if isinstance(what, str | Path):
        path = Path(__file__).parent / what
        if path.suffix not in LANGUAGES or not path.is_file():
            raise ValueError(f"got {what}; allowed: a {', '.join(LANGUAGES)} file of the library")
        name, lines, first = f"codesign/{what}", path.read_text("utf-8").splitlines(), 1
        language = LANGUAGES[path.suffix]
    else:
        try:
            lines, first = inspect.getsourcelines(what)
        except (OSError, TypeError) as error:
            raise ValueError(f"got {what!r}; allowed: what has source code ({error})") from None
        lines = [line.rstrip("\n") for line in lines]
        module = what.__name__ if isinstance(what, ModuleType) else what.__module__
        name, language = module.replace(".", "/") + ".py", "python"
        first = max(first, 1)  # a module's first line is 0
    low = _line_with(lines, start, 0, name) if start else 0
    high = _line_with(lines, stop, low + 1, name) if stop else len(lines)
    text = textwrap.dedent("\n".join(lines[low:high])).rstrip()
    return Listing(name, first + low, text, language)


LANGUAGES = {".py": "python", ".c": "c", ".h": "c"}


def _line_with(lines: list[str], text: str, start: int, name: str) -> int:
    for number in range(start, len(lines)):
        if text in lines[number]:
            return number
    raise ValueError(f"got {text!r}; allowed: what a line of {name} from {start + 1} on contains")
