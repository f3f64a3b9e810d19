"""The course library: data, models, training, counted cost and measured cost.

Files are named after the nouns of the syllabus; each module says at its top what it models,
what it leaves out and where it is taught. Nothing here answers a lab. Importing this package
also makes ``import torchvision`` work beside a CPU-only torch.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import torch

__version__ = "0.1.0"


def _prepare_torchvision() -> torch.library.Library | None:
    """Define ``torchvision::nms`` and ``qnms`` where torchvision's own C++ operators cannot load.

    torchvision registers fake kernels for both at import and fails when they do not exist, as
    beside a CPU-only torch. The course needs neither; a schema is enough for the import. Where
    the real operators load, nothing is defined. Returns the library that keeps them alive.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    for extension in sorted(Path(spec.origin).parent.glob("_C*")):
        with contextlib.suppress(OSError, RuntimeError):
            torch.ops.load_library(str(extension))
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


_torchvision_schemas = _prepare_torchvision()
