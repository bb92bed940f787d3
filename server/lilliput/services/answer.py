"""A running answer: sequences of one engine, and their news as the events of all dialects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from lilliput.catalogue import InstalledModel
from lilliput.engine import Accepted, Done, Event, EventStream, Failed, Submit, Text, TokenReport, error_of
from lilliput.errors import LilliputError
from lilliput.llama import SamplerSettings
from lilliput.pool import Lease
from lilliput.services.deadlines import too_late
from lilliput.services.metrics import Ended
from lilliput.services.requests import (
    ChatRequest,
    ChoiceFinished,
    CompletionRequest,
    GenerationEvent,
    GrammarConstraint,
    JsonConstraint,
    TextDelta,
    TokenLogprob,
    Usage,
)
from lilliput.services.sampling import sampler_of, text_bias_of, with_seed


@dataclass(frozen=True, slots=True)
class Run:
    """One answer that had all engines to itself: tokens and seconds of its prompt and of its generation.

    ``cached_tokens`` stood before the ``prompt_tokens`` and took no time. ``gpu_layers`` and ``kv_type`` are as its
    engine was loaded.
    """

    model: InstalledModel
    prompt_tokens: int
    prompt_s: float
    generated_tokens: int
    generation_s: float
    cached_tokens: int = 0
    gpu_layers: int = 0
    kv_type: str = "f16"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one prompt becomes on the wire; ``add_special`` lets the vocabulary add its own first token."""

    content: str | list[int]
    add_special: bool


