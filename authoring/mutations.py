"""Change one thing in a function's source, by rule: what `course prove` puts into a lecture.

Each rule is a slip that a person makes: a comparison turned round, an end missed by one, a sign,
the other of two functions (minimum and maximum, sum and mean), two arguments or factors swapped, a
transposition or a statement left out. Source in, changed sources out; nothing is executed here.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

Change = Callable[[Any], tuple[str, str]]  # changes a node, names it before and after
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
PAIRS = (
    *(("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("minimum", "maximum")),
    *(("floor", "ceil"), ("sum", "mean"), ("any", "all"), ("cumsum", "cumprod")),
)
OTHER_NAME = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
TRANSPOSITIONS = ("T", "mT", "H")


@dataclass(frozen=True)
class Mutation:
    """One changed function.

    Args:
        function: its name.
        change: what was changed, ``old -> new``; one name within a function.
        source: the whole changed definition.
    """

    function: str
    change: str
    source: str

    @property
    def name(self) -> str:
        """How lists and ledgers call it."""
        return f"{self.function}: {self.change}"


def generated(source: str, function: str) -> list[Mutation]:
    """Every mutation of ``function`` (a class too), in the order of its text.

    Args:
        source: a cell; what surrounds the function stays as it is.

    Raises:
        ValueError: no function or class of that name at the top of ``source``.
    """
    module = ast.parse(source)
    place = _place(module, function)
    found, seen = [], Counter[str]()
    for node, change in _changes(module.body[place]):
        mutant = copy.deepcopy(module)
        path = _path(module.body[place], node)
        old, new = change(_at(mutant.body[place], path))
        text = f"{_short(old)} -> {_short(new)}"
        seen[text] += 1
        named = text if seen[text] == 1 else f"{text} ({seen[text]})"
        found.append(Mutation(function, named, ast.unparse(ast.fix_missing_locations(mutant))))
    original = ast.unparse(module)
    return [one for one in found if one.source != original]


def written(source: str, function: str, name: str, old: str, new: str) -> Mutation:
    """A mutation by hand: ``old``, which stands exactly once in ``source``, becomes ``new``.

    Raises:
        ValueError: it stands there another number of times.
    """
    if source.count(old) != 1:
        raise ValueError(f"{function}, {name!r}: got {source.count(old)} times {old!r}; allowed: 1")
    return Mutation(function, name, source.replace(old, new))


# --- rules ---------------------------------------------------------------------------------------


def _changes(definition: ast.stmt) -> Iterator[tuple[ast.AST, Change]]:
    """Nodes and what to do with them: a function that changes the node and names old and new."""
    for node in ast.walk(definition):
        for rule in RULES:
            for change in rule(node):
                yield node, change


def _comparison(node: Any) -> Iterator[Change]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind in COMPARISONS.get(type(node.ops[0]), ()):
            yield partial(_set_comparison, kind=kind)


def _operator(node: Any) -> Iterator[Change]:
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        kind = OPERATORS[type(node.op)]
        yield lambda at: _changed(at, lambda: setattr(at, "op", kind()))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult | ast.Sub | ast.Div):
        yield lambda at: _changed(at, lambda: _swap(at))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield lambda at: _replaced(at, at.operand)


def _constant(node: Any) -> Iterator[Change]:
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
        return
    if isinstance(node.value, int | float):
        for step in (1, -1):
            yield partial(_stepped, step=step)


def _name(node: Any) -> Iterator[Change]:
    if isinstance(node, ast.Attribute) and node.attr in OTHER_NAME:
        yield lambda at: _changed(at, lambda: setattr(at, "attr", OTHER_NAME[at.attr]))
    called = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    if called and node.id in OTHER_NAME and node.id not in ("sum", "any", "all"):  # built in
        yield lambda at: _changed(at, lambda: setattr(at, "id", OTHER_NAME[at.id]))
    if isinstance(node, ast.Attribute) and node.attr in TRANSPOSITIONS:
        yield lambda at: _replaced(at, at.value)


def _arguments(node: Any) -> Iterator[Change]:
    first = node.args[:2] if isinstance(node, ast.Call) else []
    if len(first) == 2 and not any(isinstance(one, ast.Starred) for one in first):
        yield lambda at: _changed(at, lambda: at.args.__setitem__(slice(2), at.args[1::-1]))


def _statement(node: Any) -> Iterator[Change]:
    kinds = (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For, ast.While, ast.With)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, kinds) and not text:
        yield _dropped


RULES = (_comparison, _operator, _constant, _name, _arguments, _statement)


def _changed(node: ast.AST, change: Callable[[], object]) -> tuple[str, str]:
    old = ast.unparse(node)
    change()
    return old, ast.unparse(node)


def _set_comparison(node: ast.Compare, kind: type[ast.cmpop]) -> tuple[str, str]:
    return _changed(node, lambda: node.ops.__setitem__(0, kind()))


def _stepped(node: ast.Constant, step: int) -> tuple[str, str]:
    value: Any = node.value
    return _changed(node, lambda: setattr(node, "value", value + step))


def _replaced(node: ast.AST, by: ast.AST) -> tuple[str, str]:
    """Put ``by`` in the place of ``node``, which keeps its identity."""
    old = ast.unparse(node)
    node.__class__, node.__dict__ = by.__class__, by.__dict__
    return old, ast.unparse(node)


def _dropped(node: ast.AST) -> tuple[str, str]:
    old = ast.unparse(node).splitlines()[0]
    node.__class__ = ast.Pass
    node.__dict__ = {"lineno": 1, "col_offset": 0}
    return old, "nothing"


def _swap(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left


# --- places --------------------------------------------------------------------------------------


def _place(module: ast.Module, function: str) -> int:
    for number, statement in enumerate(module.body):
        if getattr(statement, "name", None) == function:
            return number
    raise ValueError(f"got {function!r}; allowed: a function or class of {ast.unparse(module)!r}")


def _path(root: ast.AST, wanted: ast.AST) -> list[tuple[str, int | None]]:
    """Fields and indices that lead from ``root`` to ``wanted``."""
    for field, value in ast.iter_fields(root):
        several = isinstance(value, list)
        for number, child in enumerate(value if several else [value]):
            if child is wanted:
                return [(field, number if several else None)]
            if isinstance(child, ast.AST) and (rest := _path(child, wanted)):
                return [(field, number if several else None), *rest]
    return []


def _at(root: ast.AST, path: list[tuple[str, int | None]]) -> ast.AST:
    for field, number in path:
        value = getattr(root, field)
        root = value if number is None else value[number]
    return root


def _short(text: str) -> str:
    line = text.splitlines()[0]
    return line if len(line) <= 60 else line[:57] + "..."
