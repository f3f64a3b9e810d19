"""Canonical Huffman coding of weights as in Deep Compression, with a strict decoder.

A canonical code is fixed by its code lengths alone, so a file stores one small length for each
symbol and no tree (as RFC 1951, section 3.2.2, does). A stream is a list of entries, each a gap
and a value in that order, most significant bit first, filled up with zero bits to a whole byte.
Leaves out how lengths are chosen: that is Lab 1. Taught there and in Lectures 1 and 5.
"""

from __future__ import annotations

import torch

MAX_LENGTH = 32
MAX_SYMBOLS = 256


def canonical_codes(lengths: torch.Tensor) -> torch.Tensor:
    """Codewords ``[S]`` int64 of a canonical code: by length, then by symbol.

    Args:
        lengths: integers ``[S]``, bits of each symbol's codeword; 0: the symbol is not used.

    Raises:
        ValueError: not a vector of integers from 0 to 32, or lengths that no prefix code has.
    """
    listed = _checked_lengths(lengths)
    codes, code, previous = torch.zeros(len(listed), dtype=torch.int64), 0, 0
    for length, symbol in sorted((n, s) for s, n in enumerate(listed) if n):
        code <<= length - previous
        codes[symbol] = code
        code, previous = code + 1, length
    return codes


def _checked_lengths(lengths: torch.Tensor) -> list[int]:
    if lengths.ndim != 1 or lengths.is_floating_point() or lengths.dtype == torch.bool:
        got = f"{lengths.dtype} {tuple(lengths.shape)}"
        raise ValueError(f"got code lengths {got}; allowed: a vector of integers")
    listed = lengths.tolist()
    if len(listed) > MAX_SYMBOLS or any(not 0 <= n <= MAX_LENGTH for n in listed):
        raise ValueError(
            f"got code lengths {listed[:MAX_SYMBOLS]}; allowed: at most {MAX_SYMBOLS}, each from "
            f"0 to {MAX_LENGTH}"
        )
    if sum(2 ** (MAX_LENGTH - n) for n in listed if n) > 2**MAX_LENGTH:
        raise ValueError(f"got code lengths {listed}; allowed: Kraft sum of 2^-length at most 1")
    return listed


def write_bits(codes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Concatenate codewords, most significant bit first, into bytes.

    Args:
        codes, lengths: integers ``[E]``: the codewords in order and the bits of each.

    Returns:
        uint8 ``[ceil(sum(lengths) / 8)]``; the last byte ends in zero bits.
    """
    codes, lengths = codes.long(), lengths.long()
    total = int(lengths.sum())
    ends = lengths.cumsum(0).repeat_interleave(lengths)
    bits = codes.repeat_interleave(lengths) >> (ends - 1 - torch.arange(total)) & 1
    padded = torch.cat([bits, bits.new_zeros(-total % 8)]).reshape(-1, 8)
    return (padded << torch.arange(7, -1, -1)).sum(1).to(torch.uint8)


def read_entries(
    stream: torch.Tensor, entries: int, gap_lengths: torch.Tensor, value_lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode ``entries`` pairs (gap, value); the opposite of :func:`write_bits` on their codes.

    Returns:
        gaps and values, int64 ``[entries]`` each.

    Raises:
        ValueError: a stream that is too short, has bytes left over, bits set after its end, or a
            codeword that is not in the table.
    """
    if stream.dtype != torch.uint8 or stream.ndim != 1:
        raise ValueError(f"got a {stream.dtype} stream {tuple(stream.shape)}; allowed: uint8 bytes")
    if entries < 0 or 2 * entries > 8 * len(stream):
        raise ValueError(f"got {entries} entries in {len(stream)} bytes; allowed: 2 bits or more")
    tables = [_table(gap_lengths), _table(value_lengths)]
    bits = iter("".join(f"{byte:08b}" for byte in stream.tolist()))
    decoded: list[int] = []
    for index in range(2 * entries):
        table, word = tables[index % 2], ""
        while word not in table:
            bit = next(bits, None)
            if bit is None or len(word) == MAX_LENGTH:
                raise ValueError(f"entry {index // 2}: the stream ends or {word!r} is no codeword")
            word += bit
        decoded.append(table[word])
    rest = "".join(bits)
    if len(rest) >= 8 or "1" in rest:
        raise ValueError(f"{len(rest)} bits are left after {entries} entries")
    pairs = torch.tensor(decoded, dtype=torch.int64).reshape(entries, 2)
    return pairs[:, 0], pairs[:, 1]


def _table(lengths: torch.Tensor) -> dict[str, int]:
    codes = canonical_codes(lengths).tolist()
    return {
        f"{code:0{length}b}": symbol
        for symbol, (code, length) in enumerate(zip(codes, lengths.tolist(), strict=True))
        if length
    }


def place(gaps: torch.Tensor, values: torch.Tensor, size: int) -> torch.Tensor:
    """Dense codes ``[size]`` from a relative index: each value stands ``gap`` zeros after the last.

    Args:
        gaps, values: int64 ``[E]``; a value of 0 is padding that only carries its gap.

    Raises:
        ValueError: entries that reach past ``size``.
    """
    positions = (gaps + 1).cumsum(0) - 1
    if len(positions) and (int(positions[-1]) >= size or int(gaps.min()) < 0):
        raise ValueError(f"got an entry at position {int(positions[-1])}; allowed: below {size}")
    codes = torch.zeros(size, dtype=torch.int64)
    codes[positions] = values
    return codes