class Answer:
    """A running request; see ``services.requests.Generation`` for its contract.

    It came at ``began_s`` of the monotonic clock.
    """

    def __init__(self, lease: Lease, on_run: Callable[[Run], None] | None, began_s: float) -> None:
        self._lease = lease
        self._on_run = on_run
        self._alone = lease.engine.load.active == 0
        self._stream = EventStream(self._free)
        self._choices: dict[int, int] = {}
        self._n = 1
        self._early: list[Event] = []
        self._ended: list[Done] = []
        self._failed: LilliputError | None = None
        self._on_end: Callable[[Ended], None] = forget
        self._began_s = began_s
        self._first_s: float | None = None
        self._position = 0
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def model(self) -> str:
        """The canonical name of the installed model that answers."""
        return self._lease.model.name

    @property
    def quantization(self) -> str | None:
        """The quantization of its weights."""
        return self._lease.model.quantization

    @property
    def degraded(self) -> Sequence[str]:
        """What the engine had to give up."""
        return self._lease.degraded

    @property
    def queue_position(self) -> int:
        """That of the choice that is first."""
        return self._position

    def submit(self, prompts: Sequence[Prompt], request: ChatRequest | CompletionRequest) -> None:
        """Queue one sequence for every choice of every prompt."""
        self._n = request.n
        deadline_s = request.limits.deadline_s
        if deadline_s is not None:
            left_s = self._began_s + deadline_s - time.monotonic()
            self._expiry = asyncio.get_running_loop().call_later(left_s, self._expire, deadline_s)
        sampler = sampler_of(request.sampling)
        for prompt in prompts:
            for choice in range(request.n):
                self._submit_one(prompt, with_seed(sampler, choice), request)

    async def accepted(self) -> None:
        """Wait until all prompts were read; raises what is wrong with one."""
        missing, positions = set(self._choices), []
        while missing:
            for event in await self._stream.take():
                if isinstance(event, Accepted):
                    missing.discard(event.id)
                    positions.append(event.position)
                elif missing and isinstance(event, Failed):
                    raise error_of(event)
                else:
                    self._early.append(event)
        self._position = min(positions, default=0)

    def tell(self, on_end: Callable[[Ended], None]) -> None:
        """Have ``on_end`` called once, when all is over."""
        self._on_end = on_end

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        try:
            ended = False
            while not ended:
                events, ended = await self.take()
                for event in events:
                    yield event
        finally:
            await self.aclose()

    @property
    def ready(self) -> bool:
        """Whether ``take`` would return at once."""
        return self._failed is not None or bool(self._early) or self._stream.ready

    async def take(self) -> tuple[list[GenerationEvent], bool]:
        """All events that wait, in their order, and whether they are the last; raises what went wrong after them."""
        if self._failed is not None:
            raise self._failed
        try:
            return await self._take()
        except LilliputError as error:
            self._end(error.code)
            raise

    async def _take(self) -> tuple[list[GenerationEvent], bool]:
        early, self._early = self._early, []
        told: list[GenerationEvent] = []
        choices = self._choices
        waiting = early or await self._stream.take()
        if self._first_s is None:
            self._first_s = time.monotonic() - self._began_s
        for event in waiting:
            if type(event) is Text:
                told.append(_delta(choices[event.id], event))
            elif isinstance(event, Done):
                self._ended.append(event)
                told.append(_finished(choices[event.id], event))
            elif isinstance(event, Failed):
                self._failed = error_of(event)
                self._end(self._failed.code)
                if not told:
                    raise self._failed
                return told, False
        if len(self._ended) < len(choices):
            return told, False
        usage = self._usage()
        self._tell_run(usage)
        self._end("done", usage)
        self._free()
        return [*told, usage], True

    async def aclose(self) -> None:
        """Free the sequences that still run, and the engine."""
        self._end("cancelled")
        self._free()

    def _end(self, outcome: str, usage: Usage | None = None) -> None:
        """Tell the end; what is said later is not heard any more."""
        queued_s = max(done.queued_s for done in self._ended) if usage is not None else None
        on_end, self._on_end = self._on_end, forget
        on_end(Ended(self.model, outcome, self._first_s, queued_s, usage))

    def _expire(self, deadline_s: float) -> None:
        """The engine looks at deadlines between two forward passes only; here a long one is ended, too."""
        self._stream.fail(too_late(deadline_s))
        self._free()

    def _free(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        for request_id in self._choices:
            self._lease.engine.cancel(request_id)
        self._lease.release()

    def _submit_one(self, prompt: Prompt, sampler: SamplerSettings, request: ChatRequest | CompletionRequest) -> None:
        index = len(self._choices)
        limits, constraint = request.limits, request.constraint

        def message(request_id: int) -> Submit:
            return Submit(
                id=request_id,
                prompt=prompt.content,
                sampler=sampler,
                add_special=prompt.add_special,
                max_tokens=limits.max_tokens,
                stop=limits.stop,
                ignore_eos=limits.ignore_eos,
                urgent=limits.urgent,
                deadline_s=limits.deadline_s,
                waited_s=time.monotonic() - self._began_s,
                top_logprobs=limits.top_logprobs,
                schema=_schema(constraint) if isinstance(constraint, JsonConstraint) else None,
                grammar=constraint.gbnf if isinstance(constraint, GrammarConstraint) else None,
                min_tokens=limits.min_tokens,
                text_bias=text_bias_of(request.sampling),
                speculation=bool(request.speculation),
                keep_tokens=limits.keep_tokens,
                caller=limits.caller,
            )

        self._choices[self._lease.engine.submit(message, self._stream)] = index

    def _tell_run(self, usage: Usage) -> None:
        """Tell how fast it went, when nobody else used an engine as far as can be seen, no draft helped and nothing was
        computed twice.
        """
        lease = self._lease
        alone = self._alone and lease.alone and len(self._choices) == 1 and lease.engine.load.active <= 1
        if self._on_run is None or usage.drafted_tokens or usage.discarded_tokens or not alone:
            return
        run = Run(
            model=lease.model,
            prompt_tokens=usage.prompt_tokens - usage.cached_tokens,
            prompt_s=usage.prefill_s,
            generated_tokens=usage.completion_tokens,
            generation_s=usage.decode_s,
            cached_tokens=usage.cached_tokens,
            gpu_layers=lease.plan.gpu_layers,
            kv_type=lease.plan.kv_type,
        )
        self._on_run(run)

    def _usage(self) -> Usage:
        first_choices = [done for done in self._ended if self._choices[done.id] % self._n == 0]
        return Usage(
            prompt_tokens=sum(done.prompt_tokens for done in first_choices),
            completion_tokens=sum(done.completion_tokens for done in self._ended),
            cached_tokens=sum(done.cached_tokens for done in first_choices),
            load_s=self._lease.waited_s,
            prefill_s=max(done.prefill_s for done in self._ended),
            decode_s=max(done.decode_s for done in self._ended),
            drafted_tokens=sum(done.drafted for done in self._ended),
            accepted_tokens=sum(done.accepted for done in self._ended),
            discarded_tokens=sum(done.discarded for done in self._ended),
        )


def forget(_ended: Ended) -> None:
    """Nobody wants to hear of it."""


def _schema(constraint: JsonConstraint) -> str:
    return json.dumps(constraint.schema) if constraint.schema is not None else ""


def _finished(index: int, event: Done) -> ChoiceFinished:
    return ChoiceFinished(index, event.reason, event.completion_tokens, event.discarded)


def _delta(index: int, event: Text) -> TextDelta:
    if not event.reports:
        return TextDelta(index, event.text)
    return TextDelta(index, event.text, tuple(_logprob(report) for report in event.reports))


def _logprob(report: TokenReport) -> TokenLogprob:
    top = tuple((raw.decode("utf-8", "replace"), raw, logprob) for raw, logprob in report.top)
    return TokenLogprob(report.token.decode("utf-8", "replace"), report.token, report.logprob, top)
