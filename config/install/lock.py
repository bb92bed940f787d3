"""Regenerates the hash-pinned lock files from ``pyproject.toml``, for all supported Python versions and systems.

Needs uv, which the development environment has. The package index is whichever uv is configured for; no lock names it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOCKS = HERE / "locks"
BUILT_APART = "llama-cpp-python"
_QUIET = ("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet")
# One version of a package for all Python versions, so that types and tests mean the same on each.
_PORTABLE = ("--universal", "--fork-strategy", "fewest", "--python-version", "3.11", "--generate-hashes")


def main() -> int:
    """Write every lock file; versions that are pinned already stay unless ``--upgrade`` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest allowed versions")
    more = ("--upgrade",) if parser.parse_args().upgrade else ()
    pyproject = str(ROOT / "pyproject.toml")
    dev = LOCKS / "dev.txt"
    # dev first: the runtime lock is held to its versions, so that tests run what is shipped.
    _compile("dev.txt", (pyproject, "--group", "dev", "--no-emit-package", BUILT_APART, *more))
    _compile("runtime.txt", (pyproject, "--no-emit-package", BUILT_APART, "--constraints", str(dev), *more))
    _compile("build.txt", ("--group", "build", "--constraints", str(dev), *more))
    _compile("model.txt", ("--group", "model", "--no-deps", *more))
    _compile("test-models.txt", ("--group", "test-models", "--no-deps", *more))
    _compile("llama.txt", ("-", "--no-deps"), stdin=_llama_requirement())
    _compile("nvidia.txt", ("-", "--no-deps", *more), stdin=_nvidia_requirement())
    return 0


def _compile(name: str, arguments: tuple[str, ...], stdin: str | None = None) -> None:
    uv = Path(sysconfig.get_path("scripts")) / ("uv.exe" if sys.platform == "win32" else "uv")
    print(f"{LOCKS.relative_to(ROOT).as_posix()}/{name}", flush=True)
    command = [str(uv), "pip", "compile", *_QUIET, *_PORTABLE, "--output-file", str(LOCKS / name), *arguments]
    subprocess.run(command, cwd=ROOT, input=stdin, text=True, stdout=subprocess.DEVNULL, check=True)


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _llama_requirement() -> str:
    dependencies: list[str] = _project()["dependencies"]
    return next(line for line in dependencies if line.startswith(BUILT_APART))


def _nvidia_requirement() -> str:
    (requirement,) = _project()["optional-dependencies"]["nvidia"]
    return str(requirement)


if __name__ == "__main__":
    sys.exit(main())
