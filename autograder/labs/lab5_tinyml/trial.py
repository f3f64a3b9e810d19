"""Try a kernel on one case: where its first wrong output is, its cycles, its instructions.

What ``lab.try_kernel`` does in the notebook. It compiles and emulates as the check does, on public
numbers; nothing here gives points.
"""

from __future__ import annotations

from autograder.contract.checking import Cases
from autograder.labs.lab5_tinyml.checks.kernel_answers import described, output_fault
from autograder.labs.lab5_tinyml.checks.kernel_cases import (
    LOOPS,
    NUMBERS,
    SMALL,
    USUAL,
    arguments,
    in_memory,
    names,
)
from autograder.labs.lab5_tinyml.checks.kernels import KERNELS, with_kernel
from autograder.sandbox import run_firmware
from codesign.hardware.cortex_m import Firmware

SIZES = {
    "conv1x1": ("pixels", "channels", "outputs"),
    "depthwise": ("height", "width", "channels", "stride"),
    "conv3x3": ("height", "width", "channels", "outputs"),
}


def tried(
    name: str,
    source: str,
    shape: tuple[int, ...] | None = None,
    numbers: str = "usual",
    *,
    assembly: bool = False,
) -> str:
    """A report on ``source`` instead of the loops of ``name``.

    Args:
        name: one of the three kernels.
        source: C text, of this kernel alone.
        shape: its sizes in the order of the contract; None: the first usual ones of the check.
        numbers: "usual", "extreme", "ties" or "every shift".
        assembly: with the instructions of the compiled function.

    Raises:
        ValueError: another name, shape or kind of numbers; it does not compile, or was stopped.
    """
    shape = _validated(name, shape, numbers)
    values = arguments(Cases(name, ""), name, shape, numbers)
    case = {
        "arguments": in_memory(name, values), "guarded": True, "seed": 1, "names": names(name),
    }  # fmt: skip
    text = with_kernel(name, source)
    found = run_firmware.calls(text, name, [case])[0]
    loops = run_firmware.calls(LOOPS, name, [case])[0]
    wrong = output_fault(name, values, found["outputs"])
    lines = [
        wrong or f"{described(name, values)}: every output exact",
        f"{found['cycles']:,} cycles, {found['cycles'] / loops['cycles']:.2f} of the loops'; "
        f"{found['instructions']:,} instructions, {found['stack_bytes']:,} bytes of stack, "
        f"{found['data_bytes']:,} of variables",
    ]
    if assembly:
        lines.append(Firmware(text, "m4", (name,)).assembly(name))
    return "\n".join(lines)


def _validated(name: str, shape: tuple[int, ...] | None, numbers: str) -> tuple[int, ...]:
    if name not in KERNELS:
        raise ValueError(f"got kernel {name!r}; allowed: {', '.join(KERNELS)}")
    if numbers not in NUMBERS:
        raise ValueError(f"got numbers {numbers!r}; allowed: {', '.join(NUMBERS)}")
    if shape is None:
        return USUAL[name][0]
    sizes = SIZES[name]
    whole = len(shape) == len(sizes) and all(isinstance(n, int) for n in shape)
    if not whole or not _promised(name, dict(zip(sizes, shape, strict=True))):
        example = SMALL[name][1]
        raise ValueError(f"got shape {shape}; allowed: {sizes} as the contract has them: {example}")
    return shape


def _promised(name: str, sizes: dict[str, int]) -> bool:
    """Whether the contract of a kernel allows these sizes."""
    allowed = min(sizes.values()) >= 1 and max(sizes.values()) <= 256
    if name == "depthwise":
        return allowed and sizes["stride"] in (1, 2)
    wide = name == "conv1x1" or sizes["width"] >= 2
    return allowed and wide and sizes["channels"] % 4 == 0 and sizes["outputs"] % 2 == 0
