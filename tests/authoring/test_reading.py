"""How long a notebook takes to read, and each thing that keeps it from being read well."""

from __future__ import annotations

import nbformat
import pytest

from authoring import reading
from authoring.replay import Cell
from codesign.listing import MIME
from codesign.predictions import MIME as PREDICTION

V4 = nbformat.v4


def notebook(*cells):
    """Text is prose where it begins with #, or code with outputs."""
    made = V4.new_notebook()
    for cell in cells:
        text, outputs = cell if isinstance(cell, tuple) else (cell, [])
        new = V4.new_markdown_cell if text.startswith(("#", "*")) else V4.new_code_cell
        made.cells.append(new(text))
        if outputs:
            made.cells[-1].outputs = outputs
    return made


def figure(alt: str | None = "a line"):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return V4.new_output("display_data", {"image/png": "x"}, metadata=metadata)


def good():
    predictions = "\n".join(f'p{n} = plot.predict("how?", "", (0, 1))' for n in range(4))
    return notebook(
        "# Lecture 7: x\n\n**Change this:** a.\n\n**Change this:** b.",
        (f"import plot, diagram\n{predictions}", [figure()]),
        "## 1. Why so?\n\nBecause.",
        "diagram.blank(1, 2)",
        "## 2. Limits\n\n- none.",
    )


def test_the_formula():
    listing = V4.new_output("display_data", {MIME: {"lines": 20}})
    made = notebook(
        "# one two three `code` [four](https://a.b/c) $$E = mc$$",
        ("a = 1; b = 2\n\n# comment\n" + "c = " + "x" * 100, [figure(), listing]),
        "plot.predict('x')",
    )
    setup = V4.new_code_cell("not read\n" * 50, metadata={"tags": ["setup"]})
    made.cells.insert(1, setup)
    found = reading.measure(made)
    assert (found.lines, found.words, found.figures, found.predictions) == (25 + 1, 4, 1, 1)
    assert found.minutes == pytest.approx(2.6 + 4 / 200 + 0.5 + 1)


def test_a_good_lecture_has_no_problem():
    assert reading.problems(good()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: n.cells.append(V4.new_code_cell("x = 1\n" * 29 + "y = 2\nz = 3")), "31 lines"),
        (lambda n: n.cells.insert(1, V4.new_code_cell("import torch\ntorch = 1")), "a module"),
        (lambda n: n.cells[1].outputs.append(figure(None)), "without alternative text"),
        (lambda n: n.cells.pop(3), "no diagram"),
        (lambda n: n.cells.__setitem__(0, V4.new_markdown_cell("# t")), "got 0 'Change this'"),
        (lambda n: n.cells.append(V4.new_markdown_cell("## 3. That is so\n\nYes.")), "That is so"),
        (lambda n: n.cells.append(V4.new_markdown_cell("word " * 18_000)), "allowed: 90 minutes"),
    ],
)
def test_each_problem_is_found(change, problem):
    made = good()
    change(made)
    assert [problem in one for one in reading.problems(made)] == [True]


def test_too_few_predictions():
    made = good()
    made.cells[1].source = "import plot, diagram\nplot.predict('x')"
    assert reading.problems(made) == ["got 1 predictions; allowed: 4 or more"]


def twice(*sources: str) -> list[str]:
    cells = [Cell(number, source) for number, source in enumerate(sources, 1)]
    return [name for name, _ in reading.bound_twice(cells)]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (("a = 1", "a = 2", "print(a)"), ["a"]),
        (("a = 1", "a = a + 1"), ["a"]),
        (("a = 1", "a += 1"), ["a"]),
        (("a = 1; print(a)", "a = 2; print(a)"), []),
        (("for i in x: print(i)", "for i in y: print(i)"), []),
        (("a = [i for i in x]", "i = 1", "i = 2"), []),
        (("def f(): return a", "a = 1", "a = 2"), ["a"]),
        (("def f(a): return a", "a = 1; a", "a = 2; a"), []),
        (("def f(): pass", "def f(): return 1", "f()"), ["f"]),
    ],
)
def test_a_name_that_travels_is_bound_once(sources, names):
    assert twice(*sources) == names


def asked(text: str, measured: str):
    question = V4.new_output("stream", name="stdout", text="Predict: How long? (1 ms to 9 ms)\n")
    said = f"measured {measured}, no prediction"
    data = {PREDICTION: {"question": "How long?"}, "text/plain": said}
    shown = V4.new_output("display_data", data)
    return notebook(text, ("p = predict()", [question]), ("p.measured()", [shown]))


def test_an_answer_above_its_question_is_found():
    assert reading.given_away(asked("# It takes 14.2 ms.", "14.2 ms")) == ["How long?: 14.2 ms"]
    assert reading.given_away(asked("# It takes 114.2 ms.", "14.2 ms")) == []
    assert reading.given_away(asked("# It takes long.", "14.2 ms")) == []
