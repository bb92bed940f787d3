"""Children of a process that do something else than they were started for, on every system."""

from __future__ import annotations

from pathlib import Path

import pytest


def instead(directory: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Every Python that is started from now on runs this before anything else."""
    (directory / "sitecustomize.py").write_text(f"import os, time\n{does}\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(directory))
