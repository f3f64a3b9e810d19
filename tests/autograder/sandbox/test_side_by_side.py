"""The comparison with stock nbgrader grades right and empty work as it should, on either side, and
shows a known trick; its page says nothing that no run said."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import side_by_side
from hostile_cases import CASES, ELSEWHERE, KEEPS, Case, nothing
from side_by_side import judge_outcome, stock_outcome
from toy_lab import NBGRADERS_WARNINGS

from autograder.sandbox import bubblewrap, process

pytestmark = NBGRADERS_WARNINGS
NAMED = {case.name: case for case in CASES}


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.skipif(not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}")
def test_right_empty_and_a_known_trick(toy, tmp_path):
    theirs = side_by_side.stock_course(tmp_path / "stock")
    ours = side_by_side.judged_course(tmp_path / "judged")
    empty = Case(0, "empty", (0, 0), harm=nothing)
    try:
        for case, stock_points, points in (
            (None, KEEPS, KEEPS),
            (empty, (0, 0), (0, 0)),
            (NAMED["tags instead of work"], KEEPS, (0, 0)),
        ):
            stock = stock_outcome(side_by_side.on_stock(theirs, case))
            judged = judge_outcome(side_by_side.on_judge(ours, case))
            assert (stock.points, judged.points) == (stock_points, points), (stock, judged)
            assert stock.next_points == judged.next_points == KEEPS
            assert stock.harm == judged.harm == ()
    finally:
        process.close_all()


def test_every_published_number_is_tried_or_says_where():
    numbers = {case.number for case in CASES}
    assert numbers | set(ELSEWHERE) >= set(range(1, 39))
    assert not numbers & set(ELSEWHERE)
    assert len(dict(side_by_side.keyed())) == len(CASES)


def test_every_case_has_its_row():
    """The published page is of these cases, by number and name: none missing, none forgotten."""
    page = (Path(side_by_side.__file__).parents[3] / "autograder" / "COMPARISON.md").read_text()
    found = Counter(re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.M))
    wanted = Counter((str(case.number), case.name) for case in CASES)
    wanted.update((str(number), "–") for number in ELSEWHERE)
    assert (wanted - found, found - wanted) == (Counter(), Counter()), "run side_by_side.py"


def test_a_run_that_was_cut_goes_on_with_the_missing_cases_alone(monkeypatch, tmp_path):
    (key, missing), *others = side_by_side.keyed()
    tried = []
    for name in ("stock_course", "judged_course"):
        monkeypatch.setattr(side_by_side, name, lambda root: root)
    monkeypatch.setattr(side_by_side, "prepare", lambda: None)
    for name in ("on_judge", "on_stock"):
        monkeypatch.setattr(side_by_side, name, lambda course, case: tried.append(case) or {})
    kept = {name: {"judge": {}} for name, _ in others}
    results = side_by_side.run(kept, tmp_path / "results.json")
    assert set(tried) == {missing}
    assert results.keys() == {key, *(name for name, _ in others)}


def report(points: tuple[float | None, float | None] | None, **changed: object) -> dict:
    """A report with these points, as a grader's machine would send it."""
    scores = {"next": {"double": 2.0, "net": 3.0}}
    if points is not None:
        scores["hostile"] = dict(zip(("double", "net"), points, strict=True))
    look = {"files": {}, "scores": scores, "followed": [], "errors": {}, "notebook_bytes": 0}
    seen = {"status": 0, "said": "", "bystander": True, "left": 0, "full": []}
    return {"before": look, "after": look, "verdicts": [], "problems": [], **seen, **changed}


def test_outcomes_are_read_from_reports():
    case = Case(1, "wrong", (0, 3), source="def double(x): return x")
    full, none = stock_outcome(report((2, 3))), stock_outcome(report(None))
    assert full.gave_away(case)
    assert not full.withheld(case)
    assert none.points is None
    assert none.withheld(case)
    assert none.said == "no grade row; nbgrader reported success"
    assert stock_outcome(report((None, 3))).points is None
    hung = stock_outcome(report(None, status=None, bystander=False))
    assert "hung" in hung.said
    assert hung.harm == ("killed another process of the grader's user",)
    assert stock_outcome({"stopped": "no memory"}).next_points is None


def test_what_a_submission_says_cannot_break_the_table():
    said = side_by_side.quoted("<script>a|b\n`c`</script>")
    assert said == "`<script>a\\|b 'c'</script>`"
    assert len(side_by_side.quoted("x" * 1_000)) < 200


def test_a_page_is_extended_by_the_rows_that_it_lacks():
    """The other rows stay as they are, and the totals count the new ones."""
    whole = (Path(side_by_side.__file__).parents[3] / "autograder" / "COMPARISON.md").read_text()
    key, case = next((k, c) for k, c in side_by_side.keyed() if c.name == "fork bomb")
    page = "\n".join(line for line in whole.splitlines() if " | fork bomb | " not in line) + "\n"
    assert [c.name for _, c in side_by_side.missing(page)] == ["fork bomb"]
    report = {"verdicts": [], "problems": [], "points": {}, "left": [], "changed": []}
    judged = side_by_side.Outcome((0.0, 3.0), (2.0, 3.0), [], "`killed`")
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(side_by_side, "judge_outcome", lambda _: judged)
        new = side_by_side.extended(page, {key: {"judge": report}})
    assert side_by_side.missing(new) == []
    (made,) = (line for line in new.splitlines() if " | fork bomb | " in line)
    assert made.startswith(f"| {case.number} | fork bomb | 3 |")
    lost = set(whole.splitlines()) - set(new.splitlines())
    assert all(" of " in line or "fork bomb" in line for line in lost)
