"""Variants of the real small model, made from it: quantizations and a split set."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.model import smollm2_path

from lilliput.gguf import BytesSource, Tensor, read_header

_ROOT = Path(__file__).parents[2]
_STEM = "SmolLM2-135M-Instruct"
_ORIGINAL = "Q4_1"
_MADE = {"Q8_0": "-", "Q5_0": "-", "Q4_K_M": "Q4_0", "Q4_0": "-", "Q2_K": "Q4_0"}
"""Quantization, and what the token embedding is to be: it is a third of so small a model."""

_TIMEOUT_S = 120.0
SHARDS = 2


@dataclass(frozen=True, slots=True)
class Variants:
    """Files on disk by quantization, and one of them as a split set in load order."""

    files: dict[str, Path]
    split: tuple[Path, ...]

    def path(self, quantization: str) -> Path:
        """The whole file of a quantization."""
        return self.files[quantization]

    def size_bytes(self, quantization: str) -> int:
        """Its size."""
        return self.path(quantization).stat().st_size

    def served(self, *quantizations: str) -> dict[str, str]:
        """Repository paths mapped to files, as ``RepositoryConfig`` wants them; all quantizations without arguments."""
        return {self.path(one).name: str(self.path(one)) for one in quantizations or self.files}


def make_variants(directory: Path) -> Variants:
    """Write all variants into ``directory``: about 600 MB in 10 s on two cores."""
    original = smollm2_path()
    files = {kind: directory / f"{_STEM}-{kind}.gguf" for kind in _MADE}
    _quantize(original, files)
    link = directory / f"{_STEM}-{_ORIGINAL}.gguf"
    link.symlink_to(original)
    return Variants(files | {_ORIGINAL: link}, split(files["Q4_K_M"], SHARDS))


def split(source: Path, count: int) -> tuple[Path, ...]:
    """``source`` as ``count`` files beside it: metadata in the first, the set in each, as llama.cpp does."""
    content = source.read_bytes()
    header = read_header(BytesSource(content))
    tensors = header.tensors
    ours, most = int.from_bytes(content[16:24], "little"), -(-len(tensors) // count)
    metadata = content[24 : content.index(_string(tensors[0].name))]
    targets = [source.with_name(f"{source.stem}-{index:05d}-of-{count:05d}.gguf") for index in range(1, count + 1)]
    for index, target in enumerate(targets):
        members = tensors[index * most : (index + 1) * most]
        first = header.data_offset_bytes + members[0].offset_bytes
        last = header.data_offset_bytes + members[-1].offset_bytes + members[-1].size_bytes
        infos = b"".join(_info(tensor, members[0].offset_bytes) for tensor in members)
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(members), 3 if index else ours + 3)
        head += (b"" if index else metadata) + _set_metadata(index, count, len(tensors)) + infos
        target.write_bytes(head + bytes(-len(head) % header.alignment) + content[first:last])
    return tuple(targets)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _set_metadata(index: int, count: int, tensors: int) -> bytes:
    uint16, int32 = 2, 5
    return (
        _string("split.no")
        + struct.pack("<IH", uint16, index)
        + _string("split.count")
        + struct.pack("<IH", uint16, count)
        + _string("split.tensors.count")
        + struct.pack("<Ii", int32, tensors)
    )


def _info(tensor: Tensor, start_bytes: int) -> bytes:
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return _string(tensor.name) + shape + struct.pack("<IQ", tensor.type.type_id, tensor.offset_bytes - start_bytes)


def _quantize(source: Path, files: dict[str, Path]) -> None:
    orders = [word for kind, target in files.items() for word in (str(target), kind, _MADE[kind])]
    command = [sys.executable, "-m", "tests.support.quantize", str(source), *orders]
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the variants could not be made (status {done.returncode}): {done.stderr.decode()}")
