"""Real daemons that are treated badly. These tests take minutes: ``make test-chaos`` runs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.model import smollm2_path

SECONDS = float(os.environ.get("LILLIPUT_CHAOS_S", "300"))
"""How long clients go on in tests that are about time."""


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Three models by their paths: copies of the small one, files of their own."""
    folder = tmp_path / "copies"
    folder.mkdir()
    paths = [folder / f"{name}.gguf" for name in ("a", "b", "c")]
    for path in paths:
        shutil.copyfile(smollm2_path(), path)
    yield tuple(map(str, paths))
    shutil.rmtree(folder)
