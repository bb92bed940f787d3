"""Files of a giant for the Hub: real headers, with a vocabulary of real size, before a hole of the real length."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.planner import make_planner, read_shape
from tests.support.shapes import Dense, ShapeFile, dense

from lilliput.gguf.writer import encode_header, encode_value, text, u32

LLAMA_70B: ShapeFile = dense("llama", Dense(80, 8192, 64, 8, 28672, 128256), rope__freq_base=500000.0)
TYPES = {
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "IQ4_XS": 30,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "Q8_0": 7,
    "IQ3_XXS": 23,
}
"""Quantization -> ``general.file_type``."""
_TOKENS, _MERGES = 128_256, 280_147


def write_repository(directory: Path) -> dict[str, str]:
    """Write 12 variants (some 100 MB on disk, where files may have holes); repository path -> file."""
    directory.mkdir(parents=True)
    facts = read_shape(LLAMA_70B)
    _, oracle = make_planner()
    mixes = asyncio.run(oracle.ask(facts.digest, facts.header, [], tuple(TYPES))).mixes
    metadata = {
        key: encode_value(value, facts.header.types[key])
        for key, value in facts.header.metadata.items()
        if not key.startswith("tokenizer.") and isinstance(value, str | int | float)
    }
    metadata |= {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.tokens": encode_value([f"token {number:09}" for number in range(_TOKENS)], "text[]"),
        "tokenizer.ggml.merges": encode_value([f"le ft{number:07}" for number in range(_MERGES)], "text[]"),
    }
    files = {}
    for name, file_type in TYPES.items():
        path = directory / f"Meta-Llama-3.1-70B-Instruct-{name}.gguf"
        content = encode_header(metadata | {"general.file_type": u32(file_type)}, mixes[name])
        last = mixes[name][-1]
        with path.open("wb") as file:
            file.write(content)
            file.truncate(len(content) + last.offset_bytes + last.size_bytes)
        files[path.name] = str(path)
    return files
