"""ONNX Runtime sessions of the course's networks: fp32, and the same integers as the board's.

An integer network becomes ``QLinearConv`` and its relatives with uint8 activations (codes + 128),
which is what ONNX Runtime computes fastest on x86. It requantizes by a float multiplication, so a
code may differ by one from the integer executor's. One thread, batch of any size.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from codesign.datasets import ImageSet, normalize
from codesign.int8 import Network, Operator

BATCH = 100


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def float_session(model: nn.Module) -> onnxruntime.InferenceSession:
    """``model`` in fp32, exported by torch; its input is ``image``, normalized pixels."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter by tracing is the old one
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=17,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
        return _session(path.read_bytes())


def integer_session(network: Network) -> onnxruntime.InferenceSession:
    """``network`` in int8; its input is ``image``, uint8 codes ``[N, 3, H, W]``."""
    nodes, stored = [], dict[str, np.ndarray]()
    for name, tensor in network.tensors.items():
        stored[f"{name}.scale"] = np.array(tensor.scale, np.float32)
        stored[f"{name}.zero"] = np.array(tensor.zero_point + 128 * (tensor.bytes_each == 1), "u1")
    for operator in network.operators:
        nodes += _nodes(operator, network, stored)
    side, _, channels = network.input.shape
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", channels, side, side])
    logits = helper.make_tensor_value_info("logits", TensorProto.INT32, ["n", "classes"])
    constants = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "network", [image], [logits], constants)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return _session(helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString())


def _nodes(operator: Operator, network: Network, stored: dict[str, np.ndarray]) -> list[Any]:
    """One operator; its constants go into ``stored``."""
    name, first = operator.output, network.input.name
    values = ["image" if source == first else source for source in operator.inputs]
    quantized = [
        part
        for value, source in zip(values, operator.inputs, strict=True)
        for part in (value, f"{source}.scale", f"{source}.zero")
    ]
    ends = [f"{name}.scale", f"{name}.zero"]
    if operator.kind == "conv":
        stored |= _convolution(operator, network)
        constants = [f"{name}.w", f"{name}.w.scale", f"{name}.w.zero", *ends, f"{name}.b"]
        return [helper.make_node(
            "QLinearConv", [*quantized, *constants], [name],
            strides=[operator.stride] * 2, pads=[operator.padding] * 4,
        )]  # fmt: skip
    if operator.kind == "add":
        return [helper.make_node("QLinearAdd", [*quantized, *ends], [name], domain="com.microsoft")]
    if operator.kind == "mean":
        return [helper.make_node(
            "QLinearGlobalAveragePool", [*quantized, *ends], [name],
            domain="com.microsoft", channels_last=0,
        )]  # fmt: skip
    if operator.kind == "linear":
        stored |= {f"{name}.w": operator.weight.T.copy(), f"{name}.b": operator.bias}
        product = [f"{name}.flat", f"{name}.w", f"{operator.inputs[0]}.zero"]
        return [
            helper.make_node("Flatten", values, [f"{name}.flat"]),
            helper.make_node("MatMulInteger", product, [f"{name}.sum"]),
            helper.make_node("Add", [f"{name}.sum", f"{name}.b"], ["logits"]),
        ]
    raise ValueError(f"got operator {operator.kind!r}; allowed: conv, add, mean, linear")


def _convolution(operator: Operator, network: Network) -> dict[str, np.ndarray]:
    """Weights as ONNX lays them out; their scales from the fixed-point multipliers."""
    name = operator.output
    multiplier = operator.mantissa * 2.0 ** -operator.shift.astype(np.float64)
    ratio = network.tensors[name].scale / network.tensors[operator.inputs[0]].scale
    return {
        f"{name}.w": operator.weight.transpose(0, 3, 1, 2).copy(),
        f"{name}.w.scale": (multiplier * ratio).astype(np.float32),
        f"{name}.w.zero": np.zeros(len(multiplier), np.int8),
        f"{name}.b": operator.bias,
    }


def pixels(images: torch.Tensor, network: Network | None = None) -> np.ndarray:
    """What a session takes for uint8 images: normalized pixels, or the codes of ``network``."""
    if network is None:
        return normalize(images).contiguous().numpy()
    codes = network.codes(images).astype(np.int16) + 128
    return np.ascontiguousarray(codes.astype(np.uint8).transpose(0, 3, 1, 2))


def session_accuracy(
    session: onnxruntime.InferenceSession, data: ImageSet, network: Network | None = None
) -> float:
    """Top-1 accuracy in 0..1 of what the session itself computes."""
    right = 0
    for images, labels in zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True):
        (logits,) = session.run(None, {"image": pixels(images, network)})
        right += int((logits.argmax(1) == labels.numpy()).sum())
    return right / len(data)
