"""Operator graphs written by hand, one for each way to miscount a lifetime or to share too much.

Random graphs meet these cases by luck; here they stand on every seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autograder.labs.lab5_tinyml.checks.graphs import Graph


def _graph(rows: str, sizes: Mapping[str, int], in_place: Sequence[int] = ()) -> Graph:
    """``rows``: an operator a word, ``output=input`` or ``output=input+input``."""
    operators = []
    for i, row in enumerate(rows.split()):
        output, _, inputs = row.partition("=")
        names = inputs.split("+")
        single = "depthwise" if i in in_place else "conv1x1"
        kind = "add" if len(names) > 1 else single
        operators.append({"kind": kind, "inputs": names, "output": output})
    return operators, dict(sizes), list(in_place)


CHAINS: list[Graph] = [
    _graph("a=image", {"a": 10}),
    _graph("a=image b=a c=b d=c", {"d": 7, "c": 300, "b": 4, "a": 101}),  # in another order
    _graph("a=image b=a c=a", {"a": 40, "b": 90, "c": 60}),  # b is read by nobody
    _graph("a=image b=image c=b", {"a": 400, "b": 100, "c": 300}),  # nor is the first one
    # In place three times, each smaller; what lies beside it outlives the first of them.
    _graph("a=image b=a c=b d=c e=d", {"a": 403, "b": 403, "c": 101, "d": 25, "e": 700}, [1, 2, 3]),
]
ADDITIONS: list[Graph] = [
    _graph("a=image b=a+a c=b", {"a": 99, "b": 99, "c": 10}),  # one tensor twice
    _graph("a=image b=a c=b d=c e=d+a", {"a": 50, "b": 400, "c": 80, "d": 50, "e": 50}),
    # Both operands are needed later: nothing of the addition is in place.
    _graph("a=image b=a c=a+b d=c+a e=d+b", dict.fromkeys("abcde", 33)),
    # In place into a tensor that is added later, while another one waits for it.
    _graph(
        "a=image b=a c=b d=c+a e=d f=e+d",
        {"a": 64, "b": 256, "c": 64, "d": 64, "e": 255, "f": 64},
        [3],
    ),
    # A large tensor shrinks in place beside a small one that outlives it.
    _graph("x=image a=x b=a c=b+x d=c", {"x": 52, "a": 400, "b": 100, "c": 30, "d": 10}, [2]),
    # The second operand, not the first, is in the way.
    _graph("a=image b=image c=a d=c+b e=d", {"a": 30, "b": 30, "c": 500, "d": 30, "e": 2}),
    # Two long-lived tensors of sizes between which nothing else fits.
    _graph(
        "a=image b=a c=b d=c e=d+b f=e+a",
        {"a": 1_000, "b": 12, "c": 1_012, "d": 12, "e": 1_000, "f": 4},
        [],
    ),
]
OUTSIDE: list[Graph] = [
    _graph("a=image b=a logits=b", {"a": 21, "b": 9}),
    _graph("a=image b=a+image c=b+image logits=c", {"a": 21, "b": 9, "c": 45}),
    _graph("a=image far=a b=far+a c=b+far logits=c", {"a": 21, "b": 9, "c": 45}),
    _graph("a=image b=a c=b logits=c+a", {"a": 5, "b": 5, "c": 5}, [2]),
]
ALL = [*CHAINS, *ADDITIONS, *OUTSIDE]
