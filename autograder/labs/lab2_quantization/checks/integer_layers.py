"""Check what an integer network is made of: folded batch norm and sums of products.

Expected sums are exact, in int64; a folded layer is compared with convolution and batch norm in
float64. Fixed cases stand beside drawn ones: no variance, every eps, one channel, images that are
not square, both ends of zero points and biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student, faults
from autograder.contract.definition import check
from autograder.contract.rows import Row, compare, expect_tuple, no_fault, type_fault
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError

NORMS = (  # outputs, inputs, side of the kernel, eps
    *((6, 3, 3, 1e-5), (5, 2, 3, 1e-3), (7, 4, 3, 0.1), (3, 3, 3, 1.0)),
    *((1, 1, 3, 1e-5), (4, 1, 1, 1e-3), (2, 5, 5, 0.01)),
)
IMAGES = (  # count, outputs, inputs, height, width, zero point
    *((2, 3, 4, 5, 5, 0), (2, 3, 2, 4, 7, -128), (1, 5, 3, 6, 2, 127), (3, 2, 1, 1, 1, -7)),
    *((1, 1, 2, 1, 5, 64), (2, 4, 3, 3, 1, -128), (1, 2, 16, 8, 4, 1)),
)
VECTORS = (  # count, outputs, inputs, zero point
    *((3, 4, 9, 0), (3, 4, 64, -7), (1, 1, 1, 127), (5, 2, 1, -128), (1, 10, 33, 5)),
)

# --- batch norm ----------------------------------------------------------------------------------


@check("fold_batchnorm")
def _fold_batchnorm(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    drawn = int(cases.randint(5, 9)), int(cases.randint(2, 5)), 3, cases.choice([2e-5, 3e-3, 0.2])
    found = [_norm_faults(student, cases, *each) for each in (*NORMS, drawn)]
    images, zeros = zip(*found, strict=True)
    return [
        no_fault("equals convolution and batch norm", images, 4),
        no_fault("of an image of zeros", zeros, 2),
    ]


def _norm_faults(
    student: Student, cases: Cases, outputs: int, inputs: int, side: int, eps: float
) -> tuple[str | None, str | None]:
    """What is wrong on an image, and on one of zeros, where the bias alone is left."""
    weight = cases.randn(outputs, inputs, side, side)
    gamma, beta, mean = (cases.randn(outputs) for _ in range(3))
    var = cases.randn(outputs).square() * eps  # so that eps counts
    var[0] = 0
    try:
        folded = _folded(student, weight, gamma, beta, mean, var, eps)
    except (StudentError, ValueError) as error:
        return str(error), str(error)
    x = cases.randn(2, inputs, 6, 5).double()
    said = []
    for image in (x, torch.zeros_like(x)):
        sums = functional.conv2d(image, weight.double(), padding=side // 2)
        deviation = (var.double() + eps).sqrt()[:, None, None]
        expected = gamma[:, None, None] * (sums - mean[:, None, None]) / deviation
        expected += beta[:, None, None]
        found = functional.conv2d(image, *folded, padding=side // 2)
        close = 1e-4 * float(expected.abs().max())
        wrong = compare("", found, expected, 1, atol=close, rtol=1e-3).message
        said.append(f"{tuple(weight.shape)}, eps {eps:g}: {wrong}" if wrong else None)
    return said[0], said[1]


def _folded(
    student: Student, weight: torch.Tensor, *rest: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias in float64; the text names no floating type."""
    got = student.call("fold_batchnorm", weight, *rest)
    found = []
    shapes = {"weight": tuple(weight.shape), "bias": tuple(weight.shape[:1])}
    for (name, shape), value in zip(shapes.items(), expect_tuple(got, *shapes), strict=True):
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        if wrong := type_fault(value, value.dtype if floating else torch.float32, shape):
            raise StudentError(f"{name}: {wrong}")
        found.append(value.double())
    return found[0], found[1]


# --- sums of products ----------------------------------------------------------------------------


@check("quantized_conv2d")
def _quantized_conv2d(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    side = int(cases.randint(4, 7)), int(cases.randint(7, 10)), int(cases.randint(-60, 60))
    shapes = [*IMAGES, (2, 3, int(cases.randint(2, 5)), *side)]
    vectors = [*VECTORS, (3, 4, int(cases.randint(5, 20)), int(cases.randint(-60, 60)))]
    large = [(1, 3, 128, 5, 4, -128), (1, 2, 200, 3, 5, 127)]
    return [
        no_fault(
            "convolution, zero points, borders",
            faults(_conv_fault, [(student, cases, *each, False) for each in shapes]),
            4,
        ),
        no_fault(
            "accumulators beyond 2^24",
            faults(_conv_fault, [(student, cases, *each, True) for each in large]),
            2,
        ),
        no_fault(
            "linear layer",
            [
                *faults(_linear_fault, [(student, cases, *each, False) for each in vectors]),
                *faults(_linear_fault, [(student, cases, 3, 4, 1_200, -128, True)]),
            ],
            2,
        ),
    ]


def _conv_fault(
    student: Student,
    cases: Cases,
    count: int,
    outputs: int,
    inputs: int,
    height: int,
    width: int,
    zero: int,
    large: bool,
) -> str | None:
    shapes = (count, inputs, height, width), (outputs, inputs, 3, 3)
    codes, weight, bias = _operands(cases, *shapes, zero, large)
    got = student.call("quantized_conv2d", codes, zero, weight, bias)
    padded = functional.pad(codes.long() - zero, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # [N, I, H, W, 3, 3]
    expected = torch.einsum("nihwuv,oiuv->nohw", patches, weight.long())
    return _sums_fault(got, expected + bias[:, None, None], shapes[0], zero)


def _linear_fault(
    student: Student,
    cases: Cases,
    count: int,
    outputs: int,
    inputs: int,
    zero: int,
    large: bool,
) -> str | None:
    shapes = (count, inputs), (outputs, inputs)
    codes, weight, bias = _operands(cases, *shapes, zero, large)
    got = student.call("quantized_linear", codes, zero, weight, bias)
    expected = ((codes.long() - zero)[:, None] * weight.long()).sum(2) + bias
    return _sums_fault(got, expected, shapes[0], zero)


def _operands(
    cases: Cases, image: Sequence[int], kernel: Sequence[int], zero: int, large: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, weights and biases; ``large``: all products have one sign and are as large as can be.

    Biases are odd and beyond 2^24, which no float32 holds.
    """
    codes, weight = cases.randint(-128, 128, image), cases.randint(-127, 128, kernel)
    if large:
        codes = codes.abs().clamp(100, 127) * (1 if zero < 0 else -1)
        weight = weight.abs().clamp(min=100)
    else:  # both ends
        codes.view(-1)[0], codes.view(-1)[-1] = -128, 127
        weight.view(-1)[0], weight.view(-1)[-1] = 127, -127
    bias = cases.randint(2**24, 2**29, kernel[:1]) * 2 + 1
    bias[::2] *= -1
    return codes.to(torch.int8), weight.to(torch.int8), bias.int()


def _sums_fault(got: Any, expected: torch.Tensor, shape: tuple[int, ...], zero: int) -> str | None:
    wrong = type_fault(got, torch.int32, tuple(expected.shape))
    wrong = wrong or compare("", got, expected.int(), 1, exact=True).message
    return f"codes {shape}, zero point {zero}: {wrong}" if wrong else None
