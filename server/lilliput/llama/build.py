"""Which build of the binding is installed, found without loading it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

_PACKAGE = "llama_cpp"


def build_digest() -> str:
    """A short digest that changes whenever the binding or one of its shared libraries does."""
    digest = hashlib.sha256(importlib.metadata.version("llama-cpp-python").encode())
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(place, "lib").glob("*")):
            stat = path.stat()
            digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
