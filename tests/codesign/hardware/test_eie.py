"""EIE: the product is the dense one, the cycles are those of a simulation tick by tick."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.hardware import eie

CODEBOOK = torch.cat([torch.zeros(1), torch.linspace(-1, 1, 15) + 0.01])


@st.composite
def problems(draw):
    """A sparse matrix of codes, an activation vector with zeros, PEs and a FIFO depth."""
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    keep = torch.rand(rows, cols, generator=generator) < draw(st.sampled_from([0, 0.05, 0.3, 1]))
    codes = torch.randint(1, 16, (rows, cols), generator=generator) * keep
    x = torch.randn(cols, generator=generator)
    x = x * (torch.rand(cols, generator=generator) < draw(st.sampled_from([0.2, 0.7, 1])))
    pes = draw(st.integers(1, 9))
    return eie.Matrix(codes, CODEBOOK, pes), x, draw(st.integers(1, 4))


def encoded(column):
    """Entries of one PE's part of a column, one after the other: the format by its definition."""
    entries, gap = 0, 0
    for code in column:
        if code == 0:
            gap += 1
            continue
        while gap > 15:
            entries, gap = entries + 1, gap - 16
        entries, gap = entries + 1, 0
    return entries


def clocked(service, depth):
    """Cycles of PEs with FIFOs, advanced one tick at a time; ``service[column][pe]``."""
    pes = len(service[0]) if service else 0
    queues, busy = [deque() for _ in range(pes)], [0] * pes
    sent = done = tick = 0
    while done < len(service) * pes:
        for p in range(pes):
            if busy[p] == 0 and queues[p]:
                busy[p] = service[queues[p].popleft()][p]
        if sent < len(service) and all(len(queue) < depth for queue in queues):
            for queue in queues:
                queue.append(sent)
            sent += 1
        for p in range(pes):
            if busy[p]:
                busy[p] -= 1
                done += busy[p] == 0
        tick += 1
    return tick


@given(problems())
@settings(max_examples=80, deadline=None)
def test_the_result_is_the_dense_product(problem):
    matrix, x, depth = problem
    found = eie.multiply(matrix, x, depth)
    torch.testing.assert_close(found.result, matrix.dense @ x, rtol=1e-4, atol=1e-5)
    assert found.macs == int(((matrix.codes != 0) & (x != 0)).sum())
    assert found.broadcasts == int((x != 0).sum())


@given(problems())
@settings(max_examples=80, deadline=None)
def test_entries_are_those_of_the_format(problem):
    matrix, _, _ = problem
    for p in range(matrix.pes):
        for j, column in enumerate(matrix.codes[p :: matrix.pes].T):
            assert int(matrix.entries[p, j]) == encoded(column.tolist())


@given(problems())
@settings(max_examples=80, deadline=None)
def test_cycles_are_those_of_the_clocked_simulation(problem):
    matrix, x, depth = problem
    service = matrix.entries[:, x != 0].clamp(min=1).T.tolist()
    assert eie.multiply(matrix, x, depth).cycles == clocked(service, depth)


@given(problems(), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_more_sparsity_or_deeper_fifos_never_cost_cycles(problem, seed):
    matrix, x, depth = problem
    found = eie.multiply(matrix, x, depth)
    mask = torch.rand(matrix.codes.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    sparser = eie.Matrix(matrix.codes * mask, CODEBOOK, matrix.pes)
    assert eie.multiply(sparser, x, depth).cycles <= found.cycles
    assert eie.multiply(matrix, x, depth + 1).cycles <= found.cycles


@given(problems())
@settings(max_examples=80, deadline=None)
def test_cycles_are_bounded_by_the_busiest_pe(problem):
    matrix, x, depth = problem
    found = eie.multiply(matrix, x, depth)
    assert found.cycles >= int(found.work.max())
    assert found.cycles >= found.broadcasts
    assert 0 <= found.utilization <= 1


def test_a_long_gap_costs_a_padding_entry():
    codes = torch.zeros(40, 1, dtype=torch.int64)
    codes[0], codes[17] = 1, 1  # 16 zeros between them: one more than the index can say
    matrix = eie.Matrix(codes, CODEBOOK, pes=1)
    found = eie.multiply(matrix, torch.ones(1))
    assert (int(matrix.entries), found.macs, found.work.tolist()) == (3, 2, [3])


def test_one_slow_pe_holds_up_the_others():
    codes = torch.ones(8, 4, dtype=torch.int64)
    balanced = eie.multiply(eie.Matrix(codes, CODEBOOK, pes=4), torch.ones(4))
    codes[torch.arange(8) % 4 != 0] = 0  # all work belongs to PE 0
    alone = eie.multiply(eie.Matrix(codes, CODEBOOK, pes=4), torch.ones(4))
    assert alone.cycles == balanced.cycles
    assert alone.utilization == pytest.approx(balanced.utilization / 4)


def test_nothing_to_do_takes_no_cycle():
    matrix = eie.Matrix(torch.ones(4, 3, dtype=torch.int64), CODEBOOK, pes=2)
    found = eie.multiply(matrix, torch.zeros(3))
    assert (found.cycles, found.macs, found.energy_pj) == (0, 0, 0)
    assert not found.result.any()


def test_energy_counted_by_hand():
    codes = torch.ones(2, 1, dtype=torch.int64)
    found = eie.multiply(eie.Matrix(codes, CODEBOOK, pes=2), torch.ones(1))
    assert found.energy_pj == pytest.approx(2 * 8 / 32 * 5 + 2 * 16 / 32 * 5 + 2 * (1.1 + 0.4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eie.Matrix(torch.ones(3, 2), CODEBOOK), "allowed: int matrix"),
        (lambda: eie.Matrix(torch.ones(3, dtype=torch.int64), CODEBOOK), "allowed: int matrix"),
        (lambda: eie.Matrix(torch.full((2, 2), 16), CODEBOOK), "got codes from 16 to 16"),
        (lambda: eie.Matrix(torch.full((2, 2), -1), CODEBOOK), "got codes from -1"),
        (lambda: eie.Matrix(torch.ones(2, 2, dtype=torch.int64), CODEBOOK + 1), "entry 0 is 0"),
        (lambda: eie.Matrix(torch.ones(2, 2, dtype=torch.int64), CODEBOOK, pes=0), "got 0 PEs"),
    ],
)
def test_bad_matrices_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("size", "depth"), [(3, 1), (2, 0)])
def test_bad_vectors_are_refused(size, depth):
    matrix = eie.Matrix(torch.ones(2, 2, dtype=torch.int64), CODEBOOK)
    with pytest.raises(ValueError, match="allowed"):
        eie.multiply(matrix, torch.ones(size), depth)
