"""What a cell reads from others and changes for them: scopes, order of evaluation, calls."""

import ast

import pytest

from authoring import names


@pytest.mark.parametrize(
    ("source", "read", "written"),
    [
        ("a = b + 1", {"b"}, {"a"}),
        ("a = 1\nb = a", set(), {"a", "b"}),
        ("a = a + 1", {"a"}, {"a"}),
        ("total += x", {"total", "x"}, {"total"}),
        ("for a, b in rows:\n    print(a, c)", {"rows", "c"}, {"a", "b"}),
        ("for a in a:\n    pass", {"a"}, {"a"}),
        ("found = [x + y for x in xs if x > z]", {"y", "xs", "z"}, {"found"}),
        ("found = {k: v for k, v in sorted(table)}", {"table"}, {"found"}),
        ("with open(path) as file:\n    text = file.read()", {"path"}, {"file", "text"}),
        ("if (n := len(a)) > 1:\n    print(n)", {"a"}, {"n"}),
        ("def f(x, *y, z=w, **k):\n    t = x + u\n    return t, y, z, k", {"u", "w"}, {"f"}),
        ("def f(x):\n    def g(y):\n        return x + y + h\n    return g", {"h"}, {"f"}),
        ("class A(B):\n    c = d\n    def e(self):\n        return self.c", {"B", "d"}, {"A"}),
        ("f = lambda x: x + y", {"y"}, {"f"}),
        ("import torch as t\nt.manual_seed(0)", set(), set()),
        ("model.weight.data[0] = x", {"model", "x"}, {"model"}),
        ("train(model, steps)", {"train", "model", "steps"}, {"train", "model", "steps"}),
        ("model.weight.copy_(other.weight)", {"model", "other"}, {"model"}),
        ("def f(m):\n    m.cut()\n    rows.append(m)", {"rows"}, {"f", "rows"}),
        ("assert_close(a)\ntorch.testing.assert_close(a, b)", None, {"assert_close", "a"}),
        ("ax.plot(a)\nprint(b)\nplot.show(c)", {"ax", "a", "b", "plot", "c"}, set()),
        ("try:\n    a = 1\nexcept E:\n    b = a", {"E"}, {"a", "b"}),
    ],
)
def test_what_a_cell_reads_and_changes(source, read, written):
    tree = ast.parse(source)
    assert read is None or names.read(tree) == read
    assert names.written(tree) == written
