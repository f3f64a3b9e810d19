"""Right answers to the integer layers: channel by channel, im2col, NumPy."""

from __future__ import annotations

from autograder.proof.mutants import valid

FOLDING = valid(
    "fold_batchnorm",
    channel_by_channel="""
        def fold_batchnorm(weight, gamma, beta, mean, var, eps):
            folded, bias = torch.empty_like(weight), torch.empty_like(beta)
            for o in range(len(weight)):
                deviation = (var[o] + eps) ** 0.5
                folded[o] = weight[o] / deviation * gamma[o]
                bias[o] = (0 - mean[o]) / deviation * gamma[o] + beta[o]
            return folded, bias
        """,
    in_float64="""
        def fold_batchnorm(weight, gamma, beta, mean, var, eps):
            factor = gamma.double() * torch.rsqrt(var.double() + eps)
            folded = torch.einsum("o,oikl->oikl", factor, weight.double())
            return [folded.float(), torch.addcmul(beta.double(), mean, factor, value=-1).float()]
        """,
    norm_applied_to_the_weights="""
        def fold_batchnorm(weight, gamma, beta, mean, var, eps):
            def norm(x, shift, offset):
                return functional.batch_norm(x, shift, var, gamma, offset, eps=eps)

            none = torch.zeros_like(mean)
            folded = norm(weight.movedim(0, 1), none, none).movedim(1, 0)
            return folded, norm(none[None], mean, beta)[0]
        """,
    numpy_answers_in_float64="""
        def fold_batchnorm(weight, gamma, beta, mean, var, eps):
            import numpy as np

            scale = gamma.numpy().astype(np.float64) / np.sqrt(var.numpy() + np.float64(eps))
            folded = weight.numpy() * scale.reshape(-1, 1, 1, 1)
            return torch.from_numpy(folded), torch.from_numpy(beta.numpy() - mean.numpy() * scale)
        """,
)

SUMS = [
    *valid(
        "quantized_conv2d",
        nine_shifted_products="""
            def quantized_conv2d(codes, zero_point, weight, bias):
                n, _, height, width = codes.shape
                shifted = functional.pad(codes.int() - zero_point, (1, 1, 1, 1))
                sums = bias.reshape(1, -1, 1, 1).repeat(n, 1, height, width)
                for u in range(3):
                    for v in range(3):
                        part = shifted[:, :, u : u + height, v : v + width]
                        for o in range(len(weight)):
                            w = weight[o, :, u, v].int().reshape(-1, 1, 1)
                            sums[:, o] += (part * w).sum(1, dtype=torch.int32)
                return sums
            """,
        columns_of_patches="""
            def quantized_conv2d(codes, zero_point, weight, bias):
                columns = functional.unfold(codes.double() - zero_point, 3, padding=1)
                sums = weight.flatten(1).double() @ columns + bias[:, None]
                return sums.round().int().view(len(codes), -1, *codes.shape[2:])
            """,
        zero_point_taken_out="""
            def quantized_conv2d(codes, zero_point, weight, bias):
                padded = functional.pad(codes.double(), (1, 1, 1, 1), value=zero_point)
                constant = bias.long() - zero_point * weight.long().sum((1, 2, 3))
                sums = functional.conv2d(padded, weight.double()).long()
                return (sums + constant[None, :, None, None]).to(torch.int32)
            """,
    ),
    *valid(
        "quantized_conv2d",
        "solution_quantized_linear",
        integer_product="""
            def quantized_linear(codes, zero_point, weight, bias):
                return (codes.int() - zero_point).matmul(weight.int().t()) + bias
            """,
        zero_point_taken_out="""
            def quantized_linear(codes, zero_point, weight, bias):
                import numpy as np

                q, w = codes.numpy().astype(np.int64), weight.numpy().astype(np.int64)
                sums = np.einsum("nk,ok->no", q, w) - zero_point * w.sum(1) + bias.numpy()
                return torch.from_numpy(sums.astype(np.int32))
            """,
        vector_by_vector="""
            def quantized_linear(codes, zero_point, weight, bias):
                sums = torch.empty(len(codes), len(weight), dtype=torch.int64)
                for n, row in enumerate(codes.long() - zero_point):
                    for o, w in enumerate(weight.long()):
                        sums[n, o] = torch.dot(row, w) + bias[o]
                return sums.int()
            """,
    ),
]

VALID = [*FOLDING, *SUMS]
