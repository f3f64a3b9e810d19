"""Strict decoder of a student's coded weights: one stream, and the whole compressed file.

Nothing that was handed in is trusted: names, dtypes, shapes, counts and code lengths are checked
before a bit is read. The format is described in Lab 1, part 9.
"""

from __future__ import annotations

import torch
from torch import nn

from codesign import cost, huffman

PARTS = ("stream", "entries", "gap_lengths", "value_lengths")
GAP_BITS = 4  # of the compressed file
MOST_LEVELS = 256


def decode(stored: object, size: int, bits: int = GAP_BITS) -> torch.Tensor:
    """Codes ``[size]`` from the parts of one stream with gaps of ``bits`` bits.

    Raises:
        ValueError: missing or other tensors, dtypes or shapes, or a stream that does not decode.
    """
    if not isinstance(stored, dict) or set(stored) != set(PARTS):
        names = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
        raise ValueError(f"got {names}, expected a dict of tensors {sorted(PARTS)}")
    for name in PARTS:
        got, dtype = stored[name], torch.int32 if name == "entries" else torch.uint8
        if not isinstance(got, torch.Tensor) or got.dtype != dtype or got.ndim != 1:
            found = getattr(got, "dtype", type(got))
            raise ValueError(f"{name}: got {found}, expected a {dtype} vector")
    entries = stored["entries"].tolist()
    if len(entries) != 1 or not 0 <= entries[0] <= size:
        raise ValueError(f"entries: got {entries[:3]}, expected one number from 0 to {size}")
    if len(stored["gap_lengths"]) != 2**bits:
        raise ValueError(f"gap_lengths: got {len(stored['gap_lengths'])}, expected {2**bits}")
    lengths = stored["gap_lengths"], stored["value_lengths"]
    return huffman.place(*huffman.read_entries(stored["stream"], entries[0], *lengths), size)


def decompress(stored: object, model: nn.Module) -> nn.Module:
    """``model`` with the weights of a compressed file, in evaluation mode.

    Raises:
        ValueError: not exactly the tensors of the format, or values that do not decode.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"got a {type(stored).__name__}, expected tensors")
    state = model.state_dict()
    coded = {f"{name}.weight": name for name in cost.weighted_layers(model)}
    expected = {f"{layer}.{part}" for layer in coded.values() for part in (*PARTS, "codebook")}
    plain = {k for k, v in state.items() if v.is_floating_point() and k not in coded}
    if set(stored) != expected | plain:
        wrong = sorted(set(stored) ^ (expected | plain))
        raise ValueError(f"{len(wrong)} tensors are missing or foreign, first {wrong[0]!r}")
    for name in plain:
        _copy_checked(name, state[name], stored[name])
    for name, layer in coded.items():
        _copy_decoded(layer, state[name], stored)
    return model.eval()


def _copy_checked(name: str, own: torch.Tensor, value: torch.Tensor) -> None:
    if value.shape != own.shape or value.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"{name}: got {value.dtype} {tuple(value.shape)}, expected {own.shape}")
    own.copy_(value)


def _copy_decoded(layer: str, own: torch.Tensor, stored: dict[str, torch.Tensor]) -> None:
    codes = decode({part: stored[f"{layer}.{part}"] for part in PARTS}, own.numel())
    book = stored[f"{layer}.codebook"]
    levels = 0 < len(book) <= MOST_LEVELS if book.ndim == 1 else False
    if not levels or not book.is_floating_point() or book[0]:
        raise ValueError(f"{layer}.codebook: expected 1 to {MOST_LEVELS} floats, the first one 0")
    if codes.max() >= len(book):
        raise ValueError(f"{layer}: code {int(codes.max())} has no entry in the codebook")
    own.copy_(book.float()[codes].view_as(own))
