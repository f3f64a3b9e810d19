"""The leaderboard: who is ranked, how equals share a rank, and that nobody is named unasked."""

from __future__ import annotations

import pytest
from sample_class import absent, cell, entry, require_harmless, verdict

from autograder.reports import leaderboard


def board(entries, names=None, figure="size"):
    found = leaderboard.boards(entries, names or {})
    return next(one for one in found if one.figure.name == figure)


def test_best_first_and_equals_share_a_rank():
    sizes = {"a": 12.0, "b": 15.0, "c": 12.00001, "d": 11.0}
    entries = [entry(student, verdict(size)) for student, size in sizes.items()]
    places = board(entries, {"a": "Zoe", "d": "Ada"}).places
    assert places == (
        (1, "anonymous 1", "15 ×"),
        (2, "Zoe", "12 ×"),
        (2, "anonymous 2", "12 ×"),
        (4, "Ada", "11 ×"),
    )


def test_less_can_be_better():
    entries = [entry("a", verdict(drop=0.015)), entry("b", verdict(drop=-0.01))]
    assert [place[2] for place in board(entries, figure="drop").places] == ["-0.01", "0.015"]


def test_only_full_points_are_ranked():
    entries = [
        entry("small but wrong", verdict(99.0, drop=0.5)),
        entry("undecided", verdict(10.1, undecided=True), cells=(cell(waits=True),)),
        entry("no number", verdict("huge")),
        entry("taken away", cells=(cell(manual=0.0),)),
        absent("absent"),
        entry("confirmed", verdict(10.2, undecided=True), cells=(cell(manual=4.0),)),
    ]
    found = board(entries)
    assert found.places == ((1, "anonymous 1", "10.2 ×"),)
    assert found.unranked == 4


def test_nobody_is_named_unasked():
    """The whole page is the same whoever the anonymous ones are."""
    pages = set()
    for order in (("secret1", "secret2", "secret3"), ("zz-9", "aa-9", "mm-9")):
        entries = [entry(student, verdict(12.0)) for student in order]
        entries.append(entry("named", verdict(13.0)))
        entries.sort(key=lambda one: one.student)
        found = leaderboard.boards(entries, {"named": "Ada <Lovelace>"})
        html, text = leaderboard.html(found, "lab"), leaderboard.text(found, "lab")
        require_harmless(html)
        assert "Ada &lt;Lovelace&gt;" in html
        assert "Ada <Lovelace>" in text
        assert "named" not in html.replace("Ada", "")
        assert not any(student in html + text for student in order)
        pages.add((html, text))
    assert len(pages) == 1


def test_numbers_do_not_link_two_boards():
    entries = [entry("a", verdict(12.0, 0.015)), entry("b", verdict(11.0, 0.010))]
    for figure in ("size", "drop"):
        found = [place[1] for place in board(entries, figure=figure).places]
        assert found == ["anonymous 1", "anonymous 2"]


def test_an_empty_board():
    missed = leaderboard.boards([entry("a", verdict(5.0))], {})
    assert "Nobody met" in leaderboard.text(missed, "lab")
    for found in (leaderboard.boards([], {}), leaderboard.boards([absent("a")], {})):
        assert "No figure was measured yet" in leaderboard.text(found, "lab")
        require_harmless(leaderboard.html(found, "lab"))


def test_names_are_read(tmp_path):
    path = tmp_path / leaderboard.FILE
    assert leaderboard.names(path) == {}
    path.write_text('[names]\n"a" = "Ada"\n"b" = "b"\n')
    assert leaderboard.names(path, ["a", "b", "c"]) == {"a": "Ada", "b": "b"}


@pytest.mark.parametrize(
    "content",
    [
        'names = "a"',
        "[names",
        '[nmaes]\na = "Ada"',
        "[names]\na = 1",
        '[names]\na = ""',
        '[names]\na = "Anonymous 1"',
        '[names]\na = "ａnonymous"',
        '[names]\na = "Ada\\u202e"',
        '[names]\na = "Ada\\u001b[31m"',
        f'[names]\na = "{"x" * 41}"',
        '[names]\na = "Ada"\nb = "ADA"',
        '[names]\na = "C"',
    ],
)
def test_names_that_are_refused(tmp_path, content):
    path = tmp_path / leaderboard.FILE
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"leaderboard\.toml"):
        leaderboard.names(path, ["a", "b", "c"])
