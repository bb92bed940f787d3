"""Wrong files on their whole way through a daemon: pulled from their path, planned, loaded, asked for answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from tests.support.hostile import Mutation

PATIENCE_S = 60.0
"""What one step of one file may take."""

TYPED = frozenset(
    {"bad-file", "does-not-fit", "engine-died", "engine-load-failed", "engine-error", "invalid-request"}
    | {"not-found", "model-not-found", "template-failed", "context-exceeded"}
)
"""The errors that say what is wrong with a file, or with loading it."""

_MESSAGES = [{"role": "user", "content": "one two"}]
_ASKED = {"max_tokens": 4, "keep_alive": 0, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one file: ``pulled``, ``planned`` and so on are "works" or the code of the error."""

    name: str
    pulled: str
    planned: str
    completed: str
    chatted: str
    took_s: float

    @property
    def steps(self) -> tuple[str, ...]:
        """All that was tried."""
        return self.pulled, self.planned, self.completed, self.chatted

    @property
    def wrong(self) -> str | None:
        """Why this is not as it should be; None when it is."""
        unknown = [step for step in self.steps if step != "works" and step not in TYPED]
        if unknown:
            return f"{self.name}: {', '.join(self.steps)}"
        return f"{self.name} took {self.took_s:.0f} s" if self.took_s > PATIENCE_S else None


async def play(url: str, folder: Path, mutations: Iterable[Mutation], at_once: int = 2) -> list[Fate]:
    """The fates of all, so many at once; files are written into ``folder`` and removed again."""
    fates: list[Fate] = []
    waiting: Iterator[tuple[int, Mutation]] = iter(enumerate(mutations))

    async def work(http: httpx.AsyncClient) -> None:
        for number, mutation in waiting:
            path = folder / f"wrong-{number}.gguf"
            path.write_bytes(mutation.data)
            fates.append(await _live(http, mutation.name, path))
            path.unlink()

    async with httpx.AsyncClient(base_url=url, timeout=2 * PATIENCE_S, trust_env=False) as http:
        await asyncio.gather(*(work(http) for _ in range(at_once)))
    return fates


async def _live(http: httpx.AsyncClient, name: str, path: Path) -> Fate:
    began_s = time.monotonic()
    pulled = await _pull(http, path)
    planned = _outcome(await http.get("/lilliput/plan", params={"model": str(path)}))
    completed = await _ask(http, "completions", path, {"prompt": "one two"})
    chatted = await _ask(http, "chat/completions", path, {"messages": _MESSAGES})
    route = f"/lilliput/models/{quote(str(path))}"
    if pulled == "works":
        (await http.delete(route)).raise_for_status()
    elif (await http.get(route)).status_code == 200:
        pulled = "half installed"
    return Fate(name, pulled, planned, completed, chatted, time.monotonic() - began_s)


async def _pull(http: httpx.AsyncClient, path: Path) -> str:
    started = await http.post("/lilliput/pulls", json={"model": str(path)})
    if started.status_code != 202:
        return _outcome(started)
    async with http.stream("GET", f"{started.headers['location']}/events") as response:
        async for job in _jobs(response):
            if job["state"] in ("done", "failed", "cancelled"):
                return "works" if job["state"] == "done" else str((job["error"] or {}).get("code", job["state"]))
    return "the job never ended"


async def _jobs(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def _ask(http: httpx.AsyncClient, route: str, path: Path, body: dict[str, object]) -> str:
    return _outcome(await http.post(f"/v1/{route}", json={"model": str(path), **body, **_ASKED}))


def _outcome(answer: httpx.Response) -> str:
    if answer.status_code == 200:
        return "works"
    try:
        code = answer.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
    return str(code).replace("_", "-")
