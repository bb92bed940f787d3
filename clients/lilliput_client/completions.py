"""Reading OpenAI's answer shapes, chat and text alike, whole and streamed."""

from __future__ import annotations

from typing import Any

import msgspec

from lilliput_client.values import Answer, Delta, Usage
from lilliput_client.wire import IN_BAND, api_error, decoder

_END = "[DONE]"


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def content(self) -> str:
        """The text, wherever this dialect's answer keeps it."""
        part = self.delta or self.message
        return (part.content if part else self.text) or ""


class _Body(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    model: str | None = None
    usage: Usage | None = None
    error: dict[str, Any] | str | None = None


_decode = decoder(_Body)


def answer(content: bytes) -> Answer:
    """The whole answer in a response body."""
    body = _decode(content)
    choices = sorted(body.choices, key=lambda choice: choice.index)
    texts = tuple(choice.content for choice in choices)
    return Answer(
        text=texts[0] if texts else "",
        texts=texts,
        model=body.model or "",
        finish_reason=choices[0].finish_reason if choices else None,
        usage=body.usage,
    )


def delta(data: str) -> tuple[Delta, ...] | None:
    """What one streamed event adds, None at the end; raises ApiError for an error told inside the stream."""
    if data.strip() == _END:
        return None
    content = data.encode()
    body = _decode(content)
    if body.error is not None:
        raise api_error(IN_BAND, content)
    deltas = [Delta(choice.content, choice.index, choice.finish_reason, model=body.model) for choice in body.choices]
    if body.usage is not None:
        deltas.append(Delta(usage=body.usage, model=body.model))
    return tuple(deltas)
