"""The figures of README's first screen: install size, times of the two commands, a real verdict.

``python benchmarks/readme_figures.py`` writes them between README's markers, from
``docs/times.json`` and ``docs/front_page.json``. ``--install`` measures packages and sizes first,
from pip's own report and from the installed files; ``--run demo`` (or ``test``) times that make
target. A test compares README with the files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.nn import functional

from autograder.contract import checking, show
from autograder.contract.checking import LocalStudent
from benchmarks import front_page
from codesign import measure

ROOT = Path(__file__).parents[1]
TIMES, FRONT_PAGE = ROOT / "docs" / "times.json", ROOT / "docs" / "front_page.json"
LAB, CHECK, DATASET = "lab2_quantization", "kmeans_quantize", "glyphs"
COMMANDS = ("demo", "test")


# --- measuring -----------------------------------------------------------------------------------


def pins() -> list[str]:
    """Names of the packages that ``constraints.txt`` pins."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line and line[0] != "#"]


def installed_bytes() -> int:
    """Size of every installed file of the pinned packages, as their RECORDs give it."""
    files = [file for name in pins() for file in metadata.files(name) or ()]
    return sum(file.size or 0 for file in files)


def download_bytes() -> int:
    """Size of the archives that a first install fetches, from pip's report of a dry run."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
         "--report", "-", "-c", "constraints.txt", "-e", ".[grading,dev]"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    urls = [item["download_info"]["url"] for item in json.loads(done.stdout)["install"]]
    return sum(_size(url) for url in urls if not url.endswith(str(ROOT)))


def _size(url: str) -> int:
    """Bytes of one archive, on disk or as its server says."""
    if url.startswith("file:"):
        return Path(urllib.request.url2pathname(url.removeprefix("file://"))).stat().st_size
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        return int(answer.headers["Content-Length"])


def seconds(target: str) -> float:
    """Wall time of ``make TARGET`` in this checkout, installed already."""
    start = time.monotonic()
    subprocess.run(["make", target], cwd=ROOT, check=True)
    return time.monotonic() - start


def stamped(**figures: float) -> dict[str, Any]:
    """The figures with the day and the machine."""
    return {**figures, "date": date.today().isoformat(), "machine": measure.machine()}


# --- a verdict -----------------------------------------------------------------------------------


def wrong_answer() -> dict[str, Any]:
    """The reference functions of the check, with two mistakes that students make.

    Lloyd's algorithm stops after one round, and the bytes of the codebook are forgotten.
    """
    source = (ROOT / "solutions" / LAB / f"{LAB}.py").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"torch": torch, "functional": functional}
    for cell in source.split("\n# %%"):
        if f'"grade_id": "{CHECK}"' in cell:
            break
        if '"grade_id": "solution_' in cell:
            exec(cell.partition("\n")[2], namespace)  # the course's own solution

    def one_round(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        values = weight.flatten().float()
        codebook = torch.linspace(float(values.min()), float(values.max()), 2**bits)
        codes = (values[:, None] - codebook).abs().argmin(1)
        count = torch.bincount(codes, minlength=2**bits)
        means = torch.zeros(2**bits).index_add(0, codes, values) / count.clamp(min=1)
        return torch.where(count > 0, means, codebook), codes.reshape(weight.shape)

    namespace |= {"kmeans_quantize": one_round, "codebook_bytes": lambda n, bits: n * bits // 8}
    return namespace


def verdict() -> str:
    """The table that ``lab.check`` prints for the wrong answer."""
    student = LocalStudent(wrong_answer(), ROOT / "build")
    return show.text(checking.run(LAB, CHECK, student, DATASET))


# --- README --------------------------------------------------------------------------------------


def duration(entry: dict[str, Any] | None) -> str:
    """A time as people say it."""
    if not entry:
        return "not measured yet"
    whole = entry["seconds"]
    return f"{whole:.0f} s" if whole < 120 else f"{whole / 60:.0f} min"


def caption() -> str:
    """What the figure shows, where and when it was measured."""
    if not FRONT_PAGE.exists():
        return "*Not measured yet.*"
    found = json.loads(FRONT_PAGE.read_text(encoding="utf-8"))
    return f"*{front_page.caption(found)} Measured on {found['date']}, {found['machine']}.*"


def blocks() -> dict[str, str]:
    """What stands between README's markers, by name."""
    times = json.loads(TIMES.read_text(encoding="utf-8"))
    install = times["install"]
    commands = [
        ("demo", "install into .venv, grade three sample submissions of Lab 1, write a report"),
        ("test", "lint, types, and the tests of the course"),
    ]
    lines = [f"make {name}    # {what} ({duration(times.get(name))})" for name, what in commands]
    measured = [times[name] for name in COMMANDS if times.get(name)]
    on = f"{measured[-1]['machine']}, {measured[-1]['date']}" if measured else "no machine yet"
    return {
        "commands": "```sh\n" + "\n".join(lines) + "\n```",
        "install": (
            f"The first run installs {install['packages']} packages: a download of "
            f"{install['download_bytes'] / 1e6:,.0f} MB, {install['installed_bytes'] / 1e9:.1f} GB "
            "on disk, with PyTorch's build for CPUs (PyPI's for Linux also brings NVIDIA's "
            "libraries). "
            f"Times are those of later runs ({on})."
        ),
        "caption": caption(),
        "verdict": f"```text\n{verdict()}\n```",
    }


def filled(page: str, texts: dict[str, str]) -> str:
    """``page`` with each text between ``<!-- name -->`` and ``<!-- end name -->``.

    Raises:
        ValueError: the markers of a text are not there exactly once.
    """
    for name, text in texts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n)(?:.*?\n)??(<!-- end {name} -->)", re.S)
        page, count = pattern.subn(lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"got {count} times <!-- {name} --> … <!-- end {name} -->; allowed: 1")
    return page


def main(
    install: Annotated[bool, typer.Option(help="measure packages and sizes first")] = False,
    run: Annotated[list[str] | None, typer.Option(help="make targets to time first")] = None,
) -> None:
    """Measure what is asked for, then write README's figures."""
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}
    if unknown := set(run or ()) - set(COMMANDS):
        raise typer.BadParameter(f"got {sorted(unknown)}; allowed: {', '.join(COMMANDS)}")
    if install:
        sizes = {"download_bytes": download_bytes(), "installed_bytes": installed_bytes()}
        times["install"] = stamped(packages=len(pins()), **sizes)
    for target in run or ():
        times[target] = stamped(seconds=round(seconds(target), 1))
    TIMES.write_text(json.dumps(times, indent=1) + "\n", encoding="utf-8")
    page = ROOT / "README.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), blocks()), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
