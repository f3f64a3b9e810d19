"""Workers: every unit is answered once, whatever becomes of the process that had it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import toy_lab
from echo_job import CRASHES, HANGS, echo
from toy_lab import DOUBLE, LAB, NBGRADERS_WARNINGS, half_zero, hand_in, judge_toy

from autograder.grading import pool, run
from autograder.sandbox import bubblewrap

pytestmark = NBGRADERS_WARNINGS


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
    monkeypatch.setattr(pool, "DEADLINE_S", 20.0)  # a worker's start counts
    monkeypatch.setattr(pool, "ATTEMPTS", 1)
    found = answers([b"1", HANGS, b"2"])
    assert "longer than 20 s" in str(found[1])
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A real Dask scheduler and three worker processes; returns its address and the workers."""
    pytest.importorskip("distributed")
    tmp_path = tmp_path_factory.mktemp("cluster")
    # Workers import what they run: the course from here, the jobs beside the toy lab.
    places = [Path.cwd(), Path(toy_lab.__file__).parent]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    common = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m"]
    common_options = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = subprocess.Popen(
        [*dask, "distributed.cli.dask_scheduler", *common_options, "--port=0", "--host=127.0.0.1"],
        **common,
    )
    worker = [*dask, "distributed.cli.dask_worker", *common_options]
    worker += ["--nworkers", "1", "--nthreads", "1", "--no-nanny"]
    workers = [subprocess.Popen(worker, **common, cwd=tmp_path) for _ in range(3)]
    from distributed import Client

    with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=120)
        yield client.scheduler.address, workers, worker, common
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_cluster_answers_what_cannot_be_judged(cluster):
    found = dict(pool.on_dask(iter([b"1", b"raises", b"2"]), cluster[0], echo))
    assert (found[0], found[2]) == (b"answer to 1", b"answer to 2")
    assert "the judge's own fault" in str(found[1])


def test_a_cluster_with_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(pool, "source_version", lambda: "another")
    with pytest.raises(ValueError, match="another version of the course"):
        dict(pool.on_dask(iter([b"1"]), cluster[0], echo))


def replace_one(cluster) -> None:
    """Kill a worker of the cluster and start another one."""
    _, workers, command, common = cluster
    victim = workers.pop(0)
    victim.kill()
    victim.wait()
    workers.append(subprocess.Popen(command, **common))


SMALL_UNITS = 1_000
KILLS = (200, 500, 800)


@pytest.mark.slow
def test_a_cluster_whose_workers_are_killed_answers_everything(cluster):
    """1,000 units on three worker processes; one after another is killed and replaced."""
    done = {}
    units = (str(n).encode() for n in range(SMALL_UNITS))
    for index, answer in pool.on_dask(units, cluster[0], echo):
        assert index not in done
        done[index] = answer
        if len(done) in KILLS:
            replace_one(cluster)
    assert done == {n: b"answer to " + str(n).encode() for n in range(SMALL_UNITS)}


CLASS = 250  # of 1,000, four times as long, the same came out
KILLED_AT = (50, 125, 200)


@pytest.mark.attack
@pytest.mark.slow
def test_a_class_is_graded_on_a_cluster(course, cluster):
    """Real submissions in real sandboxes; workers are killed, and the grader's memory stays."""
    model, wrong = half_zero(), {f"student{n:04}" for n in range(0, CLASS, 7)}
    for number in range(CLASS):
        student = f"student{number:04}"
        hand_in(course, student, "def double(x): return x" if student in wrong else DOUBLE, model)
    done, memory = {}, []
    unisolated = not bubblewrap.available()
    for one in run.grade(
        course.root, LAB, scheduler=cluster[0], unisolated=unisolated, progress=False, job=judge_toy
    ):
        assert one.student not in done
        done[one.student] = one.points
        memory.append(psutil.Process().memory_full_info().uss)
        if len(done) in KILLED_AT:
            replace_one(cluster)
    assert done == {f"student{n:04}": 5 for n in range(CLASS)} | dict.fromkeys(wrong, 3)
    with course.gradebook() as gradebook:
        scores = {s.student.id: s.score for s in gradebook.assignment_submissions(LAB)}
    assert scores == done
    assert memory[-1] < 1.1 * memory[len(memory) // 10] + 2**24, memory[:: len(memory) // 10]
