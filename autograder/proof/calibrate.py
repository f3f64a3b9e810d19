"""Calibrate targets: run the reference over several seeds and write mean and spread.

Each seed runs the solution notebook's own cells in a fresh folder, so that nothing stored is
loaded; then the judge measures the artifacts. ``targets.toml`` receives the mean as ``reference``
and the standard deviation over seeds as ``spread``; targets and floors are a person's decision.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import tomlkit

from autograder.contract import checking
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find
from autograder.contract.environment import DATASET, SEED
from autograder.intake.course import Course
from autograder.proof.trials import PROOF_SEED

Measured = dict[str, dict[str, list[float]]]  # check -> figure -> one value a seed


def run_reference(course: Course, lab: str, dataset: str, seed: int) -> Path:
    """Run the reference notebook with ``seed`` in its own folder; return its outputs folder.

    A run that was done before is kept: a long calibration resumes where it was cut.

    Raises:
        RuntimeError: the notebook failed; carries the end of what it said.
    """
    folder = course.root / ".autograder" / "calibrate" / lab / dataset / f"seed{seed}"
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(course.folder("source", ".", lab) / f"{lab}.ipynb", folder)
        environment = {**os.environ, DATASET: dataset, SEED: str(seed)}
        # A check that misses its present target must not end the run that is to set the target.
        command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
        command += ["--allow-errors"]
        ran = subprocess.run(
            [sys.executable, "-m", *command, f"{lab}.ipynb"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise RuntimeError(f"{lab} with seed {seed} on {dataset}: {ran.stderr[-2_000:]}")
        done.touch()
    return folder / "outputs" / dataset


def measure(lab: str, dataset: str, outputs: Path) -> dict[str, dict[str, float]]:
    """What the judge measures on the artifacts in ``outputs``: ``{check: {figure: value}}``.

    Raises:
        RuntimeError: a figure was not measured, for instance because its artifact is missing.
    """
    found: dict[str, dict[str, float]] = {}
    for name, wanted in find(lab).targets.items():
        figures = wanted.figures[dataset]
        if figures:
            verdict = checking.run(lab, name, LocalStudent({}, outputs), dataset, PROOF_SEED)
            values = {row.name: row.measured for row in verdict.rows if row.name in figures}
            found[name] = {k: v for k, v in values.items() if isinstance(v, float | int)}
            if missing := sorted(figures.keys() - found[name].keys()):
                reasons = "; ".join(row.message for row in verdict.rows if row.message)
                raise RuntimeError(f"{outputs}: {name} has no {missing}: {reasons}")
    return found


def calibrate(course: Course, lab: str, dataset: str, seeds: Sequence[int]) -> Measured:
    """Run and measure every seed; the values are also kept as JSON beside the runs."""
    collected: Measured = {}
    for seed in seeds:
        outputs = run_reference(course, lab, dataset, seed)
        for name, figures in measure(lab, dataset, outputs).items():
            for figure, value in figures.items():
                collected.setdefault(name, {}).setdefault(figure, []).append(float(value))
    record = course.root / ".autograder" / "calibrate" / lab / f"{dataset}.json"
    record.write_text(json.dumps({"seeds": list(seeds), "measured": collected}, indent=1))
    return collected


def write(lab: str, dataset: str, collected: Measured) -> None:
    """Put mean and standard deviation of every measured figure into the lab's ``targets.toml``."""
    folder = find(lab).folder
    if folder is None:
        raise ValueError(f"{lab} has no targets.toml: it was registered without a folder")
    path = folder / "targets.toml"
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    for name, figures in collected.items():
        for figure, values in figures.items():
            table = document[name]["figures"][figure]
            if dataset not in table:
                table[dataset] = tomlkit.table()
            table[dataset]["reference"] = float(f"{statistics.mean(values):.4g}")
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            table[dataset]["spread"] = float(f"{spread:.2g}")
    # A blank line before each table.
    text = re.sub(r"(?<!\n)\n\[", "\n\n[", tomlkit.dumps(document))
    path.write_text(text, encoding="utf-8")
