"""The devices this build can compute on. Run as a child: ``python -m lilliput.llama.devices`` prints them as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
"""``enum ggml_backend_dev_type`` of ggml-backend.h."""

_SPARE_BYTES = 256
"""Room after the properties that are known here: a newer library that writes more of them must not write elsewhere."""


class _Properties(ctypes.Structure):
    """The head of ``struct ggml_backend_dev_props`` of ggml-backend.h, up to the last member that is read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities_and_more", ctypes.c_byte * _SPARE_BYTES),
    )


def list_devices() -> list[dict[str, Any]]:
    """Each device but the CPU, whose memory ggml does not know; memory in bytes, unknown facts None.

    Keys: ``name`` ("CUDA0"), ``description``, ``kind``, ``total_bytes``, ``free_bytes``, ``backend`` ("CUDA") and
    ``device_id`` (the PCI address). The symbols are taken from the library that libllama itself has loaded: another
    handle on ggml may hold a device registry of its own, and a model would then silently stay on the CPU.
    """
    from llama_cpp import llama_cpp as c

    from lilliput.llama.library import start_library

    start_library()
    return [device for device in describe_devices(c._lib) if device["kind"] != "cpu"]


def describe_devices(library: ctypes.CDLL) -> list[dict[str, Any]]:
    """All devices, the CPU too, in the registry that ``library`` reaches."""
    _declare(library)
    devices = [library.ggml_backend_dev_get(index) for index in range(library.ggml_backend_dev_count())]
    return [_describe(library, device) for device in devices]


def _declare(library: ctypes.CDLL) -> None:
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get_props.restype = None
    library.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Properties)]
    library.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    library.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
    library.ggml_backend_reg_name.restype = ctypes.c_char_p
    library.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]


def _describe(library: ctypes.CDLL, device: int) -> dict[str, Any]:
    properties = _Properties()
    library.ggml_backend_dev_get_props(device, ctypes.byref(properties))
    registry = library.ggml_backend_dev_backend_reg(device)
    return {
        "name": _text(properties.name) or "",
        "description": _text(properties.description) or "",
        "kind": _KINDS.get(properties.type, "unknown"),
        "total_bytes": properties.memory_total,
        "free_bytes": properties.memory_free,
        "backend": _text(library.ggml_backend_reg_name(registry)) if registry else None,
        "device_id": _text(properties.device_id),
    }


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value else None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list_devices()) + "\n")
