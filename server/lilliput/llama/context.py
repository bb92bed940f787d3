"""A context: the KV cache of a model and the forward pass over it."""

from __future__ import annotations

import ctypes
import enum
import sys

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from lilliput.errors import EngineError, EngineLoadFailed, InvalidRequest
from lilliput.llama.batch import Batch
from lilliput.llama.model import Model
from lilliput.llama.owned import Owned
from lilliput.llama.pooling import pooling_type
from lilliput.llama.values import ContextSettings, Rope

_RUN, _STOP = b"\x00", b"\x01"


_KV_TYPES = {
    "f32": 0,
    "f16": 1,
    "bf16": 30,
    "q8_0": 8,
    "q5_1": 7,
    "q5_0": 6,
    "q4_1": 3,
    "q4_0": 2,
    "iq4_nl": 20,
}
"""``enum ggml_type``; the binding does not name all of them."""


class Decoded(enum.Enum):
    """How a forward pass ended (``llama_decode`` in llama.h)."""

    DONE = 0
    NO_ROOM = 1
    """No free cells for the batch: nothing has changed."""
    ABORTED = 2
    """``Context.abort`` was called: cells of the batch may have been filled and must be removed."""


_ROPE_SCALING = {
    None: c.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
    "none": c.LLAMA_ROPE_SCALING_TYPE_NONE,
    "linear": c.LLAMA_ROPE_SCALING_TYPE_LINEAR,
    "yarn": c.LLAMA_ROPE_SCALING_TYPE_YARN,
}


def _kv_type(name: str) -> int:
    try:
        return _KV_TYPES[name.lower()]
    except KeyError:
        hint = f"one of {', '.join(_KV_TYPES)}"
        raise InvalidRequest(f"{name!r} is no type for a KV cache", param="kv_type", hint=hint) from None


def _set_rope(params: c.llama_context_params, rope: Rope, model: Model) -> None:
    """Values of 0 are the file's."""
    if c.llama_model_rope_type(model.handle) == c.LLAMA_ROPE_TYPE_NONE:
        raise EngineLoadFailed(
            "rope settings were asked for, but the model's positions are no rotations",
            hint="leave rope_scaling and its kin out, and keep to the context that the model was trained for",
        )
    params.rope_scaling_type = _ROPE_SCALING[rope.scaling]
    params.rope_freq_base = rope.freq_base or 0.0
    params.rope_freq_scale = rope.freq_scale or 0.0
    params.yarn_orig_ctx = rope.original_tokens or 0


