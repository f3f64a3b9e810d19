"""Muon: momentum whose update of a matrix is made orthogonal, so that no direction is left behind.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), scaled as in Liu et
al., "Muon is Scalable for LLM Training" (2025), section 2.2. What is no hidden matrix takes AdamW
(Loshchilov and Hutter, 2019). Learns as much as AdamW alone from about half the tokens here, which
is why the shipped language models are trained with it. Leaves out several devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

MOMENTUM, BETAS, EPS = 0.95, (0.9, 0.95), 1e-8
QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0, near 1 from 0.7 on: Jordan et al.
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for ``matrices``, AdamW for ``others``, which have no weight decay.

    Args:
        lr: of both; a matrix is scaled to the root mean square of AdamW's usual updates, 0.2.
        weight_decay: of the matrices, decoupled: times ``lr``.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "hidden": True},
            {"params": list(others), "hidden": False},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._matrix if group["hidden"] else self._other
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, group["lr"], group["weight_decay"])

    def _matrix(self, weight: nn.Parameter, lr: float, weight_decay: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        mean = state.setdefault("momentum", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(mean, MOMENTUM)  # Nesterov
        weight.mul_(1 - lr * weight_decay)
        scale = 0.2 * math.sqrt(max(weight.shape))
        weight.sub_(orthogonal(ahead), alpha=lr * scale)

    def _other(self, weight: nn.Parameter, lr: float, _: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        mean = state.setdefault("mean", torch.zeros_like(weight)).lerp_(weight.grad, 1 - BETAS[0])
        square = state.setdefault("square", torch.zeros_like(weight))
        square.lerp_(weight.grad.square(), 1 - BETAS[1])
        step = state.setdefault("step", torch.zeros(())).add_(1).item()
        root = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPS)
        weight.addcdiv_(mean, root, value=-lr / (1 - BETAS[0] ** step))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with all its singular values brought to about 1 (0.7 to 1.2), the vectors kept.

    Newton-Schulz iterations: an odd polynomial of a matrix acts on its singular values alone. In
    bfloat16, which is as exact as this needs. Shape: ``[rows, columns]``, float32.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
