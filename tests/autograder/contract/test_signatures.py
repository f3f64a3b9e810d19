"""What a signature promises, and what breaks the promise."""

import pytest
import torch

from autograder.contract.signatures import (
    FLAG,
    NONE,
    Either,
    Many,
    NotPromised,
    Number,
    Signature,
    Tensor,
    guarded,
)

PACK = Signature(
    {
        "weight": Tensor("... k", ("float",)),
        "mask": Tensor("... k", ("bool",)),
        "bits": Number(low=1, high=8),
    },
    returns=Many(Tensor("...", ("int8",))),
    sizes={"k": (8, 4)},
)


@pytest.mark.parametrize(
    "shape", [(8,), (2, 12), (3, 1, 16)], ids=lambda shape: "x".join(map(str, shape))
)
def test_what_is_promised_may_be_asked(shape):
    sizes = PACK.check_call("pack", torch.ones(shape), torch.ones(shape, dtype=torch.bool), 8)
    assert sizes == {"...": list(shape[:-1]), "k": shape[-1]}


X, M = torch.ones(2, 8), torch.ones(2, 8, dtype=torch.bool)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((X, M, 9), "pack(bits): got 9, allowed: int in 1..8"),
        ((X, M, True), "pack(bits): got True"),
        ((X, M, 2.0), "pack(bits): got 2.0"),
        ((X, X, 2), "pack(mask): got float32, allowed: bool"),
        ((X, M[0], 2), "pack(mask): got shape [8]"),
        ((X[:, :4], M[:, :4], 2), "pack: k is 4"),
        ((X[:, :6], M[:, :6], 2), "pack: k is 6"),
        ((X.int(), M, 2), "pack(weight): got int32"),
        ((X.numpy(), M, 2), "pack(weight): got a ndarray"),
        ((X[0, 0], M, 2), "pack(weight): got shape []"),
        ((X, M, 2, 3), "got 4 arguments"),
    ],
)
def test_what_is_not_promised_may_not(args, said):
    with pytest.raises(NotPromised) as told:
        PACK.check_call("pack", *args)
    assert str(told.value).startswith(said)


def test_ranges_of_values():
    unit = Tensor("n", low=0, high=1)
    assert str(unit) == "float32 [n] in 0..1"
    assert unit.fault(torch.tensor([0.0, 1.0]), {}) is None
    assert "got 1.5" in unit.fault(torch.tensor([0.0, 1.5]), {})
    assert "got -1.0" in unit.fault(torch.tensor([-1.0]), {})
    assert unit.fault(torch.zeros(0), {}) is None
    assert str(Number(whole=False, low=0)) == "float ≥ 0"


def test_an_answer_is_held_against_the_sizes_of_its_call():
    add = Signature({"x": Tensor("n c"), "axis": Either((NONE, Number()))}, returns=Tensor("c n"))
    fine = guarded("add", lambda x, axis=None: x.T, add)
    assert fine(torch.ones(2, 3), axis=1).shape == (3, 2)
    with pytest.raises(NotPromised, match="add returns: got shape"):
        guarded("add", lambda x, axis=None: x, add)(torch.ones(2, 3))
    with pytest.raises(NotPromised, match=r"add\(axis\): got a bool"):
        fine(torch.ones(2, 3), True)
    assert guarded("add", fine, add) is fine


def test_one_of_several_kinds_binds_nothing_when_it_does_not_fit():
    either = Either((Tensor("n n"), Tensor("n m")))
    assert either.fault(torch.ones(2, 3), {}) is None
    assert Many(FLAG, low=1).fault([], {}) == "got 0 entries, allowed: 1 to None"
    assert Many(FLAG).fault([True, 1], {}) == "[1]: got a int, allowed: bool"


def test_corners_are_all_ends_of_few_sizes_and_one_at_a_time_of_many():
    found = list(PACK.corners())
    assert found == [{"k": 8}, {"k": 12}]
    many = Signature({"x": Tensor("a b c d")}, returns=NONE)
    assert list(many.corners())[:2] == [
        {"a": 3, "b": 3, "c": 3, "d": 3},
        {"a": 1, "b": 3, "c": 3, "d": 3},
    ]
    assert len(list(many.corners())) == 5
