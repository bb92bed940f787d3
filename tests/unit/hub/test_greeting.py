"""One short question to the Hub, which asks nobody else and never raises."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tests.support.hub import MEMBER_TOKEN, HubServer
from tests.unit.hub.conftest import MakeHub

from lilliput.hub import Hub


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_refused", 401), (MEMBER_TOKEN, 200)])
async def test_the_hub_says_whether_it_takes_the_token(
    make_hub: MakeHub, server: HubServer, token: str | None, status: int
) -> None:
    answer = await make_hub(token).greet(2.0)
    assert (answer.endpoint, answer.has_token, answer.status, answer.problem) == (
        server.url,
        token is not None,
        status,
        None,
    )
    (asked,) = server.log()
    assert (asked.path, asked.token) == ("/api/whoami-v2", token)


async def test_the_clocks_are_compared(hub: Hub) -> None:
    answer = await hub.greet(2.0)
    assert answer.skew_s is not None
    assert -2 < answer.skew_s < 5


@pytest.mark.parametrize(
    ("line", "ahead"),
    [
        ("Date: yesterday\r\n", None),
        ("", None),
        ("Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n", True),
        ("Date: Sun, 01 Jan 2300 00:00:00 -0000\r\n", False),
    ],
)
async def test_a_date_is_read_if_it_is_one(line: str, ahead: bool | None) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{line}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as listening:
        hub = Hub(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        answer = await hub.greet(2.0)
        await hub.aclose()
    assert answer.status == 200
    assert (None if answer.skew_s is None else answer.skew_s > 0) == ahead


async def test_a_redirect_is_not_followed(make_hub: MakeHub, server: HubServer) -> None:
    server.fault("GET /api/whoami-v2", status=302, headers={"Location": f"{server.cdn_url}/elsewhere"})
    assert (await make_hub(MEMBER_TOKEN).greet(2.0)).status == 302
    assert len(server.log()) == 1


async def test_a_silent_hub_is_not_waited_for(hub: Hub, server: HubServer) -> None:
    server.fault("GET /api/whoami-v2", hang_s=2.0)
    answer = await hub.greet(0.2)
    assert (answer.status, answer.took_s < 1.5) == (None, True)
    assert answer.problem == f"the Hub at {server.url} gives no answer within 0.2 s"


@pytest.fixture
async def lonely() -> AsyncIterator[Hub]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    hub = Hub(f"http://127.0.0.1:{port}")
    yield hub
    await hub.aclose()


async def test_a_hub_that_is_not_there_is_told(lonely: Hub) -> None:
    answer = await lonely.greet(2.0)
    assert (answer.status, answer.offline) == (None, False)
    assert answer.problem is not None
    assert answer.problem.startswith(f"the Hub at {lonely.endpoint} cannot be reached")


async def test_offline_mode_asks_nobody(hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    answer = await hub.greet(2.0)
    assert (answer.status, answer.offline) == (None, True)
    assert server.log() == []
