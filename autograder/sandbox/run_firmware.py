"""Compile, link and emulate submitted C for a microcontroller.

The text is untrusted: the compiler reads it and the emulator executes it, so both belong into a
sandbox (``student.measure``). What comes back is what the emulated memories hold, and counts of
executed instructions. Arguments are guarded (the bytes around every array may not be touched), and
SRAM begins with secret contents, so that memory cannot be used unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from codesign.hardware.cortex_m import Firmware, InFlash

CALL_INSTRUCTIONS = 5_000_000  # of one call of a kernel; the loops need 2 million at most
CALL_S = 5.0  # of one that is not counted
IMAGE_INSTRUCTIONS = 400_000_000
IMAGE_S = 10.0
MOST_TEXT = 4 * 2**20  # bytes of C


def calls(
    source: str, function: str, cases: Sequence[Mapping[str, Any]], board: str = "m4"
) -> list[dict[str, Any]]:
    """Call one function several times, each from reset.

    Args:
        cases: of each ``arguments``: integers, tensors that lie in SRAM, and tensors as
            ``{"flash": tensor}``; ``guarded``; ``seed``: of what SRAM holds before; ``names`` of
            the arguments, for messages; and, where it is no call from reset, ``before``: the
            arguments of the call that comes first, uncounted, ``{"same": i}`` for the very array
            that argument ``i`` of ``arguments`` is.

    Returns:
        of each call: ``outputs`` (the tensors in SRAM afterwards), ``instructions``, ``cycles``,
        ``stack_bytes``, and ``data_bytes``: variables outside of the stack.

    Raises:
        ValueError: it does not compile or link, or was stopped; says why.
    """
    firmware = _firmware(source, board, function)
    found = []
    for case in cases:
        arguments = [_placed(argument) for argument in case["arguments"]]
        before = [_placed(argument, arguments) for argument in case.get("before", ())]
        run = firmware.run(
            function,
            *arguments,
            budget=CALL_INSTRUCTIONS,
            seconds=CALL_S,
            guarded=bool(case["guarded"]),
            seed=int(case["seed"]),
            counted=not before,
            names=[str(name) for name in case.get("names", ())],
            before=[before] if before else [],
        )
        outputs = [torch.from_numpy(output) for output in run.outputs]
        counts = {name: int(getattr(run, name)) for name in COUNTS}
        found.append({"outputs": outputs, **counts, "data_bytes": firmware.data_bytes})
    return found


COUNTS = ("instructions", "cycles", "stack_bytes")


def inference(
    source: str, codes: torch.Tensor, counted: int, seed: int, board: str = "m4"
) -> dict[str, Any]:
    """Run ``void infer(const int8_t *image, int32_t *logits)`` on images.

    Args:
        codes: int8 ``[N, H, W, 3]``.
        counted: the first so many are counted as well.
        seed: of what SRAM holds before, from 0.

    Returns:
        ``logits`` int32 ``[N, 10]``, each image from reset; ``again`` int32 ``[2, 10]``: those of
        the first and the last image, each straight after the other one; ``cycles`` of each counted
        image; ``sram_bytes``: the most of any image; ``flash_bytes``.

    Raises:
        ValueError: like :func:`calls`.
    """
    firmware = _firmware(source, board, "infer")
    images, logits = list(codes.numpy()), np.zeros(10, np.int32)
    # Uncounted first: what never ends is stopped by the clock, without counting it.
    limits: dict[str, Any] = {"budget": IMAGE_INSTRUCTIONS, "seconds": IMAGE_S}
    runs = [
        firmware.run("infer", image, logits, counted=False, seed=2 * (seed + i), **limits)
        for i, image in enumerate(images)
    ]
    measured = [
        firmware.run("infer", image, logits, seed=2 * (seed + i) + 1, **limits)
        for i, image in enumerate(images[:counted])
    ]
    ends = (images[0], images[-1])
    again = [
        firmware.run(
            "infer", image, logits, counted=False, before=[(other, logits)], seed=2 * seed, **limits
        )
        for image, other in (ends, ends[::-1])
    ]
    return {
        "logits": torch.stack([torch.from_numpy(run.outputs[1]) for run in runs]),
        "again": torch.stack([torch.from_numpy(run.outputs[1]) for run in again]),
        "cycles": [int(run.cycles) for run in measured],
        "sram_bytes": max(int(run.sram_bytes) for run in [*runs, *measured]),
        "flash_bytes": firmware.flash_bytes,
    }


@lru_cache(maxsize=4)
def _firmware(source: str, board: str, function: str) -> Firmware:
    if len(source) > MOST_TEXT:
        raise ValueError(f"got {len(source):,} bytes of C; allowed: {MOST_TEXT:,}")
    return Firmware(source, board, keep=(function,))


def _placed(argument: Any, placed: Sequence[Any] = ()) -> Any:
    """An argument as the emulator takes it; ``{"same": i}`` is entry ``i`` of ``placed``."""
    if isinstance(argument, Mapping):
        same = "same" in argument
        return placed[argument["same"]] if same else InFlash(argument["flash"].numpy())
    return argument.numpy() if isinstance(argument, torch.Tensor) else argument
