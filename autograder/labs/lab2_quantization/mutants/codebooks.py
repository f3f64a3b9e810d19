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
    ),
]
