"""The static arena: legal, deterministic, and as small as it can be where that can be known."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.hardware.memory_planner import (
    ALIGN,
    MOST,
    Buffer,
    best_fit,
    first_fit,
    lower_bound,
    optimum,
    peak,
    plan,
)

# Every operator has 32 bytes alive, and no packing has fewer than 36: found by trying tight ones.
GAP = [
    Buffer(name, 4 * words, first, last)
    for name, words, first, last in (
        ("a", 4, 0, 0), ("b", 2, 1, 1), ("c", 3, 0, 1), ("d", 1, 0, 2), ("e", 1, 2, 2),
        ("f", 2, 1, 3), ("g", 2, 3, 3), ("h", 3, 2, 4), ("i", 1, 2, 4), ("j", 4, 4, 4),
    )
]  # fmt: skip


def instances(most):
    def buffers(rows):
        return [Buffer(f"b{i}", n, at, at + life) for i, (n, at, life) in enumerate(rows)]

    row = st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 4))
    return st.lists(row, max_size=most).map(buffers)


def fits_into(buffers, arena):
    """Oracle without an order: every aligned offset of every buffer is tried."""

    def place(rest, offsets):
        if not rest:
            return True
        first, *others = rest
        for offset in range(0, arena - first.nbytes + 1, ALIGN):
            met = [(o, b) for o, b in offsets if b.first <= first.last and first.first <= b.last]
            free = all(offset >= o + b.nbytes or o >= offset + first.nbytes for o, b in met)
            if free and place(others, [*offsets, (offset, first)]):
                return True
        return False

    return place(sorted(buffers, key=lambda b: b.first), [])


@given(instances(6))
@settings(max_examples=150, deadline=None)
def test_plan_and_optimum_are_those_of_all_orders(buffers):
    least = min(peak(list(order), first_fit(order)) for order in permutations(buffers))
    assert peak(buffers, optimum(buffers)) == least
    assert peak(buffers, plan(buffers)) == least
    assert least >= lower_bound(buffers)


@given(instances(30))
@settings(max_examples=100, deadline=None)
def test_every_packing_is_legal_and_above_the_bound(buffers):
    for planner in (first_fit, best_fit, plan):
        offsets = planner(buffers)
        assert peak(buffers, offsets) >= lower_bound(buffers)
        assert planner(buffers) == offsets
    assert peak(buffers, plan(buffers)) <= peak(buffers, first_fit(buffers))


@given(instances(12))
@settings(max_examples=50, deadline=None)
def test_the_bound_is_that_of_every_operator(buffers):
    def live(time):
        return sum(-(-b.nbytes // 4) * 4 for b in buffers if b.first <= time <= b.last)

    assert lower_bound(buffers) == max((live(time) for time in range(10)), default=0)


def test_where_no_packing_reaches_the_bound():
    assert lower_bound(GAP) == 32
    assert not fits_into(GAP, 32)
    assert fits_into(GAP, 36)
    assert peak(GAP, optimum(GAP)) == peak(GAP, plan(GAP)) == 36


def test_greedy_orders_are_not_enough():
    """Orders and repairs end at 48 bytes here; `plan` goes on to the search."""
    words = ((2, 3, 4), (1, 0, 4), (1, 0, 3), (3, 1, 4), (5, 1, 2), (5, 4, 4))
    buffers = [Buffer(f"b{i}", 4 * n, first, last) for i, (n, first, last) in enumerate(words)]
    assert peak(buffers, plan(buffers)) == lower_bound(buffers) == 44


def test_fits_by_hand():
    """A hole of 16 and one of 8: first fit takes the lower one, best fit the smaller one."""
    buffers = [
        Buffer("a", 16, 0, 0), Buffer("b", 4, 0, 2), Buffer("c", 8, 0, 0), Buffer("d", 4, 0, 2),
        Buffer("e", 7, 1, 2),
    ]  # fmt: skip
    low = {"a": 0, "b": 16, "c": 20, "d": 28}
    assert first_fit(buffers) == {**low, "e": 0}
    assert best_fit(buffers) == {**low, "e": 20}
    assert peak(buffers, low | {"e": 8}) == 32


# --- networks: operator t reads what lives until t and writes what is born at t ------------------


def chain(sizes):
    return [Buffer(f"x{t}", n, t, t + 1) for t, n in enumerate(sizes)]


def residual(stages):
    """ResNet blocks: x -> h -> y + x; the first of a stage projects x to a shortcut."""
    buffers, time, born, size = [], 0, 0, stages[0][0]
    for stage, (width, blocks) in enumerate(stages):
        for block in range(blocks):
            name = f"s{stage}b{block}"
            projects = size != width
            buffers.append(Buffer(f"{name}.x", size, born, time + (1 if projects else 2)))
            buffers.append(Buffer(f"{name}.h", width, time, time + 1))
            if projects:
                buffers.append(Buffer(f"{name}.shortcut", width, time + 1, time + 2))
            buffers.append(Buffer(f"{name}.y", width, time + 1, time + 2))
            born, size, time = time + 2, width, time + 3
    return [*buffers, Buffer("out", size, born, time)]


def inverted(blocks):
    """MobileNetV2 blocks: expand, depthwise with a scratch, project; a residual where it fits."""
    buffers, born, time, x = [], 0, 1, blocks[0][0]
    for i, (out, wide, narrow, scratch) in enumerate(blocks):
        buffers += [
            Buffer(f"{i}.x", x, born, time + 3 if out == x else time),
            Buffer(f"{i}.wide", wide, time, time + 1),
            Buffer(f"{i}.narrow", narrow, time + 1, time + 2),
            Buffer(f"{i}.scratch", scratch, time + 1, time + 1),
        ]
        if out == x:
            buffers.append(Buffer(f"{i}.projected", out, time + 2, time + 3))
        born, time, x = time + (3 if out == x else 2), time + 4, out
    return [*buffers, Buffer("out", x, born, time)]


NETWORKS = {
    "chain": chain([3072, 16384, 16384, 8192, 8192, 4096, 4096, 2048, 64, 10]),
    "long chain": chain([(7919 * t) % 20_000 + 1 for t in range(60)]),
    "resnet8": residual([(16384, 1), (8192, 1), (4096, 1)]),
    "resnet20": residual([(16384, 3), (8192, 3), (4096, 3)]),
    "mobilenet": inverted(
        [
            (8192, 49152, 12288, 1000),
            (3072, 18432, 18432, 700),
            (3072, 18432, 18432, 700),
            (3072, 18432, 4608, 700),
            (1536, 9216, 9216, 500),
            (1536, 9216, 9216, 500),
        ]
    ),
    "uneven": inverted([(300 + 997 * (i % 5), 7001 + 31 * i, 5003, 77 * i) for i in range(16)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_planned_within_five_percent(name):
    buffers = NETWORKS[name]
    assert peak(buffers, plan(buffers)) <= 1.05 * lower_bound(buffers)


def test_a_chain_needs_its_largest_pair():
    sizes = [3072, 16384, 8192, 10]
    buffers = chain(sizes)
    assert lower_bound(buffers) == peak(buffers, plan(buffers)) == 16384 + 8192


# --- what is refused -----------------------------------------------------------------------------


def test_an_overlap_of_one_byte_is_found():
    """Offsets are multiples of 4, so one shared byte is the fifth of five."""
    buffers = [Buffer("a", 5, 0, 2), Buffer("b", 4, 2, 3), Buffer("c", 4, 3, 3)]
    assert peak(buffers, {"a": 0, "b": 8, "c": 0}) == 12
    with pytest.raises(ValueError, match="a and b overlap: both are alive at operator 2"):
        peak(buffers, {"a": 0, "b": 4, "c": 0})
    with pytest.raises(ValueError, match="b and c overlap: both are alive at operator 3"):
        peak(buffers, {"a": 0, "b": 8, "c": 8})
    with pytest.raises(ValueError, match="a and b overlap"):
        peak([Buffer("a", 100, 0, 0), Buffer("b", 4, 0, 0)], {"a": 0, "b": 96})


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ({"a": 0}, r"differ in \['b'\]"),
        ({"a": 0, "b": 8, "c": 0}, r"differ in \['c'\]"),
        ({"a": -4, "b": 8}, "a: got offset -4"),
        ({"a": 0, "b": 6}, "b: got offset 6; allowed: 0 or more, by 4"),
        ({"a": 0, "b": 8.0}, r"b: got offset 8\.0"),
    ],
)
def test_offsets_that_are_none(offsets, said):
    with pytest.raises(ValueError, match=said):
        peak([Buffer("a", 8, 0, 1), Buffer("b", 8, 1, 2)], offsets)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("x", -1, 0, 0), "x: got -1 bytes"),
        (("x", 4, 2, 1), "got first 2, last 1; allowed"),
        (("x", 4.0, 0, 1), r"got nbytes 4\.0; allowed: integers"),
        (("x", 4, 0, None), "got last None"),
        (("", 4, 0, 1), "got name ''"),
    ],
)
def test_buffers_that_are_none(row, said):
    with pytest.raises(ValueError, match=said):
        Buffer(*row)


@pytest.mark.parametrize("use", [lower_bound, first_fit, best_fit, plan, optimum])
def test_a_name_given_twice(use):
    with pytest.raises(ValueError, match=r"got the names \['x'\] twice"):
        use([Buffer("x", 4, 0, 1), Buffer("x", 8, 2, 3)])


def test_too_many_for_the_exact_search():
    with pytest.raises(ValueError, match=f"got {MOST + 1} buffers; allowed: at most {MOST}"):
        optimum(chain([4] * (MOST + 1)))


def test_nothing_takes_nothing():
    for use in (first_fit, best_fit, plan, optimum):
        assert use([]) == {}
    assert lower_bound([]) == peak([], {}) == 0
