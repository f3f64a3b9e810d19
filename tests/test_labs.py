"""What students get: exactly what nbgrader makes of the sources, without a line of an answer."""

import re
from pathlib import Path

import nbformat
import pytest

from authoring import notebooks
from autograder.contract.definition import find
from autograder.intake import release

ROOT = Path(__file__).parents[1]
LABS = notebooks.labs(ROOT)
REGION = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1", re.S)
TELLING = 25  # a shorter line, `return mask`, may well stand elsewhere


def source(lab: str) -> nbformat.NotebookNode:
    return notebooks.assemble(ROOT / "solutions" / lab / f"{lab}.py")


def released(lab: str) -> Path:
    return ROOT / "labs" / lab / f"{lab}.ipynb"


def answers(lab: str) -> set[str]:
    """Telling lines that stand in answers and nowhere else in the source."""
    inside, outside = [], []
    for cell in source(lab).cells:
        found = [match[2] for match in REGION.finditer(cell.source)]
        rest = REGION.sub("", cell.source)
        if not found and cell.metadata.get("nbgrader", {}).get("solution"):
            found, rest = [cell.source], ""
        inside += "\n".join(found).splitlines()
        outside += rest.splitlines()
    kept = {line.strip() for line in outside}
    return {line.strip() for line in inside if len(line.strip()) > TELLING} - kept


def graded(lab: str) -> dict[str, nbformat.NotebookNode]:
    cells = nbformat.read(released(lab), as_version=4).cells
    cells = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def test_every_lab_is_released():
    folders = {path.name for path in (ROOT / "labs").iterdir() if path.is_dir()}
    assert folders == set(LABS)


@pytest.mark.parametrize("lab", LABS)
def test_regenerating_gives_the_committed_bytes(lab, tmp_path):
    made = release.generate(ROOT, lab, into=tmp_path)
    assert [path.name for path in made.iterdir()] == [f"{lab}.ipynb"]
    assert (made / f"{lab}.ipynb").read_bytes() == released(lab).read_bytes()


@pytest.mark.parametrize("lab", LABS)
def test_students_get_the_notebook_alone(lab):
    """In a fresh checkout nothing else lies there: no answer, no artifact of the reference."""
    kept = [path.name for path in released(lab).parent.iterdir() if path.suffix == ".py"]
    assert kept == []


@pytest.mark.parametrize("lab", LABS)
def test_no_line_of_an_answer_leaks(lab):
    lines = answers(lab)
    assert len(lines) > 20  # otherwise this looked for nothing
    cells = nbformat.read(released(lab), as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    assert [line for line in sorted(lines) if line in text] == []
    assert all(not cell.get("outputs") for cell in cells)
    assert "BEGIN SOLUTION" not in text
    assert "BEGIN HIDDEN" not in text


@pytest.mark.parametrize("lab", LABS)
def test_points_are_those_of_the_targets(lab):
    points, reflections = {}, 0.0
    for name, cell in graded(lab).items():
        if cell.metadata.nbgrader.solution:
            reflections += cell.metadata.nbgrader.points
            continue
        called = re.findall(r'lab\.check\("(\w+)"\)', cell.source)
        assert called == [name], f"cell {name} checks {called}"
        points[name] = cell.metadata.nbgrader.points
    assert points == {name: wanted.points for name, wanted in find(lab).targets.items()}
    assert sum(points.values()) + reflections == 100


@pytest.mark.parametrize("lab", LABS)
def test_answers_are_to_be_written_and_checks_are_locked(lab):
    for cell in nbformat.read(released(lab), as_version=4).cells:
        flags = cell.metadata.get("nbgrader")
        if flags and flags.solution and cell.cell_type == "code":
            assert "NotImplementedError" in cell.source
        if flags and flags.grade and not flags.solution:
            assert flags.locked
            assert cell.metadata.editable is False
