"""The class report: closed-form figures, classes of every size, hostile strings, whole files."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from sample_class import HOSTILE, absent, cell, entry, require_harmless, verdict

from autograder.reports import class_report, distribution, export, page, plots, roster


def strict(text: str) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_figure_over_the_class():
    values = [8.0, 12.0, 13.0, 10.0, math.nan, None, "huge", True]
    entries = [entry(f"s{i}", verdict(value)) for i, value in enumerate(values)]
    entries.append(entry("noisy", verdict(9.9, undecided=True)))
    broken = verdict()
    broken["rows"] = [{**broken["rows"][0], "name": "small", "target": None, "measured": None}]
    entries += [entry("broken", broken), entry("other", verdict(3.0, dataset="cifar10"))]
    found = {(one.name, one.dataset): one for one in distribution.figures(entries)}
    size = found["size", "glyphs"]
    assert (size.target, size.reference, size.unit) == (10.0, 12.0, "×")
    assert (sorted(size.values), size.inconclusive) == ([8.0, 10.0, 12.0, 13.0], (9.9,))
    assert (size.median, size.at_target, size.less_is_better) == (10.0, 3, False)
    assert size.unmeasured == 5, "NaN, None, text, a bool, and the check that broke"


def test_figures_keep_the_labs_order_and_data_sets_apart():
    entries = [entry("a", verdict(dataset="glyphs")), entry("b", verdict(dataset="cifar10"))]
    keys = [(one.name, one.dataset) for one in distribution.figures(entries)]
    assert keys == [(n, d) for n in ("size", "drop") for d in ("cifar10", "glyphs")]
    assert distribution.figures(entries)[2].less_is_better
    assert distribution.datasets([*entries, absent("c")]) == {"cifar10": 1, "glyphs": 1}


def test_one_far_value_does_not_squash_the_others():
    low, high = plots.window([10.0, 4.0, 12.0], [8.0, 9.0, 11.0, 60.0, 1e300, -1e300])
    assert 3 < low < 4
    assert 12 < high < 13
    assert plots.window([0.0], []) == (-0.5, 0.5)
    low, high = plots.window([10.0, 4.0], [60.0, 61.0, 62.0])
    assert low < 4
    assert high > 62, "a class that is far better than the target is drawn whole"


@pytest.mark.parametrize("less_is_better", [False, True])
def test_no_bin_holds_both_sides_of_the_target(less_is_better):
    target = 0.8
    edges = plots.bins(0.37, 1.11, target, less_is_better)
    assert edges[0] <= 0.37
    assert edges[-1] >= 1.11
    assert (np.diff(edges) > 0).all()
    good = target - 1e-9 if less_is_better else target + 1e-9
    bad = 2 * target - good
    where = [np.histogram([value], edges)[0].argmax() for value in (good, target, bad)]
    assert where[0] == where[1] != where[2]


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_a_page_for_every_size_of_class(count):
    entries = [entry(f"s{i:03d}", verdict(8 + i % 5, i / 1_000)) for i in range(count)]
    html = class_report.html(entries, "lab")
    require_harmless(html)
    assert html.count("<img") == (2 if count else 0)
    assert html.count("<details") == count
    assert html.count("<details open") == (count if count <= class_report.DETAIL_UP_TO else 0)
    assert class_report.html(entries, "lab") == html, "the same class, the same page"


def test_the_page_says_what_was_measured_and_what_is_open():
    entries = [
        entry("a", verdict(undecided=True), cells=(cell(waits=True),)),
        entry("b", verdict(dataset="cifar10")),
        absent("c"),
        absent("d", roster.WAITING),
    ]
    words = re.sub(r"<[^>]+>", " ", class_report.html(entries, "lab"))
    assert "4 students: 3 handed in, 2 graded (1 on cifar10, 1 on glyphs)" in words
    assert "1 of 4 rows inconclusive; 1 cell to be graded by a person" in words
    assert "handed in nothing" in words
    assert "not graded yet" in words


def test_hostile_strings_are_text_and_cut():
    made = verdict(math.nan, notes=(HOSTILE,))
    made["rows"][0]["message"] = made["rows"][1]["measured"] = HOSTILE
    entries = [entry(HOSTILE, made), absent("</table><script>x</script>")]
    html = class_report.html(entries, HOSTILE)
    require_harmless(html)
    shown = re.sub(r"base64,[^\"]+", "", html)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "A" * 500 not in shown
    assert "\x1b" not in class_report.text([entries[0].graded], "lab")
    assert strict(export.to_json("lab", entries))["students"][0]["student"] == HOSTILE


def test_plain_text():
    assert page.plain(" a\n\tb  c ") == "a b c"
    assert page.plain("x" * 11, 10) == "x" * 10 + "…"
    assert page.plain("x" * 10, 10) == "x" * 10
    assert page.plain("\udcff\x00\u200b") == "\ufffd" * 3


def test_csv_adds_up():
    reflection = cell("why", False, None, manual=2.0, max_points=3.0)
    changed = cell(manual=3.5, extra=0.25)
    entries = [entry("a", cells=(reflection, changed), penalty=1.0), absent("b")]
    entries += [
        absent("c", roster.WAITING),
        entry("d", cells=(cell("why", False, None, waits=True),)),
    ]
    lines = list(csv.DictReader(io.StringIO(export.to_csv(entries))))
    a = {key: float(value) for key, value in lines[0].items() if key not in ("student", "problems")}
    assert (a["judged_points"], a["person_points"], a["changed_by_person"]) == (4, 2, -0.25)
    assert a["total"] == 4 + 2 - 0.25 - 1
    assert (a["judged_max"], a["person_max"], a["max"]) == (4, 3, 7)
    assert (lines[1]["total"], lines[1]["problems"]) == ("0", "handed in nothing")
    assert (lines[2]["total"], lines[2]["judged_points"]) == ("", ""), (
        "not a zero before it is graded"
    )
    assert (lines[3]["person_points"], lines[3]["cells_to_grade"]) == ("", "1")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r", "\n@", " =", "＝"])
def test_a_spreadsheet_takes_no_text_for_a_formula(start):
    text = f"{start}cmd|' /C calc'!A0"
    entries = [entry(text, verdict(notes=(text,)))]
    _, line = csv.reader(io.StringIO(export.to_csv(entries)))
    assert line[0].startswith("'")
    assert line[-1].startswith(("'", "\\"))  # a control character is written out


def test_json_is_strict_and_complete():
    entries = [entry("a", verdict(math.inf, undecided=True)), absent("b")]
    entries[0].graded.verdicts[0]["rows"][1]["measured"] = math.nan
    content = strict(export.to_json("lab", entries))
    assert list(content) == ["format", "lab", "counts", "datasets", "figures", "students", "queue"]
    assert content["counts"]["inconclusive_rows"] == 1
    assert [one["state"] for one in content["students"]] == ["graded", "handed in nothing"]
    assert content["queue"][0]["what"] == "inconclusive"


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = page.write(tmp_path / "new" / "report.html", "good")
    with pytest.raises(UnicodeEncodeError):
        page.write(path, "half of it \udcff")
    assert path.read_text() == "good"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_says_its_kind_and_a_folder_takes_all(tmp_path):
    suffixes = class_report.SUFFIXES
    assert page.files(tmp_path / "x.csv", tmp_path, "lab", suffixes) == [tmp_path / "x.csv"]
    for out in (None, tmp_path, tmp_path / "new"):
        found = page.files(out, tmp_path, "lab", suffixes)
        assert [path.name for path in found] == ["lab.html", "lab.csv", "lab.json"]
        assert found[0].parent == (out or tmp_path)
    with pytest.raises(ValueError, match="allowed: a folder, or a file in"):
        page.files(tmp_path / "x.pdf", tmp_path, "lab", suffixes)
