"""The device table: ranges, sources, and the roofline's known answers."""

from __future__ import annotations

import re

import pytest

from codesign.hardware import device

BOARDS = list(device.DEVICES.values())


def test_the_table_spans_microcontroller_to_data_centre():
    assert len(BOARDS) >= 8
    peaks = [max(one.peak_ops_s.values()) for one in BOARDS]
    assert max(peaks) / min(peaks) > 1e6
    assert {"microcontroller", "phone", "gpu"} <= {one.kind for one in BOARDS}


@pytest.mark.parametrize("one", BOARDS, ids=lambda one: one.name)
def test_every_number_is_in_the_range_of_its_kind(one):
    low, high = {
        "microcontroller": (1e8, 1e10),
        "phone": (1e12, 1e14),
        "board": (1e11, 1e14),
        "accelerator": (1e13, 1e15),
        "gpu": (1e12, 1e16),
    }[one.kind]
    assert low < one.peak_ops_s[one.best_format] < high
    assert 1e8 < one.bandwidth_bytes_s < 1e13
    assert 1e5 < one.memory_bytes < 2e11
    assert 0.1 < one.ridge() < 3_000
    assert 2005 < one.year < 2030
    assert re.search(r"20[012]\d", one.source), "a source has a year"


@pytest.mark.parametrize("one", BOARDS, ids=lambda one: one.name)
def test_fewer_bits_are_never_slower(one):
    rates = [one.peak_ops_s[name] for name in device.FORMATS if name in one.peak_ops_s]
    assert rates == sorted(rates)


def test_the_roofline_is_flat_beyond_the_ridge_and_linear_before():
    one = device.get("TPU v1")
    assert one.ridge() == pytest.approx(92e12 / 34e9)
    assert one.attainable(1) == pytest.approx(34e9)
    assert one.attainable(one.ridge() * 2) == pytest.approx(92e12)
    assert one.attainable(one.ridge()) == pytest.approx(92e12)


def test_a_rate_of_another_format():
    one = device.get("A100")
    assert one.best_format == "int8"
    assert one.attainable(1e9, "fp32") == 19.5e12


def test_this_machine_is_measured():
    one = device.this_machine(threads=1, rounds=2, size=256, megabytes=8)
    assert one.kind == "cpu"
    assert 1e8 < one.peak_ops_s["fp32"] < 1e14
    assert 1e8 < one.bandwidth_bytes_s < 1e13
    assert "1 thread" in one.name


def made(**changed):
    facts = {"name": "x", "kind": "cpu", "year": 2020, "peak_ops_s": {"fp32": 1.0}}
    facts |= {"bandwidth_bytes_s": 1, "memory_bytes": 1, "source": "me"}
    return device.Device(**(facts | changed))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: device.get("A1000"), "got 'A1000'; allowed: one of STM32F407"),
        (lambda: device.get("STM32"), "got 'STM32'"),
        (lambda: device.get("K20"), "got 'K20'"),
        (lambda: device.get("A100").attainable(0), "got intensity 0"),
        (lambda: device.get("A100").attainable(float("nan")), "got intensity nan"),
        (lambda: device.get("TPU").ridge("fp32"), "got 'fp32'; allowed: int8"),
        (lambda: made(source=""), "and a source"),
        (lambda: made(peak_ops_s={"fp5": 1.0}), "rates of fp32"),
        (lambda: made(peak_ops_s={"fp32": 0.0}), "positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
