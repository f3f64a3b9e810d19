"""Static memory planning: offsets of all tensors in one SRAM arena, fixed before the network runs.

A buffer is bytes alive from one operator to another; two buffers may share addresses when they are
never alive together. The smallest arena is NP-hard to find (dynamic storage allocation, Garey and
Johnson, *Computers and Intractability*, SR2): greedy orders find it for most networks, an exact
search for few buffers. Left out: operators that write in place of their input (give both as one
buffer), several memories, sizes not known beforehand. Taught in Lectures 10 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

ALIGN = 4  # bytes: offsets are multiples of it, sizes are rounded up to it
MOST = 20  # buffers of the exact search: a second where no packing reaches the lower bound
REPAIRS = 100


@dataclass(frozen=True)
class Buffer:
    """``nbytes`` bytes, alive from operator ``first`` to operator ``last``, both included.

    Raises:
        ValueError: an empty name, no integer, a negative size, or ``last < first``.
    """

    name: str
    nbytes: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"got name {self.name!r}; allowed: a text that is not empty")
        for what in ("nbytes", "first", "last"):
            if not isinstance(got := getattr(self, what), Integral):
                raise ValueError(f"{self.name}: got {what} {got!r}; allowed: integers")
        if self.nbytes < 0:
            raise ValueError(f"{self.name}: got {self.nbytes} bytes; allowed: 0 or more")
        if self.last < self.first:
            got = f"first {self.first}, last {self.last}"
            raise ValueError(f"{self.name}: got {got}; allowed: last at first or later")

    @property
    def size(self) -> int:
        """Bytes that it takes in the arena."""
        return -(-int(self.nbytes) // ALIGN) * ALIGN

    def meets(self, other: Buffer) -> bool:
        """Whether some operator needs both."""
        return self.first <= other.last and other.first <= self.last


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at one operator, which no arena can be smaller than."""
    starts = {buffer.first for buffer in _named(buffers)}
    live = (sum(b.size for b in buffers if b.first <= t <= b.last) for t in starts)
    return max(live, default=0)


