"""Pieces of OpenAI's JSON that chat and completions share: ids, usage, log probabilities, the stream's ends."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lilliput.api.errors import Fault, encode, openai_error
from lilliput.api.streams import encode_json, sse
from lilliput.services.requests import TokenLogprob, Usage

DONE = b"data: [DONE]\n\n"

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is the same in all chunks of one answer."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, now: float, model: str) -> Head:
        """A head with a fresh id."""
        return cls(f"{prefix}-{secrets.token_hex(12)}", int(now), model)

    def opening(self, kind: str) -> bytes:
        """The start of a chunk as an event, up to its choices."""
        head = encode_json({"id": self.id, "object": kind, "created": self.created, "model": self.model})
        return b"data: " + head[:-1] + b',"choices":['


def usage_json(usage: Usage) -> dict[str, Any]:
    """Token counts as OpenAI's ``usage``, and beside them the seconds that the parts of the work took."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": usage.drafted_tokens - usage.accepted_tokens,
        },
        "discarded_tokens": usage.discarded_tokens,
        "load_s": usage.load_s,
        "prefill_s": usage.prefill_s,
        "decode_s": usage.decode_s,
    }


def slid(discarded_tokens: int) -> dict[str, int]:
    """What a choice says of tokens that were discarded because the context was full; nothing when there are none."""
    return {"discarded_tokens": discarded_tokens} if discarded_tokens else {}


def failure(fault: Fault) -> bytes:
    """The in-band error that OpenAI's clients raise, and the end of the stream."""
    return sse(encode({"error": openai_error(fault)})) + DONE


def finite(logprob: float) -> float:
    """``logprob`` as JSON can say it."""
    return logprob if math.isfinite(logprob) else LEAST_LOGPROB


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Log probabilities in the chat routes' form."""
    return [
        {
            "token": one.token,
            "logprob": finite(one.logprob),
            "bytes": list(one.raw),
            "top_logprobs": [
                {"token": token, "logprob": finite(logprob), "bytes": list(raw)} for token, raw, logprob in one.top
            ],
        }
        for one in tokens
    ]


def legacy_logprobs(tokens: Iterable[TokenLogprob], offset: int) -> tuple[dict[str, Any], int]:
    """Log probabilities in the completion route's form for text that begins at ``offset``, and the offset after it."""
    told = list(tokens)
    offsets = []
    for one in told:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in told],
        "token_logprobs": [finite(one.logprob) for one in told],
        "top_logprobs": [
            {one.token: finite(one.logprob), **{token: finite(logprob) for token, _, logprob in reversed(one.top)}}
            for one in told
        ],
        "text_offset": offsets,
    }, offset
