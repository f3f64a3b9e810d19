"""Which judge this is: a digest of its source, for results that must not outlive it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


@lru_cache(maxsize=1)
def source_version() -> str:
    """Changes with every change of the judge or the course library."""
    digest = hashlib.sha256()
    for package in ("autograder", "codesign"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
