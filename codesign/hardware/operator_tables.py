"""Export an int8 network as operator tables and C constants: what Lab 5 generates code from.

The operators carry the names that the functions of ``codesign/kernels/int8_loops.c`` have; where
activations lie and in which calls they meet is the lab's question. Left out: convolutions other
than 1x1 and 3x3 with stride 1, depthwise other than 3x3. Used by Lab 5 and its judge.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codesign.hardware.c_arrays import array_lines
from codesign.int8 import Network, Operator

IMAGE = "image4"  # the image with a fourth channel
EACH = 16  # numbers in a line of C


def describe(network: Network) -> dict[str, Any]:
    """Operators, shapes and zero points, in JSON's types.

    Returns:
        ``operators``: in their order, each with ``kind`` (the C function), ``inputs``, ``output``,
        a depthwise one with ``stride``, an addition with ``by`` (two), ``offset``, ``shift``;
        ``shapes``: ``[height, width, channels]`` of every tensor; ``zeros``: its zero point;
        ``in_place``: numbers of the operators that may write where their first input lies, because
        nobody reads that later.

    Raises:
        ValueError: an operator that the lab has no C function for.
    """
    tensors = network.tensors
    image = network.input
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    shapes[IMAGE] = [*image.shape[:2], 4]
    zeros = {name: tensor.zero_point for name, tensor in tensors.items()}
    zeros[IMAGE] = image.zero_point
    operators: list[dict[str, Any]] = [
        {"kind": "four_channels", "inputs": [image.name], "output": IMAGE}
    ]
    for operator in network.operators:
        inputs = [IMAGE if name == image.name else name for name in operator.inputs]
        row = {"kind": _kind(operator), "inputs": inputs, "output": operator.output}
        operators.append(row | _extra(network, operator))
    return {
        "operators": operators,
        "shapes": shapes,
        "zeros": zeros,
        "in_place": [i for i in range(len(operators)) if _may_overwrite(operators, shapes, i)],
    }


def _kind(operator: Operator) -> str:
    if operator.kind == "conv":
        size = operator.weight.shape[1]
        if size not in (1, 3) or operator.stride != 1:
            raise ValueError(
                f"got a {size}x{size} convolution with stride {operator.stride} into "
                f"{operator.output}; allowed: 1x1 and 3x3 with stride 1"
            )
        return f"conv{size}x{size}"
    if operator.kind == "depthwise" and operator.weight.shape[0] != 3:
        raise ValueError(f"got {operator.weight.shape[:2]} kernels; allowed for depthwise: 3x3")
    return operator.kind


def _extra(network: Network, operator: Operator) -> dict[str, Any]:
    if operator.kind == "depthwise":
        return {"stride": operator.stride}
    if operator.kind != "add":
        return {}
    offset = network.addition_offset(operator)
    return {"by": operator.mantissa.tolist(), "offset": offset, "shift": int(operator.shift[0])}


def _may_overwrite(
    operators: list[dict[str, Any]], shapes: dict[str, list[int]], index: int
) -> bool:
    operator = operators[index]
    if operator["kind"] not in ("depthwise", "add"):
        return False
    source = operator["inputs"][0]
    readers = [i for i, other in enumerate(operators) if source in other["inputs"]]
    shrinks = math.prod(shapes[operator["output"]]) <= math.prod(shapes[source])
    return readers == [index] and shrinks


def constants(network: Network) -> str:
    """C text: ``weight<i>``, and ``channel<i>`` or, for the last layer, ``bias<i>``.

    ``i`` is the operator's number in :func:`describe`; ``Channel`` is the struct of
    ``int8_loops.c``.
    """
    texts = []
    for i, operator in enumerate(network.operators, start=1):
        weight, shape = operator.weight, network.tensors[operator.inputs[0]].shape
        if operator.kind == "conv" and weight.shape[3] == 3:
            weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, 1)))
        if weight.size:
            numbers = array_lines(map(str, weight.ravel().tolist()), EACH)
            aligned = "__attribute__((aligned(4)))"
            texts.append(f"static const int8_t weight{i}[] {aligned} = {{\n{numbers}}};")
        if operator.kind == "linear":
            numbers = array_lines(map(str, operator.bias.tolist()), EACH)
            texts.append(f"static const int32_t bias{i}[] = {{\n{numbers}}};")
        elif operator.kind != "add":
            count = shape[2] if operator.kind == "mean" else len(operator.bias)
            bias = operator.bias if operator.bias.size else np.zeros(1, np.int32)
            columns = (bias, operator.mantissa, operator.shift)
            rows = zip(*(np.broadcast_to(c, count).tolist() for c in columns), strict=True)
            numbers = array_lines((f"{{{b}, {m}, {s}}}" for b, m, s in rows), EACH)
            texts.append(f"static const Channel channel{i}[] = {{\n{numbers}}};")
    return "\n\n".join(texts) + "\n"
