"""An installed model as Ollama lists it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from lilliput.catalogue import InstalledModel


def tag(model: InstalledModel) -> dict[str, Any]:
    """The entry of ``/api/tags`` for ``model``."""
    modified = datetime.fromtimestamp(model.installed_at, UTC)
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": modified.isoformat().replace("+00:00", "Z"),
        "size": model.size_bytes,
        "digest": digest(model),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": model.architecture or "",
            "families": [model.architecture] if model.architecture else None,
            "parameter_size": parameter_size(model.parameter_count),
            "quantization_level": model.quantization or "",
        },
    }


def digest(model: InstalledModel) -> str:
    """64 hex digits that stand for the model: its file's SHA-256, or one over what is known of its files.

    Clients cut it to twelve digits without looking, so it is never shorter.
    """
    if len(model.files) == 1 and model.files[0].sha256 is not None:
        return model.files[0].sha256
    known = "\n".join(file.sha256 or f"{file.path.name}:{file.size_bytes}" for file in model.files)
    return hashlib.sha256(known.encode()).hexdigest()


def parameter_size(count: int | None) -> str:
    """A parameter count in the form ``8.0B`` or ``134.5M``; empty when unknown."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"
