"""The judge of completions beside cases by hand, and the longest copy beside a search."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import completions
from codesign import datasets

FILE = b'''
class Pair:
    @property
    def first(self):
        return self._first

    def swap(
        self, by: int = 1, *rest: dict[str, int]
    ) -> "Pair":  # a comment
        # and a comment
        """Swap both."""
        kept = self._first
        return Pair(kept)

    def short(self): return 1

    def noted(self):  # a colon: skipped
        return 2

def nothing():
    pass

def outer(n):
    @decorator
    def inner(m): \n        return m + n
    return inner
'''


def test_headers_and_bodies_are_as_they_stand():
    found = {f.header: f for f in completions.functions({"pair.py": FILE})}
    swap = '    def swap(\n        self, by: int = 1, *rest: dict[str, int]\n    ) -> "Pair":'
    inner = "    def inner(m):"
    assert found.keys() == {"    def first(self):", swap, "def outer(n):", inner}
    for header, function in found.items():
        assert FILE.decode().startswith(function.before + header + function.body)
    assert found[inner].body.strip() == "return m + n"
    assert found[swap].body.endswith("return Pair(kept)\n")
    assert found[inner].before.endswith("    @decorator\n")


def test_what_authors_wrote_is_cut_and_judged_as_code():
    found = completions.functions(datasets.load_text("stdlib", "test").files())
    assert len(found) > 500
    for function in found:
        assert completions.verdict(function.header, f"{function.body}\n\nx = 1\n").parses


def test_a_sample_is_drawn_once_and_in_order():
    found = [completions.Function("", f"def f{i}(x):", "") for i in range(50)]
    chosen = completions.sample(found, 20)
    assert chosen == completions.sample(found, 20) != completions.sample(found, 20, seed=1)
    assert [found.index(one) for one in chosen] == sorted({found.index(one) for one in chosen})
    with pytest.raises(ValueError, match="got 50 functions; allowed: 51 or more"):
        completions.sample(found, 51)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("\n        a = 1\n    b = 2\n", "\n        a = 1\n"),
        ("\n        a = 1\n\n        b = 2\n\nc", "\n        a = 1\n\n        b = 2\n\n"),
        ("\n        a = 1\n        b = ", "\n        a = 1\n"),  # ran out of tokens
        (" return 1\n    def", " return 1\n"),
        ("\n\ta = 1\n\t\tb = 2\n", "\n\ta = 1\n\t\tb = 2\n"),  # a tab is eight columns
        ("\nx", "\n"),
        ("", ""),
        ("\n        a = 1\n   ", "\n        a = 1\n"),
    ],
)
def test_a_body_ends_where_a_line_is_not_deeper(text, body):
    assert completions.body("    def f(self):", text) == body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n    y = x\n    return y\n", (True, 2, True)),
        ('\n    """Says x."""\n    return x\n', (True, 1, True)),
        ("\n    for y in x:\n        print(y)\n", (True, 2, True)),
        ("\n    pass\n    ...\n", (True, 0, False)),
        ("\n    y = 1\n    return y\n", (True, 2, False)),
        ("\n    return (x\n", (False, 0, False)),
        ("\n    x = 1\n  y = 2\n", (False, 0, False)),
        ("\n", (False, 0, False)),
        (" return x\n", (True, 1, True)),
    ],
)
def test_what_a_body_is_judged_as(text, expected):
    verdict = completions.verdict("def f(x):", text)
    assert (verdict.parses, verdict.statements, verdict.uses) == expected
    assert verdict.good == (expected[0] and expected[1] >= 2 and expected[2])


def test_self_is_a_parameter_and_another_one_is_asked_for_beside():
    header, text = "    def f(self, n):", "\n        self.go()\n        self.stop()\n"
    assert completions.verdict(header, text).good
    assert not completions.verdict(header, text).others
    assert completions.verdict("    def f(self):", text).others
    assert completions.verdict(header, text + "        return n\n").others


@settings(deadline=None)
@given(
    st.lists(st.text("ab", max_size=20).map(str.encode), max_size=3),
    st.text("abc", max_size=40).map(str.encode),
)
def test_the_longest_copy_is_as_long_as_a_search_finds(texts, known):
    runs = [t[i:j] for t in texts for i in range(len(t)) for j in range(i + 1, len(t) + 1)]
    longest = max([len(run) for run in runs if run in known], default=0)
    found = completions.longest_copy(texts, known)
    assert len(found) == longest
    assert found in known
