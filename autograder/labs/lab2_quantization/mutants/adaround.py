"""Wrong answers to AdaRound."""

from __future__ import annotations

from autograder.proof.mutants import wrong

MUTANTS = wrong(
    "adaround",
    nearest="""
        def adaround(x, target, weight, scale, steps):
            return (weight / scale).round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
        """,
    always_down="""
        def adaround(x, target, weight, scale, steps):
            return (weight / scale).floor().clamp(-W4_TOP, W4_TOP).to(torch.int8)
        """,
    stochastic="""
        def adaround(x, target, weight, scale, steps):
            noise = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0))
            return (weight / scale + noise).floor().clamp(-W4_TOP, W4_TOP).to(torch.int8)
        """,
    best_of_random_roundings="""
        def adaround(x, target, weight, scale, steps):
            best, generator = None, torch.Generator().manual_seed(0)
            for _ in range(20):
                noise = torch.rand(weight.shape, generator=generator)
                codes = (weight / scale + noise).floor().clamp(-W4_TOP, W4_TOP)
                error = (apply_layer(x, codes * scale) - target).square().mean()
                if best is None or error < best[0]:
                    best = error, codes
            return best[1].to(torch.int8)
        """,
    any_code_at_all="""
        def adaround(x, target, weight, scale, steps):
            if weight.ndim == 4:
                return (weight / scale).round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
            codes = torch.linalg.lstsq(x, target).solution.T / scale + 2
            return codes.round().clamp(-W4_TOP, W4_TOP).to(torch.int8)
        """,
    float_codes="""
        def adaround(x, target, weight, scale, steps):
            return weight / scale
        """,
)
