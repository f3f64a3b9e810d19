"""Every check of every registered lab, and how its tests run one: what the labs' tests share."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from solution_cells import SOLUTIONS, definitions, stubs

from autograder.contract import checking
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find, names
from autograder.contract.verdict import Verdict
from autograder.proof.mutants import Mutant
from autograder.proof.prove import PROOF_SEED

NOWHERE = Path("nowhere")
TIMED = ("latency", "speedup")  # figures in seconds, which a busy machine changes


def mutants(lab: str, check: str) -> list[Mutant]:
    """The wrong answers to one check."""
    return [mutant for mutant in find(lab).mutants if mutant.check == check]


def mutant(lab: str, name: str) -> Mutant:
    """The wrong answer of this name."""
    return next(one for one in find(lab).mutants if one.name == name)


def is_function(lab: str, check: str) -> bool:
    """Whether a check only calls functions of the notebook; otherwise it measures an artifact."""
    return all(one.forge is None for one in mutants(lab, check))


def is_timed(lab: str, check: str) -> bool:
    """Whether a check measures seconds."""
    figures = find(lab).targets[check].figures["glyphs"]
    return any(word in name for name in figures for word in TIMED)


def chosen(*, functions: bool) -> list[Any]:
    """(lab, check) of every lab, marked ``labN``, and ``serial`` where it measures seconds."""
    return [
        pytest.param(
            lab,
            check,
            id=f"{lab.split('_')[0]}-{check}",
            marks=[
                getattr(pytest.mark, lab.split("_")[0]),
                *[pytest.mark.serial] * is_timed(lab, check),
            ],
        )
        for lab in names()
        for check in find(lab).targets
        if is_function(lab, check) == functions
    ]


def run(
    lab: str,
    check: str,
    namespace: dict[str, Any],
    outputs: Path = NOWHERE,
    seed: int = PROOF_SEED,
) -> Verdict:
    """One check's verdict on a student with this namespace and these artifacts."""
    return checking.run(lab, check, LocalStudent(namespace, outputs), "glyphs", seed)


def reference_outputs(lab: str) -> Path:
    """The folder of the artifacts that a lab's solution handed in."""
    return SOLUTIONS / lab / "outputs" / "glyphs"


@lru_cache
def verdict(lab: str, check: str, who: str, seed: int = PROOF_SEED) -> Verdict:
    """The verdict on ``reference``, ``stub`` or ``mutant`` of a function's check, judged once."""
    if who == "mutant":
        return run(lab, check, definitions(lab, mutants(lab, check)[0].source), seed=seed)
    namespace = definitions(lab)
    return run(lab, check, dict(stubs(namespace)) if who == "stub" else namespace, seed=seed)
