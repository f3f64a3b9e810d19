"""The energy table: ranges, proportions, and a product counted by hand."""

from __future__ import annotations

import pytest

from codesign.hardware import energy


def test_every_figure_is_in_its_range_and_in_order():
    assert all(0.01 < pj < 5 for pj in energy.OPERATION_PJ.values())
    adds = [energy.OPERATION_PJ[f"{kind} add"] for kind in ("int8", "int16", "int32", "fp16")]
    assert adds == sorted(adds)
    words = [energy.WORD_PJ[memory] for memory in ("register", "SRAM", "DRAM")]
    assert words == sorted(words)
    assert 100 < words[2] / words[1] < 200  # EIE's 120x from DRAM to SRAM is of this table


def test_known_answers():
    assert energy.mac_pj("fp32") == pytest.approx(4.6)
    assert energy.mac_pj("int8") == pytest.approx(0.3)
    assert energy.access_pj("DRAM") == 640
    assert energy.access_pj("DRAM", 8) == 160
    assert energy.inference_pj(10, "int8", 64, "SRAM") == pytest.approx(3 + 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy.mac_pj("int4"), "got 'int4'; allowed: int8, fp16, fp32"),
        (lambda: energy.access_pj("disk"), "'disk'; allowed: >= 0 bits of register, SRAM, DRAM"),
        (lambda: energy.access_pj("SRAM", -1), "got -1 bits"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
