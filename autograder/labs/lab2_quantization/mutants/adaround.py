"""Wrong answers to AdaRound."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed, wrong

SOFT = dedent("""
    def soft_round(v):
        return (1.2 * v.sigmoid() - 0.1).clamp(0, 1)
    """)
DESCENT = dedent("""
    def adaround(x, target, weight, scale, steps):
        floor = (weight / scale).floor()
        share = (weight / scale - floor).clamp(0.01, 0.99)
        v = ((share + 0.1) / (1.1 - share)).log().requires_grad_()
        nearest = (weight / scale).round().clamp(-W4_TOP, W4_TOP) * scale
        unit = (apply_layer(x[:64], nearest) - target[:64]).square().mean() + 1e-12
        optimizer, generator = torch.optim.Adam([v], lr=0.05), torch.Generator().manual_seed(SEED)
        for step in range(steps):
            rows = torch.randint(len(x), (32,), generator=generator)
            soft = (floor + soft_round(v)).clamp(-W4_TOP, W4_TOP) * scale
            loss = (apply_layer(x[rows], soft) - target[rows]).square().mean() / unit
            if step > 0.1 * steps:
                sharp = (2 * soft_round(v) - 1).abs() ** (4 - 2 * step / steps)
                loss = loss + 3 * (1 - sharp).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (floor + (soft_round(v) > 0.5)).clamp(-W4_TOP, W4_TOP).detach().to(torch.int8)
    """)

SOFT_ROUND = changed(
    "adaround",
    SOFT,
    "solution_rounding",
    plain_sigmoid=("(1.2 * v.sigmoid() - 0.1).clamp(0, 1)", "v.sigmoid()"),
    not_clamped=(".clamp(0, 1)", ""),
    clamped_above_only=(".clamp(0, 1)", ".clamp(max=1)"),
    stretched_to_one_side=("- 0.1", "- 0.0"),
    stretched_less=("1.2 * v.sigmoid() - 0.1", "1.1 * v.sigmoid() - 0.05"),
    hard=("(1.2 * v.sigmoid() - 0.1).clamp(0, 1)", "(v > 0).float() + 0 * v"),
    of_one_row=("(1.2 * v", "(1.2 * v.flatten()"),
)

LOSS = changed(
    "adaround",
    DESCENT,
    ignores_its_target=(
        "floor = (weight / scale).floor()",
        "floor, target = (weight / scale).floor(), apply_layer(x, weight)",
    ),
    aims_at_nearest=(
        "optimizer, generator",
        "target = apply_layer(x, nearest)\n    optimizer, generator",
    ),
    no_updates=("range(steps)", "range(0)"),
    alters_its_target=("nearest = (weight", "target.mul_(1 + 1e-6)\n    nearest = (weight"),
    ten_updates=("range(steps)", "range(10)"),
    codes_of_eight_bits=(
        "(floor + (soft_round(v) > 0.5)).clamp(-W4_TOP, W4_TOP)",
        "(floor - (floor == -W4_TOP) + (soft_round(v) > 0.5))",
    ),
    rounds_the_other_way=("(soft_round(v) > 0.5)", "(soft_round(v) <= 0.5)"),
    one_too_many=("(floor + (soft", "(floor + 1 + (soft"),
    weight_by_weight=(
        "(apply_layer(x[rows], soft) - target[rows]).square().mean() / unit",
        "(soft - weight).square().mean() / unit",
    ),
)

WHOLE = wrong(
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

MUTANTS = [*SOFT_ROUND, *LOSS, *WHOLE]
