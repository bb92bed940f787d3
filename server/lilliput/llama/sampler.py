"""The sampler chain of one sequence, and the draw."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from lilliput.llama.candidates import Candidates, candidates_of_thread, likeliest
from lilliput.llama.context import Context
from lilliput.llama.grammar import Grammar
from lilliput.llama.model import Model
from lilliput.llama.owned import Owned
from lilliput.llama.sampler_parts import BANNED, bias_part, chain_parts, deciding_candidates
from lilliput.llama.sampler_values import SamplerSettings

_HEAD_TOKENS = 256
"""A redraw asks the grammar about so many of the likeliest tokens first."""

_LARGE_VOCAB_TOKENS = 100_000
_FEW_TOKENS = 256
"""So few of so large a vocabulary are found faster than the library reads it."""

_LONG_HEAD_TOKENS = 2048
"""And then about so many of those whose first byte fits."""


class Sampler(Owned):
    """Draws the next token of one sequence, under a grammar when given; a context manager that frees both once.

    A grammar is asked about the one token that was drawn without it, and about more candidates only where it refuses
    that one (5 to 10 % of the tokens of an answer in JSON). What that does to the distribution: let q be what the chain
    makes of the model's candidates, A the allowed ones, q' what the chain makes of A alone. A token t of A is drawn
    with q(t) + (1 - q(A)) q'(t). At temperature 0 that is the likeliest of A, and where the chain only rescales (bias,
    temperature) q'(t) is q(t) / q(A), so the sum is q(t) / q(A): in both cases exactly what filtering first gives.
    Where the chain cuts off a tail (top-k, top-p, …) the two differ: tokens that were in the model's own head keep
    their share q(t) of it, and only the rest is drawn from the head of A, as llama-server does it. Mirostat learns from
    every draw, so there the grammar filters first.

    Until ``min_tokens`` were drawn no token that ends the answer is possible. Where grammar and bans together leave
    nothing, the answer ends.
    """

    def __init__(
        self, model: Model, settings: SamplerSettings, grammar: Grammar | None = None, *, min_tokens: int = 0
    ) -> None:
        self.handle = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        self._model = model
        self._grammar = grammar
        self._settings = settings
        self._tokens_until_end = min_tokens
        self._remembers = settings.penalises or settings.dries or settings.adapts
        self._deciding = deciding_candidates(settings)
        self._biases = _Biases(settings.logit_bias, model.end_tokens if min_tokens else ())
        plain = not settings.logit_bias and not min_tokens
        self._head = _head_tokens(self._deciding, model.vocab_size) if plain else None
        if min_tokens:
            c.llama_sampler_chain_add(self.handle, bias_part(model, ((token, BANNED) for token in model.end_tokens)))
        for part in chain_parts(model, settings):
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
        """Draw the token that follows batch ``index`` and accept it.

        Calls for successive indices of one batch continue one another: each draw knows the tokens drawn before it.
        """
        if self._grammar is not None:
            token = self._under(self._grammar, context, index)
        elif self._head is None:
            token = int(c.llama_sampler_sample(self.handle, context.handle, index))
        else:
            token = self._from_head(self._head, context.logits(index))
            if self._remembers:
                c.llama_sampler_accept(self.handle, token)
        if self._tokens_until_end:
            self._come_closer_to_end()
        return token

    def _come_closer_to_end(self) -> None:
        self._tokens_until_end -= 1
        if not self._tokens_until_end:
            c.llama_sampler_free(c.llama_sampler_chain_remove(self.handle, 0))

    def _under(self, grammar: Grammar, context: Context, index: int) -> int:
        token = None
        if not self._settings.mirostat:
            token = self._freely(context, index)
            if not grammar.allows(token):
                token = None
        if token is None:
            token = self._among_allowed(grammar, context.logits(index))
        if token is None:
            return self._model.end_tokens[0]
        grammar.accept(token)
        if self._remembers:
            c.llama_sampler_accept(self.handle, token)
        return token

    def _freely(self, context: Context, index: int) -> int:
        """A draw without the grammar, not accepted yet by parts that remember tokens."""
        if self._head is not None:
            return self._from_head(self._head, context.logits(index))
        if not self._remembers:
            return int(c.llama_sampler_sample(self.handle, context.handle, index))
        candidates = candidates_of_thread(self._model.vocab_size)
        candidates.fill(context.logits(index))
        c.llama_sampler_apply(self.handle, candidates.raw)
        return candidates.chosen

    def _from_head(self, count: int, logits: npt.NDArray[np.float32]) -> int:
        """The draw where so many of the likeliest tokens decide it.

        The library goes through the whole vocabulary: for one of 262,144 tokens that takes 0.7 ms, this 0.03 at
        temperature 0 and 0.2 with top-k 40.
        """
        if count == 1:
            return int(logits.argmax())
        candidates = candidates_of_thread(self._model.vocab_size)
        candidates.fill(logits, likeliest(logits, count))
        return self._choose(candidates)

    def _among_allowed(self, grammar: Grammar, logits: npt.NDArray[np.float32]) -> int | None:
        """A draw among the tokens that the grammar allows; None when there is none.

        The likeliest of the vocabulary are asked for first, when so few of them decide the draw.
        """
        model = self._model
        candidates = candidates_of_thread(model.vocab_size)
        possible, ranks = self._biases.apply(logits, self._tokens_until_end > 0)
        enough = self._deciding or model.vocab_size

        def ask(tokens: npt.NDArray[np.int32] | None) -> int:
            candidates.fill(possible, tokens)
            grammar.filter(candidates.raw)
            return candidates.drop_impossible()

        if enough < _HEAD_TOKENS and ask(likeliest(ranks, _HEAD_TOKENS)) >= enough:
            return self._choose(candidates)
        tokens = grammar.plausible(model.first_bytes)
        if tokens is not None and enough < _LONG_HEAD_TOKENS < len(tokens):
            head = tokens[likeliest(ranks[tokens], _LONG_HEAD_TOKENS)]
            if ask(head) >= enough:
                return self._choose(candidates)
        return self._choose(candidates) if ask(tokens) else None

    def _choose(self, candidates: Candidates) -> int:
        c.llama_sampler_apply(self.handle, candidates.raw)
        return candidates.chosen


def _head_tokens(deciding: int | None, vocab_size: int) -> int | None:
    """From how many of the likeliest tokens a draw is made where that is faster; None for all."""
    if deciding == 1:
        return 1
    few = deciding is not None and deciding <= _FEW_TOKENS
    return deciding if few and vocab_size >= _LARGE_VOCAB_TOKENS else None


class _Biases:
    """What the bias of a chain does to logits, for those who must know it before the chain runs."""

    def __init__(self, biases: Iterable[tuple[int, float]], end_tokens: Iterable[int]) -> None:
        listed = list(biases)
        self._end = np.array(list(end_tokens), np.int32)
        self._banned = np.array([token for token, bias in listed if bias == BANNED], np.int32)
        moved = [(token, bias) for token, bias in listed if bias != BANNED]
        self._moved = np.array([token for token, _ in moved], np.int32)
        self._by = np.array([bias for _, bias in moved], np.float32)

    def apply(
        self, logits: npt.NDArray[np.float32], ends_banned: bool
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The logits with all bans, and these with all other biases too, each of shape (vocab_size,)."""
        possible = logits
        if len(self._banned) or ends_banned:
            possible = logits.copy()
            possible[self._banned] = BANNED
            if ends_banned:
                possible[self._end] = BANNED
        if not len(self._moved):
            return possible, possible
        ranks = possible.copy()
        np.add.at(ranks, self._moved, self._by)
        return possible, ranks
