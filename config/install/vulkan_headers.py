"""The headers that llama.cpp's Vulkan backend is compiled with, where a system's are too old. Standard library only.

    python3 config/install/vulkan_headers.py           # fetch newer ones, as a user, beside the system's

Debian 12 has the Vulkan loader and the shader compiler that are needed, but headers from before the extension that
llama.cpp uses. Only headers are fetched: nothing of the system changes, and programs run with the system's loader.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_backend import InstallError

_PACKAGES = ("libvulkan-dev", "spirv-headers")
_SUITE = "trixie"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NEEDED = "VK_EXT_layer_settings"
"""The newest extension that ggml-vulkan.cpp uses without asking the headers' version first."""

_SYSTEM = (Path("/usr"), Path("/usr/local"))
_DRIVER_FOLDERS = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"), Path("/usr/local/share/vulkan/icd.d"))
_COMMAND = "python3 config/install/vulkan_headers.py"


@dataclass(frozen=True, slots=True)
class Headers:
    """An installation prefix with ``include/vulkan``, the version in it, and whether llama.cpp compiles with them."""

    prefix: Path
    version: str
    new_enough: bool

    def cmake_args(self) -> tuple[str, ...]:
        """Return the options that make CMake use these and not the system's."""
        spirv = self.prefix / "share" / "cmake" / "SPIRV-Headers"
        include = f"-DVulkan_INCLUDE_DIR={(self.prefix / 'include').as_posix()}"
        return (include, f"-DSPIRV-Headers_DIR={spirv.as_posix()}") if spirv.is_dir() else (include,)


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where fetched headers are kept: a folder in the user's cache directory."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lilliput" / "vulkan-headers"


def read(prefix: Path) -> Headers | None:
    """Return the headers under an installation prefix, or under the ``usr`` of an unpacked package there."""
    for root in (prefix, prefix / "usr"):
        core = root / "include" / "vulkan" / "vulkan_core.h"
        if core.is_file():
            text = core.read_text(encoding="utf-8", errors="replace")
            return Headers(root, _version(text), f"#define {_NEEDED} 1" in text)
    return None


def find(environ: Mapping[str, str] = os.environ, system: Sequence[Path] = _SYSTEM) -> Headers | None:
    """Return headers to name to CMake: those of ``VULKAN_HEADERS``, else fetched ones where the system's are too old.

    None leaves the search to CMake: the system's own do, or there is an SDK (``VULKAN_SDK``), or none were found.
    Raises InstallError where only headers that are too old were found.
    """
    if own := environ.get("VULKAN_HEADERS"):
        headers = read(Path(own).expanduser().absolute())
        if headers is None:
            raise InstallError(f"VULKAN_HEADERS={own} has no include/vulkan/vulkan_core.h", f"fetch some: {_COMMAND}")
        return _new_enough(headers)
    if environ.get("VULKAN_SDK"):
        return None
    found = next(filter(None, map(read, system)), None)
    if found is None or found.new_enough:
        return None
    return _new_enough(read(default_folder(environ)) or found)


def missing_packages(environ: Mapping[str, str] = os.environ, system: Sequence[Path] = _SYSTEM) -> list[str]:
    """Return the Debian packages that a Vulkan build and Mesa's software device need and that are not there."""
    found = next(filter(None, map(read, system)), None)
    named = bool(environ.get("VULKAN_HEADERS") or environ.get("VULKAN_SDK"))
    spirv = any((prefix / "share" / "cmake" / "SPIRV-Headers").is_dir() for prefix in system)
    present = {
        "glslc": shutil.which("glslc") is not None,
        "libvulkan-dev": found is not None,
        "spirv-headers": spirv or named or found is None or not found.new_enough,  # fetched headers bring their own
        "mesa-vulkan-drivers": any(folder.glob("lvp_icd*.json") for folder in _DRIVER_FOLDERS if folder.is_dir()),
    }
    return [package for package, there in present.items() if not there]


def require_software_gpu() -> None:
    """Raise InstallError, with the command that helps, unless Vulkan can be built for and run without a GPU here."""
    if missing := missing_packages():
        raise InstallError(
            f"the software GPU needs packages that are not installed: {' '.join(missing)}",
            f"as an administrator: apt install {' '.join(missing)}",
        )
    find()


def fetch(folder: Path, suite: str) -> Headers:
    """Download the header packages of a suite through the configured Debian archive and unpack them into ``folder``.

    apt works on lists and a cache of its own in a temporary folder, so that neither root nor a change of the system's
    sources is needed; signatures are checked with Debian's keys as always.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InstallError(f"{tool} was not found", "unpack newer Vulkan headers yourself and set VULKAN_HEADERS")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vulkan-headers-", dir=folder.parent) as text:
        work = Path(text)
        environ = dict(os.environ) | {"APT_CONFIG": str(_apt_config(work, suite))}
        _run(["apt-get", "-qq", "update"], work, environ)
        _run(["apt-get", "-qq", "download", *_PACKAGES], work, environ)
        unpacked = work / "unpacked"
        for package in sorted(work.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(unpacked)], work, environ)
        _new_enough(read(unpacked))
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return _new_enough(read(folder))


def _apt_config(work: Path, suite: str) -> Path:
    for part in ("state/lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True)
    keys = f"[signed-by={_KEYS}] " if _KEYS.is_file() else ""
    (work / "sources.list").write_text(f"deb {keys}{_archive()} {suite} main\n", encoding="utf-8")
    config = work / "apt.conf"
    options = {
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
    }
    config.write_text("".join(f'{name} "{value}";\n' for name, value in options.items()), encoding="utf-8")
    return config


def _archive() -> str:
    """The address of the Debian archive that apt is configured for; security updates come from another."""
    listed = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
    ]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    for codename, address in (row for row in rows if len(row) == 2):
        if "-" not in codename:
            return address
    raise InstallError(
        "apt knows no Debian archive to fetch headers from",
        "run apt-get update first; on other systems unpack newer Vulkan headers yourself and set VULKAN_HEADERS",
    )


def _run(command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        said = "\n".join(f"  | {line[:300]}" for line in lines)
        raise InstallError(
            f"{' '.join(command[:3])} failed (exit code {done.returncode}):\n{said}", "see its messages above"
        )


def _new_enough(headers: Headers | None) -> Headers:
    if headers is None:
        raise InstallError("the packages held no Vulkan headers", "try another --suite, or set VULKAN_HEADERS")
    if not headers.new_enough:
        raise InstallError(
            f"the Vulkan headers {headers.version} in {headers.prefix} are too old for llama.cpp: no {_NEEDED}",
            f"fetch newer ones beside them, as a user: {_COMMAND}",
        )
    return headers


def _version(core: str) -> str:
    complete = re.search(r"VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(\d+, (\d+), (\d+),", core)
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", core)
    return f"{complete[1]}.{complete[2]}.{patch[1]}" if complete and patch else "of an unknown version"


def main(arguments: list[str] | None = None) -> int:
    """Fetch headers, or with ``--check`` say what a software GPU still needs here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where they go (%(default)s)")
    parser.add_argument("--suite", default=_SUITE, help="the Debian release that has them (%(default)s)")
    parser.add_argument("--check", action="store_true", help="fetch nothing; fail where something is missing")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            require_software_gpu()
        else:
            headers = fetch(options.folder.expanduser().absolute(), options.suite)
            print(f"Vulkan headers {headers.version}: {headers.prefix}")
    except InstallError as error:
        print(f"error: {error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
