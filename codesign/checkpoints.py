"""Save and load checkpoints: weights in safetensors, everything else in JSON beside them.

The JSON holds the config that rebuilds the model, the command, seed and accuracy that made it, and
the sha256 of the weights, which is checked on load. Pickle is never read or written: loading a
checkpoint runs no code. Used by every notebook and by the judge.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from codesign import models, places

HALF = "float16"


def save(stem: str | Path, model: nn.Module, *, half: bool = False, **record: Any) -> Path:
    """Write ``stem.safetensors`` and ``stem.json`` (``record`` plus config and sha256).

    Args:
        half: round float32 weights to float16 on disk; the record's ``stored`` says so, and
            :func:`load` gives float32 again.
        record: what JSON can hold: command, seed, accuracy, ….

    Returns:
        The path of the weights.

    Raises:
        ValueError: a model without ``.config``, NaN or infinity in weights (as stored) or record,
            or a record with the keys ``config``, ``sha256`` or ``stored``. Nothing is written then.
        TypeError: a record that JSON cannot hold. Nothing is written then.
    """
    stem = Path(stem)
    config = getattr(model, "config", None)
    if not isinstance(config, dict):
        raise ValueError(f"got {type(model).__name__} without .config; allowed: a course model")
    if record.keys() & {"config", "sha256", "stored"}:
        got = sorted(record)
        raise ValueError(f"got record {got}; allowed: any keys but config, sha256 and stored")
    json.dumps(record, allow_nan=False)
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    if half:
        weights, record = _cast(weights, torch.float32, torch.float16), {**record, "stored": HALF}
    _check_finite(weights)
    path = write_tensors(_with(stem, ".safetensors"), weights)
    whole = {"config": config, "sha256": sha256(path), **record}
    _with(stem, ".json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return path


def load(stem: str | Path) -> nn.Module:
    """Rebuild the model stored at ``stem``, in evaluation mode.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a wrong sha256, a damaged file, or weights that are not finite or do not fit
            the config.
    """
    stem = Path(stem)
    record = info(stem)
    path = _with(stem, ".safetensors")
    digest = sha256(path)
    if digest != record.get("sha256"):
        raise ValueError(f"{path} has sha256 {digest}, its JSON says {record.get('sha256')}")
    weights = tensors(path)
    if record.get("stored") == HALF:
        weights = _cast(weights, torch.float16, torch.float32)
    return rebuild(record["config"], weights)


def rebuild(config: dict, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The model of ``config`` carrying ``weights``, in evaluation mode.

    Raises:
        ValueError: names, shapes or dtypes that are not those of the architecture, or values that
            are NaN or infinite.
    """
    with torch.device("meta"):  # shapes first: a config can ask for gigabytes
        skeleton = models.build(config)
    expected = {k: (tuple(v.shape), v.dtype) for k, v in skeleton.state_dict().items()}
    got = {k: (tuple(v.shape), v.dtype) for k, v in weights.items()}
    wrong = sorted(k for k in expected.keys() | got.keys() if expected.get(k) != got.get(k))
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"weights do not fit the config in {len(wrong)} tensors, first {first!r}: "
            f"got {got.get(first)}, expected {expected.get(first)}"
        )
    _check_finite(weights)
    model = models.build(config)
    model.load_state_dict(weights)
    return model.eval()


def _cast(
    weights: dict[str, torch.Tensor], given: torch.dtype, wanted: torch.dtype
) -> dict[str, torch.Tensor]:
    """The tensors of type ``given`` as ``wanted``, the others as they are."""
    return {n: w.to(wanted) if w.dtype == given else w for n, w in weights.items()}


def _check_finite(weights: dict[str, torch.Tensor]) -> None:
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"got NaN or infinity in {bad}; allowed: finite weights")


def info(stem: str | Path) -> dict[str, Any]:
    """The JSON record of a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a JSON object with a config.
    """
    path = _with(Path(stem), ".json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a wrong encoding, huge numbers, deep nesting
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ValueError(f"{path} has no config; allowed: a JSON object with 'config'")
    return record


def tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Every tensor of one safetensors file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


def metadata(path: str | Path) -> dict[str, str]:
    """The string metadata of one safetensors file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


def write_tensors(
    path: Path, weights: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """Write one safetensors file, whole or not at all; whoever reads it sees one or the other.

    Raises:
        OSError: it cannot be written. What was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{uuid4().hex}")
    try:
        part.touch()
        mode = part.stat().st_mode  # safetensors would let only the owner read it
        save_file(weights, part, metadata)
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped(name: str, dataset: str) -> Path:
    """Stem of a checkpoint that comes with the course: in ``data/``, or in the installed wheel.

    Raises:
        FileNotFoundError: there is none; says the command that makes it.
    """
    for root in places.checkpoint_folders():
        if (root / dataset / f"{name}.json").exists():
            return root / dataset / name
    command = f"codesign.training recipe {name} --dataset {dataset}"
    if dataset == places.TEXT:
        command = f"codesign.language_training recipe {name}"
    raise FileNotFoundError(
        f"no checkpoint {name!r} for {dataset!r}; make it with `python -m {command}`"
    )


def _with(stem: Path, suffix: str) -> Path:
    return stem.parent / (stem.name + suffix)  # with_suffix would cut a dotted name
