"""``import codesign`` makes torchvision importable where its C++ operators do not load.

Each case runs in a process of its own: what is registered once stays registered.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def plain_import_works() -> bool:
    return run("import torchvision").returncode == 0


def test_codesign_then_torchvision():
    code = "import codesign, torchvision\nfrom torchvision.datasets import CIFAR10"
    done = run(f"{code}\nprint(codesign._Torchvision.kept is None)")
    assert done.returncode == 0, done.stderr
    nothing_defined = done.stdout.strip() == "True"
    assert nothing_defined == plain_import_works(), "define what is missing, and only that"


def test_torchvision_then_codesign():
    done = run("import torchvision, codesign\nassert codesign._Torchvision.kept is None")
    works = done.returncode == 0
    assert works == plain_import_works(), "codesign comes too late to help and breaks nothing"
    assert works or "torchvision::nms does not exist" in done.stderr


def test_an_import_of_torchvision_that_failed_first_is_no_obstacle():
    attempt = "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
    done = run(attempt + "import codesign, torchvision\ntorchvision.transforms.Resize(8)")
    assert done.returncode == 0, done.stderr


def test_without_torchvision_codesign_still_imports():
    hide = "import importlib.util as u\nfind = u.find_spec\n"
    hide += "u.find_spec = lambda n, *a: None if n == 'torchvision' else find(n, *a)\n"
    done = run(hide + "import codesign\nassert codesign._prepare_torchvision() is None")
    assert done.returncode == 0, done.stderr
