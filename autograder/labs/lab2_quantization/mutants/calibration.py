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
        lower_value="""
            def percentile_threshold(x, percent):
                values, share = x.abs().flatten(), percent / 100
                return float(torch.quantile(values, share, interpolation="lower"))
            """,
        of_all_but_one="""
            def percentile_threshold(x, percent):
                values = x.abs().flatten().sort().values.tolist()
                place = percent / 100 * len(values)
                low = min(int(place), len(values) - 1)
                high = min(low + 1, len(values) - 1)
                return values[low] + (values[high] - values[low]) * (place - low)
            """,
        of_the_last_dimension="""
            def percentile_threshold(x, percent):
                return float(torch.quantile(x.abs(), percent / 100, dim=-1).max())
            """,
        small_values_taken_for_zero="""
            def percentile_threshold(x, percent):
                values = x.abs().flatten()
                return float(torch.quantile(values[values > 1e-3], percent / 100))
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
        first_one_not_tried=(
            "candidates[torch.stack(errors).argmin()]",
            "candidates[torch.stack(errors[1:] or errors).argmin() + (len(errors) > 1)]",
        ),
        last_one_not_tried=(
            "torch.stack(errors).argmin()",
            "torch.stack(errors[:-1] or errors).argmin()",
        ),
        absolute_error=(".square().mean()", ".abs().mean()"),
        largest_error=(".square().mean()", ".abs().max()"),
        one_code_more=(".clamp(-top, top)", ".clamp(-top - 1, top)"),
        scale_of_all_codes=("scale = threshold / top", "scale = threshold / (top + 1)"),
        eight_bits_at_most=("2 ** (bits - 1) - 1", "2 ** (min(bits, 8) - 1) - 1"),
        eight_bits_always=("2 ** (bits - 1) - 1", "127"),
        positive_values_only=("errors = []", "errors, x = [], x.clamp(min=0)"),
        error_of_what_is_not_clipped=(
            "- x).square()",
            "- x.clamp(-threshold, threshold)).square()",
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
        last_ones_not_tried=("len(counts) + 1", "len(counts) - 8"),
        last_one_not_tried=("range(levels, len(counts) + 1)", "range(levels, len(counts))"),
        first_one_not_tried=("range(levels, len", "range(levels + 1, len"),
        last_of_equals=(
            "min(best, (float(torch.where(p > 0, p * (p / q).log(), 0.0).sum()), kept))",
            "min(best, (float(torch.where(p > 0, p * (p / q).log(), 0.0).sum()), kept),"
            " key=lambda pair: (pair[0], -pair[1]))",
        ),
        infinite_terms_skipped=(
            "torch.where(p > 0, p * (p / q).log(), 0.0)",
            "torch.where((p > 0) & (q > 0), p * (p / q).log(), 0.0)",
        ),
        q_never_zero=("p / p.sum(), q / q.sum()", "p / p.sum(), (q / q.sum()).clamp(min=1e-12)"),
        alters_its_counts=("return best[1]", "counts[-1] = 0\n    return best[1]"),
        p_is_a_view=("inside.clone()", "inside"),
        groups_of_one_size=(
            "torch.arange(kept) * levels // kept",
            "(torch.arange(kept) // (kept // levels)).clamp(max=levels - 1)",
        ),
        groups_rounded=(
            "torch.arange(kept) * levels // kept",
            "(torch.arange(kept) * levels / kept).round().long().clamp(max=levels - 1)",
        ),
        q_over_all_counts=("q / q.sum()", "q / counts.sum()"),
        squared_difference=("p * (p / q).log()", "(p - q).square()"),
        a_float=("return best[1]", "return float(best[1])"),
        the_last_bin=("return best[1]", "return best[1] - 1"),
        not_normalized=("p / p.sum(), q / q.sum()", "p, q"),
        keeps_all=("return best[1]", "return len(counts)"),
    ),
]
