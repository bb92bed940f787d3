"""Stand-ins for the services: what they answer is written down by the test, what they were asked is remembered."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.api.fake_upkeep import FakeUpkeep

from lilliput.api import Services
from lilliput.catalogue import InstalledFile, InstalledModel
from lilliput.errors import JobNotFound, LilliputError, ModelNotFound
from lilliput.pool import OPEN_TERMS, Terms
from lilliput.pool import Step as MemoryStep
from lilliput.services import Plan, PlanRequest
from lilliput.services.doctor import Finding, Report
from lilliput.services.doctor.finding import report
from lilliput.services.embed import EmbeddingRequest, Embeddings, Ranking, RankRequest
from lilliput.services.engines import Memory
from lilliput.services.job_records import Job
from lilliput.services.requests import (
    ChatRequest,
    ChoiceFinished,
    CompletionRequest,
    Generation,
    GenerationEvent,
    TextDelta,
    Usage,
)
from lilliput.services.tuning_choice import LoadChoices, Trial, Tuning

MODEL = InstalledModel(
    name="smollm2:135m",
    source="hub",
    files=(InstalledFile(Path("/models/a.gguf"), 98_000_000, "ab" * 32),),
    repo="HuggingFaceTB/SmolLM2",
    revision="c" * 40,
    quantization="Q4_1",
    architecture="llama",
    context_length=8192,
    parameter_count=134_515_008,
    license="apache-2.0",
    installed_at=1_767_225_600.5,
)
MEMORY_STEP = MemoryStep(1_767_225_655.5, "evict", "one", "the idle engine is ended", 7, 0)
NESTED = replace(MODEL, name="org/name:Q4_K_M", installed_at=1_767_225_700.0)

Step = GenerationEvent | Exception | float | None
"""An event, an error to raise, seconds to wait, or None: wait for ever."""


class FakeGeneration:
    """Plays ``steps``; ``closed`` tells whether it was put away, ``playing`` whether it has begun."""

    def __init__(self, steps: Sequence[Step], model: str = MODEL.name, given_up: Sequence[str] = ()) -> None:
        self.steps = steps
        self._model = model
        self.closed = False
        self.played = 0
        self.given_up = given_up
        self.position = 0

    @property
    def model(self) -> str:
        return self._model

    @property
    def quantization(self) -> str | None:
        return MODEL.quantization

    @property
    def degraded(self) -> Sequence[str]:
        return self.given_up

    @property
    def queue_position(self) -> int:
        return self.position

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        for step in self.steps:
            self.played += 1
            if step is None:
                await asyncio.Event().wait()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    async def aclose(self) -> None:
        self.closed = True


class FakeEmbedder:
    """Gives every input the vector (0.6, 0.8), and document number i the score 0.1 * i."""

    def __init__(self) -> None:
        self.asked: list[EmbeddingRequest | RankRequest] = []
        self.refusal: Exception | None = None

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self._ask(request)
        row = struct.pack("<2f", 0.6, 0.8)
        return Embeddings(MODEL.name, MODEL.quantization, (row,) * len(request.inputs), 3 * len(request.inputs))

    async def rank(self, request: RankRequest) -> Ranking:
        self._ask(request)
        scores = tuple(0.1 * index for index in range(len(request.documents)))
        return Ranking(MODEL.name, MODEL.quantization, scores, 5 * len(scores))

    def _ask(self, request: EmbeddingRequest | RankRequest) -> None:
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal


def spoken(*texts: str, index: int = 0, reason: Any = "stop") -> list[Step]:
    """The events of one choice that says ``texts``."""
    return [*(TextDelta(index, text) for text in texts), ChoiceFinished(index, reason, len(texts))]


USAGE = Usage(
    prompt_tokens=12,
    completion_tokens=3,
    cached_tokens=8,
    load_s=0.5,
    prefill_s=0.1,
    decode_s=0.2,
    drafted_tokens=7,
    accepted_tokens=5,
)


@dataclass
class FakeGenerator:
    steps: Sequence[Step] = field(default_factory=lambda: [*spoken("Hel", "lo ", "wörld\u2028!"), USAGE])
    refusal: Exception | None = None
    accept_s: float | None = 0.0
    asked: list[ChatRequest | CompletionRequest] = field(default_factory=list)
    made: list[FakeGeneration] = field(default_factory=list)
    abandoned: int = 0
    given_up: Sequence[str] = ()
    position: int = 0
    knows: Callable[[str], bool] = lambda name: name == MODEL.name

    async def chat(self, request: ChatRequest) -> Generation:
        return await self._accept(request)

    async def complete(self, request: CompletionRequest) -> Generation:
        return await self._accept(request)

    async def _accept(self, request: ChatRequest | CompletionRequest) -> Generation:
        self.asked.append(request)
        if not self.knows(request.model):
            raise ModelNotFound(f"model {request.model!r} is not installed", hint="lilliput pull it")
        if self.refusal is not None:
            raise self.refusal
        try:
            await (asyncio.Event().wait() if self.accept_s is None else asyncio.sleep(self.accept_s))
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        self.made.append(FakeGeneration(self.steps, given_up=self.given_up))
        self.made[-1].position = self.position
        return self.made[-1]


JOB = Job(id="job-1", kind="pull", model="llama3.1:8b", state="queued", created_at=1.0, updated_at=2.0)


@dataclass
class FakeJobs:
    """Plays ``snapshots`` to whoever follows; a None among them waits for ever."""

    snapshots: Sequence[Job | None] = ()
    known: dict[str, Job] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def get(self, job_id: str) -> Job:
        try:
            return self.known[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id}") from None

    def list(self) -> Sequence[Job]:
        return tuple(self.known.values())

    def events(self, job_id: str) -> AsyncIterator[Job]:
        self.get(job_id)
        return self._play()

    async def _play(self) -> AsyncIterator[Job]:
        for snapshot in self.snapshots:
            if snapshot is None:
                await asyncio.Event().wait()
            else:
                self.known[snapshot.id] = snapshot
                yield snapshot

    async def cancel(self, job_id: str) -> Job:
        self.cancelled.append(job_id)
        self.known[job_id] = replace(self.get(job_id), state="cancelled")
        return self.known[job_id]


@dataclass
class FakePulls:
    jobs: FakeJobs
    refusal: Exception | None = None
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    async def start(
        self,
        model: str,
        *,
        variant: str | None = None,
        terms: Terms = OPEN_TERMS,
    ) -> Job:
        self.asked.append({"model": model, "variant": variant, "terms": terms})
        if self.refusal is not None:
            raise self.refusal
        return self.jobs.known.setdefault(JOB.id, JOB)


@dataclass(frozen=True)
class FakeDetails:
    model: InstalledModel
    metadata: Mapping[str, Any]


@dataclass
class FakeModels:
    installed: dict[str, InstalledModel] = field(default_factory=lambda: {m.name: m for m in (MODEL, NESTED)})

    async def list(self) -> Sequence[InstalledModel]:
        return tuple(self.installed.values())

    async def resolve(self, name: str) -> InstalledModel:
        if name not in self.installed:
            raise ModelNotFound(f"model {name!r} is not installed", hint="lilliput pull it")
        return self.installed[name]

    async def remove(self, name: str) -> InstalledModel:
        model = await self.resolve(name)
        del self.installed[name]
        return model

    async def show(self, name: str) -> FakeDetails:
        return FakeDetails(await self.resolve(name), {"general.architecture": "llama", "llama.rope": 1e4})


def made_plan(request: PlanRequest) -> Plan:
    """A plan without variants that tells what it was asked."""
    context = 131072 if request.context_tokens == "max" else request.context_tokens or 8192
    return Plan(
        version=1,
        model=request.model,
        use_case=request.use_case or "general",
        machine={"system": "Linux", "described": request.machine if isinstance(request.machine, str) else None},
        budget={},
        context_tokens=context,
        slots=request.slots or 8,
        objective="the best",
        summary="there is nothing",
        variants=(),
        chosen=None,
        notes=(),
    )


@dataclass
class FakePlans:
    asked: list[PlanRequest] = field(default_factory=list)

    async def plan(self, request: PlanRequest) -> Plan:
        request.check()
        self.asked.append(request)
        return made_plan(request)


@dataclass(frozen=True, slots=True)
class Described:
    """A machine or a use case, as far as the API knows one."""

    name: str
    title: str = "A title"


@dataclass(frozen=True, slots=True)
class FakeEngine:
    model: str
    state: str = "ready"
    asked: Terms | None = None


TRIAL = Trial(True, 2, 2, 512, tokens_per_s=((64, 90.0),), prompt_tokens_per_s=300.0)


@dataclass
class FakeEngines:
    kept_s: list[float | None] = field(default_factory=list)
    drained: list[bool] = field(default_factory=list)
    pins: frozenset[str] = frozenset()
    loaded: dict[str, FakeEngine] = field(default_factory=dict)
    tuned: Tuning = field(default_factory=lambda: Tuning(LoadChoices(flash_attention=False), trials=(TRIAL,)))
    changes: list[Mapping[str, bool | int | None] | None] = field(default_factory=list)
    tune_error: LilliputError | None = None
    tune_s: float | None = None

    def list(self) -> Sequence[FakeEngine]:
        return tuple(self.loaded.values())

    def memory(self) -> Memory:
        return Memory(True, True, "little is available", 3, (MEMORY_STEP,))

    async def load(self, model: str, asked: Terms | None = None, *, keep_alive_s: float | None = None) -> FakeEngine:
        self.kept_s.append(keep_alive_s)
        return self.loaded.setdefault(model, FakeEngine(model, asked=asked))

    async def tune(self, model: str, *, seconds: float | None = None) -> AsyncIterator[Trial | Tuning]:
        self.tune_s = seconds
        if model == "missing":
            raise ModelNotFound("model 'missing' is not installed")
        return self._tune()

    async def tuning(self, model: str) -> Tuning:
        return self.tuned

    async def choose(self, model: str, changes: Mapping[str, bool | int | None] | None) -> Tuning:
        self.changes.append(changes)
        return self.tuned

    async def _tune(self) -> AsyncIterator[Trial | Tuning]:
        for trial in self.tuned.trials:
            yield trial
        if self.tune_error is not None:
            raise self.tune_error
        yield self.tuned

    async def unload(self, name: str, *, drain: bool = False) -> bool:
        self.drained.append(drain)
        return self.loaded.pop(name, None) is not None

    async def pin(self, name: str, *, on: bool) -> str:
        self.pins = self.pins | {name} if on else self.pins - {name}
        return name


@dataclass
class Fakes:
    """All stand-ins, and the services made of them."""

    generator: FakeGenerator = field(default_factory=FakeGenerator)
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)
    jobs: FakeJobs = field(default_factory=FakeJobs)
    models: FakeModels = field(default_factory=FakeModels)
    engines: FakeEngines = field(default_factory=FakeEngines)
    plans: FakePlans = field(default_factory=FakePlans)
    rows: Sequence[Mapping[str, Any]] = ()
    is_ready: bool = True

    def __post_init__(self) -> None:
        self.pulls = FakePulls(self.jobs)
        self.upkeep = FakeUpkeep(JOB)

    def services(self) -> Services:
        return Services(
            generator=self.generator,
            embedder=self.embedder,
            pulls=self.pulls,
            verifications=self.upkeep,
            garbage=self.upkeep,
            outdated=self.upkeep,
            jobs=self.jobs,
            models=self.models,
            plans=self.plans,
            engines=self.engines,
            hardware=self._hardware,
            doctor=self._doctor,
            accuracy=lambda: self.rows,
            machines=(Described("macbook-m2-16gb"),),
            use_cases=(Described("general"), Described("coding")),
            ready=lambda: self.is_ready,
            metrics=lambda: b"lilliput_requests_total 1.0\n",
            version="9.8.7",
        )

    async def _hardware(self) -> Mapping[str, Any]:
        return {"system": "Linux"}

    async def _doctor(self) -> Report:
        return report([Finding("swap", "swap", "unknown", "nobody tells", {"busy": False}, None, 0.5)], 7.0, 1.0)
