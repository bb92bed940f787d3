"""The body of a completion request, and its translation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema

from lilliput.api.errors import UnsupportedParameter
from lilliput.api.openai.fields import MOST_CHOICES, TextBody, is_given
from lilliput.errors import InvalidRequest
from lilliput.services.requests import CompletionRequest

_PROMPT_FORMS = "must be a string, a list of strings, a list of token ids, or a list of lists of token ids"
Prompts = tuple[str | tuple[int, ...], ...]


def _prompts(value: object) -> Prompts:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ValueError(_PROMPT_FORMS)
    if _are_tokens(value):
        return (tuple(value),)
    if all(isinstance(prompt, str) for prompt in value):
        return tuple(value)
    if all(isinstance(prompt, list) and prompt and _are_tokens(prompt) for prompt in value):
        return tuple(tuple(prompt) for prompt in value)
    raise ValueError(_PROMPT_FORMS)


def _are_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 2**31 for value in values)


_INTEGERS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
Prompt = Annotated[
    Prompts,
    PlainValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                _INTEGERS,
                {"type": "array", "items": _INTEGERS},
            ]
        }
    ),
]


class CompletionBody(TextBody):
    """POST /v1/completions."""

    prompt: Prompt = Field(
        description="text or token ids to continue; one, or a list of them: n times their number is at most 128"
    )
    logprobs: int | None = Field(
        None, strict=True, ge=0, le=5, description="tell log probabilities, of the k likeliest tokens too"
    )
    echo: bool | None = Field(None, description="begin each answer with its prompt (text prompts only)")
    suffix: str | None = Field(None, description="not supported")
    best_of: int | None = Field(None, strict=True, ge=1, description="not supported above n")

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "smollm2:135m", "prompt": "Once upon a time", "max_tokens": 32}}
    )

    def request(self) -> CompletionRequest:
        """The request in the services' terms; raises InvalidRequest."""
        n = self.n or 1
        count = len(self.prompt)
        if n * count > MOST_CHOICES:
            raise InvalidRequest(
                f"'n' is {n} and 'prompt' has {count} prompts, which asks for {n * count} choices; "
                f"at most {MOST_CHOICES} are possible",
                param="prompt" if n == 1 else "n",
            )
        if is_given(self.suffix):
            raise UnsupportedParameter("'suffix' is not supported by this server", hint="leave it out", param="suffix")
        if self.best_of is not None and self.best_of < n:
            raise InvalidRequest("'best_of' must not be less than 'n'", param="best_of")
        if self.best_of is not None and self.best_of > n:
            raise UnsupportedParameter(
                "'best_of' above 'n' is not supported by this server", hint="ask for n answers", param="best_of"
            )
        if self.echo and self.logprobs is not None:
            raise UnsupportedParameter(
                "'echo' with 'logprobs' is not supported by this server", hint="ask for one of them", param="echo"
            )
        if self.echo and any(not isinstance(prompt, str) for prompt in self.prompt):
            raise UnsupportedParameter(
                "'echo' needs prompts of text, not of token ids", hint="leave echo out", param="echo"
            )
        return CompletionRequest(
            model=self.model,
            prompts=self.prompt,
            n=n,
            sampling=self.sampling(),
            limits=self.limits(self.max_tokens, self.logprobs),
            constraint=self.constraint(),
            speculation=self.may_speculate,
        )

    def echoes(self) -> tuple[str, ...]:
        """What each choice's text begins with: its prompt with ``echo``, else nothing."""
        texts = (prompt if self.echo and isinstance(prompt, str) else "" for prompt in self.prompt)
        return tuple(text for text in texts for _ in range(self.n or 1))
