"""Wrong answers to weight sharing: Lloyd's algorithm, packing, bytes, gradients."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed, wrong

LLOYD = dedent("""
    def kmeans_quantize(weight, bits):
        values = weight.flatten().float()
        codebook = torch.linspace(float(values.min()), float(values.max()), 2**bits)
        for _ in range(300):
            codes = (values[:, None] - codebook).abs().argmin(1)
            before = codebook.clone()
            for entry in range(2**bits):
                if (codes == entry).any():
                    codebook[entry] = values[codes == entry].mean()
            if torch.equal(before, codebook):
                break
        return codebook, codes.reshape(weight.shape)
    """)
PACK = dedent("""
    def pack_codes(codes, bits):
        stream = ((codes.reshape(-1, 1) >> torch.arange(bits)) & 1).flatten()
        stream = functional.pad(stream, (0, -len(stream) % 8))
        return (stream.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    """)

MUTANTS = [
    *changed(
        "kmeans_quantize",
        LLOYD,
        evenly_spaced=("range(300)", "range(1)"),
        stops_early=("range(300)", "range(4)"),
        squared_mean=(".mean()", ".square().mean().sqrt()"),
        median=(".mean()", ".median()"),
        from_random_weights=(
            "torch.linspace(float(values.min()), float(values.max()), 2**bits)",
            "values[: 2**bits].clone()",
        ),
        one_entry_less=("2**bits)\n    for _", "2**bits - 1)\n    for _"),
        codes_as_int8=(
            "codes.reshape(weight.shape)",
            "codes.reshape(weight.shape).to(torch.int8)",
        ),
        signs_lost=("(values[:, None] - codebook)", "(values.abs()[:, None] - codebook)"),
        unused_become_nan=("if (codes == entry).any():", "if True:"),
        unused_become_zero=(
            "if (codes == entry).any():",
            "codebook[entry] = 0\n            if (codes == entry).any():",
        ),
        unused_go_back_to_the_start=(
            "if (codes == entry).any():",
            "codebook[entry] = torch.linspace(float(values.min()), float(values.max()), 2**bits)"
            "[entry]\n            if (codes == entry).any():",
        ),
        unused_take_the_farthest_weight=(
            "if torch.equal(before, codebook):",
            "used = torch.bincount(codes, minlength=2**bits) > 0\n"
            "        codebook[~used] = values[(values - codebook[codes]).abs().argmax()]\n"
            "        if torch.equal(before, codebook):",
        ),
        from_quantiles=(
            "torch.linspace(float(values.min()), float(values.max()), 2**bits)",
            "values.quantile(torch.linspace(0, 1, 2**bits))",
        ),
        from_a_symmetric_range=(
            "torch.linspace(float(values.min()), float(values.max()), 2**bits)",
            "torch.linspace(-1, 1, 2**bits) * values.abs().max()",
        ),
        stops_at_a_small_change=(
            "torch.equal(before, codebook)",
            "torch.allclose(before, codebook, atol=1e-4)",
        ),
        codes_in_a_row=("codes.reshape(weight.shape)", "codes"),
        codebook_of_float64=("return codebook,", "return codebook.double(),"),
        codebook_of_halves=("return codebook,", "return codebook.half().float(),"),
        alters_its_weights=(
            "values = weight.flatten().float()",
            "values = weight.sub_(0.1).flatten()",
        ),
        four_bits_at_most=("2**bits)\n    for _", "min(16, 2**bits))\n    for _"),
    ),
    *changed(
        "kmeans_quantize",
        PACK,
        "solution_pack_codes",
        highest_bit_first=(
            "codes.reshape(-1, 1) >> torch.arange(bits)",
            "codes.reshape(-1, 1) >> torch.arange(bits).flip(0)",
        ),
        bytes_big_endian=("<< torch.arange(8)", "<< torch.arange(8).flip(0)"),
        last_byte_lost=(
            "functional.pad(stream, (0, -len(stream) % 8))",
            "stream[: len(stream) // 8 * 8]",
        ),
        one_byte_more=("-len(stream) % 8", "8 - len(stream) % 8"),
        four_bits_at_most=("codes.reshape(-1, 1)", "(codes & 15).reshape(-1, 1)"),
        columns_first=("codes.reshape(-1, 1)", "codes.movedim(0, -1).reshape(-1, 1)"),
        last_dimension_only=("codes.reshape(-1, 1)", "codes.reshape(-1, codes.shape[-1])[:1].T"),
    ),
    *wrong(
        "kmeans_quantize",
        "solution_pack_codes",
        one_code_a_byte="""
            def pack_codes(codes, bits):
                return codes.flatten().to(torch.uint8)
            """,
        codes_do_not_cross_bytes="""
            def pack_codes(codes, bits):
                each = 8 // bits
                rows = functional.pad(codes.flatten(), (0, -codes.numel() % each)).reshape(-1, each)
                return (rows << (bits * torch.arange(each))).sum(1).to(torch.uint8)
            """,
        vectors_only="""
            def pack_codes(codes, bits):
                stream = ((codes[:, None] >> torch.arange(bits)) & 1).flatten()
                stream = functional.pad(stream, (0, -len(stream) % 8))
                return (stream.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
            """,
        first_dimension_counts="""
            def pack_codes(codes, bits):
                size = (len(codes) * bits + 7) // 8
                number = sum(c << bits * i for i, c in enumerate(codes.flatten().tolist()))
                packed = number.to_bytes(max(size, number.bit_length() // 8 + 1), "little")[:size]
                return torch.tensor(list(packed), dtype=torch.uint8)
            """,
        pads_each_row="""
            def pack_codes(codes, bits):
                rows = codes.reshape(-1, codes.shape[-1] if codes.ndim else 1, 1)
                stream = ((rows >> torch.arange(bits)) & 1).flatten(1)
                stream = functional.pad(stream, (0, -stream.shape[1] % 8)).reshape(-1, 8)
                return (stream << torch.arange(8)).sum(1).to(torch.uint8)
            """,
        two_codes_at_least="""
            def pack_codes(codes, bits):
                flat = codes.flatten()
                assert len(flat) > 1
                stream = ((flat[:, None] >> torch.arange(bits)) & 1).flatten()
                stream = functional.pad(stream, (0, -len(stream) % 8))
                return (stream.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
            """,
    ),
    *wrong(
        "kmeans_quantize",
        "solution_codebook_bytes",
        without_codebook="""
            def codebook_bytes(count, bits):
                return -(-count * bits // 8)
            """,
        codebook_counted_as_codes="""
            def codebook_bytes(count, bits):
                return -(-(count + 2**bits) * bits // 8)
            """,
        rounded_down="""
            def codebook_bytes(count, bits):
                return count * bits // 8 + 4 * 2**bits
            """,
        bits_instead_of_bytes="""
            def codebook_bytes(count, bits):
                return count * bits + 32 * 2**bits
            """,
        a_float="""
            def codebook_bytes(count, bits):
                return count * bits / 8 + 4 * 2**bits
            """,
        codebook_of_halves="""
            def codebook_bytes(count, bits):
                return -(-count * bits // 8) + 2 * 2**bits
            """,
        one_byte_more="""
            def codebook_bytes(count, bits):
                return count * bits // 8 + 1 + 4 * 2**bits
            """,
        whole_bytes_a_code="""
            def codebook_bytes(count, bits):
                return -(-count // (8 // bits)) + 4 * 2**bits
            """,
        in_float32="""
            def codebook_bytes(count, bits):
                return int(torch.tensor(count * bits / 8).ceil()) + 4 * 2**bits
            """,
    ),
    *wrong(
        "kmeans_quantize",
        "solution_codebook_gradient",
        mean_instead_of_sum="""
            def codebook_gradient(gradient, codes, entries):
                sums = torch.zeros(entries).index_add(0, codes.flatten(), gradient.flatten())
                return sums / torch.bincount(codes.flatten(), minlength=entries).clamp(min=1)
            """,
        last_one_wins="""
            def codebook_gradient(gradient, codes, entries):
                found = torch.zeros(entries)
                found[codes.flatten()] = gradient.flatten()
                return found
            """,
        absolute="""
            def codebook_gradient(gradient, codes, entries):
                flat = gradient.abs().flatten()
                return torch.zeros(entries).index_add(0, codes.flatten(), flat)
            """,
        entries_without_weights_left_out="""
            def codebook_gradient(gradient, codes, entries):
                found = torch.zeros(int(codes.max()) + 1)
                return found.index_add(0, codes.flatten(), gradient.flatten())
            """,
        first_row_only="""
            def codebook_gradient(gradient, codes, entries):
                rows = gradient.reshape(len(gradient), -1), codes.reshape(len(codes), -1)
                return torch.zeros(entries).index_add(0, rows[1][0], rows[0][0])
            """,
        entries_by_powers_of_two="""
            def codebook_gradient(gradient, codes, entries):
                size = 2 ** max(1, (entries - 1).bit_length())
                return torch.zeros(size).index_add(0, codes.flatten(), gradient.flatten())
            """,
    ),
]
