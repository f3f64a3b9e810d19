"""Right answers to linear quantization: slice by slice, in numpy, with Python's rounding."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = [
    *valid(
        "linear_quantize",
        "solution_quantization_parameters",
        slice_by_slice="""
            def quantization_parameters(x, bits, symmetric, axis=None):
                def of(part):
                    low, high = min(0.0, part.min().item()), max(0.0, part.max().item())
                    if low == high:
                        return 1.0, 0 if symmetric else -(2 ** (bits - 1))
                    if symmetric:
                        return max(-low, high) / (2 ** (bits - 1) - 1), 0
                    scale = (high - low) / (2**bits - 1)
                    return scale, round(-(2 ** (bits - 1)) - low / scale)

                found = [of(part) for part in ([x] if axis is None else x.unbind(axis))]
                scale = torch.tensor([pair[0] for pair in found])
                zero_point = torch.tensor([pair[1] for pair in found], dtype=torch.int32)
                if axis is None:
                    return scale.squeeze(), zero_point.squeeze()
                return scale, zero_point
            """,
        numpy_reduces_the_other_axes="""
            def quantization_parameters(x, bits, symmetric, axis=None):
                import numpy as np

                a = x.detach().numpy()
                others = tuple(i for i in range(a.ndim) if i != axis)
                low = np.minimum(a.min(axis=others), 0).astype(np.float32)
                high = np.maximum(a.max(axis=others), 0).astype(np.float32)
                if symmetric:
                    span, levels = np.maximum(-low, high), 2 ** (bits - 1) - 1
                else:
                    span, levels = high - low, 2**bits - 1
                scale = np.asarray(np.where(span > 0, span / np.float32(levels), 1), np.float32)
                zero = np.zeros_like(scale)
                if not symmetric:
                    zero = np.rint(-(2 ** (bits - 1)) - low / scale)
                return torch.tensor(scale), torch.tensor(zero.astype(np.int32))
            """,
    ),
    *valid(
        "linear_quantize",
        numpy_rounds="""
            def linear_quantize(x, scale, zero_point, bits, axis=None):
                import numpy as np

                a = x.detach().numpy()
                a = a if axis is None else np.moveaxis(a, axis, -1)
                codes = np.rint(a / scale.numpy()) + zero_point.numpy()
                codes = np.clip(codes, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int8)
                codes = codes if axis is None else np.moveaxis(codes, -1, axis)
                return torch.from_numpy(np.ascontiguousarray(codes))
            """,
        slices_stacked="""
            def linear_quantize(x, scale, zero_point, bits, axis=None):
                top = 2 ** (bits - 1)
                if axis is None:
                    whole = torch.round(x / scale).int() + zero_point
                    return whole.clip(-top, top - 1).to(torch.int8)
                slices = zip(x.unbind(axis), scale, zero_point, strict=True)
                return torch.stack([linear_quantize(*each, bits) for each in slices], axis)
            """,
    ),
    *valid(
        "linear_quantize",
        "solution_dequantize",
        multiplied_out="""
            def dequantize(codes, scale, zero_point, axis=None):
                moved = codes.float() if axis is None else codes.float().movedim(axis, -1)
                real = moved * scale - zero_point * scale
                return real if axis is None else real.movedim(-1, axis)
            """,
        in_float64="""
            def dequantize(codes, scale, zero_point, axis=None):
                import numpy as np

                shape = [1] * codes.ndim
                if axis is not None:
                    shape[axis] = -1
                s = scale.numpy().astype(np.float64).reshape(shape if axis is not None else ())
                z = zero_point.numpy().reshape(shape if axis is not None else ())
                return torch.from_numpy((s * (codes.numpy().astype(np.int64) - z))).float()
            """,
    ),
]
