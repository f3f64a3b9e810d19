"""What people read of a student's words: no control characters, no walls of text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_output

from autograder.contract import rows, said, show
from autograder.contract.verdict import Verdict
from autograder.grading import verdict_cells
from autograder.intake import sanitize

# A terminal's colours and links, a bell, a backspace, a line that overwrites itself, NUL, a C1
# escape, a mark of writing direction, a line separator, half a character.
CONTROLS = [
    "\x1b[31mred",
    "\x1b]8;;http://evil.example\x07link",
    "bad\x08\x08good",
    "0 points\r90 points",
    "\0",
    "\x9b31m",
    "\u202e90",
    "one\u2028two",
    "\ud800",
    "\x7f",
]


def is_clean(text):
    kinds = {unicodedata.category(c) for c in text if c not in "\n\t\u200c\u200d"}
    return not kinds & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(st.text())
def test_nothing_that_moves_a_cursor_is_left(text):
    assert is_clean(said.visible(text))
    assert len(said.plain(text, 20)) <= 20
    assert "\n" not in said.one_line(text)


@pytest.mark.parametrize(
    "text", ["a − b ≥ 2·10³ µs", "日本語 ü é", "a\n\tb", "nicht‌mehr", "👩‍🔬", ""]
)
def test_readable_text_stays_as_it_is(text):
    assert said.visible(text) == text


def test_what_is_hidden_is_written_out():
    assert said.visible("a\x1b[0m\0\x08\r\u202e") == r"a\x1b[0m\x00\x08\r\u202e"
    assert said.visible("a\r\nb") == "a\nb"
    assert said.visible("\x1b[31mred\x1b[0m\x08", colours=True) == "\x1b[31mred\x1b[0m\\x08"


@pytest.mark.parametrize("words", CONTROLS)
def test_they_reach_neither_a_row_nor_a_table_nor_a_page(words):
    row = rows.Row(words, words, words, 0.0, 3.0, message=words, status="failed")
    verdict = Verdict("c", (row,), 3.0, notes=(words,))
    (table, _) = verdict_cells.outputs_of(verdict, 1)
    shown = [show.text(verdict), show.html(verdict), *map(str, table.data.values())]
    assert all(map(is_clean, shown))


def test_a_message_is_one_row_of_a_table():
    row = rows.failed("first", 3.0, "wrong\nsecond  yes  yes  90.00 / 90")
    assert len(show.text(Verdict("c", (row,), 3.0)).splitlines()) == 3


def test_long_words_are_cut():
    row = rows.failed("x" * 10_000, 3.0, "y" * 10_000)
    assert len(row.name) <= rows.MAX_NAME
    assert len(row.message) <= said.MAX_MESSAGE


@pytest.mark.parametrize("words", CONTROLS)
def test_a_cells_output_keeps_colours_alone(words):
    for made in (
        new_output("stream", text=words),
        new_output("error", ename="E", evalue=words, traceback=[words, words]),
        new_output("display_data", data={"text/plain": words}),
    ):
        sanitize.make_visible(made)
        parts = [made.get("text", ""), made.get("evalue", ""), *made.get("traceback", [])]
        parts += made.get("data", {}).values()
        assert all(is_clean(said.COLOURS.sub("", part)) for part in parts)
