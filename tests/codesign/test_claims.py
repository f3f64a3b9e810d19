"""Claims: what was published stands in one file, what was measured beside it."""

import datetime
import html
import re

import pytest

from codesign import claims

ROW = {
    "claim": "a DRAM access costs",
    "figure": "640",
    "unit": "pJ",
    "source": "Horowitz, ISSCC 2014, figure 1.1.9",
    "version": "the printed one",
    "looked_up": datetime.date(2026, 11, 30),
}
DAY = claims.Published(**ROW)
MEMORY = claims.Published(**{**ROW, "looked_up": None})


def test_a_row_says_where_and_when_or_that_nobody_looked():
    assert DAY.cited == (
        "640 pJ (Horowitz, ISSCC 2014, figure 1.1.9; the printed one; looked up 2026-11-30)"
    )
    assert "not looked up" in MEMORY.cited


def test_the_table_is_html_text_and_data():
    rows = claims.Claims(
        [
            claims.Claim(DAY, "a laptop", measured="3 < 4", on="one machine"),
            claims.Claim(MEMORY, "no power meter"),
        ]
    )
    bundle = rows._repr_mimebundle_()
    cells = [html.unescape(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", bundle["text/html"])]
    assert cells == [*rows[0].cells, *rows[1].cells]
    assert "measured here: cited only" in bundle["text/plain"]
    assert [row["looked_up"] for row in bundle[claims.MIME]["rows"]] == ["2026-11-30", ""]
    assert bundle[claims.MIME]["rows"][0]["measured"] == "3 < 4"


@pytest.mark.parametrize("field", [name for name in ROW if name != "looked_up"])
def test_an_empty_field_is_refused(field):
    with pytest.raises(ValueError, match=rf"empty \['{field}'\]"):
        claims.Published(**{**ROW, field: " "})


@pytest.mark.parametrize("day", ["2026-11-30", True, datetime.datetime(2026, 11, 30)])
def test_a_day_is_a_day(day):
    with pytest.raises(ValueError, match="allowed: a day, or false"):
        claims.Published(**{**ROW, "looked_up": day})


def test_a_measurement_says_on_what_and_every_row_why():
    with pytest.raises(ValueError, match=r"empty \['on'\]"):
        claims.Claim(DAY, "why", measured="1")
    with pytest.raises(ValueError, match=r"empty \['why'\]"):
        claims.Claim(DAY, "")


def test_a_lecture_answers_all_of_its_claims(tmp_path, monkeypatch):
    file = tmp_path / "claims.toml"
    lines = "\n".join(f"{k} = {str(v) if k == 'looked_up' else repr(v)}" for k, v in ROW.items())
    file.write_text(f"[07.dram]\n{lines}\n[07.other]\n{lines.replace('2026-11-30', 'false')}\n")
    monkeypatch.setattr(claims, "CHECKOUT", file)
    made = claims.claims("07", other=dict(why="x"), dram=dict(measured="1", on="it", why="y"))
    assert [row.measured for row in made] == ["1", None]
    assert made[1].published.looked_up is None
    for rows in ({"dram": dict(why="x")}, {"dram": dict(why="x"), "third": dict(why="x")}):
        with pytest.raises(ValueError, match=r"allowed: \['dram', 'other'\]"):
            claims.claims("07", **rows)
    file.write_text(f"[07.dram]\n{lines}\nextra = 1\n")
    with pytest.raises(ValueError, match=r"got 07\.dram with"):
        claims.published()


def test_the_courses_file_is_complete_and_names_a_place():
    place = (
        r"abstract|section|table|figure|page|equation|chapter|lecture|slide|manual|documentation"
    )
    for lecture, rows in claims.published().items():
        assert re.fullmatch(r"\d\d(_\w+)?", lecture)
        for name, row in rows.items():
            assert re.search(place, row.source, re.I), f"{lecture}.{name}: where in {row.source}?"
