"""Latency: interleaving, pairing, statistics. A fake clock makes every figure exact."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from codesign import measure, processor


class Clock:
    """Time that passes only where a test says so, and who was called when."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[str] = []

    def costs(self, name: str, seconds: float):
        def call() -> None:
            self.calls.append(name)
            self.now_s += seconds

        return call


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now_s)
    return clock


def test_a_function_three_times_slower_has_ratio_three(clock):
    fast, slow = clock.costs("fast", 0.01), clock.costs("slow", 0.03)
    measured = measure.latency({"fast": fast, "slow": slow}, rounds=7)
    ratio = measured.ratio("slow", "fast")
    assert ratio.median == pytest.approx(3)
    assert ratio.iqr == pytest.approx(0, abs=1e-9)
    assert (ratio.n, ratio.unit) == (7, "×")
    assert measured.ratio("fast", "slow").median == pytest.approx(1 / 3)
    assert measured["slow"].median == pytest.approx(0.03)
    assert measured["slow"].unit == "s"


def test_every_round_runs_every_candidate_once_in_changing_order(clock):
    names = ["a", "b", "c"]
    measure.latency({n: clock.costs(n, 0.01) for n in names}, rounds=20, warm_up=2)
    assert sorted(clock.calls[:6]) == sorted(2 * names), "the warm-up"
    rounds = [clock.calls[6 + 3 * i : 9 + 3 * i] for i in range(20)]
    assert len(clock.calls) == 6 + 60
    assert all(sorted(played) == names for played in rounds)
    assert len({tuple(played) for played in rounds}) > 1


def test_the_order_follows_the_seed(clock):
    orders = []
    for seed in (0, 0, 1):
        clock.calls.clear()
        measure.latency({n: clock.costs(n, 0.01) for n in "abcd"}, rounds=10, seed=seed)
        orders.append(tuple(clock.calls))
    assert orders[0] == orders[1] != orders[2]


def test_a_machine_that_slows_down_leaves_the_paired_ratio_alone(clock):
    drift = iter(np.linspace(1, 4, 200))
    speed = [1.0]

    def costs(seconds: float, last: bool):
        def call() -> None:
            clock.now_s += seconds * speed[0]

        return call

    rounds = 20
    calls = {"a": costs(0.01, False), "b": costs(0.02, True)}
    counted = {"n": 0}

    def slower(call):
        def both() -> None:
            call()
            counted["n"] += 1
            if counted["n"] % 2 == 0:
                speed[0] = float(next(drift))

        return both

    measured = measure.latency({k: slower(v) for k, v in calls.items()}, rounds=rounds, warm_up=1)
    assert measured.ratio("b", "a").median == pytest.approx(2)
    assert measured.ratio("b", "a").iqr == pytest.approx(0, abs=1e-9)
    assert measured["a"].iqr > 0.001


def test_a_fast_function_is_repeated_until_a_sample_is_long_enough(clock):
    measured = measure.latency({"a": clock.costs("a", 1e-4)}, rounds=2, warm_up=1, sample_s=0.002)
    assert len(clock.calls) == 1 + 2 * 20
    assert measured["a"].median == pytest.approx(1e-4)


def test_a_function_that_takes_no_time_at_all_ends(clock):
    measured = measure.latency({"a": clock.costs("a", 0)}, rounds=2, warm_up=1, sample_s=1e-5)
    assert measured["a"].median == 0


@pytest.mark.parametrize(("candidates", "rounds"), [({}, 5), ({"a": print}, 1), ({"a": print}, 0)])
def test_too_little_to_measure_is_refused(candidates, rounds):
    with pytest.raises(ValueError, match=r"allowed: >= 1, >= 2 and >= 1"):
        measure.latency(candidates, rounds=rounds)


def test_threads_hold_while_timing_and_are_said():
    before = torch.get_num_threads()
    seen = []
    measured = measure.latency({"a": lambda: seen.append(torch.get_num_threads())}, rounds=2)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    assert "1 thread," in measured["a"].machine
    with pytest.raises(ValueError, match="0 threads"):
        measure.latency({"a": print}, threads=0)


def test_an_error_in_a_candidate_is_the_callers(clock):
    def broken() -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        measure.latency({"a": clock.costs("a", 1), "b": broken})


def test_a_name_that_was_not_measured_is_an_error(clock):
    measured = measure.latency({"a": clock.costs("a", 0.01)}, rounds=2)
    with pytest.raises(KeyError, match="b"):
        measured.ratio("a", "b")


def test_percentiles_of_known_samples():
    figure = measure.Measurement.of(np.array([5.0, 1.0, 2.0, 3.0, 4.0]), "s")
    assert (figure.median, figure.iqr, figure.n, figure.unit) == (3, 2, 5, "s")
    assert figure.machine == measure.machine()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.1, 10))
def test_median_and_spread_scale_and_ignore_the_order(samples, factor):
    values = np.array(samples)
    figure = measure.Measurement.of(values, "s")
    other = measure.Measurement.of(values[::-1] * factor, "s")
    assert other.median == pytest.approx(figure.median * factor, abs=1e-6)
    assert other.iqr == pytest.approx(figure.iqr * factor, abs=1e-6)
    assert (values <= figure.median + 1e-9).mean() >= 0.5
    assert (values >= figure.median - 1e-9).mean() >= 0.5


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        measure.Measurement.of(np.array([]), "s")


def test_the_standard_error_of_a_median_is_the_one_that_repetition_shows():
    rng = np.random.default_rng(0)
    runs = rng.normal(10, 2, (4000, 40))
    seen = np.median(runs, axis=1).std()
    said = np.mean([measure.Measurement.of(run, "s").standard_error for run in runs[:500]])
    assert said == pytest.approx(seen, rel=0.1)


def test_seconds_are_shown_in_milliseconds_and_ratios_as_they_are():
    assert str(measure.Measurement(0.0015, 0.0002, 9, "s", "m")) == "1.500 ms (IQR 0.200, n=9)"
    assert str(measure.Measurement(0.5, 0.1, 9, "×", "m")) == "0.500 × (IQR 0.100, n=9)"


def test_the_machine_names_processor_threads_and_torch(monkeypatch):
    known = processor.Processor("Acme", "family 6 model 1", ("AVX2", "VNNI"), 2)
    monkeypatch.setattr(processor, "this", lambda: known)
    threads = torch.get_num_threads()
    try:
        for count, said in ((1, "1 thread"), (3, "3 threads")):
            torch.set_num_threads(count)
            assert measure.machine() == (
                f"Acme (family 6 model 1), AVX2 VNNI, 2 cores, {said}, torch {torch.__version__}"
            )
            assert measure.machine_facts()["threads"] == count
    finally:
        torch.set_num_threads(threads)


def test_the_machine_fits_into_a_caption():
    assert len(measure.machine()) < 120


def test_inference_runs_the_model_as_it_is_deployed():
    seen = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes = self.training, torch.is_inference_mode_enabled()
            seen.append((tuple(x.shape), x.is_contiguous(memory_format=torch.channels_last), modes))
            return x

    call = measure.inference(Probe().train(), (2, 3, 8, 8))
    first, second = call(), call()
    assert seen == [((2, 3, 8, 8), True, (False, True))] * 2
    assert torch.equal(first, second)
    assert torch.equal(first, measure.inference(Probe(), (2, 3, 8, 8))())


def test_inference_takes_other_shapes_too():
    assert measure.inference(nn.Linear(5, 2), (4, 5))().shape == (4, 2)
