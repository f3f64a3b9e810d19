"""Answers are found whatever an editor has made of a notebook; each case was met with real work."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jupytext
import nbformat
import pytest

from autograder.contract.cells import grade_id, is_solution
from autograder.contract.files import ExchangeError
from autograder.intake import answers, pieces, reading
from autograder.intake.transplant import transplant

ROOT = Path(__file__).parents[3]
LABS = ("lab1_pruning", "lab2_quantization", "lab5_tinyml")


def released(lab):
    return nbformat.read(ROOT / "labs" / lab / f"{lab}.ipynb", as_version=4)


def solved(lab):
    """The reference's answers, in what was handed out: what a student's file looks like."""
    notebook = released(lab)
    reference = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    texts = {grade_id(c): c.source for c in reference.cells if grade_id(c)}
    for cell in notebook.cells:
        if grade_id(cell) and is_solution(cell):
            cell.source = texts[grade_id(cell)] + ("" if cell.cell_type == "code" else "\n\nMine.")
    return notebook


def found(lab, notebook, encoding="utf-8", **how):
    data = json.dumps(notebook, ensure_ascii=False, **how).encode(encoding)
    return answers.find(released(lab).cells, reading.cells(data))


def expected(lab):
    cells = [c for c in solved(lab).cells if grade_id(c) and is_solution(c)]
    return {grade_id(cell): cell.source for cell in cells}


def bare(notebook):
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def colab(notebook):
    """nbformat 4.0, no cell ids but Colab's own, no nbgrader; outputs and a kernel of its own."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {"id": cell.pop("id"), "outputId": f"{number:032x}", "colab": {"height": 9}}
    notebook.nbformat_minor = 0
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    return notebook


def old(notebook):
    for cell in notebook.cells:
        del cell["id"]
    notebook.nbformat_minor = 2
    return notebook


def through(fmt):
    def convert(notebook):
        return jupytext.reads(jupytext.writes(notebook, fmt=fmt), fmt=fmt)

    return convert


def random_ids(notebook):
    """What an editor that knows no ids saves: new ones, and no metadata."""
    for number, cell in enumerate(bare(notebook).cells):
        cell.id = f"{number:08x}"
    return notebook


def reversed_cells(notebook):
    notebook.cells.reverse()
    return notebook


