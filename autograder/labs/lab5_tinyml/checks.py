"""Checks of Lab 5, TinyML.

C that was handed in is compiled and emulated (:mod:`autograder.sandbox.run_firmware`) on shapes and
numbers that the text has never seen, with guards around every array; its cycles are compared
with those of the loops that the lab hands out. Expected numbers come from exact integers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from autograder.contract.checking import Cases, Student
from autograder.contract.definition import check, collected
from autograder.contract.rows import (
    Row,
    earned,
    failed,
    joint_use,
    measured,
    no_fault,
    passed,
    type_fault,
)
from autograder.contract.targets import Figure
from autograder.contract.verdict import StudentError
from autograder.sandbox import run_firmware
from codesign import checkpoints, datasets, models, native
from codesign.datasets import ImageSet, normalize
from codesign.hardware.memory_planner import ALIGN, Buffer, peak, plan
from codesign.hardware.operator_tables import constants, describe
from codesign.int8 import Network
from codesign.post_training import quantize

LAB = "lab5_tinyml"
Targets = Mapping[str, Figure]
Fault = str | None
Graph = tuple[list[dict[str, Any]], dict[str, int], list[int]]  # operators, sizes, in place
CALIBRATION_IMAGES = 256  # the first of the training split, as in the lab
FIRMWARE_IMAGES = 100
COUNTED_IMAGES = 2
GIVEN = native.shipped("int8_loops")
KERNELS = ("conv1x1", "depthwise", "conv3x3")
MAX_SOURCE = 100_000  # of a kernel


def _caught(judge: Callable[..., Fault], *args: Any) -> Fault:
    """The fault that ``judge`` finds; one case that fails leaves the others their points."""
    try:
        return judge(*args)
    except (StudentError, ValueError) as error:
        return str(error)


# --- 1: peak_memory ------------------------------------------------------------------------------


@check("peak_memory")
def _peak_memory(student: Student, cases: Cases, target: Targets) -> list[Row]:
    kinds = {
        "a chain": (0.0, False),
        "with additions": (0.5, False),
        "with tensors outside of the arena": (0.4, True),
    }
    found = {
        name: [_caught(_peak_fault, student, _graph(cases, *kind)) for _ in range(2)]
        for name, kind in kinds.items()
    }
    points = dict(zip(kinds, (2, 3, 3), strict=True))
    return [no_fault(f"bytes alive, {name}", found[name], points[name]) for name in kinds]


def _peak_fault(student: Student, graph: Graph) -> Fault:
    operators, sizes, _ = graph
    got = student.call("peak_memory", operators, sizes)
    expected = [sum(sizes[name] for name in alive) for alive in _alive(operators, sizes)]
    if not isinstance(got, list) or len(got) != len(expected):
        return f"got {str(got)[:80]}, expected one number for each of {len(expected)} operators"
    for i, (found, wanted) in enumerate(zip(got, expected, strict=True)):
        if type(found) is not int or found != wanted:
            row = operators[i]
            return f"operator {i}, {row['inputs']} to {row['output']}: got {found}, not {wanted}"
    return None


def _alive(operators: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> list[set[str]]:
    """Of each operator the tensors in ``sizes`` that have to exist while it runs."""
    found = []
    for i, row in enumerate(operators):
        written = {earlier["output"] for earlier in operators[:i]}
        read = {name for later in operators[i:] for name in later["inputs"]}
        found.append(((written & read) | {row["output"], *row["inputs"]}) & sizes.keys())
    return found


def _graph(cases: Cases, additions: float, outside: bool) -> Graph:
    """A random chain of operators, some of which add an earlier tensor, and some in place."""
    operators: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    tensors, size = ["image"], 0
    for i in range(int(cases.randint(9, 14))):
        inputs, name = [tensors[-1]], f"t{i}"
        kind = "conv1x1"
        size = int(cases.randint(1, 40)) * int(cases.choice([16, 64, 100, 250]))
        if i > 2 and float(torch.rand(1, generator=cases.generator)) < additions:
            kind, size = "add", sizes.get(tensors[-1], size)
            inputs.append(str(cases.choice(tensors[1:-1])))
        elif i % 3 == 1 and tensors[-1] in sizes:
            kind, size = "depthwise", sizes[tensors[-1]] // int(cases.choice([1, 4]))
        operators.append({"kind": kind, "inputs": inputs, "output": name})
        sizes[name] = max(size, 1)
        tensors.append(name)
    in_place = [i for i in range(1, len(operators)) if _may_overwrite(operators, i)]
    if outside:  # as the logits, and one more that nobody plans
        for name in (tensors[-1], tensors[3]):
            del sizes[name]
    keep = [
        i
        for i in in_place
        if operators[i]["inputs"][0] in sizes and operators[i]["output"] in sizes
    ]
    return operators, sizes, keep


def _may_overwrite(operators: Sequence[Mapping[str, Any]], index: int) -> bool:
    row = operators[index]
    readers = [i for i, other in enumerate(operators) if row["inputs"][0] in other["inputs"]]
    once = row["inputs"].count(row["inputs"][0]) == 1
    return row["kind"] in ("depthwise", "add") and readers == [index] and once


# --- 2: plan_memory ------------------------------------------------------------------------------


@check("plan_memory")
def _plan_memory(student: Student, cases: Cases, target: Targets) -> list[Row]:
    graphs = _graphs(cases)
    plans = [_planned(student, graph) for graph in graphs]
    pairs = list(zip(graphs, plans, strict=True))
    overlaps = [_overlap_fault(*pair) for pair in pairs]
    shared = [_in_place_fault(*pair) for pair in pairs]
    # Everything beside everything does not overlap either, and is not worth points.
    ratio = sum(_width(*pair) for pair in pairs) / len(pairs)
    wide = None if ratio <= MOST_WIDTH else f"arenas are {ratio:.2f} times as large as needed"
    if ratio > 2 * MOST_WIDTH - 1:
        overlaps = shared = [f"counts only with a plan that reuses memory: {wide}"]
    elif any(overlaps):
        wide = "counts only where nothing overlaps"
    return [
        no_fault("what is alive at once does not overlap", overlaps, 4),
        no_fault("in place where it may be, offsets in words", shared, 3),
        no_fault("arenas within 10 % of the best, on average", [wide], 5),
    ]


MOST_WIDTH = 1.1


def _graphs(cases: Cases) -> list[Graph]:
    """Enough of them that no plan is good or bad on average by luck."""
    chains = [_graph(cases, 0.45, bool(i % 2)) for i in range(8)]
    return chains + [_branches(cases) for _ in range(16)]


def _branches(cases: Cases) -> Graph:
    """Long-lived tensors between short-lived ones of other sizes: where order matters."""
    operators: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    kept: list[str] = []
    last = "image"
    for i in range(12):
        name = f"t{i}"
        inputs = [last]
        if i % 3 == 2 and kept:
            inputs.append(kept.pop(int(cases.randint(0, len(kept)))))
        operators.append(
            {"kind": "add" if len(inputs) > 1 else "conv1x1", "inputs": inputs, "output": name}
        )
        sizes[name] = 4 * int(cases.randint(5, 1_000))
        if i % 2 == 0:
            kept.append(name)
        last = name
    return operators, sizes, []


def _planned(student: Student, graph: Graph) -> dict[str, int]:
    operators, sizes, in_place = graph
    got = student.call("plan_memory", operators, sizes, in_place)
    if not isinstance(got, dict) or got.keys() != sizes.keys():
        names = sorted(got)[:20] if isinstance(got, dict) else type(got).__name__
        raise StudentError(f"got {names}, expected offsets of {sorted(sizes)}")
    for name, offset in got.items():
        if type(offset) is not int or not 0 <= offset < 2**31:
            raise StudentError(f"{name}: got {offset!r}, expected an offset in bytes")
    return got


def _overlap_fault(graph: Graph, offsets: Mapping[str, int]) -> Fault:
    operators, sizes, in_place = graph
    for i, alive in enumerate(_alive(operators, sizes)):
        allowed = {operators[i]["inputs"][0], operators[i]["output"]} if i in in_place else set()
        for a in alive:
            for b in alive - {a}:
                apart = offsets[a] + sizes[a] <= offsets[b] or offsets[b] + sizes[b] <= offsets[a]
                if not apart and {a, b} != allowed:
                    return (
                        f"operator {i} needs {a} at {offsets[a]} ({sizes[a]} bytes) and {b} at "
                        f"{offsets[b]} ({sizes[b]} bytes): they overlap"
                    )
    return None


def _in_place_fault(graph: Graph, offsets: Mapping[str, int]) -> Fault:
    operators, sizes, in_place = graph
    if off := next((name for name in sizes if offsets[name] % ALIGN), None):
        return f"{off} lies at {offsets[off]}, no multiple of {ALIGN}"
    for i in in_place:
        source, output = operators[i]["inputs"][0], operators[i]["output"]
        if offsets[source] != offsets[output]:
            return f"operator {i} is in place: {source} at {offsets[source]}, {output} elsewhere"
    return None


def _width(graph: Graph, offsets: Mapping[str, int]) -> float:
    """Bytes of the arena relative to the best plan that the course's planner finds."""
    buffers = _buffers(*graph)[0]
    used = max(offsets[name] + size for name, size in graph[1].items())
    return used / peak(buffers, plan(buffers))


