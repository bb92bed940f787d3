"""Quantize a model file once more: ``python -m tests.support.quantize SOURCE {TARGET TYPE EMBEDDING_TYPE}...``.

A process of its own, since llama.cpp ends the process at what it does not like. Types by llama.cpp's names: ``Q4_0``;
``-`` leaves the token embedding's to it.
"""

from __future__ import annotations

import ctypes
import sys

from llama_cpp import llama_cpp as c

THREADS = 2


def _ignore(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """Keep what llama.cpp says of each tensor from the tests' output."""


_SILENT = c.llama_log_callback(_ignore)


def quantize(source: str, target: str, kind: str, embedding_kind: str) -> int:
    """Write ``source`` as ``kind`` to ``target``; llama.cpp's status, 0 for success."""
    c.llama_log_set(_SILENT, ctypes.c_void_p(0))
    parameters = c.llama_model_quantize_default_params()
    parameters.nthread = THREADS
    parameters.allow_requantize = True
    parameters.ftype = getattr(c, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if embedding_kind != "-":
        parameters.token_embedding_type = getattr(c, f"GGML_TYPE_{embedding_kind}")
    return int(c.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))


if __name__ == "__main__":
    model, *orders = sys.argv[1:]
    sys.exit(max(quantize(model, *orders[at : at + 3]) for at in range(0, len(orders), 3)))
