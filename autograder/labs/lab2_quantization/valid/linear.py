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
        by_aminmax_of_a_view="""
            def quantization_parameters(x, bits, symmetric, axis=None):
                shape = () if axis is None else (x.shape[axis],)
                rows = x.transpose(0, axis or 0).reshape(*(shape or (1,)), -1).double()
                low, high = rows.aminmax(dim=1)
                low, high = torch.minimum(low, low * 0), torch.maximum(high, high * 0)
                if symmetric:
                    scale = torch.maximum(low.abs(), high) / (2 ** (bits - 1) - 1)
                else:
                    scale = (high - low) / (2**bits - 1)
                scale[scale == 0] = 1
                zero = torch.zeros_like(scale)
                if not symmetric:
                    zero = torch.round(-(2.0 ** (bits - 1)) - low / scale)
                return scale.float().view(shape), zero.to(torch.int32).view(shape)
            """,
        channels_by_recursion="""
            def quantization_parameters(x, bits, symmetric, axis=None):
                if axis is not None:
                    parts = [quantization_parameters(p, bits, symmetric) for p in x.unbind(axis)]
                    return [torch.stack(column) for column in zip(*parts)]
                low, high = x.min().clamp_max(0), x.max().clamp_min(0)
                if low == high:
                    low, high = torch.tensor(0.0), torch.tensor(2.0 ** bits - 1)
                    if symmetric:
                        high = torch.tensor(2.0 ** (bits - 1) - 1)
                if symmetric:
                    return max(-low, high) / (2 ** (bits - 1) - 1), torch.tensor(0).int()
                scale = (high - low) / (2**bits - 1)
                return scale, (-(1 << bits - 1) - low / scale).round().int()
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
        in_place_on_an_own_copy="""
            def linear_quantize(x, scale, zero_point, bits, axis=None):
                codes = x.double().clone()
                moved = codes if axis is None else codes.movedim(axis, -1)  # a view
                moved.div_(scale.double()).round_().add_(zero_point)
                codes.clamp_(min=-(2 ** (bits - 1)), max=2 ** (bits - 1) - 1)
                return codes.char()
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
        slices_stacked="""
            def dequantize(codes, scale, zero_point, axis=None):
                if axis is None:
                    return (codes.long() - zero_point.long()) * scale.item()
                parts = zip(codes.unbind(axis), scale, zero_point)
                return torch.stack([dequantize(*part) for part in parts], dim=axis)
            """,
    ),
]
