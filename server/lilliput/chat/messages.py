"""Bring chat messages, as clients really send them, into the form that chat templates were written for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template was seen to render; see ``probe``."""

    system: bool = True
    """a leading system message"""
    late_system: bool = True
    """a system message after the first user turn"""
    developer: bool = False
    """the role ``developer`` under its own name"""
    text_only: bool = True
    """content as a plain string (a few templates read only lists of parts)"""


def normalize(messages: Iterable[Mapping[str, Any]], abilities: Abilities = Abilities()) -> list[Message]:
    """Deep copies with flat text, parsed call arguments, no empty keys, and system text where it will be seen."""
    copies = [_tidy(dict(message)) for message in messages]
    if not abilities.developer:
        for message in copies:
            if message.get("role") == "developer":
                message["role"] = "system"
    if not abilities.system:
        copies = _system_into_user(copies)
    elif not abilities.late_system:
        copies = _system_first(copies)
    if not abilities.text_only:
        for message in copies:
            message["content"] = [{"type": "text", "text": message["content"]}]
    return copies


def flatten(content: object) -> str:
    """The text of a message's content: a string as it is, text parts joined, None as nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part_text(part) for part in content)
    return str(content)


def merge_neighbours(messages: Iterable[Message]) -> list[Message]:
    """One message per run of a role, texts a blank line apart, and an empty user turn before a leading answer.

    For templates that insist on user and assistant taking turns; messages with tool calls or results are left alone.
    """
    merged: list[Message] = []
    for message in messages:
        role = message.get("role")
        last = merged[-1] if merged else None
        if role == "assistant" and (last is None or last.get("role") == "system"):
            merged.append({"role": "user", "content": ""})
        elif last is not None and last.get("role") == role and _is_plain(message) and _is_plain(last):
            merged[-1] = {**last, "content": _join(last["content"], message["content"])}
            continue
        merged.append(message)
    return merged


def normalize_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Copies of ``tools`` in which every function has a description and parameters; None when there are none."""
    if not tools:
        return None
    copies = [deepcopy(dict(tool)) for tool in tools]
    for tool in copies:
        function = tool.get("function")
        if isinstance(function, dict):
            function.setdefault("description", "")
            function.setdefault("parameters", {"type": "object", "properties": {}})
    return copies


def _tidy(message: Message) -> Message:
    tidy = {key: deepcopy(value) for key, value in message.items() if value is not None and value != []}
    tidy["content"] = flatten(message.get("content"))
    for call in tidy.get("tool_calls", ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            function["arguments"] = _arguments(function.get("arguments"))
    return tidy


def _arguments(value: object) -> object:
    """Call arguments as an object: on the wire they are a JSON string, which templates would encode again."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        key = _TEXT_PARTS.get(str(part.get("type", "text")))
        value = part.get(key) if key else None
        return value if isinstance(value, str) else ""
    return ""


def _is_plain(message: Message) -> bool:
    return message.get("role") != "tool" and not message.get("tool_calls")


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return "\n\n".join(text for text in (first, second) if text)


def _split_system(messages: list[Message]) -> tuple[str, list[Message]]:
    system = "\n\n".join(
        message["content"] for message in messages if message.get("role") == "system" and message["content"]
    )
    return system, [message for message in messages if message.get("role") != "system"]


def _system_first(messages: list[Message]) -> list[Message]:
    system, rest = _split_system(messages)
    return [{"role": "system", "content": system}, *rest] if system else rest


def _system_into_user(messages: list[Message]) -> list[Message]:
    system, rest = _split_system(messages)
    if not system:
        return rest
    for index, message in enumerate(rest):
        if message.get("role") == "user":
            rest[index] = {**message, "content": _join(system, message["content"])}
            return rest
    return [{"role": "user", "content": system}, *rest]