def _buffers(
    operators: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], in_place: Sequence[int]
) -> tuple[list[Buffer], dict[str, str]]:
    """Buffers of what lies together, and for every tensor the buffer that it lies in."""
    homes: dict[str, str] = {}
    spans: dict[str, list[int]] = {}
    for i, alive in enumerate(_alive(operators, sizes)):
        row = operators[i]
        if row["output"] in sizes:
            homes[row["output"]] = homes[row["inputs"][0]] if i in in_place else row["output"]
        for name in alive:
            spans.setdefault(homes[name], []).append(i)
    widths = {home: max(sizes[n] for n, other in homes.items() if other == home) for home in spans}
    return [Buffer(home, widths[home], min(t), max(t)) for home, t in spans.items()], homes


# --- 3: patch_schedule ---------------------------------------------------------------------------


@check("patch_schedule")
def _patch_schedule(student: Student, cases: Cases, target: Targets) -> list[Row]:
    drawn = [_stage(cases, depth) for depth in (1, 3, 4, 5)]
    ranges = [_caught(_range_fault, student, *stage, False) for stage in drawn]
    padding = [_caught(_range_fault, student, *stage, True) for stage in drawn]
    equal = [_caught(_patch_fault, student, cases, *stage) for stage in drawn]
    return [
        no_fault("rows that every layer reads", ranges, 5),
        no_fault("padding at the borders of the image alone", padding, 3),
        no_fault("patches together are the whole image", equal, 4),
    ]


