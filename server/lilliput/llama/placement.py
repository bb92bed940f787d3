"""Where a model's layers go: C arrays that the library reads during a load."""

from __future__ import annotations

import ctypes

from llama_cpp import llama_cpp as c

from lilliput.errors import EngineLoadFailed
from lilliput.llama.values import ModelSettings


class _Override(ctypes.Structure):
    """``llama_model_tensor_buft_override`` of llama.h: tensors whose name matches go to this buffer type."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


class Placement:
    """The arrays behind devices, ``tensor_split`` and the experts on the CPU; must live until the model is loaded.

    Raises EngineLoadFailed where there is no device of the name that is asked for.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._split: ctypes.Array[ctypes.c_float] | None = None
        self._overrides: ctypes.Array[_Override] | None = None
        self._devices: ctypes.Array[ctypes.c_void_p] | None = None
        if settings.gpu_layers == 0:
            # Without layers devices would still get scratch, for weights sent to them batch by batch, and would keep
            # the CPU from packing its weights anew: an empty list leaves them out.
            self._devices = (ctypes.c_void_p * 1)(None)
        elif settings.device is not None:
            self._devices = (ctypes.c_void_p * 2)(_device(settings.device), None)
        if settings.tensor_split:
            size = max(int(c.llama_max_devices()), len(settings.tensor_split))
            self._split = (ctypes.c_float * size)(*settings.tensor_split)
        if settings.cpu_expert_layers > 0:
            layers = "|".join(str(layer) for layer in range(settings.cpu_expert_layers))
            pattern = rf"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode()
            self._overrides = (_Override * 2)(_Override(pattern, _cpu_buffer_type()), _Override(None, None))

    def apply(self, params: c.llama_model_params) -> None:
        """Point the load's parameters to the arrays."""
        if self._devices is not None:
            params.devices = ctypes.cast(self._devices, ctypes.c_void_p)  # type: ignore[assignment]
        if self._split is not None:
            params.tensor_split = ctypes.cast(self._split, ctypes.POINTER(ctypes.c_float))  # type: ignore[assignment]
        if self._overrides is not None:
            params.tensor_buft_overrides = ctypes.cast(self._overrides, ctypes.c_void_p)  # type: ignore[assignment]


def _device(name: str) -> int:
    """Asked of the library that libllama itself has loaded: another handle on ggml may have devices of its own."""
    function = c._lib.ggml_backend_dev_by_name
    function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address: int | None = function(name.encode())
    if address is None:
        raise EngineLoadFailed(f"there is no device {name!r}", hint="python -m lilliput.llama.devices lists them")
    return address


def _cpu_buffer_type() -> int:
    """Of the same library, for the same reason."""
    function = c._lib.ggml_backend_cpu_buffer_type
    function.restype = ctypes.c_void_p
    address: int = function()
    return address
