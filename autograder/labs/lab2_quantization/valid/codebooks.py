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
        lists_of_python="""
            def kmeans_quantize(weight, bits):
                values, size = weight.flatten().tolist(), 2**bits
                low, high = min(values), max(values)
                centers = [low + (high - low) * k / (size - 1) for k in range(size)]
                codes = None
                for _ in range(300):
                    near = [min(range(size), key=lambda k: abs(v - centers[k])) for v in values]
                    if near == codes:
                        break
                    codes, members = near, [[] for _ in range(size)]
                    for v, k in zip(values, codes, strict=True):
                        members[k].append(v)
                    centers = [sum(m) / len(m) if m else c for m, c in zip(members, centers)]
                return torch.tensor(centers), torch.tensor(codes).reshape(weight.shape)
            """,
        scattered_in_place_on_a_copy="""
            def kmeans_quantize(weight, bits):
                values = weight.detach().clone().view(-1)
                codebook = torch.linspace(values.min().item(), values.max().item(), 1 << bits)
                codes = torch.bucketize(values, (codebook[1:] + codebook[:-1]) / 2)
                for _ in range(300):
                    totals = torch.zeros(1 << bits, dtype=torch.float64)
                    totals.scatter_add_(0, codes, values.double())
                    count = codes.bincount(minlength=1 << bits)
                    codebook[count > 0] = (totals / count)[count > 0].float()
                    before = codes
                    codes = torch.bucketize(values, (codebook[1:] + codebook[:-1]) / 2)
                    if (codes == before).all():
                        break
                return codebook, codes.view_as(weight)
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
        one_long_integer="""
            def pack_codes(codes, bits):
                number = 0
                for code in reversed(codes.flatten().tolist()):
                    number = number << bits | code
                packed = number.to_bytes(-(-codes.numel() * bits // 8), "little")
                return torch.tensor(list(packed), dtype=torch.uint8)
            """,
        bit_by_bit_in_numpy="""
            def pack_codes(codes, bits):
                import numpy as np

                flat = codes.numpy().ravel()
                packed = np.zeros((flat.size * bits + 7) // 8, dtype=np.uint8)
                place = np.arange(flat.size) * bits
                for b in range(bits):
                    where, bit = np.divmod(place + b, 8)
                    np.bitwise_or.at(packed, where, (flat >> b & 1).astype(np.uint8) << bit)
                return packed
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
        of_two_tensors="""
            def codebook_bytes(count, bits):
                import numpy as np

                codebook = torch.empty(2**bits)
                packed = np.int64(count) * bits + 7 >> 3
                return packed + codebook.numel() * codebook.element_size()
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
        numpy_adds_in_float64="""
            def codebook_gradient(gradient, codes, entries):
                import numpy as np

                found = np.zeros(entries)
                np.add.at(found, codes.numpy(), gradient.numpy())
                return torch.from_numpy(found)
            """,
        one_hot_in_float64="""
            def codebook_gradient(gradient, codes, entries):
                member = functional.one_hot(codes.reshape(-1), entries)
                return gradient.reshape(-1).double() @ member.double()
            """,
    ),
]
