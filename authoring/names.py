"""Which names a cell of a notebook reads from other cells, and which it changes for later ones.

Scopes count: what a function, a lambda or a comprehension binds is its own, and a loop variable
that a cell binds before it uses it comes from no other cell. Values are not followed: a cell is
taken to change whatever it hands to a call of which it keeps no result, unless that call prints,
draws or asserts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

SHOWING = frozenset({"print", "plt", "plot", "ax", "axes", "left", "right", "diagram"})
BUILT_IN = frozenset(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)
LATE = {"targets": 1, "target": 1, "body": 2, "handlers": 3, "orelse": 3, "finalbody": 4}
SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def read(tree: ast.Module) -> frozenset[str]:
    """Names whose values come from other cells."""
    bound: set[str] = set()
    found: set[str] = set()
    for name, stored in _in_order(tree):
        if stored:
            bound.add(name)
        elif name not in bound:
            found.add(name)
    return frozenset(found) - BUILT_IN


def written(tree: ast.Module) -> frozenset[str]:
    """Names that the cell binds, imports aside, and names whose objects it may change."""
    found = {name for name, stored in _in_order(tree) if stored}
    inner: dict[ast.AST, set[str]] = {}  # what the functions around a node have bound
    for node in ast.walk(tree):
        own = inner.get(node, set())
        if isinstance(node, SCOPES):
            own = own | _bound(node)
        inner.update((child, own) for child in ast.iter_child_nodes(node))
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found |= _names(node) - own
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and not (_names(node.value.func) & SHOWING or is_assert(node))
        ):
            found |= _changed(node.value) - own - BUILT_IN
    return frozenset(found) - imported(tree)


def imported(tree: ast.Module) -> frozenset[str]:
    """Modules, and what is imported from them: a call does not change those."""
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.alias)]
    return frozenset((one.asname or one.name).split(".")[0] for one in aliases)


def is_assert(node: ast.AST) -> bool:
    """``assert …``, or a call like ``torch.testing.assert_close(…)``."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        return isinstance(called, ast.Attribute) and called.attr.startswith("assert_")
    return isinstance(node, ast.Assert)


def _in_order(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Names of one scope as they are evaluated, and whether each is stored."""
    for child in _children(node):
        if isinstance(child, ast.Name):
            yield child.id, isinstance(child.ctx, ast.Store)
        elif isinstance(child, ast.alias):
            yield (child.asname or child.name).split(".")[0], True
        elif isinstance(child, SCOPES):
            yield from ((name, False) for name in sorted(_free(child)))
            if hasattr(child, "name"):
                yield child.name, True
        else:
            if isinstance(child, ast.AugAssign) and isinstance(child.target, ast.Name):
                yield child.target.id, False
            yield from _in_order(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node, what is evaluated first coming first."""
    fields = sorted(ast.iter_fields(node), key=lambda field: LATE.get(field[0], 0))
    for _, value in fields:
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield part


def _free(scope: ast.AST) -> set[str]:
    """Names that a function, a comprehension or a class reads from around it."""
    return {name for name, stored in _in_order(scope) if not stored} - _bound(scope)


def _bound(scope: ast.AST) -> set[str]:
    """Names that a scope binds: its arguments and whatever it stores."""
    arguments = [
        node for node in ast.walk(getattr(scope, "args", ast.Pass())) if isinstance(node, ast.arg)
    ]
    return {name for name, stored in _in_order(scope) if stored} | {one.arg for one in arguments}


def _changed(call: ast.Call) -> set[str]:
    """What a call may change: what it is handed; an in-place method like ``copy_`` its object."""
    in_place = isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_")
    return _names(call.func if in_place else call)


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
