"""From errors to HTTP: the status by class, the body by route family.

/v1/…       {"error": {"message", "type", "param", "code"}}      as OpenAI's clients read it
/api/…      {"error": "text"}                                    as Ollama's clients read it
all else    {"error": {"code", "message", "hint"}}, with "param" where one field is to blame
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import msgspec

from lilliput import errors
from lilliput.errors import LilliputError

log = logging.getLogger(__name__)

Family = Literal["openai", "ollama", "native"]


class UnsupportedParameter(errors.InvalidRequest):
    """A known feature of the dialect that this server does not have."""

    code = "unsupported-parameter"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a client is told: an HTTP status, a kebab-case code, the words, and whether trying again can help."""

    status: int
    code: str
    message: str
    hint: str | None = None
    param: str | None = None
    retry: bool | None = None
    """False for lasting faults that clients would else retry because of their status."""
    retry_after_s: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that steer a client's retries."""
        headers = {}
        if self.retry is not None:
            headers["x-should-retry"] = "true" if self.retry else "false"
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
            headers["retry-after-ms"] = str(max(1, round(self.retry_after_s * 1000)))
        return headers


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry: bool | None = None
    retry_after_s: float | None = None


_ANSWERS: Mapping[type[LilliputError], _Answer] = {
    errors.LilliputError: _Answer(500, retry=False),
    errors.InvalidRequest: _Answer(400),
    errors.NotFound: _Answer(404),
    errors.AccessDenied: _Answer(403),
    errors.DoesNotFit: _Answer(507, retry=False),
    errors.BadFile: _Answer(500, retry=False),
    errors.Busy: _Answer(503),
    errors.TooManyRequests: _Answer(429),
    errors.HubError: _Answer(502, retry=False),
    errors.RateLimited: _Answer(429),
    errors.StorageError: _Answer(500, retry=False),
    errors.DiskFull: _Answer(507, retry=False),
    errors.EngineError: _Answer(500, retry=False),
    errors.EngineDied: _Answer(503),
    errors.Cancelled: _Answer(499),
    errors.DeadlineExceeded: _Answer(408, retry=False),
    errors.ShuttingDown: _Answer(503, retry_after_s=5.0),
}

_OPENAI_CODES = {
    "context-exceeded": "context_length_exceeded",
    "input-too-long": "context_length_exceeded",
    "body-too-large": "request_too_large",
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def fault_of(error: BaseException) -> Fault:
    """The fault to tell about ``error``; one that nobody foresaw is told without its inside."""
    if not isinstance(error, LilliputError):
        return Fault(
            500, "internal-error", "the server failed on this request", "the daemon's log has the details", retry=False
        )
    answer = _answer(type(error))
    wait_s = getattr(error, "retry_after_s", None)
    return Fault(
        answer.status,
        error.code,
        error.message,
        error.hint,
        getattr(error, "param", None),
        answer.retry,
        wait_s if wait_s is not None else answer.retry_after_s,
    )


def fault_of_code(code: str, message: str, hint: str | None) -> Fault:
    """The fault of a failed job, which keeps only its error's code."""
    answer = _answer(_classes().get(code, LilliputError))
    return Fault(answer.status, code, message, hint, retry=answer.retry, retry_after_s=answer.retry_after_s)


def told(error: BaseException, request_id: str) -> Fault:
    """As :func:`fault_of`, and an unforeseen error is logged under the request's id, which the client is given."""
    fault = fault_of(error)
    if isinstance(error, LilliputError):
        return fault
    log.error("request %s failed", request_id, exc_info=error)
    return Fault(fault.status, fault.code, f"{fault.message} (request {request_id})", fault.hint, retry=fault.retry)


def family_of(path: str) -> Family:
    """Which dialect's error shape a path calls for."""
    if path in ("/v1", "/rerank") or path.startswith("/v1/"):
        return "openai"
    if path == "/api" or path.startswith("/api/"):
        return "ollama"
    return "native"


def body_of(fault: Fault, family: Family) -> bytes:
    """The JSON body of ``fault`` as the clients of ``family`` read it."""
    if family == "openai":
        return encode({"error": openai_error(fault)})
    if family == "ollama":
        return encode({"error": _sentence(fault)})
    named = {"param": fault.param} if fault.param else {}
    return encode({"error": {"code": fault.code, "message": fault.message, "hint": fault.hint, **named}})


def openai_error(fault: Fault) -> dict[str, str | None]:
    """OpenAI's error object; the hint follows the message, for its clients show nothing else."""
    kind = "server_error" if fault.status >= 500 else _OPENAI_TYPES.get(fault.status, "invalid_request_error")
    code = _OPENAI_CODES.get(fault.code, fault.code.replace("-", "_"))
    return {"message": _sentence(fault), "type": kind, "param": fault.param, "code": code}


def encode(value: object) -> bytes:
    """Plain values and dataclasses as JSON; text that is no Unicode (lone surrogates from a request) is repaired."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return msgspec.json.encode(_repaired(msgspec.to_builtins(value, enc_hook=_plain)))


def _plain(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def _repaired(value: object) -> object:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, Mapping):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_repaired(item) for item in value]
    return value


def _sentence(fault: Fault) -> str:
    return f"{fault.message}; {fault.hint}" if fault.hint else fault.message


def _answer(kind: type[LilliputError]) -> _Answer:
    return next(_ANSWERS[base] for base in kind.__mro__ if base in _ANSWERS)


def _classes() -> dict[str, type[LilliputError]]:
    classes: dict[str, type[LilliputError]] = {}
    waiting: list[type[LilliputError]] = [LilliputError]
    while waiting:
        kind = waiting.pop()
        classes.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return classes
