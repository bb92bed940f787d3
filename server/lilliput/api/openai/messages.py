"""Chat messages as clients send and replay them: checked, flattened to text, freed of what means nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lilliput.api.errors import UnsupportedParameter
from lilliput.errors import InvalidRequest

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_MUST_SPEAK = {"developer", "system", "user"}
_KEPT = ("name", "tool_calls", "tool_call_id", "reasoning_content")
_TEXT_KEYS = {"text": "text", "refusal": "refusal"}


def read_messages(messages: Sequence[object]) -> list[Mapping[str, Any]]:
    """Messages with a role, text content and what templates may use; replayed answers with their nulls are welcome.

    Raises InvalidRequest naming the place, UnsupportedParameter for images and the like.
    """
    return [_read(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _read(message: object, where: str) -> Mapping[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"{where!r} must be an object with a role and content", param=where)
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRequest(
            f"'{where}.role' is {role!r}, but must be one of {', '.join(_ROLES)}", param=f"{where}.role"
        )
    content = message.get("content")
    if content is None and role in _MUST_SPEAK:
        raise InvalidRequest(f"'{where}.content' is required", param=f"{where}.content")
    read: dict[str, Any] = {"role": role, "content": _text(content, f"{where}.content")}
    for key in _KEPT:
        if message.get(key):
            read[key] = message[key]
    return read


def _text(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where!r} must be a string or a list of parts", param=where)
    return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InvalidRequest(f"{where!r} must be an object with a type", param=where)
    key = _TEXT_KEYS.get(kind)
    if key is None:
        raise UnsupportedParameter(
            f"{where!r} is a part of type {kind!r}, but this server reads text only",
            hint="send text parts",
            param=where,
        )
    text = part.get(key)
    if not isinstance(text, str):
        raise InvalidRequest(f"'{where}.{key}' must be a string", param=f"{where}.{key}")
    return text
