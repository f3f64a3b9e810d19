"""`course prove` tells asserts that catch from asserts that do not, on a lecture of five cells."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from authoring import mutations, proof, replay
from authoring.replay import Cell

LECTURE = '''# %% tags=["setup"]
raise RuntimeError("the setup cell is not run")

# %% tags=["parameters"] short={"SIZE": 4}
SIZE = 10**9

# %%
values = list(range(SIZE))


# %%
def total(values, start=0):
    """The sum."""
    for value in values:
        start = start + value
    return start


# %%
slow = [value for value in values if value < 0]
print("not between the function and its assert", slow)

# %%
found = total(values)
assert found == SIZE * (SIZE - 1) / 2
assert total([], 5) == 5
'''
MUTANTS = """
BUILT = ["total"]
WRITTEN = {"total": {"the last one": ("start = start + value", "start = value")}}
EQUIVALENT = {}
"""


@pytest.fixture
def lecture(tmp_path):
    (tmp_path / "lectures" / "mutants").mkdir(parents=True)
    path = tmp_path / "lectures" / "07_toy.py"
    path.write_text(LECTURE)
    proof.mutants_file(path).write_text(MUTANTS)
    return path


def kinds(matrix: proof.Matrix) -> dict[str, str]:
    return {line.mutation.name: line.outcome.kind for line in matrix.lines}


def test_every_mutant_of_the_toy_is_caught(lecture):
    found = kinds(proof.prove(lecture, jobs=2))
    assert found["total: the last one"] == replay.CAUGHT
    assert found["total: start + value -> start - value"] == replay.CAUGHT
    assert found["total: for value in values: -> nothing"] == replay.CAUGHT
    # the default is never used by the toy: told as survivors
    assert found["total: 0 -> 1"] == replay.CAUGHT
    matrix = proof.prove(lecture, jobs=1)
    assert matrix.holes == []
    assert matrix.rate() == 1
    assert "100% of the generated ones" in str(matrix)


def test_a_weakened_assert_makes_holes(lecture):
    lecture.write_text(LECTURE.replace("assert found == SIZE", "assert found == found or SIZE"))
    matrix = proof.prove(lecture)
    assert any("start + value -> start - value: survived" in hole for hole in matrix.holes)
    assert any("the last one: survived" in hole for hole in matrix.holes)
    assert "HOLE" in str(matrix)


def test_a_function_that_no_assert_reads_is_all_holes(lecture):
    lecture.write_text(LECTURE[: LECTURE.index("found = total")])
    matrix = proof.prove(lecture)
    assert {line.outcome.where for line in matrix.lines} == {"no assert reaches it"}
    assert matrix.rate() == 0
    assert any("0% of the generated mutants" in hole for hole in matrix.holes)


def test_survivors_need_a_reason_and_reasons_a_survivor(lecture):
    odd = LECTURE.replace("for value in values:", "for value in values[: len(values) * 2]:")
    lecture.write_text(odd)
    (survivor,) = (hole for hole in proof.prove(lecture).holes if "2 -> 3" in hole)
    name = survivor.removesuffix(": survived")
    reason = f"EQUIVALENT = {{{name!r}: 'longer than the list', 'total: none': 'x'}}"
    proof.mutants_file(lecture).write_text(MUTANTS.replace("EQUIVALENT = {}", reason))
    holes = proof.prove(lecture).holes
    assert not any("2 -> 3" in hole for hole in holes)
    assert "total: none: a reason for what does not survive" in holes


def test_a_function_without_a_mutant_by_hand_is_a_hole(lecture):
    proof.mutants_file(lecture).write_text('BUILT = ["total"]\nWRITTEN = {}\nEQUIVALENT = {}\n')
    assert "total: no mutant by hand" in proof.prove(lecture).holes


def test_a_strangers_faults_have_a_rate_of_their_own(lecture):
    further = (
        'FURTHER = {"total": {"minus": ("+ value", "- value"), "same": ("value in", " value in")}}'
    )
    proof.mutants_file(lecture).write_text(f"{MUTANTS}\n{further}")
    matrix = proof.prove(lecture)
    assert matrix.rate(proof.FURTHER) == 0.5
    assert matrix.holes == ["50% of the further mutants are caught; at least 85%"]


def test_a_crash_counts_for_nothing_and_by_hand_is_a_hole(lecture):
    crash = MUTANTS.replace('"start = value"', '"start = nothing"')
    proof.mutants_file(lecture).write_text(crash)
    matrix = proof.prove(lecture)
    assert any("the last one: crashed NameError" in hole for hole in matrix.holes)
    assert matrix.rate() == 1


def test_what_never_ends_is_killed(lecture, monkeypatch):
    monkeypatch.setattr(proof, "LIMIT_S", 1.0)
    endless = MUTANTS.replace('"start = value"', "\"exec('while True: pass')\"")
    proof.mutants_file(lecture).write_text(endless)
    assert kinds(proof.prove(lecture))["total: the last one"] == replay.HUNG


def test_a_notebook_that_fails_unchanged_proves_nothing(lecture):
    lecture.write_text(LECTURE.replace("SIZE - 1", "SIZE"))
    with pytest.raises(ValueError, match="cell 4 as it stands: caught"):
        proof.prove(lecture)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('BUILT = ["none"]\nWRITTEN = {}\nEQUIVALENT = {}', "'none', defined in 0 cells"),
        ("BUILT = []\nWRITTEN = {}", "has no 'EQUIVALENT'"),
        (MUTANTS.replace("start = start + value", "gone"), "got 0 times 'gone'"),
        (MUTANTS.replace('"start = start + value"', '"value"'), "times 'value'; allowed: 1"),
    ],
)
def test_a_wrong_mutants_file_is_told(lecture, text, match):
    proof.mutants_file(lecture).write_text(text)
    with pytest.raises(ValueError, match=match):
        proof.prove(lecture)


def test_what_was_judged_is_kept_until_something_changes(lecture):
    assert proof.kept(lecture) is None
    matrix = proof.prove(lecture)
    proof.store(matrix, lecture)
    again = proof.kept(lecture)
    assert kinds(again) == kinds(matrix)
    assert (again.rate(), again.holes) == (matrix.rate(), [])
    lecture.write_text(LECTURE + "\n# a comment\n")
    assert proof.kept(lecture) is not None
    lecture.write_text(LECTURE + "\nassert True\n")
    assert proof.kept(lecture) is None


def test_a_stored_survivor_is_a_hole(lecture):
    path = proof.store(proof.prove(lecture), lecture)
    path.write_text(
        path.read_text().replace(
            '"total: the last one": "caught"', '"total: the last one": "survived"'
        )
    )
    assert proof.kept(lecture).holes == ["total: the last one: survived"]


def test_a_share_is_a_part_of_all(lecture):
    every = proof.prove(lecture)
    some = proof.prove(lecture, share=0.5, seed=1)
    assert 0 < len(some.lines) < len(every.lines)
    assert kinds(some).items() <= kinds(every).items()


# --- rules ---------------------------------------------------------------------------------------

SLIPS = '''
def f(a, b):
    """Text stays."""
    c = a.sum(1) if a.T @ b > 2 else -b
    g(a, b)
    return min(c, b) - 1
'''


def test_the_rules_make_the_slips_that_they_name():
    changes = [one.change for one in mutations.generated(SLIPS, "f")]
    for expected in (
        "a.T @ b > 2 -> a.T @ b >= 2",
        "a.T @ b > 2 -> a.T @ b < 2",
        "a.T -> a",
        "a.T @ b -> b @ a.T",
        "a.sum -> a.mean",
        "-b -> b",
        "g(a, b) -> g(b, a)",
        "g(a, b) -> nothing",
        "min -> max",
        "min(c, b) - 1 -> min(c, b) + 1",
        "min(c, b) - 1 -> 1 - min(c, b)",
        "1 -> 2",
        "1 -> 0",
    ):
        assert expected in changes, expected
    assert len(set(changes)) == len(changes)
    for one in mutations.generated(SLIPS, "f"):
        ast.parse(one.source)
        assert "Text stays." in one.source
        assert one.source != ast.unparse(ast.parse(SLIPS))


def test_a_class_is_mutated_too_and_another_name_refused():
    text = "class C:\n    def f(self):\n        return 1 + 2\n"
    assert "1 + 2 -> 1 - 2" in [one.change for one in mutations.generated(text, "C")]
    with pytest.raises(ValueError, match="got 'D'; allowed"):
        mutations.generated(text, "D")


# --- which cells run -----------------------------------------------------------------------------


def cells(*sources: str) -> list[Cell]:
    return [Cell(number, source) for number, source in enumerate(sources, 1)]


def test_only_what_lies_between_a_change_and_an_assert_runs():
    found = replay.between(
        cells(
            "def f(x): return x",
            "a = f(1)",
            "unused = f(2)",
            "plot(a)",
            "b = 3",
            "rows = []",
            "rows.append(a)",
            "assert rows == [b]",
            "assert b == 3",
        ),
        0,
    )
    assert [cell.number for cell in found] == [2, 5, 6, 7, 8]


def test_a_function_that_calls_the_changed_one_is_on_the_way():
    texts = ("def f(x): return x", "def g(x): return f(x)", "assert g(1) == 1")
    assert [cell.number for cell in replay.between(cells(*texts), 0)] == [2, 3]


def test_an_assert_of_a_library_is_no_catch(tmp_path):
    inner = tmp_path / "library.py"
    inner.write_text("def f():\n    assert False\n")
    space: dict = {"path": str(inner), "__builtins__": __builtins__}
    cell = Cell(1, "import runpy; runpy.run_path(path)['f']()")
    ((_, outcome),) = replay.outcomes(cell, [cell.source], [], space, jobs=1, limit_s=30)
    assert outcome.kind == replay.CRASHED
    assert Path(inner).name in outcome.where
