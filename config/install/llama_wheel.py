"""Builds the llama-cpp-python wheel for this machine from its hash-pinned source, or reuses one built before.

Wheels are kept per user, so that every checkout and virtual environment on a machine shares one build. Standard library
only: the installer runs this before anything else is there.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import llama_backend
import vulkan_headers
from build_progress import BuildProgress
from llama_backend import Choice, InstallError, Machine

HERE = Path(__file__).resolve().parent
LOCK = HERE / "locks" / "llama.txt"
CMAKE_INCLUDE = HERE / "llama_cpp.cmake"
_CORE_MINUTES = {"cpu": 5, "metal": 6, "cuda": 60, "vulkan": 20, "rocm": 50}  # of one idle core, roughly
_BUILD_VARIABLES = ("CMAKE_ARGS", "CC", "CXX", "CFLAGS", "CXXFLAGS", "CUDACXX", "HIPCXX")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what the built wheel contains; ``key`` names it in the cache."""

    version: str
    choice: Choice
    machine: Machine
    args: tuple[str, ...]
    key: str


def plan(requested: str | None, environ: Mapping[str, str] = os.environ) -> Recipe:
    """Return the recipe for this machine; ``requested`` is a backend's name, or nothing to let the machine decide."""
    machine = llama_backend.look(environ)
    choice = llama_backend.choose(machine, requested)
    args = llama_backend.cmake_args(choice.backend, CMAKE_INCLUDE)
    lock = LOCK.read_text(encoding="utf-8")
    found = re.search(r"^llama-cpp-python==(\S+)", lock, re.MULTILINE)
    if found is None:
        raise InstallError(f"{LOCK} does not pin llama-cpp-python", "run: make lock")
    settings = [lock, CMAKE_INCLUDE.read_text(encoding="utf-8"), *(a for a in args if CMAKE_INCLUDE.name not in a)]
    settings += [f"{name}={environ.get(name, '')}" for name in _BUILD_VARIABLES]
    if choice.backend == "vulkan" and (headers := vulkan_headers.find(environ)):
        # Named by their version, so that where they were unpacked does not matter.
        args += headers.cmake_args()
        settings.append(f"Vulkan headers {headers.version}")
    digest = hashlib.sha256("\n".join(settings).encode()).hexdigest()[:12]
    # The wheel is tagged py3: it loads its libraries through ctypes, so all Python versions share it.
    parts = (found[1], choice.backend, "py3", sysconfig.get_platform(), llama_backend.cpu_digest(), digest)
    return Recipe(found[1], choice, machine, args, "-".join(parts))


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where built wheels are kept: ``LILLIPUT_WHEEL_CACHE``, else a folder in the user's cache directory."""
    if own := environ.get("LILLIPUT_WHEEL_CACHE"):
        return Path(own).expanduser().absolute()
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lilliput" / "wheels"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lilliput" / "wheels"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lilliput" / "wheels"


def cached_wheel(cache: Path, key: str) -> Path | None:
    """Return the whole wheel stored under this key, if there is one."""
    return next((path for path in sorted((cache / key).glob("*.whl")) if zipfile.is_zipfile(path)), None)


def ensure(recipe: Recipe, python: Path, cache: Path) -> Path:
    """Return a wheel for the recipe, from the cache or built by ``python``, whose environment has the build tools."""
    if found := cached_wheel(cache, recipe.key):
        print(f"llama-cpp-python {recipe.version} ({recipe.choice.backend}): reusing the build in {found.parent}")
        return found
    _require_compilers()
    cache.mkdir(parents=True, exist_ok=True)
    cores = _cores()
    shortest = math.ceil(_CORE_MINUTES[recipe.choice.backend] / cores)
    print(f"llama-cpp-python {recipe.version}: building for {recipe.choice.backend} ({recipe.choice.reason})")
    usual = f"about {shortest} to {2 * shortest} min on {cores} cores"
    print(f"  once per machine, {usual}; BACKEND=... chooses another backend", flush=True)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as folder:
        wheel = _build(recipe, python, Path(folder), cache / "llama-cpp-python.log", cores)
        stored = _store(wheel, cache / recipe.key)
    passed_s = int(time.monotonic() - started_s)
    print(f"  built in {passed_s // 60} min {passed_s % 60} s: {stored}", flush=True)
    return stored


def _build(recipe: Recipe, python: Path, folder: Path, log: Path, cores: int) -> Path:
    environ = dict(os.environ) | llama_backend.build_environ(recipe.choice.backend, recipe.machine, os.environ)
    environ["PATH"] = os.pathsep.join((str(python.parent), environ.get("PATH", "")))  # ninja is beside python
    environ["CMAKE_ARGS"] = (
        f"{shlex.join(recipe.args)} {environ.get('CMAKE_ARGS', '')}".strip()
    )  # the user's come last and win
    environ.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(cores))
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    no_deps = ["--no-deps", "--no-build-isolation"]
    log.unlink(missing_ok=True)
    # Two steps: the source is checked against its hash, then built without pip's wheel cache, which knows no options.
    source = ["--require-hashes", "--no-binary", "llama-cpp-python", "-r", str(LOCK), "-d", str(folder)]
    _run([*pip, "download", *no_deps, *source], environ, log, "downloading the source")
    sdist = next(folder.glob("*.tar.gz"))
    wheels = folder / "wheels"
    build = ["--no-index", "--no-cache-dir", "-v", "-w", str(wheels), str(sdist)]
    _run([*pip, "wheel", *no_deps, *build], environ, log, "the build")
    return next(wheels.glob("*.whl"))


def _run(command: list[str], environ: dict[str, str], log: Path, what: str) -> None:
    """Run a command with its output in the log and its progress shown; raises InstallError with the last lines."""
    last: collections.deque[str] = collections.deque(maxlen=25)
    progress = BuildProgress()
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as child,
    ):
        for line in child.stdout or ():
            out.write(line)
            last.append(line.rstrip())
            progress.feed(line)
    progress.close()
    if child.returncode != 0:
        tail = "\n".join(f"  | {line[:300]}" for line in last)
        raise InstallError(
            f"llama-cpp-python: {what} failed (exit code {child.returncode}); the last lines were:\n{tail}",
            f"the whole output is in {log}",
        )


def _store(wheel: Path, target: Path) -> Path:
    """Move a built wheel to its place in the cache in one step; another build that was faster wins."""
    try:
        wheel.parent.rename(target)
    except OSError:
        if found := cached_wheel(target.parent, target.name):
            return found
        shutil.rmtree(target)
        wheel.parent.rename(target)
    return target / wheel.name


def _require_compilers() -> None:
    if shutil.which("cmake") is None:
        raise InstallError(
            "cmake was not found", "install it (Debian: apt install cmake; macOS: brew install cmake), 3.21 or newer"
        )
    own = os.environ.get("CXX")
    if sys.platform != "win32" and not own and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise InstallError(
            "no C++ compiler was found", "install one (Debian: apt install g++; macOS: xcode-select --install)"
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> int:
    """Build or find the wheel with the Python that runs this, and print its path as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=llama_backend.BACKENDS, default=os.environ.get("BACKEND") or None)
    options = parser.parse_args()
    try:
        print(ensure(plan(options.backend), Path(sys.executable), cache_dir()))
    except InstallError as error:
        print(f"error: {error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
