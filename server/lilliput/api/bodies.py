"""The base of all request bodies: unknown keys are ignored, numbers are finite, nesting is bounded."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MAX_DEPTH = 64


class Body(BaseModel):
    """A JSON request body."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _not_too_deep(cls, value: Any) -> Any:
        if depth_exceeds(value, MAX_DEPTH):
            raise ValueError(f"the body is nested deeper than {MAX_DEPTH} levels")
        return value


def depth_exceeds(value: object, limit: int) -> bool:
    """True when lists and dicts in ``value`` are nested deeper than ``limit``."""
    level: list[object] = [value]
    for _ in range(limit):
        level = [item for outer in level for item in _items(outer) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
