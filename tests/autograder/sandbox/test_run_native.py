"""C that was handed in: what it computed, how long it took, and everything it may not do."""

from __future__ import annotations

import platform
import sys
import time

import numpy as np
import pytest
import torch

from autograder.sandbox import run_native
from autograder.sandbox.run_native import Program, ProgramError, interleaved

DECLARATION = "void add(const int32_t *x, int32_t *y, int n, int by)"
ADD = """
#include <stdint.h>
void add(const int32_t *x, int32_t *y, int n, int by) {
    BODY
    for (int i = 0; i < n; i++) y[i] = x[i] + by;
}
"""
needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in run_native.MACHINES,
    reason="seccomp: Linux on x86-64 or arm64",
)


def add(body: str = "", size: int = 1_000) -> np.ndarray:
    x = np.arange(size, dtype=np.int32)
    outputs, seconds = Program(ADD.replace("BODY", body), DECLARATION).run([x, 0 * x, size, 5])
    assert 0 < seconds < run_native.CALL_S
    assert len(outputs) == 1  # what is const is no output
    return outputs[0]


@pytest.mark.parametrize("size", [1, 3, 1_024, 100_001])
def test_it_computes(size):
    assert np.array_equal(add(size=size), np.arange(size) + 5)


def test_the_same_in_this_process_where_nothing_isolates(monkeypatch):
    monkeypatch.setattr(run_native, "MACHINES", ())
    assert np.array_equal(add(), np.arange(1_000) + 5)


def test_memory_functions_are_there():
    source = """
#include <stdint.h>
#include <string.h>
void add(const int32_t *x, int32_t *y, int n, int by) {
    int32_t room[64];
    memset(room, 0, sizeof room);
    memcpy(room, x, 40);
    memmove(room + 1, room, 40);
    memcpy(y, room, 44);
    y[11] = memcmp(x, x + 1, 4) < 0;
}
"""
    x = np.arange(20, dtype=np.int32)
    (y,), _ = Program(source, DECLARATION).run([x, 0 * x, 20, 0])
    assert y[:12].tolist() == [0, *range(10), 1]


STOPPED = {
    "y[n] = 1;": "outside of its arrays",
    "y[0] = x[n];": "outside of its arrays",
    "((volatile int *)0)[0] = 1;": "outside of its arrays",
    "__builtin_trap();": "an instruction that this machine does not have|SIGTRAP",
    '__asm__ volatile("syscall" : : "a"(57L) : "rcx", "r11");': "asked the system",
    '__asm__ volatile("syscall" : : "a"(60L), "D"(7L) : "rcx", "r11");': "ended with 7",
}


@needs_seccomp
@pytest.mark.parametrize("body", STOPPED)
def test_what_it_may_not_do(body):
    if "syscall" in body and platform.machine() != "x86_64":
        pytest.skip("x86-64's instruction")
    with pytest.raises(ProgramError, match=STOPPED[body]):
        add(body)


@pytest.mark.serial
@needs_seccomp
def test_an_endless_loop_ends_at_the_deadline(monkeypatch):
    monkeypatch.setattr(run_native, "CALL_S", 0.5)
    start = time.monotonic()
    with pytest.raises(ProgramError, match="was not done within"):
        add("for (volatile int i = 0;;) i++;")
    assert time.monotonic() - start < 10


@needs_seccomp
@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64's system call")
def test_a_done_that_it_says_itself_does_not_stop_the_clock():
    """Only the end of the process does: a byte on its output is no end."""
    body = '__asm__ volatile("syscall" : : "a"(1L), "D"(1L), "S"(x), "d"(1L) : "rcx", "r11");'
    with pytest.raises(ProgramError, match="not done"):
        add(body)


@needs_seccomp
def test_nothing_is_left_from_one_call_for_the_next():
    source = ADD.replace("BODY", "static int calls; by += calls++;")
    program, x = Program(source, DECLARATION), np.arange(10, dtype=np.int32)
    for _ in range(2):
        assert np.array_equal(program.run([x, 0 * x, 10, 5])[0][0], x + 5)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("int x = ;", r"does not compile: kernel\.c:1:9"),
        ("", "does not compile"),
        ("#include <stdio.h>\n" + ADD.replace("BODY", 'puts("x");'), "undefined symbol: puts"),
        (ADD.replace("BODY", "") + "void harness_main(void) {}", "duplicate symbol"),
        (ADD.replace("BODY", "").replace("int n", "float n"), None),
    ],
)
@needs_seccomp
def test_what_does_not_become_a_program(source, said):
    if said is None:  # another type than declared: C cannot tell, the answer is wrong
        x = np.arange(10, dtype=np.int32)
        assert not np.array_equal(Program(source, DECLARATION).run([x, 0 * x, 10, 5])[0][0], x + 5)
        return
    with pytest.raises(ProgramError, match=said):
        Program(source, DECLARATION)


def test_arguments_take_the_declared_type_and_others_are_refused():
    program = Program(
        "void half(const float *x, float *y) { y[0] = x[0] / 2; }",
        "void half(const float *x, float *y)",
    )
    assert program.run([np.array([3], np.int8), np.zeros(1, np.int8)])[0][0].tolist() == [1.5]
    with pytest.raises(ValueError, match="got 1 arguments"):
        program.run([np.zeros(1)])
    with pytest.raises(ValueError, match="got a int for 'const float"):
        program.run([1, np.zeros(1)])
    with pytest.raises(ValueError, match="got declaration"):
        Program("", "int main(void)")


@pytest.mark.serial
def test_programs_take_turns_each_round_on_its_own_inputs():
    slow = ADD.replace("add", "slow").replace(
        "BODY", "for (volatile int i = 0; i < 3000000;) i = i + 1;"
    )
    programs = {
        "fast": {"source": ADD.replace("BODY", ""), "declaration": DECLARATION},
        "slow": {"source": slow, "declaration": DECLARATION.replace("add", "slow")},
    }
    rounds = []
    for by in range(3):
        x = torch.arange(10, dtype=torch.int32)
        rounds.append({name: [x, torch.zeros_like(x), 10, by] for name in programs})
    found = interleaved(programs, rounds)
    for by in range(3):
        for name in programs:
            assert found[name][by]["outputs"][0].tolist() == [i + by for i in range(10)]
        assert found["slow"][by]["seconds"] > found["fast"][by]["seconds"]
    broken = {**programs, "slow": {"source": "", "declaration": DECLARATION}}
    with pytest.raises(ProgramError, match=r"^slow does not compile"):
        interleaved(broken, rounds)
