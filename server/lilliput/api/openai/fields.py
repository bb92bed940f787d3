"""The request fields that both of OpenAI's text routes share, and their translation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, WithJsonSchema

from lilliput.api.bodies import MOST_INTEGER, Body, Positive
from lilliput.services.requests import Limits, Sampling

MOST_STOPS = 16
MOST_CHOICES = 128
_SHOWN_CHARACTERS = 20


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("must be a string or a list of strings")
    if len(stops) > MOST_STOPS:
        raise ValueError(f"has {len(stops)} strings, at most {MOST_STOPS} are possible")
    return tuple(stop for stop in stops if stop)


def _bias(value: object) -> dict[int, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("must be an object of token ids and numbers")  # noqa: TRY004 - pydantic reports ValueErrors
    biases: dict[int, float] = {}
    for key, bias in value.items():
        if not _is_token_id(key):
            raise ValueError(f"has the key {_short(key)!r}, which is no token id")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise ValueError(f"has for token {key} a value that is no number between -100 and 100")
        biases[int(key)] = float(bias)
    return biases


def _is_token_id(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) <= len(str(MOST_INTEGER)) and int(key) <= MOST_INTEGER


def _short(key: str) -> str:
    return key if len(key) <= _SHOWN_CHARACTERS else f"{key[:_SHOWN_CHARACTERS]}…"


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
LogitBias = Annotated[
    dict[int, float],
    PlainValidator(_bias),
    WithJsonSchema({"anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}]}),
]
MaybeTokens = Annotated[Positive | None, BeforeValidator(_unlimited)]


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    include_usage: bool | None = Field(None, description="send a last chunk with the token counts")


class TextBody(Body):
    """Fields of both text routes; those after ``stop`` up to ``ignore_eos`` are extensions of this server."""

    model: str = Field(min_length=1, description="name of an installed model")
    stream: bool | None = Field(None, description="send the answer as server-sent events while it is made")
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, strict=True, ge=1, le=MOST_CHOICES, description="number of answers")
    max_tokens: MaybeTokens = Field(None, description="most tokens of an answer; null or -1: as many as fit")
    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the likeliest token")
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, strict=True, ge=-(2**63), lt=2**64, description="the same seed gives the same draws")
    logit_bias: LogitBias = Field(default_factory=dict, description="token id → -100 … 100, added to its logit")
    stop: Stops = Field((), description=f"up to {MOST_STOPS} strings that end an answer; they are not part of it")
    top_k: int | None = Field(
        None, strict=True, ge=-1, le=MOST_INTEGER, description="draw from the k likeliest tokens; 0 or -1: from all"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="drop tokens less likely than this share of the likeliest"
    )
    repeat_penalty: float | None = Field(None, gt=0, le=10)
    ignore_eos: bool | None = Field(None, description="go on after the end of text until max_tokens")

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> Sampling:
        """How tokens are to be drawn."""
        return Sampling(
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(0, self.top_k),
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            seed=self.seed,
            logit_bias=self.logit_bias,
        )

    def limits(self, max_tokens: int | None, top_logprobs: int | None) -> Limits:
        """When answers end and what is told of their tokens."""
        return Limits(max_tokens, self.stop, bool(self.ignore_eos), top_logprobs)


def is_given(value: Any) -> bool:
    """Whether an optional field asks for something: not null, not empty, not false."""
    return value is not None and value is not False and value not in ("", [], {}, ())
