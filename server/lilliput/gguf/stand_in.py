"""Stand-ins: files that say what a model file says, so that llama.cpp can plan it, and hold none of its weights."""

from __future__ import annotations

from pathlib import Path

from lilliput.errors import BadFile
from lilliput.gguf.header import Header, Skipped, Tensor
from lilliput.gguf.writer import ALIGNMENT, encode_header, encode_value, place_tensors, text, u32
from lilliput.units import format_bytes

_TOKENIZER = "tokenizer."
_TYPE_ROWS = "tokenizer.ggml.token_type_count"
"""The rows of a tensor of encoders, although it stands among the vocabulary's keys."""

_SPLIT = "split."
_EMBEDDING = "token_embd.weight"
_MOST_TOKENS = 1 << 24
"""llama.cpp makes up a token for each entry of a missing vocabulary: absurd sizes would keep it for minutes."""

_MOST_BYTES = 1 << 43
"""Some times the largest model; file systems bound the length even of files that are mostly holes."""


def stand_in_bytes(header: Header) -> bytes:
    """The header of a model's stand-in: its metadata and tensor list.

    The vocabulary is replaced by its size: memory depends on nothing else of it, and a file without it loads in
    milliseconds. BadFile for a vocabulary that no model has.
    """
    _check_vocabulary(header)
    metadata = {
        key: encode_value(value, header.types[key])
        for key, value in header.metadata.items()
        if not isinstance(value, Skipped)
        and (key == _TYPE_ROWS or not key.startswith((_TOKENIZER, _SPLIT)))
        and key in header.types
    }
    metadata["general.alignment"] = u32(ALIGNMENT)
    metadata["tokenizer.ggml.model"] = text("no_vocab")
    if header.vocab_size:
        metadata[f"{header.architecture}.vocab_size"] = u32(header.vocab_size)
    return encode_header(metadata, _placed(header))


def _check_vocabulary(header: Header) -> None:
    tokens = header.vocab_size or 0
    rows = next((one.shape[-1] for one in header.tensors if one.name == _EMBEDDING), tokens)
    if tokens > min(rows, _MOST_TOKENS):
        raise BadFile(
            f"the file names {tokens:,} tokens, and its embedding has {rows:,} rows", hint="choose another file"
        )


def write_stand_in(header: Header, path: Path) -> None:
    """Write the stand-in as a sparse file whose tensor data is a hole: some 100 kB on disk, whatever its length.

    BadFile for weights that no model has.
    """
    content, placed = stand_in_bytes(header), _placed(header)
    end_bytes = placed[-1].offset_bytes + placed[-1].size_bytes if placed else 0
    if end_bytes > _MOST_BYTES:
        raise BadFile(f"its tensors would take {format_bytes(end_bytes)}", hint="choose another file")
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + end_bytes)


def _placed(header: Header) -> tuple[Tensor, ...]:
    return place_tensors((one.name, one.shape, one.type) for one in header.tensors)
