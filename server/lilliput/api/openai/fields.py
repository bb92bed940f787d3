"""The request fields that both of OpenAI's text routes share, and their translation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, WithJsonSchema

from lilliput.api.bodies import MOST_INTEGER, KeepAlive, Natural, Positive
from lilliput.api.openai.sampling_fields import SamplingBody
from lilliput.errors import InvalidRequest
from lilliput.services.requests import Constraint, GrammarConstraint, JsonConstraint, Limits

MOST_STOPS = 16
MOST_CHOICES = 128


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("must be a string or a list of strings")
    if len(stops) > MOST_STOPS:
        raise ValueError(f"has {len(stops)} strings, at most {MOST_STOPS} are possible")
    return tuple(stop for stop in stops if stop)


def _unlimited(value: object) -> object:
    return None if value == -1 and not isinstance(value, bool) else value


Stops = Annotated[
    tuple[str, ...],
    PlainValidator(_stops),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MOST_STOPS},
                {"type": "null"},
            ]
        }
    ),
]
MaybeTokens = Annotated[Positive | None, BeforeValidator(_unlimited)]


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    include_usage: bool | None = Field(None, description="send a last chunk with the token counts")


class TextBody(SamplingBody):
    """Fields of both text routes; those after ``stop`` are extensions of this server."""

    model: str = Field(min_length=1, description="name of an installed model")
    stream: bool | None = Field(None, description="send the answer as server-sent events while it is made")
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, strict=True, ge=1, le=MOST_CHOICES, description="number of answers")
    max_tokens: MaybeTokens = Field(None, description="most tokens of an answer; null or -1: as many as fit")
    stop: Stops = Field((), description=f"up to {MOST_STOPS} strings that end an answer; they are not part of it")
    ignore_eos: bool | None = Field(None, description="go on after the end of text until max_tokens")
    priority: Literal["interactive", "batch"] | None = Field(
        None, description="batch lets interactive requests that come within half a minute go first"
    )
    deadline_s: float | None = Field(
        None, gt=0, le=86_400, description="seconds after which the request fails if it is not done"
    )
    keep_alive: KeepAlive = Field(
        None,
        description="how long the model stays loaded after its last request, from now on: seconds or a duration such "
        "as 10m; negative: for ever, 0: unload it then",
    )
    min_tokens: Natural | None = Field(
        None, description="before so many tokens neither the model nor a stop string ends the answer"
    )
    grammar: str | None = Field(None, description="GBNF that the answer must follow")
    json_schema: dict[str, Any] | None = Field(None, description="JSON Schema that the answer must follow")
    speculation: Literal["auto", "off"] | None = Field(
        None, description="auto drafts tokens that stood there before, where it pays; the answer is the same"
    )

    context_overflow: Literal["error", "slide"] | None = Field(
        None,
        description="when the context is full: error refuses a prompt and ends an answer with length; slide discards "
        "half of what comes after the first n_keep tokens, as often as needed, and goes on",
    )
    n_keep: int | None = Field(
        None,
        strict=True,
        ge=-1,
        le=MOST_INTEGER,
        description="tokens of the prompt that stay when the context slides; -1: all of it",
    )

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def may_speculate(self) -> bool | None:
        """Whether tokens may be drafted; None when the request leaves it open."""
        return None if self.speculation is None else self.speculation == "auto"

    def limits(self, max_tokens: int | None, top_logprobs: int | None) -> Limits:
        """When answers end and what is told of their tokens; raises InvalidRequest."""
        least = self.min_tokens or 0
        if max_tokens is not None and least > max_tokens:
            raise InvalidRequest(
                f"'min_tokens' is {least}, but at most {max_tokens} tokens are wanted", param="min_tokens"
            )
        return Limits(
            max_tokens,
            self.stop,
            bool(self.ignore_eos),
            top_logprobs,
            least,
            urgent=self.priority != "batch",
            deadline_s=self.deadline_s,
            keep_alive_s=self.keep_alive,
            keep_tokens=(self.n_keep or 0) if self.context_overflow == "slide" else None,
        )

    def constraint(self, other: JsonConstraint | None = None) -> Constraint | None:
        """What the answer must follow; ``other`` comes from ``response_format``. Raises InvalidRequest on two."""
        schema = None if self.json_schema is None else JsonConstraint(self.json_schema)
        grammar = GrammarConstraint(self.grammar) if self.grammar else None
        given: list[Constraint] = [one for one in (other, schema, grammar) if one is not None]
        if len(given) > 1:
            raise InvalidRequest(
                "only one of 'grammar', 'json_schema' and 'response_format' can constrain an answer",
                param="grammar" if grammar else "json_schema",
            )
        return given[0] if given else None


def is_given(value: Any) -> bool:
    """Whether an optional field asks for something: not null, not empty, not false."""
    return value is not None and value is not False and value not in ("", [], {}, ())
