"""Of a cell that stopped, what defines runs; what computes, and what is bound already, does not."""

from __future__ import annotations

import sys
import types

import pytest

from autograder.contract import definitions

CELL = """
import math as mathematics, json.decoder
from nowhere import nothing
A = 1
B = A + 1
C = print("never")
D = [n for n in range(3)]
try:
    import missing_module
except ImportError:
    missing_module = None
%matplotlib inline
!rm -rf something
f?
files = !ls
timed = %timeit -o f(1)
h = lambda n: print(n)
X, (Y, Z) = 1, (2, 3)
def f(x):
    return A
class G:
    one = 1
for i in range(3): E = i
A.real = 2
"""


@pytest.fixture
def notebook(monkeypatch):
    """A notebook's names, in place of this process's."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(sys, "last_traceback", None, raising=False)
    return vars(module)


def bound(namespace):
    return {name for name in namespace if not name.startswith("__")}


def test_imports_functions_and_constants_run_and_nothing_else(notebook, capsys):
    definitions.run(CELL, rest=False)
    functions = {"mathematics", "json", "A", "B", "missing_module", "f", "G", "h"}
    assert bound(notebook) == functions | {"X", "Y", "Z", "files", "timed"}
    assert (notebook["B"], notebook["missing_module"], notebook["f"](0)) == (2, None, 1)
    assert capsys.readouterr().out == ""


def test_the_rest_is_what_lies_below_the_error_and_is_not_bound(notebook, monkeypatch):
    source = "A = 1\nB = 0\nA = 1 / B\nA = 3\nC = 4\ndef f(): return C"
    with pytest.raises(ZeroDivisionError) as failed:
        exec(compile(source, "cell", "exec"), notebook)
    monkeypatch.setattr(sys, "last_traceback", failed.tb)
    notebook["B"] = "a loop's work"
    definitions.run(source, rest=True)
    assert (notebook["A"], notebook["B"], notebook["f"]()) == (1, "a loop's work", 4)


@pytest.mark.parametrize("source", ["def f(:", "\0", "(" * 10_000, "%%bash\nls"])
def test_what_is_no_python_defines_nothing(source, notebook):
    definitions.run(source, rest=False)
    assert bound(notebook) == set()


def test_text_that_looks_like_a_magic_stays_text():
    source = 'C = """\n%d\n"""'
    [statement] = definitions.defining(source)
    assert statement.value.value == "\n%d\n"


def test_where_the_error_cannot_be_told_everything_is_defined_anew(notebook):
    notebook["answer"] = lambda: "old"
    definitions.run("import missing\ndef answer(): return 'new'", rest=True)
    assert notebook["answer"]() == "new"
