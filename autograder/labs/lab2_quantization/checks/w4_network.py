"""Check the network of 4-bit weights: error of its logits beside nearest rounding, and accuracy.

Weights are unpacked here and computed with in floating point; biases and activations stay fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, joint, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab2_quantization.checks.adaround import W4_TOP, nearest_codes, rounding_fault
from autograder.labs.lab2_quantization.checks.integer_networks import named_tensors
from autograder.labs.lab2_quantization.integer_vgg import BATCH, unpacked
from codesign.datasets import ImageSet, normalize
from codesign.models import VGG

ERROR_IMAGES = 2_000  # behind the error of the logits

Layers = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # weight and bias by name


@check("w4_model")
def _w4_model(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    folded = folded_layers(cases.dense)
    codes = _codes(named_tensors(student, "w4_model"), folded)
    scales = {name: float(w.abs().max()) / W4_TOP for name, (w, _) in folded.items()}
    for name, (weight, _) in folded.items():
        if wrong := rounding_fault(codes[name], weight, scales[name]):
            raise StudentError(f"{name}: {wrong}")
    nearest = {name: nearest_codes(w, scales[name]) for name, (w, _) in folded.items()}
    rounded, plainly = (
        {name: (part[name].float() * scales[name], bias) for name, (_, bias) in folded.items()}
        for part in (codes, nearest)
    )
    channels, images = cases.dense.config["channels"], cases.images
    logits = _logits(rounded, channels, images)
    some = images.head(ERROR_IMAGES)
    exact = _logits(folded, channels, some)
    error = _mean_square(logits[: len(some)] - exact)
    reference = _mean_square(_logits(plainly, channels, some) - exact)
    accuracy = int((logits.argmax(1) == images.labels).sum()) / len(images)
    return joint(
        ("logit_error", error / max(reference, 1e-12)),
        ("accuracy_drop", cases.dense_accuracy - accuracy),
        target,
    )


def _mean_square(difference: torch.Tensor) -> float:
    return float(difference.double().square().mean())


@torch.no_grad()
def folded_layers(dense: VGG) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each layer of ``dense``, batch norm folded into the convolutions."""
    found = {}
    for name, conv in dense.features.named_children():
        if name.startswith("conv"):
            bn = dense.features.get_submodule(name.replace("conv", "bn"))
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(bn, nn.BatchNorm2d)
            assert bn.running_var is not None
            assert bn.running_mean is not None
            factor = bn.weight / (bn.running_var + bn.eps).sqrt()
            weight = conv.weight * factor[:, None, None, None]
            found[name] = (weight, bn.bias - bn.running_mean * factor)
    found["classifier"] = (dense.classifier.weight.detach(), dense.classifier.bias.detach())
    return found


def _codes(stored: Mapping[str, torch.Tensor], folded: Layers) -> dict[str, torch.Tensor]:
    wanted = {f"{name}.weight" for name in folded}
    if stored.keys() != wanted:
        raise StudentError(f"got tensors {sorted(stored)[:20]}, expected {sorted(wanted)}")
    codes = {}
    for name, (weight, _) in folded.items():
        packed = stored[f"{name}.weight"]
        if wrong := type_fault(packed, torch.uint8, (-(-weight.numel() // 2),)):
            raise StudentError(f"{name}.weight: {wrong}: two codes a byte")
        codes[name] = unpacked(packed, tuple(weight.shape))
    return codes


@torch.inference_mode()
def _logits(layers: Layers, channels: list[int | str], data: ImageSet) -> torch.Tensor:
    """``[N, 10]`` of all images."""
    parts = [normalize(part) for part in data.images.split(BATCH)]
    last = torch.channels_last
    return torch.cat([_run(layers, channels, x.contiguous(memory_format=last)) for x in parts])


def _run(layers: Layers, channels: list[int | str], x: torch.Tensor) -> torch.Tensor:
    index = 0
    for item in channels:
        if item == "M":
            x = functional.max_pool2d(x, 2)
            continue
        weight, bias = layers[f"conv{index}"]
        x, index = functional.relu(functional.conv2d(x, weight, bias, padding=1)), index + 1
    return functional.linear(x.mean((2, 3)), *layers["classifier"])
