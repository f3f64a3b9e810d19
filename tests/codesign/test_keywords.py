"""Calls with many arguments name them: a reader of a table need not count columns."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 6  # arguments by position


def unnamed(text: str) -> list[str]:
    """Calls with too many, but not those that pass a list on, as to a command line."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    calls = [c for c in calls if not any(isinstance(a, ast.Starred) for a in c.args)]
    return [f"{ast.unparse(c.func)}, line {c.lineno}" for c in calls if len(c.args) > MOST]


def test_long_calls_name_their_arguments():
    files = [path for folder in ("codesign", "tools") for path in (ROOT / folder).rglob("*.py")]
    files += [
        ROOT / "benchmarks" / f"{name}.py" for name in ("cortex_m_kernels", "microcontroller")
    ]
    found = {path.name: calls for path in files if (calls := unnamed(path.read_text("utf-8")))}
    assert found == {}


def test_a_long_call_is_found():
    assert unnamed("Device(1, 2, 3, 4, 5, 6, 7)") == ["Device, line 1"]
    assert unnamed("Device(1, 2, 3, 4, 5, 6, source=7)") == []
