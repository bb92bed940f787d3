"""A loaded model and its vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property

from llama_cpp import llama_cpp as c

from lilliput.errors import EngineLoadFailed
from lilliput.llama.first_bytes import FirstBytes
from lilliput.llama.owned import Owned
from lilliput.llama.placement import Placement
from lilliput.llama.rungs import apply
from lilliput.llama.values import ModelSettings

_PIECE_BYTES = 256


class Model(Owned):
    """Weights and vocabulary of one GGUF file; a context manager that frees them once.

    Raises EngineLoadFailed when llama.cpp refuses the file. ``on_progress`` gets fractions from 0 to 1 during the load.
    With ``no_weights`` neither weights nor caches are allocated, and the model serves only to ask about memory.
    ``trained_context_tokens`` is the length of context that it was trained for.
    """

    def __init__(
        self,
        settings: ModelSettings,
        on_progress: Callable[[float], None] | None = None,
        *,
        no_weights: bool = False,
    ) -> None:
        params = c.llama_model_default_params()
        params.n_gpu_layers = settings.gpu_layers
        params.use_extra_bufts = apply(settings.rung)
        params.load_mode = c.LLAMA_LOAD_MODE_NONE if no_weights else _load_mode(settings)
        params.no_alloc = no_weights
        self._placement = Placement(settings)
        self._placement.apply(params)
        self._progress = c.llama_progress_callback(_progress_reporter(on_progress))
        params.progress_callback = self._progress
        self.handle = c.llama_model_load_from_file(settings.path.encode(), params)
        if not self.handle:
            raise EngineLoadFailed(f"llama.cpp cannot load {settings.path}", hint="see the log lines for its reason")
        self.trained_context_tokens = int(c.llama_model_n_ctx_train(self.handle))  # a longer context will raise it
        self._vocab: c.llama_vocab_p = c.llama_model_get_vocab(self.handle)
        self._pieces: dict[int, bytes] = {}
        self._eog: dict[int, bool] = {}

    def _free(self) -> None:
        c.llama_model_free(self.handle)

    @property
    def vocab_handle(self) -> c.llama_vocab_p:
        """The C pointer that samplers and grammars ask for."""
        return self._vocab

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(c.llama_vocab_n_tokens(self.vocab_handle))

    @property
    def can_roll_back(self) -> bool:
        """Whether the end of a sequence can be forgotten: not with recurrent layers or a small sliding-window cache."""
        recurrent = c.llama_model_is_recurrent(self.handle) or c.llama_model_is_hybrid(self.handle)
        return not recurrent and int(c.llama_model_n_swa(self.handle)) == 0

    @property
    def adds_bos(self) -> bool:
        """Whether the vocabulary wants a beginning-of-sequence token before a text."""
        return bool(c.llama_vocab_get_add_bos(self.vocab_handle))

    @property
    def embedding_width(self) -> int:
        """Elements of an embedding."""
        return int(c.llama_model_n_embd_out(self.handle))

    @cached_property
    def pair_marks(self) -> tuple[list[int], list[int], list[int]]:
        """The tokens before, between and after two texts that are read as a pair, as the vocabulary asks for them."""
        vocab = self.vocab_handle
        end = c.llama_vocab_eos(vocab)
        closing = [end if end >= 0 else c.llama_vocab_sep(vocab)] if c.llama_vocab_get_add_eos(vocab) else []
        parting = [c.llama_vocab_sep(vocab)] if c.llama_vocab_get_add_sep(vocab) else []
        opening = [c.llama_vocab_bos(vocab)] if c.llama_vocab_get_add_bos(vocab) else []
        return opening, closing + parting, closing

    def special_text(self, name: str) -> str:
        """The text of the ``bos`` or ``eos`` token, empty when the vocabulary has none."""
        token = c.llama_vocab_bos(self.vocab_handle) if name == "bos" else c.llama_vocab_eos(self.vocab_handle)
        return self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def chat_template(self, name: str | None = None) -> str | None:
        """The Jinja template in the file (or its variant ``name``), None when it has none."""
        text = c.llama_model_chat_template(self.handle, name.encode() if name else None)
        return text.decode("utf-8", "replace") if text else None

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of ``text``; ``parse_special`` reads control tokens written as text."""
        raw = text.encode("utf-8", "surrogatepass")
        capacity = len(raw) + 16
        while True:
            buffer = (c.llama_token * capacity)()
            count = c.llama_tokenize(self.vocab_handle, raw, len(raw), buffer, capacity, add_special, parse_special)
            if count >= 0:
                return buffer[:count]
            capacity = -count

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the text: may be part of a character; empty for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._piece(token, special=False)
        return piece

    def ends_generation(self, token: int) -> bool:
        """Whether the token ends the answer (EOS, EOT, EOM and their kin)."""
        known = self._eog.get(token)
        if known is None:
            known = self._eog[token] = bool(c.llama_vocab_is_eog(self.vocab_handle, token))
        return known

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """All tokens that end an answer, found by asking about the whole vocabulary (tens of milliseconds)."""
        return tuple(token for token in range(self.vocab_size) if c.llama_vocab_is_eog(self.vocab_handle, token))

    @cached_property
    def first_bytes(self) -> FirstBytes:
        """The vocabulary by first bytes, as grammars read it (tenths of a second)."""
        return FirstBytes([self._piece(token, special=True) for token in range(self.vocab_size)], self.end_tokens)

    def _piece(self, token: int, *, special: bool) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = c.llama_token_to_piece(self.vocab_handle, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count


def _load_mode(settings: ModelSettings) -> int:
    if settings.memory_lock:
        return int(c.LLAMA_LOAD_MODE_MMAP_MLOCK if settings.memory_map else c.LLAMA_LOAD_MODE_MLOCK)
    return int(c.LLAMA_LOAD_MODE_AUTO if settings.memory_map else c.LLAMA_LOAD_MODE_NONE)


def _progress_reporter(on_progress: Callable[[float], None] | None) -> Callable[[float, ctypes.c_void_p], bool]:
    def report(fraction: float, _data: ctypes.c_void_p) -> bool:
        if on_progress is not None:
            on_progress(fraction)
        return True

    return report
