"""Muon beside PyTorch's own optimizers, and its orthogonal update beside a decomposition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from codesign.muon import Muon, orthogonal


def twins(*shape: int) -> tuple[nn.Parameter, nn.Parameter]:
    torch.manual_seed(0)
    value = torch.randn(shape)
    return nn.Parameter(value), nn.Parameter(value.clone())


def run(pairs: list[tuple[nn.Parameter, torch.optim.Optimizer]], steps: int = 6) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        gradient = torch.randn(pairs[0][0].shape)
        for parameter, optimizer in pairs:
            parameter.grad = gradient.clone()
            optimizer.step()


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 9))
def test_the_singular_values_become_one_and_the_vectors_stay(rows, columns, seed):
    """Beside U · Vᵀ of the decomposition: what an exact method would give."""
    torch.manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    values = torch.linspace(1.0, 0.1, len(v)) * 7
    got = u.T @ orthogonal((u * values) @ v) @ v.T
    assert ((got.diagonal() > 0.6) & (got.diagonal() < 1.25)).all()
    assert (got - got.diagonal().diag()).abs().max() < 0.1


def test_a_zero_matrix_stays_zero():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="came with PyTorch 2.9")
@pytest.mark.parametrize("shape", [(24, 48), (48, 24)])
def test_matrices_move_as_with_pytorchs_muon(shape):
    ours, theirs = twins(*shape)
    start = ours.detach().clone()
    other = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    run([(ours, Muon([ours], [], lr=0.02, weight_decay=0.1)), (theirs, other)])
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.05 * moved  # both round to bfloat16, in another order


def test_the_others_move_as_with_adamw():
    ours, theirs = twins(10)
    run(
        [
            (ours, Muon([], [ours], lr=0.02, weight_decay=0.1)),
            (theirs, torch.optim.AdamW([theirs], lr=0.02, betas=(0.9, 0.95), weight_decay=0)),
        ]
    )
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_what_has_no_gradient_stays():
    matrix, gain = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    Muon([matrix], [gain], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(matrix, torch.ones(3, 3))
    assert torch.equal(gain, torch.ones(3))
