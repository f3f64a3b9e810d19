"""Inference engine for microcontrollers: generate C from an int8 network, link it to firmware.

Nothing is interpreted: every operator is a call with its shapes, weights in flash, activations at
offsets of one static arena that :mod:`codesign.hardware.memory_planner` chose before. A depthwise
convolution may overwrite its input, and the first operators may run patch by patch, so that their
large activations never exist as a whole (TinyEngine of Lin et al., "MCUNet", NeurIPS 2020, and
"MCUNetV2", NeurIPS 2021). Left out: other numbers than int8, channels that are no multiple of four
with the fast kernels, and weights that do not fit into flash. Taught in Lectures 10 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from codesign.hardware.board import BOARDS, Board
from codesign.hardware.cortex_m import Firmware, Run
from codesign.hardware.emit import Emitter
from codesign.hardware.layout import Kernels, Layout
from codesign.hardware.memory_planner import Buffer, peak, plan
from codesign.int8 import Network

DSP_CORES = ("cortex-m4", "cortex-m7")


@dataclass(frozen=True)
class Program:
    """Generated C, and the memory that it plans.

    Args:
        sources: texts by file name; ``infer(const int8_t *image, int32_t *logits)`` is the entry.
        buffers: of the arena: tensors (those that share memory once) and scratch memory.
        offsets: of each buffer in the arena.
        macs: products that are computed, those that patches repeat included.
    """

    sources: Mapping[str, str] = field(repr=False)
    buffers: tuple[Buffer, ...]
    offsets: Mapping[str, int]
    macs: int

    @property
    def arena_bytes(self) -> int:
        return peak(self.buffers, self.offsets)


@dataclass(frozen=True)
class Deployed:
    """A network on a board."""

    network: Network
    program: Program
    board: Board

    @cached_property
    def firmware(self) -> Firmware:
        return Firmware(self.program.sources, self.board, keep=("infer",))

    def infer(self, codes: np.ndarray, counted: bool = True) -> tuple[np.ndarray, Run]:
        """Logits int32 of one image, int8 ``[H, W, 3]`` (``Network.codes``), and what it took.

        Raises:
            ValueError: codes of another shape or type.
        """
        if codes.shape != (shape := self.network.input.shape) or codes.dtype != np.int8:
            raise ValueError(f"got codes {codes.dtype} {codes.shape}; allowed: int8 {shape}")
        logits = np.zeros(self.network.output.shape[2], np.int32)
        run = self.firmware.run("infer", codes, logits, counted=counted)
        return run.outputs[1], run

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """int32 ``[N, classes]`` of uint8 images ``[N, 3, H, W]``, emulated one by one."""
        found = [self.infer(codes, counted=False)[0] for codes in self.network.codes(images)]
        return torch.from_numpy(np.stack(found))


def deploy(
    network: Network,
    board: str | Board = "m4",
    kernels: Kernels = "simd",
    in_place: bool | None = None,
    patches: tuple[int, int, int] | None = None,
) -> Deployed:
    """Generate, compile and link ``network`` for ``board``; arguments of :func:`generate`.

    Raises:
        ValueError: like :func:`generate`, an unknown board, or fast kernels for a core without
            the DSP instructions.
        FirmwareError: it does not fit; says by how many bytes.
    """
    if isinstance(board, str):
        if board not in BOARDS:
            raise ValueError(f"got board {board!r}; allowed: {sorted(BOARDS)}")
        board = BOARDS[board]
    if kernels == "simd" and board.core not in DSP_CORES:
        raise ValueError(f"got simd kernels for a {board.core}; allowed: {', '.join(DSP_CORES)}")
    deployed = Deployed(network, generate(network, kernels, in_place, patches), board)
    _ = deployed.firmware  # errors of the linker belong here
    return deployed


def generate(
    network: Network,
    kernels: Kernels = "simd",
    in_place: bool | None = None,
    patches: tuple[int, int, int] | None = None,
) -> Program:
    """One C file that computes ``network``.

    Args:
        kernels: "simd" (SMLAD; channels in multiples of four) or "naive".
        in_place: whether depthwise convolutions overwrite their input; by default with the fast
            kernels, which alone can.
        patches: (rows, columns, operators): the output of the first ``operators`` is computed in
            rows × columns patches, each from as much of the image as it needs.

    Raises:
        ValueError: a network or patches that the kernels cannot serve; says which.
    """
    if kernels not in ("simd", "naive"):
        raise ValueError(f"got kernels {kernels!r}; allowed: 'simd', 'naive'")
    in_place = kernels == "simd" if in_place is None else in_place
    if in_place and kernels == "naive":
        raise ValueError("got in_place with naive kernels; allowed: with simd kernels")
    layout = Layout(network, kernels, in_place, patches)
    buffers = layout.buffers()
    offsets = plan(buffers)
    text = Emitter(layout, offsets).text(peak(buffers, offsets))
    return Program({"network.c": text}, tuple(buffers), offsets, layout.macs())
