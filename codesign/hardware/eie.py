"""Simulate EIE, an accelerator for sparse matrix–vector products, and count its cycles.

Rows are dealt out to processing elements (PEs); each keeps its part of every column as entries of
4 bits of codebook index and 4 bits of relative index. Non-zero activations are broadcast, one a
cycle, into a FIFO at every PE; a PE works on one entry a cycle, so the PE with the most entries in
a column holds up the others once its FIFO is full. Leaves out the pipeline's depth, pointer reads
that miss (an empty column costs one cycle) and everything after the product. Taught in Lectures 1
and 4. Source: Han et al., "EIE: Efficient inference engine on compressed deep neural network",
ISCA 2016, sections III and IV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from codesign.hardware import energy

CODEBOOK = 16
INDEX_BITS = 4
VALUE_BITS = 4


@dataclass(frozen=True)
class Matrix:
    """A weight matrix as EIE stores it.

    Args:
        codes: integers ``[rows, cols]``, index into the codebook; 0: no weight.
        codebook: ``[16]``, its entry 0 is zero.
        pes: processing elements; row i belongs to PE i mod ``pes``.

    Raises:
        ValueError: not a matrix, codes outside 0..15, a codebook that is not [16] or does not start
            with 0, or no PE.
    """

    codes: torch.Tensor
    codebook: torch.Tensor
    pes: int = 64

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 2 or codes.is_floating_point() or not codes.numel():
            raise ValueError(f"got codes {codes.dtype} {tuple(codes.shape)}; allowed: int matrix")
        if int(codes.min()) < 0 or int(codes.max()) >= CODEBOOK:
            raise ValueError(
                f"got codes from {int(codes.min())} to {int(codes.max())}; allowed: 0 to 15"
            )
        if self.codebook.shape != (CODEBOOK,) or float(self.codebook[0]) != 0:
            raise ValueError(f"got codebook {self.codebook}; allowed: [16], entry 0 is 0")
        if self.pes < 1:
            raise ValueError(f"got {self.pes} PEs; allowed: at least 1")

    @property
    def dense(self) -> torch.Tensor:
        """The matrix ``[rows, cols]`` that the codes stand for."""
        return self.codebook[self.codes.long()]

    @cached_property
    def entries(self) -> torch.Tensor:
        """Stored entries ``[pes, cols]`` of each PE's part of each column, padding included.

        A gap of more than 15 zeros needs an explicit zero after every 15: it costs a cycle, too.
        """
        rows, cols = self.codes.shape
        local = -(-rows // self.pes)  # rows of a PE, the last ones may be missing
        kept = torch.zeros(local * self.pes, cols, dtype=torch.bool)
        kept[:rows] = self.codes != 0
        kept = kept.reshape(local, self.pes, cols).permute(1, 2, 0)
        place = torch.arange(local).expand_as(kept)
        last = torch.where(kept, place, -1).cummax(2).values
        before = torch.cat([torch.full_like(last[..., :1], -1), last[..., :-1]], 2)
        padding = torch.where(kept, (place - before - 1) // 2**INDEX_BITS, 0)
        return (kept + padding).sum(2)


@dataclass(frozen=True)
class Product:
    """One matrix–vector product on EIE.

    Args:
        result: ``[rows]``.
        cycles: from the first broadcast to the last entry.
        work: entries of each PE that were worked on, ``[pes]``, padding included.
        macs: products with a stored weight, padding left out.
        broadcasts: activations that are not zero.
    """

    result: torch.Tensor
    cycles: int
    work: torch.Tensor
    macs: int
    broadcasts: int

    @property
    def utilization(self) -> float:
        """Share of all PE cycles in which an entry is worked on: 1 is perfect load balance."""
        return float(self.work.sum()) / max(1, self.cycles * len(self.work))

    @property
    def energy_pj(self) -> float:
        """Estimate: entries from SRAM, activations broadcast from SRAM, products in fp16.

        EIE computes with 16-bit fixed point; the energy table has no 16-bit multiply, fp16 is the
        nearest one above it.
        """
        entries_bits = int(self.work.sum()) * (VALUE_BITS + INDEX_BITS)
        moved = energy.access_pj("SRAM", entries_bits + 16 * self.broadcasts * len(self.work))
        return moved + int(self.work.sum()) * energy.mac_pj("fp16")


def multiply(matrix: Matrix, x: torch.Tensor, fifo_depth: int = 8) -> Product:
    """``matrix.dense @ x``, and the cycles it takes.

    With b[j] the cycle in which activation j is broadcast, s[p, j] the one in which PE p starts on
    it and f[p, j] the first one after it: ``s[p, j] = max(b[j] + 1, f[p, j - 1])``,
    ``f[p, j] = s[p, j] + max(1, entries)``, and j waits for room in every FIFO, that is
    ``b[j] = max(b[j - 1] + 1, max_p s[p, j - fifo_depth])``.

    Args:
        x: activations ``[cols]``; zeros are skipped.
        fifo_depth: activations that a PE can hold before it starts on them.

    Raises:
        ValueError: x of another shape, or no FIFO.
    """
    if x.shape != matrix.codes.shape[1:] or fifo_depth < 1:
        raise ValueError(
            f"got x {tuple(x.shape)}, FIFO depth {fifo_depth}; "
            f"allowed: {tuple(matrix.codes.shape[1:])}, at least 1"
        )
    alive = x.nonzero()[:, 0]
    entries = matrix.entries[:, alive]
    work = entries.sum(1)
    macs = int((matrix.codes[:, alive] != 0).sum())
    cycles = _cycles(entries.clamp(min=1), fifo_depth)
    return Product(matrix.dense[:, alive] @ x[alive], cycles, work, macs, len(alive))


def _cycles(service: torch.Tensor, fifo_depth: int) -> int:
    """Cycles until every PE has served every column, ``service [pes, columns]``."""
    broadcast, finish = -1, torch.zeros(len(service), dtype=torch.int64)
    started: list[int] = []  # cycle in which the slowest PE took a column out of its FIFO
    for j, cost in enumerate(service.T):
        room = started[j - fifo_depth] if j >= fifo_depth else 0
        broadcast = max(broadcast + 1, room)
        start = finish.clamp(min=broadcast + 1)
        started.append(int(start.max()))
        finish = start + cost
    return int(finish.max()) if started else 0
