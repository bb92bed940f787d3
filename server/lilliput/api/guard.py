"""The door: who may talk to this server from inside a browser, and how much they may send.

A page on any site can make its visitor's browser send requests to 127.0.0.1. Two checks keep such pages out: the Host
header must name this server (else the page has bent its own name to our address), and a request that changes something
must not carry a foreign Origin. Plain ASGI, so that it costs streams nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lilliput.api.errors import Fault, body_of, family_of
from lilliput.api.streams import json_response

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON_TYPE = (b"content-type", b"application/json")


class Guard:
    """Refuses foreign hosts and origins (403) and bodies above a limit (413); takes bodies for JSON by default.

    ``hosts`` are names this server answers to besides loopback names and bare addresses (``*``: any); ``origins`` are
    pages' origins to trust besides those served from loopback or from this server itself.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str], most_body_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._most_body_bytes = most_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        fault = self._fault(scope["method"], headers)
        if fault is not None:
            body = body_of(fault, family_of(scope["path"]))
            await json_response(body, fault.status, fault.headers)(scope, receive, send)
            return
        await self._app(_with_json_type(scope, headers), self._bounded(receive), send)

    def _fault(self, method: str, headers: Headers) -> Fault | None:
        host = headers.get("host", "")
        if host and not self._is_ours(_name_of(host)):
            return foreign_host(host)
        origin = headers.get("origin")
        if origin is not None and method not in _SAFE_METHODS and not self._is_trusted(origin, host):
            return foreign_origin(origin)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most_body_bytes:
            return too_large(self._most_body_bytes)
        return None

    def _is_ours(self, name: str) -> bool:
        return "*" in self._hosts or name in self._hosts or _is_loopback_name(name) or _address(name) is not None

    def _is_trusted(self, origin: str, host: str) -> bool:
        origin = origin.lower().rstrip("/")
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"}:
            return False
        address = _address(name)
        is_loopback = _is_loopback_name(name) or (address is not None and address.is_loopback)
        return is_loopback or parts.netloc == host.lower()

    def _bounded(self, receive: Receive) -> Receive:
        """``receive`` that refuses to take in more than the limit, for bodies that do not announce their length."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._most_body_bytes:
                    raise HTTPException(413, too_large(self._most_body_bytes).message)
            return message

        return bounded


def foreign_host(host: str) -> Fault:
    """The answer to a request that calls this server by the name ``host``."""
    return Fault(
        403,
        "foreign-host",
        f"this server does not answer to the name {host!r}",
        "use its address, or add the name to the allowed hosts",
    )


def foreign_origin(origin: str) -> Fault:
    """The answer to a change that a page of ``origin`` asks for."""
    return Fault(
        403,
        "foreign-origin",
        f"pages of {origin} may not change anything here",
        "add the origin to the allowed origins if you trust it",
    )


def too_large(most_bytes: int) -> Fault:
    """The answer to a body of more than ``most_bytes``."""
    return Fault(413, "body-too-large", f"the request's body is larger than {most_bytes} bytes", "send less at once")


def _with_json_type(scope: Scope, headers: Headers) -> Scope:
    """Take bodies of no type, and those that curl's ``-d`` marks as a form, for JSON: no route reads forms."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"", "text/plain", "application/x-www-form-urlencoded"}:
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*kept, _JSON_TYPE]}


def _name_of(host: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
