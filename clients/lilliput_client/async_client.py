"""The asynchronous client: the synchronous one, awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from lilliput_client import calls
from lilliput_client.address import resolve_address
from lilliput_client.errors import ApiError, ConnectionLost, DaemonUnreachable
from lilliput_client.findings import Report
from lilliput_client.follow import JobFollower
from lilliput_client.machines import Host, Machine
from lilliput_client.plans import Accuracy, LoadWanted, Plan, PlanWanted, UseCase
from lilliput_client.tunings import Trial, Tuning
from lilliput_client.upkeep import Freshness, Garbage, Pruned
from lilliput_client.values import Answer, Delta, Embeddings, Engine, Job, Model, ModelDetails, Options
from lilliput_client.wire import Call, Stream, check, http_arguments, transport_errors

T = TypeVar("T")


class AsyncClient:
    """Talks to one daemon; a context manager that closes its connections at the end.

    ``base_url`` wins over LILLIPUT_HOST and LILLIPUT_PORT; ``transport`` replaces the network and ``sleep`` the
    waiting, in tests. Methods raise LilliputClientError and its kin, nothing of httpx.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.address = resolve_address(base_url, os.environ)
        self._http = httpx.AsyncClient(transport=transport, **http_arguments(self.address))
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def pull(
        self, model: str, *, variant: str | None = None, **wanted: Unpack[LoadWanted]
    ) -> AsyncGenerator[Job, None]:
        """Install ``model``; yields its job to the end, which may be a failure (``Job.check`` raises it).

        ``variant`` is a quantization or a file; what may be ``wanted`` of it is told at ``LoadWanted``.
        """
        job = await self.start_pull(model, variant=variant, **wanted)
        async with aclosing(self.follow_job(job.id)) as snapshots:
            async for snapshot in snapshots:
                yield snapshot

    async def start_pull(self, model: str, *, variant: str | None = None, **wanted: Unpack[LoadWanted]) -> Job:
        """Start, or join, the pull of ``model`` and return its job at once."""
        return await self._run(calls.start_pull(model, variant, wanted))

    async def follow_job(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield each new snapshot of a job to its end; survives broken connections and restarts of the daemon."""
        follower = JobFollower()
        while True:
            step = follower.next_step()
            if step.delay_s:
                await self._sleep(step.delay_s)
            try:
                async with aclosing(self._snapshots(job_id, poll=step.poll)) as snapshots:
                    async for job in snapshots:
                        if follower.is_news(job):
                            yield job
                        if follower.finished:
                            return
            except (ApiError, DaemonUnreachable) as error:
                follower.ended(error)
            else:
                follower.ended()

    async def jobs(self) -> tuple[Job, ...]:
        """All jobs the daemon remembers."""
        return await self._run(calls.jobs())

    async def job(self, job_id: str) -> Job:
        """One job as it is now."""
        return await self._run(calls.job(job_id))

    async def cancel_job(self, job_id: str) -> Job:
        """Cancel a job and return it as it is then."""
        return await self._run(calls.cancel_job(job_id))

    async def start_verify(self, models: Sequence[str] = (), *, hub: bool = False) -> Job:
        """Start to hash the files of installed models again, all without names, and return the job at once.

        ``file_reports`` reads what it found. With ``hub``, what was recorded is compared with the Hub, too.
        """
        return await self._run(calls.start_verify(models, hub=hub))

    async def garbage(self, older_than_s: float | None = None) -> Garbage:
        """What nobody needs any more, as the daemon would remove it: by itself nothing younger than a week."""
        return await self._run(calls.garbage(older_than_s))

    async def prune(self, older_than_s: float | None = None, paths: Sequence[str] | None = None) -> Pruned:
        """Remove what nobody needs any more, of ``paths`` only where they are given."""
        return await self._run(calls.prune(older_than_s, paths))

    async def outdated(self, models: Sequence[str] = ()) -> tuple[Freshness, ...]:
        """What the Hub has newer of some models, without names of all that came from there."""
        return await self._run(calls.outdated(models))

    async def models(self) -> tuple[Model, ...]:
        """All installed models."""
        return await self._run(calls.models())

    async def show(self, name: str) -> ModelDetails:
        """One installed model with its file's header; raises NotFound."""
        return await self._run(calls.show(name))

    async def remove(self, name: str) -> Model:
        """Remove an installed model, and its files where nothing else needs them; returns what it was."""
        return await self._run(calls.remove(name))

    async def plan(self, model: str, **wanted: Unpack[PlanWanted]) -> Plan:
        """Which variants of ``model`` fit the daemon's machine, or another one, and which would be taken.

        What may be ``wanted`` is told at ``PlanWanted``.
        """
        return await self._run(calls.plan(model, wanted))

    async def accuracy(self) -> tuple[Accuracy, ...]:
        """How far plans were off what loaded models really took, by architecture, backend and build."""
        return await self._run(calls.accuracy())

    async def tune(
        self, model: str, on_trial: Callable[[Trial], None] | None = None, *, seconds: float | None = None
    ) -> Tuning:
        """Measure for about so many seconds which settings are fastest for a model; later loads use them.

        ``on_trial`` hears of each setting, again when more of it is known. Where it raises, measuring ends, too.
        """
        async with aclosing(self._stream(calls.tune(model, seconds))) as events:
            async for event in events:
                if isinstance(event, Tuning):
                    return event
                if on_trial is not None:
                    on_trial(event)
        raise ConnectionLost("the daemon's answer ended before its result", hint="try again; its log says why")

    async def tuning(self, model: str) -> Tuning:
        """What was measured and chosen for a model, without measuring."""
        return await self._run(calls.tuning(model))

    async def choose(self, model: str, changes: Mapping[str, bool | int | None]) -> Tuning:
        """Choose settings of a model's loads (the fields of ``LoadChoices``); None leaves one to the measurement."""
        return await self._run(calls.choose(model, changes))

    async def clear_choices(self, model: str) -> Tuning:
        """Leave all settings of a model's loads to what was measured."""
        return await self._run(calls.clear_choices(model))

    async def machines(self) -> tuple[Machine, ...]:
        """The described machines that a plan can be asked for by name."""
        return await self._run(calls.machines())

    async def use_cases(self) -> tuple[UseCase, ...]:
        """What a plan can be asked to suit."""
        return await self._run(calls.use_cases())

    async def engines(self) -> tuple[Engine, ...]:
        """The models in memory."""
        return await self._run(calls.engines())

    async def load(self, model: str, *, keep_alive: float | str | None = None, **wanted: Unpack[LoadWanted]) -> Engine:
        """Load an installed model and return when it is ready; what is ``wanted`` holds for later loads, too.

        ``keep_alive`` is how long it stays when it is not used: seconds or "10m"; negative: for ever. Raises Busy when
        it is in use, loaded otherwise.
        """
        return await self._run(calls.load(model, wanted, keep_alive))

    async def unload(self, model: str, *, drain: bool = False) -> None:
        """Unload a model; with ``drain`` what it answers comes to its end first, and so long this waits."""
        await self._run(calls.unload(model, drain=drain))

    async def pin(self, model: str) -> None:
        """Keep a model in memory once it is loaded, and load it whenever the daemon starts."""
        await self._run(calls.pin(model, on=True))

    async def unpin(self, model: str) -> None:
        """Let a pinned model go when it is not used."""
        await self._run(calls.pin(model, on=False))

    async def hardware(self) -> Host:
        """What the daemon sees of its machine, and what models may use of it."""
        return await self._run(calls.hardware())

    async def doctor(self) -> Report:
        """What is wrong with the daemon's machine and installation, and what to do about it; takes some seconds."""
        return await self._run(calls.doctor())

    async def health(self) -> str:
        """``ready`` or ``starting``; raises DaemonUnreachable."""
        return await self._run(calls.health())

    async def version(self) -> str:
        """The daemon's version."""
        return await self._run(calls.version())

    async def chat(self, model: str, messages: Sequence[Mapping[str, Any]], options: Options | None = None) -> Answer:
        """The answer to ``messages`` (OpenAI's form), when it is whole."""
        return await self._run(calls.chat(model, messages, options or Options()))

    def chat_stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], options: Options | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The answer as it is made; closing the iterator stops it in the daemon too."""
        return self._stream(calls.chat_stream(model, messages, options or Options()))

    async def complete(self, model: str, prompt: str, options: Options | None = None) -> Answer:
        """The continuation of ``prompt``, when it is whole."""
        return await self._run(calls.complete(model, prompt, options or Options()))

    def complete_stream(self, model: str, prompt: str, options: Options | None = None) -> AsyncGenerator[Delta, None]:
        """The continuation as it is made; closing the iterator stops it in the daemon too."""
        return self._stream(calls.complete_stream(model, prompt, options or Options()))

    async def embed(self, model: str, inputs: str | Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Vectors of length 1 for one or many texts, cut to ``dimensions`` when they are given."""
        return await self._run(calls.embed(model, inputs, dimensions))

    async def _run(self, call: Call[T]) -> T:
        with transport_errors(self.address.base_url):
            response = await self._http.request(**call.request.arguments())
        return call.read(response)

    async def _snapshots(self, job_id: str, *, poll: bool) -> AsyncGenerator[Job, None]:
        if poll:
            yield await self.job(job_id)
            return
        async with aclosing(self._stream(calls.job_events(job_id))) as events:
            async for job in events:
                yield job

    async def _stream(self, stream: Stream[T]) -> AsyncGenerator[T, None]:
        reader = stream.reader()
        with transport_errors(self.address.base_url):
            async with self._http.stream(**stream.request.arguments()) as response:
                if not response.is_success:
                    await response.aread()
                    check(response)
                async for chunk in response.aiter_bytes():
                    for value in reader.feed(chunk):
                        yield value
                    if reader.ended:
                        return
        reader.finish()
