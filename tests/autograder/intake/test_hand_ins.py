"""Whatever an editor or a reader does to a notebook, the judge runs the same answers.

How the sandbox takes cells that raise, print or never end is tried in ``test_own_cells.py``, and
two of these cases are graded there end to end.
"""

from __future__ import annotations

import copy
import shutil
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

from autograder.contract.cells import grade_id, is_own, is_solution
from autograder.intake import release
from autograder.intake.answers import plain
from autograder.intake.course import Course, NotReleased
from autograder.intake.transplant import is_by_hand, transplant
from samples import hand_ins

ROOT = Path(__file__).parents[3]
LABS = ("lab1_pruning", "lab2_quantization", "lab5_tinyml")
# Cases whose answer has another text than the reference's.
ALTERED = {
    "split in JupyterLab",
    "helper in a cell of one's own",
    "import in a cell of one's own",
    "import added to a given cell",
    "a line of 100,000 characters",
    "a loop without end below the function",
    "3 MB printed below the function",
    "#@title",
    "magics",
    "%%time",
    "drive.mount in the answer",
    "a cell moved, a helper not",
    "a scratch copy below",
}
OWN = {
    "own cell that raises": ["1 / 0"],
    "own cell that prints 3 MB": ["print('x' * 3_000_000)"],
    "own cell without end": ["while True: pass"],
    "own cell that trains anew": ["lab.produce('new', lambda: 1 / 0, fresh=True)"],
    "import in a cell of one's own": ["import math as mathematics"],
    "import added to a given cell": ["import math as mathematics"],
}


@pytest.fixture(scope="module", params=LABS)
def lab(request):
    """A lab's release, and its notebook with every answer."""
    course = Course.at(ROOT)
    return release.base(course, request.param), hand_ins.solved(course, request.param)


def answers(notebook):
    """The text of each answer; of several cells with one id, one below the other."""
    found = defaultdict(list)
    for cell in notebook.cells:
        if is_solution(cell):
            found[grade_id(cell)].append(cell.source)
    return {name: plain("\n".join(texts)) for name, texts in found.items()}


def expected(case, notebook, base):
    """The answers that a fair reader would find."""
    if not case.keeps:
        return answers(base)
    changed = case.changed(notebook)
    found = answers(changed if case.name in ALTERED else notebook)
    first, second, *_ = [name for name in found if name.startswith("solution_")]
    written = next(c for c in notebook.cells if c.cell_type == "markdown" and is_solution(c))
    told = {
        "written answer below": {grade_id(written): "And in other words."},
        "written answer split": {
            grade_id(written): plain(f"{written.source[:-7]} And in other words.")
        },
        "two answers merged": {first: f"{found[first]} {found[second]}", second: ""},
        "answer in its check's cell": {
            first: next(
                (plain(c.source) for c in changed.cells if "\n\nlab.check(" in c.source), ""
            )
        },
    }
    return found | told.get(case.name, {})


@pytest.mark.parametrize("case", hand_ins.CASES, ids=lambda case: case.name)
def test_the_answers_arrive(case, lab, tmp_path):
    base, notebook = lab
    case.write(notebook, tmp_path / "handed_in.ipynb")
    taken = transplant(base, tmp_path / "handed_in.ipynb")
    told = "; ".join(taken.notes)
    assert case.told in told
    assert bool(told) == bool(case.told)
    assert taken.refused != case.keeps
    assert answers(taken.notebook) == expected(case, notebook, base)
    own = [cell.source for cell in taken.notebook.cells if is_own(cell)]
    if "helper" not in case.name:
        assert own == OWN.get(case.name, [])
    else:
        [helper] = own
        assert helper.startswith("def helper(")
    released = [cell for cell in taken.notebook.cells if not is_own(cell)]
    given = {cell.id for cell in base.cells}
    assert [cell.id for cell in released if cell.id in given] == [cell.id for cell in base.cells]


@pytest.mark.parametrize("case", [c for c in hand_ins.CASES if not c.keeps], ids=lambda c: c.name)
def test_reflections_of_what_cannot_be_read_wait_for_a_person(case, lab, tmp_path):
    base, notebook = lab
    case.write(notebook, tmp_path / "handed_in.ipynb")
    taken = transplant(base, tmp_path / "handed_in.ipynb")
    assert set(taken.waiting) == {grade_id(c) for c in base.cells if is_by_hand(c)}
    assert len(taken.waiting) == 3


def test_both_versions_of_a_reflection_are_there_for_the_person(lab, tmp_path):
    base, notebook = lab
    changed = copy.deepcopy(notebook)
    cell = next(c for c in changed.cells if is_by_hand(c))
    other = copy.deepcopy(cell)
    other.id, other.source = "other", cell.source + " And <b>more</b>."
    changed.cells.append(other)
    nbformat.write(changed, tmp_path / "two.ipynb")
    taken = transplant(base, tmp_path / "two.ipynb")
    assert taken.waiting == (grade_id(cell),)
    page = "\n".join(c.source for c in taken.notebook.cells)
    assert page.count("In my own words.") == 3 + 2
    assert "the last one counts" in "".join(taken.notes)


def test_a_missing_reflection_waits_and_an_untouched_one_does_not(lab, tmp_path):
    base, notebook = lab
    changed = copy.deepcopy(notebook)
    missing, untouched, _ = [c for c in changed.cells if is_by_hand(c)]
    untouched.source = notebook.metadata[hand_ins.STUBS][grade_id(untouched)]
    changed.cells.remove(missing)
    nbformat.write(changed, tmp_path / "missing.ipynb")
    taken = transplant(base, tmp_path / "missing.ipynb")
    assert taken.waiting == (grade_id(missing),)
    assert f"no cell {grade_id(missing)!r}" in "".join(taken.notes)


def test_what_lies_in_labs_is_no_base(lab, tmp_path):
    """A host who did the lab in ``labs/``: what others leave out is not taken from there."""
    base, notebook = lab
    root = tmp_path / "course"
    name = next(lab for lab in LABS if release.base(Course.at(ROOT), lab) == base)
    for path in (Path("nbgrader_config.py"), Path("solutions") / name / f"{name}.ipynb"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    released = root / "labs" / name / f"{name}.ipynb"
    released.parent.mkdir(parents=True)
    nbformat.write(notebook, released)
    course = Course.at(root)
    assert release.base(course, name) == base
    (root / "solutions" / name / f"{name}.ipynb").unlink()
    with pytest.raises(NotReleased, match="was written into"):
        release.base(course, name)
    nbformat.write(base, released)
    assert release.base(course, name) == base
