"""Who is let in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.api.fakes import Fakes

from lilliput.api import ApiOptions, create_app

OWN = "http://127.0.0.1:1726"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1726", 200),
        ("localhost", 200),
        ("app.localhost:8080", 200),
        ("[::1]:1726", 200),
        ("192.168.1.7:1726", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[bad", 403),
    ],
)
async def test_only_our_own_names_and_bare_addresses_are_answered_to(
    http: httpx.AsyncClient, host: str, status: int
) -> None:
    answer = await http.get("/api/version", headers={"host": host})
    assert answer.status_code == status
    if status == 403:
        assert "error" in answer.json()
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (OWN, 202),
        ("http://localhost:3000", 202),
        ("https://[::1]", 202),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://[bad", 403),
    ],
)
async def test_foreign_pages_change_nothing(http: httpx.AsyncClient, fakes: Fakes, origin: str, status: int) -> None:
    answer = await http.post("/lilliput/pulls", json={"model": "m"}, headers={"origin": origin})
    assert answer.status_code == status
    assert bool(fakes.pulls.asked) == (status == 202)
    if status == 403:
        assert answer.json()["error"]["code"] == "foreign-origin"
    assert (await http.get("/api/version", headers={"origin": origin})).status_code == 200


@pytest.fixture
async def open_http(fakes: Fakes) -> AsyncIterator[httpx.AsyncClient]:
    options = ApiOptions(hosts=("GPU.lan",), origins=("https://chat.example/",), most_body_bytes=100)
    transport = httpx.ASGITransport(create_app(fakes.services(), options=options))
    async with httpx.AsyncClient(transport=transport, base_url="http://gpu.lan:1726") as client:
        yield client


async def test_configured_names_and_origins_are_trusted(open_http: httpx.AsyncClient) -> None:
    for origin in ("https://chat.example", "http://gpu.lan:1726"):
        answer = await open_http.post("/lilliput/pulls", json={"model": "m"}, headers={"origin": origin})
        assert answer.status_code == 202
    assert (await open_http.post("/lilliput/pulls", json={}, headers={"origin": "http://gpu.lan"})).status_code == 403


async def test_any_name_can_be_admitted(fakes: Fakes) -> None:
    transport = httpx.ASGITransport(create_app(fakes.services(), options=ApiOptions(hosts=("*",))))
    async with httpx.AsyncClient(transport=transport, base_url="http://any.example") as client:
        assert (await client.get("/health/live")).status_code == 200


async def test_large_bodies_are_refused_announced_or_not(open_http: httpx.AsyncClient, fakes: Fakes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"          "

    for content in (b" " * 101, pieces()):
        answer = await open_http.post("/v1/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert not fakes.generator.asked