def peak(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    """Bytes of the arena in which each buffer lies at its offset.

    Raises:
        ValueError: an offset is missing, of no buffer, negative or misaligned, or two buffers that
            are alive together share a byte.
    """
    _named(buffers)
    if wrong := {buffer.name for buffer in buffers} ^ set(offsets):
        raise ValueError(f"got offsets that differ in {sorted(wrong)}; allowed: one per buffer")
    for name, offset in offsets.items():
        if not isinstance(offset, Integral) or offset < 0 or offset % ALIGN:
            raise ValueError(f"{name}: got offset {offset}; allowed: 0 or more, by {ALIGN}")
    placed = sorted((b for b in buffers if b.size), key=lambda b: offsets[b.name])
    for i, low in enumerate(placed):
        for high in placed[i + 1 :]:
            if offsets[high.name] < offsets[low.name] + low.size and low.meets(high):
                when = f"alive at operator {max(low.first, high.first)}"
                what = f"both are {when} and hold byte {offsets[high.name]}"
                raise ValueError(f"{low.name} and {high.name} overlap: {what}")
    return max((int(offsets[b.name]) + b.size for b in buffers), default=0)


def first_fit(buffers: Sequence[Buffer]) -> dict[str, int]:
    """In the given order, each at the lowest offset that is free during its whole life."""
    return _greedy(buffers, lambda gap: gap[0])


def best_fit(buffers: Sequence[Buffer]) -> dict[str, int]:
    """In the given order, each at the start of the smallest gap that holds it."""
    return _greedy(buffers, lambda gap: gap[1] - gap[0])


def _greedy(buffers: Sequence[Buffer], key: Callable[[tuple[int, float]], float]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for i, buffer in enumerate(_named(buffers)):
        taken = [(offsets[b.name], b.size) for b in buffers[:i] if b.meets(buffer)]
        gaps = [gap for gap in _gaps(taken) if gap[1] - gap[0] >= buffer.size]
        offsets[buffer.name] = min(gaps, key=key)[0]
    return offsets


def _gaps(taken: list[tuple[int, int]]) -> Iterator[tuple[int, float]]:
    """Start and end of what is free, from below; the last one has no end."""
    free = 0
    for start, size in sorted(taken):
        if start >= free:
            yield free, start
        free = max(free, start + size)
    yield free, float("inf")


def plan(buffers: Sequence[Buffer]) -> dict[str, int]:
    """A small arena: the best of greedy orders, then of repairs, and of all orders if few.

    Greedy by size is Pisarchyk and Lee's "Efficient memory management for deep neural net
    inference", 2020, section 5. A repair moves what lies above the lower bound to the front of the
    order and tries again (Joslin and Clements, "Squeaky wheel optimization", 1999). Up to ``MOST``
    buffers the exact search follows. It stops as soon as the lower bound is reached.
    """
    bound, best = lower_bound(buffers), first_fit(buffers)
    for order in _orders(buffers, bound):
        if peak(buffers, best) == bound:
            return best
        tried = (best, first_fit(order), best_fit(order))
        best = min(tried, key=lambda offsets: peak(buffers, offsets))
    return _search(buffers, best) if len(buffers) <= MOST else best


def _orders(buffers: Sequence[Buffer], bound: int) -> Iterator[Sequence[Buffer]]:
    keys: tuple[Callable[[Buffer], tuple[int, int]], ...] = (
        lambda b: (b.first, -b.size),
        lambda b: (b.first - b.last, -b.size),
        lambda b: ((b.first - b.last - 1) * b.size, -b.size),  # by bytes x life
        lambda b: (-b.size, b.first - b.last),
    )
    for key in keys:
        order = sorted(buffers, key=key)
        yield order
    for _ in range(REPAIRS):
        offsets = first_fit(order)
        order = sorted(order, key=lambda b: offsets[b.name] + b.size <= bound)
        yield order


def optimum(buffers: Sequence[Buffer]) -> dict[str, int]:
    """The smallest arena, by branch and bound over all orders.

    First fit in some order is optimal: take any packing and place its buffers by first fit in the
    order of their offsets. By induction none ends up higher than it was, since all below it are
    where they were or lower. Repeated until nothing moves, this gives an optimal packing in which
    every buffer, in order of offset, lies on the highest of those below it that it meets. So it is
    enough to search the orders in which offsets never fall.

    Raises:
        ValueError: more than ``MOST`` buffers.
    """
    if len(buffers) > MOST:
        raise ValueError(f"got {len(buffers)} buffers; allowed: at most {MOST}, or use plan")
    return _search(buffers, first_fit(buffers))


def _search(buffers: Sequence[Buffer], best: dict[str, int]) -> dict[str, int]:
    """The smallest arena: ``best``, unless a smaller one is found."""
    bound, least = lower_bound(buffers), peak(buffers, best)
    if least == bound:
        return best
    times = sorted({buffer.first for buffer in buffers})
    lives = [[t for t, time in enumerate(times) if b.first <= time <= b.last] for b in buffers]

    def place(rest: list[int], heights: list[int], above: tuple[int, int], chosen: list) -> None:
        """Put one of ``rest`` on what lies below it, at or above the last one; then the others."""
        nonlocal best, least
        if not rest:
            best, least = dict(chosen), max(heights)
        level = [max(height, above[0]) for height in heights]
        for i in rest:
            for t in lives[i]:
                level[t] += buffers[i].size
        if rest and max(level) >= least:
            return
        for offset, i in sorted((max(heights[t] for t in lives[i]), i) for i in rest):
            if (offset, i) > above and least > bound:
                left, raised = [j for j in rest if j != i], list(heights)
                for t in lives[i]:
                    raised[t] = offset + buffers[i].size
                place(left, raised, (offset, i), [*chosen, (buffers[i].name, offset)])

    place(list(range(len(buffers))), [0] * len(times), (-1, -1), [])
    return best


def _named(buffers: Sequence[Buffer]) -> Sequence[Buffer]:
    names = [buffer.name for buffer in buffers]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"got the names {sorted(twice)} twice; allowed: a name per buffer")
    return buffers
