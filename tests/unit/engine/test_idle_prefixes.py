"""What a real worker leaves in the KV cache between answers: every later token would read it beside the weights."""

from __future__ import annotations

from contextlib import aclosing

from tests.support.model import smollm2_path

from lilliput.engine import Done, Engine, EventStream, Start, Submit
from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings
from lilliput.units import MIB

CONTEXT_TOKENS = 8192


async def answer(engine: Engine, prompt: str) -> Done:
    stream = EventStream()
    greedy = SamplerSettings(temperature=0)
    engine.submit(lambda number: Submit(number, prompt, greedy, max_tokens=4, ignore_eos=True), stream)
    while True:
        for event in await stream.take():
            if isinstance(event, Done):
                return event


async def test_only_the_newest_of_several_idle_prefixes_stays_beside_a_store() -> None:
    model = ModelSettings(str(smollm2_path()), rung="no-extra-buffers")
    context = ContextSettings(CONTEXT_TOKENS, 9, threads=1, output_rows=9)
    async with aclosing(Engine(Start(model, context, 8, 1, store_bytes=64 * MIB))) as engine:
        await engine.start()
        first = await answer(engine, "Story 0. " + "The quick brown fox jumps. " * 16)
        for number in range(1, 5):
            last = await answer(engine, f"Story {number}. " + "The quick brown fox jumps. " * 16)
        again = await answer(engine, "Story 0. " + "The quick brown fox jumps. " * 16)
        assert engine.load.cached_tokens <= again.prompt_tokens + again.completion_tokens
        assert last.cached_tokens < 10 < first.prompt_tokens
        assert again.cached_tokens > first.prompt_tokens / 2, "what has left the cache comes back from the store"
