"""Which build of the binding is installed, found without loading it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = "llama_cpp"
_DISTRIBUTION = "llama-cpp-python"
_PINNED = re.compile(rf"{_DISTRIBUTION}\s*==\s*([\w.]+)")
_NUMBERED = re.compile(r"lib(.+)\.so\.(\d+\.\d+\.\d+)|lib(.+)\.(\d+\.\d+\.\d+)\.dylib")
_BACKEND = re.compile(r"(?:lib)?ggml-(cuda|hip|vulkan|metal|sycl|opencl|cann|musa|cpu)\b")


@dataclass(frozen=True, slots=True)
class Build:
    """What is installed: versions of the binding found on the path, the one that this project is pinned to (None when
    run from sources that were never installed), and the folders of the package, the one in use first.

    ``backends`` are those with a library of their own. ``libraries`` gives the versions of each numbered library:
    more than one are remains of another build. ``strangers`` are libraries of llama.cpp that the system's loader would
    find before ours.
    """

    versions: tuple[str, ...]
    pinned: str | None
    folders: tuple[str, ...]
    backends: tuple[str, ...]
    libraries: Mapping[str, tuple[str, ...]]
    strangers: tuple[str, ...]
    digest: str


def build_digest() -> str:
    """A short digest that changes whenever the binding or one of its shared libraries does."""
    digest = hashlib.sha256(importlib.metadata.version(_DISTRIBUTION).encode())
    for path in _libraries():
        stat = path.stat()
        digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def read_build(path: Sequence[str] | None = None, loader_path: str | None = None) -> Build:
    """The build that processes of this environment load, and what else of its kind lies about.

    ``path`` stands for ``sys.path``, ``loader_path`` for the variables LLAMA_CPP_LIB_PATH and LD_LIBRARY_PATH.
    """
    places = [*dict.fromkeys(str(Path(place or ".").resolve()) for place in (sys.path if path is None else path))]
    found = importlib.metadata.distributions(name=_DISTRIBUTION, path=places)
    names = [library.name for library in _libraries()]
    return Build(
        versions=tuple(dict.fromkeys(one.version for one in found)),
        pinned=_pinned(),
        folders=tuple(str(Path(place, _PACKAGE)) for place in places if Path(place, _PACKAGE, "__init__.py").is_file()),
        backends=tuple(sorted({match[1] for name in names if (match := _BACKEND.match(name))})),
        libraries=_numbers(names),
        strangers=_strangers(_loader_path() if loader_path is None else loader_path),
        digest=build_digest(),
    )


def _libraries() -> list[Path]:
    spec = importlib.util.find_spec(_PACKAGE)
    places = (spec.submodule_search_locations or []) if spec else []
    return [path for place in places for path in sorted(Path(place, "lib").glob("*"))]


def _pinned() -> str | None:
    try:
        wanted = importlib.metadata.requires("lilliput") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((match[1] for line in wanted if (match := _PINNED.match(line))), None)


def _numbers(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is not None:
            stem, number = match[1] or match[3], match[2] or match[4]
            found[stem] = (*found.get(stem, ()), number)
    return found


def _loader_path() -> str:
    """Where the binding, and then the loader, look for libraries before the package's own folder."""
    return os.pathsep.join(os.environ.get(name, "") for name in ("LLAMA_CPP_LIB_PATH", "LD_LIBRARY_PATH"))


def _strangers(loader_path: str) -> tuple[str, ...]:
    """Libraries of the same names in these folders."""
    own = {str(path.parent.resolve()) for path in _libraries()}
    folders = [Path(part).resolve() for part in loader_path.split(os.pathsep) if part]
    return tuple(
        str(path)
        for folder in dict.fromkeys(folders)
        if str(folder) not in own
        for stem in ("libllama", "libggml")
        for path in sorted(folder.glob(f"{stem}*.so*"))
    )