def retyped(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_solution(cell):
            cell.cell_type = "raw"
    return notebook


def windows(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    return notebook


TRIPS = {
    "as it is": lambda notebook: notebook,
    "Colab": colab,
    "nbformat 4.2": old,
    "no metadata": bare,
    "other ids, no metadata": random_ids,
    "moved": reversed_cells,
    "retyped": retyped,
    "Windows": windows,
    **{f"jupytext {fmt}": through(fmt) for fmt in ("py:percent", "py:light", "md", "Rmd")},
}
WITHOUT_GRADE_IDS = {"Colab", "no metadata", "other ids, no metadata"}


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("trip", TRIPS)
def test_nothing_is_lost_on_a_round_trip(lab, trip):
    got = found(lab, TRIPS[trip](solved(lab)))
    assert got.missing == ()
    assert got.sources == expected(lab)
    assert got.own == ()
    assert bool(got.repairs) == (trip in WITHOUT_GRADE_IDS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_any_encoding_with_a_mark_is_read(encoding):
    assert found(LABS[0], solved(LABS[0]), encoding).sources == expected(LABS[0])


# --- two cells with one id ------------------------------------------------------------------------

STUB = "def f(x):\n    raise NotImplementedError"
RIGHT = "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("texts", "one", "told"),
    [
        ((RIGHT, RIGHT), RIGHT, ""),
        ((RIGHT, ""), RIGHT, ""),
        ((STUB, RIGHT), RIGHT, ""),
        ((STUB, STUB), STUB, ""),
        (("import math\n", RIGHT), f"import math\n\n{RIGHT}", "joined in order"),
        (("A = 1", "B = 2", RIGHT), f"A = 1\nB = 2\n{RIGHT}", "3 cells"),
        (("def f(x):", "    return x"), "def f(x):\n    return x", "joined in order"),
        (("%matplotlib inline\nA = 1", RIGHT), f"%matplotlib inline\nA = 1\n{RIGHT}", "joined"),
        (("def f(x): return 0", RIGHT), RIGHT, "the last one counts"),
        (("def f(x): return (", RIGHT), RIGHT, "the last one counts"),
        (("for i in x:\n    A = 1", "A = 2"), "A = 2", "the last one counts"),
    ],
)
def test_of_several_cells_with_one_id_comes_one_answer(texts, one, told):
    text, how, differ = pieces.one_of(texts, pieces.Slot("f", "code", STUB))
    assert text == one
    assert told in how
    assert differ == bool(told)


@pytest.mark.parametrize(
    "scratch", ["f?", "files = !ls", "out = %timeit -o f(1)", "%%bash\nls", "as he said", "f(1) ="]
)
def test_a_copy_that_holds_something_else_replaces_no_answer(scratch):
    text, how, _ = pieces.one_of([RIGHT, scratch], pieces.Slot("f", "code", STUB))
    assert text.startswith(RIGHT)
    assert how


def test_of_two_tries_and_their_tests_the_last_try_counts():
    slot = pieces.Slot("f", "code", STUB)
    tests = ["w = 1\nf(w)", "w = 2\nf(w)"]
    text, how, _ = pieces.one_of([RIGHT, *tests], slot)
    assert text == RIGHT
    assert "the last one counts" in how
    older = RIGHT.replace("return x", "return 0")
    assert pieces.one_of([older, "A = 1", RIGHT], slot)[0] == f"A = 1\n{RIGHT}"


def test_what_python_wants_at_the_top_is_there():
    slot = pieces.Slot("f", "code", STUB)
    text, _, _ = pieces.one_of(["A = 1", f"from __future__ import annotations\n{RIGHT}"], slot)
    assert text == f"from __future__ import annotations\nA = 1\n{RIGHT}"
    compile(text, "cell", "exec")


def test_prose_that_was_split_is_joined_and_a_second_try_is_not():
    slot = pieces.Slot("why", "markdown", "**Why?** (3 points)\n\n*Your answer here.*")
    first, second = "**Why?** (3 points)\n\nBecause", "of the bytes."
    assert pieces.one_of([first, second], slot)[0] == f"{first}\n{second}"
    assert pieces.one_of([first, first + " I say so"], slot)[0] == first + " I say so"


def test_an_answer_beside_its_stub_is_the_answer():
    notebook = released(LABS[0])
    right = next(t for n, t in expected(LABS[0]).items() if n == "solution_nm_prune")
    notebook.cells.append(nbformat.v4.new_code_cell(right))
    got = found(LABS[0], notebook)
    assert got.sources["solution_nm_prune"] == right
    assert "the given one is empty" in "".join(got.repairs)
    assert got.own == ()


def test_both_versions_are_kept_for_a_person():
    notebook = solved(LABS[0])
    [cell] = [c for c in notebook.cells if grade_id(c) == "solution_nm_prune"]
    other = copy.deepcopy(cell)
    other.source = cell.source.replace("return", "return 1 *")
    notebook.cells.append(other)
    got = found(LABS[0], notebook)
    assert got.sources["solution_nm_prune"] == other.source
    assert got.versions == {"solution_nm_prune": (cell.source, other.source)}
    assert "2 cells with one id, the last one counts" in "".join(got.repairs)


def test_of_two_tries_without_an_id_both_run_and_no_stub_undoes_them():
    notebook = random_ids(solved(LABS[0]))
    [cell] = [c for c in notebook.cells if c.source.startswith("def nm_prune(")]
    other = copy.deepcopy(cell)
    other.id, other.source = "another", cell.source + "\n\n# a second try"
    notebook.cells.append(other)
    got = found(LABS[0], notebook)
    assert "solution_nm_prune" not in got.sources
    assert got.elsewhere == ("solution_nm_prune",)
    assert [source for _, source in got.own] == [cell.source, other.source]
    assert got.missing == ()


# --- own cells ------------------------------------------------------------------------------------


def test_own_cells_keep_their_place_and_given_ones_are_none():
    notebook = solved(LABS[0])
    place = next(i for i, c in enumerate(notebook.cells) if grade_id(c) == "solution_nm_prune")
    notebook.cells.insert(place, nbformat.v4.new_code_cell("import numpy as np"))
    notebook.cells.append(nbformat.v4.new_code_cell("helper = 1"))
    notebook.cells.append(nbformat.v4.new_markdown_cell("a note"))
    got = found(LABS[0], notebook)
    assert got.own == ((place, "import numpy as np"), (len(notebook.cells) - 3, "helper = 1"))
    assert found(LABS[0], random_ids(solved(LABS[0]))).own == ()


def test_imports_added_to_a_given_cell_count_and_the_rest_of_it_is_as_released():
    notebook = solved(LABS[0])
    places = [
        i for i, c in enumerate(notebook.cells) if c.source.startswith(("import heapq", "lab."))
    ]
    given = notebook.cells[places[0]]
    given.source = f"import math\n{given.source}\nfrom x import (\n    y)\nhelper = 1"
    check = notebook.cells[places[1]]
    check.source = f"import json\n{check.source}"
    got = found(LABS[0], notebook)
    assert got.own == ((places[0], "import math\nfrom x import y"), (places[1], "import json"))
    assert got.changed == (places[0] + 1,)


# --- what is no notebook --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (b"  \n", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"def f(x): return x", "no notebook"),
        (b'{"cells": [', "no notebook"),
        (b"[1, 2]", "JSON without cells"),
        (b'{"worksheets": [{"cells": []}]}', "nbformat 3"),
        (b"\xff\xfenot really", "no notebook"),
        (b"\x80abc", "not UTF-8"),
        (b"[" * 100_000, "no notebook"),
        (json.dumps({"cells": [{}] * 5_001}).encode(), "5,001 cells"),
    ],
)
def test_what_is_no_notebook_is_told_what_it_is(data, told):
    with pytest.raises(ExchangeError, match=told):
        reading.cells(data)


def test_outputs_do_not_count():
    notebook = solved(LABS[0])
    notebook.cells[5].outputs = [
        nbformat.v4.new_output("display_data", {"image/png": "A" * 30_000_000})
    ]
    assert found(LABS[0], notebook).sources == expected(LABS[0])


@pytest.mark.parametrize("cell", [None, 3, {}, {"source": 5}, {"metadata": []}, {"id": 4}])
def test_odd_cells_are_passed_over(cell):
    assert all(one.source == "" for one in reading.cells(json.dumps({"cells": [cell]}).encode()))


def test_an_image_in_a_written_answer_is_missed_aloud(tmp_path):
    notebook, name = solved("lab1_pruning"), "reflection_bottleneck"
    cell = next(cell for cell in notebook.cells if grade_id(cell) == name)
    cell.source += "\n![plot.png](attachment:plot.png)"
    cell.attachments = {"plot.png": {"image/png": "aGVsbG8="}}
    nbformat.write(notebook, tmp_path / "lab.ipynb")
    done = transplant(released("lab1_pruning"), tmp_path / "lab.ipynb")
    assert f"the image that was pasted into '{name}'" in " ".join(done.notes)
    assert done.waiting == (name,)
