"""What the API needs of the services, as the narrowest shapes that do; the composition root passes the real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lilliput.catalogue import InstalledModel
from lilliput.pool import OPEN_TERMS, Terms
from lilliput.services.embed import EmbeddingRequest, Embeddings, Ranking, RankRequest
from lilliput.services.garbage import WEEK_S, Verdict
from lilliput.services.job_records import Job
from lilliput.services.outdated import Freshness
from lilliput.services.plan_records import Plan
from lilliput.services.plan_request import PlanRequest
from lilliput.services.prune import Pruned
from lilliput.services.requests import ChatRequest, CompletionRequest, Generation
from lilliput.services.tuning_choice import Trial, Tuning


class Generator(Protocol):
    """Starts answers. Once a call returns, the prompt has been accepted: model loaded, context long enough."""

    async def chat(self, request: ChatRequest) -> Generation:
        """Accept a chat; raises ModelNotFound, ContextExceeded, TemplateFailed, Busy, DoesNotFit, EngineLoadFailed …"""
        ...

    async def complete(self, request: CompletionRequest) -> Generation:
        """Accept a completion; raises as :meth:`chat`."""
        ...


class Embedder(Protocol):
    """Answers with vectors and scores."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed; raises ModelNotFound, InputTooLong, InvalidRequest, Busy, DoesNotFit, EngineLoadFailed …"""
        ...

    async def rank(self, request: RankRequest) -> Ranking:
        """Rank; raises as :meth:`embed`."""
        ...


class ModelDetails(Protocol):
    """An installed model and the plain values of its file's header."""

    @property
    def model(self) -> InstalledModel:
        """The model."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Header values by key: strings, numbers, booleans."""
        ...


class Jobs(Protocol):
    """Jobs by id; unknown ids raise JobNotFound at once."""

    def get(self, job_id: str) -> Job:
        """The newest snapshot."""
        ...

    def list(self) -> Sequence[Job]:
        """All remembered jobs."""
        ...

    def events(self, job_id: str) -> AsyncIterator[Job]:
        """The snapshot of now, then newer ones, a finished one last."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Stop a job; a finished one stays as it is."""
        ...


class Pulls(Protocol):
    """Downloads of models as jobs."""

    async def start(
        self,
        model: str,
        *,
        variant: str | None = None,
        terms: Terms = OPEN_TERMS,
    ) -> Job:
        """Start a pull, or join the one that runs for the same model on the same terms."""
        ...


class Verifications(Protocol):
    """Checks of installed files as jobs."""

    async def start(self, names: Sequence[str] = (), *, hub: bool = False) -> Job:
        """Start to verify models, all without names, or join the same verification; ModelNotFound."""
        ...


class Garbage(Protocol):
    """Files that nobody needs."""

    async def find(self, older_than_s: float = WEEK_S) -> Verdict:
        """What may go now, and what would if it were older."""
        ...

    async def prune(self, older_than_s: float = WEEK_S, paths: Collection[str] | None = None) -> Pruned:
        """Remove what may go now, of ``paths`` only where they are given."""
        ...


class Outdated(Protocol):
    """Installed models against the Hub."""

    async def compare(self, names: Sequence[str] = ()) -> Sequence[Freshness]:
        """What the Hub has newer of some models, or of all that came from there; ModelNotFound."""
        ...


class Models(Protocol):
    """Installed models; unknown names raise ModelNotFound."""

    async def list(self) -> Sequence[InstalledModel]:
        """All installed models."""
        ...

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means."""
        ...

    async def remove(self, name: str) -> InstalledModel:
        """Remove an installed model, files included where nobody else needs them."""
        ...

    async def show(self, name: str) -> ModelDetails:
        """Details of an installed model."""
        ...


class Plans(Protocol):
    """What would fit."""

    async def plan(self, request: PlanRequest) -> Plan:
        """The plan of a model on this machine now, or on a described one."""
        ...


class Engines(Protocol):
    """Engines that are loaded; their descriptions are dataclasses of plain values."""

    def list(self) -> Sequence[object]:
        """All engines, loading ones too, and those that failed of late."""
        ...

    def memory(self) -> object:
        """Whether memory is short, and what was given up for it."""
        ...

    async def load(self, model: str, asked: Terms | None = None, *, keep_alive_s: float | None = None) -> object:
        """Load a model, on the terms asked for if there are any, or find it loaded."""
        ...

    async def tune(self, model: str, *, seconds: float | None = None) -> AsyncIterator[Trial | Tuning]:
        """Measure which settings are fastest for a model here: trials, then what came of them."""
        ...

    async def tuning(self, model: str) -> Tuning:
        """What was measured and chosen for a model."""
        ...

    async def choose(self, model: str, changes: Mapping[str, bool | int | None] | None) -> Tuning:
        """Choose settings of a model's loads; None leaves one, or all, to the measurement."""
        ...

    async def unload(self, name: str, *, drain: bool = False) -> bool:
        """Stop a model's engine, when what it answers has come to its end if it is to ``drain``; False if there was
        none.
        """
        ...

    async def pin(self, name: str, *, on: bool) -> str:
        """Keep a model in memory, or no longer; its canonical name."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """All that the API works with. ``machines``, ``use_cases`` and what ``doctor`` finds are dataclasses of plain
    values, ``metrics`` gives all of them in Prometheus' text format.
    """

    generator: Generator
    embedder: Embedder
    pulls: Pulls
    verifications: Verifications
    garbage: Garbage
    outdated: Outdated
    jobs: Jobs
    models: Models
    plans: Plans
    engines: Engines
    hardware: Callable[[], Awaitable[Mapping[str, Any]]]
    doctor: Callable[[], Awaitable[object]]
    accuracy: Callable[[], Sequence[Mapping[str, Any]]]
    machines: Sequence[object]
    use_cases: Sequence[object]
    ready: Callable[[], bool]
    metrics: Callable[[], bytes]
    version: str
