"""Children that measure: started when nothing else computes, ended at once when something wants to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

import msgspec

from lilliput.children import start_child
from lilliput.engine import worker_environment

_LOOK_S = 0.2


async def quiet(busy: Callable[[], bool], for_s: float) -> None:
    """Wait until nothing has been busy for so many seconds."""
    idle_s = 0.0
    while idle_s < for_s:
        await asyncio.sleep(_LOOK_S)
        idle_s = 0.0 if busy() else idle_s + _LOOK_S


async def measure(
    arguments: tuple[str, ...],
    request: bytes,
    timeout_s: float,
    busy: Callable[[], bool] | None = None,
    on_line: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]] | None:
    """The JSON lines that a module prints as a child with ``request`` on its standard input.

    Fewer or none when it crashes or takes too long; None when it was ended because somebody was ``busy``. ``on_line``
    gets each as it comes.
    """
    lines: list[dict[str, Any]] = []

    async def talk() -> None:
        async for text in child.output:
            with contextlib.suppress(msgspec.DecodeError):  # the last line of a child that was ended
                line = msgspec.json.decode(text)
                lines.append(line)
                if on_line is not None:
                    on_line(line)
        await child.wait()

    child = start_child(*arguments, environment=worker_environment(os.environ), data=request)
    answer = asyncio.create_task(talk())
    disturbed = False
    try:
        async with asyncio.timeout(timeout_s):
            while not answer.done() and not disturbed:
                await asyncio.wait([answer], timeout=_LOOK_S)
                disturbed = busy is not None and not answer.done() and busy()
    except TimeoutError:
        pass  # what it has printed until now counts
    finally:
        child.kill()
        await asyncio.shield(answer)
    return None if disturbed else lines
