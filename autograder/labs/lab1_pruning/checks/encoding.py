"""Check of Deep Compression's coding: relative index, Huffman lengths, and the stream.

Lengths have to cost as few bits as a code made by merging counts; a stream has to decode to the
codes that were given, and to be as small as those codes allow.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, passed
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab1_pruning.checks.stream import decode
from codesign import huffman

REACH = 15  # zeros that a gap of 4 bits can count
MOST_BITS = 1.02  # of a stream, relative to a Huffman code


@check("encode")
def _encode(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    hidden = _code_cases(cases)
    each = [(student, codes) for codes in hidden.values()]
    rows = [
        no_fault("relative_index", faults(_index_fault, each), 1),
        no_fault("huffman_lengths", faults(_lengths_fault, each), 1),
    ]
    found, excess = [], 0.0
    for case, codes in hidden.items():
        fault, ratio = _stream_fault(student, codes)
        found.append(fault and f"{case}: {fault}")
        excess = max(excess, ratio)
    small = not any(found) and excess <= MOST_BITS
    message = f"got {excess:.3f} times the bits of a Huffman code, expected at most {MOST_BITS}"
    lossless = no_fault("encode: lossless", found, 1)
    return [*rows, lossless, passed("encode: size", small, 1, message)]


def _code_cases(cases: Cases) -> dict[str, torch.Tensor]:
    """Codes ``[n]`` by the trouble that they make."""
    size, symbols = int(cases.randint(600, 900)), int(cases.randint(9, 32))
    values = (cases.randn(size).abs() * symbols / 3).long().clamp(max=symbols - 1) + 1
    kept = torch.rand(size, generator=cases.generator)
    zeros = torch.zeros(size, dtype=torch.int64)
    single, runs = zeros.clone(), zeros.clone()
    single[int(cases.randint(100, 200))] = 3
    gaps = [0, 14, 15, 16, 31, 32, 33, int(cases.randint(48, 90))]
    runs[torch.tensor(gaps).add(1).cumsum(0) - 1] = torch.arange(1, 9)
    return {
        "85 % zeros": values * (kept < 0.15),
        "no zeros": values,
        "runs of 15, 16, 31, 32, 33 zeros": runs,
        "one value": single,
        "one symbol": torch.ones(40, dtype=torch.int64),
        "all zeros": zeros,
    }


def _index_fault(student: Student, codes: torch.Tensor) -> str | None:
    got = expect_tuple(student.call("relative_index", codes, 4), "gaps", "values")
    expected = _relative_index(codes.tolist())
    for name, found, listed in zip(("gaps", "values"), got, expected, strict=True):
        row = compare(name, found, torch.tensor(listed, dtype=torch.int64), 1, exact=True)
        if not row.points:
            return f"{name} of {len(codes)} codes: {row.message}"
    return None


def _relative_index(codes: list[int]) -> tuple[list[int], list[int]]:
    gaps, values, gap = [], [], 0
    last = max((i for i, code in enumerate(codes) if code), default=-1)
    for code in codes[: last + 1]:
        if code or gap == REACH:
            gaps.append(gap)
            values.append(code)
            gap = 0
        else:
            gap += 1
    return gaps, values


def _lengths_fault(student: Student, codes: torch.Tensor) -> str | None:
    counts = torch.bincount(codes, minlength=4)
    got = student.call("huffman_lengths", counts)
    if not isinstance(got, torch.Tensor) or got.is_floating_point() or got.shape != counts.shape:
        return f"got {got!r}, expected integers {tuple(counts.shape)}"
    lengths = got.long().tolist()
    for symbol, (count, length) in enumerate(zip(counts.tolist(), lengths, strict=True)):
        if (count > 0) != (length > 0):
            return f"symbol {symbol}, seen {count} times, has length {length}"
    huffman.canonical_codes(got)  # ValueError where no prefix code has these lengths
    bits = sum(c * n for c, n in zip(counts.tolist(), lengths, strict=True))
    best = _huffman_bits(counts.tolist())
    return None if bits == best else f"counts {counts.tolist()}: {bits} bits, expected {best}"


def _huffman_bits(counts: list[int]) -> int:
    """Bits of an optimal prefix code: each merge of two subtrees costs one bit an occurrence."""
    weights = sorted(c for c in counts if c)
    if len(weights) == 1:
        return weights[0]
    bits = 0
    while len(weights) > 1:
        merged = weights.pop(0) + weights.pop(0)
        bits += merged
        weights = sorted([*weights, merged])
    return bits


def _stream_fault(student: Student, codes: torch.Tensor) -> tuple[str | None, float]:
    """Why the stream of ``codes`` does not decode to them (or None), and its size ratio."""
    try:
        stored = student.call("encode", codes)
        decoded = decode(stored, len(codes))
    except (StudentError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error) or type(error).__name__, float("inf")
    if not torch.equal(decoded, codes):
        first = int((decoded != codes).nonzero()[0])
        return f"code {first}: decoded {int(decoded[first])}, expected {int(codes[first])}", 1.0
    best = sum(
        _huffman_bits(torch.bincount(torch.tensor(symbols, dtype=torch.int64)).tolist())
        for symbols in _relative_index(codes.tolist())
    )
    return None, len(stored["stream"]) / max(1, (best + 7) // 8)
