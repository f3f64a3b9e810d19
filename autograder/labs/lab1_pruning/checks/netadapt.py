"""Check of NetAdapt: the widest width of each layer that alone meets the budget, and one round.

Expected widths come from trying every width of every layer. A case is drawn until it decides:
some table where wider is faster, some layer that cannot save enough, no sum near the budget. Fixed
cases with sums that are exact stand beside: a budget that is met already, or met exactly. A round
works on pairs (layer, width) instead of networks, scored by numbers that are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault
from autograder.contract.targets import Figure

GRID = 8  # widths of a layer in the table
DRAWS = 1_000


@check("netadapt")
def _netadapt(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    kinds = {
        "latency grows with width": (0.0, 0.8),
        "a measured table: not monotone": (0.6, 0.8),
        "layers that cannot save enough: None": (0.0, 0.55),
    }
    drawn = {name: _decisive_case(cases, *kind) for name, kind in kinds.items()}
    rows = [
        no_fault(name, faults(_proposal_fault, [(student, case)]), 1.5)
        for name, case in drawn.items()
    ]
    exact, none = _exact_cases(), _counted([8, 8], 8, 6.0)
    trials = [
        (student, case, torch.rand(len(case.widths), GRID, generator=cases.generator).double())
        for case in (*drawn.values(), *exact, none)
    ]
    ramp = torch.linspace(0.1, 0.9, len(exact[0].widths) * GRID).double().reshape(-1, GRID)
    trials += [(student, exact[0], ramp), (student, exact[0], 1 - ramp)]  # the last, the first
    return [
        *rows,
        no_fault(
            "budgets that are met already, or exactly",
            faults(_proposal_fault, [(student, case) for case in (*exact, none)]),
            0.5,
        ),
        no_fault("netadapt_round: the most accurate proposal", faults(_round_fault, trials), 1),
    ]


@dataclass(frozen=True)
class _Case:
    """Arguments of one call, and for each layer the network's seconds at each narrower width."""

    widths: list[int]
    table: torch.Tensor
    target_s: float
    step: int
    options: list[dict[int, float]]

    @property
    def fitting(self) -> list[list[int]]:
        """Of each layer every width within the budget."""
        return [[w for w, s in option.items() if s <= self.target_s] for option in self.options]

    @property
    def expected(self) -> list[int | None]:
        """The right answer."""
        return [max(found, default=None) for found in self.fitting]


def _proposal_fault(student: Student, case: _Case) -> str | None:
    got = student.call("netadapt_proposals", case.widths, case.table, case.target_s, case.step)
    if compare("", got, case.expected, 1, exact=True).points > 0:
        return None
    return f"widths {case.widths}, step {case.step}: got {got}, expected {case.expected}"


def _round_fault(student: Student, case: _Case, accuracy: torch.Tensor) -> str | None:
    """What is wrong with one round, in which every pair (layer, width) is a network."""
    arguments = case.widths, case.table, case.target_s, case.step, accuracy
    chosen, trained = expect_tuple(student.call("rehearsed_round", *arguments), "chosen", "trained")
    proposals = [(i, width) for i, width in enumerate(case.expected) if width is not None]
    best = max(proposals, key=lambda p: accuracy[p[0], p[1] // case.step - 1], default=None)
    where = f"widths {case.widths}, proposals {case.expected}"
    if compare("", chosen, best, 1, exact=True).points == 0:
        return f"{where}: chose {chosen}, expected {best} (layer, width)"
    if not isinstance(trained, Sequence) or sorted(map(list, trained)) != sorted(
        map(list, proposals)
    ):
        return f"{where}: trained {trained}, expected each proposal once"
    return None


def _exact_cases() -> list[_Case]:
    """Cases in whole seconds, so that sums are exact in any order."""
    return [
        _counted([16, 24, 16, 32, 16], 8, 1e3),  # far more than enough: one step less of each
        _counted([16, 24, 8], 8, 11.0),  # as fast as the network is
        _counted([16, 24, 8], 8, 9.0),  # as fast as it is with one step less
        _counted([3, 1], 1, 5.0),
        _counted([40], 8, 3.0),  # one layer: nothing reads it
    ]


def _counted(widths: list[int], step: int, target_s: float) -> _Case:
    """A case whose layers take one second for each step of input and of output channels."""
    each = torch.arange(1.0, GRID + 1).double()
    table = (each[:, None] + each).repeat(len(widths), 1, 1)
    table[0] = each  # the image has one width
    return _Case(widths, table, target_s, step, _single_changes(widths, table, step))


def _decisive_case(cases: Cases, noise: float, budget: float) -> _Case:
    """A case in which no layer's answer hangs on rounding, and its kind shows.

    Args:
        noise: of the table; above 0 some layer has a width that is too slow below one that fits.
        budget: seconds relative to the present ones; below 0.6 some layer cannot save enough.
    """
    step = int(cases.choice([4, 8, 16]))
    for _ in range(DRAWS):
        case = _random_case(cases, step, noise, budget)
        gaps = [len(found) * step != max(found) for found in case.fitting if found]
        seconds = [s for option in case.options for s in option.values()]
        close = min(abs(s / case.target_s - 1) for s in seconds) < 1e-4
        kind = (None in case.expected) == (budget < 0.6) and any(gaps) == (noise > 0)
        if kind and gaps and not close:
            break
    return case


def _random_case(cases: Cases, step: int, noise: float, budget: float) -> _Case:
    widths, table = _latency_table(cases, step, noise)
    target_s = budget * _network_s(widths, table, step)
    return _Case(widths, table, target_s, step, _single_changes(widths, table, step))


def _latency_table(cases: Cases, step: int, noise: float) -> tuple[list[int], torch.Tensor]:
    """Widths of a network, and seconds ``[layer, c_in index, c_out index]`` like a CPU's."""
    layers = int(cases.randint(3, 6))
    widths = [step * int(i) for i in cases.randint(3, GRID + 1, (layers,))]
    out = torch.arange(1, GRID + 1, dtype=torch.float64)
    inner = out[:, None] * out[None, :]
    table = inner * torch.rand(layers, 1, 1, generator=cases.generator).double()
    table = 20e-6 * (table + 0.5 * out[None, None, :])
    table[0, 1:] = 1.0  # the image has one width: these entries must not be read
    table[0, 0] = 40e-6 * out
    return widths, table * (noise * cases.randn(*table.shape).double()).exp()


def _network_s(widths: list[int], table: torch.Tensor, step: int) -> float:
    index = [0, *[w // step - 1 for w in widths]]
    return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))


def _single_changes(widths: list[int], table: torch.Tensor, step: int) -> list[dict[int, float]]:
    """For each layer: network seconds at each narrower width of that layer alone."""
    return [
        {
            w: _network_s([*widths[:i], w, *widths[i + 1 :]], table, step)
            for w in range(step, width, step)
        }
        for i, width in enumerate(widths)
    ]
