"""The shape of a call: how a request is put, how an answer is read, what each failure becomes. No transport here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from lilliput_client import errors
from lilliput_client.address import Address
from lilliput_client.sse import SseDecoder

T = TypeVar("T")

CONNECT_S = 5.0
ANSWER_S = 30.0
SILENCE_S = 60.0
"""A stream that is silent for longer is taken for dead: the daemon's heartbeats come far more often."""

IN_BAND = 200
"""The status of an error that is told inside a stream: the headers had already promised success."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; ``wait_s`` bounds each silence while waiting for the answer, None waits for ever."""

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    wait_s: float | None = ANSWER_S

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of httpx's ``request`` and ``stream``."""
        timeout = httpx.Timeout(self.wait_s, connect=CONNECT_S)
        arguments: dict[str, Any] = {"method": self.method, "url": self.path, "timeout": timeout}
        if self.params:
            arguments["params"] = dict(self.params)
        if self.body is not None:
            arguments["json"] = dict(self.body)
        return arguments


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with one answer, read by ``parse``; the statuses in ``accepted`` are no errors here."""

    request: Request
    parse: Callable[[bytes], T]
    accepted: frozenset[int] = frozenset()

    def read(self, response: httpx.Response) -> T:
        """The parsed answer of a response whose body has been read; raises ApiError for an error answer."""
        check(response, self.accepted)
        return self.parse(response.content)


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """A request answered by server-sent events: ``parse`` reads the values of one event, None means the proper end."""

    request: Request
    parse: Callable[[str], Sequence[T] | None]

    def reader(self) -> EventReader[T]:
        """The state of one run of this stream."""
        return EventReader(self.parse)


class EventReader(Generic[T]):
    """Turns the chunks of one response into values, and knows whether the end was a proper one."""

    def __init__(self, parse: Callable[[str], Sequence[T] | None]) -> None:
        self._decoder = SseDecoder()
        self._parse = parse
        self.ended = False

    def feed(self, chunk: bytes) -> Iterator[T]:
        """The values that ``chunk`` completes; nothing after the end was announced."""
        for data in self._decoder.feed(chunk):
            values = None if self.ended else self._parse(data)
            if values is None:
                self.ended = True
                return
            yield from values

    def finish(self) -> None:
        """To be called when the response is over: raises ConnectionLost if the end was not announced."""
        if not self.ended:
            raise errors.ConnectionLost(
                "the daemon's answer broke off before its end", hint="try again; its log says why"
            )


def decoder(kind: type[T], *path: str) -> Callable[[bytes], T]:
    """A parser of JSON bytes into ``kind``, found under the keys of ``path``; it raises ProtocolError."""

    def parse(content: bytes) -> T:
        try:
            value = msgspec.json.decode(content)
            for key in path:
                value = value[key]
            return msgspec.convert(value, kind)
        except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise errors.ProtocolError(
                f"the daemon's answer cannot be read: {error}", hint="client and daemon may be of different versions"
            ) from error

    return parse


def http_arguments(address: Address) -> dict[str, Any]:
    """The keyword arguments of httpx's clients, sync and async, for talking to ``address``."""
    return {
        "base_url": address.base_url,
        "trust_env": not address.is_loopback,  # a proxy for this machine's own daemon is never meant
        "verify": address.base_url.startswith("https:"),  # without TLS, loading certificates is 50 ms for nothing
        "headers": {"user-agent": "lilliput-client"},
    }


def nothing(_: bytes) -> None:
    """The parser of an answer whose content does not matter."""


def check(response: httpx.Response, accepted: frozenset[int] = frozenset()) -> None:
    """Raise the ApiError of a response that is not a success; its body must have been read."""
    if not response.is_success and response.status_code not in accepted:
        raise api_error(response.status_code, response.content, response.headers.get("retry-after"))


def api_error(status: int, content: bytes, retry_after: str | None = None) -> errors.ApiError:
    """The error of an answer in any of the daemon's dialects, or of a stranger's answer."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = None
    told = body.get("error") if isinstance(body, dict) else None
    if isinstance(told, str):
        told = {"message": told}
    if not isinstance(told, dict):
        told = {"message": f"the answer was HTTP {status}", "hint": "another program may listen at this address"}
    code = str(told.get("code") or told.get("type") or f"http-{status}").replace("_", "-")
    hint = told.get("hint")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, errors.ApiError)
    return kind(
        status,
        code,
        str(told.get("message") or f"HTTP {status}"),
        hint if isinstance(hint, str) else None,
        retry_after_s=float(retry_after) if retry_after and retry_after.isdecimal() else None,
    )


_BY_CODE: Mapping[str, type[errors.ApiError]] = {
    "does-not-fit": errors.DoesNotFit,
    "busy": errors.Busy,
    "rate-limited": errors.Busy,
    "shutting-down": errors.Busy,
}
_BY_STATUS: Mapping[int, type[errors.ApiError]] = {
    400: errors.InvalidRequest,
    401: errors.AccessDenied,
    403: errors.AccessDenied,
    404: errors.NotFound,
    413: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.Busy,
}


@contextmanager
def transport_errors(base_url: str) -> Iterator[None]:
    """Turn what httpx raises while talking to ``base_url`` into errors of this package."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise errors.DaemonUnreachable(
            f"no daemon answers at {base_url}", hint="start one with: lilliput serve"
        ) from error
    except httpx.TimeoutException as error:
        raise errors.ConnectionLost(f"the daemon at {base_url} has fallen silent", hint="see its log") from error
    except (httpx.NetworkError, httpx.ProxyError, httpx.RemoteProtocolError) as error:
        raise errors.ConnectionLost(
            f"the connection to {base_url} broke: {error}", hint="see the daemon's log"
        ) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise errors.InvalidAddress(f"{base_url} cannot be contacted: {error}") from error
    except httpx.HTTPError as error:
        raise errors.ProtocolError(f"{base_url} answered with something unreadable: {error}") from error
