"""Where the daemon is: an argument, else LILLIPUT_HOST and LILLIPUT_PORT, else the default address."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lilliput_client.errors import InvalidAddress

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1726

_ANY_TO_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to listen on, contacted as loopback


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL without a trailing slash, and whether it can only mean this machine."""

    base_url: str
    is_loopback: bool


def resolve_address(base_url: str | None, environ: Mapping[str, str]) -> Address:
    """The daemon's address; raises InvalidAddress when what is given cannot be one."""
    if base_url is not None:
        return _from_url(base_url, "the URL")
    host = environ.get("LILLIPUT_HOST", "").strip() or DEFAULT_HOST
    if "://" in host:
        return _from_url(host, "LILLIPUT_HOST")
    port = _port(environ.get("LILLIPUT_PORT", "").strip() or str(DEFAULT_PORT))
    host = host.removeprefix("[").removesuffix("]")
    host = _ANY_TO_LOOPBACK.get(host, host)
    if "/" in host or any(character.isspace() for character in host):
        raise InvalidAddress(
            f"LILLIPUT_HOST={host!r} is not a host name", hint="write a host name or an IP address alone"
        )
    shown = f"[{host}]" if ":" in host else host
    return Address(f"http://{shown}:{port}", _is_loopback(host))


def _from_url(text: str, origin: str) -> Address:
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidAddress(
            f"{origin} {text!r} is not an http address", hint=f"write it like http://{DEFAULT_HOST}:{DEFAULT_PORT}"
        )
    return Address(url, _is_loopback(parts.hostname or ""))


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise InvalidAddress(f"LILLIPUT_PORT={text!r} is not a port", hint="write a number from 1 to 65535")
    return int(text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
