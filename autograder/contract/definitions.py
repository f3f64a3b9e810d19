"""Run what a cell defines, and nothing else of it: imports, functions, classes, constants.

In the student's kernel, for a cell that stopped before its end: an import that is missing here, a
loop without end or a flood of output does not cost the functions around it. Each statement runs for
itself, and one that fails is passed over; what is bound stays. Leaves out magics, which define
nothing.
"""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

DEFINING = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COMPUTING = (ast.Call, ast.Await, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MAGIC = re.compile(r"^\s*[%!?]|\?\s*$")  # a line of its own; help, too
ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)[%!]")  # what a magic or the shell says


def run(source: str, *, rest: bool) -> None:
    """Run the definitions of ``source`` in the notebook.

    Args:
        rest: only those below the statement that has just failed or was interrupted, and of these
            what is not bound yet; False: all of them, as where that statement cannot be told.
    """
    namespace = vars(sys.modules["__main__"])
    after = _failed_at(getattr(sys, "last_traceback", None), namespace) if rest else 0
    for statement in defining(source):
        stays = rest and after > 0 and names(statement) <= namespace.keys()
        if statement.lineno > after and not stays:
            with contextlib.suppress(Exception):
                code = ast.Module([statement], type_ignores=[])
                exec(compile(code, "<definitions>", "exec"), namespace)


def defining(source: str) -> list[ast.stmt]:
    """The top statements of a cell that only define; none where it is no Python."""
    body = parsed(source)
    return [statement for statement in body if _defines(statement)]


def parsed(source: str) -> list[ast.stmt]:
    """The top statements of a cell, without magics where it has some; none: it is no Python."""
    for text in (source, without_magics(source)):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            return ast.parse(text).body
    return []


def without_magics(source: str) -> str:
    """A cell's Python, line by line: magics and shell commands do nothing."""
    return "\n".join(map(_without_magic, source.split("\n")))


def _without_magic(line: str) -> str:
    if MAGIC.search(line):
        return f"{line[: len(line) - len(line.lstrip())]}pass"
    return ASSIGNED.sub(r"\1None #", line)


def names(statement: ast.stmt) -> set[str]:
    """Names that a defining statement binds."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Try):
        return {name for inner in _inner(statement) for name in names(inner)}
    stored = (p for p in ast.walk(statement) if isinstance(p, ast.Name))
    return {part.id for part in stored if isinstance(part.ctx, ast.Store)}


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return (
            statement.value is not None
            and not _computes(statement.value)
            and all(map(_is_name, targets))
        )
    if isinstance(statement, ast.Try):
        return all(map(_defines_or_passes, _inner(statement)))
    return isinstance(statement, DEFINING)


def _is_name(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (
        isinstance(target, ast.Tuple | ast.List) and all(map(_is_name, target.elts))
    )


def _computes(value: ast.AST) -> bool:
    """Whether a value takes more than constants and names; the body of a lambda does not run."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, COMPUTING):
            return True
        if not isinstance(part, ast.Lambda):
            waiting += ast.iter_child_nodes(part)
    return False


def _defines_or_passes(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or _defines(statement)


def _inner(statement: ast.Try) -> Iterator[ast.stmt]:
    yield from (*statement.body, *statement.orelse, *statement.finalbody)
    for handler in statement.handlers:
        yield from handler.body


def _failed_at(traceback: TracebackType | None, namespace: dict[str, Any]) -> int:
    """The line of the cell at which its last exception came up; 0: unknown."""
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals is namespace and frame.f_code.co_name == "<module>":
            return traceback.tb_lineno
        traceback = traceback.tb_next
    return 0
