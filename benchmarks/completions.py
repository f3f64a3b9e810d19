"""Judge what a language model writes below the header of a function: is it code that does a thing?

Headers come from held-out modules, some of them only of functions whose own body passes: many of
the others are one statement. A body ends at the first line that is not indented deeper than
its header, or after ``MOST`` tokens, then at its last whole line. It should parse, have two
statements or more at any depth (docstrings, other bare constants and ``pass`` are none), and use a
parameter. Leaves out whether the function is right.
"""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MOST = 256  # tokens of a body
Node = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Verdict:
    """What a completed function is; ``others``: uses a parameter other than ``self`` and ``cls``.

    Where a header has no other parameter, ``others`` is ``uses``.
    """

    parses: bool = False
    statements: int = 0
    uses: bool = False
    others: bool = False

    @property
    def good(self) -> bool:
        """The criterion."""
        return self.parses and self.statements >= 2 and self.uses


class Function(NamedTuple):
    """A function of a file in three pieces that follow each other there: ``def`` to the colon."""

    before: str
    header: str
    body: str


def functions(files: dict[str, bytes]) -> list[Function]:
    """Every function with a parameter, its body not on the line of its header."""
    return [found for content in files.values() for found in _functions(content.decode())]


def sample(found: list[Function], count: int, seed: int = 0) -> list[Function]:
    """So many of them at random, in their order.

    Raises:
        ValueError: there are fewer.
    """
    if len(found) < count:
        raise ValueError(f"got {len(found)} functions; allowed: {count} or more")
    chosen = np.random.default_rng(seed).choice(len(found), count, replace=False)
    return [found[i] for i in sorted(chosen)]


def _functions(source: str) -> Iterator[Function]:
    lines = source.splitlines(keepends=True)
    for node in ast.walk(_tree(source)):
        if isinstance(node, Node) and parameters(node):
            first = node.body[0]
            decorators = getattr(first, "decorator_list", [])
            below = min([first.lineno, *(item.lineno for item in decorators)])
            above = "".join(lines[node.lineno - 1 : below - 1])
            header = above[: above.rfind(":") + 1]
            if header and _only(f"{header} pass") is not None:  # no colon in a comment
                body = above[len(header) :] + "".join(lines[below - 1 : node.end_lineno])
                yield Function("".join(lines[: node.lineno - 1]), header, body)


def parameters(function: Node) -> set[str]:
    """Names of a function's parameters."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {item.arg for item in every if item is not None}


def depth(line: str) -> int:
    """Columns that a line is indented by."""
    wide = line.expandtabs()
    return len(wide) - len(wide.lstrip())


def ended(header: str, text: str) -> int | None:
    """Where the first line of ``text`` starts that is not indented deeper than ``header``, or None.

    ``text`` follows the header's colon; a line counts from its first letter on.
    """
    start = text.find("\n") + 1
    while start:
        end = text.find("\n", start)
        line = text[start:] if end < 0 else text[start:end]
        if line.strip() and depth(line) <= depth(header):
            return start
        start = end + 1
    return None


def body(header: str, text: str) -> str:
    """The part of ``text`` that belongs to the function."""
    end = ended(header, text)
    return text[: text.rfind("\n") + 1] if end is None else text[:end]


def verdict(header: str, text: str) -> Verdict:
    """What the function is whose body ``text`` begins with."""
    function = _only(header + body(header, text))
    if function is None:
        return Verdict()
    inside = [node for statement in function.body for node in ast.walk(statement)]
    statements = [n for n in inside if isinstance(n, ast.stmt) and not _says_nothing(n)]
    names = parameters(function)
    used = names & {n.id for n in inside if isinstance(n, ast.Name)}
    wanted = names - {"self", "cls"} or names
    return Verdict(True, len(statements), bool(used), bool(used & wanted))


def _says_nothing(node: ast.stmt) -> bool:
    bare = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return bare or isinstance(node, ast.Pass)


def _only(text: str) -> Node | None:
    """The one function that ``text`` is, or None."""
    try:
        (node,) = _tree(textwrap.dedent(text.expandtabs())).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return node if isinstance(node, Node) else None


def _tree(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        return ast.parse(source)


# --- what is copied ------------------------------------------------------------------------------


def longest_copy(texts: list[bytes], known: bytes) -> bytes:
    """The longest run of bytes of one of ``texts`` that stands in ``known``.

    Runs of each length are compared as hashes (a polynomial modulo 2^64), the length found by
    bisection: every part of a copied run is one too.
    """
    found, low, high = b"", 0, min(len(known), max(map(len, texts), default=0))
    while low < high:
        length = (low + high + 1) // 2
        hashes = np.unique(_hashes(known, length))
        run = _first(texts, length, lambda text: np.isin(_hashes(text, length), hashes))  # noqa: B023
        if run is not None and run in known:
            low, found = length, run
        else:
            high = length - 1
    return found


def _first(texts: list[bytes], length: int, seen: Callable[[bytes], np.ndarray]) -> bytes | None:
    for text in texts:
        if len(text) >= length and (hits := seen(text)).any():
            at = int(hits.argmax())
            return text[at : at + length]
    return None


def _hashes(text: bytes, length: int) -> np.ndarray:
    """A hash of every run of ``length`` bytes: those of powers of two, joined by ``length``'s bits.

    No pass over the text for each byte of a run.
    """
    step = np.frombuffer(text, np.uint8).astype(np.uint64) + np.uint64(1)
    factor = np.array([0x9E3779B97F4A7C15], np.uint64)  # an array: it may overflow
    whole, done, power = np.zeros(len(text) - length + 1, np.uint64), 0, 1
    while power <= length:
        if length & power:
            whole = whole * factor + step[done : done + len(whole)]
            done += power
        step = step[:-power] * factor + step[power:]
        factor, power = factor * factor, 2 * power
    return whole
