"""From what the daemon asks of an embedding worker to jobs of token ids."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from lilliput.engine.embedder import Job
from lilliput.engine.wire import Embed, Failed, Rank
from lilliput.errors import EngineError, InputTooLong, InvalidRequest, LilliputError
from lilliput.llama.embeddings import PooledBatch, PooledContext
from lilliput.llama.model import Model

log = logging.getLogger(__name__)

RANK_TEMPLATE = "rerank"
"""The name of the chat template with which rerankers that are language models say their prompt."""

_FIELD = re.compile(r"\{(query|document)\}")


class JobIntake:
    """Tokenizes requests, in another thread than the one that computes; ``window_tokens`` bounds each input."""

    def __init__(self, model: Model, window_tokens: int) -> None:
        self._model = model
        self._window_tokens = window_tokens
        self._template = model.chat_template(RANK_TEMPLATE)

    def read(self, message: Embed | Rank) -> Job | Failed:
        """The job, or what is wrong with the request; never raises, whatever a client has sent."""
        try:
            return self.job(message)
        except LilliputError as error:
            return Failed(message.id, error.code, error.message, error.hint)
        except Exception as error:  # one bad request must not end the reading of others
            log.exception("request %d cannot be read", message.id)
            return Failed(message.id, EngineError.code, f"the engine cannot read this request: {error}")

    def job(self, message: Embed | Rank) -> Job:
        """The job; raises InputTooLong or InvalidRequest."""
        if isinstance(message, Rank):
            pairs = self._pairs(message.query, message.documents)
            self._check(pairs, "document")
            return Job(message.id, pairs, caller=message.caller)
        inputs = [self._tokens(one) for one in message.inputs]
        self._check(inputs, "input")
        width = self._model.embedding_width
        if message.dimensions > width:
            raise InvalidRequest(
                f"'dimensions' is {message.dimensions}, the model's vectors have {width}", param="dimensions"
            )
        return Job(message.id, inputs, message.dimensions, message.caller)

    def _tokens(self, content: str | list[int]) -> list[int]:
        if isinstance(content, str):
            return self._model.tokenize(content, add_special=True, parse_special=True)
        foreign = next((token for token in content if not 0 <= token < self._model.vocab_size), None)
        if foreign is not None:
            raise InvalidRequest(
                f"token {foreign} is not in the vocabulary of {self._model.vocab_size} tokens", param="input"
            )
        return content

    def _pairs(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """Query and document of each as the model wants them: its own template, else with the vocabulary's marks.

        Source of the form without a template: ``format_prompt_rerank`` of llama.cpp's server.
        """
        if self._template is not None:
            return [self._templated(self._template, query, document) for document in documents]
        begin, between, end = self._model.pair_marks
        asked = [*begin, *self._plain(query), *between]
        return [[*asked, *self._plain(document), *end] for document in documents]

    def _templated(self, template: str, query: str, document: str) -> list[int]:
        values = {"query": query, "document": document}
        text = _FIELD.sub(lambda found: values[found[1]], template)
        return self._model.tokenize(text, add_special=False, parse_special=True)

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text, add_special=False, parse_special=False)

    def _check(self, inputs: Sequence[Sequence[int]], what: str) -> None:
        for index, tokens in enumerate(inputs):
            if len(tokens) > self._window_tokens:
                with_query = " with the query" if what == "document" else ""
                raise InputTooLong(
                    f"{what} {index}{with_query} has {len(tokens)} tokens, more than the {self._window_tokens} "
                    "that the model takes at once",
                    hint="split it into shorter parts",
                )
            if not tokens:
                raise InvalidRequest(f"{what} {index} has no tokens", hint="leave it out", param=what)


def warm_up(context: PooledContext, tokens: int) -> None:
    """Run ``tokens`` tokens through: faults of the CPU settings show here, not at a request."""
    batch = PooledBatch(max(tokens, 1))
    filler = context.model.tokenize("The", add_special=False, parse_special=False)[:1] or [0]
    batch.add(filler * max(tokens, 1), 0, 0)
    context.decode(batch)
    context.drop(0)
