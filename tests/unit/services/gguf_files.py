"""Small GGUF files, written byte by byte."""

from __future__ import annotations

import struct


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def tiny_gguf(architecture: str | None = "llama", *, rows: int = 2, license_name: str | None = "mit") -> bytes:
    """A sound GGUF file with one F32 tensor of 32 x ``rows`` numbers."""
    texts = {"general.architecture": architecture, "general.license": license_name}
    entries = [(key, _text(key) + struct.pack("<I", 8) + _text(value)) for key, value in texts.items() if value]
    if architecture:
        key = f"{architecture}.context_length"
        entries.append((key, _text(key) + struct.pack("<II", 4, 2048)))
    tensor = _text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, rows, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entry for _, entry in entries) + tensor
    head += bytes(-len(head) % 32)
    return head + bytes(32 * rows * 4)
