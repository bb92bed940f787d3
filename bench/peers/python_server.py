"""llama-cpp-python's own server: part of the installed binding; what it needs beyond this project is kept apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.peers.llama_server import BuildFailed, Tell, cache_dir
from lilliput.llama import Rung

REQUIREMENTS = ("sse-starlette==3.7.0", "starlette-context==0.3.6", "PyYAML==6.0.3")
"""Versions that work with the web framework of this project's lock file."""


def ensure(tell: Tell) -> Path:
    """The folder that holds its extra packages, installed there once without their dependencies; raises BuildFailed."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_dir() / f"llama-cpp-python-server-{version}-{'-'.join(REQUIREMENTS).replace('==', '-')}"
    if folder.exists():
        return folder
    tell("llama-cpp-python's server: installing what it needs beyond this project")
    cache_dir().mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(unfinished)]
    done = subprocess.run([*pip, *REQUIREMENTS], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"the packages of llama-cpp-python's server could not be installed: {done.stderr[-500:]}")
    unfinished.rename(folder)
    return folder


def command(model: Path, port: int, context_tokens: int, threads: int, rung: Rung) -> list[str]:
    """The command that serves ``model``: one request at a time, held to what this CPU bears where a process can be."""
    return [
        *(sys.executable, "-c", _HELD_TO, rung, "--model", str(model), "--host", "127.0.0.1"),
        *("--port", str(port), "--n_ctx", str(context_tokens)),
        *("--n_threads", str(threads), "--n_threads_batch", str(threads)),
    ]


_HELD_TO = """
import runpy, sys
from lilliput.llama.rungs import apply
apply(sys.argv.pop(1))
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""
