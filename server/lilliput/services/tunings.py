"""Which settings of a context are fastest for one file on this machine: measured once, kept, used by later loads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from statistics import median
from typing import Any

import msgspec

from lilliput.catalogue import InstalledModel
from lilliput.errors import EngineError
from lilliput.llama import RUNGS, Rung
from lilliput.services.oracle import Facts
from lilliput.services.probe_child import measure, quiet

log = logging.getLogger(__name__)

TUNE_S = 10.0
_TIMEOUT_S = 120.0
_QUIET_S = 5.0
_LEAST_SHARE = 0.85
_OTHERS_S = 60.0
_MOST_ATTEMPTS = 5
_NO_LOSS = 1.02
_WORTH = 1.03
"""What is not faster by this factor stays as it is: less would be noise."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and its speed: tokens a second of one sequence behind few and behind more tokens, of a prompt, and
    of four sequences together.
    """

    flash_attention: bool
    threads: int
    ubatch_tokens: int
    tokens_per_s: tuple[float | None, float | None]
    prompt_tokens_per_s: float | None
    wide_tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The settings to load a file with: None and 0 leave them to the defaults; ``trials`` are what was measured,
    ``disturbed`` when other programs had the cores, so that it tells little.
    """

    flash_attention: bool | None = None
    threads: int = 0
    ubatch_tokens: int = 0
    trials: tuple[Trial, ...] = ()
    disturbed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def decide(trials: Sequence[Trial]) -> Tuning:
    """The fastest of what was measured; the first trial is the usual setting and stays where nothing is clearly faster.

    Flash attention and threads go by generation (the geometric mean of both depths), the micro-batch by the prompt.
    Flash attention stays on where several sequences would be slower without it.
    """
    if not trials:
        return Tuning()
    usual = trials[0]

    def gain(trial: Trial) -> float:
        pairs = zip(trial.tokens_per_s, usual.tokens_per_s, strict=True)
        ratios = [new / old for new, old in pairs if new and old]
        return sqrt(ratios[0] * ratios[-1]) if ratios else 0.0

    plain = next((one for one in trials if not one.flash_attention), None)
    fewer = [one for one in trials[1:] if one.threads != usual.threads]
    smaller = next((one for one in trials if one.ubatch_tokens != usual.ubatch_tokens), None)
    best = max(fewer, key=gain, default=usual)
    prompt_gain = 0.0
    if smaller is not None and smaller.prompt_tokens_per_s and usual.prompt_tokens_per_s:
        prompt_gain = smaller.prompt_tokens_per_s / usual.prompt_tokens_per_s
    return Tuning(
        flash_attention=False
        if plain is not None and gain(plain) > _WORTH and not _slower_wide(plain, usual)
        else None,
        threads=best.threads if gain(best) > _WORTH else 0,
        ubatch_tokens=smaller.ubatch_tokens if smaller is not None and prompt_gain > _WORTH else 0,
        trials=tuple(trials),
    )


def _slower_wide(trial: Trial, usual: Trial) -> bool:
    new, old = trial.wide_tokens_per_s, usual.wide_tokens_per_s
    return new is not None and old is not None and new < old / _NO_LOSS


class Tunings:
    """Owner of what is known by file, for one machine and build; used from one event loop.

    ``busy`` tells whether an engine computes: what is measured in the background gives way. ``rungs`` are the safe
    settings of this machine, fastest first.
    """

    def __init__(
        self,
        facts: Facts,
        machine: str,
        build: str,
        threads: Sequence[int],
        busy: Callable[[], bool],
        *,
        rungs: Sequence[Rung] = RUNGS,
        probing: bool = True,
    ) -> None:
        self._facts = facts
        self._prefix = f"tune/2/{machine}/{build}"
        self._threads = tuple(dict.fromkeys(threads))
        self._busy = busy
        self._rungs = rungs
        self._may_probe = probing
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()

    async def of(self, model: InstalledModel) -> Tuning | None:
        """What was measured of a model's file; None before that."""
        text = await asyncio.to_thread(self._facts.get_fact, self._key(model))
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=Tuning)
        except msgspec.ValidationError:
            return None

    def want(self, model: InstalledModel, *, rung: Rung) -> None:
        """Measure a model in the background, when nothing has computed for a while, unless that was done."""
        key = self._key(model)
        if self._may_probe and key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._in_background(model, rung))

    async def tune(self, model: InstalledModel) -> Tuning:
        """Measure a model now; raises EngineError when nothing came of it."""
        async with self._lock:
            found = None
            for rung in self._rungs:  # a faster one may crash
                if found := await self._measure(model, rung, busy=None):
                    break
        if not found:
            raise EngineError(
                f"{model.name} could not be measured", hint="load it first: the daemon's log tells what goes wrong"
            )
        return await self._keep(model, found)

    async def aclose(self) -> None:
        """Stop measuring."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _in_background(self, model: InstalledModel, rung: Rung) -> None:
        if await self.of(model) is not None:
            return
        for _ in range(_MOST_ATTEMPTS):
            await quiet(self._busy, _QUIET_S)
            async with self._lock:
                lines = await self._measure(model, rung, self._busy)
            if lines is not None and not _disturbed(lines):
                if lines:
                    log.info("%s was measured here: %s", model.name, _told(await self._keep(model, lines)))
                return
            await asyncio.sleep(0 if lines is None else _OTHERS_S)

    async def _measure(
        self, model: InstalledModel, rung: Rung, busy: Callable[[], bool] | None
    ) -> list[dict[str, Any]] | None:
        """A line for each trial that came to an end; None when an engine wanted the cores."""
        request = {
            "path": str(model.path),
            "threads": self._threads,
            "rung": rung,
            "seconds": TUNE_S,
        }
        return await measure(("lilliput.llama.tune_probe",), msgspec.json.encode(request), _TIMEOUT_S, busy)

    async def _keep(self, model: InstalledModel, lines: Sequence[Mapping[str, Any]]) -> Tuning:
        tuning = replace(decide([_trial(line) for line in lines]), disturbed=_disturbed(lines))
        await asyncio.to_thread(self._facts.set_fact, self._key(model), msgspec.json.encode(tuning).decode())
        return tuning

    def _key(self, model: InstalledModel) -> str:
        return f"{self._prefix}/{model.name}/{model.size_bytes}"


def _disturbed(lines: Sequence[Mapping[str, Any]]) -> bool:
    return bool(lines) and median(float(line["busy"]) for line in lines) < _LEAST_SHARE


def _trial(line: Mapping[str, Any]) -> Trial:
    shallow, deep = (None if seconds is None else 1 / seconds for seconds in line["decode_s"].values())
    prompt_s = line["prompt_token_s"]
    return Trial(
        line["flash_attention"],
        line["threads"],
        line["ubatch_tokens"],
        (shallow, deep),
        None if prompt_s is None else 1 / prompt_s,
        None if line["wide_token_s"] is None else 1 / line["wide_token_s"],
    )


def _told(tuning: Tuning) -> str:
    parts = ["flash attention off"] if tuning.flash_attention is False else []
    parts += [f"{tuning.threads} threads"] if tuning.threads else []
    parts += [f"micro-batches of {tuning.ubatch_tokens} tokens"] if tuning.ubatch_tokens else []
    return ", ".join(parts) or "the usual settings are the fastest"
