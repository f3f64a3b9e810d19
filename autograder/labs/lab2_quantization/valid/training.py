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
)
