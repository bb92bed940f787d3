"""The request fields that say how tokens are drawn: OpenAI's, and llama-server's under its names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from lilliput.api.bodies import MOST_INTEGER, Body
from lilliput.llama import SAMPLERS
from lilliput.services.requests import Sampling

MOST_SAMPLERS = 32
MOST_BREAKERS = 32
MOST_BREAKER_BYTES = 40
"""The library cuts longer ones off."""

BAN = float("-inf")
_NUMBER = re.compile(r"[+-]?\d+")
_RANDOM_SEED = -1
_SHOWN_CHARACTERS = 20
_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
    "a": "adaptive_p",
}
_ALIASES = {
    **{form: name for name in SAMPLERS for form in (name, name.replace("_", "-"), name.replace("_", ""))},
    **{"nucleus": "top_p", "temp": "temperature", "typ": "typ_p"},
    **dict.fromkeys(("typical", "typical_p", "typical-p", "typicalp"), "typ_p"),
}


def _samplers(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        if ";" in value or value.strip().lower() in _ALIASES:
            value = [name for name in value.split(";") if name.strip()]
        else:
            return _checked_number([_letter(letter) for letter in value])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of sampler names, or a string of names with semicolons or of letters")
    return _checked_number([_name(name) for name in value])


def _checked_number(names: list[str]) -> tuple[str, ...]:
    if len(names) > MOST_SAMPLERS:
        raise ValueError(f"has {len(names)} samplers, at most {MOST_SAMPLERS} are possible")
    return tuple(names)


def _name(text: str) -> str:
    name = _ALIASES.get(text.strip().lower())
    if name is None:
        raise ValueError(f"has the unknown sampler {_short(text)!r}; there are {', '.join(SAMPLERS)}")
    return name


def _letter(letter: str) -> str:
    name = _LETTERS.get(letter)
    if name is None:
        known = ", ".join(f"{key} ({name})" for key, name in _LETTERS.items())
        raise ValueError(f"has the letter {letter!r}, which is no sampler; there are {known}")
    return name


def _breakers(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError("must be a list of strings that are not empty")
    if len(value) > MOST_BREAKERS:
        raise ValueError(f"has {len(value)} strings, at most {MOST_BREAKERS} are possible")
    if any("\0" in text or len(text.encode("utf-8", "surrogatepass")) > MOST_BREAKER_BYTES for text in value):
        raise ValueError(f"has a string of more than {MOST_BREAKER_BYTES} bytes or with a NUL character")
    return tuple(value)


def _bias(value: object) -> dict[int | str, float]:
    if value is None:
        return {}
    if isinstance(value, dict):
        pairs = [(_token_or_text(key), bias) for key, bias in value.items()]
    elif isinstance(value, list):
        pairs = [_pair(item) for item in value]
    else:
        raise ValueError("must be an object of tokens and numbers, or a list of pairs of them")  # noqa: TRY004
    return {token: _amount(token, bias) for token, bias in pairs}


def _pair(item: object) -> tuple[int | str, object]:
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], int | str) and not isinstance(item[0], bool):
        token, bias = item
        if token == "" or (isinstance(token, int) and not 0 <= token <= MOST_INTEGER):
            raise ValueError(f"has {token!r}, which is neither a token id nor text")
        return token, bias
    raise ValueError("has an item that is no pair of a token (id or text) and a number")


def _token_or_text(key: str) -> int | str:
    if key and not _NUMBER.fullmatch(key):
        return key
    if not key.isascii() or not key.isdecimal() or len(key) > len(str(MOST_INTEGER)) or int(key) > MOST_INTEGER:
        raise ValueError(f"has the key {_short(key)!r}, which is neither a token id nor text")
    return int(key)


def _amount(token: int | str, bias: object) -> float:
    if bias is False:
        return BAN
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
        shown = token if isinstance(token, int) else repr(_short(token))
        raise ValueError(f"has for token {shown} a value that is neither false nor a number between -100 and 100")
    return float(bias)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_NUMBERS = {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}, {"const": False}]}}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_PAIRS = {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}}
LogitBias = Annotated[
    dict[int | str, float],
    PlainValidator(_bias),
    WithJsonSchema({"anyOf": [_NUMBERS, _PAIRS, {"type": "null"}]}),
]
Samplers = Annotated[
    tuple[str, ...] | None,
    PlainValidator(_samplers),
    WithJsonSchema({"anyOf": [{"type": "string"}, _STRINGS, {"type": "null"}]}),
]
Breakers = Annotated[
    tuple[str, ...] | None, PlainValidator(_breakers), WithJsonSchema({"anyOf": [_STRINGS, {"type": "null"}]})
]


def _integer(least: int, most: int, description: str) -> Any:
    return Field(None, strict=True, ge=least, le=most, description=description)


class SamplingBody(Body):
    """How tokens are drawn. Beside OpenAI's fields all are extensions, named as llama-server's."""

    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the likeliest token")
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(
        None,
        strict=True,
        ge=-(2**63),
        lt=2**64,
        description="the same seed gives the same draws; -1 or null: a new one",
    )
    logit_bias: LogitBias = Field(
        default_factory=dict,
        description="token id, or text of one token → -100 … 100, added to its logit; false bans it",
    )
    top_k: int | None = _integer(-1, MOST_INTEGER, "draw from the k likeliest tokens; 0 or -1: from all")
    min_p: float | None = Field(
        None, ge=0, le=1, description="drop tokens less likely than this share of the likeliest"
    )
    repeat_penalty: float | None = Field(None, gt=0, le=10)
    repeat_last_n: int | None = _integer(-1, MOST_INTEGER, "latest tokens that penalties look at; -1: the context")
    samplers: Samplers = Field(None, description="steps of sampling in their order, by name or letter")
    min_keep: int | None = _integer(0, MOST_INTEGER, "candidates that typ_p, top_p, min_p and xtc leave at least")
    typical_p: float | None = Field(None, ge=0, le=1, description="locally typical sampling; 1: off")
    top_n_sigma: float | None = Field(
        None, ge=-1, le=100, description="keep logits within n standard deviations of the greatest; 0 or -1: off"
    )
    xtc_probability: float | None = Field(None, ge=0, le=1, description="chance to exclude top choices; 0: off")
    xtc_threshold: float | None = Field(None, ge=0, le=1, description="what a top choice is for XTC; above 0.5: off")
    dynatemp_range: float | None = Field(None, ge=0, le=2, description="temperature ± this, by entropy; 0: off")
    dynatemp_exponent: float | None = Field(None, gt=0, le=10)
    dry_multiplier: float | None = Field(None, ge=0, le=100, description="strength against repeats; 0: off")
    dry_base: float | None = Field(None, ge=1, le=10)
    dry_allowed_length: int | None = _integer(0, MOST_INTEGER, "tokens that may repeat without penalty")
    dry_penalty_last_n: int | None = _integer(-1, MOST_INTEGER, "latest tokens that DRY looks at; -1: the context")
    dry_sequence_breakers: Breakers = Field(None, description="texts where a repeat ends")
    mirostat: int | None = _integer(0, 2, "1 or 2: that version in place of top_k, top_p, …; 0: off")
    mirostat_tau: float | None = Field(None, gt=0, le=100, description="wanted surprise in bits")
    mirostat_eta: float | None = Field(None, ge=0, le=1, description="learning rate")
    adaptive_target: float | None = Field(None, ge=-1, le=1, description="wanted probability of tokens; below 0: off")
    adaptive_decay: float | None = Field(None, ge=0, le=0.99, description="memory of adaptive-p")

    def sampling(self) -> Sampling:
        """How tokens are to be drawn."""
        given = {name: getattr(self, name) for name in SamplingBody.model_fields}
        given["seed"] = None if self.seed == _RANDOM_SEED else self.seed
        given["top_k"] = None if self.top_k is None else max(0, self.top_k)
        return Sampling(**given)
