"""Patch windows and memory buffers of every tensor of a network: the layout of one arena.

A tensor lives from the operator that writes it to the last one that reads it; two tensors share
memory where a depthwise convolution or an addition may overwrite its input. With patches, the
tensors inside of the first operators exist only as the window that one patch needs, computed
backwards from its output: kernel, stride and padding widen it step by step (Lin et al., "MCUNetV2",
NeurIPS 2021, section 3). Used by :mod:`codesign.hardware.engine`; taught in Lectures 10 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codesign.hardware.memory_planner import Buffer
from codesign.int8 import Network, Operator

Kernels = Literal["simd", "naive"]


@dataclass(frozen=True)
class Window:
    """A part of a tensor: rows from ``top``, columns from ``left``."""

    top: int
    left: int
    height: int
    width: int

    def union(self, other: Window) -> Window:
        """The smallest window that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(self.top + self.height, other.top + other.height)
        right = max(self.left + self.width, other.left + other.width)
        return Window(top, left, bottom - top, right - left)


def needed(operator: Operator, window: Window, shape: Sequence[int]) -> Window:
    """What an operator reads of an input of ``shape`` (H, W, C) to write ``window``."""
    if operator.kind in ("mean", "linear"):
        return Window(0, 0, shape[0], shape[1])
    if operator.kind == "add":
        return window
    size = operator.weight.shape[1]
    starts, lengths = [], []
    spans = ((window.top, window.height), (window.left, window.width))
    for (start, length), whole in zip(spans, shape, strict=False):
        first = start * operator.stride - operator.padding
        last = first + (length - 1) * operator.stride + size
        starts.append(max(first, 0))
        lengths.append(min(last, whole) - max(first, 0))
    return Window(starts[0], starts[1], lengths[0], lengths[1])


class Layout:
    """Windows, places and lifetimes of a network.

    Args:
        kernels, in_place, patches: as in :func:`codesign.hardware.engine.generate`.

    Raises:
        ValueError: patches that do not fit the network.
    """

    def __init__(
        self,
        network: Network,
        kernels: Kernels,
        in_place: bool,
        patches: tuple[int, int, int] | None,
    ) -> None:
        self.network, self.kernels, self.in_place = network, kernels, in_place
        self.tensors, self.operators = network.tensors, network.operators
        self.readers = {
            name: [i for i, op in enumerate(self.operators) if name in op.inputs]
            for name in self.tensors
        }
        self.whole = {t.name: Window(0, 0, *t.shape[:2]) for t in self.tensors.values()}
        self.staged = 0 if patches is None else self._validated(patches)
        self.patches = [] if patches is None else self._patch_windows(*patches)
        self.homes = self._homes()

    def windows(self, index: int) -> list[dict[str, Window]]:
        """For each time that an operator runs, the window of every tensor."""
        return self.patches if index < self.staged else [self.whole]

    def _validated(self, patches: tuple[int, int, int]) -> int:
        rows, columns, count = patches
        if not 1 <= count < len(self.operators):
            raise ValueError(f"got {count} operators; allowed: 1 to {len(self.operators) - 1}")
        height, width, _ = self.tensors[self.operators[count - 1].output].shape
        if not (1 <= rows <= height and 1 <= columns <= width):
            raise ValueError(
                f"got {rows} × {columns} patches; allowed: up to {height} × {width}, the shape "
                f"of {self.operators[count - 1].output}"
            )
        for operator in self.operators[: count - 1]:
            late = [i for i in self.readers[operator.output] if i >= count]
            if late or operator.kind in ("mean", "linear"):
                raise ValueError(
                    f"got {count} operators; {operator.output} does not end inside of them: "
                    "allowed are stages whose last output alone is read later"
                )
        return count

    def _patch_windows(self, rows: int, columns: int, count: int) -> list[dict[str, Window]]:
        """Of each patch the window of every tensor that it touches."""
        last = self.operators[count - 1].output
        height, width, _ = self.tensors[last].shape
        found = []
        for y in range(rows):
            for x in range(columns):
                top, bottom = y * height // rows, (y + 1) * height // rows
                left, right = x * width // columns, (x + 1) * width // columns
                windows = {last: Window(top, left, bottom - top, right - left)}
                for operator in reversed(self.operators[:count]):
                    for name in operator.inputs:
                        need = needed(operator, windows[operator.output], self.tensors[name].shape)
                        windows[name] = windows[name].union(need) if name in windows else need
                found.append(windows)
        return found

    def is_local(self, name: str) -> bool:
        """Whether only a patch of it exists at a time."""
        written = [i for i, op in enumerate(self.operators) if op.output == name]
        return bool(written) and written[0] < self.staged - 1

    def _extent(self, name: str) -> tuple[int, int]:
        """Rows and columns that its memory holds."""
        if not self.is_local(name):
            return self.tensors[name].shape[:2]
        windows = [patch[name] for patch in self.patches]
        return max(w.height for w in windows), max(w.width for w in windows)

    def row(self, name: str) -> int:
        """Bytes from one row to the next."""
        return self._extent(name)[1] * self.tensors[name].shape[2]

    def macs(self) -> int:
        total = 0
        for i, operator in enumerate(self.operators):
            shape = self.tensors[operator.output].shape
            each = self.network.macs(operator) // (shape[0] * shape[1])
            for windows in self.windows(i):
                window = windows[operator.output]
                total += each * window.height * window.width
        return total

    def _homes(self) -> dict[str, str]:
        """For every tensor in the arena the first tensor that lies in the same memory."""
        homes: dict[str, str] = {}
        for i, operator in enumerate(self.operators[:-1]):
            homes[operator.output] = operator.output
            for name in operator.inputs:
                if name in homes and self._may_overwrite(i, operator, name):
                    homes[operator.output] = homes[name]
                    break
        return homes

    def _may_overwrite(self, index: int, operator: Operator, name: str) -> bool:
        if self.readers[name] != [index] or not self.in_place:
            return False
        if operator.kind == "add":  # also an earlier tenant of this memory is dead by now
            return index >= self.staged
        inside = self.is_local(name) == self.is_local(operator.output)
        return operator.kind == "depthwise" and inside

    def buffers(self) -> list[Buffer]:
        spans: dict[str, list[int]] = {}
        sizes: dict[str, int] = {}
        for i, operator in enumerate(self.operators[:-1]):
            name, home = operator.output, self.homes[operator.output]
            times = [i, *self.readers[name]]
            if i == self.staged - 1:
                times.append(0)  # filled patch by patch
            spans.setdefault(home, []).extend(times)
            nbytes = self._extent(name)[0] * self.row(name)
            sizes[home] = max(sizes.get(home, 0), nbytes)
        buffers = [
            Buffer(home, sizes[home], min(times), max(times)) for home, times in spans.items()
        ]
        scratch = {i: self._scratch_bytes(i, op) for i, op in enumerate(self.operators)}
        return buffers + [Buffer(f"scratch {i}", n, i, i) for i, n in scratch.items() if n]

    def _scratch_bytes(self, index: int, operator: Operator) -> int:
        if self.kernels == "naive" or operator.kind not in ("conv", "depthwise"):
            return 0
        written = [windows[operator.output] for windows in self.windows(index)]
        height = max(window.height for window in written)
        width = max(window.width for window in written)
        size, stride = operator.weight.shape[1], operator.stride
        wide, high = (width - 1) * stride + size, (height - 1) * stride + size
        if operator.kind == "depthwise":
            return 2 * high * ((wide + 3) & ~1)
        channels = -(-operator.weight.shape[3] // 4) * 4
        pixels = 2 if size == 1 else size * (wide + stride)
        return 2 * channels * pixels
