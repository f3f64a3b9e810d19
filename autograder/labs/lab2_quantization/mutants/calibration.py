"""Wrong answers to calibration: percentile, squared error, KL divergence."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed, wrong

MSE = dedent("""
    def mse_threshold(x, bits, candidates):
        top = 2 ** (bits - 1) - 1
        errors = []
        for threshold in candidates:
            scale = threshold / top
            errors.append(((x / scale).round().clamp(-top, top) * scale - x).square().mean())
        return float(candidates[torch.stack(errors).argmin()])
    """)
KL = dedent("""
    def kl_threshold(counts, levels):
        best = (float("inf"), len(counts))
        for kept in range(levels, len(counts) + 1):
            inside = counts[:kept]
            p = inside.clone()
            p[-1] += counts[kept:].sum()
            group = torch.arange(kept) * levels // kept
            sums = torch.zeros(levels).double().index_add(0, group, inside)
            filled = torch.zeros(levels).double().index_add(0, group, (inside > 0).double())
            q = torch.where(inside > 0, (sums / filled.clamp(min=1))[group], 0.0)
            p, q = p / p.sum(), q / q.sum()
            best = min(best, (float(torch.where(p > 0, p * (p / q).log(), 0.0).sum()), kept))
        return best[1]
    """)

MUTANTS = [
    *wrong(
        "calibrate",
        "solution_percentile_threshold",
        signed="""
            def percentile_threshold(x, percent):
                return float(torch.quantile(x.flatten(), percent / 100))
            """,
        share_of_the_largest="""
            def percentile_threshold(x, percent):
                return float(x.abs().max()) * percent / 100
            """,
        nearest_value="""
            def percentile_threshold(x, percent):
                values = x.abs().flatten().sort().values
                return float(values[min(len(values) - 1, int(percent / 100 * len(values)))])
            """,
        min_max="""
            def percentile_threshold(x, percent):
                return float(x.abs().max())
            """,
    ),
    *changed(
        "calibrate",
        MSE,
        "solution_mse_threshold",
        largest_candidate=("torch.stack(errors).argmin()", "candidates.argmax()"),
        worst=(".argmin()", ".argmax()"),
        not_clipped=(".clamp(-top, top)", ""),
        no_rounding=(".round()", ""),
        all_the_levels=("2 ** (bits - 1) - 1", "2**bits - 1"),
        inside_only=(
            "((x / scale).round().clamp(-top, top) * scale - x).square().mean()",
            "(((x / scale).round() * scale - x)[x.abs() < threshold].square().mean())",
        ),
        the_index=(
            "float(candidates[torch.stack(errors).argmin()])",
            "float(torch.stack(errors).argmin())",
        ),
    ),
    *changed(
        "calibrate",
        KL,
        "solution_kl_threshold",
        outliers_dropped=("p[-1] += counts[kept:].sum()", "pass"),
        outliers_in_q=("index_add(0, group, inside)", "index_add(0, group, p)"),
        other_way_round=(
            "torch.where(p > 0, p * (p / q).log(), 0.0)",
            "torch.where((p > 0) & (q > 0), q * (q / p).log(), 0.0)",
        ),
        spread_over_empty_bins=("(inside > 0).double())", "torch.ones(kept).double())"),
        last_one_not_tried=("len(counts) + 1", "len(counts) - 8"),
        not_normalized=("p / p.sum(), q / q.sum()", "p, q"),
        keeps_all=("return best[1]", "return len(counts)"),
    ),
]
