"""Check the networks of integers, 8 bits and 4: compression and accuracy, which count jointly.

The judge runs what was handed in itself (:mod:`autograder.labs.lab2_quantization.integer_vgg`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from autograder.contract import held_out
from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check
from autograder.contract.rows import Row, joint
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.labs.lab2_quantization.integer_vgg import IntegerVGG
from codesign import cost

# Of 4,000 glyphs a draw moves the drop of a 4-bit network by 0.003; trained and untrained ones are
# 0.013 apart.
IMAGES_4_BIT = 12_000


@check("int8_model")
def _int8_model(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return _integer_rows(student, cases, target, "int8_model", 8, None)


@check("w4a4_model")
def _w4a4_model(student: Student, cases: Cases, target: Mapping[str, Figure]) -> list[Row]:
    return _integer_rows(student, cases, target, "w4a4_model", 4, IMAGES_4_BIT)


def _integer_rows(
    student: Student,
    cases: Cases,
    target: Mapping[str, Figure],
    name: str,
    bits: int,
    count: int | None,
) -> list[Row]:
    """See :func:`autograder.contract.held_out.images` for ``count``."""
    dense = cases.dense
    network = IntegerVGG(named_tensors(student, name), dense.config["channels"], bits)
    images = held_out.images(cases.dataset, cases.seed, count)
    dense_accuracy = held_out.dense_accuracy(cases.dataset, cases.seed, count)
    drop = dense_accuracy - network.accuracy(images)
    compression = cost.model_bytes(dense) / student.artifact_bytes(name)
    return joint(("compression", compression), ("accuracy_drop", drop), target)


def named_tensors(student: Student, name: str) -> dict[str, torch.Tensor]:
    """The tensors of the artifact ``name``.

    Raises:
        StudentError: it is anything else.
    """
    stored = student.artifact(name)
    values = stored.values() if isinstance(stored, dict) else [None]
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise StudentError(f"got a {type(stored).__name__}, expected named tensors")
    return stored
