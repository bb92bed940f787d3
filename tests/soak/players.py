"""Who does what to the daemon in a soak: honest clients, rude ones, broken files, a Hub with faults, and killers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.soak.tally import Tally
from tests.support.hostile import Mutation
from tests.support.hostile.playing import TYPED
from tests.support.hub import HubServer

BURST = 60
REPOSITORY = "tiny/SmolLM2-GGUF"

_LATER = frozenset({"busy", "shutting-down"})
_ANSWERED = frozenset({"200", "engine-died"}) | _LATER
FORESEEN = {
    "chat": _ANSWERED,
    "leave": frozenset({"left"}) | _ANSWERED,
    "burst": _ANSWERED,
    "bad request": frozenset({"invalid-request", "model-not-found", "not-found", "bad-name"}),
    "broken file": TYPED | {"200", "busy"},
    "pull": frozenset({"done", "cancelled"}),
    "pull with a fault": frozenset({"done", "cancelled", "checksum-mismatch", "rate-limited", "hub-unreachable"}),
    "remove": frozenset({"200", "model-not-found"}),
    "look": frozenset({"200"}),
}
"""What may come of each act; everything else is a fault of the daemon. Engines die because they are killed here."""

_BAD: tuple[tuple[str, bytes], ...] = (
    ("/v1/chat/completions", b"{"),
    ("/v1/chat/completions", b'{"model": "smollm2", "messages": "no"}'),
    ("/v1/chat/completions", b'{"model": "no-such-model", "messages": [{"role": "user", "content": "a"}]}'),
    ("/v1/completions", b'{"model": "smollm2", "prompt": 7}'),
    ("/v1/completions", b'{"model": "smollm2", "prompt": "a", "max_tokens": -5}'),
    ("/v1/completions", b'{"model": "/no/such/file.gguf", "prompt": "a"}'),
    ("/lilliput/pulls", b'{"model": "a b c"}'),
    ("/lilliput/pulls", b'{"model": ""}'),
)
_HUB_FAULTS: tuple[dict[str, Any], ...] = (
    {"match": "GET /cdn/.*", "cut_after_bytes": 20_000_000},
    {"match": "GET /cdn/.*", "corrupt_at": 1_000_000},
    {"match": "GET /api/models/.*", "status": 429, "headers": {"Retry-After": "1"}},
    {"match": "GET /cdn/.*", "status": 503},
    {"match": "GET /cdn/.*", "bytes_per_s": 20_000_000},
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where they play: the daemon, models that can be asked, files that are wrong, and the Hub."""

    http: httpx.AsyncClient
    tally: Tally
    draw: random.Random
    models: Sequence[str]
    broken: Sequence[Mutation]
    folder: Path
    hub: HubServer

    def note(self, act: str, outcome: str, detail: str = "") -> None:
        """One more outcome."""
        self.tally.note(act, outcome, FORESEEN, detail)


Act = Callable[[Stage], Awaitable[None]]


async def chat(stage: Stage) -> None:
    """An honest client."""
    outcome, detail = await _answer(stage)
    stage.note("chat", outcome, detail)
    if outcome in _LATER:
        await asyncio.sleep(1)


async def leave(stage: Stage) -> None:
    """One who does not wait for the end."""
    try:
        async with asyncio.timeout(stage.draw.choice((0.01, 0.1, 0.5))):
            outcome, detail = await _answer(stage, most=1000)
    except TimeoutError:
        outcome, detail = "left", ""
    stage.note("leave", outcome, detail)


async def burst(stage: Stage) -> None:
    """More at once than the queue holds."""
    for outcome, detail in await asyncio.gather(*(_answer(stage, most=4) for _ in range(BURST))):
        stage.note("burst", outcome, detail)


async def bad_request(stage: Stage) -> None:
    """What nobody can answer."""
    route, body = stage.draw.choice(_BAD)
    answer = await stage.http.post(route, content=body, headers={"content-type": "application/json"})
    stage.note("bad request", outcome_of(answer), f"{route} {body!r}")


