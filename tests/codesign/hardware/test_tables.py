"""A network as tables and constants: complete, and equal to the network it came from."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from codesign import models
from codesign.hardware import operator_tables
from codesign.post_training import quantize

BLOCKS = [[1, 8, 1], [2, 12, 2], [2, 12, 1]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = models.build({"architecture": "mobile", "stem": 8, "blocks": BLOCKS, "head": 16})
    images = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    return quantize(model.eval(), images)


def test_every_tensor_is_written_before_it_is_read(network):
    table = operator_tables.describe(network)
    known = {"image"}
    for row in table["operators"]:
        assert set(row["inputs"]) <= known
        known.add(row["output"])
    assert known == table["shapes"].keys() == table["zeros"].keys()
    assert [row["kind"] for row in table["operators"][:3]] == [
        "four_channels",
        "conv3x3",
        "depthwise",
    ]


def test_what_may_be_overwritten_is_read_by_nobody_else(network):
    table = operator_tables.describe(network)
    operators, shapes = table["operators"], table["shapes"]
    assert table["in_place"]
    for i in table["in_place"]:
        source = operators[i]["inputs"][0]
        assert [j for j, row in enumerate(operators) if source in row["inputs"]] == [i]
        assert math.prod(shapes[operators[i]["output"]]) <= math.prod(shapes[source])
    # The stem is added later on: the first depthwise convolution has to leave it alone.
    assert operators[2]["kind"] == "depthwise"
    assert 2 not in table["in_place"]


def test_an_addition_in_one_number(network):
    table = operator_tables.describe(network)
    row = next(row for row in table["operators"] if row["kind"] == "add")
    operator = next(op for op in network.operators if op.output == row["output"])
    zeros = [network.tensors[name].zero_point for name in operator.inputs]
    out = network.tensors[operator.output].zero_point
    for a in (-128, -1, 0, 127):
        for b in (-128, 5, 127):
            exact = (a - zeros[0]) * row["by"][0] + (b - zeros[1]) * row["by"][1]
            exact = ((exact + 2 ** (row["shift"] - 1)) >> row["shift"]) + out
            assert (a * row["by"][0] + b * row["by"][1] + row["offset"]) >> row["shift"] == exact


def test_constants_are_the_networks_numbers(network):
    text = operator_tables.constants(network)
    for i, operator in enumerate(network.operators, start=1):
        if operator.kind in ("add", "mean"):
            assert f"weight{i}[]" not in text
            continue
        body = re.search(rf"weight{i}\[\].*?\{{(.*?)\}};", text, re.S)[1]
        numbers = np.array([int(n) for n in body.replace("\n", "").split(",") if n.strip()])
        weight = operator.weight
        if weight.shape[-1] == 3 and operator.kind == "conv":
            weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, 1)))
        assert np.array_equal(numbers, weight.ravel())


def test_what_the_lab_has_no_function_for_is_refused():
    images = torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8)
    resnet = quantize(models.build({"architecture": "resnet8"}).eval(), images)
    with pytest.raises(ValueError, match="3x3 convolution with stride 2"):
        operator_tables.describe(resnet)
    wide = {"architecture": "mobile", "stem": 8, "blocks": [[2, 8, 1, 5]], "head": 8}
    with pytest.raises(ValueError, match="allowed for depthwise: 3x3"):
        operator_tables.describe(quantize(models.build(wide).eval(), images))
