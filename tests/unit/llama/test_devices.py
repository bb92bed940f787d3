from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from typing import Any

import pytest

from lilliput.llama.devices import describe_devices, list_devices
from lilliput.llama.library import start_library

MIB = 1024**2
FIELDS = {"name", "description", "kind", "total_bytes", "free_bytes", "backend", "device_id", "max_tensor_bytes"}


class Call:
    """One symbol of a fake library; it takes the declarations that ctypes takes."""

    restype: object = None
    argtypes: object = None

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __call__(self, *arguments: Any) -> Any:
        return self._answer(*arguments)


class FakeLibrary:
    """A registry of one card, device 100, of backend 200, that takes matrices of up to ``rows`` of 16 KiB."""

    def __init__(
        self, device_id: bytes | None = None, kind: int = 1, *, total_bytes: int = 9, rows: int | None = None
    ) -> None:
        def properties(device: int, target: Any) -> None:
            assert device == 100
            told = target._obj
            told.name, told.description, told.device_id = b"CUDA0", b"NVIDIA Example", device_id
            told.memory_free, told.memory_total, told.type = 7, total_bytes, kind

        self.ggml_backend_dev_count = Call(lambda: 1)
        self.ggml_backend_dev_get = Call(lambda index: 100 + index)
        self.ggml_backend_dev_get_props = Call(properties)
        self.ggml_backend_dev_backend_reg = Call(lambda device: 200 if device == 100 else None)
        self.ggml_backend_reg_name = Call({200: b"CUDA"}.get)
        self.freed = 0

        def free(_context: int) -> None:
            self.freed += 1

        self.ggml_tensor_overhead = Call(lambda: 368)
        self.ggml_init = Call(lambda params: 300)
        self.ggml_free = Call(free)
        self.ggml_new_tensor_2d = Call(lambda context, kind, elements, count: count)
        self.ggml_mul_mat = Call(lambda context, matrix, vector: matrix)
        self.ggml_backend_dev_supports_op = Call(lambda device, product: rows is None or product <= rows)


def described(library: FakeLibrary) -> dict[str, Any]:
    (device,) = describe_devices(library)  # type: ignore[arg-type]
    return device


def test_a_card_is_described_with_its_backend_and_address() -> None:
    assert described(FakeLibrary(b"0000:c1:00.0")) == {
        "name": "CUDA0",
        "description": "NVIDIA Example",
        "kind": "gpu",
        "total_bytes": 9,
        "free_bytes": 7,
        "backend": "CUDA",
        "device_id": "0000:c1:00.0",
        "max_tensor_bytes": None,
    }


def test_an_unknown_address_is_none_and_an_unknown_kind_said_to_be_so() -> None:
    device = described(FakeLibrary(None, kind=17))
    assert (device["device_id"], device["kind"]) == (None, "unknown")


@pytest.mark.parametrize(("rows", "told"), [(8192, 128 * MIB), (1, MIB // 64), (None, None), (131072, None)])
def test_the_largest_matrix_that_a_card_takes_is_found(rows: int | None, told: int | None) -> None:
    library = FakeLibrary(total_bytes=2048 * MIB, rows=rows)
    assert described(library)["max_tensor_bytes"] == told
    assert 0 < library.freed < 20


def test_a_card_that_multiplies_nothing_in_half_precision_says_nothing_of_sizes() -> None:
    assert described(FakeLibrary(total_bytes=2048 * MIB, rows=0))["max_tensor_bytes"] is None


def test_only_devices_that_hold_layers_are_asked_what_they_take() -> None:
    library = FakeLibrary(kind=3, total_bytes=2048 * MIB, rows=8192)
    assert described(library)["max_tensor_bytes"] is None
    assert library.freed == 0


def test_the_real_library_describes_its_cpu_in_the_layout_that_is_assumed() -> None:
    from llama_cpp import llama_cpp as c

    start_library()
    (cpu,) = [device for device in describe_devices(c._lib) if device["kind"] == "cpu"]
    assert cpu.keys() == FIELDS
    assert (cpu["name"], cpu["backend"], cpu["device_id"]) == ("CPU", "CPU", None)
    assert 0 < cpu["free_bytes"] <= cpu["total_bytes"]
    c._lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    c._lib.ggml_backend_dev_memory(c._lib.ggml_backend_dev_get(0), ctypes.byref(free), ctypes.byref(total))
    assert total.value in {device["total_bytes"] for device in describe_devices(c._lib)}


def test_a_child_lists_what_this_process_would_list() -> None:
    command = [sys.executable, "-m", "lilliput.llama.devices"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    names = [device["name"] for device in json.loads(done.stdout)]
    assert names == [device["name"] for device in list_devices()]
