"""Grammars that constrain the answer: JSON schemas as GBNF, and the sampler that enforces them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llama_cpp import llama_cpp as c

from lilliput.errors import BadGrammar
from lilliput.llama.model import Model
from lilliput.llama.owned import Owned
from lilliput.llama.schema import gbnf_of_json_schema

_ROOT = re.compile(r"^[ \t]*root[ \t]*::=", re.MULTILINE)
_NO_LOGIT = float("-inf")


def gbnf_of_schema(schema: Mapping[str, Any]) -> str:
    """GBNF text for a JSON Schema; raises BadGrammar that names what cannot be enforced."""
    try:
        return gbnf_of_json_schema(schema)
    except (RecursionError, OverflowError):
        raise BadGrammar("the JSON schema is nested too deeply", hint="nest fewer schemas in one another") from None


class Grammar(Owned):
    """A grammar's state over one answer; a context manager that frees it once. Raises BadGrammar on faulty GBNF."""

    def __init__(self, model: Model, gbnf: str) -> None:
        named = _ROOT.search(gbnf) is not None
        hint = (
            "make it simpler: fewer nested repetitions, smaller bounds"
            if named
            else "its start rule must be called root"
        )
        if not gbnf.strip():
            raise BadGrammar("the grammar is empty", hint=hint)
        try:
            text = gbnf.encode()
        except UnicodeEncodeError:
            raise BadGrammar("the grammar has a lone surrogate", hint="leave it out") from None
        if b"\0" in text:
            raise BadGrammar("the grammar has a NUL character", hint="leave it out")
        self.handle = c.llama_sampler_init_grammar(model.vocab_handle, text, b"root")
        # A NULL sampler crashes at first use, so the fault must be caught here.
        if not self.handle:
            raise BadGrammar("the grammar does not compile", hint=hint)
        self._one = (c.llama_token_data * 1)()
        self._candidates = c.llama_token_data_array(self._one, 1, -1, False)

    def _free(self) -> None:
        c.llama_sampler_free(self.handle)

    def allows(self, token: int) -> bool:
        """Whether the token may come next; far cheaper than filtering a whole vocabulary."""
        self._one[0].id = c.llama_token(token)
        self._one[0].logit = 1.0
        c.llama_sampler_apply(self.handle, self._candidates)
        return bool(self._one[0].logit != _NO_LOGIT)

    def filter(self, candidates: c.llama_token_data_array) -> None:
        """Set the logits of all forbidden candidates to minus infinity."""
        c.llama_sampler_apply(self.handle, candidates)

    def accept(self, token: int) -> None:
        """Advance by the chosen token."""
        c.llama_sampler_accept(self.handle, token)
