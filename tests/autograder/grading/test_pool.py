"""Workers: every unit is answered once, whatever becomes of the process that had it."""

from __future__ import annotations

from echo_job import CRASHES, HANGS, echo

from autograder.grading import pool


def answers(units: list[bytes], workers: int = 2) -> dict[int, pool.Answer]:
    found: dict[int, pool.Answer] = {}
    for index, answer in pool.local(iter(units), workers, echo):
        assert index not in found
        found[index] = answer
    return found


def test_every_unit_is_answered_once():
    units = [str(n).encode() for n in range(40)]
    assert answers(units) == {n: b"answer to " + unit for n, unit in enumerate(units)}
    assert answers([]) == {}


def test_a_killed_worker_costs_time_alone(tmp_path):
    units = [b"1", b"once " + str(tmp_path / "a").encode(), b"2", b"3"]
    assert answers(units) == {n: b"answer to " + unit for n, unit in enumerate(units)}


def test_a_unit_that_ends_every_worker_is_given_up_with_the_reason():
    found = answers([b"1", CRASHES, b"2", b"raises", b"3"])
    assert [found[n] for n in (0, 2, 4)] == [b"answer to 1", b"answer to 2", b"answer to 3"]
    assert f"tried {pool.ATTEMPTS} times: its process ended with -9" in str(found[1])
    assert "the judge's own fault" in str(found[3])


def test_without_workers_the_judges_own_fault_is_an_answer_too():
    found = dict(pool.here(iter([b"1", b"raises", b"2"]), echo))
    assert (found[0], found[2]) == (b"answer to 1", b"answer to 2")
    assert "the judge's own fault" in str(found[1])


def test_a_unit_that_never_ends_is_killed(monkeypatch):
    """Once: it would take as long again."""
    monkeypatch.setattr(pool, "DEADLINE_S", 10.0)  # a worker's start counts
    found = answers([b"1", HANGS, b"2"])
    assert str(found[1]) == "judging was tried once: it took longer than 10 s"
    assert found[2] == b"answer to 2"


def test_units_are_taken_when_there_is_room():
    taken = []

    def units():
        for n in range(20):
            taken.append(n)
            yield str(n).encode()

    source = pool.local(units(), 2, echo)
    next(source)
    assert len(taken) <= 4
    source.close()