Layers = list[list[int]]


def _stage(cases: Cases, depth: int) -> tuple[Layers, int, int]:
    """Layers (kernel, stride, padding), rows of the image, patches a side."""
    layers = [
        list(cases.choice([[3, 1, 1], [1, 1, 0], [3, 2, 1], [5, 1, 2], [3, 1, 1]]))
        for _ in range(depth)
    ]
    size = int(cases.randint(20, 33))
    rows = _sizes(layers, size)[-1]
    return layers, size, int(cases.randint(2, min(5, rows + 1)))


def _sizes(layers: Layers, size: int) -> list[int]:
    found = [size]
    for kernel, stride, padding in layers:
        found.append((found[-1] + 2 * padding - kernel) // stride + 1)
    return found


def _expected_schedule(layers: Layers, size: int, patches: int) -> list[list[list[int]]]:
    """By walking over the rows that each output row reads, instead of by their ends."""
    sizes = _sizes(layers, size)
    schedule = []
    for patch in range(patches):
        wanted = set(range(patch * sizes[-1] // patches, (patch + 1) * sizes[-1] // patches))
        rows = []
        for (kernel, stride, padding), rows_in in zip(layers[::-1], sizes[-2::-1], strict=True):
            touched = {o * stride - padding + k for o in wanted for k in range(kernel)}
            inside = {row for row in touched if 0 <= row < rows_in}
            before, after = (sum(r < 0 for r in touched), sum(r >= rows_in for r in touched))
            wanted = set(range(min(inside), max(inside) + 1))
            rows.append([min(inside), max(inside) + 1, before, after])
        schedule.append(rows[::-1])
    return schedule


def _scheduled(student: Student, layers: Layers, size: int, patches: int) -> list[list[list[int]]]:
    got = student.call("patch_schedule", layers, size, patches)
    right = isinstance(got, list) and len(got) == patches
    for patch in got if right else []:
        right = right and isinstance(patch, (list, tuple)) and len(patch) == len(layers)
        for row in patch if right else []:
            right = right and isinstance(row, (list, tuple)) and len(row) == 4
            right = right and all(type(n) is int and 0 <= n <= 10_000 for n in row)
    if not right:
        raise StudentError(
            f"got {str(got)[:120]}, expected {patches} lists with (start, stop, before, after) "
            f"of each of {len(layers)} layers"
        )
    return [[list(row) for row in patch] for patch in got]


def _range_fault(
    student: Student, layers: Layers, size: int, patches: int, is_padding: bool
) -> Fault:
    got = _scheduled(student, layers, size, patches)
    part = slice(2, 4) if is_padding else slice(0, 2)
    for p, (found, wanted) in enumerate(
        zip(got, _expected_schedule(layers, size, patches), strict=True)
    ):
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            if a[part] != b[part]:
                what = "padding" if is_padding else "rows"
                return (
                    f"{layers}, {size} rows, patch {p}, layer {i}: {what} {a[part]}, not {b[part]}"
                )
    return None


def _patch_fault(student: Student, cases: Cases, layers: Layers, size: int, patches: int) -> Fault:
    """Run the layers on integers: whole, and patch by patch as scheduled; both axes alike."""
    schedule = _scheduled(student, layers, size, patches)
    zero = int(cases.randint(-20, 20))
    weights = [cases.randint(-3, 4, (2, 2, k, k)).double() for k, _, _ in layers]
    image = cases.randint(-9, 10, (1, 2, size, size)).double()
    whole, sizes = image, _sizes(layers, size)
    for weight, (_, stride, padding) in zip(weights, layers, strict=True):
        whole = _convolved(whole, weight, stride, zero, (padding,) * 4)
    joined = torch.full_like(whole, torch.nan)
    bounds = [p * sizes[-1] // patches for p in range(patches + 1)]
    for y, down in enumerate(schedule):
        for x, right in enumerate(schedule):
            part = _patched(image, weights, layers, zero, down, right)
            to = joined[:, :, bounds[y] : bounds[y + 1], bounds[x] : bounds[x + 1]]
            if part.shape != to.shape:
                return f"patch {y}, {x} has the shape {tuple(part.shape)}, not {tuple(to.shape)}"
            to.copy_(part)
    wrong = int((joined != whole).sum())
    return f"{wrong} of {whole.numel()} outputs differ from the whole image" if wrong else None


def _convolved(
    x: torch.Tensor, weight: torch.Tensor, stride: int, zero: int, pad: Sequence[int]
) -> torch.Tensor:
    """Sums of products, wrapped to small numbers so that everything stays exact."""
    padded = functional.pad(x, list(pad), value=zero)
    return functional.conv2d(padded, weight, stride=stride).remainder(61) - 30


def _patched(
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    layers: Layers,
    zero: int,
    down: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
) -> torch.Tensor:
    x = image
    top = left = 0  # where x begins in its tensor
    for i, (weight, (_, stride, padding)) in enumerate(zip(weights, layers, strict=True)):
        (y0, y1, above, below), (x0, x1, before, after) = down[i], right[i]
        inside = top <= y0 < y1 <= top + x.shape[2] and left <= x0 < x1 <= left + x.shape[3]
        if not inside:
            raise ValueError(
                f"layer {i} reads rows {y0} to {y1} that the layer before did not make"
            )
        x = x[:, :, y0 - top : y1 - top, x0 - left : x1 - left]
        if min(x.shape[2] + above + below, x.shape[3] + before + after) < weight.shape[2]:
            raise ValueError(f"layer {i}: fewer rows than its kernel has")
        x = _convolved(x, weight, stride, zero, (before, after, above, below))
        top, left = ((y0 - above + padding) // stride, (x0 - before + padding) // stride)
    return x


# --- 4 to 6: the kernels -------------------------------------------------------------------------

# Shapes: (pixels, channels, outputs), (height, width, channels, stride), (height, width, channels,
# outputs). Small ones for borders, usual ones for cycles.
SMALL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [(1, 4, 2), (5, 12, 6), (2, 8, 10)],
    "depthwise": [(1, 1, 1, 1), (3, 2, 5, 1), (5, 7, 3, 2), (6, 4, 2, 2), (4, 5, 2, 1)],
    "conv3x3": [(1, 2, 4, 2), (4, 3, 8, 2), (2, 6, 4, 4), (5, 5, 4, 2)],
}
USUAL: dict[str, list[tuple[int, ...]]] = {
    "conv1x1": [(64, 24, 96), (64, 96, 24), (33, 160, 40)],
    "depthwise": [(16, 16, 16, 1), (16, 16, 16, 2), (8, 8, 40, 1)],
    "conv3x3": [(16, 16, 4, 16), (8, 8, 16, 16), (7, 7, 32, 16)],
}
CONST = {"conv1x1": (3, 4), "depthwise": (5, 6), "conv3x3": (4, 5)}  # arguments in flash
OUTPUT = {"conv1x1": 1, "depthwise": 0, "conv3x3": 1}  # among the arrays in SRAM


@check("conv1x1")
def _conv1x1(student: Student, cases: Cases, target: Targets) -> list[Row]:
    return _kernel_rows(student, cases, target, "conv1x1", 4)


@check("depthwise")
def _depthwise(student: Student, cases: Cases, target: Targets) -> list[Row]:
    return _kernel_rows(student, cases, target, "depthwise", 5)


@check("conv3x3")
def _conv3x3(student: Student, cases: Cases, target: Targets) -> list[Row]:
    return _kernel_rows(student, cases, target, "conv3x3", 5)


def _kernel_rows(
    student: Student, cases: Cases, target: Targets, name: str, exact_points: float
) -> list[Row]:
    """Exactness earns its points in proportion to the gain: the loops are exact, too."""
    source = student.artifact(name)
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        raise StudentError(f"got a {type(source).__name__}, expected a C source text")
    drawn = [_arguments(cases, name, shape, extreme) for shape in SMALL[name] for extreme in (0, 1)]
    drawn += [_arguments(cases, name, shape, 0) for shape in USUAL[name]]
    seeds = cases.randint(0, 2**31, (len(drawn),)).tolist()
    calls = [
        {"arguments": _in_memory(name, args), "guarded": i < 2 * len(SMALL[name]), "seed": seed}
        for i, (args, seed) in enumerate(zip(drawn, seeds, strict=True))
    ]
    text = with_kernels({name: source})
    try:
        found = student.measure(
            "autograder.sandbox.run_firmware:calls", text, name, calls, deadline_s=120.0
        )
    except StudentError as error:
        return _no_cycles(str(error), exact_points, target["cycles_share"])
    for args, result in zip(drawn, found, strict=True):
        if fault := _kernel_fault(name, args, result["outputs"]):
            return _no_cycles(fault, exact_points, target["cycles_share"])
    cycles = [int(result["cycles"]) for result in found[-len(USUAL[name]) :]]
    ratios = [c / _loop_cycles(name, s) for c, s in zip(cycles, USUAL[name], strict=True)]
    ratio = math.exp(sum(map(math.log, ratios)) / len(ratios))
    each = ", ".join(f"{s}: {r:.2f}" for s, r in zip(USUAL[name], ratios, strict=True))
    row = measured("cycles_share", ratio, target["cycles_share"], message=f"of the loops' {each}")
    exact = passed("every output exact, nothing touched beyond", True, exact_points)
    gained = earned(ratio, target["cycles_share"])
    if gained < 1:
        note = f"counts {gained:.0%}: the loops that were handed out are exact, too"
        exact = replace(exact, points=exact_points * gained, message=note, status="failed")
    return [exact, row]


def _no_cycles(fault: str, exact_points: float, figure: Figure) -> list[Row]:
    return [
        passed("every output exact, nothing touched beyond", False, exact_points, fault),
        replace(measured("cycles_share", math.inf, figure, message=fault), measured=None),
    ]


def with_kernels(sources: Mapping[str, str]) -> str:
    """What the lab hands out, with these functions instead of its loops."""
    left_out = "".join(f"#define OWN_{name.upper()}\n" for name in sources)
    return left_out + "\n".join([GIVEN, *sources.values()])


@lru_cache(maxsize=32)
def _loop_cycles(name: str, shape: tuple[int, ...]) -> int:
    args = _in_memory(name, _arguments(Cases(name, ""), name, shape, 0))
    run = run_firmware.calls(GIVEN, name, [{"arguments": args, "guarded": False, "seed": 0}])
    return int(run[0]["cycles"])


def _arguments(cases: Cases, name: str, shape: tuple[int, ...], extreme: int) -> list[Any]:
    """Arguments of one call: tensors and integers, in the order of the C function."""
    height, width, channels = _input_shape(name, shape)
    outputs = channels if name == "depthwise" else shape[-1]
    kernel = () if name == "conv1x1" else (3, 3)
    if name == "depthwise":
        weight = cases.randint(-127, 128, (*kernel, channels))
    else:
        weight = cases.randint(-127, 128, (outputs, *kernel, channels))
    x = cases.randint(-128, 128, (height, width, channels))
    zero_in, zero_out = (int(z) for z in cases.randint(-128, 128, (2,)))
    if extreme:  # the largest sums, and products that no 16-bit accumulator holds
        sign = 2 * int(cases.randint(0, 2)) - 1
        x, zero_in = torch.full_like(x, 127 if sign > 0 else -128), -128 if sign > 0 else 127
        weight = weight.abs().clamp(min=100)
    channel = _channels(cases, x, weight, outputs, zero_in)
    data, zeros = x.to(torch.int8), (zero_in, zero_out)
    weight = weight.to(torch.int8)
    if name == "conv1x1":
        scratch = torch.zeros(2 * channels, dtype=torch.int16)
        out = torch.zeros(width, outputs, dtype=torch.int8)
        data = data.reshape(width, channels)
        return [data, width, channels, weight, channel, *zeros, out, outputs, scratch]
    if name == "depthwise":
        scratch = torch.zeros((height + 2) * (width + 4), dtype=torch.int16)
        return [data, height, width, channels, shape[3], weight, channel, *zeros, scratch]
    scratch = torch.zeros(3 * (width + 2) * channels, dtype=torch.int16)
    out = torch.zeros(height, width, outputs, dtype=torch.int8)
    return [data, height, width, channels, weight, channel, *zeros, out, outputs, scratch]


def _input_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if name == "conv1x1":
        return 1, shape[0], shape[1]
    return shape[0], shape[1], shape[2]


def _channels(
    cases: Cases, x: torch.Tensor, weight: torch.Tensor, outputs: int, zero: int
) -> torch.Tensor:
    """bias, mantissa, shift of each output, so that most outputs are inside of int8."""
    taps = weight.numel() // outputs
    spread = 5_500 * math.sqrt(taps) if zero not in (-128, 127) else 20_000 * taps
    bias = cases.randint(-4_000, 4_000, (outputs,))
    mantissa = cases.randint(2**30, 2**31 - 1, (outputs,))
    middle = round(math.log2(spread * 2**31 * 0.75 / 60))
    shift = middle + cases.randint(-1, 2, (outputs,))
    return torch.stack([bias, mantissa, shift.clamp(33, 55)], 1).int()


def _in_memory(name: str, arguments: Sequence[Any]) -> list[Any]:
    return [{"flash": a} if i in CONST[name] else a for i, a in enumerate(arguments)]


def _kernel_fault(name: str, arguments: Sequence[Any], outputs: Sequence[Any]) -> Fault:
    arrays = [a for i, a in enumerate(arguments) if torch.is_tensor(a) and i not in CONST[name]]
    expected = _expected(name, arguments)
    got = outputs[OUTPUT[name]]
    if fault := type_fault(got, torch.int8, tuple(arrays[OUTPUT[name]].shape)):
        return fault
    got = got.flatten()[: expected.numel()].reshape(expected.shape)  # in place: it may be shorter
    shapes = [a for a in arguments[1:5] if isinstance(a, int)]
    if not torch.equal(got, expected):
        place = tuple((got != expected).nonzero()[0].tolist())
        wrong = int((got != expected).sum())
        return (
            f"{name}{tuple(shapes)}: {wrong} of {expected.numel()} outputs differ, first at "
            f"{place}: got {int(got[place])}, expected {int(expected[place])}"
        )
    if name != "depthwise" and not torch.equal(outputs[0], arrays[0]):
        return f"{name}{tuple(shapes)}: it changed its input, which others may still read"
    return None


def _expected(name: str, arguments: Sequence[Any]) -> torch.Tensor:
    """Exact integers, as loops over the taps of the kernel."""
    tensors = [a for a in arguments if torch.is_tensor(a)]
    x, weight, channel = tensors[0].long(), tensors[1].long(), tensors[2].long()
    first = CONST[name][1] + 1
    zero_in, zero_out = arguments[first], arguments[first + 1]
    bias, mantissa, shift = channel.unbind(1)
    if name == "conv1x1":
        sums = (x - zero_in) @ weight.T
    else:
        stride = arguments[4] if name == "depthwise" else 1
        padded = functional.pad((x - zero_in).permute(2, 0, 1), (1, 1, 1, 1)).permute(1, 2, 0)
        height, width = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
        sums = torch.zeros(height, width, len(bias), dtype=torch.int64)
        for k in range(3):
            for m in range(3):
                seen = padded[k : k + stride * height : stride, m : m + stride * width : stride]
                seen = seen[:height, :width]
                sums += seen * weight[k, m] if name == "depthwise" else seen @ weight[:, k, m].T
    codes = ((sums + bias) * mantissa + (1 << (shift - 1))) >> shift
    return (codes + zero_out).clamp(-128, 127).to(torch.int8)


# --- 7: generate and the artifact firmware -------------------------------------------------------


@check("generate")
def _generate(student: Student, cases: Cases, target: Targets) -> list[Row]:
    results = [_generated(student, cases, blocks) for blocks in _block_lists(cases)]
    wrong = [fault for fault, _ in results]
    reason = next((fault for fault in wrong if fault), None)
    memory = [f"not measured: {reason}" if reason else fault for _, fault in results]
    return [
        no_fault("logits of hidden networks", wrong, 4),
        no_fault("activations in the arena alone", memory, 2),
    ]


def _block_lists(cases: Cases) -> list[list[list[int]]]:
    width = 4 * int(cases.randint(2, 4))
    return [
        [[1, 8, 1], [2, width, 2], [2, width, 1]],
        [[3, width, 1], [2, width, 1], [1, 12, 2], [2, 12, 1]],
    ]


def _generated(student: Student, cases: Cases, blocks: list[list[int]]) -> tuple[Fault, Fault]:
    """What is wrong with the logits, and with the memory, of a random small network."""
    torch.manual_seed(int(cases.randint(0, 2**31)))
    model = models.build({"architecture": "mobile", "stem": 8, "blocks": blocks, "head": 16})
    images = cases.randint(0, 256, (12, 3, 12, 12)).to(torch.uint8)
    network = quantize(model.eval(), images)
    table = describe(network)
    offsets, arena = _arena(table)
    plain = (table["operators"], table["shapes"], table["zeros"], offsets)
    text = student.call("generate", *plain)
    if not isinstance(text, str) or len(text) > MAX_SOURCE:
        return f"got a {type(text).__name__}, expected C text", None
    memory = f"static int8_t arena[{arena}] __attribute__((aligned(8)));\n"
    memory += f"static int16_t scratch[{scratch_halfwords(table)}] __attribute__((aligned(8)));\n"
    codes = torch.from_numpy(network.codes(images[:2]))
    source = GIVEN + constants(network) + memory + text
    try:
        found = student.measure(
            "autograder.sandbox.run_firmware:inference", source, codes, 1, cases.seed
        )
    except StudentError as error:
        return str(error), None
    expected = network.logits(images[:2])
    if fault := type_fault(found["logits"], torch.int32, tuple(expected.shape)):
        return fault, None
    if not torch.equal(found["logits"], expected):
        got, wanted = found["logits"][0].tolist(), expected[0].tolist()
        return f"blocks {blocks}: logits {got[:4]}, expected {wanted[:4]}", None
    room = arena + 2 * scratch_halfwords(table) + codes[0].numel() + 40 + 1_024
    if int(found["sram_bytes"]) > room:
        return None, f"{found['sram_bytes']:,} bytes of SRAM where {room:,} are enough"
    return None, None


def _arena(table: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Offsets of every tensor between image and logits, and the bytes of them all."""
    operators = table["operators"]
    sizes = {row["output"]: math.prod(table["shapes"][row["output"]]) for row in operators[:-1]}
    buffers, homes = _buffers(operators, sizes, table["in_place"])
    offsets = plan(buffers)
    return {name: offsets[home] for name, home in homes.items()}, peak(buffers, offsets)


def scratch_halfwords(table: Mapping[str, Any]) -> int:
    """Room for the scratch memory of every operator."""
    most = 0
    for row in table["operators"]:
        height, width, channels = table["shapes"][row["inputs"][0]]
        needs = {
            "conv1x1": 2 * channels,
            "conv3x3": 3 * (width + 2) * channels,
            "depthwise": (height + 2) * (width + 4),
        }
        most = max(most, needs.get(row["kind"], 0))
    return most


@check("firmware")
def _firmware(student: Student, cases: Cases, target: Targets) -> list[Row]:
    source = student.artifact("firmware")
    if not isinstance(source, str) or len(source) > run_firmware.MOST_TEXT:
        raise StudentError(f"got a {type(source).__name__}, expected a C source text")
    seen = camera(cases)
    codes = torch.from_numpy(reference_network(cases.dataset).codes(seen.images))
    try:
        found = student.measure(
            "autograder.sandbox.run_firmware:inference", source, codes, COUNTED_IMAGES, cases.seed,
            deadline_s=400.0,
        )  # fmt: skip
    except StudentError as error:
        return [failed(name, figure.points, str(error)) for name, figure in target.items()]
    if fault := type_fault(found["logits"], torch.int32, (len(seen), 10)):
        raise StudentError(fault)
    accuracy = float((found["logits"].argmax(1) == seen.labels).double().mean())
    drop = _float_accuracy(cases.dataset, seen) - accuracy
    gains = {
        "sram_kib": found["sram_bytes"] / 1024,
        "flash_kib": found["flash_bytes"] / 1024,
        "mcycles": max(found["cycles"]) / 1e6,
    }
    return joint_use(("accuracy_drop", drop), gains, target)


def camera(cases: Cases) -> ImageSet:
    """Images as a camera would see them again: shifted a little, with noise.

    Who knows the images by heart (those of CIFAR-10 are public) does not know these.
    """
    picked = torch.randperm(len(cases.images), generator=cases.generator)[:FIRMWARE_IMAGES]
    images = cases.images.images[picked]
    padded = functional.pad(images.float(), (2, 2, 2, 2), mode="replicate")
    moved = []
    for image, (down, right) in zip(
        padded, cases.randint(0, 5, (len(images), 2)).tolist(), strict=True
    ):
        moved.append(image[:, down : down + images.shape[2], right : right + images.shape[3]])
    noise = cases.randint(-3, 4, tuple(images.shape)).float()
    pixels = (torch.stack(moved) + noise).clamp(0, 255).to(torch.uint8)
    return replace(cases.images, images=pixels, labels=cases.images.labels[picked])


@lru_cache(maxsize=2)
def reference_network(dataset: str) -> Network:
    """The network of the lab in integers; the judge takes the scale of the image from it."""
    model = checkpoints.load(checkpoints.shipped("mobile", dataset))
    images = datasets.load(dataset, "train", quiet=True).images[:CALIBRATION_IMAGES]
    return quantize(model, images)


def _float_accuracy(dataset: str, seen: ImageSet) -> float:
    model = checkpoints.load(checkpoints.shipped("mobile", dataset))
    with torch.inference_mode():
        found = model(normalize(seen.images)).argmax(1)
    return float((found == seen.labels).double().mean())


CHECKS = collected(sys.modules[__name__])
