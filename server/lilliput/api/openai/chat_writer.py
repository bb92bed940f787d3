"""Chat answers on the wire: chunk by chunk, or whole."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from lilliput.api.errors import Fault
from lilliput.api.openai.wire import DONE, Head, chat_logprobs, failure, slid, usage_json
from lilliput.api.streams import encode_json
from lilliput.services.requests import ChoiceFinished, GenerationEvent, TextDelta, Usage


class ChatWriter:
    """Writes ``chat.completion.chunk`` events: role, text, finish, and usage if wanted.

    Text chunks are joined from pieces that were encoded once; only the text itself is encoded each time.
    """

    def __init__(self, head: Head, n: int, wants_usage: bool) -> None:
        self._n = n
        self._wants_usage = wants_usage
        self._opening = head.opening("chat.completion.chunk")
        self._end = b'],"usage":null}\n\n' if wants_usage else b"]}\n\n"
        self._before = [b'%b{"index":%d,"delta":{"content":' % (self._opening, index) for index in range(n)]
        self._after = b'},"logprobs":null,"finish_reason":null}' + self._end

    def opening(self) -> bytes:
        """One chunk a choice with the role, in the order of the choices."""
        return b"".join(
            self._chunk(index, {"role": "assistant", "content": ""}, None, None) for index in range(self._n)
        )

    def event(self, event: GenerationEvent) -> bytes:
        """The chunk of one event; none for a delta that says nothing."""
        if type(event) is TextDelta:
            if event.logprobs:
                logprobs = {"content": chat_logprobs(event.logprobs), "refusal": None}
                return self._chunk(event.index, {"content": event.text}, logprobs, None)
            return self._before[event.index] + encode_json(event.text) + self._after if event.text else b""
        if isinstance(event, ChoiceFinished):
            return self._chunk(event.index, {}, None, event.reason, event.discarded_tokens)
        if isinstance(event, Usage) and self._wants_usage:
            return self._opening + b'],"usage":' + encode_json(usage_json(event)) + b"}\n\n"
        return b""

    def closing(self) -> bytes:
        """The word that ends every stream of this dialect."""
        return DONE

    def failure(self, fault: Fault) -> bytes:
        """The error in-band, then the end."""
        return failure(fault)

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: object, reason: str | None, discarded: int = 0
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason, **slid(discarded)}
        return self._opening + encode_json(choice) + self._end


async def whole_chat(events: AsyncIterable[GenerationEvent], head: Head, n: int, logprobs: bool) -> bytes:
    """The ``chat.completion`` object of all events."""
    texts: list[list[str]] = [[] for _ in range(n)]
    told: list[list[dict[str, Any]]] = [[] for _ in range(n)]
    reasons = ["stop"] * n
    discarded = [0] * len(reasons)
    usage: Usage | None = None
    async for event in events:
        if isinstance(event, TextDelta):
            texts[event.index].append(event.text)
            told[event.index] += chat_logprobs(event.logprobs)
        elif isinstance(event, ChoiceFinished):
            reasons[event.index] = event.reason
            discarded[event.index] = event.discarded_tokens
        else:
            usage = event
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "".join(texts[index]), "refusal": None},
            "logprobs": {"content": told[index], "refusal": None} if logprobs else None,
            "finish_reason": reasons[index],
            **slid(discarded[index]),
        }
        for index in range(n)
    ]
    body: dict[str, Any] = {"id": head.id, "object": "chat.completion", "created": head.created, "model": head.model}
    body["choices"] = choices
    if usage is not None:
        body["usage"] = usage_json(usage)
    return encode_json(body)