async def broken_file(stage: Stage) -> None:
    """A file that is not what it should be, by its path."""
    number = stage.draw.randrange(len(stage.broken))
    mutation = stage.broken[number]
    path = stage.folder / f"broken-{number}.gguf"
    path.write_bytes(mutation.data)
    asked = {"model": str(path), "prompt": "one", "max_tokens": 3, "keep_alive": 0}
    answer = await stage.http.post("/v1/completions", json=asked)
    stage.note("broken file", outcome_of(answer), mutation.name)
    await stage.http.delete(f"/lilliput/models/{path}")
    path.unlink()


async def pull(stage: Stage) -> None:
    """A pull, with or without faults of the Hub, cancelled or not; then the model goes again."""
    faulty = stage.draw.random() < 0.5
    act = "pull with a fault" if faulty else "pull"
    if faulty:
        await asyncio.to_thread(lambda: stage.hub.fault(**stage.draw.choice(_HUB_FAULTS)))
        stage.tally.faults["Hub"] += 1
    job = (await stage.http.post("/lilliput/pulls", json={"model": f"{REPOSITORY}:Q2_K"})).raise_for_status().json()
    give_up = stage.draw.random() < 0.2
    while job["state"] in ("queued", "running"):
        await asyncio.sleep(0.2)
        if give_up and job["phase"] == "downloading":
            await stage.http.delete(f"/lilliput/jobs/{job['id']}")
        job = (await stage.http.get(f"/lilliput/jobs/{job['id']}")).raise_for_status().json()
    stage.note(act, job["error"]["code"] if job["state"] == "failed" else job["state"], str(job["error"]))
    await asyncio.to_thread(stage.hub.reset)
    if job["state"] == "done":
        await _use(stage, job["result"]["name"])


async def _use(stage: Stage, name: str) -> None:
    """What was pulled is asked once, then removed with its files."""
    asked = {"model": name, "prompt": "one", "max_tokens": 3, "keep_alive": 0}
    answer = await stage.http.post("/v1/completions", json=asked)
    stage.note("chat", outcome_of(answer), name)
    stage.note("remove", outcome_of(await stage.http.delete(f"/lilliput/models/{name}")))


async def look(stage: Stage) -> None:
    """What people and monitoring look at."""
    routes = ("/lilliput/engines", "/lilliput/models", "/lilliput/hardware", "/metrics", "/lilliput/jobs", "/api/tags")
    route = stage.draw.choice(routes)
    stage.note("look", outcome_of(await stage.http.get(route)), route)


async def kill(stage: Stage) -> None:
    """End some engine that is ready, crash it, or stop it."""
    engines = (await stage.http.get("/lilliput/engines")).json()["engines"]
    found = [one["pid"] for one in engines if one["state"] == "ready"]
    if found:
        name = stage.draw.choice(("SIGKILL", "SIGSEGV", "SIGSTOP"))
        with suppress(ProcessLookupError):
            os.kill(stage.draw.choice(found), getattr(signal, name))
            stage.tally.faults[name] += 1


async def _answer(stage: Stage, most: int = 40) -> tuple[str, str]:
    """Ask some model for something; what came of it. A stream that does not end properly is "unfinished"."""
    asked: dict[str, Any] = {
        "model": stage.draw.choice(stage.models),
        "prompt": f"{stage.draw.randrange(20)} and " * stage.draw.choice((1, 5, 60)),
        "max_tokens": stage.draw.randrange(1, most + 1),
        "stream": stage.draw.random() < 0.6,
    }
    if not asked["stream"]:
        answer = await stage.http.post("/v1/completions", json=asked)
        return outcome_of(answer), answer.text[:300]
    async with stage.http.stream("POST", "/v1/completions", json=asked) as response:
        if response.status_code != 200:
            await response.aread()
            return outcome_of(response), response.text[:300]
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
    if len(lines) < 2 or lines[-1] != "[DONE]":
        return "unfinished", str(lines[-2:])
    last = json.loads(lines[-2])
    return (_code(last["error"]["code"]) if "error" in last else "200"), lines[-2][:300]


def outcome_of(answer: httpx.Response) -> str:
    """The status where it is good, else the error's code; one who must wait is told how long."""
    if answer.status_code < 300:
        return "200"
    try:
        told = answer.json()["error"]
        code = _code(told["code"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
    waits = code in _LATER
    return "busy without retry-after" if waits and "retry-after" not in answer.headers else code


def _code(code: str) -> str:
    return code.replace("_", "-")
