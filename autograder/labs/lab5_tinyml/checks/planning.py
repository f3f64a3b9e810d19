"""Checks of memory planning: bytes alive at each operator, and offsets in one arena.

Lifetimes are counted by sets of names. A plan may be any that keeps tensors apart while both are
alive; how large its arena is, is compared with what the course's own planner finds.
"""

from __future__ import annotations

from collections.abc import Mapping

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, no_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab5_tinyml.checks import fixed_graphs
from autograder.labs.lab5_tinyml.checks.graphs import Graph, alive, branches, buffers, chain
from autograder.labs.lab5_tinyml.checks.integers import plain
from codesign.hardware.memory_planner import ALIGN, peak, plan

MOST_WIDTH = 1.1  # arena that was planned / arena of the course's planner, averaged over graphs


@check("peak_memory")
def _peak_memory(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    kinds = {
        "a chain": (0.0, False, fixed_graphs.CHAINS, 2),
        "with additions": (0.5, False, fixed_graphs.ADDITIONS, 3),
        "with tensors outside of the arena": (0.4, True, fixed_graphs.OUTSIDE, 3),
    }
    rows = []
    for name, (additions, outside, fixed, share) in kinds.items():
        drawn = [*fixed, *(chain(cases, additions, outside) for _ in range(2))]
        found = faults(_peak_fault, [(student, graph) for graph in drawn])
        rows.append(no_fault(f"bytes alive, {name}", found, share))
    return rows


def _peak_fault(student: Student, graph: Graph) -> str | None:
    operators, sizes, _ = graph
    got = plain(student.call("peak_memory", operators, sizes))
    expected = [sum(sizes[name] for name in names) for names in alive(operators, sizes)]
    if not isinstance(got, list) or len(got) != len(expected):
        return f"got {str(got)[:80]}, expected one number for each of {len(expected)} operators"
    for i, (found, wanted) in enumerate(zip(got, expected, strict=True)):
        if type(found) is not int or found != wanted:
            row = operators[i]
            return (
                f"operator {i} of {len(operators)}, {row['inputs']} to {row['output']}: "
                f"got {found}, expected the integer {wanted}"
            )
    return None


@check("plan_memory")
def _plan_memory(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    drawn = [(graph, planned(student, graph)) for graph in graphs(cases)]
    pairs = [(graph, planned(student, graph)) for graph in fixed_graphs.ALL] + drawn
    overlaps = [_overlap_fault(*pair) for pair in pairs]
    shared = [_in_place_fault(*pair) for pair in pairs]
    # Everything beside everything does not overlap either, and is not worth points.
    ratio = sum(width(*pair) for pair in drawn) / len(drawn)
    wide = None if ratio <= MOST_WIDTH else f"arenas are {ratio:.2f} times as large as needed"
    if ratio > 2 * MOST_WIDTH - 1:
        overlaps = shared = [f"counts only with a plan that reuses memory: {wide}"]
    elif any(overlaps):
        wide = "counts only where nothing overlaps"
    return [
        no_fault("what is alive at once does not overlap", overlaps, 4),
        no_fault("in place where it may be, offsets in words", shared, 3),
        no_fault("arenas within 10 % of the best, on average", [wide], 5),
    ]


def graphs(cases: Cases) -> list[Graph]:
    """Enough graphs that no plan is good or bad on average by luck."""
    chains = [chain(cases, 0.45, bool(i % 2)) for i in range(8)]
    return chains + [branches(cases) for _ in range(16)]


def planned(student: Student, graph: Graph) -> dict[str, int]:
    """The student's offsets.

    Raises:
        StudentError: it is no offset in bytes for each tensor that has a size.
    """
    operators, sizes, in_place = graph
    got = plain(student.call("plan_memory", operators, sizes, in_place))
    if not isinstance(got, dict) or got.keys() != sizes.keys():
        names = sorted(got)[:20] if isinstance(got, dict) else type(got).__name__
        raise StudentError(f"got {names}, expected offsets of {sorted(sizes)}")
    for name, offset in got.items():
        if type(offset) is not int or not 0 <= offset < 2**31:
            raise StudentError(f"{name}: got {offset!r}, expected an offset in bytes")
    return got


def _overlap_fault(graph: Graph, offsets: Mapping[str, int]) -> str | None:
    operators, sizes, in_place = graph
    for i, names in enumerate(alive(operators, sizes)):
        allowed = {operators[i]["inputs"][0], operators[i]["output"]} if i in in_place else set()
        for a in names:
            for b in names - {a}:
                apart = offsets[a] + sizes[a] <= offsets[b] or offsets[b] + sizes[b] <= offsets[a]
                if not apart and {a, b} != allowed:
                    return (
                        f"operator {i} needs {a} at {offsets[a]} ({sizes[a]} bytes) and {b} at "
                        f"{offsets[b]} ({sizes[b]} bytes): they overlap"
                    )
    return None


def _in_place_fault(graph: Graph, offsets: Mapping[str, int]) -> str | None:
    operators, sizes, in_place = graph
    if off := next((name for name in sizes if offsets[name] % ALIGN), None):
        return f"{off} lies at {offsets[off]}, no multiple of {ALIGN}"
    for i in in_place:
        source, output = operators[i]["inputs"][0], operators[i]["output"]
        if offsets[source] != offsets[output]:
            return f"operator {i} is in place: {source} at {offsets[source]}, {output} elsewhere"
    return None


def width(graph: Graph, offsets: Mapping[str, int]) -> float:
    """Bytes of the arena relative to the best plan that the course's planner finds."""
    wanted = buffers(*graph)[0]
    used = max(offsets[name] + size for name, size in graph[1].items())
    return used / peak(wanted, plan(wanted))
