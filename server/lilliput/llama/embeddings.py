"""A context that turns inputs into one vector each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from lilliput.errors import EngineError
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.model import Model
from lilliput.llama.pooling import POOLINGS
from lilliput.llama.values import ContextSettings

Vector = npt.NDArray[np.float32]


class PooledBatch(Batch):
    """A batch in which every token counts, as pooling wants it."""

    def add(self, tokens: Sequence[int], first_position: int, sequence: int, *, output_last: bool = True) -> int:
        """Append consecutive tokens of a sequence, all of them outputs."""
        last = super().add(tokens, first_position, sequence, output_last=output_last)
        self._outputs[last + 1 - len(tokens) : last + 1] = 1
        return last


class PooledContext(Context):
    """The forward pass of models whose tokens' vectors are pooled to one for each sequence.

    ``causal``: tokens see only what is before them, so that a sequence may come in several passes. Models without a
    cache (encoders) keep nothing between passes.
    """

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        super().__init__(model, settings)
        names = {number: name for name, number in POOLINGS.items()}
        self.pooling = names[int(c.llama_pooling_type(self.handle))]
        self.causal = bool(self._memory) and bool(c.llama_get_causal_attn(self.handle))
        ranks = self.pooling == "rank"
        self.width = int(c.llama_model_n_cls_out(model.handle) if ranks else c.llama_model_n_embd_out(model.handle))
        self.window_tokens = min(settings.context_tokens, self.context_tokens, model.trained_context_tokens)

    def decode(self, batch: Batch) -> Decoded:
        """Run the batch through the model; raises EngineError when the library fails (its log says why)."""
        if self._memory:
            return super().decode(batch)
        self._abort[0] = b"\x00"
        result = c.llama_encode(self.handle, batch.raw)
        try:
            return Decoded(result)
        except ValueError:
            raise EngineError(f"llama_encode failed with {result} on a batch of {len(batch)} tokens") from None

    def vector(self, sequence: int) -> Vector:
        """The pooled vector of a sequence of the last batch, shape (width,), as the model gave it."""
        pointer = c.llama_get_embeddings_seq(self.handle, sequence)
        if not pointer:
            raise EngineError(f"llama.cpp gave no vector for sequence {sequence}")
        return np.ctypeslib.as_array(pointer, shape=(self.width,)).copy()

    def drop(self, sequence: int) -> None:
        """Forget a sequence whole."""
        if self._memory:
            super().drop(sequence)
