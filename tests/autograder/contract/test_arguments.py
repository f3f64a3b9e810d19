"""Arguments stay as they are: what a function alters is named, what it may alter is not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as masks

from autograder.contract.checking import LocalStudent
from autograder.contract.verdict import StudentError
from codesign import training
from codesign.datasets import ImageSet, load
from codesign.models import VGG


def called(function, *args, **kwargs):
    """What the judge gets for one call of ``function``."""
    return LocalStudent({"it": function}, Path("nowhere")).call("it", *args, **kwargs)


def first_layer(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))


def zero_three(weight):
    weight.view(-1)[:3] = 0
    return weight


def negative_zero(weight):
    weight.zero_().neg_()


def pop(entries):
    entries.pop()


def put_last(entries):
    entries[1]["mask"][0] = 7


def train(model):
    model.train()


def part_trains(model):
    first_layer(model).train()


def freeze(model):
    model.requires_grad_(False)


def prune(model):
    first_layer(model).weight.data[0] = 0


def buffers(model):
    model.train()(torch.randn(2, 3, 8, 8))
    model.eval()


def hold_mask(model):
    masks.random_unstructured(first_layer(model), "weight", 0.5)


def no_relu(model):
    model.features.relu1 = torch.nn.Identity()


def config(model):
    model.config["channels"][0] = 5


def ones():
    return torch.ones(5, 8)


def net():
    return VGG([4, "M", 6]).eval()


CHANGES = {
    "values": (zero_three, ones, "'weight' (3 of 40 entries)"),
    "sign of zero": (negative_zero, lambda: torch.zeros(4), "4 of 4 entries"),
    "nan": (zero_three, lambda: torch.full((4,), torch.nan), "3 of 4 entries"),
    "shape": (lambda x: x.unsqueeze_(0), ones, "'x' (shape (5, 8) became (1, 5, 8))"),
    "resized": (lambda x: x.resize_(3, 2), ones, "shape (5, 8) became (3, 2)"),
    "dtype": (lambda x: setattr(x, "data", x.data.double()), ones, "torch.float32 became"),
    "array view": (lambda x: x.numpy().fill(0), ones, "40 of 40 entries"),
    "bool": (lambda mask: mask.logical_not_(), lambda: torch.ones(3) > 0, "3 of 3 entries"),
    "list": (pop, lambda: [1, 2, 3], "'entries' (3 entries became 2)"),
    "order": (lambda x: x.reverse(), lambda: [1, 2], "'x'[0] (1 became 2)"),
    "type": (lambda x: x.__setitem__(0, True), lambda: [1], "a int became a bool"),
    "nested": (
        put_last,
        lambda: [0, {"mask": torch.zeros(2)}],
        "'entries'[1]['mask'] (1 of 2 entries)",
    ),
    "new key": (lambda table: table.update(b=1), lambda: {"a": 1}, "key 'b' is new"),
    "lost key": (lambda table: table.clear(), lambda: {"a": 1}, "key 'a' went"),
    "training mode": (train, net, "'model' (its training mode: False became True)"),
    "one layer's mode": (part_trains, net, "its training mode['"),
    "requires_grad": (freeze, net, "its requires_grad['"),
    "weights": (prune, net, "27 of 108 entries"),
    "buffers": (buffers, net, "running_mean"),
    "weight renamed": (hold_mask, net, "its state: key 'features.conv0.weight' went"),
    "a layer": (no_relu, net, "its layers['features.relu1']: 'ReLU(inplace=True)' became"),
    "config": (config, net, "its config['channels'][0]: 4 became 5"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_argument_is_named(case):
    function, make, words = CHANGES[case]
    with pytest.raises(StudentError, match=r"^it: changed its argument '") as told:
        called(function, make())
    assert words in str(told.value)
    assert "the text says that arguments stay as they are" in str(told.value)


def test_the_callers_own_are_never_touched():
    weight = ones()
    with pytest.raises(StudentError):
        called(zero_three, weight)
    assert torch.equal(weight, ones())


def own_copy(weight):
    weight = weight.clone()
    weight[0] = 0
    return weight


def numpy_inside(weight):
    return torch.from_numpy(np.where(weight.numpy() > 0, 1.0, 0.0))


def measured_by_the_library(model):
    val = load("glyphs", "val", quiet=True)
    return training.evaluate(model, ImageSet(val.images[:8], val.labels[:8], val.card))


def gradients(model):
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    return [p.grad.abs().mean().item() for p in model.parameters()]


UNCHANGED = {
    "itself": (lambda x: x, ones),
    "a view": (lambda x: x.view(-1)[::2], ones),
    "a transpose": (lambda x: x.T, ones),
    "a copy": (own_copy, ones),
    "numpy": (numpy_inside, ones),
    "the same list": (lambda x: x, lambda: [1, {"a": torch.ones(2)}]),
    "layout": (lambda m: m.to(memory_format=torch.channels_last), net),
    "evaluated": (lambda m: m.eval(), net),
    "gradients": (gradients, net),
    "accuracy": (measured_by_the_library, net),
    "nan": (lambda x: x, lambda: [torch.full((2,), torch.nan), float("nan")]),
    "builtin": (max, lambda: [1, 2]),
    "no signature": (torch.sum, ones),
    "empty": (lambda x: x, lambda: torch.empty(0, 3)),
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_what_only_reads_or_returns_its_argument_is_right(case):
    function, make = UNCHANGED[case]
    called(function, make())


@pytest.mark.parametrize("named", [0, "weight"])
def test_an_argument_that_may_change_may(named):
    assert called(zero_three, ones(), may_change=(named,)).sum() == 37


def test_others_than_that_may_not():
    def both(first, second):
        first.zero_()
        second.zero_()

    with pytest.raises(StudentError, match="argument 'second' "):
        called(both, ones(), ones(), may_change=("first",))
    with pytest.raises(StudentError, match=r"arguments 'first' .*entries. and 'second' "):
        called(both, ones(), ones())
    with pytest.raises(StudentError, match="argument 'second' "):
        called(both, ones(), second=ones(), may_change=(0,))
    called(both, ones(), second=ones(), may_change=("second", 0))


def test_a_parameter_that_somebody_named_differently_may_change_by_name():
    """A student calls it ``w`` where the check says ``weight``: no accusation on a guess."""
    called(lambda w: w.zero_(), ones(), may_change=("weight",))


def test_arguments_without_names_are_numbered():
    with pytest.raises(StudentError, match="'number 2' "):
        called(lambda *all: all[1].zero_(), ones(), ones())


def test_comparing_costs_little_beside_the_copy():
    model = VGG([64, "M", 128, "M", 256, "M", 512])
    seconds = {}
    for may_change in ((), (0,)):
        times = []
        for _ in range(5):
            start = time.process_time()
            called(lambda model: None, model, may_change=may_change)
            times.append(time.process_time() - start)
        seconds[may_change] = min(times)
    assert seconds[()] < 2 * seconds[(0,)]
