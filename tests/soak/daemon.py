"""The soak of the whole daemon: ``python -m tests.soak.daemon --minutes 30``.

Everything that goes wrong in weeks happens at low rates: clients who leave, engines that die and hang, wrong requests
and files, a Hub with faults, floods. Prints what happened; the exit status is not 0 when something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import httpx
import psutil
from tests.soak import players
from tests.soak.players import REPOSITORY, Act, Stage
from tests.soak.tally import End, Tally, problems, report, tracebacks_of
from tests.support.daemon import DaemonProcess
from tests.support.footprint import Footprint, footprint
from tests.support.hostile import corpus, sound
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.model import smollm2_path
from tests.support.pulling import QUICK
from tests.support.variants import make_variants

SETTINGS = QUICK | {
    "LILLIPUT_SLOTS": "4",
    "LILLIPUT_QUEUE_LIMIT": "16",
    "LILLIPUT_STALL_S": "3",
    "LILLIPUT_KEEP_ALIVE_S": "20",
    "LILLIPUT_PREFIX_STORE": "32MiB",
}
CAST: tuple[tuple[Act, float], ...] = (
    (players.chat, 0.2),
    (players.chat, 0.5),
    (players.chat, 2.0),
    (players.leave, 0.5),
    (players.bad_request, 1.0),
    (players.look, 0.5),
    (players.broken_file, 4.0),
    (players.pull, 4.0),
    (players.kill, 8.0),
    (players.burst, 30.0),
)
"""Who plays, and how many seconds pass between two acts on the average."""

WARM_UP, SHORTEST_WARM_UP_S = 0.2, 30.0
"""The part of the time after which the first look is taken."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="tests.soak.daemon")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lilliput-soak-") as place:
        tally, end = soak(Path(place), asked.minutes * 60, asked.seed)
    found = problems(tally, end)
    sys.stdout.write(report(tally, end, asked.minutes * 60) + "\n")
    for problem in found:
        sys.stdout.write(f"wrong: {problem}\n")
    raise SystemExit(1 if found else 0)


def soak(place: Path, seconds: float, seed: int) -> tuple[Tally, End]:
    """Play for so long with a daemon whose files lie in ``place``."""
    tally = Tally()
    (place / "variants").mkdir()
    served = make_variants(place / "variants").served("Q2_K")
    models = [place / "second.gguf", place / "tiny.gguf"]
    models[0].symlink_to(smollm2_path())
    models[1].write_bytes(sound().encode())
    with HubServer({REPOSITORY: RepositoryConfig(served)}) as hub:
        daemon = DaemonProcess(place / "data", hub.environment(place / "hf") | SETTINGS)
        daemon.start()
        try:
            names = ["smollm2:135m", *map(str, models)]
            first, last = asyncio.run(_play(daemon, Scene(names, place, hub), tally, seconds, seed))
        finally:
            status = daemon.stop()
        orphans = sum(psutil.pid_exists(pid) for pid in tally.pids)
        return tally, End(first, last, orphans, tracebacks_of(daemon.log), status)


class Scene:
    """What does not change while they play."""

    def __init__(self, models: list[str], folder: Path, hub: HubServer) -> None:
        self.models = models
        self.folder = folder
        self.hub = hub
        self.broken = list(corpus())[::7]


async def _play(
    daemon: DaemonProcess, scene: Scene, tally: Tally, seconds: float, seed: int
) -> tuple[Footprint, Footprint]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=daemon.url, timeout=120, trust_env=False, limits=limits) as http:
        warm_up_s = max(SHORTEST_WARM_UP_S, seconds * WARM_UP)
        looks = []
        for span_s in (warm_up_s, seconds - warm_up_s):
            stages = [
                Stage(http, tally, random.Random(seed + at), scene.models, scene.broken, scene.folder, scene.hub)
                for at in range(len(CAST))
            ]
            until_s = time.monotonic() + span_s
            acting = (_act(*one, stage, until_s) for one, stage in zip(CAST, stages, strict=True))
            await asyncio.gather(_note_children(daemon.pid, tally, until_s), *acting)
            looks.append(await _rest(daemon, http))
            seed += len(CAST)
    return looks[0], looks[1]


async def _act(act: Act, every_s: float, stage: Stage, until_s: float) -> None:
    while time.monotonic() < until_s:
        try:
            await act(stage)
        except Exception as error:  # the soak goes on, and tells at the end
            where = traceback.extract_tb(error.__traceback__)[-1]
            stage.tally.unforeseen.append(f"{act.__name__}: {error!r} ({where.name}, line {where.lineno})")
        await asyncio.sleep(stage.draw.expovariate(1 / every_s))


async def _note_children(pid: int, tally: Tally, until_s: float) -> None:
    while time.monotonic() < until_s:
        tally.pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        await asyncio.sleep(1)


async def _rest(daemon: DaemonProcess, http: httpx.AsyncClient) -> Footprint:
    """Unload all, wait until no child is left, and look."""
    until_s = time.monotonic() + 30
    while True:
        for engine in (await http.get("/lilliput/engines")).json()["engines"]:
            await http.delete(f"/lilliput/engines/{engine['model']}")
        await asyncio.sleep(1)
        seen = footprint(daemon.pid)
        if not seen.children or time.monotonic() > until_s:
            return seen


if __name__ == "__main__":
    main()
