"""What /docs shows of OpenAI's dialect."""

from __future__ import annotations

from typing import Any

from lilliput.api.documents import INVALID, answers
from lilliput.api.errors import UnsupportedParameter, fault_of
from lilliput.api.guard import foreign_host, foreign_origin, too_large
from lilliput.errors import Busy, ContextExceeded, DoesNotFit, EngineDied, ModelNotFound

_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput pull llama9")
_ERRORS = (
    INVALID,
    UnsupportedParameter("'tools' is not supported by this server", hint="leave it out", param="tools"),
    ContextExceeded(9000, 8192),
    foreign_host("evil.example"),
    foreign_origin("https://evil.example"),
    _MISSING,
    too_large(32 * 1024 * 1024),
    fault_of(RuntimeError()),
    Busy("64 requests are waiting already", retry_after_s=2.0),
    EngineDied("the engine of 'smollm2:135m' ended with signal 9"),
    DoesNotFit("llama3.1:70b needs 42.8 GiB, the budget is 20.1 GiB", need_bytes=45956274585, budget_bytes=21582210662),
)
_USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 6,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 24},
    "discarded_tokens": 0,
    "load_s": 0.0,
    "prefill_s": 0.021,
    "decode_s": 0.073,
}
_CHAT: dict[str, Any] = {
    "id": "chatcmpl-5f0c6f0de9a54d0b8a6f2a10",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "smollm2:135m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Because air scatters blue light.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}
_COMPLETION: dict[str, Any] = {
    "id": "cmpl-5f0c6f0de9a54d0b8a6f2a10",
    "object": "text_completion",
    "created": 1767225600,
    "model": "smollm2:135m",
    "choices": [{"index": 0, "text": ", there was a fox", "logprobs": None, "finish_reason": "length"}],
    "usage": _USAGE,
}
_CHUNK = (
    'data: {"id":"chatcmpl-5f0c…","object":"chat.completion.chunk","created":1767225600,"model":"smollm2:135m",'
    '"choices":[{"index":0,"delta":{"content":"Because"},"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
_MODEL = {
    "id": "smollm2:135m",
    "object": "model",
    "type": "model",
    "created": 1767225600,
    "created_at": "2026-01-01T00:00:00Z",
    "owned_by": "local",
    "display_name": "smollm2:135m",
    "lifecycle": "active",
}
_PAGE = {
    "object": "list",
    "data": [_MODEL],
    "has_more": False,
    "first_id": "smollm2:135m",
    "last_id": "smollm2:135m",
}

CHAT = answers(_CHAT, "openai", *_ERRORS, stream=("text/event-stream", _CHUNK))
COMPLETION = answers(
    _COMPLETION,
    "openai",
    *_ERRORS,
    stream=("text/event-stream", _CHUNK.replace('"delta":{"content":"Because"}', '"text":"Because"')),
)
MODELS = answers(_PAGE, "openai")
MODEL = answers(_MODEL, "openai", _MISSING)
