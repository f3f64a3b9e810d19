"""Every lecture with mutants: its own asserts catch them, now as when they were judged."""

import random
from pathlib import Path

import pytest

from authoring import proof
from authoring.replay import SURVIVED

LECTURES = proof.proved(Path(__file__).parents[1])
SHARE = 0.05  # judged again each time, of one lecture


def name(lecture: Path) -> str:
    return lecture.stem


@pytest.mark.slow
@pytest.mark.lectures
@pytest.mark.parametrize("lecture", LECTURES, ids=name)
def test_the_asserts_catch_every_mutant(lecture):
    matrix = proof.kept(lecture) or proof.prove(lecture)
    assert matrix.holes == []


@pytest.mark.slow
@pytest.mark.lectures
@pytest.mark.skipif(not LECTURES, reason="no lecture has mutants yet")
def test_what_is_judged_again_is_caught_again():
    """What crashes on one processor may be caught on another; it must not survive."""
    seed = random.randrange(10**6)
    lecture = LECTURES[seed % len(LECTURES)]
    matrix = proof.kept(lecture)
    if matrix is None:
        return  # all of it was judged just now
    before = {line.mutation.name: line.outcome.kind for line in matrix.lines}
    again = proof.prove(lecture, jobs=1, share=SHARE, seed=seed)
    alive = {line.mutation.name for line in again.lines if line.outcome.kind == SURVIVED}
    assert all(before[name] == SURVIVED for name in alive), f"seed {seed} of {lecture.stem}"
