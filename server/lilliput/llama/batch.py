"""The tokens of one forward pass, in arrays that the library reads in place."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as c


class Batch:
    """Up to ``capacity`` tokens, each with its position, its one sequence and whether its logits are wanted.

    The arrays are allocated once and refilled for every step; the instance must outlive the decode call.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._sequence_counts = np.ones(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        base = self._sequences.ctypes.data
        # llama_batch wants a pointer to the list of sequences of each token: one element of the array above.
        self._sequence_pointers = (ctypes.c_void_p * capacity)(*range(base, base + 4 * capacity, 4))
        self.raw = c.llama_batch(
            0,
            self._tokens.ctypes.data_as(ctypes.POINTER(c.llama_token)),
            None,
            self._positions.ctypes.data_as(ctypes.POINTER(c.llama_pos)),
            self._sequence_counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            ctypes.cast(self._sequence_pointers, ctypes.POINTER(ctypes.POINTER(c.llama_seq_id))),
            self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def __len__(self) -> int:
        return int(self.raw.n_tokens)

    def clear(self) -> None:
        """Forget all tokens."""
        self.raw.n_tokens = 0

    def add(self, tokens: Sequence[int], first_position: int, sequence: int, *, output_last: bool) -> int:
        """Append consecutive tokens of a sequence; returns the batch index of the last one (where its logits will
        be).
        """
        start = int(self.raw.n_tokens)
        end = start + len(tokens)
        if end > self.capacity:
            raise ValueError(f"a batch of {self.capacity} tokens cannot take {len(tokens)} more after {start}")
        self._tokens[start:end] = tokens
        self._positions[start:end] = range(first_position, first_position + len(tokens))
        self._sequences[start:end] = sequence
        self._outputs[start:end] = 0
        self._outputs[end - 1] = output_last
        self.raw.n_tokens = end
        return end - 1

    def add_drafts(self, tokens: Sequence[int], first_position: int, sequence: int) -> None:
        """Append consecutive tokens of a sequence, each with logits, at the batch indexes that come next."""
        start = self.raw.n_tokens
        self.add(tokens, first_position, sequence, output_last=True)
        self._outputs[start : self.raw.n_tokens] = 1
