"""Generate the C of an int8 network: one file, every operator a call with its shapes.

Weights become constants, so they lie in flash; activations become offsets into one arena. An
operator that runs once is a function of constants alone for the compiler; one that runs patch by
patch is called with the window of each patch. Used by :mod:`codesign.hardware.engine`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codesign.hardware.c_arrays import array_lines, packed, words
from codesign.hardware.cortex_m import KERNELS
from codesign.hardware.layout import Layout, Window, needed
from codesign.int8 import Operator

MOST_OFFSET_SHIFT = 55  # 2^(n - 33) + (Z << (n - 32)) has to fit into an int32
MOST_STEP = 1_020  # bytes from a widened pixel to the next: the reach of LDRD
MOST_ROWS = 7  # of a fast convolution's kernel


class Emitter:
    """Writes the C of a layout.

    Args:
        offsets: of each buffer of the layout in the arena.

    Raises:
        ValueError: shapes that the kernels do not serve; says which.
    """

    def __init__(self, layout: Layout, offsets: Mapping[str, int]) -> None:
        self.layout, self.network, self.kernels = layout, layout.network, layout.kernels
        self.tensors, self.operators = layout.tensors, layout.operators
        self.places = {name: f"arena + {offsets[home]}" for name, home in layout.homes.items()}
        last = self.network.output  # of a single operator, to be measured, int8
        result = "logits" if last.bytes_each == 4 else "(int8_t *)logits"
        self.places |= {self.network.input.name: "image", last.name: result}
        self.scratch = {
            i: f"arena + {offsets[f'scratch {i}']}"
            for i in range(len(self.operators))
            if f"scratch {i}" in offsets
        }

    def text(self, arena_bytes: int) -> str:
        parts = [header(f"int8_{self.kernels}.h")]
        parts += [f"static int8_t arena[{max(arena_bytes, 4)}] __attribute__((aligned(8)));"]
        numbered = list(enumerate(self.operators))
        parts += [self._constants(i, op) + self._function(i, op) for i, op in numbered]
        staged, layout = self.layout.staged, self.layout
        calls = [
            self._call(i, op, windows) for windows in layout.patches for i, op in numbered[:staged]
        ]
        calls += [self._call(i, op, layout.whole) for i, op in numbered[staged:]]
        body = "\n".join(f"    {call}" for call in calls)
        parts += [f"void infer(const int8_t *image, int32_t *logits) {{\n{body}\n}}"]
        return "\n\n".join(parts) + "\n"

    def _constants(self, index: int, operator: Operator) -> str:
        zero = self.tensors[operator.inputs[0]].zero_point
        if operator.kind == "add":
            return ""
        if operator.kind == "linear":
            sums = operator.weight.astype(np.int64).sum(1)
            bias = operator.bias - zero * sums
            return words(f"b{index}", bias, "int32_t") + packed(f"w{index}", operator.weight)
        bias = operator.bias.astype(np.int64)
        if operator.kind == "conv":
            bias = bias - zero * operator.weight.reshape(len(bias), -1).astype(np.int64).sum(1)
        if operator.kind == "mean":
            height, width, channels = self.tensors[operator.inputs[0]].shape
            bias = np.full(channels, -zero * height * width)
        text = _outputs(f"o{index}", operator, bias, self.tensors[operator.output].zero_point)
        return text + ("" if operator.kind == "mean" else self._weights(index, operator))

    def _weights(self, index: int, operator: Operator) -> str:
        if self.kernels == "naive":
            return packed(f"w{index}", operator.weight)
        if operator.kind == "conv":
            return packed(f"w{index}", interleaved(self._checked(operator)))
        channels_first = operator.weight.transpose(2, 0, 1)
        if operator.weight.shape[0] == 3:
            channels_first = channels_first[:, :, [0, 1, 1, 2]]
        return packed(f"w{index}", channels_first.astype(np.int16))

    def _checked(self, operator: Operator) -> np.ndarray:
        channels, size = operator.weight.shape[3], operator.weight.shape[1]
        step = 2 * channels * (1 if size == 1 else operator.stride)
        if (channels % 4 and channels != 3) or step > MOST_STEP:
            raise ValueError(
                f"got {channels} channels into {operator.output}; allowed with simd kernels: 3 "
                f"and multiples of 4 up to {MOST_STEP // 2} divided by the stride"
            )
        if size > MOST_ROWS:
            raise ValueError(
                f"got a kernel of {size} into {operator.output}; allowed with simd kernels: up to "
                f"{MOST_ROWS}"
            )
        return operator.weight

    def _function(self, index: int, operator: Operator) -> str:
        """The operator as a function of a window; with one caller, all of it is constant."""
        source = operator.inputs[0]
        channels, outputs = self.tensors[source].shape[2], self.tensors[operator.output].shape[2]
        if operator.kind == "add":
            return self._add(index, operator)
        if operator.kind not in ("conv", "depthwise"):
            return ""
        size = operator.weight.shape[1]
        to_word = "uint32_t" if operator.kind == "conv" else "int32_t"
        weight, scratch = (
            (f"(const int8_t *)w{index}", "0")
            if self.kernels == "naive"
            else (
                f"(const {to_word} *)w{index}",
                f"(void *)({self.scratch[index]})",
            )
        )
        tail = f"{outputs}, " if operator.kind == "conv" else ""
        in_row, out_row = self.layout.row(source), self.layout.row(operator.output)
        return (
            f"static __attribute__((noinline)) void op{index}(const int8_t *in, int in_h, int "
            "in_w, int top, int left, int8_t *out, int out_h, int out_w) {\n"
            f"    {operator.kind}(in, {in_row}, in_h, in_w, top, left, {channels}, {size}, "
            f"{operator.stride}, out, {out_row}, out_h, out_w, {tail}{weight}, "
            f"o{index}, {self.tensors[source].zero_point}, {scratch});\n}}\n"
        )

    def _add(self, index: int, operator: Operator) -> str:
        a, b, out = (self.layout.row(name) for name in (*operator.inputs, operator.output))
        by_a, by_b = operator.mantissa.tolist()
        return (
            f"static __attribute__((noinline)) void op{index}(const int8_t *a, const int8_t *b, "
            "int8_t *out, int height, int values) {\n"
            f"    add(a, {a}, b, {b}, out, {out}, height, values, {by_a}, {by_b}, "
            f"{self.network.addition_offset(operator)}, {operator.shift[0]});\n}}\n"
        )

    def _call(self, index: int, operator: Operator, windows: Mapping[str, Window]) -> str:
        out = windows[operator.output]
        to = self._at(operator.output, out, windows)
        shape = self.tensors[operator.inputs[0]].shape
        reads = [needed(operator, out, self.tensors[name].shape) for name in operator.inputs]
        sources = [
            self._at(name, read, windows) for name, read in zip(operator.inputs, reads, strict=True)
        ]
        if operator.kind == "add":
            return f"op{index}({', '.join(sources)}, {to}, {out.height}, {out.width * shape[2]});"
        if operator.kind == "mean":
            return f"mean({sources[0]}, {shape[0] * shape[1]}, {shape[2]}, {to}, o{index});"
        if operator.kind == "linear":
            inputs = operator.weight.shape[1]
            weight = f"(const int8_t *)w{index}"
            return (
                f"linear({sources[0]}, {inputs}, {to}, {len(operator.bias)}, {weight}, b{index});"
            )
        read = reads[0]
        top = read.top - (out.top * operator.stride - operator.padding)
        left = read.left - (out.left * operator.stride - operator.padding)
        return (
            f"op{index}({sources[0]}, {read.height}, {read.width}, {top}, {left}, {to}, "
            f"{out.height}, {out.width});"
        )

    def _at(self, name: str, window: Window, windows: Mapping[str, Window]) -> str:
        """Where the first value of ``window`` lies."""
        held = windows[name] if self.layout.is_local(name) else self.layout.whole[name]
        channels = self.tensors[name].shape[2]
        inside = (window.top - held.top) * self.layout.row(name) + (
            window.left - held.left
        ) * channels
        return f"{self.places[name]} + {inside}" if inside else self.places[name]


def header(name: str) -> str:
    """Text of a kernel header, with the shared one in the place of its ``#include``."""
    shared, line = KERNELS / "int8_common.h", '#include "int8_common.h"\n'
    text = (KERNELS / name).read_text(encoding="utf-8")
    return text.replace(line, shared.read_text(encoding="utf-8"))


