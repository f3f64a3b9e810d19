"""Right answers to AdaRound: other forms of h(V) and of the error, a search that flips codes."""

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
        by_exponentials="""
            def soft_round(v):
                h = 1.2 / (1 + torch.exp(-v)) - 0.1
                return torch.minimum(torch.maximum(h, torch.zeros(())), torch.ones(()))
            """,
        piece_by_piece="""
            def soft_round(v):
                h = 0.6 * torch.tanh(0.5 * v) + 0.5
                h = torch.where(h < 0, torch.zeros_like(h), h)
                return torch.where(h > 1, torch.ones_like(h), h)
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
        the_error_as_a_quadratic_form="""
            def adaround(x, target, weight, scale, steps):
                if weight.ndim == 4:
                    x = functional.unfold(x, 3, padding=1).movedim(1, 2).flatten(0, 1)
                    target = target.movedim(1, 3).flatten(0, 2)
                x, target = x.double(), target.double()
                gram, cross, rest = x.T @ x, target.T @ x, target.square().sum()

                def error(w):
                    return ((w @ gram - 2 * cross) * w).sum() + rest

                w = weight.flatten(1).double() / scale
                floor = w.floor()
                unit = error(w.round().clamp(-W4_TOP, W4_TOP) * scale) + 1e-9
                v = torch.logit((w - floor).clamp(0.01, 0.99) / 1.2 + 0.1 / 1.2).requires_grad_()
                optimizer = torch.optim.Adam([v], lr=0.05)
                for step in range(steps):
                    h = (1.2 * v.sigmoid() - 0.1).clamp(0, 1)
                    loss = error((floor + h).clamp(-W4_TOP, W4_TOP) * scale) / unit
                    if step > 0.1 * steps:
                        loss = loss + 3 * (1 - (2 * h - 1).abs() ** (4 - 2 * step / steps)).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                codes = (floor + (v.detach() > 0)).clamp(-W4_TOP, W4_TOP)
                return codes.to(torch.int8).reshape(weight.shape)
            """,
        all_inputs_and_its_own_optimizer="""
            def adaround(x, target, weight, scale, steps):
                low = torch.floor(weight / scale)
                rest = (weight / scale - low).clip(0.02, 0.98)
                v = torch.logit((rest + 0.1) / 1.2)
                with torch.enable_grad():
                    for step in range(steps):
                        v = v.detach().requires_grad_()
                        h = (1.2 * torch.sigmoid(v) - 0.1).clip(0, 1)
                        w = (low + h).clip(-W4_TOP, W4_TOP) * scale
                        unit = (apply_layer(x, weight) - apply_layer(
                            x, torch.round(weight / scale).clip(-W4_TOP, W4_TOP) * scale)
                        ).detach().pow(2).mean()
                        loss = (apply_layer(x, w) - target).pow(2).mean() / unit
                        if 5 * step > steps:
                            beta = 2 + 2 * (1 - step / steps)
                            loss = loss + 3 * (1 - (2 * h - 1).abs() ** beta).mean()
                        (slope,) = torch.autograd.grad(loss, v)
                        mean = slope if step == 0 else 0.9 * mean + 0.1 * slope
                        size = slope**2 if step == 0 else 0.99 * size + 0.01 * slope**2
                        v = v - 0.05 * mean / (size.sqrt() + 1e-8)
                codes = low + (v.detach() > 0)
                return codes.clip(-W4_TOP, W4_TOP).to(torch.int8)
            """,
    ),
]
