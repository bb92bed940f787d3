"""How the vectors of an input's tokens become one, as the model's file or the caller says."""

from __future__ import annotations

import ctypes

from llama_cpp import llama_cpp as c

from lilliput.errors import InvalidRequest

POOLINGS = {
    "mean": c.LLAMA_POOLING_TYPE_MEAN,
    "cls": c.LLAMA_POOLING_TYPE_CLS,
    "last": c.LLAMA_POOLING_TYPE_LAST,
    "rank": c.LLAMA_POOLING_TYPE_RANK,
}
_VALUE_BYTES = 256


def pooling_type(model: c.llama_model_p, name: str) -> int:
    """The number of ``name`` in ``enum llama_pooling_type``; ``auto`` is the file's own, the mean where it has none.

    Raises InvalidRequest for a name that is no pooling.
    """
    if name != "auto":
        if name not in POOLINGS:
            raise InvalidRequest(f"{name!r} is no pooling", param="pooling", hint=f"one of {', '.join(POOLINGS)}")
        return POOLINGS[name]
    own = _metadata(model, f"{_metadata(model, 'general.architecture')}.pooling_type")
    known = own.isdecimal() and int(own) in POOLINGS.values()
    return int(own) if known else POOLINGS["mean"]


def _metadata(model: c.llama_model_p, key: str) -> str:
    """A value of the file's metadata as text; empty when there is none."""
    buffer = ctypes.create_string_buffer(_VALUE_BYTES)
    size = c.llama_model_meta_val_str(model, key.encode(), buffer, _VALUE_BYTES)
    return buffer.value.decode("utf-8", "replace") if size >= 0 else ""
