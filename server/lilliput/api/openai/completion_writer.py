"""Completions on the wire: chunk by chunk, or whole."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Any

from lilliput.api.errors import Fault
from lilliput.api.openai.wire import DONE, Head, failure, legacy_logprobs, slid, usage_json
from lilliput.api.streams import encode_json
from lilliput.services.requests import ChoiceFinished, GenerationEvent, TextDelta, TokenLogprob, Usage


class CompletionWriter:
    """Writes ``text_completion`` events; ``echoes`` holds what each choice begins with."""

    def __init__(self, head: Head, echoes: Sequence[str], wants_usage: bool) -> None:
        self._echoes = echoes
        self._wants_usage = wants_usage
        self._opening = head.opening("text_completion")
        self._end = b'],"usage":null}\n\n' if wants_usage else b"]}\n\n"
        self._before = [b'%b{"index":%d,"text":' % (self._opening, index) for index in range(len(echoes))]
        self._after = b',"logprobs":null,"finish_reason":null}' + self._end
        self._offsets = [0] * len(echoes)

    def opening(self) -> bytes:
        """The echoed prompts, if any."""
        return b"".join(self._text(index, echo) for index, echo in enumerate(self._echoes) if echo)

    def event(self, event: GenerationEvent) -> bytes:
        """The chunk of one event; none for a delta that says nothing."""
        if type(event) is TextDelta:
            if event.logprobs:
                logprobs, self._offsets[event.index] = legacy_logprobs(event.logprobs, self._offsets[event.index])
                return self._chunk(event.index, event.text, logprobs, None)
            return self._text(event.index, event.text) if event.text else b""
        if isinstance(event, ChoiceFinished):
            return self._chunk(event.index, "", None, event.reason, event.discarded_tokens)
        if isinstance(event, Usage) and self._wants_usage:
            return self._opening + b'],"usage":' + encode_json(usage_json(event)) + b"}\n\n"
        return b""

    def closing(self) -> bytes:
        """The word that ends every stream of this dialect."""
        return DONE

    def failure(self, fault: Fault) -> bytes:
        """The error in-band, then the end."""
        return failure(fault)

    def _text(self, index: int, text: str) -> bytes:
        return self._before[index] + encode_json(text) + self._after

    def _chunk(self, index: int, text: str, logprobs: object, reason: str | None, discarded: int = 0) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason, **slid(discarded)}
        return self._opening + encode_json(choice) + self._end


async def whole_completion(
    events: AsyncIterable[GenerationEvent], head: Head, echoes: Sequence[str], logprobs: bool
) -> bytes:
    """The ``text_completion`` object of all events."""
    texts = [[echo] for echo in echoes]
    told: list[list[TokenLogprob]] = [[] for _ in echoes]
    reasons = ["stop"] * len(echoes)
    discarded = [0] * len(reasons)
    usage: Usage | None = None
    async for event in events:
        if isinstance(event, TextDelta):
            texts[event.index].append(event.text)
            told[event.index] += event.logprobs
        elif isinstance(event, ChoiceFinished):
            reasons[event.index] = event.reason
            discarded[event.index] = event.discarded_tokens
        else:
            usage = event
    choices = [
        {
            "index": index,
            "text": "".join(texts[index]),
            "logprobs": legacy_logprobs(told[index], 0)[0] if logprobs else None,
            "finish_reason": reasons[index],
            **slid(discarded[index]),
        }
        for index in range(len(echoes))
    ]
    body: dict[str, Any] = {"id": head.id, "object": "text_completion", "created": head.created, "model": head.model}
    body["choices"] = choices
    if usage is not None:
        body["usage"] = usage_json(usage)
    return encode_json(body)
