"""Right answers to the assembly of an integer network: from scratch, in NumPy, layer by layer."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "quantize_network",
    one_layer_at_a_time="""
        def quantized_layer(weight, bias, scale_in, bits, axis):
            w_scale, w_zero = quantization_parameters(weight, bits, True, axis)
            scales = (scale_in * w_scale.double()).reshape(-1).repeat(
                len(bias) if axis is None else 1
            )
            codes = linear_quantize(weight, w_scale, w_zero, bits, axis)
            return codes, torch.round(bias.double() / scales).to(torch.int32), scales


        def quantize_network(layers, image, thresholds, bits, axis):
            scale, zero = quantization_parameters(image, 8, False)
            tensors, scale_in = {}, scale.item()
            for name, (weight, bias) in layers.items():
                last = name not in thresholds
                found = quantized_layer(weight, bias, scale_in, bits, None if last else axis)
                tensors[name + ".weight"], tensors[name + ".bias"], scales = found
                if last:
                    continue
                scale_in = thresholds[name] / (2**bits - 1)
                tensors[name + ".mantissa"], shift = fixed_point(scales / scale_in)
                tensors[name + ".shift"] = shift.char()
                tensors[name + ".zero_point"] = torch.full((1,), -(1 << bits - 1)).int()
            tensors["input.scale"], tensors["input.zero_point"] = scale.view(1), zero.view(1)
            return tensors
        """,
    from_scratch="""
        def quantize_network(layers, image, thresholds, bits, axis):
            import math

            low, high = min(0.0, image.min().item()), max(0.0, image.max().item())
            before = (high - low) / 255 or 1.0
            stored = {
                "input.scale": torch.tensor([before]),
                "input.zero_point": torch.tensor([round(-128 - low / before)]).int(),
            }
            top = 2 ** (bits - 1) - 1
            for name, (weight, bias) in layers.items():
                rows = weight.flatten(1).double()
                if axis is None or name == "classifier":
                    scales = rows.abs().max().expand(len(rows)) / top
                else:
                    scales = rows.abs().amax(1) / top
                scales = torch.where(scales == 0, 1.0, scales)
                codes = (rows / scales[:, None]).round().to(torch.int8)
                stored[f"{name}.weight"] = codes.reshape(weight.shape)
                sums = [before * s for s in scales.tolist()]
                codes = [round(b / s) for b, s in zip(bias.tolist(), sums, strict=True)]
                stored[f"{name}.bias"] = torch.tensor(codes, dtype=torch.int32)
                if name == "classifier":
                    break
                before = thresholds[name] / (2**bits - 1)
                parts = [math.frexp(s / before) for s in sums]
                mantissas = [min(round(f * 2**31), 2**31 - 1) for f, _ in parts]
                stored[f"{name}.mantissa"] = torch.tensor(mantissas, dtype=torch.int32)
                shifts = [31 - e for _, e in parts]
                stored[f"{name}.shift"] = torch.tensor(shifts, dtype=torch.int8)
                stored[f"{name}.zero_point"] = torch.tensor([-top - 1], dtype=torch.int32)
            return stored
        """,
    arrays_of_numpy="""
        def quantize_network(layers, image, thresholds, bits, axis):
            import numpy as np

            scale, zero = quantization_parameters(image, 8, symmetric=False)
            stored = {"input.scale": scale[None], "input.zero_point": zero[None]}
            scale = scale.numpy().astype(np.float64)
            for name, (weight, bias) in layers.items():
                each = axis if weight.ndim == 4 else None
                w_scale, w_zero = quantization_parameters(weight, bits, symmetric=True, axis=each)
                stored[f"{name}.weight"] = linear_quantize(weight, w_scale, w_zero, bits, each)
                product = np.broadcast_to(scale * w_scale.numpy().astype(np.float64), len(bias))
                codes = np.rint(bias.numpy() / product).astype(np.int32)
                stored[f"{name}.bias"] = torch.from_numpy(codes)
                if weight.ndim == 4:
                    scale = np.float64(thresholds[name]) / (2**bits - 1)
                    mantissa, shift = fixed_point(torch.from_numpy(product / scale))
                    stored[f"{name}.mantissa"] = mantissa
                    stored[f"{name}.shift"] = shift.numpy().astype(np.int8)
                    stored[f"{name}.zero_point"] = np.array([-(2 ** (bits - 1))], dtype=np.int32)
            return stored
        """,
)
