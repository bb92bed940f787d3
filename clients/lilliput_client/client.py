"""The synchronous client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
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


class Client:
    """Talks to one daemon; a context manager that closes its connections at the end.

    ``base_url`` wins over LILLIPUT_HOST and LILLIPUT_PORT; ``transport`` replaces the network and ``sleep`` the
    waiting, in tests. Methods raise LilliputClientError and its kin, nothing of httpx.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = resolve_address(base_url, os.environ)
        self._http = httpx.Client(transport=transport, **http_arguments(self.address))
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pull(
        self, model: str, *, variant: str | None = None, **wanted: Unpack[LoadWanted]
    ) -> Generator[Job, None, None]:
        """Install ``model``; yields its job to the end, which may be a failure (``Job.check`` raises it).

        ``variant`` is a quantization or a file; what may be ``wanted`` of it is told at ``LoadWanted``.
        """
        job = self.start_pull(model, variant=variant, **wanted)
        return self.follow_job(job.id)

    def start_pull(self, model: str, *, variant: str | None = None, **wanted: Unpack[LoadWanted]) -> Job:
        """Start, or join, the pull of ``model`` and return its job at once."""
        return self._run(calls.start_pull(model, variant, wanted))

    def follow_job(self, job_id: str) -> Generator[Job, None, None]:
        """Yield each new snapshot of a job to its end; survives broken connections and restarts of the daemon."""
        follower = JobFollower()
        while True:
            step = follower.next_step()
            if step.delay_s:
                self._sleep(step.delay_s)
            try:
                with closing(self._snapshots(job_id, poll=step.poll)) as snapshots:
                    for job in snapshots:
                        if follower.is_news(job):
                            yield job
                        if follower.finished:
                            return
            except (ApiError, DaemonUnreachable) as error:
                follower.ended(error)
            else:
                follower.ended()

    def jobs(self) -> tuple[Job, ...]:
        """All jobs the daemon remembers."""
        return self._run(calls.jobs())

    def job(self, job_id: str) -> Job:
        """One job as it is now."""
        return self._run(calls.job(job_id))

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job and return it as it is then."""
        return self._run(calls.cancel_job(job_id))

    def start_verify(self, models: Sequence[str] = (), *, hub: bool = False) -> Job:
        """Start to hash the files of installed models again, all without names, and return the job at once.

        ``file_reports`` reads what it found. With ``hub``, what was recorded is compared with the Hub, too.
        """
        return self._run(calls.start_verify(models, hub=hub))

    def garbage(self, older_than_s: float | None = None) -> Garbage:
        """What nobody needs any more, as the daemon would remove it: by itself nothing younger than a week."""
        return self._run(calls.garbage(older_than_s))

    def prune(self, older_than_s: float | None = None, paths: Sequence[str] | None = None) -> Pruned:
        """Remove what nobody needs any more, of ``paths`` only where they are given."""
        return self._run(calls.prune(older_than_s, paths))

    def outdated(self, models: Sequence[str] = ()) -> tuple[Freshness, ...]:
        """What the Hub has newer of some models, without names of all that came from there."""
        return self._run(calls.outdated(models))

    def models(self) -> tuple[Model, ...]:
        """All installed models."""
        return self._run(calls.models())

    def show(self, name: str) -> ModelDetails:
        """One installed model with its file's header; raises NotFound."""
        return self._run(calls.show(name))

    def remove(self, name: str) -> Model:
        """Remove an installed model, and its files where nothing else needs them; returns what it was."""
        return self._run(calls.remove(name))

    def plan(self, model: str, **wanted: Unpack[PlanWanted]) -> Plan:
        """Which variants of ``model`` fit the daemon's machine, or another one, and which would be taken.

        What may be ``wanted`` is told at ``PlanWanted``.
        """
        return self._run(calls.plan(model, wanted))

    def accuracy(self) -> tuple[Accuracy, ...]:
        """How far plans were off what loaded models really took, by architecture, backend and build."""
        return self._run(calls.accuracy())

    def tune(
        self, model: str, on_trial: Callable[[Trial], None] | None = None, *, seconds: float | None = None
    ) -> Tuning:
        """Measure for about so many seconds which settings are fastest for a model; later loads use them.

        ``on_trial`` hears of each setting, again when more of it is known. Where it raises, measuring ends, too.
        """
        with closing(self._stream(calls.tune(model, seconds))) as events:
            for event in events:
                if isinstance(event, Tuning):
                    return event
                if on_trial is not None:
                    on_trial(event)
        raise ConnectionLost("the daemon's answer ended before its result", hint="try again; its log says why")

    def tuning(self, model: str) -> Tuning:
        """What was measured and chosen for a model, without measuring."""
        return self._run(calls.tuning(model))

    def choose(self, model: str, changes: Mapping[str, bool | int | None]) -> Tuning:
        """Choose settings of a model's loads (the fields of ``LoadChoices``); None leaves one to the measurement."""
        return self._run(calls.choose(model, changes))

    def clear_choices(self, model: str) -> Tuning:
        """Leave all settings of a model's loads to what was measured."""
        return self._run(calls.clear_choices(model))

    def machines(self) -> tuple[Machine, ...]:
        """The described machines that a plan can be asked for by name."""
        return self._run(calls.machines())

    def use_cases(self) -> tuple[UseCase, ...]:
        """What a plan can be asked to suit."""
        return self._run(calls.use_cases())

    def engines(self) -> tuple[Engine, ...]:
        """The models in memory."""
        return self._run(calls.engines())

    def load(self, model: str, *, keep_alive: float | str | None = None, **wanted: Unpack[LoadWanted]) -> Engine:
        """Load an installed model and return when it is ready; what is ``wanted`` holds for later loads, too.

        ``keep_alive`` is how long it stays when it is not used: seconds or "10m"; negative: for ever. Raises Busy when
        it is in use, loaded otherwise.
        """
        return self._run(calls.load(model, wanted, keep_alive))

    def unload(self, model: str, *, drain: bool = False) -> None:
        """Unload a model; with ``drain`` what it answers comes to its end first, and so long this waits."""
        self._run(calls.unload(model, drain=drain))

    def pin(self, model: str) -> None:
        """Keep a model in memory once it is loaded, and load it whenever the daemon starts."""
        self._run(calls.pin(model, on=True))

    def unpin(self, model: str) -> None:
        """Let a pinned model go when it is not used."""
        self._run(calls.pin(model, on=False))

    def hardware(self) -> Host:
        """What the daemon sees of its machine, and what models may use of it."""
        return self._run(calls.hardware())

    def doctor(self) -> Report:
        """What is wrong with the daemon's machine and installation, and what to do about it; takes some seconds."""
        return self._run(calls.doctor())

    def health(self) -> str:
        """``ready`` or ``starting``; raises DaemonUnreachable."""
        return self._run(calls.health())

    def version(self) -> str:
        """The daemon's version."""
        return self._run(calls.version())

    def chat(self, model: str, messages: Sequence[Mapping[str, Any]], options: Options | None = None) -> Answer:
        """The answer to ``messages`` (OpenAI's form), when it is whole."""
        return self._run(calls.chat(model, messages, options or Options()))

    def chat_stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], options: Options | None = None
    ) -> Generator[Delta, None, None]:
        """The answer as it is made; closing the iterator stops it in the daemon too."""
        return self._stream(calls.chat_stream(model, messages, options or Options()))

    def complete(self, model: str, prompt: str, options: Options | None = None) -> Answer:
        """The continuation of ``prompt``, when it is whole."""
        return self._run(calls.complete(model, prompt, options or Options()))

    def complete_stream(self, model: str, prompt: str, options: Options | None = None) -> Generator[Delta, None, None]:
        """The continuation as it is made; closing the iterator stops it in the daemon too."""
        return self._stream(calls.complete_stream(model, prompt, options or Options()))

    def embed(self, model: str, inputs: str | Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Vectors of length 1 for one or many texts, cut to ``dimensions`` when they are given."""
        return self._run(calls.embed(model, inputs, dimensions))

    def _run(self, call: Call[T]) -> T:
        with transport_errors(self.address.base_url):
            response = self._http.request(**call.request.arguments())
        return call.read(response)

    def _snapshots(self, job_id: str, *, poll: bool) -> Generator[Job, None, None]:
        if poll:
            yield self.job(job_id)
        else:
            yield from self._stream(calls.job_events(job_id))

    def _stream(self, stream: Stream[T]) -> Generator[T, None, None]:
        reader = stream.reader()
        with transport_errors(self.address.base_url), self._http.stream(**stream.request.arguments()) as response:
            if not response.is_success:
                response.read()
                check(response)
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)
                if reader.ended:
                    return
        reader.finish()