def interleaved(weight: np.ndarray) -> np.ndarray:
    """``[O, K, K, I]`` as the fast convolution reads it: four of each of two outputs in turn.

    Channels are filled up to a multiple of four with zeros, outputs to an even number.
    """
    outputs, _, _, channels = weight.shape
    filled = np.pad(weight, ((0, outputs % 2), (0, 0), (0, 0), (0, -channels % 4)))
    return filled.reshape(len(filled) // 2, 2, -1, 4).transpose(0, 2, 1, 3)


def _outputs(name: str, operator: Operator, bias: np.ndarray, zero: int) -> str:
    """The table of :c:type:`Output` of the kernels, for an even number of outputs."""
    count = len(bias)
    mantissa = np.broadcast_to(operator.mantissa, count).tolist()
    shift = np.broadcast_to(operator.shift, count).tolist()
    if max(shift) > MOST_OFFSET_SHIFT:
        raise ValueError(f"got a shift of {max(shift)}; allowed: up to {MOST_OFFSET_SHIFT}")
    rows = [
        f"{{{b}, {m}, {(1 << (n - 33)) + (zero << (n - 32))}, {n - 32}}}"
        for b, m, n in zip(bias.tolist(), mantissa, shift, strict=True)
    ]
    rows += rows[: count % 2]
    return f"static const Output {name}[] = {{\n{array_lines(rows)}}};\n"
