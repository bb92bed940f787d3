"""From what the daemon submits to what the runner runs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from lilliput.engine.sequence import Sequence
from lilliput.engine.text import TextAssembler
from lilliput.engine.wire import Submit, TokenReport
from lilliput.errors import BadGrammar, ContextExceeded, InvalidRequest
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler
from lilliput.llama.values import SamplerSettings

BANNED_LOGIT = float("-inf")


@dataclass(slots=True, eq=False)
class Request:
    """A sequence with what its answer needs: a sampler, its text so far, its limits and its times (seconds)."""

    sequence: Sequence
    sampler: Sampler
    text: TextAssembler
    max_tokens: int | None
    top_logprobs: int | None
    cached: int | None = None
    admitted_at_s: float = 0.0
    first_token_at_s: float = 0.0
    held_reports: list[TokenReport] = field(default_factory=list)

    @property
    def id(self) -> int:
        """The id the daemon gave it."""
        return self.sequence.id


def read_request(submit: Submit, model: Model, context_tokens: int) -> Request:
    """Tokenize and check a submission; safe in another thread than the one that decodes.

    Raises ContextExceeded, BadGrammar or InvalidRequest.
    """
    tokens = _tokens(submit, model)
    if len(tokens) >= context_tokens:
        raise ContextExceeded(len(tokens), context_tokens)
    settings = _sampler_settings(submit, model)
    grammar = None if submit.schema is None else Grammar(model, _gbnf(submit.schema))
    sampler = Sampler(model, settings, grammar)
    if settings.penalises:
        sampler.accept_prompt(tokens[-settings.repeat_last_n :])
    return Request(
        Sequence(submit.id, tokens, len(tokens)),
        sampler,
        TextAssembler(submit.stop),
        submit.max_tokens,
        submit.top_logprobs,
    )


def _tokens(submit: Submit, model: Model) -> list[int]:
    if isinstance(submit.prompt, str):
        tokens = model.tokenize(submit.prompt, add_special=submit.add_special, parse_special=True)
    else:
        tokens = list(submit.prompt)
        foreign = next((token for token in tokens if not 0 <= token < model.vocab_size), None)
        if foreign is not None:
            raise InvalidRequest(
                f"token {foreign} is not in the vocabulary of {model.vocab_size} tokens", param="prompt"
            )
    if tokens:
        return tokens
    bos = model.tokenize("", add_special=True, parse_special=True) or model.tokenize(
        model.special_text("bos"), add_special=False, parse_special=True
    )
    if not bos:
        raise InvalidRequest("the prompt is empty", hint="give at least one token", param="prompt")
    return bos


def _sampler_settings(submit: Submit, model: Model) -> SamplerSettings:
    settings = submit.sampler
    foreign = next((token for token, _ in settings.logit_bias if not 0 <= token < model.vocab_size), None)
    if foreign is not None:
        raise InvalidRequest(
            f"logit_bias names token {foreign}; the vocabulary has {model.vocab_size}", param="logit_bias"
        )
    if not submit.ignore_eos:
        return settings
    banned = tuple((token, BANNED_LOGIT) for token in model.end_tokens)
    return dataclasses.replace(settings, logit_bias=settings.logit_bias + banned)


def _gbnf(schema: str) -> str:
    try:
        return gbnf_of_schema(json.loads(schema) if schema else {"type": "object"})
    except json.JSONDecodeError as error:
        raise BadGrammar(f"the JSON schema is not JSON: {error}") from error
