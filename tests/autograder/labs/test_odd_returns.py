"""Whatever a student's functions and artifacts return, a check answers with a verdict.

Each check of each lab meets functions that all return one odd value, and artifacts of one odd kind.
"""

from __future__ import annotations

import contextlib
import math
import unicodedata

import lab_checks
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autograder.contract import artifacts, checking, show
from autograder.contract.checking import LocalStudent
from autograder.contract.said import MAX_MESSAGE
from autograder.contract.verdict import StudentError
from codesign.models import VGG, ResNet8


class Rude(Exception):
    """An exception that cannot be shown."""

    def __str__(self):
        raise ValueError("no")


def rude():
    raise Rude


def colourful():
    raise ValueError("\x1b[31mwrong\x08\r\0" * 1_000)


def endless():
    value = []
    value.append(value)
    return value


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


ODD = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "minus": lambda: -1,
    "huge": lambda: 10**400,
    "inf": lambda: math.inf,
    "nan": lambda: math.nan,
    "text": lambda: "\x1b[31m\0<b>",
    "no source": lambda: "int f(",
    "nothing": lambda: [],
    "nested": lambda: deep(6),
    "too deep": lambda: deep(2_000),
    "pair": lambda: (torch.ones(2), "x"),
    "triple of inf": lambda: (math.inf, math.inf, math.inf),
    "dict": lambda: {"": {"x": None}, "accuracy": math.inf, "seconds": "fast"},
    "list of dicts": lambda: [{"inputs": ["x"], "output": 3}, {}],
    "scalar": lambda: torch.tensor(3.0),
    "empty": lambda: torch.empty(0, 3),
    "inf tensor": lambda: torch.full((4, 4), math.inf),
    "nan tensor": lambda: torch.full((4, 4), math.nan),
    "hundred dimensions": lambda: torch.ones([1] * 100),
    "float8": lambda: torch.ones(4, 4).to(torch.float8_e4m3fn),
    "bfloat16": lambda: torch.ones(4, 4, dtype=torch.bfloat16),
    "bool": lambda: torch.ones(4, 4, dtype=torch.bool),
    "uint8": lambda: torch.full((4, 4), 255, dtype=torch.uint8),
    "int64 end": lambda: torch.full((4, 4), -(2**63)),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "objects": lambda: np.array([object()]),
    "model": lambda: VGG([4, "M", 6]),
    "another model": lambda: ResNet8(),
    "itself": lambda: endless(),
    "generator": lambda: (n for n in range(3)),
    "array": lambda: np.arange(3.0),
    "array of one": lambda: np.array(3.0),
    "array of text": lambda: np.array(["x"]),
    "numbers as keys": lambda: {0: 1},
    "long text": lambda: "\x1b]8;;x\x07" * 100_000,
    "many models": lambda: [VGG([2])] * 20,
    "control characters": lambda: {"\x08\r\0": ["\u202e", "\ud800"]},
    "raises": rude,
    "raises in colour": colourful,
    "exits": lambda: exit(1),
}


class Odd:
    """A student whose functions and artifacts are all one odd value."""

    def __init__(self, make):
        self.make = make

    def call(self, function, *args, deadline_s=0.0, **kwargs):
        with contextlib.suppress(SystemExit):
            return LocalStudent({function: lambda *a, **k: self.make()}, lab_checks.NOWHERE).call(
                function, *args, **kwargs
            )
        raise StudentError("the kernel died")

    def artifact(self, name):
        value = self.call(name)
        if isinstance(value, tuple):
            raise StudentError("no artifact is a tuple")
        return value

    def artifact_bytes(self, name):
        return 1_000

    def measure(self, function, *args, deadline_s=0.0):
        return self.call(function)


@pytest.mark.parametrize(
    ("lab", "check"), [*lab_checks.chosen(functions=True), *lab_checks.chosen(functions=False)]
)
def test_a_check_survives_every_odd_return(lab, check):
    for name, make in ODD.items():
        verdict = checking.run(lab, check, Odd(make), "glyphs", seed=7)
        assert verdict.points < verdict.max_points, name
        assert all(math.isfinite(row.points) for row in verdict.rows), name
        assert all(len(row.message) <= MAX_MESSAGE for row in verdict.rows), name
        shown = show.text(verdict) + show.html(verdict)
        assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n"}, name


@pytest.mark.parametrize("name", ["float8", "hundred dimensions", "nan tensor", "int64 end"])
def test_an_artifact_that_nobody_asked_for_is_refused_by_itself(name, tmp_path):
    artifacts.store(tmp_path, "good", {"x": torch.ones(3)})
    artifacts.store(tmp_path, "odd", {"x": torch.ones(3)})
    save_file({"x": ODD[name]()}, tmp_path / "odd.safetensors")
    found = artifacts.refusals(tmp_path)
    assert all(said.startswith("artifact 'odd'") for said in found)
    assert bool(found) == (name != "int64 end")


def test_a_million_empty_tensors_are_refused_before_they_are_parsed(tmp_path):
    artifacts.store(tmp_path, "odd", {"x": torch.ones(3)})
    entries = ",".join(
        f'"{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(20_000)
    )
    header = f"{{{entries}}}".encode()
    (tmp_path / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "20,000 tensors; allowed: 10,000" in artifacts.refusals(tmp_path)[0]
