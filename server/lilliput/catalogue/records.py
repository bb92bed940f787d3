"""What an installed model is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["embedded", "hub", "file"]


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """One file on disk; ``sha256`` is bare hex, None where it was never computed."""

    path: Path
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One installed variant: a quantization with all its shards, in load order (the engine opens the first)."""

    name: str
    source: Source
    files: tuple[InstalledFile, ...]
    repo: str | None = None
    revision: str | None = None
    quantization: str | None = None
    architecture: str | None = None
    context_length: int | None = None
    parameter_count: int | None = None
    license: str | None = None
    installed_at: float = 0.0

    @property
    def path(self) -> Path:
        """The file the engine opens."""
        return self.files[0].path

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)
