"""Right answers to requantization: Python's integers, the last bit shifted out, floor division."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = [
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
        doubled_until_it_fits="""
            def fixed_point(multiplier):
                real = multiplier.clone()
                shift = torch.zeros_like(real, dtype=torch.int32)
                while (small := real.round() < 2**30).any():
                    real[small] *= 2
                    shift += small
                while (big := real.round() >= 2**31).any():
                    real[big] /= 2
                    shift -= big.int()
                return real.round().int(), shift
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
