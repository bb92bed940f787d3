"""The base of all request bodies: unknown keys are ignored, numbers are finite, text is Unicode, nesting is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from lilliput.errors import InvalidRequest
from lilliput.units import parse_duration

MAX_DEPTH = 64
MOST_INTEGER = 2**31 - 1

Natural = Annotated[int, Field(strict=True, ge=0, le=MOST_INTEGER)]
"""A count that fits a C int; neither true nor "1" is one."""
Positive = Annotated[int, Field(strict=True, ge=1, le=MOST_INTEGER)]
"""As :data:`Natural`, from 1."""


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


KeepAlive = Annotated[
    Annotated[float, Field(strict=True)] | None,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}),
]
"""How long an unused model stays loaded: seconds or ``10m``; negative: for ever, 0: no longer than it is used."""


class Body(BaseModel):
    """A JSON request body."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _not_too_deep(cls, value: Any) -> Any:
        if depth_exceeds(value, MAX_DEPTH):
            raise ValueError(f"the body is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for name in cls.model_fields.keys() & value.keys():
                refuse_surrogates(value[name], name)
        return value


def depth_exceeds(value: object, limit: int) -> bool:
    """True when lists and dicts in ``value`` are nested deeper than ``limit``."""
    level: list[object] = [value]
    for _ in range(limit):
        level = [item for outer in level for item in _items(outer) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def refuse_surrogates(value: object, where: str) -> None:
    """Raise InvalidRequest naming the place of text in ``value`` that UTF-8 cannot hold; JSON's escapes can spell it.

    ``where`` is the path of ``value``, whose nesting is bounded.
    """
    if isinstance(value, str):
        position = _surrogate(value)
        if position is not None:
            raise InvalidRequest(f"{where!r} is not Unicode text: a lone surrogate at {position}", param=where)
        return
    if isinstance(value, dict) and any(_surrogate(key) is not None for key in value):
        raise InvalidRequest(f"{where!r} has a key that is not Unicode text: it has a lone surrogate", param=where)
    for step, item in _steps(value):
        if isinstance(item, str | dict | list):
            refuse_surrogates(item, f"{where}{step}")


def _surrogate(text: str) -> int | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _steps(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        return ((f".{key}", item) for key, item in value.items())
    return ((f"[{index}]", item) for index, item in enumerate(value)) if isinstance(value, list) else iter(())


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
