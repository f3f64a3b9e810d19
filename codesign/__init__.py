"""The course library: data, models, training, counted cost and measured cost.

Files are named after the nouns of the syllabus; each module says at its top what it models,
what it leaves out and where it is taught. Nothing here answers a lab. Once it is
imported, ``import torchvision`` works beside a CPU-only torch, too; PyTorch itself is imported by
what needs it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__version__ = "0.1.0"


class _Torchvision(MetaPathFinder):
    """Prepares torchvision's import at the moment when somebody imports it."""

    kept: torch.library.Library | None = None

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Find nothing: that is the next finder's work, after this preparation."""
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _Torchvision.kept = _prepare_torchvision()


def _prepare_torchvision() -> torch.library.Library | None:
    """Define ``torchvision::nms`` and ``qnms`` where torchvision's own C++ operators cannot load.

    torchvision registers fake kernels for both at import and fails when they do not exist, as
    beside a CPU-only torch. The course needs neither; a schema is enough for the import. Where
    the real operators load, nothing is defined. Returns the library that keeps them alive.
    """
    import torch

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


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _Torchvision())
