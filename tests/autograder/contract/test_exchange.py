"""Values across the kernel boundary: what travels, what does not, and what is refused."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from autograder.contract import exchange
from autograder.contract.files import ExchangeError
from codesign.models import VGG

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value):
    assert exchange.unpack(*exchange.pack(value)) == value


def test_deep_nesting_is_refused():
    value = 1
    for _ in range(exchange.MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ExchangeError, match="nested deeper"):
        exchange.pack(value)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bool, torch.int64, torch.uint8]
)
def test_tensors_come_back_as_they_were(dtype):
    tensor = torch.arange(6).reshape(2, 3).T.to(dtype)
    back = exchange.unpack(*exchange.pack({"x": (tensor, tensor)}))["x"]
    assert isinstance(back, tuple)
    assert torch.equal(back[0], tensor)
    assert back[1].dtype == dtype


def test_models_are_rebuilt():
    model = VGG([4, "M", 6]).eval()
    back = exchange.unpack(*exchange.pack(model))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(back(x), model(x))


def test_numpy_numbers_become_numbers():
    assert exchange.unpack(*exchange.pack([np.float32(0.5), np.int64(3)])) == [0.5, 3]
    assert torch.equal(exchange.unpack(*exchange.pack(np.ones(3))), torch.ones(3).double())


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    "value",
    [
        Evil(),
        {1: "integer keys"},
        {"set"},
        torch.ones(2).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
        torch.nn.Linear(2, 2),
        np.array(["text"]),
        lambda: None,
    ],
)
def test_what_cannot_travel_is_named(value):
    with pytest.raises(ExchangeError, match=r"value\[0\]"):
        exchange.pack([value])


NO_TENSORS = exchange.pack(None)[1]


@pytest.mark.parametrize(
    "tree",
    [
        "",
        "{",
        "[1]",
        "{}",
        '{"tensor": "t0"}',
        '{"tensor": 3}',
        '{"list": 3}',
        '{"dict": [1]}',
        '{"model": {"architecture": "vgg"}}',
        '{"model": {"architecture": "os.system"}, "weights": {}}',
        '{"model": {"architecture": "vgg", "channels": [999999999]}, "weights": {}}',
        '{"model": {"architecture": "vgg"}, "weights": {"x": "t9"}}',
        '{"list": ' * 50 + "1" + "}" * 50,
        "[" * 100_000,
    ],
)
def test_malformed_trees_are_refused(tree):
    with pytest.raises(ExchangeError):
        exchange.unpack(tree, NO_TENSORS)


def test_too_many_entries_are_refused():
    tree = json.dumps({"list": [1] * (exchange.MAX_ENTRIES + 1)})
    with pytest.raises(ExchangeError, match="entries"):
        exchange.unpack(tree, NO_TENSORS)


def test_damaged_tensors_are_refused():
    tree, tensors = exchange.pack(torch.ones(100))
    with pytest.raises(ExchangeError, match="not readable"):
        exchange.unpack(tree, tensors[:-50])


def test_files_are_read_only_when_regular(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"x" * 100)
    assert exchange.read_file(target) == b"x" * 100
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    os.link(target, tmp_path / "hard")
    for name in ("link", "fifo", "hard", "missing", "."):
        with pytest.raises(ExchangeError):
            exchange.read_file(tmp_path / name)


def test_large_files_are_refused(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(ExchangeError, match="allowed: 10"):
        exchange.read_file(tmp_path / "large", 10)


def test_a_call_answers_with_value_or_error(tmp_path, monkeypatch):
    import sys

    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "half", lambda x: x / 2, raising=False)
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    requests.mkdir()
    answers.mkdir()
    for name, argument in (("good", torch.ones(2)), ("bad", "text")):
        exchange.write(requests / name, exchange.request("half", [argument], {}))
        exchange.serve(str(requests), str(answers), name)
    assert torch.equal(exchange.read(answers / "good")["value"], torch.full((2,), 0.5))
    assert "TypeError" in exchange.read(answers / "bad")["error"]


def test_one_tensor_is_not_many_models():
    """Six megabytes became twelve hundred, and half a minute of the judge's."""
    model = VGG([4, "M", 6])
    weights = {name: f"t{at}" for at, name in enumerate(model.state_dict())}
    stored = save({weights[name]: value for name, value in model.state_dict().items()})
    one = {"model": model.config, "weights": weights}
    assert isinstance(exchange.unpack(json.dumps(one), stored), VGG)
    with pytest.raises(ExchangeError, match="not a course model"):
        exchange.unpack(json.dumps({"list": [one, one]}), stored)
    with pytest.raises(ExchangeError, match="malformed"):
        exchange.unpack(json.dumps({"list": [{"tensor": "t0"}] * 2}), stored)


def test_more_models_or_text_than_anybody_needs_are_refused():
    with pytest.raises(ExchangeError, match="more than 16 models"):
        exchange.unpack(*exchange.pack([VGG([2])] * 17))
    with pytest.raises(ExchangeError, match="bytes of JSON; allowed: 16,777,216"):
        exchange.unpack(json.dumps("x" * 17_000_000), NO_TENSORS)
    named = [{"model": at} for at in range(100)]  # only a word
    assert exchange.unpack(*exchange.pack(named)) == named


@pytest.mark.parametrize(
    "tree",
    [
        {"model": {"architecture": "vgg", "channels": [1] * 50_000}, "weights": {}},
        {"x" * 100_000: 1},
        {"model": {"x" * 100_000: 1}, "weights": {}},
    ],
)
def test_what_is_wrong_is_said_in_few_words(tree):
    with pytest.raises(ExchangeError) as told:
        exchange.unpack(json.dumps(tree), NO_TENSORS)
    assert len(str(told.value)) <= exchange.MAX_MESSAGE


def test_a_large_answer_is_read_within_a_second():
    """The judge's own time is nobody's budget, so that what is accepted has to be cheap."""
    answers = {
        "entries": ({"list": [0] * 99_000}, 0),
        "tensors": ({"list": [{"tensor": f"t{n}"} for n in range(9_999)]}, 9_999),
        "text": ("ä" * 1_300_000, 0),
    }
    for name, (tree, count) in answers.items():
        stored = save({f"t{n}": torch.empty(0) for n in range(count)})
        start = time.process_time()
        exchange.unpack(json.dumps(tree), stored)
        assert time.process_time() - start < 1, name
