"""Engines that crash on demand: a shim between libllama and libggml, compiled when it is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("extra_buffers.c")


def build_crash_shim(directory: Path) -> Path:
    """Compile the shim into ``directory``; its path goes into LD_PRELOAD."""
    target = directory / "extra_buffers.so"
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", target, SOURCE, "-ldl"], check=True, timeout=60)
    return target
