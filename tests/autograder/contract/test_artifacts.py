"""Artifacts: stored, loaded and measured by their files; malformed ones are refused."""

from __future__ import annotations

import json
import math
import os
import struct
import time

import pytest
import torch

from autograder.contract import artifacts
from autograder.contract.files import ExchangeError
from autograder.contract.said import MAX_MESSAGE
from codesign.models import VGG


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (VGG([4]), "model"),
        ({"a": torch.ones(2)}, "tensors"),
        ({"a": [1, 2.5]}, "table"),
        (0.5, "table"),
        ("int main(void) {}", "source"),
    ],
)
def test_artifacts_come_back_and_their_size_is_that_of_the_files(tmp_path, value, kind):
    artifacts.store(tmp_path, "a", value)
    back = artifacts.fetch(tmp_path, "a")
    assert artifacts.kind_of(back) == kind
    assert artifacts.size(tmp_path, "a") == sum(p.stat().st_size for p in tmp_path.iterdir())
    if kind in ("table", "source"):
        assert back == value


def test_a_bad_artifact_leaves_the_stored_one_alone(tmp_path):
    artifacts.store(tmp_path, "a", {"x": torch.ones(2)})
    before = artifacts.digest(tmp_path, "a")
    for bad in ({"x": torch.tensor([math.nan])}, {"x": math.inf}, {"x": object()}, None):
        with pytest.raises((ValueError, TypeError)):
            artifacts.store(tmp_path, "a", bad)
    assert artifacts.digest(tmp_path, "a") == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "pickle"}', '{"kind": "model"}', "\xff"]
)
def test_malformed_records_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ExchangeError):
        artifacts.fetch(tmp_path, "a")


