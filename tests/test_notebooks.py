"""Every published notebook is in step with its source, executed, fresh, and small enough."""

import ast
import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

from authoring import names, notebooks, reading

ROOT = Path(__file__).parents[1]
UNREVISED = ("01", "04", "05", "06", "10", "11")  # lectures from before the reading test
SOURCES = notebooks.sources(ROOT)
LECTURES = [source for source in SOURCES if source.parent.name in ("lectures", "further")]
# One after another the others join them; what is new has to read well from the start.
READ_WELL = [source for source in LECTURES if source.name[:2] not in UNREVISED]


def name(source: Path) -> str:
    return source.stem


def read(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code(source: Path) -> list[str]:
    cells = notebooks.assemble(source).cells
    return [
        cell.source
        for cell in cells
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", [])
    ]


def test_there_are_lectures_and_labs():
    assert "03_pruning_and_sparsity_1" in map(name, LECTURES)
    assert "lab1_pruning" in notebooks.labs(ROOT)


def test_every_notebook_has_a_source():
    built = {source.with_suffix(".ipynb") for source in SOURCES}
    found = {*ROOT.glob("lectures/**/*.ipynb"), *ROOT.glob("solutions/*/*.ipynb")}
    assert found == built


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_in_step_executed_and_fresh(source):
    assert notebooks.check(source) == []


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_opens_with_title_badge_and_setup(source):
    first, setup = notebooks.assemble(source).cells[:2]
    assert first.source.startswith("# ")
    assert "[![Open in Colab]" in first.source
    assert setup.metadata.get("tags") == ["setup"]


@pytest.mark.parametrize("source", LECTURES, ids=name)
def test_a_lectures_cells_hold_one_idea_each(source):
    lengths = [len(cell.splitlines()) for cell in code(source)]
    assert max(lengths) <= 20
    assert median(lengths) <= 8


@pytest.mark.parametrize("source", LECTURES, ids=name)
def test_a_lecture_shows_figures_and_ends_with_its_claims(source):
    outputs = [output for cell in read(source).cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    calls = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for cell in code(source)
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call)
    }
    assert {"theme", "claims"} <= calls


@pytest.mark.parametrize("source", READ_WELL, ids=name)
def test_a_lecture_reads_well_in_ninety_minutes(source):
    whole = source.parent.name == "lectures"
    assert reading.problems(read(source), whole=whole) == []


@pytest.mark.parametrize("source", READ_WELL, ids=name)
def test_a_measured_number_does_not_stand_above_its_question(source):
    assert reading.given_away(read(source)) == []


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_one_parameters_cell_at_most(source):
    tagged = [
        cell
        for cell in notebooks.assemble(source).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) <= 1


@pytest.mark.parametrize("source", LECTURES, ids=name)
def test_no_later_cell_changes_what_a_slider_draws_from(source):
    """A slider moves after the whole notebook has run, and finds what the names stand for then."""
    trees = [ast.parse(cell) for cell in code(source) if not cell.startswith(("%", "!"))]
    functions = {
        node.name: node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    for place, tree in enumerate(trees):
        for slider in re.findall(r"plot\.explore\((\w+)", ast.unparse(tree)):
            used = names.read(ast.Module([functions[slider]], []))
            later = {found for below in trees[place + 1 :] for found in names.written(below)}
            assert used & later == set(), slider
