"""How long a plan takes: a repository of 12 variants of a 70B model on a loopback Hub, cold and warm, and whether the
daemon's event loop is ever held up by it.

The daemon's rooms run in this process, so that a task in its loop can feel every pause; Hub and client are children.
Pauses are judged by the worst of all rounds. Time in which the loop could run and other programs had its core is no
pause of the loop: it is taken off, and told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.support.daemon import free_port
from tests.support.giants import write_repository
from tests.support.hub import HubServer, RepositoryConfig

from lilliput.daemon import Daemon, loop_factory
from lilliput.settings import Settings

REPOSITORY = "giants/Llama-3.1-70B-GGUF"
ROUNDS = 5
COLD_S, WARM_S, PAUSE_S = 2.5, 0.15, 0.02
_TICK_S = 0.001
_CLIENT = """
import json, sys, time, httpx
for line in sys.stdin:
    began = time.perf_counter()
    answer = httpx.get(line.strip() + "/lilliput/plan", params={"model": sys.argv[1]}, timeout=60, trust_env=False)
    took_s = time.perf_counter() - began
    plan = answer.raise_for_status().json()
    print(json.dumps({"took_s": took_s, "variants": len(plan["variants"])}), flush=True)
"""


@dataclass(slots=True)
class Pulse:
    """Feels how long the event loop does not come back: the longest pause of its own, and the longest of all."""

    longest_s: float = 0.0
    with_others_s: float = 0.0

    async def beat(self) -> None:
        """Run until cancelled."""
        with contextlib.ExitStack() as stack:
            waited_s = _core_clock(stack)
            before_s = waited_s()
            while True:
                began = time.perf_counter()
                await asyncio.sleep(_TICK_S)
                took_s = time.perf_counter() - began - _TICK_S
                after_s = waited_s()
                self.longest_s = max(self.longest_s, took_s - (after_s - before_s))
                self.with_others_s = max(self.with_others_s, took_s)
                before_s = after_s


def _core_clock(stack: contextlib.ExitStack) -> Callable[[], float]:
    """Tells the seconds in which this thread has waited for a core so far; always 0 where the kernel does not say."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return lambda: 0.0
    stack.callback(os.close, file)
    return lambda: int(os.pread(file, 100, 0).split()[1]) / 1e9


def main() -> None:
    """Print the medians and the longest pause; exit status 1 when a bound is broken."""
    with tempfile.TemporaryDirectory() as directory:
        files = write_repository(Path(directory) / "files")
        with HubServer({REPOSITORY: RepositoryConfig(files)}) as hub:
            os.environ.update(hub.environment(Path(directory) / "hf"))
            rounds = [_round(Path(directory) / f"data-{number}") for number in range(ROUNDS)]
    cold, warm = median(cold for cold, _, _ in rounds), median(warm for _, warm, _ in rounds)
    pauses = [pulse.longest_s for _, _, pulse in rounds]
    with_others = max(pulse.with_others_s for _, _, pulse in rounds)
    sys.stdout.write(
        f"plan of {len(files)} variants, cold   median {cold:.2f} s of {ROUNDS} daemons\n"
        f"the same, warm               median {warm * 1000:.0f} ms\n"
        f"longest pause of the loop    worst {max(pauses) * 1000:.1f} ms, median {median(pauses) * 1000:.1f} ms "
        f"({with_others * 1000:.1f} ms with what other programs took)\n"
    )
    sys.exit(int(cold > COLD_S or warm > WARM_S or max(pauses) > PAUSE_S))


def _round(data_dir: Path) -> tuple[float, float, Pulse]:
    """A daemon of its own, on the loop that daemons run on."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_measure(data_dir))


async def _measure(data_dir: Path) -> tuple[float, float, Pulse]:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLIENT, REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with _daemon(data_dir) as url:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat())
        cold = await _ask(client, url)
        warm = median([await _ask(client, url) for _ in range(5)])
        beating.cancel()
    await client.communicate(b"")  # an end of its input
    return cold, warm, pulse


async def _ask(client: asyncio.subprocess.Process, url: str) -> float:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{url}\n".encode())
    answer = json.loads(await client.stdout.readline())
    assert answer["variants"] == 12
    return float(answer["took_s"])


@contextlib.asynccontextmanager
async def _daemon(data_dir: Path) -> AsyncIterator[str]:
    live: asyncio.Queue[str] = asyncio.Queue()
    daemon = Daemon(Settings(data_dir=data_dir, port=free_port()))
    running = asyncio.create_task(daemon.run(live.put_nowait))
    yield await live.get()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    main()
