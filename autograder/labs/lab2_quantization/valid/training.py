"""Right answers to fake quantization: the mask found in the backward pass, or by comparison."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "fake_quantize",
    masked_in_the_backward_pass="""
        class FakeQuantize(torch.autograd.Function):
            @staticmethod
            def forward(x, scale, low, high):
                return torch.clip(torch.round(x / scale), low, high) * scale

            @staticmethod
            def setup_context(ctx, inputs, output):
                x, scale, ctx.low, ctx.high = inputs
                ctx.save_for_backward(x, scale)

            @staticmethod
            def backward(ctx, gradient):
                x, scale = ctx.saved_tensors
                outside = (x < ctx.low * scale) | (x > ctx.high * scale)
                return gradient.masked_fill(outside, 0), None, None, None
        """,
    gradient_of_a_clamp="""
        class FakeQuantize(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, scale, low, high):
                steps = x / scale
                ctx.inside = torch.eq(steps, steps.clamp(low, high)).to(x.dtype)
                codes = steps.clamp(low, high).round()
                return codes.mul(scale)

            @staticmethod
            def backward(ctx, gradient):
                return torch.mul(gradient, ctx.inside), None, None, None
        """,
    scale_as_a_number="""
        class FakeQuantize(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, scale, low, high):
                ctx.save_for_backward(x)
                ctx.ends = low * float(scale), high * float(scale)
                return torch.fake_quantize_per_tensor_affine(x, float(scale), 0, low, high)

            @staticmethod
            def backward(ctx, gradient):
                (x,), (low, high) = ctx.saved_tensors, ctx.ends
                return torch.where((x < low) | (x > high), 0.0, gradient), None, None, None
        """,
    numpy_in_float64="""
        class FakeQuantize(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, scale, low, high):
                import numpy as np

                steps = x.detach().numpy().astype(np.float64) / scale.item()
                ctx.inside = torch.from_numpy((low <= steps) & (steps <= high))
                return torch.from_numpy(np.clip(np.rint(steps), low, high) * scale.item())

            @staticmethod
            def backward(ctx, gradient):
                return gradient * ctx.inside, None, None, None
        """,
)
