"""The answers that ``benchmarks/answers.py`` grades are there, and stand in for cells that are."""

from __future__ import annotations

import pytest
from solution_cells import cells

from autograder.contract.cells import grade_id
from autograder.contract.definition import find
from benchmarks import answers


@pytest.mark.parametrize("lab", answers.NAMED)
def test_every_answer_that_is_named_exists(lab):
    listed = answers.NAMED[lab].count(",") + answers.NAMED[lab].count(": ")
    found = answers.named(find(lab))
    assert len({one.name for one in found}) == len(found) == listed


@pytest.mark.parametrize("lab", answers.FAILING)
def test_what_fails_once_stands_in_for_a_cell(lab):
    ids = {grade_id(cell) for cell in cells(lab)}
    assert {one.cell for one in answers.FAILING[lab]} <= ids
