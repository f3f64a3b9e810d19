"""Right answers to calibration: sorted values, all candidates at once, running sums."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = [
    *valid(
        "calibrate",
        "solution_percentile_threshold",
        numpy_percentile="""
            def percentile_threshold(x, percent):
                import numpy as np

                return float(np.percentile(np.abs(x.numpy()), percent))
            """,
        between_two_sorted_values="""
            def percentile_threshold(x, percent):
                values = x.flatten().abs().sort().values.tolist()
                place = percent / 100 * (len(values) - 1)
                below = int(place)
                above = min(below + 1, len(values) - 1)
                return values[below] + (values[above] - values[below]) * (place - below)
            """,
        two_order_statistics="""
            def percentile_threshold(x, percent):
                values = x.detach().clone().abs_().view(-1).double()
                place = percent * (values.numel() - 1) / 100
                low = torch.kthvalue(values, int(place) + 1).values
                high = torch.kthvalue(values, min(int(place) + 2, values.numel())).values
                return torch.lerp(low, high, place - int(place))
            """,
    ),
    *valid(
        "calibrate",
        "solution_mse_threshold",
        all_candidates_at_once="""
            def mse_threshold(x, bits, candidates):
                top = 2 ** (bits - 1) - 1
                scale = candidates[:, None] / top
                x = x.reshape(1, -1)
                error = torch.clip(torch.round(x / scale), -top, top) * scale - x
                return candidates[error.pow(2).sum(1).argmin()].item()
            """,
        the_least_of_a_list="""
            def mse_threshold(x, bits, candidates):
                import numpy as np

                a, top = x.detach().numpy().astype(np.float64), 2 ** (bits - 1) - 1

                def error(t):
                    codes = np.minimum(np.maximum(np.rint(a * top / t), -top), top)
                    return ((a - codes * t / top) ** 2).mean()

                return min(candidates.tolist(), key=error)
            """,
        by_its_own_functions="""
            def mse_threshold(x, bits, candidates):
                best = None
                for t in candidates.tolist():
                    scale, top = t / (2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1
                    codes = torch.div(x, scale).round_().clip_(-top, top)
                    error = functional.mse_loss(codes * scale, x).item()
                    if best is None or error < best[0]:
                        best = error, t
                return best[1]
            """,
    ),
    *valid(
        "calibrate",
        "solution_kl_threshold",
        lists_and_groups="""
            def kl_threshold(counts, levels):
                import math

                counts = counts.tolist()
                total, best, chosen = sum(counts), math.inf, len(counts)
                for kept in range(levels, len(counts) + 1):
                    sums, filled = [0.0] * levels, [0] * levels
                    for j in range(kept):
                        sums[j * levels // kept] += counts[j]
                        filled[j * levels // kept] += counts[j] > 0
                    inside, divergence = sum(counts[:kept]), 0.0
                    for j in range(kept):
                        group = j * levels // kept
                        p = counts[j] + (total - inside) * (j == kept - 1)
                        q = sums[group] / filled[group] if counts[j] > 0 else 0.0
                        if p > 0:
                            ratio = p * inside / (q * total) if q > 0 else math.inf
                            divergence += p / total * math.log(ratio)
                    if divergence < best:
                        best, chosen = divergence, kept
                return chosen
            """,
        running_sums="""
            def kl_threshold(counts, levels):
                import numpy as np

                a = counts.numpy()
                running, full = np.append(0, np.cumsum(a)), np.append(0, np.cumsum(a > 0))
                found = []
                for kept in range(levels, len(a) + 1):
                    edges = -(-np.arange(levels + 1) * kept // levels)
                    share = np.diff(running[edges]) / np.maximum(np.diff(full[edges]), 1)
                    q = np.where(a[:kept] > 0, np.repeat(share, np.diff(edges)), 0)
                    p = a[:kept].copy()
                    p[-1] += running[-1] - running[kept]
                    p, q = p / p.sum(), q / q.sum()
                    some = p > 0
                    if (q[some] == 0).any():
                        found.append(np.inf)
                    else:
                        found.append(float((p[some] * np.log(p[some] / q[some])).sum()))
                return levels + int(np.argmin(found))
            """,
        kl_div_of_log_probabilities="""
            def kl_threshold(counts, levels):
                bins, found = len(counts), {}
                for kept in range(levels, bins + 1):
                    p = counts[:kept].clone()
                    q, p[-1] = torch.zeros_like(p), counts[kept - 1 :].sum()
                    for part in range(levels):
                        first, last = -(-part * kept // levels), -(-(part + 1) * kept // levels)
                        full = counts[first:last] > 0
                        if full.any():
                            q[first:last][full] = counts[first:last].sum() / full.sum()
                    q = torch.where(p > 0, (q / q.sum()).log(), 0.0)
                    found[kept] = functional.kl_div(q, p / p.sum(), reduction="sum").item()
                return min(found, key=found.get)
            """,
    ),
]
