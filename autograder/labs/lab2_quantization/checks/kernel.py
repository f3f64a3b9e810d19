"""Check the int8 matrix product in C: every product exact, and speed over a plain fp32 loop.

Kernels run in a process of their own (:mod:`autograder.sandbox.run_native`), interleaved with two
fp32 peers of the same compiler and flags. Exactness counts as much as the speed-up does, because
the loop that is handed out is exact, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, measured, passed, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from codesign import native

INTEGER = "void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k)"
REAL = "void {}(const float *a, const float *b, float *c, int m, int n, int k)"
PLAIN, TILED = "plain fp32 loop", "tiled fp32 kernel"
OURS = "int8_gemm"
EXACT = "every product exact"
EXACT_SHARE = 3
MAX_SOURCE = 100_000
TRIES = 3  # a miss is measured again: what else runs costs the faster one more
UNTIMED = (  # m, n, k where a border shows, the fill of A and B: None is random
    *((8, 8, 32, None, None), (8, 24, 96, None, None), (24, 8, 32, None, None)),
    *((16, 40, 160, None, None), (40, 16, 64, None, None), (8, 16, 96, -128, -127)),
    *((16, 16, 1_280, 127, 127), (8, 8, 1_248, -128, 127)),  # odd sums that no float32 holds
)
TIMED = 9

Programs = dict[str, dict[str, str]]


@check("int8_gemm")
def _int8_gemm(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    programs = _programs(student)
    ratios: list[tuple[float, float]] = []
    for _ in range(TRIES):
        found = _speedups(student, cases, programs)
        if isinstance(found, str):
            return [
                passed(EXACT, False, EXACT_SHARE, found),
                replace(measured("speedup", 0.0, target["speedup"], message=found), measured=None),
            ]
        ratios.append(found)
        if found[0] >= target["speedup"].target:
            break
    plain, tiled = max(ratios)
    row = measured("speedup", plain, target["speedup"], message=f"{plain:.2f} times {PLAIN}")
    peer = Row(
        name=f"against a {TILED}", measured=tiled, target=None, points=0.0, max_points=0.0, unit="×"
    )
    return [_exact(row.points / row.max_points), row, peer]


def _programs(student: Student) -> Programs:
    source = student.artifact("int8_gemm")
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        raise StudentError(f"got a {type(source).__name__}, expected a C source text")
    peers = native.shipped("fp32_gemm")
    return {
        OURS: {"source": source, "declaration": INTEGER},
        PLAIN: {"source": peers, "declaration": REAL.format("fp32_gemm")},
        TILED: {"source": peers, "declaration": REAL.format("fp32_gemm_tiled")},
    }


def _exact(earned: float) -> Row:
    """The row of exact products, which counts as far as the speed-up was ``earned``."""
    row = passed(EXACT, True, EXACT_SHARE)
    if earned >= 1:
        return row
    note = f"counts {earned:.0%}: the loop that was handed out is exact, too"
    return replace(row, points=EXACT_SHARE * earned, message=note, status="failed")


def _speedups(student: Student, cases: Cases, programs: Programs) -> tuple[float, float] | str:
    """Speed over the two peers, or what is wrong; every timed call has inputs of its own."""
    rounds, expected = [], []
    for index in range(len(UNTIMED) + TIMED):
        a, b = _operands(cases, index)
        (m, k), n = a.shape, len(b)
        real = [a, b.T.contiguous(), torch.zeros(m, n, dtype=torch.int8), m, n, k]
        integers = [a, b, torch.full((m, n), -1, dtype=torch.int32), m, n, k]
        peers = {PLAIN: real, TILED: real} if index >= len(UNTIMED) else {}
        rounds.append({OURS: integers, **peers})
        expected.append((a.double() @ b.T.double()).int())
    found = student.measure(
        "autograder.sandbox.run_native:interleaved", programs, rounds, deadline_s=120.0
    )
    for index, product in enumerate(expected):
        got = found[OURS][index]["outputs"][0]
        if wrong := type_fault(got, torch.int32, tuple(product.shape)):
            return wrong
        if message := compare("", got, product, 1, exact=True).message:
            return f"{tuple(product.shape)}: {message}"
    seconds = {name: [float(each["seconds"]) for each in found[name][-TIMED:]] for name in programs}
    totals = {name: sum(map(math.log, each)) for name, each in seconds.items()}
    ours = totals[OURS]
    return math.exp((totals[PLAIN] - ours) / TIMED), math.exp((totals[TILED] - ours) / TIMED)


def _operands(cases: Cases, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 ``[m, k]`` and ``[n, k]`` of one call; the first ones are not timed."""
    if index < len(UNTIMED):
        m, n, k, *fills = UNTIMED[index]
    else:  # the tiled peer wants 16 columns
        m, n = 8 * int(cases.randint(30, 60)), 16 * int(cases.randint(10, 15))
        k, fills = 32 * int(cases.randint(18, 36)), [None, None]
    a = cases.randint(-128, 128, (m, k)).to(torch.int8)
    b = cases.randint(-127, 128, (n, k)).to(torch.int8)
    filled = [x if v is None else torch.full_like(x, v) for x, v in zip((a, b), fills, strict=True)]
    return filled[0], filled[1]
