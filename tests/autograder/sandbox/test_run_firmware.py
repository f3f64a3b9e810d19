"""Handed-in C on the emulated board: guarded, painted with a secret, and counted."""

from __future__ import annotations

import pytest
import torch

from autograder.contract.verdict import StudentError
from autograder.sandbox import bubblewrap, process, run_firmware
from autograder.sandbox.student import KernelStudent

DOUBLE = """
#include <stdint.h>
void doubled(const int8_t *x, const int8_t *y, int8_t *out, int n) {
    for (int i = 0; i < n; i++) out[i] = (int8_t)(x[i] + 2 * y[i]);
}
"""
INFER = """
#include <stdint.h>
void infer(const int8_t *image, int32_t *logits) {
    for (int i = 0; i < 10; i++) logits[i] = image[i] * i;
}
"""
needs_sandbox = pytest.mark.skipif(
    not bubblewrap.available(), reason=f"no sandbox: {bubblewrap.why_not()}"
)


def case(n, guarded=True, said=None):
    x, y = torch.arange(n, dtype=torch.int8), torch.ones(n, dtype=torch.int8)
    out = torch.zeros(n, dtype=torch.int8)
    arguments = [x, {"flash": y}, out, n if said is None else said]
    return {"arguments": arguments, "guarded": guarded, "seed": 3}


def test_outputs_and_counts():
    short, long = run_firmware.calls(DOUBLE, "doubled", [case(3), case(40)])
    assert torch.equal(short["outputs"][1], torch.tensor([2, 3, 4], dtype=torch.int8))
    assert 0 < short["cycles"] < long["cycles"]
    assert short["instructions"] <= short["cycles"]


def test_the_same_figures_whatever_the_memory_held():
    cases = [{**case(17), "seed": seed} for seed in (1, 2, 3)]
    found = run_firmware.calls(DOUBLE, "doubled", cases)
    assert len({(one["cycles"], one["instructions"], one["stack_bytes"]) for one in found}) == 1


@pytest.mark.parametrize(("n", "where"), [(4, "past"), (300, "past")])
def test_an_array_ends_where_it_ends(n, where):
    with pytest.raises(ValueError, match=f"1 bytes {where} the array of argument"):
        run_firmware.calls(DOUBLE, "doubled", [case(n, said=n + 1)])


def test_images_counted_and_not_are_the_same():
    codes = torch.randint(-128, 128, (3, 4, 4, 3), dtype=torch.int8)
    found = run_firmware.inference(INFER, codes, 2, seed=9)
    expected = codes.flatten(1)[:, :10].int() * torch.arange(10, dtype=torch.int32)
    assert torch.equal(found["logits"], expected)
    assert len(found["cycles"]) == 2
    assert len(set(found["cycles"])) == 1
    assert 0 < found["flash_bytes"] < 500
    assert 48 + 40 <= found["sram_bytes"] < 300


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="bytes of C; allowed"):
        run_firmware.calls(" " * (run_firmware.MOST_TEXT + 1), "doubled", [case(1)])


HIDES = """
#include <stdint.h>
void infer(const int8_t *image, int32_t *logits) {
    volatile uint32_t *free = (uint32_t *)(image + 4096);
    uint32_t paint = free[-1];
    for (int i = 0; i < 1000; i++) free[i] = i;
    for (int i = 0; i < 1000; i++) free[i] = paint;
    for (int i = 0; i < 10; i++) logits[i] = 0;
}
"""


def test_memory_cannot_be_used_unseen():
    codes = torch.zeros(1, 4, 4, 3, dtype=torch.int8)
    assert run_firmware.inference(HIDES, codes, 1, seed=4)["sram_bytes"] > 250_000


STATE = """
#include <stdint.h>
static int calls;
void counted(int8_t *out, int8_t *scratch) {
    out[0] = ++calls, out[1] = scratch[0], scratch[0] = 7;
}
"""


def test_a_call_straight_after_another_finds_what_that_left():
    """Variables and scratch memory are not reset, and its own arguments are its own."""
    out, scratch = torch.zeros(2, dtype=torch.int8), torch.ones(4, dtype=torch.int8)
    once = {"arguments": [out, scratch], "guarded": True, "seed": 1}
    twice = {**once, "before": [torch.ones(2, dtype=torch.int8), {"same": 1}]}
    first, second = run_firmware.calls(STATE, "counted", [once, twice])
    assert first["outputs"][0].tolist() == [1, 1]
    assert second["outputs"][0].tolist() == [2, 7]
    assert second["data_bytes"] == 4


def test_messages_name_arguments():
    named = {**case(4, said=5), "names": ["x", "y", "sums", "n"]}
    with pytest.raises(ValueError, match=r"past the array of (x|y|sums)$"):
        run_firmware.calls(DOUBLE, "doubled", [named])


COUNTS_IMAGES = """
#include <stdint.h>
static int images;
void infer(const int8_t *image, int32_t *logits) {
    for (int i = 0; i < 10; i++) logits[i] = image[i] + images;
    images++;
}
"""


def test_an_image_after_another_one_shows_what_is_kept():
    codes = torch.randint(-128, 128, (3, 4, 4, 3), dtype=torch.int8)
    found = run_firmware.inference(COUNTS_IMAGES, codes, 0, seed=2)
    assert torch.equal(found["again"], found["logits"][[0, -1]] + 1)


NO_ARGUMENT = {"arguments": [], "guarded": True, "seed": 0}
REFUSED = {
    "nonsense x": "unknown type name",
    "int x[300000000] = {1}; int f(void) { return x[1]; }": "File too large",
    '__asm__(".space 4000000000"); int f(void) { return 0; }': "File too large",
    "#include __FILE__\n#include __FILE__\nint f(void) { return 0; }": "In file included from",
    '#include "/etc/shadow"\nint f(void) { return 0; }': "file not found",
    "int f(void) { for (volatile int i = 0;; i++) { } }": "instructions",
}


@needs_sandbox
@pytest.mark.sandbox
@pytest.mark.slow
def test_it_compiles_and_runs_inside_of_the_sandbox(tmp_path):
    outputs = tmp_path / "glyphs"
    outputs.mkdir()
    with process.borrowed(isolated=True) as place:
        student = KernelStudent(place, outputs, "glyphs", budget_s=300)
        try:
            found = student.measure(
                "autograder.sandbox.run_firmware:calls", DOUBLE, "doubled", [case(5)]
            )
            assert torch.equal(found[0]["outputs"][1][:2], torch.tensor([2, 3], dtype=torch.int8))
            for source, said in REFUSED.items():
                with pytest.raises(StudentError, match=said):
                    student.measure(
                        "autograder.sandbox.run_firmware:calls", source, "f", [NO_ARGUMENT]
                    )
        finally:
            student.close()
    process.close_all()
