"""Which compute backend llama.cpp is built for on this machine, and with which CMake options. Standard library only."""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BACKENDS = ("cpu", "cuda", "metal", "vulkan", "rocm")

# Only the libraries are used: no programs, no multimodal library. The included file turns off what options cannot.
_COMMON_ARGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
_BACKEND_ARGS: Mapping[str, tuple[str, ...]] = {
    "cpu": (),
    "cuda": ("-DGGML_CUDA=ON",),
    "metal": ("-DGGML_METAL=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "rocm": ("-DGGML_HIP=ON",),
}


class InstallError(Exception):
    """A step cannot be done: the message names it, ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters for the choice: paths of the build tools found, and what shows that an NVIDIA GPU can be used."""

    system: str
    nvcc: str | None = None
    nvidia_driver: str | None = None
    glslc: str | None = None
    hipconfig: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend to build, one of ``BACKENDS``, and a sentence that says why."""

    backend: str
    reason: str


def look(environ: Mapping[str, str] = os.environ) -> Machine:
    """Return what this machine has; runs ``nvidia-smi`` when it is there."""
    return Machine(
        system=platform.system(),
        nvcc=_find("nvcc", environ, ("CUDA_HOME", "CUDA_PATH"), "/usr/local/cuda/bin"),
        nvidia_driver=_nvidia_driver(),
        glslc=_find("glslc", environ, ("VULKAN_SDK",), None),
        hipconfig=_find("hipconfig", environ, ("ROCM_PATH", "HIP_PATH"), "/opt/rocm/bin"),
    )


def choose(machine: Machine, requested: str | None) -> Choice:
    """Return the requested backend if its tools are there, else the best that this machine can build and use."""
    if requested:
        _require_tools(machine, requested)
        return Choice(requested, "asked for with BACKEND")
    if machine.system == "Darwin":
        return Choice("metal", "this is macOS")
    if machine.nvcc and machine.nvidia_driver:
        return Choice("cuda", f"nvcc is at {machine.nvcc} and {machine.nvidia_driver}")
    if machine.nvcc:
        return Choice("cpu", f"nvcc is at {machine.nvcc}, but no NVIDIA driver or GPU was found")
    if machine.nvidia_driver:
        return Choice(
            "cpu", f"{machine.nvidia_driver}, but nvcc was not found: install the CUDA toolkit to use the GPU"
        )
    return Choice("cpu", "no accelerator toolkit was found")


def cmake_args(backend: str, project_include: Path) -> tuple[str, ...]:
    """Return the CMake options of a backend; ``project_include`` is the CMake file to read into the project."""
    include = f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={project_include.as_posix()}"
    return (*_COMMON_ARGS, *_BACKEND_ARGS[backend], include, f"-DLILLIPUT_BACKEND={backend}")


def build_environ(backend: str, machine: Machine, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that point CMake at the backend's compiler where it would not find it itself."""
    if backend == "cuda" and machine.nvcc and "CUDACXX" not in environ:
        return {"CUDACXX": machine.nvcc}
    if backend == "rocm" and machine.hipconfig:
        clang = Path(_output([machine.hipconfig, "-l"]).strip()) / "clang"
        found = {"HIPCXX": str(clang), "HIP_PATH": _output([machine.hipconfig, "-R"]).strip()}
        return {name: value for name, value in found.items() if name not in environ}
    return {}


def cpu_digest() -> str:
    """Return 12 hex digits for this CPU's instruction sets and C library: a native build fits only its like."""
    text = "\n".join((platform.machine(), " ".join(platform.libc_ver()), _cpu_features()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cpu_features() -> str:
    if sys.platform == "darwin":
        keys = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features", "hw.optional.arm")
        return "\n".join(_output(["sysctl", "-n", key]) for key in keys)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        return features_of(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    return f"{platform.processor()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"


def features_of(cpuinfo: str) -> str:
    """Return the sorted feature words that all CPUs listed in the text of ``/proc/cpuinfo`` share."""
    rows = (line.partition(":") for line in cpuinfo.splitlines())
    words = [set(value.split()) for key, _, value in rows if key.strip() in {"flags", "Features", "isa"}]
    return " ".join(sorted(set.intersection(*words))) if words else ""


def _require_tools(machine: Machine, backend: str) -> None:
    if backend not in BACKENDS:
        raise InstallError(f"BACKEND={backend} is not known", f"use one of {', '.join(BACKENDS)}")
    missing = {
        "cuda": None if machine.nvcc else "nvcc, of the CUDA toolkit",
        "metal": None if machine.system == "Darwin" else "macOS",
        "vulkan": None if machine.glslc else "glslc, of the Vulkan SDK (Debian: glslc libvulkan-dev spirv-headers)",
        "rocm": None if machine.hipconfig else "hipconfig, of ROCm",
    }.get(backend)
    if missing:
        raise InstallError(f"BACKEND={backend} needs {missing}, which was not found", "install it, or use BACKEND=cpu")


def _find(tool: str, environ: Mapping[str, str], homes: tuple[str, ...], usual: str | None) -> str | None:
    places = [str(Path(environ[home]) / "bin") for home in homes if environ.get(home)]
    for path in (None, *places, usual):
        found = shutil.which(tool, path=path) if path else shutil.which(tool)
        if found:
            return found
    return None


def _nvidia_driver() -> str | None:
    if "GPU" in _output(["nvidia-smi", "-L"]):
        return "nvidia-smi lists a GPU"
    if Path("/dev/nvidia0").exists():
        return "/dev/nvidia0 exists"
    if ctypes.util.find_library("nvcuda" if sys.platform == "win32" else "cuda"):
        return "the NVIDIA driver library is installed"
    return None


def _output(command: list[str]) -> str:
    """Return what a command prints, or nothing where it is missing, fails or takes longer than 20 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
