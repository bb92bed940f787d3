"""The devices this build can compute on. Run as a child: ``python -m lilliput.llama.devices`` prints them as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
"""``enum ggml_backend_dev_type`` of ggml-backend.h."""


def list_devices() -> list[dict[str, Any]]:
    """Name, description, kind and memory (bytes) of each device but the CPU, whose memory ggml does not know.

    The symbols are taken from the library that libllama itself has loaded: another handle on ggml may hold a device
    registry of its own, and a model would then silently stay on the CPU.
    """
    from llama_cpp import llama_cpp as c

    from lilliput.llama.library import start_library

    start_library()
    library = c._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    devices = [library.ggml_backend_dev_get(index) for index in range(library.ggml_backend_dev_count())]
    described = [_describe(library, device) for device in devices]
    return [device for device in described if device["kind"] != "cpu"]


def _describe(library: ctypes.CDLL, device: int) -> dict[str, Any]:
    for symbol in ("ggml_backend_dev_name", "ggml_backend_dev_description"):
        getattr(library, symbol).restype = ctypes.c_char_p
        getattr(library, symbol).argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    library.ggml_backend_dev_memory.restype = None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return {
        "name": library.ggml_backend_dev_name(device).decode("utf-8", "replace"),
        "description": library.ggml_backend_dev_description(device).decode("utf-8", "replace"),
        "kind": _KINDS.get(library.ggml_backend_dev_type(device), "unknown"),
        "total_bytes": total.value,
        "free_bytes": free.value,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list_devices()) + "\n")
