"""Prefixes on disk, over real workers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.support.model import smollm2_path

from lilliput.engine import Done, Engine, EventStream, Failed, PrefixDisk, Start, Submit, Text
from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings
from lilliput.units import MIB

STORIES = ("The quick brown fox jumps. " * 10, "A slow green turtle sleeps. " * 10, "Two grey wolves run. " * 10)


def start_of(folder: Path, build: str) -> Start:
    path = str(smollm2_path())
    context = ContextSettings(512, 6, threads=1, output_rows=6)
    disk = PrefixDisk(str(folder), 64 * MIB, build, (path,))
    return Start(
        ModelSettings(path, rung="no-extra-buffers"), context, 2, 1, gap_s=10.0, store_bytes=64 * MIB, disk=disk
    )


async def answer(engine: Engine, prompt: str) -> tuple[str, int]:
    """The text, and how much of the prompt came from a cache."""
    stream = EventStream()
    greedy = SamplerSettings(temperature=0)
    engine.submit(lambda number: Submit(number, prompt, greedy, max_tokens=6, ignore_eos=True), stream)
    text = ""
    while True:
        for event in await stream.take():
            assert not isinstance(event, Failed), event
            if isinstance(event, Text):
                text += event.text
            if isinstance(event, Done):
                return text, event.cached_tokens


@pytest.mark.parametrize("same_build", [True, False])
async def test_a_prefix_survives_the_worker_for_the_build_that_made_it(tmp_path: Path, same_build: bool) -> None:
    async with aclosing(Engine(start_of(tmp_path, "build 1"))) as engine:
        await engine.start()
        text, cached = await answer(engine, STORIES[0])
        assert cached == 0
        for story in STORIES[1:]:
            await answer(engine, story)
        for _ in range(200):
            if len(list(tmp_path.rglob("*.state"))) >= 2:
                break
            await asyncio.sleep(0.05)
    async with aclosing(Engine(start_of(tmp_path, "build 1" if same_build else "build 2"))) as engine:
        await engine.start()
        again, cached = await answer(engine, STORIES[0])
        async with asyncio.timeout(20):
            while (stats := engine.stats()) is None or not stats.totals["steps"]:
                await asyncio.sleep(0.01)
    assert (stats.totals["store_bytes"] > 0) == same_build
    assert (cached > 40) == same_build
    assert again == text
