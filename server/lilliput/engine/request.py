"""From what the daemon submits to what the runner runs."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field

from lilliput.engine.drafts import Drafts
from lilliput.engine.sequence import Sequence
from lilliput.engine.sliding import MOST_CONTEXTS, excess_tokens, kept_tokens
from lilliput.engine.text import TextAssembler
from lilliput.engine.wire import Failed, Submit, TokenReport
from lilliput.errors import ContextExceeded, EngineError, InvalidRequest, LilliputError
from lilliput.llama.grammar import Grammar, GrammarCache
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler
from lilliput.llama.sampler_parts import BANNED
from lilliput.llama.sampler_values import SamplerSettings

log = logging.getLogger(__name__)

_SHOWN = 20


@dataclass(slots=True, eq=False)
class Request:
    """A sequence with what its answer needs: a sampler, its text so far, its limits and its times (seconds).

    ``drafts`` is None where nothing is drafted. ``waited_s`` of ``deadline_s`` had gone by before it came. When the
    context is full, the first ``keep`` tokens stay and it goes on; with None it ends.
    """

    sequence: Sequence
    sampler: Sampler
    text: TextAssembler
    max_tokens: int | None
    top_logprobs: int | None
    urgent: bool = True
    deadline_s: float | None = None
    waited_s: float = 0.0
    speculation: bool = True
    keep: int | None = None
    drafts: Drafts | None = None
    drafted: int = 0
    accepted: int = 0
    cached: int | None = None
    came_at_s: float = 0.0
    ends_at_s: float = 0.0
    admitted_at_s: float = 0.0
    first_token_at_s: float = 0.0
    held_reports: list[TokenReport] = field(default_factory=list)

    @property
    def id(self) -> int:
        """The id the daemon gave it."""
        return self.sequence.id


class Intake:
    """Turns submissions into requests, in another thread than the one that decodes.

    The tokens of the latest text are remembered: the choices of one prompt come one after the other.
    """

    def __init__(self, model: Model, context_tokens: int) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._latest: tuple[tuple[str, bool], list[int]] = (("", False), [])
        self._grammars = GrammarCache(model)

    def read(self, submit: Submit) -> Request | Failed:
        """The request, or what is wrong with it; never raises, whatever a client has sent."""
        try:
            return self.request(submit)
        except ContextExceeded as error:
            return Failed(submit.id, error.code, error.message, error.hint, error.prompt_tokens, error.context_tokens)
        except InvalidRequest as error:
            return Failed(submit.id, error.code, error.message, error.hint, param=error.param)
        except LilliputError as error:
            return Failed(submit.id, error.code, error.message, error.hint)
        except Exception as error:  # one bad request must not end the reading of others
            log.exception("request %d cannot be read", submit.id)
            return Failed(submit.id, EngineError.code, f"the engine cannot read this request: {error}")

    def request(self, submit: Submit) -> Request:
        """The request; raises ContextExceeded, BadGrammar or InvalidRequest."""
        tokens = self._tokens(submit)
        sequence = Sequence(submit.id, tokens, len(tokens), urgent=submit.urgent, caller=submit.caller)
        keep = self._fit(sequence, submit)
        settings = sampler_settings(submit, self._model, self._context_tokens)
        sampler = Sampler(self._model, settings, self._grammar(submit), min_tokens=submit.min_tokens)
        if settings.prompt_tokens_seen:
            sampler.accept_prompt(tokens[-settings.prompt_tokens_seen :])
        return Request(
            sequence,
            sampler,
            TextAssembler(submit.stop, submit.min_tokens),
            self._most_tokens(submit),
            submit.top_logprobs,
            submit.urgent,
            submit.deadline_s,
            submit.waited_s,
            submit.speculation,
            keep,
        )

    def _fit(self, sequence: Sequence, submit: Submit) -> int | None:
        """Have the prompt fit into the context; returns how many tokens stay when that is full."""
        count, most = len(sequence.tokens), self._context_tokens
        if submit.keep_tokens is None:
            if count >= most:
                raise ContextExceeded(count, most)
            return None
        keep = kept_tokens(submit.keep_tokens, count, most, least=int(self._model.adds_bos))
        if excess := excess_tokens(count, keep, most):
            sequence.discard(keep, excess)
        return keep

    def _most_tokens(self, submit: Submit) -> int | None:
        if submit.max_tokens is None and submit.keep_tokens is not None:
            return MOST_CONTEXTS * self._context_tokens
        return submit.max_tokens

    def _grammar(self, submit: Submit) -> Grammar | None:
        if submit.grammar is not None or submit.schema is not None:
            _ = (
                self._model.first_bytes
            )  # made here, in this thread: the first draw that needs it would hold all streams
        if submit.grammar is not None:
            return self._grammars.of_gbnf(submit.grammar)
        return None if submit.schema is None else self._grammars.of_schema(submit.schema)

    def _tokens(self, submit: Submit) -> list[int]:
        if isinstance(submit.prompt, str):
            tokens = self._tokenized(submit.prompt, submit.add_special)
        else:
            tokens = list(submit.prompt)
            foreign = next((token for token in tokens if not 0 <= token < self._model.vocab_size), None)
            if foreign is not None:
                raise InvalidRequest(
                    f"token {foreign} is not in the vocabulary of {self._model.vocab_size} tokens", param="prompt"
                )
        return tokens or self._first_token()

    def _tokenized(self, text: str, add_special: bool) -> list[int]:
        key = (text, add_special)
        if self._latest[0] != key:
            self._latest = (key, self._model.tokenize(text, add_special=add_special, parse_special=True))
        return list(self._latest[1])

    def _first_token(self) -> list[int]:
        """What an empty prompt begins with."""
        bos = self._model.special_text("bos")
        tokens = self._model.tokenize("", add_special=True, parse_special=True) or self._model.tokenize(
            bos, add_special=False, parse_special=True
        )
        if not tokens:
            raise InvalidRequest("the prompt is empty", hint="give at least one token", param="prompt")
        return tokens


def sampler_settings(submit: Submit, model: Model, context_tokens: int) -> SamplerSettings:
    """The settings of a submission in terms of this model: biases by token, windows within the context.

    Raises InvalidRequest that names the field.
    """
    settings = submit.sampler
    foreign = next((token for token, _ in settings.logit_bias if not 0 <= token < model.vocab_size), None)
    if foreign is not None:
        raise InvalidRequest(
            f"logit_bias names token {foreign}; the vocabulary has {model.vocab_size}", param="logit_bias"
        )
    biases = settings.logit_bias + tuple((_token_of(text, model), bias) for text, bias in submit.text_bias)
    if submit.ignore_eos:
        biases += tuple((token, BANNED) for token in model.end_tokens)
    return dataclasses.replace(
        settings,
        logit_bias=biases,
        repeat_last_n=_window(settings.repeat_last_n, context_tokens),
        dry_penalty_last_n=_window(settings.dry_penalty_last_n, context_tokens),
    )


def _token_of(text: str, model: Model) -> int:
    tokens = model.tokenize(text, add_special=False, parse_special=True)
    if len(tokens) != 1:
        raise InvalidRequest(
            f"logit_bias names {text[:_SHOWN]!r}, which is {len(tokens)} tokens of this model: {tokens[:_SHOWN]}",
            hint="name each token by its id, and mind that a word at its beginning often has a space",
            param="logit_bias",
        )
    return tokens[0]


def _window(tokens: int, context_tokens: int) -> int:
    """-1 means the whole context; more than it holds cannot be looked at."""
    return context_tokens if tokens < 0 else min(tokens, context_tokens)
