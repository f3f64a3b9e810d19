"""Words of a student's that people read: control characters shown as what they are, length cut.

A terminal obeys escape sequences, a backspace hides what stands before it, and a mark of writing
direction turns a line around: all of them are shown as Python writes them. Every row passes here.
"""

from __future__ import annotations

import re
import unicodedata

MAX_MESSAGE = 2_000  # characters
KEPT = "\n\t"
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # control, format, surrogates, private, separators
JOINERS = "\u200c\u200d"  # of Persian, and of emoji
COLOURS = re.compile(r"(\x1b\[[0-9;]*m)")  # of a traceback; pages turn them into their own


def visible(text: str, *, colours: bool = False) -> str:
    """``text`` with every control character but line ends and tabs written out (``\\x1b``).

    Args:
        colours: leave a terminal's colours as they are.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", " ").replace("\t", " ").isprintable():
        return text
    if colours:
        return "".join(
            part if at % 2 else visible(part) for at, part in enumerate(COLOURS.split(text))
        )
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in KEPT or character in JOINERS:
        return character
    if unicodedata.category(character) not in HIDDEN:
        return character
    return character.encode("unicode_escape").decode()


def plain(text: str, most: int = MAX_MESSAGE) -> str:
    """``text`` made :func:`visible`, in no more than ``most`` characters."""
    clean = visible(text[: most + 1])
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def one_line(text: str) -> str:
    """``text`` on one line, for a table in which line ends would look like further rows."""
    return text.replace("\n", " ").replace("\t", " ")


def short(value: object, most: int = 120) -> str:
    """``repr`` of ``value``, cut in the middle of nowhere rather than printed whole."""
    try:
        text = repr(value)
    except Exception:  # a student's class may not even have that
        text = f"a {type(value).__name__}"
    return plain(text, most)
