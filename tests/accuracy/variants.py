"""Every variant of a small model that can be made here, one at a time."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.model import gemma_path, smollm2_path

from lilliput.gguf import FileSource, Header, Tensor, read_header

# fmt: off
QUANTIZED = (
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S",
    "Q4_1", "Q4_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "TQ2_0", "TQ1_0", "MXFP4_MOE",
)
# fmt: on
"""What llama.cpp makes of a quantized file without an importance matrix, in seconds."""

LAID_OUT = ("IQ4_NL", "IQ4_XS", "IQ3_M")
"""Types whose quantization takes minutes: files with the tensors that llama.cpp would make, and zeros in them."""

KINDS = (*QUANTIZED, *LAID_OUT)

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Source:
    """A model that variants are made of, and which of them the file is."""

    name: str
    path: Path
    original: str

    def header(self) -> Header:
        """What the file says."""
        with FileSource(self.path) as source:
            return read_header(source)


def sources() -> tuple[Source, ...]:
    """The models that the tests run."""
    return (
        Source("SmolLM2-135M-Instruct", smollm2_path(), "Q4_1"),
        Source("gemma-3-270m", gemma_path(), "Q4_K_M"),
    )


@contextmanager
def variant_file(source: Source, kind: str, tensors: Sequence[Tensor], directory: Path) -> Iterator[Path]:
    """The model as ``kind``, gone afterwards; ``tensors`` are those that the planned file has.

    The original is copied: other processes that map the same file would take a share of it.
    """
    target = directory / f"{source.name}-{kind}.gguf"
    try:
        if kind == source.original:
            shutil.copyfile(source.path, target)
        elif kind in LAID_OUT:
            _lay_out(source, tensors, target)
        else:
            _quantize(source.path, target, kind)
        yield target
    finally:
        target.unlink(missing_ok=True)


def _quantize(source: Path, target: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.support.quantize", str(source), str(target), kind, "-"]
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{target.name} could not be made (status {done.returncode})")


def _lay_out(source: Source, tensors: Sequence[Tensor], target: Path) -> None:
    """The metadata of the source as it stands, the tensors' list, and a hole."""
    header = source.header()
    with source.path.open("rb") as file:
        head = file.read(header.data_offset_bytes)
    metadata = head[24 : head.index(_string(header.tensors[0].name))]
    (count,) = struct.unpack("<Q", head[16:24])
    content = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), count) + metadata
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        content += _string(tensor.name) + shape + struct.pack("<IQ", tensor.type.type_id, tensor.offset_bytes)
    content += bytes(-len(content) % 32)
    with target.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + -(-(tensors[-1].offset_bytes + tensors[-1].size_bytes) // 32) * 32)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
