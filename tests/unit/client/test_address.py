"""Where the client looks for the daemon."""

from __future__ import annotations

import pytest

from lilliput_client import InvalidAddress
from lilliput_client.address import resolve_address


@pytest.mark.parametrize(
    ("environ", "url", "loopback"),
    [
        ({}, "http://127.0.0.1:1726", True),
        ({"LILLIPUT_HOST": "", "LILLIPUT_PORT": ""}, "http://127.0.0.1:1726", True),
        ({"LILLIPUT_PORT": "8000"}, "http://127.0.0.1:8000", True),
        ({"LILLIPUT_HOST": "0.0.0.0"}, "http://127.0.0.1:1726", True),
        ({"LILLIPUT_HOST": "::"}, "http://[::1]:1726", True),
        ({"LILLIPUT_HOST": "[::]", "LILLIPUT_PORT": "9"}, "http://[::1]:9", True),
        ({"LILLIPUT_HOST": "fd00::1"}, "http://[fd00::1]:1726", False),
        ({"LILLIPUT_HOST": "localhost"}, "http://localhost:1726", True),
        ({"LILLIPUT_HOST": "box.lan"}, "http://box.lan:1726", False),
        ({"LILLIPUT_HOST": "https://models.example/base/"}, "https://models.example/base", False),
    ],
)
def test_environment_gives_the_address(environ: dict[str, str], url: str, loopback: bool) -> None:
    address = resolve_address(None, environ)
    assert (address.base_url, address.is_loopback) == (url, loopback)


def test_an_argument_wins_over_the_environment() -> None:
    address = resolve_address("http://localhost:5/", {"LILLIPUT_HOST": "elsewhere", "LILLIPUT_PORT": "nonsense"})
    assert address.base_url == "http://localhost:5"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "17 26"])
def test_a_bad_port_is_named(port: str) -> None:
    with pytest.raises(InvalidAddress, match="LILLIPUT_PORT"):
        resolve_address(None, {"LILLIPUT_PORT": port})


@pytest.mark.parametrize("url", ["localhost:1726", "ftp://x", "http://", "http://x:99999", "http://[::1"])
def test_a_bad_url_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        resolve_address(url, {})
    assert "http://127.0.0.1:1726" in str(caught.value.hint)


@pytest.mark.parametrize("host", ["a/b", "a b"])
def test_a_host_that_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidAddress, match="LILLIPUT_HOST"):
        resolve_address(None, {"LILLIPUT_HOST": host})
