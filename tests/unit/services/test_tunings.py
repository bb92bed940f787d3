"""When settings are measured, with what memory, and what is kept of it; and the real probe on a real model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.model import smollm2_path
from tests.support.model_headers import SMALL, half
from tests.unit.services.plan_bench import Bench, KeptFacts, installed

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.engine import verdict_key
from lilliput.errors import DoesNotFit, EngineError
from lilliput.fit import RAM, MemoryNeed
from lilliput.llama import RUNGS
from lilliput.services import tunings as tunings_module
from lilliput.services.tune_needs import tune_needs
from lilliput.services.tuning_choice import LoadChoices, Trial, Tuning
from lilliput.services.tunings import TuneSite, Tunings

NATIVE, *_, PLAIN = RUNGS


def model(tmp_path: Path, name: str = "small:1b-f16", content: bytes | None = None) -> InstalledModel:
    return installed(tmp_path, name, content or SMALL.content(half), quantization="F16", architecture="llama")


def line(flash: bool = True, decode_s: float = 0.01, busy: float | None = 1.0, deep_s: float | None = None) -> Any:
    return {
        "flash_attention": flash,
        "threads": 8,
        "batch_threads": 8,
        "ubatch_tokens": 512,
        "repack": True,
        "memory_map": True,
        "decode_s": [[64, decode_s]] if deep_s is None else [[64, decode_s], [2048, deep_s]],
        "prompt_token_s": 0.002,
        "wide_token_s": [],
        "busy": busy,
    }


class Probe:
    """Plays the child: gives the answers in turn, line by line, and keeps the requests."""

    def __init__(self, *answers: list[Any] | None) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []

    async def __call__(
        self, _arguments: object, request: bytes, _timeout_s: float, _busy: object, on_line: Callable[[Any], None]
    ) -> list[Any] | None:
        self.requests.append(msgspec.json.decode(request))
        answer = self.answers.pop(0)
        for one in answer or ():
            on_line(one)
        return answer


@dataclass
class Room:
    """A ledger with so many bytes left; what is reserved is kept."""

    left_bytes: int = 1000
    held: list[str] = field(default_factory=list)
    asked: list[tuple[int, bool]] = field(default_factory=list)

    async def needs(self, _model: InstalledModel, context_tokens: int, copies: int) -> Mapping[str, MemoryNeed]:
        return {RAM: MemoryNeed(100 * copies, context_tokens // 10, 0, 0)}

    @asynccontextmanager
    async def reserve(self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool) -> AsyncIterator[None]:
        self.asked.append((needs[RAM].total_bytes, evict))
        if needs[RAM].total_bytes > self.left_bytes:
            raise DoesNotFit(f"{key} needs more", need_bytes=needs[RAM].total_bytes, budget_bytes=self.left_bytes)
        self.held.append(key)
        yield
        self.held.remove(key)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def at_once(_busy: object, _for_s: float) -> None:
        await asyncio.sleep(0)

    def playing(*answers: list[Any] | None) -> Probe:
        probe = Probe(*answers)
        monkeypatch.setattr(tunings_module, "measure", probe)
        monkeypatch.setattr(tunings_module, "quiet", at_once)
        monkeypatch.setattr(tunings_module, "_OTHERS_S", 0.0)
        return probe

    return playing


def made(
    facts: KeptFacts | None = None,
    room: Room | None = None,
    *,
    build: str = "b",
    threads: tuple[int, ...] = (8, 4),
    probing: bool = True,
) -> Tunings:
    room = room or Room()
    site = TuneSite("m", build, RUNGS, threads, threads, room.needs, room.reserve)
    return Tunings(facts or KeptFacts(), site, lambda: False, probing=probing)


async def done(tunings: Tunings, one: InstalledModel) -> Tuning:
    """What the background has found."""
    async with asyncio.timeout(5):
        while not (found := await tunings.of(one)).trials:
            await asyncio.sleep(0)
    return found


async def test_what_was_measured_is_kept_for_later_daemons_of_the_same_build_and_threads(
    tmp_path: Path, play: Any
) -> None:
    play([line(), line(flash=False, decode_s=0.005)])
    facts, one = KeptFacts(), model(tmp_path)
    tuning = await made(facts).tune(one)
    assert tuning.settings == LoadChoices(flash_attention=False)
    assert await made(facts).of(one) == tuning
    assert await made(facts, build="other").of(one) == Tuning()
    assert await made(facts, threads=(8,)).of(one) == Tuning()  # somebody has set the number


async def test_what_others_have_disturbed_changes_no_load_and_is_measured_again(tmp_path: Path, play: Any) -> None:
    play([line(busy=0.4), line(flash=False, decode_s=0.005, busy=0.4)], [line()])
    tunings, one = made(), model(tmp_path)
    tuning = await tunings.tune(one)
    assert (tuning.disturbed, tuning.settings, len(tuning.trials)) == (True, LoadChoices(), 2)
    tunings.want(one, NATIVE)
    async with asyncio.timeout(5):
        while (await tunings.of(one)).disturbed:
            await asyncio.sleep(0)
    await tunings.aclose()


async def test_it_holds_for_what_the_file_has_not_for_its_name_and_size(tmp_path: Path, play: Any) -> None:
    play([line()])
    facts, one = KeptFacts(), model(tmp_path)
    tuning = await made(facts).tune(one)
    assert await made(facts).of(replace(one, name="another")) == tuning
    content = SMALL.content(half)
    at = content.index(b"blk.0.attn_q")
    other = model(tmp_path, "small:1b-f16", content[:at] + b"blk.0.attn_x" + content[at + 12 :])
    assert other.size_bytes == len(content)
    assert await made(facts).of(other) == Tuning()


async def test_each_trial_is_told_as_it_ends_and_the_last_word_of_a_setting_counts(tmp_path: Path, play: Any) -> None:
    play([line(busy=None), line(flash=False), line(deep_s=0.02)])
    told: list[Trial] = []
    tuning = await made().tune(model(tmp_path), told.append)
    assert [(one.flash_attention, len(one.tokens_per_s)) for one in told] == [(True, 1), (False, 1), (True, 2)]
    assert tuning.trials == (told[2], told[1])
    assert told[2].tokens_per_s == ((64, 100.0), (2048, 50.0))


async def test_a_file_that_crashes_with_repacking_is_tried_without(tmp_path: Path, play: Any) -> None:
    probe = play([], [], [line()])
    await made().tune(model(tmp_path))
    assert [request["rung"] for request in probe.requests] == [*RUNGS]


async def test_the_safe_settings_of_engines_are_those_of_the_probe(tmp_path: Path, play: Any) -> None:
    probe = play([line()])
    facts = KeptFacts()
    facts.set_fact(verdict_key("m", "b", {"F16", "F32"}), PLAIN)
    await made(facts).tune(model(tmp_path))
    assert [request["rung"] for request in probe.requests] == [PLAIN]


async def test_what_cannot_be_measured_is_an_error_with_its_name_and_changes_nothing(tmp_path: Path, play: Any) -> None:
    play([line(), line(flash=False, decode_s=0.005)], [], [], [])
    tunings, one = made(), model(tmp_path)
    tuning = await tunings.tune(one)
    with pytest.raises(EngineError, match="small:1b-f16 could not be measured"):
        await tunings.tune(one)
    assert await tunings.of(one) == tuning


async def test_memory_is_reserved_for_as_long_as_it_takes_or_nothing_is_measured(tmp_path: Path, play: Any) -> None:
    room = Room(left_bytes=400)
    probe = play([line()])
    tunings, held = made(room=room), list[str]()
    await tunings.tune(model(tmp_path), lambda _: held.extend(room.held))
    assert room.asked == [(609, True), (509, True), (304, True)]
    assert (probe.requests[0]["context_tokens"], probe.requests[0]["copies"]) == (2048, 1)
    assert (held, room.held) == (["measuring small:1b-f16"], [])
    room.left_bytes = 0
    with pytest.raises(DoesNotFit, match="needs more"):
        await tunings.tune(model(tmp_path))


async def test_in_the_background_it_waits_for_room_and_ends_no_engine_for_it(tmp_path: Path, play: Any) -> None:
    room = Room(left_bytes=0)
    probe = play([line()])
    tunings, one = made(room=room), model(tmp_path)
    tunings.want(one, NATIVE)
    async with asyncio.timeout(5):
        while len(room.asked) < 6:
            await asyncio.sleep(0)
    assert probe.requests == []
    room.left_bytes = 1000
    await done(tunings, one)
    assert not any(evict for _, evict in room.asked)
    await tunings.aclose()


async def test_in_the_background_it_gives_way_and_waits_for_quiet_cores(tmp_path: Path, play: Any) -> None:
    probe = play(None, [line(busy=0.4)], [line(), line(flash=False, decode_s=0.005)])
    tunings, one = made(), model(tmp_path)
    tunings.want(one, PLAIN)
    tunings.want(one, PLAIN)
    assert not (await done(tunings, one)).disturbed
    assert [request["rung"] for request in probe.requests] == [PLAIN] * 3
    await tunings.aclose()


async def test_a_load_waits_until_the_background_has_given_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: Any
) -> None:
    play()
    begun, end = asyncio.Event(), asyncio.Event()

    async def measuring(*_: object) -> None:
        begun.set()
        await end.wait()

    monkeypatch.setattr(tunings_module, "measure", measuring)
    tunings = made()
    await tunings.make_way()
    tunings.want(model(tmp_path), NATIVE)
    await begun.wait()
    waiting = asyncio.create_task(tunings.make_way())
    await asyncio.sleep(0)
    assert not waiting.done()
    end.set()
    await waiting
    await tunings.aclose()


async def test_a_file_that_nothing_comes_of_is_not_tried_by_every_daemon(tmp_path: Path, play: Any) -> None:
    probe = play([])
    facts, one = KeptFacts(), model(tmp_path)
    for _ in range(2):
        tunings = made(facts)
        tunings.want(one, NATIVE)
        async with asyncio.timeout(5):
            while not all(task.done() for task in tunings._tasks.values()):
                await asyncio.sleep(0)
        await tunings.aclose()
    assert len(probe.requests) == 1


async def test_without_leave_nothing_is_measured_in_the_background(tmp_path: Path, play: Any) -> None:
    probe = play([line()])
    tunings = made(probing=False)
    tunings.want(model(tmp_path), NATIVE)
    await asyncio.sleep(0.01)
    await tunings.aclose()
    assert probe.requests == []


async def test_what_is_chosen_is_kept_by_name_until_it_is_left_to_the_measurement(tmp_path: Path, play: Any) -> None:
    play([line(), line(flash=False, decode_s=0.005)])
    facts, one = KeptFacts(), model(tmp_path)
    await made(facts).choose(one, {"flash_attention": True, "threads": 3})
    tuning = await made(facts, build="other").tune(one)
    assert tuning.measured == LoadChoices(flash_attention=False)
    assert tuning.settings == LoadChoices(flash_attention=True, threads=3)
    left = await made(facts, build="other").choose(one, {"flash_attention": None})
    assert left.settings == LoadChoices(flash_attention=False, threads=3)
    assert (await made(facts, build="other").choose(one, None)).settings == LoadChoices(flash_attention=False)


async def test_room_is_asked_for_each_copy_of_the_weights_and_all_open_contexts(tmp_path: Path) -> None:
    bench, one = Bench(), model(tmp_path)
    needs = await tune_needs(bench.planner, one, 4096, 2)
    fewer = await tune_needs(bench.planner, one, 2048, 1)
    assert set(needs) == {RAM}
    assert needs[RAM].weights_bytes == 2 * fewer[RAM].weights_bytes > 1.8 * one.size_bytes
    assert needs[RAM].kv_bytes == 2 * fewer[RAM].kv_bytes > 0
    await bench.aclose()


async def test_a_real_model_is_measured_in_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunings_module, "TUNE_ROOMS", ((2048, 2),))
    monkeypatch.setattr(tunings_module, "TUNE_S", 1000.0)  # the rounds are what ends it
    path = smollm2_path()
    real = InstalledModel("smollm2:135m", "file", (InstalledFile(path, path.stat().st_size, None),))
    told: list[Trial] = []
    tuning = await made(room=Room(10_000), threads=(2, 1)).tune(real, told.append)
    usual, *others = tuning.trials
    assert usual == replace(usual, flash_attention=True, threads=2, batch_threads=2, ubatch_tokens=512, memory_map=True)
    changed = ("flash_attention", "threads", "batch_threads", "ubatch_tokens", "memory_map", "repack")
    found = {tuple(name for name in changed if getattr(one, name) != getattr(usual, name)) for one in others}
    assert found >= {(name,) for name in changed[:-1]}
    assert found == {(name,) for name in changed if name != "repack" or usual.repack}
    assert [width for width, _ in usual.wide_tokens_per_s] == [1, 2, 4, 8, 16]
    assert [depth for depth, _ in usual.tokens_per_s] == [64, 1024]
    assert all(one.prompt_tokens_per_s for one in tuning.trials if one.threads == 2 and one.flash_attention)
    assert all(rate > 0 for one in tuning.trials for _, rate in one.tokens_per_s)
    assert len(told) > len(tuning.trials)
