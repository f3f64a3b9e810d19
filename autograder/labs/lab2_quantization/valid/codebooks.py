"""Right answers to weight sharing: sorted values, one-hot products, bytes one by one."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = [
    *valid(
        "kmeans_quantize",
        borders_of_sorted_values="""
            def kmeans_quantize(weight, bits):
                import numpy as np

                values = weight.detach().double().flatten().numpy()
                centers = np.linspace(values.min(), values.max(), 2**bits)
                codes = np.full(len(values), -1)
                for _ in range(300):
                    found = np.searchsorted((centers[1:] + centers[:-1]) / 2, values)
                    if (found == codes).all():
                        break
                    codes = found
                    for entry in np.unique(codes):
                        centers[entry] = values[codes == entry].mean()
                codebook = torch.tensor(centers, dtype=torch.float32)
                return codebook, torch.tensor(codes).long().reshape(weight.shape)
            """,
        one_hot_product="""
            def kmeans_quantize(weight, bits):
                values = weight.reshape(-1, 1)
                low, high = values.aminmax()
                codebook = low + (high - low) * torch.arange(2**bits) / (2**bits - 1)
                for _ in range(300):
                    codes = torch.cdist(values, codebook[:, None]).argmin(1)
                    member = functional.one_hot(codes, 2**bits).float()
                    means = (values * member).sum(0) / member.sum(0)
                    means = torch.where(means.isnan(), codebook, means)
                    if torch.equal(means, codebook):
                        break
                    codebook = means
                return codebook, codes.view(weight.shape)
            """,
    ),
    *valid(
        "kmeans_quantize",
        "solution_pack_codes",
        numpy_packs="""
            def pack_codes(codes, bits):
                import numpy as np

                stream = codes.numpy().reshape(-1, 1) >> np.arange(bits) & 1
                packed = np.packbits(stream.astype(np.uint8).ravel(), bitorder="little")
                return torch.from_numpy(packed)
            """,
        bytes_one_by_one="""
            def pack_codes(codes, bits):
                packed, waiting, filled = [], 0, 0
                for code in codes.flatten().tolist():
                    waiting |= code << filled
                    filled += bits
                    while filled >= 8:
                        packed.append(waiting & 255)
                        waiting, filled = waiting >> 8, filled - 8
                if filled:
                    packed.append(waiting)
                return torch.tensor(packed, dtype=torch.uint8)
            """,
    ),
    *valid(
        "kmeans_quantize",
        "solution_codebook_bytes",
        rounded_up_by_division="""
            def codebook_bytes(count, bits):
                whole, rest = divmod(count * bits, 8)
                return whole + (rest > 0) + (4 << bits)
            """,
        ceiling="""
            def codebook_bytes(count, bits):
                import math

                return math.ceil(count * bits / 8) + 2**bits * 32 // 8
            """,
    ),
    *valid(
        "kmeans_quantize",
        "solution_codebook_gradient",
        sum_of_each_entry="""
            def codebook_gradient(gradient, codes, entries):
                return torch.stack([gradient[codes == entry].sum() for entry in range(entries)])
            """,
        weighted_count="""
            def codebook_gradient(gradient, codes, entries):
                flat = gradient.flatten().float()
                return torch.bincount(codes.flatten(), flat, minlength=entries).float()
            """,
        chain_rule_by_autograd="""
            def codebook_gradient(gradient, codes, entries):
                shared = torch.zeros(entries, requires_grad=True)
                loss = (shared[codes] * gradient).sum()
                loss.backward()
                return shared.grad
            """,
    ),
]
