"""Which layers of an architecture attend through a sliding window, as llama.cpp decides it.

Sources: the ``load_arch_hparams`` functions under ``src/models`` of llama.cpp. What the file itself says comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from lilliput.gguf import Header


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Of every ``period`` layers all but one slide; the full one is the last, or the first when ``full_first``."""

    period: int
    default_window: int | None = None
    full_first: bool = False


_PATTERNS = {
    "afmoe": _Pattern(4),
    "cohere2": _Pattern(4),
    "cohere2moe": _Pattern(4),
    "exaone-moe": _Pattern(4),
    "exaone4": _Pattern(4),
    "gemma2": _Pattern(2, default_window=4096),
    "gemma3": _Pattern(6),
    "gemma3n": _Pattern(5),
    "gemma4": _Pattern(6),
    "gpt-oss": _Pattern(2),
    "llama4": _Pattern(4, default_window=8192),
    "olmo2": _Pattern(4),
    "plamo3": _Pattern(8),
    "smallthinker": _Pattern(4, default_window=4096, full_first=True),
}
_WINDOW_IGNORED = frozenset({"phi3"})
"""Architectures whose files name a window that llama.cpp does not use."""


def layer_windows(header: Header, layers: int) -> tuple[int | None, ...]:
    """The window of each layer in tokens, None for full attention.

    A window without a known pattern counts as full attention: too much memory is planned rather than too little.
    """
    architecture = header.architecture or ""
    known = _PATTERNS.get(architecture)
    window = header.sliding_window or (known.default_window if known else None)
    if not window or architecture in _WINDOW_IGNORED:
        return (None,) * layers
    said = header.metadata.get(f"{architecture}.attention.sliding_window_pattern")
    if isinstance(said, tuple) and said:
        return tuple(window if said[layer % len(said)] else None for layer in range(layers))
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        known = _Pattern(said, full_first=bool(known and known.full_first))
    if known is None:
        return (None,) * layers
    return tuple(window if _slides(known, layer) else None for layer in range(layers))


def _slides(pattern: _Pattern, layer: int) -> bool:
    if pattern.period == 0:
        return True
    place = layer % pattern.period
    return place != 0 if pattern.full_first else place < pattern.period - 1
