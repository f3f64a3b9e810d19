"""Right answers to the integer layers: channel by channel, Python's integers, im2col."""

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
)

REQUANTIZATION = [
    *valid(
        "requantize",
        "solution_fixed_point",
        one_by_one="""
            def fixed_point(multiplier):
                import math

                mantissas, shifts = [], []
                for real in multiplier.flatten().tolist():
                    fraction, exponent = math.frexp(real)
                    mantissa = round(math.ldexp(fraction, 31))
                    if mantissa == 1 << 31:
                        mantissa, exponent = 1 << 30, exponent + 1
                    mantissas.append(mantissa)
                    shifts.append(31 - exponent)
                columns = (torch.tensor(c, dtype=torch.int32) for c in (mantissas, shifts))
                return tuple(c.reshape(multiplier.shape) for c in columns)
            """,
        by_logarithm="""
            def fixed_point(multiplier):
                import numpy as np

                real = multiplier.numpy().astype(np.float64)
                shift = 30 - np.floor(np.log2(real))
                mantissa = np.floor(real * 2**shift + 0.5)
                shift = np.where(mantissa >= 2**31, shift - 1, shift)
                mantissa = np.floor(real * 2**shift + 0.5)
                return tuple(torch.tensor(a.astype(np.int32)) for a in (mantissa, shift))
            """,
    ),
    *valid(
        "requantize",
        integers_of_python="""
            def requantize(sums, mantissa, shift, zero_point, low, high):
                codes = torch.empty_like(sums)
                for c, (m, n) in enumerate(zip(mantissa.tolist(), shift.tolist(), strict=True)):
                    own = [
                        min(max((a * m + (1 << n - 1) >> n) + zero_point, low), high)
                        for a in sums[:, c].flatten().tolist()
                    ]
                    codes[:, c] = torch.tensor(own, dtype=torch.int32).view(sums[:, c].shape)
                return codes
            """,
        last_bit_decides="""
            def requantize(sums, mantissa, shift, zero_point, low, high):
                import numpy as np

                product = np.moveaxis(sums.numpy().astype(np.int64), 1, -1) * mantissa.numpy()
                n = shift.numpy().astype(np.int64)
                codes = (product >> n) + (product >> (n - 1) & 1) + zero_point
                codes = np.moveaxis(np.clip(codes, low, high), -1, 1).astype(np.int32)
                return torch.from_numpy(np.ascontiguousarray(codes))
            """,
        floor_division="""
            def requantize(sums, mantissa, shift, zero_point, low, high):
                moved = sums.long().movedim(1, -1) * mantissa
                codes = (moved + 2 ** (shift.long() - 1)).div(
                    2 ** shift.long(), rounding_mode="floor"
                )
                return (codes + zero_point).clamp(low, high).movedim(-1, 1).int()
            """,
    ),
]

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
    ),
]

VALID = [*FOLDING, *REQUANTIZATION, *SUMS]
