"""Generate: from a dialect's request to the event stream that answers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from lilliput.catalogue import InstalledModel
from lilliput.chat import ChatTemplate
from lilliput.engine import Ready
from lilliput.errors import EngineDied, LilliputError
from lilliput.pool import Lease, Pool
from lilliput.services.answer import Answer, Prompt, Run, forget
from lilliput.services.deadlines import until
from lilliput.services.metrics import Ended
from lilliput.services.requests import (
    ChatRequest,
    CompletionRequest,
    Generation,
    Limits,
)
from lilliput.services.stand_ins import StandIns
from lilliput.services.targets import names_variant


class ModelResolver(Protocol):
    """Finds installed models."""

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model a name means; ModelNotFound."""
        ...


class Generator:
    """Starts answers: resolves the model, leases its engine, renders the prompt and submits one sequence a choice.

    ``speculation`` is for requests that leave it open; ``stand_ins`` finds who serves where a model cannot be loaded.
    """

    def __init__(
        self,
        models: ModelResolver,
        pool: Pool,
        on_run: Callable[[Run], None] | None = None,
        *,
        speculation: bool = True,
        on_end: Callable[[Ended], None] | None = None,
        stand_ins: StandIns | None = None,
    ) -> None:
        self._models = models
        self._pool = pool
        self._stand_ins = stand_ins
        self._on_run = on_run
        self._on_end = on_end or forget
        self._speculation = speculation

    async def chat(self, request: ChatRequest) -> Generation:
        """Accept a chat; raises ModelNotFound, TemplateFailed, ContextExceeded, DoesNotFit, Busy, EngineError and
        kin.
        """

        async def prompts(ready: Ready) -> list[Prompt]:
            return [await asyncio.to_thread(_render, request, ready)]

        return await self._accept(request, prompts)

    async def complete(self, request: CompletionRequest) -> Generation:
        """Accept a raw completion; raises as ``chat``."""

        async def prompts(_ready: Ready) -> list[Prompt]:
            return [
                Prompt(prompt, add_special=True) if isinstance(prompt, str) else Prompt(list(prompt), False)
                for prompt in request.prompts
            ]

        return await self._accept(request, prompts)

    async def _accept(self, request: ChatRequest | CompletionRequest, prompts: _PromptMaker) -> Generation:
        model = await self._models.resolve(request.model)
        began_s = time.monotonic()
        try:
            try:
                return await self._attempt(model, request, prompts, began_s)
            except EngineDied:
                # Nobody has seen anything of the answer, so one more try is safe; a schema may itself have killed it.
                if request.constraint is not None:
                    raise
                return await self._attempt(model, request, prompts, began_s)
        except BaseException as error:
            self._on_end(Ended(model.name, _outcome(error)))
            raise

    async def _attempt(
        self, model: InstalledModel, request: ChatRequest | CompletionRequest, prompts: _PromptMaker, began_s: float
    ) -> Generation:
        if request.speculation is None:
            request = replace(request, speculation=self._speculation)
        count = request.n * (len(request.prompts) if isinstance(request, CompletionRequest) else 1)
        lease = await self._lease(request.model, model, count, request.limits, began_s)
        answer = Answer(lease, self._on_run, began_s)
        try:
            answer.submit(await prompts(lease.ready), request)
            await answer.accepted()
        except BaseException:
            await answer.aclose()
            raise
        answer.tell(self._on_end)
        return answer

    async def _lease(self, asked: str, model: InstalledModel, sequences: int, limits: Limits, began_s: float) -> Lease:
        """The engine of ``model``, or of one that stands in; waiting counts towards the deadline since ``began_s``."""
        lease = partial(self._pool.lease, sequences=sequences, keep_alive_s=limits.keep_alive_s, caller=limits.caller)
        async with until(limits.deadline_s, gone_s=time.monotonic() - began_s):
            if self._stand_ins is None:
                return await lease(model)
            return await self._stand_ins.lease(model, lease, replaceable=not names_variant(asked))


class _PromptMaker(Protocol):
    async def __call__(self, ready: Ready, /) -> list[Prompt]: ...


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.code if isinstance(error, LilliputError) else LilliputError.code


def _render(request: ChatRequest, ready: Ready) -> Prompt:
    template = ChatTemplate.from_text(ready.chat_template, ready.bos_text, ready.eos_text)
    text = template.render([dict(message) for message in request.messages], **request.template_arguments)
    return Prompt(text, add_special=ready.adds_bos and not template.begins_with_bos(text))
