"""nbgrader's formgrader on a graded course: headless Chromium against a running JupyterLab.

One session of a person who grades: she looks at scores and tables, grades a written answer, the
lab is graded again, she generates feedback, and she opens submissions that attack her browser.
MathJax, which formgrader takes from a CDN, is an empty stand-in here.
"""

from __future__ import annotations

import re
import shutil

import browser
import pytest
from toy_lab import LAB, NBGRADERS_WARNINGS

from autograder.grading import run
from autograder.intake.course import Course
from autograder.sandbox import bubblewrap

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("written"),  # the graded course
    pytest.mark.browser,
    pytest.mark.sandbox,
    *NBGRADERS_WARNINGS,
    pytest.mark.skipif(not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"),
]
COMMENT = "The *knee* is named, not explained."
MATHJAX = """
window.MathJax = {Hub: {Config() {}, Queue() {}, Startup: {signal: {Interest() {}}}}};
"""


class Grader:
    """A person in front of formgrader, and what she can see.

    Args:
        page: her browser.
        home: address of her Jupyter server.
        asked: what her browser was asked to fetch from elsewhere.
    """

    def __init__(self, page, home: str, asked: list[str]) -> None:
        self.page, self.home, self.asked = page, f"{home}formgrader", asked
        page.route(
            re.compile("mathjax"),
            lambda route: route.fulfill(body=MATHJAX, content_type="text/javascript"),
        )
        self.seen = browser.watch(page)
        page.goto(f"{self.home}/manage_assignments?token=t")

    def rows(self) -> dict[str, list[str]]:
        """The list of submissions in front of her, by student."""
        self.page.wait_for_selector("tbody td.score:not(:empty)")
        lines = [
            line.locator("td").all_inner_texts() for line in self.page.locator("tbody tr").all()
        ]
        return {cells[1]: cells for cells in ([text.strip() for text in line] for line in lines)}

    def open(self, student: str) -> None:
        """Open the submission of ``student`` for grading by hand."""
        self.page.goto(f"{self.home}/gradebook/{LAB}/{LAB}")
        link = self.page.locator("a.name-shown, .name-shown a", has_text=student)
        link.first.wait_for(state="attached")
        self.page.goto(self.home.removesuffix("/formgrader") + link.first.get_attribute("href"))
        self.page.wait_for_selector("input.score[placeholder]")

    def type(self, field: str, what: str) -> None:
        """Type into a field of a cell and leave it, which saves."""
        with self.page.expect_response(
            lambda answer: answer.request.method == "PUT" and "/api/" in answer.url
        ) as answered:
            self.page.locator(field).fill(what)
            self.page.locator(field).blur()
        assert answered.value.ok


@pytest.fixture
def course(written, toy, tmp_path) -> Course:
    """The graded course, in a folder of the test's own."""
    return Course.at(shutil.copytree(written, tmp_path / "course"))


@pytest.fixture
def grader(course, tmp_path):
    """A person in front of the course's formgrader."""
    with (
        browser.jupyterlab(course.root, tmp_path / "jupyter") as home,
        browser.chromium(tmp_path / "profile", home) as (page, asked),
    ):
        yield Grader(page, home, asked)


def test_a_person_grades_with_formgrader(grader, course):
    scores_are_listed(grader)
    a_submission_shows_scores_and_tables(grader)
    grader.type("input#why", "3")
    grader.type("textarea#why-comment", COMMENT)
    by_hand(course)
    shutil.rmtree(course.folder("autograded", "ada", LAB))  # so that it is written again
    again = run.grade(course.root, LAB, only=["ada"], workers=0, resume=False, progress=False)
    assert [one.points for one in again] == [5]
    by_hand(course)
    what_was_typed_is_shown(grader)
    feedback_is_generated(grader, course)
    for who, shown in (("bob", "pwned(33)"), ("eve", "pwned(20)")):
        an_attack_is_text(grader, who, shown)
    assert grader.seen == []
    assert grader.asked == []


def scores_are_listed(grader: Grader) -> None:
    """From the list of assignments to that of the submissions, with what the judge gave."""
    lab = grader.page.locator("tbody tr", has_text=LAB)
    lab.get_by_role("link", name="3", exact=True).click()
    assert {who: row[3:5] for who, row in grader.rows().items()} == {
        "ada": ["needs manual grading", "5 / 9"],
        "bob": ["needs manual grading", "0 / 9"],
        "eve": ["needs manual grading", "0 / 9"],
    }


def a_submission_shows_scores_and_tables(grader: Grader) -> None:
    """An honest one: the judge's scores and figures, and the answer that a person grades."""
    grader.open("ada")
    page = grader.page
    table = page.locator("table", has=page.locator("caption", has_text="net: 3 of 3 points"))
    expect(page.locator("input#double")).to_have_attribute("placeholder", "2")
    expect(page.locator("input#net")).to_have_attribute("placeholder", "3")
    expect(table).to_be_visible()
    expect(table.locator("th")).to_contain_text(["measured", "target", "reference", "points"])
    expect(table.locator("td").nth(2)).to_have_text("0.5")
    expect(page.locator(".nbgrader_cell", has_text="Because $a<b$")).to_be_visible()
    expect(page.locator(".nbgrader_cell td")).to_have_text(["1", "2 ms"])


def by_hand(course: Course) -> None:
    """The gradebook holds what the person typed."""
    with course.gradebook() as gradebook:
        entry = gradebook.find_grade("why", LAB, LAB, "ada")
        said = gradebook.find_comment("why", LAB, LAB, "ada")
        assert (entry.manual_score, entry.score, said.manual_comment) == (3, 3, COMMENT)


def what_was_typed_is_shown(grader: Grader) -> None:
    """In the submission, and in the sum of the list."""
    grader.open("ada")
    expect(grader.page.locator("input#why")).to_have_value("3")
    expect(grader.page.locator("textarea#why-comment")).to_have_value(COMMENT)
    grader.page.goto(f"{grader.home}/manage_submissions/{LAB}")
    assert grader.rows()["ada"][4] == "8 / 9"


def feedback_is_generated(grader: Grader, course: Course) -> None:
    """By the button of the list; the page has the sum and the comment."""
    grader.page.locator("tbody tr", has_text="ada").locator(".glyphicon-comment").click()
    expect(grader.page.locator("#success-modal")).to_contain_text("generated feedback")
    feedback = (course.folder("feedback", "ada", LAB) / f"{LAB}.html").read_text()
    assert "toy (Score: 8.0 / 9.0)" in feedback
    assert "The <em>knee</em> is named" in feedback


def an_attack_is_text(grader: Grader, student: str, shown: str) -> None:
    """It can be read and graded; it opens no frame, and the student's own page is not served."""
    grader.open(student)
    expect(grader.page.locator("input#net")).to_have_attribute("placeholder", "0")
    expect(grader.page.locator(".nbgrader_cell pre", has_text=shown)).to_be_visible()
    where = grader.page.url.split("?")[0]
    assert [frame.url.split("?")[0] for frame in grader.page.frames] == [where]
    assert grader.page.request.get(f"{where}page.html").status == 404