class Context(Owned):
    """KV cells shared by several sequences, and the forward pass; a context manager that frees them once.

    One thread owns a context. ``abort`` alone may be called from another thread. ``output_rows`` is how many tokens of
    one batch may ask for logits.
    """

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        params = c.llama_context_default_params()
        params.n_ctx = settings.context_tokens
        params.n_seq_max = settings.max_sequences
        params.n_batch = settings.batch_tokens
        params.n_ubatch = min(settings.ubatch_tokens, settings.batch_tokens)
        if settings.threads:
            params.n_threads = params.n_threads_batch = settings.threads
        if settings.batch_threads:
            params.n_threads_batch = settings.batch_threads
        params.flash_attn_type = {
            None: c.LLAMA_FLASH_ATTN_TYPE_AUTO,
            True: c.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            False: c.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }[settings.flash_attention]
        params.type_k = params.type_v = _kv_type(settings.kv_type)
        self.output_rows = settings.batch_tokens
        if settings.output_rows:  # the library aborts on fewer than sequences
            self.output_rows = params.n_outputs_max = max(settings.output_rows, settings.max_sequences)
        if settings.pooling is not None:
            params.embeddings = True
            params.pooling_type = pooling_type(model.handle, settings.pooling)
        if settings.rope is not None:
            _set_rope(params, settings.rope, model)
        params.kv_unified = True
        params.swa_full = False
        params.no_perf = True
        self.model = model
        self.vocab_size = model.vocab_size
        self.handle = c.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EngineLoadFailed(
                f"llama.cpp cannot make a context of {settings.context_tokens} tokens",
                hint="ask for a smaller context",
            )
        self._memory = c.llama_get_memory(self.handle)
        self._abort = ctypes.create_string_buffer(2)
        self._install_abort()

    def _free(self) -> None:
        c.llama_free(self.handle)

    @property
    def context_tokens(self) -> int:
        """Cells in all, as the library rounded them."""
        return int(c.llama_n_ctx(self.handle))

    def decode(self, batch: Batch) -> Decoded:
        """Run the batch through the model; raises EngineError when the library fails (its log says why)."""
        self._abort[0] = _RUN
        result = c.llama_decode(self.handle, batch.raw)
        try:
            return Decoded(result)
        except ValueError:
            raise EngineError(f"llama_decode failed with {result} on a batch of {len(batch)} tokens") from None

    def abort(self) -> None:
        """Make a forward pass that is running now end early; thread-safe, without effect when none runs."""
        self._abort[0] = _STOP

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """Raw logits after the token at batch ``index``: a view of shape (vocab_size,), valid until the next decode."""
        pointer = c.llama_get_logits_ith(self.handle, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))

    def set_threads(self, threads: int, batch_threads: int) -> None:
        """From the next forward pass on; see ``ContextSettings``."""
        c.llama_set_n_threads(self.handle, threads, batch_threads)

    def copy_part(self, source: int, target: int, start: int, end: int) -> None:
        """Let sequence ``target`` share the cells of ``source`` from position ``start`` to before ``end``."""
        c.llama_memory_seq_cp(self._memory, source, target, start, end)

    def copy_prefix(self, source: int, target: int, count: int) -> None:
        """Let sequence ``target`` share the first ``count`` cells of ``source``; costs no memory in a unified cache."""
        c.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def truncate(self, sequence: int, count: int) -> bool:
        """Keep only the first ``count`` cells of a sequence; False when the model cannot (then drop it whole)."""
        return bool(c.llama_memory_seq_rm(self._memory, sequence, count, -1))

    def drop(self, sequence: int) -> None:
        """Forget a sequence whole."""
        c.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def state_bytes(self, sequence: int) -> int:
        """Size of what ``save`` gives."""
        return int(c.llama_state_seq_get_size(self.handle, sequence))

    def save(self, sequence: int) -> memoryview:
        """The cells of a sequence, as this build and model read them back; empty when the library gives none."""
        state = np.empty(self.state_bytes(sequence), np.uint8)  # large: written once, by the library
        written = c.llama_state_seq_get_data(self.handle, _pointer(state), len(state), sequence)
        return state[:written].data

    def restore(self, sequence: int, state: bytes | memoryview) -> bool:
        """Fill an empty sequence from what ``save`` gave; False when there are no cells for it."""
        seen = np.frombuffer(state, np.uint8)
        return bool(c.llama_state_seq_set_data(self.handle, _pointer(seen), len(seen), sequence))

    def positions(self, sequence: int) -> tuple[int, int]:
        """Positions of the first and the last cell of a sequence, both -1 when it has none; between them there is no
        gap. Where a window slides the first ones may be gone.
        """
        first = c.llama_memory_seq_pos_min(self._memory, sequence)
        return int(first), int(c.llama_memory_seq_pos_max(self._memory, sequence))

    def _install_abort(self) -> None:
        # The library asks this callback before every graph node, about a thousand times a token: a Python function
        # there would cost milliseconds. The C library's strlen has the wanted shape: its result is zero exactly while
        # the first byte is zero.
        runtime = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        callback = ctypes.cast(runtime.strlen, c.ggml_abort_callback)
        c.llama_set_abort_callback(self.handle, callback, ctypes.cast(self._abort, ctypes.c_void_p))


def _pointer(state: npt.NDArray[np.uint8]) -> ctypes.Array[ctypes.c_uint8]:
    return (ctypes.c_uint8 * len(state)).from_address(state.ctypes.data)
