"""Wrong relative indices, wrong code lengths, wrong streams."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

RELATIVE_INDEX = wrong(
    "encode",
    "solution_relative_index",
    no_padding="""
        def relative_index(codes, bits=4):
            places = codes.nonzero().flatten()
            before = torch.cat([places.new_tensor([-1]), places[:-1]])
            return places - before[: len(places)] - 1, codes[places]
        """,
    padding_without_its_own_zero="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0:
                    gap += 1
                    continue
                while gap > 2**bits - 1:
                    gaps, values, gap = [*gaps, 2**bits - 1], [*values, 0], gap - 2**bits + 1
                gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    trailing_zeros_stored="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            for code in codes.tolist():
                if code == 0 and gap < 2**bits - 1:
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    always_four_bits="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0 and gap < 15:
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    gaps_reach_two_to_the_bits="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0 and gap < 2**bits:
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    one_padding_at_most="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0 and (gap < 2**bits - 1 or (values and values[-1] == 0)):
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    signs_instead_of_codes="""
        def relative_index(codes, bits=4):
            codes.clamp_(max=1)
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0 and gap < 2**bits - 1:
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps).long(), torch.tensor(values).long()
        """,
    float_gaps="""
        def relative_index(codes, bits=4):
            gaps, values, gap = [], [], 0
            end = int(codes.nonzero().max()) + 1 if codes.any() else 0
            for code in codes[:end].tolist():
                if code == 0 and gap < 2**bits - 1:
                    gap += 1
                else:
                    gaps, values, gap = [*gaps, gap], [*values, code], 0
            return torch.tensor(gaps), torch.tensor(values)
        """,
    positions_instead_of_gaps="""
        def relative_index(codes, bits=4):
            places = codes.nonzero().flatten()
            return places % 2**bits, codes[places]
        """,
)

_LENGTHS = """
def huffman_lengths(counts):
    lengths = torch.zeros(len(counts), dtype=torch.int64)
    heap = [(c, s, [s]) for s, c in enumerate(counts.tolist()) if c]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        a, first, left = heapq.heappop(heap)
        b, _, right = heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, first, left + right))
    return lengths
"""

LENGTHS = [
    *wrong(
        "encode",
        "solution_huffman_lengths",
        fixed_length="""
            def huffman_lengths(counts):
                return torch.where(counts > 0, max(1, (len(counts) - 1).bit_length()), 0)
            """,
    ),
    *changed(
        "encode",
        _LENGTHS,
        "solution_huffman_lengths",
        single_symbol_without_a_bit=(
            "    if len(heap) == 1:\n        lengths[heap[0][1]] = 1\n",
            "",
        ),
    ),
    *wrong(
        "encode",
        "solution_huffman_lengths",
        shannon_lengths="""
            def huffman_lengths(counts):
                share = counts / counts.sum().clamp(min=1)
                lengths = (-share.log2()).ceil().clamp(min=1)
                return torch.where(counts > 0, lengths, torch.zeros(())).long()
            """,
    ),
    *changed(
        "encode",
        _LENGTHS,
        "solution_huffman_lengths",
        merges_the_most_frequent=("(c, s, [s])", "(-c, s, [s])"),
        at_most_eight_bits=("    return lengths", "    return lengths.clamp(max=8)"),
        at_most_sixteen_bits=("    return lengths", "    return lengths.clamp(max=16)"),
        absent_symbols_have_a_code=("if c]", "]"),
        counts_plus_one=("(c, s, [s])", "(c + 1, s, [s])"),
        counts_changed=("    return lengths", "    counts.zero_()\n    return lengths"),
    ),
]

_ENCODE = """
def encode(codes, bits=4):
    gaps, values = relative_index(codes, bits)
    stored = {"entries": torch.tensor([len(gaps)], dtype=torch.int32)}
    words, sizes = [], []
    for name, symbols in (("gap", gaps), ("value", values)):
        count = 2**bits if name == "gap" else int(codes.max()) + 1
        lengths = huffman_lengths(torch.bincount(symbols, minlength=count))
        stored[f"{name}_lengths"] = lengths.to(torch.uint8)
        words.append(huffman.canonical_codes(lengths)[symbols])
        sizes.append(lengths[symbols])
    interleaved = (torch.stack(pair, 1).flatten() for pair in (words, sizes))
    return {**stored, "stream": huffman.write_bits(*interleaved)}
"""

STREAM = [
    *changed(
        "encode",
        _ENCODE,
        lengths_as_fp32=("lengths.to(torch.uint8)", "lengths.float()"),
        bits_ignored=("relative_index(codes, bits)", "relative_index(codes)"),
        always_sixteen_gaps=("2**bits if", "16 if"),
        value_table_of_256=("int(codes.max()) + 1", "256"),
        entries_as_int64=("dtype=torch.int32", "dtype=torch.int64"),
        codes_changed=("    stored =", "    codes.clamp_(max=1)\n    stored ="),
        gaps_then_values=("torch.stack(pair, 1).flatten()", "torch.cat(pair)"),
    ),
    *wrong(
        "encode",
        one_byte_a_code="""
            def encode(codes, bits=4):
                gaps, values = relative_index(codes, bits)
                stream = torch.stack([gaps, values], 1).flatten().to(torch.uint8)
                lengths = torch.full((16,), 8, dtype=torch.uint8)
                return {
                    "stream": stream,
                    "entries": torch.tensor([len(gaps)], dtype=torch.int32),
                    "gap_lengths": lengths,
                    "value_lengths": torch.full((int(codes.max()) + 1,), 8, dtype=torch.uint8),
                }
            """,
    ),
]

MUTANTS = [*RELATIVE_INDEX, *LENGTHS, *STREAM]
