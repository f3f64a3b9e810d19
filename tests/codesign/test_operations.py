"""What is counted at the dispatcher against hand counts, and what nobody counts is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codesign import cost, operations


class Function(nn.Module):
    """A model that is one function of its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


class SelfAttention(nn.Module):
    """Evaluated without gradients, torch would run it as one fused operation."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class TiedHead(nn.Module):
    """An embedding whose table is the head's weight, too, as language models write it."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.embedding(tokens) @ self.embedding.weight.T


B, H, L, E = 2, 6, 5, 8


def attention(query: torch.Tensor) -> torch.Tensor:
    keys = torch.ones(B, H, 7, E)
    return F.scaled_dot_product_attention(query, keys, torch.ones(B, H, 7, 3))


def attention_by_hand(query: torch.Tensor) -> torch.Tensor:
    keys = torch.ones(B, H, 7, E)
    return torch.softmax(query @ keys.mT, -1) @ torch.ones(B, H, 7, 3)


def shared_keys(query: torch.Tensor) -> torch.Tensor:
    """Grouped queries: six heads read two pairs of keys and values."""
    keys = torch.ones(B, 2, L, E)
    return F.scaled_dot_product_attention(query, keys, keys, is_causal=True, enable_gqa=True)


SPARSE = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
CASES = {
    "attention": (Function(attention), (B, H, L, E), B * H * L * 7 * (E + 3)),
    "attention, by hand": (Function(attention_by_hand), (B, H, L, E), B * H * L * 7 * (E + 3)),
    "grouped queries": (Function(shared_keys), (B, H, L, E), B * H * L * L * 2 * E),
    "multi-head attention": (SelfAttention(), (1, 5, 8), 5 * 4 * 8 * 8 + 2 * 5 * 5 * (4 + 4)),
    "einsum": (
        Function(lambda x: torch.einsum("bij,kj->bik", x, torch.ones(4, 3))),
        (2, 5, 3),
        2 * 5 * 3 * 4,
    ),
    "functional linear": (Function(lambda x: F.linear(x, torch.ones(4, 3))), (7, 3), 7 * 3 * 4),
    "vector": (Function(lambda x: x @ torch.ones(9)), (4, 9), 36),
    "dot": (Function(lambda x: x @ torch.ones(9)), (9,), 9),
    "grouped convolution": (
        nn.Conv2d(8, 12, 3, groups=4, padding=1),
        (1, 8, 5, 5),
        25 * 12 * 2 * 9,
    ),
    "depthwise convolution": (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 5, 5), 9 * 8 * 9),
    "one dimension": (nn.Conv1d(3, 4, 5, bias=False), (2, 3, 9), 2 * 4 * 5 * 3 * 5),
    "transposed convolution": (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 9),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 2, groups=2), (1, 4, 5, 5), 25 * 4 * 3 * 4),
    "sparse": (Function(lambda x: SPARSE.to_sparse_csr() @ x), (3, 5), 3 * 5),
    "batch norm and ReLU": (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (1, 3, 4, 4), 0),
    "LSTM": (nn.LSTM(3, 5, batch_first=True), (2, 7, 3), 2 * 7 * 4 * 5 * (3 + 5)),
    "GRU": (nn.GRU(3, 5, batch_first=True), (2, 7, 3), 2 * 7 * 3 * 5 * (3 + 5)),
    "transformer layer": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (2, 5, 8),
        2 * 5 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 2 * 5 * 5 * (4 + 4),
    ),
}


@pytest.mark.parametrize(("model", "shape", "macs"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_macs_by_hand(model, shape, macs):
    assert cost.macs(model, shape) == macs


def test_a_tied_head_counts_and_a_table_does_not():
    tokens = torch.zeros(1, 6, dtype=torch.long)
    assert cost.macs(nn.Embedding(50, 8), tokens) == 0
    assert cost.macs(TiedHead(50, 8), tokens) == 6 * 8 * 50


def test_a_layer_that_runs_twice_counts_twice():
    layer = nn.Linear(4, 4)
    assert cost.macs(Function(lambda x: layer(layer(x))), (3, 4)) == 2 * 3 * 16


def test_what_was_executed_is_listed_by_name():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())
    rows = operations.by_name(operations.executed(model, torch.zeros(1, 3, 5, 5)))
    assert list(rows) == ["convolution", "relu"]
    assert (rows["convolution"].calls, rows["convolution"].macs) == (2, 25 * 12 + 25 * 8)
    assert (rows["relu"].macs, rows["relu"].elements) == (0, 2 * 100)
    read_and_written = (75 + 12 + 4 + 100) + (100 + 8 + 2 + 50)
    assert rows["convolution"].elements == read_and_written


def spectrum(x: torch.Tensor) -> torch.Tensor:
    return torch.fft.fft(x).abs()


@pytest.mark.parametrize("function", [spectrum, torch.linalg.inv], ids=["fft", "inverse"])
def test_work_of_unknown_cost_is_named_and_refused(function):
    model = Function(lambda x: function(x) @ x)
    with pytest.raises(
        ValueError, match=r"unknown cost: (_fft_r2c|linalg_inv_ex) \(1×\).*; allowed"
    ):
        cost.macs(model, torch.eye(8))
    assert cost.macs(model, torch.eye(8), unknown=1) == 8**3


def test_a_little_unknown_work_is_let_through():
    """One inverse of 2 × 2 beside a product a thousand times its size."""
    model = Function(lambda x: x @ x + torch.linalg.inv(x[:2, :2]).sum())
    assert cost.macs(model, torch.eye(100)) == 100**3
    with pytest.raises(ValueError, match="linalg_inv_ex"):
        cost.macs(model, torch.eye(100), unknown=0.0001)


def test_counting_leaves_the_switches_as_they_were():
    before = torch.backends.mha.get_fastpath_enabled()
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train()
    cost.macs(model, (2, 5, 8))
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled() is before
    with pytest.raises(AssertionError, match="embedding dimension"):
        cost.macs(model, (2, 5, 9))
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled() is before
