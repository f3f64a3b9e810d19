"""A Dask cluster, with real schedulers and workers: only who is fit judges, and nothing is lost."""

from __future__ import annotations

import signal
import threading
import time

import psutil
import pytest
from dask_cluster import DaskCluster, another_version, no_course
from echo_job import HANGS, echo
from toy_lab import DOUBLE, LAB, NBGRADERS_WARNINGS, half_zero, hand_in, judge_by_reading, judge_toy

from autograder.grading import cluster, fit_workers, pool, run
from autograder.grading.lost import Lost, Stopped
from autograder.sandbox import bubblewrap

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, *NBGRADERS_WARNINGS]
needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)
NO_PROGRAMS = {"PATH": "/nowhere"}  # no bwrap among them


@pytest.fixture
def dask(tmp_path):
    """An empty cluster of the test's own."""
    made = DaskCluster(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A scheduler and three workers."""
    made = DaskCluster(tmp_path_factory.mktemp("cluster"))
    made.scheduler()
    for _ in range(3):
        made.worker()
    made.wait_for(3)
    yield made
    made.end()


def units(count: int) -> list[bytes]:
    return [str(n).encode() for n in range(count)]


def right(count: int) -> dict[int, bytes]:
    return {n: b"answer to " + unit for n, unit in enumerate(units(count))}


def judged(made: DaskCluster, content, *, isolated: bool = False) -> dict[int, pool.Answer]:
    found: dict[int, pool.Answer] = {}
    for index, answer in cluster.on_dask(iter(content), made.address, isolated=isolated, job=echo):
        assert index not in found
        found[index] = answer
    return found


def test_it_answers_what_cannot_be_judged(three):
    found = judged(three, [b"1", b"raises", b"2"])
    assert (found[0], found[2]) == (b"answer to 1", b"answer to 2")
    assert isinstance(found[1], Lost)
    assert "the judge's own fault" in str(found[1])


def test_one_that_cannot_be_judged_is_tried_elsewhere(three):
    """On each of the three workers, as it may be the machine's fault; each is told once."""
    [lost] = judged(three, [b"raises on " + str(three.folder).encode()]).values()
    marks = {path.name for path in three.folder.glob("tried-*")}
    assert isinstance(lost, Lost)
    assert len(marks) == 3


def test_without_units_nobody_is_asked():
    assert dict(cluster.on_dask(iter([]), "tcp://127.0.0.1:9", isolated=True)) == {}


def test_a_scheduler_without_the_course_ends_it(dask):
    dask.scheduler(course=no_course(dask.folder / "none"))
    with pytest.raises(Stopped, match=r"the scheduler .* lacks the course .*autograder"):
        judged(dask, units(8))


def test_a_scheduler_of_another_version_ends_it(dask):
    dask.scheduler(course=another_version(dask.folder / "other"))
    with pytest.raises(Stopped, match=r"the scheduler .* has version .* install the same course"):
        judged(dask, units(8))


def test_no_scheduler_ends_it_in_bounded_time(monkeypatch, dask, capsys):
    monkeypatch.setattr(fit_workers, "ANSWER_S", 1.0)
    monkeypatch.setattr(fit_workers, "RETURN_S", 2.0)
    with pytest.raises(Stopped, match=r"stopped after 2 s: the scheduler .* does not answer"):
        judged(dask, units(1))
    assert "waiting up to 2 s" in capsys.readouterr().err


def test_no_worker_ends_it_in_bounded_time(monkeypatch, dask):
    monkeypatch.setattr(fit_workers, "FIT_S", 2.0)
    dask.scheduler()
    with pytest.raises(Stopped, match=r"stopped after 2 s: nobody .* \(there are no workers\)"):
        judged(dask, units(1))


def test_workers_of_another_version_alone_end_it(dask):
    dask.scheduler()
    dask.worker(course=another_version(dask.folder / "other"))
    with pytest.raises(Stopped, match=r"nobody .* can judge .*version .* where the submissions"):
        judged(dask, units(8))


def test_workers_of_another_version_and_without_the_course_that_join_judge_nothing(
    dask, monkeypatch
):
    """They join a run that goes on, and are there for the rest of it."""
    dask.scheduler()
    dask.worker()
    dask.wait_for(1)
    refused: dict[str, str] = {}

    def refuse(self, one, reason):
        refused[one] = reason
        plain(self, one, reason)

    def steadily():
        """Units without end until both strangers have been asked, and 40 more."""
        dask.worker(course=another_version(dask.folder / "other"))
        dask.worker(course=no_course(dask.folder / "none"))
        end = time.monotonic() + 40
        while len(refused) < 2:
            assert time.monotonic() < end, refused
            yield b"unit"
            time.sleep(0.02)
        yield from [b"unit"] * 40

    plain = fit_workers.FitWorkers.refuse
    monkeypatch.setattr(fit_workers.FitWorkers, "refuse", refuse)
    found = judged(dask, steadily())
    assert set(found.values()) == {b"answer to unit"}
    said = sorted(refused.values())
    assert "No module named 'autograder'" in said[0]
    assert "where the submissions come from" in said[1]


@needs_sandbox
def test_a_worker_without_bubblewrap_judges_nothing_where_isolation_is_asked_for(dask, capsys):
    dask.scheduler()
    dask.worker(**NO_PROGRAMS)
    dask.wait_for(1)
    with pytest.raises(Stopped, match=r"nobody .* can judge .*no sandbox here: bubblewrap"):
        judged(dask, units(24), isolated=True)
    assert judged(dask, units(2)) == right(2), "who asks for no isolation gets it judged"
    dask.worker()
    dask.wait_for(2)
    assert judged(dask, units(24), isolated=True) == right(24)
    assert capsys.readouterr().err.count("judges nothing: no sandbox here") == 2


def test_a_worker_that_was_not_asked_refuses_the_unit_itself(dask, monkeypatch, capsys):
    """As one that comes back, at the same address, with another version."""
    dask.scheduler()
    dask.worker(course=another_version(dask.folder / "other"))
    dask.worker()
    dask.wait_for(2)

    def trusting(self, one, said):
        self.fit.add(one)

    monkeypatch.setattr(fit_workers.FitWorkers, "_hear", trusting)
    assert judged(dask, units(24)) == right(24)
    assert "judges nothing: version" in capsys.readouterr().err


def test_a_unit_that_never_ends_is_lost_and_its_worker_left(dask, monkeypatch):
    monkeypatch.setattr(pool, "DEADLINE_S", 1.0)
    dask.scheduler()
    dask.worker()
    dask.worker()
    dask.wait_for(2)
    found = judged(dask, [HANGS, *units(12)])
    assert str(found.pop(0)) == "it took longer than 1 s"
    assert set(found.values()) == set(right(12).values())


@pytest.mark.parametrize("end", ["killed", "frozen"])
def test_a_scheduler_that_comes_back_is_waited_for(dask, end, monkeypatch, capsys):
    """Killed, or answering nothing more: the units in flight are sent to the one that follows."""
    monkeypatch.setattr(fit_workers, "ANSWER_S", 2.0)
    scheduler, worker = dask.scheduler(), dask.worker()
    dask.wait_for(1)

    def replace() -> None:
        if end == "frozen":
            scheduler.send_signal(signal.SIGSTOP)
            time.sleep(4)
        dask.end(scheduler, worker)
        dask.scheduler()
        dask.worker()

    replacing = threading.Thread(target=replace)

    def some():
        for n, unit in enumerate(units(40)):
            if n == 20:
                replacing.start()
            yield unit

    assert judged(dask, some()) == right(40)
    replacing.join()
    assert "does not answer" in capsys.readouterr().err


def test_a_scheduler_that_stays_away_ends_it_and_the_next_run_is_complete(
    course, dask, monkeypatch
):
    monkeypatch.setattr(fit_workers, "ANSWER_S", 2.0)
    monkeypatch.setattr(fit_workers, "RETURN_S", 2.0)
    for number in range(6):
        hand_in(course, f"student{number}")
    scheduler, worker = dask.scheduler(), dask.worker()
    dask.wait_for(1)
    options = {"unisolated": True, "progress": False}
    done, said = [], None
    try:
        for one in run.grade(
            course.root, LAB, scheduler=dask.address, job=judge_by_reading, **options
        ):
            done.append(one)
            if len(done) == 2:
                dask.end(scheduler, worker)
    except Stopped as error:
        said = str(error)
    assert "does not answer" in said
    assert {one.points for one in done} == {5}
    again = list(run.grade(course.root, LAB, workers=0, job=judge_by_reading, **options))
    assert {one.student: one.points for one in again} == {f"student{n}": 5 for n in range(6)}


def replace_one(made: DaskCluster) -> None:
    """Kill a worker of the cluster and start another one."""
    made.end(made.running[1])
    made.worker()


SMALL_UNITS = 1_000
KILLS = (200, 500, 800)


def test_a_cluster_whose_workers_are_killed_answers_everything(three):
    """1,000 units on three worker processes; one after another is killed and replaced."""
    done = {}
    for index, answer in cluster.on_dask(
        iter(units(SMALL_UNITS)), three.address, isolated=False, job=echo
    ):
        assert index not in done
        done[index] = answer
        if len(done) in KILLS:
            replace_one(three)
    assert done == right(SMALL_UNITS)


CLASS = 250  # of 1,000, four times as long, the same came out
KILLED_AT = (50, 125, 200)


@pytest.mark.attack
def test_a_class_is_graded_on_a_cluster(course, three):
    """Real submissions in real sandboxes; workers are killed, and the grader's memory stays."""
    model, wrong = half_zero(), {f"student{n:04}" for n in range(0, CLASS, 7)}
    for number in range(CLASS):
        student = f"student{number:04}"
        hand_in(course, student, "def double(x): return x" if student in wrong else DOUBLE, model)
    done, memory = {}, []
    unisolated = not bubblewrap.available()
    for one in run.grade(
        course.root,
        LAB,
        scheduler=three.address,
        unisolated=unisolated,
        progress=False,
        job=judge_toy,
    ):
        assert one.student not in done
        done[one.student] = one.points
        memory.append(psutil.Process().memory_full_info().uss)
        if len(done) in KILLED_AT:
            replace_one(three)
    assert done == {f"student{n:04}": 5 for n in range(CLASS)} | dict.fromkeys(wrong, 3)
    with course.gradebook() as gradebook:
        scores = {s.student.id: s.score for s in gradebook.assignment_submissions(LAB)}
    assert scores == done
    assert memory[-1] < 1.1 * memory[len(memory) // 10] + 2**24, memory[:: len(memory) // 10]
