"""The loop's body: schedule, run, tell. Owns the context; runs in one thread."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import Literal

from lilliput.engine.counters import StepCounter
from lilliput.engine.draft_model import DraftModel
from lilliput.engine.kv_cache import KvCache
from lilliput.engine.pace import Pace
from lilliput.engine.prefix_store import PrefixStore
from lilliput.engine.request import Request
from lilliput.engine.scheduler import Scheduler, SchedulerLimits, Slice
from lilliput.engine.sequence import Sequence
from lilliput.engine.sliding import excess_tokens
from lilliput.engine.speculation import Candidate, Speculator
from lilliput.engine.wire import Accepted, Done, Event, Failed, Step, Text, TokenReport
from lilliput.errors import DeadlineExceeded, EngineError
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.logprobs import token_logprobs
from lilliput.llama.values import ContextSettings

ABORT_WORTH_TOKENS = 8
"""A forward pass with at least this many prompt tokens of a cancelled request is ended early."""

IDLE_SHARE = 16
"""One in so many cells may hold idle prefixes."""

PATIENCE_S = 30.0
"""What is not urgent is treated as if it had come so much later: all that comes in between goes first."""

Reason = Literal["stop", "length"]


class Runner:
    """Runs sequences through a context, one forward pass a ``step``. ``clock`` gives seconds.

    ``store`` keeps prefixes that leave the KV cache. ``speculator`` decides about drafts (default: one that learns what
    they cost here).
    """

    def __init__(
        self,
        context: Context,
        limits: SchedulerLimits,
        max_sequences: int,
        clock: Callable[[], float],
        store: PrefixStore | None = None,
        idle_limit_tokens: int | None = None,
        speculator: Speculator | None = None,
    ) -> None:
        self._context = context
        self._model = context.model
        pace = Pace(limits.gap_s, limits.batch_tokens)
        idle_limit = limits.context_tokens // IDLE_SHARE if idle_limit_tokens is None else idle_limit_tokens
        self._counter = StepCounter()
        self._kv = KvCache(context, max_sequences, idle_limit, store, pace, self._counter.totals)
        self._deadlines: list[tuple[float, int]] = []
        self._scheduler = Scheduler(limits, self._kv.decided, pace)
        self._context_tokens = limits.context_tokens
        self._gap_s = limits.gap_s
        self._batch = Batch(limits.batch_tokens + limits.slots)
        self._speculator = speculator or Speculator(min(context.output_rows, limits.batch_tokens))
        self._draft_model: DraftModel | None = None
        self._no_drafts = False
        self._drafted = self._accepted = 0
        self._clock = clock
        self._requests: dict[int, Request] = {}
        self._events: list[Event] = []
        self._urgent = False
        self._in_flight: dict[int, int] = {}

    def draft_with(self, context: Context, settings: ContextSettings) -> None:
        """From now on let the model of a second context, of the same vocabulary and made with these settings, draft
        where that pays.
        """
        vocabulary = self._model.vocab_size
        self._draft_model = DraftModel(context, settings, vocabulary, self._speculator.costs, self._gap_s, self._clock)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return self._scheduler.has_work

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for the news: an accepted prompt, a first token, an end."""
        return self._urgent

    def submit(self, request: Request) -> None:
        """Queue a request."""
        now = self._clock()
        self._requests[request.id] = request
        request.came_at_s = now
        request.sequence.urgent = request.urgent
        request.sequence.rank = self._scheduler.rank_of(request.sequence, now if request.urgent else now + PATIENCE_S)
        if request.deadline_s is not None:
            request.ends_at_s = now + request.deadline_s - request.waited_s
            insort(self._deadlines, (request.ends_at_s, request.id))
        if request.speculation and self._model.can_roll_back:
            request.drafts = self._speculator.drafts_of(request.sequence.tokens)
        self._scheduler.add(request.sequence)
        position = self._scheduler.position_of(request.sequence)
        self._announce(Accepted(request.id, request.sequence.prompt_count, position))

    def refuse(self, event: Failed) -> None:
        """Tell that a submission could not be read."""
        self._announce(event)

    def cancel(self, request_id: int) -> None:
        """Forget a request; its decoded tokens stay for reuse. Unknown ids (already ended) are ignored."""
        self._end(request_id)

    def drop_prefixes(self) -> None:
        """Forget prefixes that no running request needs, saved ones too."""
        self._kv.drop_prefixes()

    def computes_prompt_of(self, request_id: int) -> bool:
        """Whether the forward pass that runs now is long because of this request and may be ended early (asked by
        another thread).

        What cannot roll back would have to compute everything in the pass from its beginning.
        """
        flight = self._in_flight
        return flight.get(request_id, 0) >= ABORT_WORTH_TOKENS and (self._model.can_roll_back or len(flight) == 1)

    def news(self) -> Step:
        """What happened since the last call, for the wire; the totals in it go on changing."""
        events, self._events, self._urgent = self._events, [], False
        drafted, self._drafted = self._drafted, 0
        accepted, self._accepted = self._accepted, 0
        scheduler = self._scheduler
        totals = self._counter.totals
        totals.drafted_tokens += drafted
        totals.accepted_tokens += accepted
        idle, cells = self._kv.decided.idle_tokens, self._kv.decided.cells
        return Step(events, len(scheduler.running), len(scheduler.waiting), idle, drafted, accepted, cells, totals)

    def check_integrity(self) -> None:
        """Raise AssertionError unless what is thought to be in the KV cache is there, and nothing else."""
        self._kv.check_integrity()
        if self._draft_model is not None:
            self._draft_model.check_integrity()
        assert set(self._requests) == {one.id for one in (*self._scheduler.running, *self._scheduler.waiting)}
        timed = {one.id for one in self._requests.values() if one.deadline_s is not None}
        assert {request_id for _, request_id in self._deadlines} == timed

    def step(self) -> None:
        """Run one forward pass and draw the tokens that it allows."""
        if self._deadlines:
            self._expire(self._clock())
        self._admit()
        slices = self._scheduler.plan(self._propose)
        if not slices:
            return
        outputs = self._fill(slices)
        began = self._clock()
        self._in_flight = {one.sequence.id: one.count for one in slices}
        try:
            outcome = self._context.decode(self._batch)
        except EngineError as error:
            self._fail(slices, error)
            return
        finally:
            self._in_flight = {}
        if outcome is Decoded.DONE:
            self._note(slices, began, self._clock())
            for one, index in zip(slices, outputs, strict=True):
                one.sequence.decoded += one.count
                if one.sequence.remaining == 0:
                    self._advance(self._requests[one.sequence.id], index, one.drafts)
            if all(one.count == 1 for one in slices):
                self._speculator.note(len(self._batch), self._clock() - began)
        elif outcome is Decoded.NO_ROOM:
            self._make_room(slices)
        else:
            for one in slices:
                self._kv.roll_back(one.sequence, one.start)

    def _propose(self, generating: list[Sequence]) -> dict[int, tuple[int, ...]]:
        """Drafts for the next pass."""
        if self._no_drafts:
            self._no_drafts = False
            return {}
        candidates: list[Candidate] = []
        for sequence in generating:
            request = self._requests[sequence.id]
            if request.drafts is not None:
                left = self._context_tokens - len(sequence.tokens)
                if request.max_tokens is not None:
                    left = min(left, request.max_tokens - sequence.generated)
                candidates.append(Candidate(sequence.id, request.drafts, left - 1))
        if not candidates:
            return {}
        if self._draft_model is not None:
            candidates = self._draft_model.improve(candidates, generating)
        return self._speculator.plan(candidates, len(generating))

    def _admit(self) -> None:
        for sequence in self._scheduler.admit(self._kv.apply):
            request = self._requests[sequence.id]
            if request.cached is None:
                request.cached = sequence.decoded
                self._counter.totals.cached_tokens += sequence.decoded
                request.admitted_at_s = self._clock()

    def _expire(self, now: float) -> None:
        """Fail what was not done in time."""
        while self._deadlines and self._deadlines[0][0] <= now:
            request = self._requests[self._deadlines[0][1]]
            self._end(request.id)
            message = f"the request was not done in the {request.deadline_s:g} s that it had"
            hint = "give it a later deadline, or ask for fewer tokens"
            self._announce(Failed(request.id, DeadlineExceeded.code, message, hint))

    def _note(self, slices: list[Slice], began: float, ended: float) -> None:
        """Count a pass, and learn from it how long passes take."""
        tokens = sum(one.count for one in slices)
        decoded = sum(1 for one in slices if one.count == 1 and one.sequence.generated)
        self._counter.count(decoded, tokens - decoded, began, ended)
        if len(self._batch) == tokens:
            generating = sum(1 for one in slices if one.count == 1)
            self._scheduler.pace.note(generating, tokens - generating, ended - began)

    def _fill(self, slices: Iterable[Slice]) -> list[int]:
        batch = self._batch
        batch.clear()
        outputs = []
        for one in slices:
            end = one.start + one.count
            tokens = one.sequence.tokens[one.start : end]
            outputs.append(batch.add(tokens, one.start, one.sequence.slot, output_last=one.completes))
            if one.drafts:
                batch.add_drafts(one.drafts, end, one.sequence.slot)
        return outputs

    def _advance(self, request: Request, index: int, drafts: tuple[int, ...]) -> None:
        """Draw the next token of a request, and one more for each draft that was drawn too.

        Every token is drawn from logits that follow the tokens before it, as without drafts: these only tell for which
        positions there are logits already.
        """
        end = self._take(request, index)
        if drafts:
            tokens = request.sequence.tokens
            accepted = 0
            while end is None and accepted < len(drafts) and tokens[-1] == drafts[accepted]:
                accepted += 1
                end = self._take(request, index + accepted)
            self._settle(request, len(drafts), accepted)
        if end == "length" and self._may_slide(request):
            self._slide(request)
        elif end is not None:
            self._finish(request, end)

    def _may_slide(self, request: Request) -> bool:
        """Whether an answer that has its length goes on: only the context is full, and that was asked for."""
        return request.keep is not None and request.sequence.generated != request.max_tokens

    def _slide(self, request: Request) -> None:
        """Discard what the context cannot hold any more; what stays is computed again, like a prompt."""
        sequence, keep = request.sequence, request.keep
        assert keep is not None
        excess = excess_tokens(len(sequence.tokens), keep, self._context_tokens)
        self._kv.apply(self._scheduler.slide(sequence, keep, excess))
        if request.drafts is not None:
            request.drafts = self._speculator.drafts_of(sequence.tokens)

    def _settle(self, request: Request, drafted: int, accepted: int) -> None:
        """Count the drafts and forget the cells of those that were not drawn."""
        request.drafted += drafted
        request.accepted += accepted
        self._drafted += drafted
        self._accepted += accepted
        sequence = request.sequence
        sequence.decoded += accepted
        if accepted < drafted:
            self._kv.roll_back(sequence, sequence.decoded)

    def _take(self, request: Request, index: int) -> Reason | None:
        """Draw a token of a request and tell what became certain by it; returns why the answer ends with it."""
        token = request.sampler.sample(self._context, index)
        if request.first_token_at_s == 0.0:
            request.first_token_at_s = self._clock()
            self._urgent = True
        if self._model.ends_generation(token):
            return "stop"
        sequence = request.sequence
        sequence.tokens.append(token)
        text = request.text.feed(self._model.piece(token))
        if request.top_logprobs is not None:
            request.held_reports.append(self._report(token, index, request.top_logprobs))
        if text or (request.held_reports and not request.text.holds_back):
            self._tell(request, text)
        if request.text.stopped:
            request.held_reports.clear()
            return "stop"
        if sequence.generated == request.max_tokens or len(sequence.tokens) >= self._context_tokens:
            return "length"
        if request.drafts is not None:
            request.drafts.follow()
        return None

    def _report(self, token: int, index: int, count: int) -> TokenReport:
        logprob, top = token_logprobs(self._context.logits(index), token, count)
        return TokenReport(
            self._model.piece(token), logprob, tuple((self._model.piece(one), value) for one, value in top)
        )

    def _tell(self, request: Request, text: str) -> None:
        reports = () if request.text.stopped else tuple(request.held_reports)
        self._events.append(Text(request.id, text, reports))
        request.held_reports = []

    def _finish(self, request: Request, reason: Reason) -> None:
        rest = "" if request.text.stopped else request.text.finish()
        if rest or request.held_reports:
            self._tell(request, rest)
        now = self._clock()
        self._announce(
            Done(
                request.id,
                reason,
                request.sequence.prompt_count,
                request.cached or 0,
                request.sequence.generated,
                request.first_token_at_s - request.admitted_at_s,
                now - request.first_token_at_s,
                request.drafted,
                request.accepted,
                request.admitted_at_s - request.came_at_s,
                request.sequence.discarded,
            )
        )
        self.cancel(request.id)

    def _announce(self, event: Event) -> None:
        self._events.append(event)
        self._urgent = True

    def _make_room(self, slices: list[Slice]) -> None:
        """The KV cache is full: go without drafts, else drop the oldest idle prefix, else send the youngest sequence
        back, else give up.
        """
        if any(one.drafts for one in slices):
            self._no_drafts = True
            return
        operations = self._kv.decided.evict()
        if not operations:
            operations = self._scheduler.preempt()
            self._counter.totals.preemptions += bool(operations)
        if operations:
            self._kv.apply(operations)
            return
        self._fail(slices, EngineError("the KV cache has no room for the request", hint="load with a larger context"))

    def _fail(self, slices: Iterable[Slice], error: EngineError) -> None:
        for one in slices:
            self._end(one.sequence.id, keep=False)
            self._announce(Failed(one.sequence.id, error.code, error.message, error.hint))

    def _end(self, request_id: int, *, keep: bool = True) -> None:
        request = self._requests.pop(request_id, None)
        if request is None:
            return
        if request.deadline_s is not None:
            del self._deadlines[bisect_left(self._deadlines, (request.ends_at_s, request_id))]
        self._kv.apply(self._scheduler.remove(request.sequence, keep=keep))
        request.sampler.close()
