"""Proofs of several labs and image sets side by side, one process each.

A proof is mostly one thread: its judge waits for the kernel, the kernel for its judge. Figures that
a clock measures are ratios of interleaved runs, which bear a neighbour.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from autograder.contract.definition import find
from autograder.intake.course import Course
from autograder.proof import ledger, prove
from autograder.proof.prove import Line


def matrices(
    root: Path, wanted: Sequence[tuple[str, str]], jobs: int, *, spare: bool, **options: Any
) -> Iterator[list[Line]]:
    """The matrix of each (lab, image set) in ``wanted``, in their order.

    Args:
        jobs: how many at a time; one runs in this process.
        spare: what the labs' ledgers know.
        options: of :func:`autograder.proof.prove.prove`.

    Raises:
        FileNotFoundError: see there.
    """
    if min(jobs, len(wanted)) < 2:
        yield from (_matrix(root, lab, images, spare, options) for lab, images in wanted)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_alone) as pool:
        done = [pool.submit(_matrix, root, lab, images, spare, options) for lab, images in wanted]
        yield from (one.result() for one in done)


def told(name: str, lines: Sequence[Line], out: Path | None) -> list[str]:
    """Print a lab's matrix, write it into ``out``, and return its holes."""
    print(prove.markdown(lines, name))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.md").write_text(prove.markdown(lines, name), encoding="utf-8")
        (out / f"{name}.json").write_text(prove.to_json(lines), encoding="utf-8")
    found = [f"{line.dataset} {line.name}: {line.fault}" for line in lines if line.fault]
    found += prove.missing(name)
    for hole in found:
        print(f"hole: {hole}")
    judged = sum(not line.spared for line in lines)
    print(f"{name}: {len(lines)} lines, {judged} judged, {len(found)} holes")
    return found


def _matrix(root: Path, lab: str, images: str, spare: bool, options: dict[str, Any]) -> list[Line]:
    known = ledger.read(find(lab)) if spare else None
    return prove.prove(Course.at(root), lab, images, known=known, **options)


def _alone() -> None:
    """One thread for each process."""
    import torch

    torch.set_num_threads(1)
