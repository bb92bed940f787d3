"""The candidates of one draw in memory that is allocated once."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """Room for a vocabulary of candidates; ``raw`` is what the library's samplers take and shuffle."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._rows = np.zeros(vocab_size, _CANDIDATE)
        self._all = np.arange(vocab_size, dtype=np.int32)
        self._pointer: Any = self._rows.ctypes.data_as(ctypes.POINTER(c.llama_token_data))
        self.raw = c.llama_token_data_array(self._pointer, 0, -1, False)

    def fill(self, logits: npt.NDArray[np.float32], tokens: npt.NDArray[np.int32] | None = None) -> None:
        """Take these tokens (None: the whole vocabulary) with their ``logits``, of shape (vocab_size,)."""
        if tokens is None:
            count = self.vocab_size
            self._rows["id"] = self._all
            self._rows["logit"] = logits
        else:
            count = len(tokens)
            self._rows["id"][:count] = tokens
            self._rows["logit"][:count] = logits[tokens]
        self._begin(count)

    def drop_impossible(self) -> int:
        """Leave out all whose logit is minus infinity; returns how many stay."""
        rows = self._rows[: self.raw.size]
        kept = rows[rows["logit"] != -np.inf]
        self._rows[: len(kept)] = kept
        self._begin(len(kept))
        return len(kept)

    @property
    def chosen(self) -> int:
        """The token that the last sampler chose."""
        return int(self.raw.data[self.raw.selected].id)

    def _begin(self, count: int) -> None:
        raw = self.raw
        raw.data, raw.size, raw.selected, raw.sorted = self._pointer, count, -1, False


_BLOCKS = 512
_kept = threading.local()


def candidates_of_thread(vocab_size: int) -> Candidates:
    """The room that all samplers of the calling thread share: no draw outlives its call."""
    kept: Candidates | None = getattr(_kept, "candidates", None)
    if kept is None or kept.vocab_size != vocab_size:
        kept = _kept.candidates = Candidates(vocab_size)
    return kept


def likeliest(logits: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
    """The tokens of the ``count`` greatest logits, in no order."""
    count = min(count, len(logits))
    if count > _BLOCKS // 2 or len(logits) < _BLOCKS**2 // 8:
        return np.argpartition(logits, -count)[-count:].astype(np.int32)
    found = _at_least_likeliest(logits, count)
    return found[np.argpartition(logits[found], -count)[-count:]]


def _at_least_likeliest(logits: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
    """Tokens among which the likeliest are: as many blocks have their greatest at this floor or above it."""
    whole = len(logits) // _BLOCKS * _BLOCKS
    greatest = logits[:whole].reshape(_BLOCKS, -1).max(axis=1)
    floor = np.partition(greatest, -count)[-count]
    return np.flatnonzero(logits >= floor).astype(np.int32)
