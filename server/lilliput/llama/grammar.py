"""Grammars that constrain the answer: JSON schemas as GBNF, and the sampler that enforces them."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as c

from lilliput.errors import BadGrammar
from lilliput.llama.first_bytes import FirstBytes
from lilliput.llama.gbnf_check import check_gbnf
from lilliput.llama.model import Model
from lilliput.llama.owned import Owned
from lilliput.llama.schema import gbnf_of_json_schema

_ROOT = re.compile(r"^[ \t]*root[ \t]*::=", re.MULTILINE)
_TOKEN_FORM = re.compile(r"<")  # <token> or <[id]>; in a literal it only costs a little time
_NO_LOGIT = float("-inf")


def gbnf_of_schema(schema: Mapping[str, Any]) -> str:
    """GBNF text for a JSON Schema; raises BadGrammar that names what cannot be enforced."""
    try:
        return gbnf_of_json_schema(schema)
    except (RecursionError, OverflowError):
        raise BadGrammar("the JSON schema is nested too deeply", hint="nest fewer schemas in one another") from None


class Grammar(Owned):
    """A grammar's state over one answer; a context manager that frees it once.

    Raises BadGrammar on faulty GBNF. The text is trusted not to exhaust the parser's stack or memory:
    ``gbnf_check.check_gbnf`` is for what clients write.
    """

    def __init__(self, model: Model, gbnf: str) -> None:
        named = _ROOT.search(gbnf) is not None
        hint = (
            "make it simpler: fewer nested repetitions, smaller bounds, nothing repeated that may be empty"
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
        handle = c.llama_sampler_init_grammar(model.vocab_handle, text, b"root")
        # A NULL sampler crashes at first use, so the fault must be caught here.
        if not handle:
            raise BadGrammar("the grammar does not compile", hint=hint)
        self._begin(handle, model.vocab_size, _TOKEN_FORM.search(gbnf) is not None)

    def clone(self) -> Grammar:
        """Another of the same state, to go its own way; far cheaper than compiling."""
        copy = Grammar.__new__(Grammar)
        copy._begin(c.llama_sampler_clone(self.handle), self._vocab_size, self._names_tokens)
        return copy

    def _begin(self, handle: Any, vocab_size: int, names_tokens: bool) -> None:
        self.handle = handle
        self._vocab_size = vocab_size
        self._names_tokens = names_tokens
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

    def plausible(self, vocabulary: FirstBytes) -> npt.NDArray[np.int32] | None:
        """Tokens among which are all that may come next; None when that cannot be narrowed down."""
        if self._names_tokens:
            return None
        rows = [c.llama_token_data(token, 1.0, 0.0) for token in vocabulary.probes]
        array = (c.llama_token_data * len(rows))(*rows)
        c.llama_sampler_apply(self.handle, c.llama_token_data_array(array, len(rows), -1, False))
        return vocabulary.behind(
            probe for probe, row in zip(vocabulary.probes, array, strict=True) if row.logit != _NO_LOGIT
        )

    def accept(self, token: int) -> None:
        """Advance by the chosen token, which must be allowed: the library ends the process otherwise."""
        c.llama_sampler_accept(self.handle, token)


class GrammarCache:
    """Compiled grammars of one model, the ``capacity`` used last; thread-safe.

    What is kept is never drawn with: each answer gets a clone.
    """

    def __init__(self, model: Model, capacity: int = 32) -> None:
        self._model = model
        self._capacity = capacity
        self._kept: OrderedDict[tuple[str, str], Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def of_schema(self, schema: str) -> Grammar:
        """The grammar of JSON Schema text (``""``: any object); raises BadGrammar."""
        return self._get("schema", schema, _gbnf_of_schema_text)

    def of_gbnf(self, gbnf: str) -> Grammar:
        """The grammar of a client's GBNF; raises BadGrammar, which names the line where possible."""
        return self._get("gbnf", gbnf, _checked)

    def _get(self, kind: str, text: str, gbnf_of: Callable[[str], str]) -> Grammar:
        with self._lock:
            grammar = self._kept.get((kind, text))
            if grammar is None:
                grammar = self._kept[kind, text] = Grammar(self._model, gbnf_of(text))
                if len(self._kept) > self._capacity:
                    self._kept.popitem(last=False)[1].close()
            self._kept.move_to_end((kind, text))
            return grammar.clone()

    def close(self) -> None:
        """Free all that is kept; clones live on."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1].close()


def _gbnf_of_schema_text(schema: str) -> str:
    try:
        return gbnf_of_schema(json.loads(schema) if schema else {"type": "object"})
    except json.JSONDecodeError as error:
        raise BadGrammar(f"the JSON schema is not JSON: {error}") from error


def _checked(gbnf: str) -> str:
    check_gbnf(gbnf)
    return gbnf
