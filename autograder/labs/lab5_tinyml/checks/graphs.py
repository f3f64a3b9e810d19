"""Random operator graphs, the lifetimes of their tensors, and buffers for the course's planner.

A graph is what the lab's ``describe`` gives of a network: operators in their order, bytes of the
tensors that count, and which operators write where their first input lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autograder.contract.checking import Cases
from codesign.hardware.memory_planner import Buffer

Operators = Sequence[Mapping[str, Any]]
Graph = tuple[list[dict[str, Any]], dict[str, int], list[int]]  # operators, sizes, in place


def alive(operators: Operators, sizes: Mapping[str, int]) -> list[set[str]]:
    """Of each operator the tensors in ``sizes`` that have to exist while it runs."""
    found = []
    for i, row in enumerate(operators):
        written = {earlier["output"] for earlier in operators[:i]}
        read = {name for later in operators[i:] for name in later["inputs"]}
        found.append(((written & read) | {row["output"], *row["inputs"]}) & sizes.keys())
    return found


def buffers(
    operators: Operators, sizes: Mapping[str, int], in_place: Sequence[int]
) -> tuple[list[Buffer], dict[str, str]]:
    """Buffers of what lies together, and for every tensor the buffer that it lies in."""
    homes: dict[str, str] = {}
    spans: dict[str, list[int]] = {}
    for i, names in enumerate(alive(operators, sizes)):
        row = operators[i]
        if row["output"] in sizes:
            homes[row["output"]] = homes[row["inputs"][0]] if i in in_place else row["output"]
        for name in names:
            spans.setdefault(homes[name], []).append(i)
    widths = {home: max(sizes[n] for n, other in homes.items() if other == home) for home in spans}
    return [Buffer(home, widths[home], min(t), max(t)) for home, t in spans.items()], homes


def chain(cases: Cases, additions: float, outside: bool) -> Graph:
    """A random chain of operators, some of which add an earlier tensor, and some in place.

    Args:
        additions: about which share of the operators adds one.
        outside: two tensors lie outside of the arena and have no size.
    """
    operators: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    tensors = ["image"]
    for i in range(int(cases.randint(9, 14))):
        size = int(cases.randint(1, 40)) * int(cases.choice([16, 64, 100, 250]))
        kind, inputs = "conv1x1", [tensors[-1]]
        if i > 2 and float(torch.rand(1, generator=cases.generator)) < additions:
            kind, size = "add", sizes.get(tensors[-1], size)
            inputs.append(str(cases.choice(tensors[1:-1])))
        elif i % 3 == 1 and tensors[-1] in sizes:
            kind, size = "depthwise", sizes[tensors[-1]] // int(cases.choice([1, 4]))
        operators.append({"kind": kind, "inputs": inputs, "output": f"t{i}"})
        sizes[f"t{i}"] = max(size, 1)
        tensors.append(f"t{i}")
    if outside:  # as the logits, and one more that nobody plans
        for name in (tensors[-1], tensors[3]):
            del sizes[name]
    return operators, sizes, _in_place(operators, sizes)


def _in_place(operators: Operators, sizes: Mapping[str, int]) -> list[int]:
    """Operators that may overwrite their first input: nothing else reads it."""
    found = []
    for i, row in enumerate(operators):
        source = row["inputs"][0]
        readers = [j for j, other in enumerate(operators) if source in other["inputs"]]
        alone = readers == [i] and row["inputs"].count(source) == 1
        planned = source in sizes and row["output"] in sizes
        if row["kind"] in ("depthwise", "add") and alone and planned:
            found.append(i)
    return found


def branches(cases: Cases) -> Graph:
    """Long-lived tensors between short-lived ones of other sizes: where order matters."""
    operators: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    kept: list[str] = []
    last = "image"
    for i in range(12):
        name, inputs = f"t{i}", [last]
        if i % 3 == 2 and kept:
            inputs.append(kept.pop(int(cases.randint(0, len(kept)))))
        kind = "add" if len(inputs) > 1 else "conv1x1"
        operators.append({"kind": kind, "inputs": inputs, "output": name})
        sizes[name] = 4 * int(cases.randint(5, 1_000))
        if i % 2 == 0:
            kept.append(name)
        last = name
    return operators, sizes, []
