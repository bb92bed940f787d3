"""The devices this build can compute on. Run as a child: ``python -m lilliput.llama.devices`` prints them as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from bisect import bisect_left
from typing import Any

from lilliput.children import end_with_parent

_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
"""``enum ggml_backend_dev_type`` of ggml-backend.h."""

_F32, _F16 = 0, 1
"""``GGML_TYPE_F32`` and ``GGML_TYPE_F16`` of ggml.h."""

_ROW_ELEMENTS = 8192
_ROW_BYTES = 2 * _ROW_ELEMENTS

_SPARE_BYTES = 256
"""Room after the properties that are known here: a newer library that writes more of them must not write elsewhere."""


class _InitParams(ctypes.Structure):
    """``struct ggml_init_params`` of ggml.h."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


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

    Keys: ``name`` ("CUDA0"), ``description``, ``kind``, ``total_bytes``, ``free_bytes``, ``backend`` ("CUDA"),
    ``device_id`` (the PCI address) and ``max_tensor_bytes`` (the largest matrix it multiplies by; None: as large as its
    memory). The symbols are taken from the library that libllama itself has loaded: another handle on ggml may hold a
    device registry of its own, and a model would then silently stay on the CPU.
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
    library.ggml_init.restype = ctypes.c_void_p
    library.ggml_init.argtypes = [_InitParams]
    library.ggml_free.restype = None
    library.ggml_free.argtypes = [ctypes.c_void_p]
    library.ggml_tensor_overhead.restype = ctypes.c_size_t
    library.ggml_new_tensor_2d.restype = ctypes.c_void_p
    library.ggml_new_tensor_2d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    library.ggml_mul_mat.restype = ctypes.c_void_p
    library.ggml_mul_mat.argtypes = [ctypes.c_void_p] * 3
    library.ggml_backend_dev_supports_op.restype = ctypes.c_bool
    library.ggml_backend_dev_supports_op.argtypes = [ctypes.c_void_p] * 2


def _describe(library: ctypes.CDLL, device: int) -> dict[str, Any]:
    properties = _Properties()
    library.ggml_backend_dev_get_props(device, ctypes.byref(properties))
    registry = library.ggml_backend_dev_backend_reg(device)
    holds_layers = _KINDS.get(properties.type) in ("gpu", "igpu")
    return {
        "name": _text(properties.name) or "",
        "description": _text(properties.description) or "",
        "kind": _KINDS.get(properties.type, "unknown"),
        "total_bytes": properties.memory_total,
        "free_bytes": properties.memory_free,
        "backend": _text(library.ggml_backend_reg_name(registry)) if registry else None,
        "device_id": _text(properties.device_id),
        "max_tensor_bytes": _largest(library, device, properties.memory_total) if holds_layers else None,
    }


def _largest(library: ctypes.CDLL, device: int, total_bytes: int) -> int | None:
    """The largest matrix that the device multiplies by, found by halves; None when it takes all that it could hold.

    llama.cpp asks the same question of each tensor as it loads it, and keeps those that are refused on the CPU.
    """
    rows = range(1, total_bytes // _ROW_BYTES + 1)
    taken = bisect_left(rows, True, key=lambda count: not _multiplies(library, device, count))
    return None if taken in (0, len(rows)) else taken * _ROW_BYTES


def _multiplies(library: ctypes.CDLL, device: int, rows: int) -> bool:
    """Whether the device multiplies a vector by a matrix of so many rows in half precision; nothing is allocated."""
    context = library.ggml_init(_InitParams(4 * library.ggml_tensor_overhead(), None, True))
    try:
        matrix = library.ggml_new_tensor_2d(context, _F16, _ROW_ELEMENTS, rows)
        vector = library.ggml_new_tensor_2d(context, _F32, _ROW_ELEMENTS, 1)
        product = library.ggml_mul_mat(context, matrix, vector)
        return bool(library.ggml_backend_dev_supports_op(device, product))
    finally:
        library.ggml_free(context)


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value else None


if __name__ == "__main__":
    end_with_parent()
    sys.stdout.write(json.dumps(list_devices()) + "\n")