def tensor_file(header, data=b""):
    """A safetensors file with this header, which the library would not write."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def of(dtype, shape, size):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    return tensor_file({"x": entry}, b"\x01" * size)


ONE = b'{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
# Tensors that nobody asked for: the file, and a word of what is said about it.
ODD_TENSORS = {
    "float8": (of("F8_E4M3", [4], 4), "'F8_E4M3'; allowed: float64, float32"),
    "float8 of powers": (of("F8_E8M0", [4], 4), "'F8_E8M0'"),
    "float6": (of("F6_E2M3", [4], 3), "'F6_E2M3'"),
    "float4": (of("F4", [8], 4), "'F4'"),
    "complex": (of("C64", [1], 8), "'C64'"),
    "no type": (of(None, [1], 4), "None"),
    "a list for a type": (of(["F32"], [1], 4), "of type"),
    "100 dimensions": (of("F32", [1] * 100, 4), "100 dimensions; allowed: up to 16"),
    "a million dimensions": (of("F32", [1] * 1_000_000, 4), "1,000,000 dimensions"),
    "no shape": (of("F32", None, 4), "no dimensions"),
    "a size below zero": (of("F32", [-1], 4), "not readable"),
    "a size of NaN": (of("F32", [math.nan], 4), "not readable"),
    "a size beyond memory": (of("F32", [2**62, 4], 4), "not readable"),
    "a size beyond 64 bits": (of("F32", [0, 2**63], 0), "not readable"),
    "no byte": (b"", "0 bytes are no safetensors file"),
    "seven bytes": (b"1234567", "7 bytes are no"),
    "a header beyond the file": (struct.pack("<Q", 2**63) + b"{}", "10 bytes are no"),
    "a header without a byte": (struct.pack("<Q", 0), "not readable"),
    "a header that is no object": (tensor_file(b"[]"), "not readable"),
    "brackets": (tensor_file(b"[" * 100_000), "50,000 tensors"),
    "braces": (tensor_file(b'{"a":' * 100_000), "not readable"),
    "a header of 5 MB": (tensor_file(b" " * 5_000_000), "a header of 5,000,000 bytes"),
    "a long name": (tensor_file(b'{"%s":%s}' % (b"y" * 201, ONE % (0, 4)), b"1234"), "201 char"),
    "one name twice": (
        tensor_file(b'{"x":%s,"x":%s}' % (ONE % (0, 4), ONE % (4, 8)), b"12345678"),
        "a name is there twice",
    ),
    "two tensors in one place": (
        tensor_file(b'{"x":%s,"y":%s}' % (ONE % (0, 4), ONE % (0, 4)), b"1234"),
        "not readable",
    ),
    "an empty header": (tensor_file({}), ""),
    "no entries": (of("F32", [0, 3], 0), ""),
    "a name that a terminal obeys": (
        tensor_file(b'{"\\u001b[31m":%s}' % (ONE % (0, 4)), b"1234"),
        "",
    ),
}


@pytest.mark.parametrize("name", ODD_TENSORS)
def test_odd_tensors_are_one_line_and_cost_nothing(name, tmp_path):
    content, words = ODD_TENSORS[name]
    artifacts.store(tmp_path, "good", {"x": torch.ones(3)})
    (tmp_path / "odd.json").write_text('{"kind": "tensors"}')
    (tmp_path / "odd.safetensors").write_bytes(content)
    start = time.process_time()
    found = artifacts.refusals(tmp_path)
    assert time.process_time() - start < 1
    assert len(found) == bool(words)
    for said in found:
        assert said.startswith("artifact 'odd'")
        assert words in said
        assert len(said) < 500
    assert torch.equal(artifacts.fetch(tmp_path, "good")["x"], torch.ones(3))


def channels(*widths):
    return {"kind": "model", "config": {"architecture": "vgg", "channels": widths}}


ODD_RECORDS = {
    "a kind that is a list": '{"kind": ["table"]}',
    "a kind that is an object": '{"kind": {}}',
    "NaN": '{"kind": "table", "value": [NaN]}',
    "infinity": '{"kind": "table", "value": {"a": -Infinity}}',
    "more than a float holds": '{"kind": "table", "value": 1e400}',
    "5,000 digits": f'{{"kind": "table", "value": {"9" * 5_000}}}',
    "deep": f'{{"kind": "table", "value": {"[" * 900}{"]" * 900}}}',
    "deeper": f'{{"kind": "table", "value": {"[" * 100_000}{"]" * 100_000}}}',
    "too large": f'{{"kind": "table", "value": [{",".join("0" * 1_500_000)}]}}',
    "a network of nothing": '{"kind": "model", "config": []}',
    "a network of all": '{"kind": "model", "config": {"architecture": {"a": [{}]}}}',
    "a network that is too deep": json.dumps(channels(*[1] * 500_000)),
    "a network that is too wide": json.dumps(channels(10**9)),
    "a width of NaN": json.dumps(channels(math.nan)),
    "other bytes": "\0\1\2",
}


@pytest.mark.parametrize("name", ODD_RECORDS)
def test_odd_records_are_one_line_and_cost_nothing(name, tmp_path):
    (tmp_path / "odd.json").write_text(ODD_RECORDS[name])
    (tmp_path / "odd.safetensors").write_bytes(tensor_file({}))
    start = time.process_time()
    (said,) = artifacts.refusals(tmp_path)
    assert time.process_time() - start < 1
    assert said.startswith(("artifact 'odd'", "odd.json"))
    assert len(said) <= MAX_MESSAGE


@pytest.mark.parametrize("suffix", ["json", "safetensors", "c"])
@pytest.mark.parametrize("what", ["folder", "link", "dangling", "pipe"])
def test_what_is_no_file_is_one_line(what, suffix, tmp_path):
    artifacts.store(tmp_path, "good", {"x": torch.ones(3)})
    artifacts.store(tmp_path, "odd", "int x;" if suffix == "c" else {"x": torch.ones(3)})
    path = tmp_path / f"odd.{suffix}"
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("good.json" if what == "link" else "nothing"))
    assert len(artifacts.refusals(tmp_path)) == 1
    for ask in (artifacts.fetch, artifacts.size):
        with pytest.raises(ExchangeError, match="odd"):
            ask(tmp_path, "odd")
    assert artifacts.fetch(tmp_path, "good")


def test_a_bool_of_another_byte_is_true(tmp_path):
    (tmp_path / "odd.json").write_text('{"kind": "tensors"}')
    content = of("BOOL", [4], 4).replace(b"\1" * 4, b"\0\x7f\1\xff")
    (tmp_path / "odd.safetensors").write_bytes(content)
    mask = artifacts.fetch(tmp_path, "odd")["x"]
    assert mask.view(torch.uint8).tolist() == [0, 1, 1, 1]
