"""Check of Deep Compression's coding: relative index, Huffman lengths, and the stream.

Lengths have to cost as few bits as a code made by merging counts; a stream has to decode to the
codes that were given, and to be as small as those codes allow.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.comparing import kind
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, passed
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab1_pruning.checks.stream import decode
from codesign import huffman

MOST_BITS = 1.02  # of a stream, relative to a Huffman code
BITS = 4  # of a gap where nothing is said


@check("encode")
def _encode(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    hidden = [*_code_cases(cases).items(), *_bit_cases(cases).items()]
    each = [(student, codes, bits) for _, (codes, bits) in hidden]
    lengths = [(student, counts) for counts in _counts(hidden)]
    found, excess = [], 0.0
    for name, (codes, bits) in hidden:
        fault, ratio = _stream_fault(student, codes, bits)
        found.append(fault and f"{name}: {fault}")
        excess = max(excess, ratio)
    whole = not any(found)
    message = f"got {excess:.3f} times the bits of a Huffman code, expected at most {MOST_BITS}"
    small = whole and excess <= MOST_BITS
    return [
        no_fault("relative_index", faults(_index_fault, each), 1),
        no_fault("huffman_lengths", faults(_lengths_fault, lengths), 1),
        no_fault("encode: lossless", found, 1),
        passed("encode: size", small, 1, message if whole else "not measured: see lossless"),
    ]


# --- cases ---------------------------------------------------------------------------------------

Case = tuple[torch.Tensor, int]  # codes [n] and the bits of a gap


def _code_cases(cases: Cases) -> dict[str, Case]:
    """Codes by the trouble that they make, with gaps of the usual bits."""
    size, symbols = int(cases.randint(600, 900)), int(cases.randint(9, 32))
    values = (cases.randn(size).abs() * symbols / 3).long().clamp(max=symbols - 1) + 1
    kept = torch.rand(size, generator=cases.generator)
    zeros = torch.zeros(size, dtype=torch.int64)
    single, runs = zeros.clone(), zeros.clone()
    single[int(cases.randint(100, 200))] = 3
    gaps = [0, 14, 15, 16, 31, 32, 33, int(cases.randint(48, 90))]
    runs[torch.tensor(gaps).add(1).cumsum(0) - 1] = torch.arange(1, 9)
    listed = {
        "85 % zeros": values * (kept < 0.15),
        "no zeros": values,
        "runs of 15, 16, 31, 32, 33 zeros": runs,
        "one value": single,
        "one symbol": torch.ones(40, dtype=torch.int64),
        "all zeros": zeros,
        "a zero": torch.tensor([0]),
        "one code, the largest": torch.tensor([255]),
        "codewords of many lengths": _fibonacci(cases),
    }
    return {name: (codes, BITS) for name, codes in listed.items()}


def _bit_cases(cases: Cases) -> dict[str, Case]:
    """Gaps of other bits, with runs of zeros on both sides of what a gap of these can count."""
    found = {}
    for bits in (1, 2, 3, 5, 8):
        reach = 2**bits - 1
        gaps = torch.tensor([0, 1, reach - 1, reach, reach + 1, 2 * reach + 1, 2 * reach + 2])
        codes = torch.zeros(int((gaps + 1).sum()) + 3, dtype=torch.int64)
        codes[(gaps + 1).cumsum(0) - 1] = cases.randint(1, 9, gaps.shape)
        found[f"gaps of {bits} bits"] = codes, bits
    return found


def _fibonacci(cases: Cases) -> torch.Tensor:
    """Codes whose rarest codeword has 11 bits: symbol counts are the Fibonacci numbers."""
    counts = [1, 1]
    while len(counts) < 12:
        counts.append(counts[-1] + counts[-2])
    codes = torch.arange(1, 13).repeat_interleave(torch.tensor(counts))
    return codes[torch.randperm(len(codes), generator=cases.generator)]


def _counts(hidden: list[tuple[str, Case]]) -> list[torch.Tensor]:
    """Counts ``[S]`` of the symbols of every case, and some that no codes have."""
    fixed = [[0], [0, 0, 0], [7], [0, 5], [3, 0, 4], [1] * 9, [10**12, 1, 10**12, 0]]
    doubled = [2**i for i in range(20)]  # the longest codeword has 19 bits
    listed = [torch.tensor(counts, dtype=torch.int64) for counts in (*fixed, doubled)]
    return [*(torch.bincount(codes, minlength=4) for _, (codes, _) in hidden), *listed]


# --- relative index ------------------------------------------------------------------------------


def _index_fault(student: Student, codes: torch.Tensor, bits: int) -> str | None:
    got = expect_tuple(student.call("relative_index", codes, bits), "gaps", "values")
    expected = _relative_index(codes.tolist(), bits)
    for name, found, listed in zip(("gaps", "values"), got, expected, strict=True):
        row = compare(name, found, torch.tensor(listed, dtype=torch.int64), 1, exact=True)
        if not row.points:
            return f"{name} of {len(codes)} codes, bits={bits}: {row.message}"
    return None


def _relative_index(codes: list[int], bits: int) -> tuple[list[int], list[int]]:
    gaps, values, gap = [], [], 0
    last = max((i for i, code in enumerate(codes) if code), default=-1)
    for code in codes[: last + 1]:
        if code or gap == 2**bits - 1:
            gaps.append(gap)
            values.append(code)
            gap = 0
        else:
            gap += 1
    return gaps, values


# --- lengths and stream --------------------------------------------------------------------------


def _lengths_fault(student: Student, counts: torch.Tensor) -> str | None:
    got = student.call("huffman_lengths", counts)
    if not isinstance(got, torch.Tensor) or got.is_floating_point() or got.shape != counts.shape:
        return f"got {kind(got)}, expected integers {tuple(counts.shape)}"
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


def _stream_fault(student: Student, codes: torch.Tensor, bits: int) -> tuple[str | None, float]:
    """Why the stream of ``codes`` does not decode to them (or None), and its size ratio."""
    given = (codes,) if bits == BITS else (codes, bits)
    try:
        stored = student.call("encode", *given)
        decoded = decode(stored, len(codes), bits)
    except (StudentError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error) or type(error).__name__, float("inf")
    if not torch.equal(decoded, codes):
        first = int((decoded != codes).nonzero()[0])
        return f"code {first}: decoded {int(decoded[first])}, expected {int(codes[first])}", 1.0
    sizes, symbols = len(stored["value_lengths"]), int(codes.max()) + 1
    if sizes != symbols:
        return f"value_lengths: got {sizes}, expected {symbols} (largest code + 1)", 1.0
    best = sum(
        _huffman_bits(torch.bincount(torch.tensor(listed, dtype=torch.int64)).tolist())
        for listed in _relative_index(codes.tolist(), bits)
    )
    return None, len(stored["stream"]) / max(1, (best + 7) // 8)
