"""Right answers to AdaRound: another form of h(V), and a search that flips one code at a time."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = [
    *valid(
        "adaround",
        "solution_rounding",
        by_tanh="""
            def soft_round(v):
                return functional.hardtanh(0.5 + 0.6 * torch.tanh(v / 2), 0.0, 1.0)
            """,
    ),
    *valid(
        "adaround",
        coordinate_descent="""
            def adaround(x, target, weight, scale, steps):
                if weight.ndim == 4:
                    x = functional.unfold(x, 3, padding=1).movedim(1, 2).flatten(0, 1)
                    target = target.movedim(1, 3).flatten(0, 2)
                x, target, w = x.double(), target.double(), weight.flatten(1).double()
                gram, cross = x.T @ x, target.T @ x
                low = (w / scale).floor().clamp(-W4_TOP, W4_TOP)
                high = ((w / scale).floor() + 1).clamp(-W4_TOP, W4_TOP)
                codes = (w / scale).round().clamp(-W4_TOP, W4_TOP)
                rows = torch.arange(len(w))
                for _ in range(steps):
                    slope = codes * scale @ gram - cross
                    step = (low + high - 2 * codes) * scale
                    gain = 2 * step * slope + step**2 * gram.diagonal()
                    best, place = gain.min(1)
                    if not (best < -1e-9).any():
                        break
                    moved = rows[best < -1e-9], place[best < -1e-9]
                    codes[moved] = (low + high - codes)[moved]
                return codes.to(torch.int8).reshape(weight.shape)
            """,
    ),
]
