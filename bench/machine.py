"""What a reader of the results must know: the machine, the builds, the moment."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.peers import llama_server
from lilliput import __version__
from lilliput.hardware import read_cpu, read_memory
from lilliput.llama import build_digest


def describe() -> dict[str, Any]:
    """Facts as JSON values; unknown ones are None."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": asdict(read_cpu()),
        "memory": asdict(read_memory()),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "lilliput": __version__,
        "commit": _commit(),
        "llama_cpp_python": importlib.metadata.version("llama-cpp-python"),
        "llama_cpp_build": build_digest(),
        "llama_server": {"version": llama_server.VERSION, "options": list(llama_server.CMAKE_OPTIONS)},
    }


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
