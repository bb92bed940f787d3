"""The sampler chain of one sequence."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np
from llama_cpp import llama_cpp as c

from lilliput.llama.context import Context
from lilliput.llama.grammar import Grammar
from lilliput.llama.model import Model
from lilliput.llama.owned import Owned
from lilliput.llama.values import SamplerSettings

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler(Owned):
    """Draws the next token of one sequence, under a grammar when given; a context manager that frees both once.

    Order as in llama.cpp: logit bias, penalties, top-k, top-p, min-p, temperature, draw.
    """

    def __init__(self, model: Model, settings: SamplerSettings, grammar: Grammar | None = None) -> None:
        self.handle = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        self._grammar = grammar
        self._vocab_size = model.vocab_size
        for part in _parts(model, settings):
            c.llama_sampler_chain_add(self.handle, part)

    def _free(self) -> None:
        c.llama_sampler_free(self.handle)
        if self._grammar is not None:
            self._grammar.close()

    def accept_prompt(self, tokens: Iterable[int]) -> None:
        """Show the penalties the end of the prompt."""
        for token in tokens:
            c.llama_sampler_accept(self.handle, token)

    def sample(self, context: Context, index: int) -> int:
        """Draw the token that follows batch ``index`` and accept it."""
        if self._grammar is None:
            return int(c.llama_sampler_sample(self.handle, context.handle, index))
        token = self._draw(context, index, None)
        if not self._grammar.allows(token):
            token = self._draw(context, index, self._grammar)
        self._grammar.accept(token)
        c.llama_sampler_accept(self.handle, token)
        return token

    def _draw(self, context: Context, index: int, grammar: Grammar | None) -> int:
        data = np.empty(self._vocab_size, _CANDIDATE)
        data["id"] = np.arange(self._vocab_size, dtype=np.int32)
        data["logit"] = context.logits(index)
        data["p"] = 0
        pointer = data.ctypes.data_as(ctypes.POINTER(c.llama_token_data))
        candidates = c.llama_token_data_array(pointer, self._vocab_size, -1, False)
        if grammar is not None:
            grammar.filter(candidates)
        c.llama_sampler_apply(self.handle, candidates)
        return int(candidates.data[candidates.selected].id)


def _parts(model: Model, settings: SamplerSettings) -> Iterable[c.llama_sampler_p | None]:
    if settings.logit_bias:
        biases = (c.llama_logit_bias * len(settings.logit_bias))(
            *(c.llama_logit_bias(token, bias) for token, bias in settings.logit_bias)
        )
        yield c.llama_sampler_init_logit_bias(model.vocab_size, len(settings.logit_bias), biases)
    if settings.penalises:
        yield c.llama_sampler_init_penalties(
            model.vocab_size,
            settings.repeat_last_n,
            settings.repeat_penalty,
            settings.frequency_penalty,
            settings.presence_penalty,
        )
    if settings.temperature <= 0:
        yield c.llama_sampler_init_greedy()
        return
    if settings.top_k > 0:
        yield c.llama_sampler_init_top_k(settings.top_k)
    if settings.top_p < 1:
        yield c.llama_sampler_init_top_p(settings.top_p, 1)
    if settings.min_p > 0:
        yield c.llama_sampler_init_min_p(settings.min_p, 1)
    yield c.llama_sampler_init_temp(settings.temperature)
    yield c.llama_sampler_init_dist(settings.seed)
