"""What is fastest of what was measured, and when it is measured; and the real probe on a real model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.model import smollm2_path
from tests.support.model_headers import SMALL, half
from tests.unit.services.plan_bench import KeptFacts, installed

from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import EngineError
from lilliput.llama import RUNGS
from lilliput.services import tunings as tunings_module
from lilliput.services.tunings import Trial, Tuning, Tunings, decide

USUAL = Trial(True, 8, 512, (100.0, 90.0), 400.0, 200.0)


def model(tmp_path: Path) -> InstalledModel:
    return installed(tmp_path, "small:1b-f16", SMALL.content(half), quantization="F16", architecture="llama")


def line(flash: bool = True, threads: int = 8, ubatch: int = 512, decode_s: float = 0.01, busy: float = 1.0) -> Any:
    return {
        "flash_attention": flash,
        "threads": threads,
        "ubatch_tokens": ubatch,
        "decode_s": {"64": decode_s, "512": None},
        "prompt_token_s": 0.002,
        "wide_token_s": None,
        "busy": busy,
    }


class Probe:
    """Plays the child: gives the answers in turn and keeps the requests."""

    def __init__(self, *answers: list[Any] | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []

    async def __call__(self, _arguments: object, request: bytes, _timeout_s: float, _busy: object) -> list[Any] | None:
        self.requests.append(request)
        return self.answers.pop(0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def at_once(_busy: object, _for_s: float) -> None:
        return None

    def playing(*answers: list[Any] | None) -> Probe:
        probe = Probe(*answers)
        monkeypatch.setattr(tunings_module, "measure", probe)
        monkeypatch.setattr(tunings_module, "quiet", at_once)
        monkeypatch.setattr(tunings_module, "_OTHERS_S", 0.0)
        return probe

    return playing


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), Tuning()),
        ((Trial(False, 8, 512, (110.0, 95.0), 400.0),), Tuning(flash_attention=False)),
        ((Trial(False, 8, 512, (101.0, 91.0), 400.0),), Tuning()),
        ((Trial(False, 8, 512, (120.0, 60.0), 400.0),), Tuning()),
        ((Trial(False, 8, 512, (120.0, 99.0), 400.0, 150.0),), Tuning()),
        ((Trial(False, 8, 512, (120.0, 99.0), 400.0, 199.0),), Tuning(flash_attention=False)),
        ((Trial(True, 4, 512, (110.0, 99.0), 400.0), Trial(True, 6, 512, (120.0, 110.0), 400.0)), Tuning(threads=6)),
        ((Trial(True, 8, 128, (100.0, 90.0), 440.0),), Tuning(ubatch_tokens=128)),
        ((Trial(True, 8, 128, (150.0, 150.0), 400.0),), Tuning()),
        ((Trial(False, 8, 512, (110.0, None), None),), Tuning(flash_attention=False)),
    ],
)
def test_only_what_is_clearly_faster_is_changed(others: tuple[Trial, ...], expected: Tuning) -> None:
    found = decide((USUAL, *others))
    assert (found.flash_attention, found.threads, found.ubatch_tokens) == (
        expected.flash_attention,
        expected.threads,
        expected.ubatch_tokens,
    )
    assert found.trials == (USUAL, *others)


def test_nothing_measured_changes_nothing() -> None:
    assert decide(()) == Tuning()


async def test_what_was_measured_is_kept_for_later_daemons(tmp_path: Path, play: Any) -> None:
    play([line(), line(flash=False, decode_s=0.005)])
    facts, one = KeptFacts(), model(tmp_path)
    tuning = await Tunings(facts, "m", "b", (8, 4), lambda: False).tune(one)
    assert tuning.flash_attention is False
    assert await Tunings(facts, "m", "b", (8, 4), lambda: False).of(one) == tuning
    assert await Tunings(facts, "m", "other", (8, 4), lambda: False).of(one) is None


async def test_a_file_that_crashes_is_tried_with_ever_safer_settings(tmp_path: Path, play: Any) -> None:
    probe = play([], [], [line()])
    await Tunings(KeptFacts(), "m", "b", (8,), lambda: False).tune(model(tmp_path))
    assert [msgspec.json.decode(request)["rung"] for request in probe.requests] == list(RUNGS)


async def test_what_cannot_be_measured_is_an_error_with_its_name(tmp_path: Path, play: Any) -> None:
    play(*([] for _ in RUNGS))
    with pytest.raises(EngineError, match="small:1b-f16 could not be measured"):
        await Tunings(KeptFacts(), "m", "b", (8,), lambda: False).tune(model(tmp_path))


async def test_in_the_background_it_gives_way_and_waits_for_quiet_cores(tmp_path: Path, play: Any) -> None:
    probe = play(None, [line(busy=0.4)], [line(), line(flash=False, decode_s=0.005)])
    tunings, one = Tunings(KeptFacts(), "m", "b", (8,), lambda: False), model(tmp_path)
    tunings.want(one, rung="native")
    tunings.want(one, rung="native")
    async with asyncio.timeout(5):
        while await tunings.of(one) is None:
            await asyncio.sleep(0)
    assert len(probe.requests) == 3
    assert not (await tunings.of(one) or Tuning()).disturbed
    await tunings.aclose()


async def test_without_leave_nothing_is_measured_in_the_background(tmp_path: Path, play: Any) -> None:
    probe = play([line()])
    tunings = Tunings(KeptFacts(), "m", "b", (8,), lambda: False, probing=False)
    tunings.want(model(tmp_path), rung="native")
    await asyncio.sleep(0.01)
    await tunings.aclose()
    assert probe.requests == []


async def test_a_real_model_is_measured_in_all_settings() -> None:
    path = smollm2_path()
    real = InstalledModel("smollm2:135m", "file", (InstalledFile(path, path.stat().st_size, None),))
    tuning = await Tunings(KeptFacts(), "m", "b", (2, 1), lambda: False).tune(real)
    settings = [(trial.flash_attention, trial.threads, trial.ubatch_tokens) for trial in tuning.trials]
    assert settings == [(True, 2, 512), (False, 2, 512), (True, 2, 128), (True, 1, 512)]
    assert all(trial.wide_tokens_per_s for trial in tuning.trials[:2])
    assert all(trial.tokens_per_s[0] and trial.prompt_tokens_per_s for trial in tuning.trials)
