"""Checks of the three kernels in C: exact outputs, and cycles relative to the lab's loops.

Each text is compiled and emulated in a sandbox: on small shapes with guarded arrays, on some of
them straight after another call, and on usual shapes whose cycles count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, earned, measured, no_fault, passed
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab5_tinyml.checks.kernel_answers import described, output_fault
from autograder.labs.lab5_tinyml.checks.kernel_cases import (
    LOOPS,
    NUMBERS,
    USUAL,
    after,
    arguments,
    drawn,
    in_memory,
    names,
    small_calls,
)
from autograder.sandbox import run_firmware

KERNELS = ("conv1x1", "depthwise", "conv3x3")
MAX_SOURCE = 100_000  # characters of a kernel
MOST_MEMORY = 1_024  # bytes of stack and variables, besides the arguments
EXACT = "every output exact, nothing touched beyond"
AGAIN = "in the second call without a reset in between: "


@check("conv1x1")
def _conv1x1(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return _kernel_rows(student, cases, target["cycles_share"], "conv1x1", 4)


@check("depthwise")
def _depthwise(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return _kernel_rows(student, cases, target["cycles_share"], "depthwise", 5)


@check("conv3x3")
def _conv3x3(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return _kernel_rows(student, cases, target["cycles_share"], "conv3x3", 5)


def _kernel_rows(
    student: Student, cases: Cases, figure: Figure, name: str, exact_share: float
) -> list[Row]:
    """Exactness earns its share in proportion to the gain: the loops are exact, too."""
    source = c_text(student, name, MAX_SOURCE)
    values = drawn(cases, name)
    again = values[: small_calls(name) : len(NUMBERS) + 1]  # each with numbers of another kind
    try:
        found = _emulated(student, cases, name, source, values, again)
    except StudentError as error:
        return _no_cycles(str(error), exact_share, figure)
    wrong = [kernel_fault(name, *pair) for pair in zip(values, found, strict=False)]
    repeated = [kernel_fault(name, *pair) for pair in zip(again, found[len(values) :], strict=True)]
    wrong += [one and AGAIN + one for one in repeated]
    if any(wrong):
        return _no_cycles(no_fault(EXACT, wrong, exact_share).message, exact_share, figure)
    ratio, each = _cycles_ratio(name, [int(result["cycles"]) for result in found[: len(values)]])
    row = measured("cycles_share", ratio, figure, message=f"of the loops' {each}")
    exact = passed(EXACT, True, exact_share)
    gained = earned(ratio, figure)
    if gained < 1:
        note = f"counts {gained:.0%}: the loops that were handed out are exact, too"
        exact = replace(exact, points=exact_share * gained, message=note, status="failed")
    return [exact, row]


def c_text(student: Student, name: str, most: int) -> str:
    """The C that was handed in.

    Raises:
        StudentError: it is missing, no text, or longer than ``most`` characters.
    """
    source = student.artifact(name)
    if not isinstance(source, str) or len(source) > most:
        raise StudentError(f"got a {type(source).__name__}, expected a C source text")
    return source


def _emulated(
    student: Student,
    cases: Cases,
    name: str,
    source: str,
    values: Sequence[Sequence[Any]],
    again: Sequence[Sequence[Any]],
) -> list[dict[str, Any]]:
    """What each call leaves in memory, and its cycles; small shapes are guarded.

    First those with ``values``, each from reset, then those with ``again``, each straight after the
    one that comes before it there.
    """
    calls: list[dict[str, Any]] = [{"arguments": in_memory(name, one)} for one in values]
    calls += [after(name, one, again[i - 1]) for i, one in enumerate(again)]
    unguarded = range(small_calls(name), len(values))
    seeds = cases.randint(0, 2**31, (len(calls),)).tolist()
    for i, (call, seed) in enumerate(zip(calls, seeds, strict=True)):
        call |= {"guarded": i not in unguarded, "seed": seed, "names": names(name)}
    text = with_kernel(name, source)
    found: list[dict[str, Any]] = student.measure(
        "autograder.sandbox.run_firmware:calls", text, name, calls, deadline_s=120.0
    )
    return found


def with_kernel(name: str, source: str) -> str:
    """C text: what the lab hands out, with ``source`` instead of the loops of this name.

    The compiler counts the lines of ``source`` from 1.
    """
    return f'#define OWN_{name.upper()}\n{LOOPS}\n#line 1 "{name}.c"\n{source}'


def kernel_fault(name: str, values: Sequence[Any], result: Mapping[str, Any]) -> str | None:
    """What is wrong with what a call with ``values`` left in memory or took of it, or None."""
    if wrong := output_fault(name, values, result["outputs"]):
        return wrong
    stack, data = int(result["stack_bytes"]), int(result["data_bytes"])
    if stack + data > MOST_MEMORY:
        return (
            f"{described(name, values)}: it takes {stack:,} bytes of stack and {data:,} of "
            f"variables; allowed: {MOST_MEMORY:,} together"
        )
    return None


def _no_cycles(why: str, exact_share: float, figure: Figure) -> list[Row]:
    return [
        passed(EXACT, False, exact_share, why),
        replace(measured("cycles_share", math.inf, figure, message=why), measured=None),
    ]


def _cycles_ratio(name: str, cycles: Sequence[int]) -> tuple[float, str]:
    """Geometric mean over the usual shapes, relative to the loops, and what each shape gave."""
    shapes = USUAL[name]
    usual = cycles[-len(shapes) :]
    ratios = [c / _loop_cycles(name, s) for c, s in zip(usual, shapes, strict=True)]
    each = ", ".join(f"{s}: {r:.2f}" for s, r in zip(shapes, ratios, strict=True))
    return math.exp(sum(map(math.log, ratios)) / len(ratios)), each


@lru_cache(maxsize=32)
def _loop_cycles(name: str, shape: tuple[int, ...]) -> int:
    values = in_memory(name, arguments(Cases(name, ""), name, shape))
    run = run_firmware.calls(LOOPS, name, [{"arguments": values, "guarded": False, "seed": 0}])
    return int(run[0]["cycles"])
