"""Interrupted work of a lab goes on where it was: its process is killed, and the cell runs again.

Lab 1's fine-tuning and search, Lab 2's codebooks, rounding and quantization-aware training, by the
labs' own cells and answers, with a small network and few images. What comes out has the bytes of
what an uninterrupted run gives.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import resumed_lab

from autograder.contract import artifacts
from codesign import resumable

pytestmark = pytest.mark.slow
# Updates that are left: two epochs; rounds are counted; one width; three layers of four; the last.
LEFT = {"sparse_model": 2 * resumed_lab.PER_EPOCH, "codebooks": 2, "w4_model": 6, "w4a4_model": 1}


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The folders of kernels that died at work."""
    folder = tmp_path_factory.mktemp("killed")
    program = f"import pathlib, resumed_lab; resumed_lab.kill_all(pathlib.Path({str(folder)!r}))"
    support = Path(resumed_lab.__file__).parent
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=support, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def rounds(monkeypatch) -> list[list]:
    """The history that each round of a search has kept."""
    found: list[list] = []
    plain = resumable.keep

    def keep(stem, model, history):
        found.append(copy.deepcopy(history))
        plain(stem, model, history)

    monkeypatch.setattr(resumable, "keep", keep)
    return found


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("artifact", resumed_lab.STEPS)
def test_a_killed_kernels_work_goes_on_where_it_was(artifact, killed, tmp_path, rounds, capsys):
    outputs, plain = killed / artifact / "outputs/glyphs", tmp_path / "outputs/glyphs"
    assert not artifacts.exists(outputs, artifact)
    assert any(name.endswith(".state") for name in files(outputs))

    _, all_updates = resumed_lab.work(artifact, tmp_path)
    all_rounds, rounds[:] = list(rounds), []
    capsys.readouterr()
    _, updates = resumed_lab.work(artifact, killed / artifact)

    assert f"{artifact}: goes on where it was interrupted" in capsys.readouterr().out
    if artifact == "fast_model":
        assert rounds == all_rounds[2:], "two rounds were kept"
        assert len(rounds) >= 2
        assert updates == all_updates - 2 * 3
    else:
        assert updates == LEFT[artifact] < all_updates
    assert artifacts.digest(outputs, artifact) == artifacts.digest(plain, artifact)
    assert files(outputs) == files(plain), "no state is left"
